"""Schedules fall from noise to nothing, a late start keeps its steps, and noise levels convert back and forth."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.engine.parameterization import Epsilon, Flow, Parameterization
from limner.engine.schedules import SCHEDULES, sigmas_for

MODELS: tuple[Parameterization, ...] = (Flow(3.0), Flow(1.15), Flow(0.5), Flow(7.0), Epsilon())
NOT_EXACTLY_N = {"beta", "ddim_uniform"}

a_model = st.sampled_from(MODELS)
a_schedule = st.sampled_from(sorted(SCHEDULES))
some_steps = st.integers(1, 60)
a_denoise = st.floats(0.05, 1.0)


@settings(max_examples=60)
@given(a_model, a_schedule, some_steps, a_denoise)
def test_levels_fall_to_zero_within_the_model_s_range(
    model: Parameterization, schedule: str, steps: int, denoise: float
) -> None:
    sigmas = sigmas_for(model, schedule, steps, denoise)
    assert sigmas.dtype == torch.float32 and sigmas.ndim == 1 and len(sigmas) >= 2
    assert sigmas[-1] == 0 and bool((sigmas[:-1] > 0).all())
    assert bool((sigmas.diff() <= 0).all())
    assert float(sigmas[0]) <= model.sigma_max * (1 + 1e-6)


@settings(max_examples=60)
@given(a_model, st.sampled_from(sorted(SCHEDULES.keys() - NOT_EXACTLY_N)), some_steps)
def test_full_denoise_runs_exactly_n_steps_from_pure_noise(model: Parameterization, schedule: str, steps: int) -> None:
    sigmas = sigmas_for(model, schedule, steps)
    assert len(sigmas) == steps + 1
    assert float(sigmas[0]) == pytest.approx(model.sigma_max, rel=1e-6)


@settings(max_examples=60)
@given(a_model, st.sampled_from(sorted(SCHEDULES.keys() - {"beta"})), some_steps, st.floats(0.05, 0.9999))
def test_late_denoise_cut_runs_exactly_n_steps(
    model: Parameterization, schedule: str, steps: int, denoise: float
) -> None:
    sigmas = sigmas_for(model, schedule, steps, denoise)
    whole = sigmas_for(model, schedule, int(steps / denoise))
    assert len(sigmas) == steps + 1
    assert torch.equal(sigmas, whole[-(steps + 1) :])


@settings(max_examples=60)
@given(a_model, st.sampled_from(sorted(SCHEDULES.keys() - NOT_EXACTLY_N)), st.integers(2, 60))
def test_samplers_that_drop_the_penultimate_level_still_run_n_steps(
    model: Parameterization, schedule: str, steps: int
) -> None:
    sigmas = sigmas_for(model, schedule, steps, sampler="uni_pc")
    longer = sigmas_for(model, schedule, steps + 1, sampler="euler")
    assert len(sigmas) == steps + 1
    assert torch.equal(sigmas[:-1], longer[:-2]) and sigmas[-1] == 0


@pytest.mark.parametrize("shift", [0.05, 0.5, 3.0, 8.550509059778596])
def test_evenly_spaced_schedules_begin_at_the_table_s_own_last_level(shift: float) -> None:
    model = Flow(shift)
    for schedule in ("normal", "sgm_uniform"):
        assert sigmas_for(model, schedule, 7)[0] == model.sigmas_at(model.table[-1])


def test_beta_merges_steps_that_fall_on_one_level() -> None:
    sigmas = sigmas_for(Flow(3.0), "beta", 400)
    assert len(sigmas) < 401
    assert bool((sigmas.diff() < 0).all())


def test_ddim_uniform_may_run_one_step_more() -> None:
    assert len(sigmas_for(Flow(3.0), "ddim_uniform", 12)) == 14


def test_what_cannot_be_scheduled_is_refused_with_what_can() -> None:
    with pytest.raises(ValueError, match=r"simple, normal, beta.*kl_optimal"):
        sigmas_for(Flow(), "cosine", 9)
    with pytest.raises(ValueError, match="at least 1"):
        sigmas_for(Flow(), "simple", 0)
    for denoise in (0.0, -0.5, 1.5, math.nan):
        with pytest.raises(ValueError, match="up to 1"):
            sigmas_for(Flow(), "simple", 9, denoise)
    for denoise in (1e-9, 5e-324):
        with pytest.raises(ValueError, match="larger denoise"):
            sigmas_for(Flow(), "simple", 9, denoise)
    with pytest.raises(ValueError, match="positive"):
        Flow(0.0)


@pytest.mark.parametrize("model", MODELS)
def test_table_rises_through_a_thousand_levels_and_is_shared(model: Parameterization) -> None:
    assert model.table.shape == (1000,) and model.table.dtype == torch.float32
    assert bool((model.table.diff() > 0).all())
    assert model.table is model.table
    assert model.sigma_min == float(model.table[0]) and model.sigma_max == float(model.table[-1])


@given(st.floats(0.01, 100))
def test_a_window_that_begins_at_once_begins_at_exactly_1(shift: float) -> None:
    assert Flow(shift).percent_to_sigma(0.0) == 1.0


def test_percent_goes_from_everything_to_nothing() -> None:
    assert [Flow(3.0).percent_to_sigma(p) for p in (-1, 0, 0.5, 1, 2)] == [1, 1, 0.75, 0, 0]
    assert Epsilon().percent_to_sigma(0) == math.inf
    assert Epsilon().percent_to_sigma(1) == 0
    assert Epsilon().percent_to_sigma(1e-9) == pytest.approx(Epsilon().sigma_max)


@settings(max_examples=50)
@given(a_model, st.floats(0.01, 0.99))
def test_log_snr_converts_back(model: Parameterization, sigma: float) -> None:
    half_log_snr = model.half_log_snr(sigma)
    assert model.sigma_of_half_log_snr(half_log_snr) == pytest.approx(sigma, rel=1e-5)
    assert math.exp(half_log_snr) == pytest.approx(model.signal(sigma) / sigma, rel=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_log_snr_is_infinite_where_one_part_is_missing(model: Parameterization) -> None:
    assert model.half_log_snr(0.0) == math.inf
    assert model.sigma_of_half_log_snr(math.inf) == 0
    if isinstance(model, Flow):
        assert model.half_log_snr(1.0) == -math.inf
        assert model.sigma_of_half_log_snr(-math.inf) == 1


def test_first_level_that_rounds_above_1_is_pure_noise() -> None:
    model = Flow(8.550509059778596)
    sigma = float(model.sigmas_at(torch.ones(1)))
    assert sigma > 1
    assert model.half_log_snr(sigma) == -math.inf


def test_network_is_told_the_time_of_a_level() -> None:
    assert Flow(3.0).timestep(0.75) == 0.75
    epsilon = Epsilon()
    for row in (0, 1, 500, 998, 999):
        assert epsilon.timestep(float(epsilon.table[row])) == row
    for share, nearest in ((0.4, 500), (0.6, 501)):
        between = float(epsilon.table[500]) ** (1 - share) * float(epsilon.table[501]) ** share
        assert epsilon.timestep(between) == nearest
    assert (epsilon.timestep(0.0), epsilon.timestep(1e9)) == (0, 999)


@pytest.mark.parametrize("model", MODELS)
def test_perfect_network_answers_the_picture_at_any_level(model: Parameterization) -> None:
    picture, noise = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    sigma = 0.6
    x = model.start(noise, sigma, picture)
    output = noise - picture if isinstance(model, Flow) else noise
    assert torch.allclose(model.denoised(x, sigma, output), picture, atol=1e-6)
    assert torch.allclose(model.finish(model.start(noise * 0, sigma, picture), sigma), picture, atol=1e-6)


def test_epsilon_networks_see_latents_of_one_size() -> None:
    x = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(1))
    seen = Epsilon().model_input(Epsilon().start(x, 14.6, torch.zeros_like(x)), 14.6)
    assert float(seen.std()) == pytest.approx(1.0, rel=0.02)
    assert Flow().model_input(x, 0.5) is x
