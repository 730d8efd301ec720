"""EasyCache skips only where it may, answers from the last computed step, and counts what it did."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.engine.cache import EasyCache, EasyCacheState
from limner.engine.parameterization import Epsilon, Flow

SHAPE = (4, 16, 16)
FLOW = Flow(1.0)  # percent p is sigma 1 - p


def _state(threshold: float = 0.5, start: float = 0.2, end: float = 0.9) -> EasyCacheState:
    return EasyCacheState(EasyCache(threshold, start, end), FLOW)


def _latent(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def _computed(state: EasyCacheState, x: Tensor, sigma: float, outputs: dict[str, Tensor]) -> None:
    assert state.consider(x, sigma) is None
    state.observe(x, sigma, outputs)


def _primed(threshold: float = 0.5) -> EasyCacheState:
    """Two calls computed in the window at x = 0 and 1, where F = 10 + 2x: K = 2, mean |F| = 12."""
    state = _state(threshold)
    for value in (0.0, 1.0):
        x = torch.full(SHAPE, value)
        _computed(state, x, 0.5, {"positive": 10 + 2 * x, "negative": 20 + 2 * x})
    return state


def test_first_two_calls_in_the_window_are_computed() -> None:
    state = _state(threshold=1e9)
    for x in (_latent(1), _latent(2)):
        _computed(state, x, 0.5, {"positive": x * 2})
    assert state.consider(_latent(3), 0.5) is not None


def test_answer_is_the_latent_plus_the_last_difference_for_every_condition() -> None:
    x = torch.full(SHAPE, 1.5)
    answers = _primed().consider(x, 0.5)
    assert answers is not None and list(answers) == ["positive", "negative"]
    assert torch.equal(answers["positive"], torch.full(SHAPE, 12.5))
    assert torch.equal(answers["negative"], torch.full(SHAPE, 22.5))


def test_error_grows_over_skipped_calls_until_the_threshold() -> None:
    state = _primed(threshold=0.5)  # a change of 1 in x adds 2/12
    assert state.consider(torch.full(SHAPE, 2.0), 0.5) is not None  # 0.167
    assert state.consider(torch.full(SHAPE, 2.5), 0.5) is not None  # + 0.25, measured from the last computed step
    assert state.consider(torch.full(SHAPE, 2.5), 0.5) is None  # + 0.25: above
    state.observe(torch.full(SHAPE, 2.5), 0.5, {"positive": torch.full(SHAPE, 15.0)})
    assert state.consider(torch.full(SHAPE, 3.0), 0.5) is not None  # begins at 0 again
    assert (state.evaluations, state.skipped) == (3, 3)


def test_asking_again_before_observing_changes_nothing() -> None:
    patient, hasty = _primed(threshold=0.4), _primed(threshold=0.4)
    far, near = torch.full(SHAPE, 9.0), torch.full(SHAPE, 9.5)
    assert hasty.consider(far, 0.5) is None
    for _ in range(3):
        assert patient.consider(far, 0.5) is None
    for state in (patient, hasty):
        state.observe(far, 0.5, {"positive": 10 + 2 * far, "negative": 20 + 2 * far})
    for x in (near, near + 1, near + 2, near + 3):
        one, two = patient.consider(x, 0.5), hasty.consider(x, 0.5)
        assert (one is None) == (two is None)


def test_nothing_is_skipped_outside_the_window() -> None:
    for sigma in (0.81, 0.0999, 0.05):
        state = _primed(threshold=1e9)
        assert state.consider(torch.full(SHAPE, 1.0), sigma) is None
    inside = _primed(threshold=1e9)
    assert inside.consider(torch.full(SHAPE, 1.0), 0.8) is not None


@pytest.mark.parametrize("model", [Flow(3.0), Flow(1.15), Epsilon()])
def test_levels_of_a_schedule_that_meet_the_ends_of_the_window_are_inside_and_outside(model: Flow | Epsilon) -> None:
    for percent in (step / 20 for step in range(1, 20)):
        # What a schedule holds: the same number in float32, often a hair above or below.
        level = float(torch.tensor(model.percent_to_sigma(percent), dtype=torch.float32))
        begins = EasyCacheState(EasyCache(1e9, percent, 1.0), model)
        ends = EasyCacheState(EasyCache(1e9, 0.0, percent), model)
        for seed in (1, 2):
            _computed(begins, _latent(seed), level, {"positive": _latent(seed) * 2})
            _computed(ends, _latent(seed), level * 1.01, {"positive": _latent(seed) * 2})
        assert begins.consider(_latent(3), level) is not None
        assert ends.consider(_latent(3), level) is None


def test_nothing_is_foretold_from_a_latent_that_stood_still() -> None:
    state = _primed(threshold=1e9)
    state.observe(torch.ones(SHAPE), 0.5, {"positive": torch.full(SHAPE, 12.0), "negative": torch.full(SHAPE, 22.0)})
    assert state.consider(torch.full(SHAPE, 1.01), 0.5) is None


def test_calls_above_the_window_leave_only_their_difference() -> None:
    state = _state(threshold=1e9)
    for seed in range(4):
        _computed(state, _latent(seed), 0.9, {"positive": _latent(seed) * 2})
    for seed in (5, 6):
        _computed(state, _latent(seed), 0.5, {"positive": _latent(seed) * 2})
    assert state.consider(_latent(7), 0.5) is not None


def test_calls_below_the_window_leave_nothing() -> None:
    state = _primed()
    x = torch.full(SHAPE, 1.0)
    _computed(state, x, 0.05, {"positive": x * 100, "negative": x * 100})
    answers = state.consider(x, 0.5)
    assert answers is not None and torch.equal(answers["positive"], torch.full(SHAPE, 12.0))


def test_answers_share_no_memory_with_anything() -> None:
    state = _primed(threshold=1e9)
    x = torch.full(SHAPE, 1.5)
    answers = state.consider(x, 0.5)
    assert answers is not None
    answers["positive"].fill_(math.nan)
    assert bool((x == 1.5).all())
    again = state.consider(x, 0.5)
    assert again is not None and torch.equal(again["positive"], torch.full(SHAPE, 12.5))


def test_latents_and_outputs_may_be_overwritten_after_they_were_observed() -> None:
    state, reference = _state(), _state()
    for value in (0.0, 1.0):
        x = torch.full(SHAPE, value)
        output = 10 + 2 * x
        _computed(reference, x.clone(), 0.5, {"positive": output.clone()})
        _computed(state, x, 0.5, {"positive": output})
        x.fill_(math.nan)
        output.fill_(math.nan)
    for value in (2.0, 2.5, 2.5):
        one, two = (s.consider(torch.full(SHAPE, value), 0.5) for s in (state, reference))
        assert (one is None) == (two is None)


def test_latent_that_stands_still_divides_by_nothing() -> None:
    state = _state()
    x = torch.ones(SHAPE)
    for _ in range(3):
        _computed(state, x, 0.5, {"positive": x * 2})
    state = _state()
    for value in (0.0, 1.0):
        _computed(state, torch.full(SHAPE, value), 0.5, {"positive": torch.zeros(SHAPE)})
    assert state.consider(torch.ones(SHAPE), 0.5) is None


def test_window_from_the_beginning_includes_the_first_level() -> None:
    settings = EasyCache(1e9, 0.0, 1.0)
    for model in (Flow(3.0), Epsilon()):
        state = EasyCacheState(settings, model)
        for seed in (1, 2):
            _computed(state, _latent(seed), model.sigma_max, {"positive": _latent(seed) * 2})
        assert state.consider(_latent(3), model.sigma_max) is not None


@settings(max_examples=40)
@given(st.floats(0.0, 2.0), st.integers(0, 2**32), st.integers(3, 25))
def test_counts_add_up_and_answers_follow_the_latest_computed_call(threshold: float, seed: int, calls: int) -> None:
    state = _state(threshold)
    generator = torch.Generator().manual_seed(seed)
    difference = torch.zeros(SHAPE)
    for call in range(calls):
        x = torch.randn(SHAPE, generator=generator)
        sigma = 1 - (call + 0.5) / calls
        answers = state.consider(x, sigma)
        if answers is None:
            output = torch.randn(SHAPE, generator=generator)
            state.observe(x, sigma, {"positive": output})
            difference = output - x if sigma > 0.1 else difference
        else:
            assert torch.equal(answers["positive"], x + difference)
    assert state.evaluations + state.skipped == calls


@pytest.mark.parametrize("threshold", [0.0, -1.0])
def test_threshold_of_nothing_skips_nothing(threshold: float) -> None:
    state = _primed(threshold)
    assert state.consider(torch.full(SHAPE, 1.0), 0.5) is None
