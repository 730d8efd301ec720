"""Samplers ask as often as they say, stay finite, keep what they gave away, and end at the picture they are told."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.engine.noise import Noise
from limner.engine.parameterization import Epsilon, Flow, Parameterization
from limner.engine.samplers import SAMPLERS, Sampling, evaluations, is_stochastic
from limner.engine.schedules import SCHEDULES, sigmas_for

SHAPE = (2, 3, 4)
MODELS: tuple[Parameterization, ...] = (Flow(3.0), Flow(0.5), Flow(8.550509059778596), Epsilon())
Denoiser = Callable[[Tensor, float], Tensor]

a_model = st.sampled_from(MODELS)
a_sampler = st.sampled_from(list(SAMPLERS))
a_schedule = st.sampled_from(list(SCHEDULES))
some_steps = st.integers(1, 30)
a_denoise = st.one_of(st.just(1.0), st.floats(0.02, 1.0))


def _toy(x: Tensor, sigma: float) -> Tensor:
    return 0.8 * torch.tanh(1.3 * x / (1 + sigma**2) ** 0.5 + 0.2)


def _begin(
    sampler: str, sigmas: Tensor, model: Parameterization, seed: int = 7, stream_seed: int | None = None
) -> Sampling:
    noise = Noise(seed, SHAPE, float(sigmas[sigmas > 0].min()), float(sigmas.max()), stream_seed=stream_seed)
    x = model.start(noise.initial(), float(sigmas[0]), torch.zeros(SHAPE))
    return SAMPLERS[sampler](x, sigmas, noise, model)


def _run(sampling: Sampling, denoiser: Denoiser) -> tuple[Tensor, list[tuple[Tensor, float]]]:
    asked = [next(sampling)]
    while True:
        try:
            asked.append(sampling.send(denoiser(*asked[-1])))
        except StopIteration as finished:
            return finished.value, asked


@settings(max_examples=80)
@given(a_model, a_sampler, a_schedule, some_steps, a_denoise)
def test_every_run_is_finite_and_asks_as_often_as_announced(
    model: Parameterization, sampler: str, schedule: str, steps: int, denoise: float
) -> None:
    sigmas = sigmas_for(model, schedule, steps, denoise)
    out, asked = _run(_begin(sampler, sigmas, model), _toy)
    assert len(asked) == evaluations(sampler, sigmas)
    assert bool(torch.isfinite(out).all()) and out.shape == SHAPE and out.dtype == torch.float32
    assert all(bool(torch.isfinite(x).all()) and 0 < sigma <= float(sigmas[0]) for x, sigma in asked)


@settings(max_examples=40)
@given(a_model, a_sampler, a_schedule, some_steps, a_denoise)
def test_model_that_always_sees_one_picture_ends_with_it(
    model: Parameterization, sampler: str, schedule: str, steps: int, denoise: float
) -> None:
    picture = torch.linspace(-2, 2, 24).reshape(SHAPE)
    sigmas = sigmas_for(model, schedule, steps, denoise)
    out, _ = _run(_begin(sampler, sigmas, model), lambda x, sigma: picture)
    # ddpm reckons with 1 - 1/(1 + sigma^2), as ComfyUI does: of a low level, float32 keeps few digits of that.
    lost = 4 * torch.finfo(torch.float32).eps / float(sigmas[sigmas > 0].min()) ** 2 if sampler == "ddpm" else 0.0
    assert (out - picture).abs().max() < 2e-4 + lost


@settings(max_examples=30)
@given(a_model, a_sampler, a_schedule, st.integers(1, 12))
def test_latents_given_away_are_not_modified_afterwards(
    model: Parameterization, sampler: str, schedule: str, steps: int
) -> None:
    copies: list[Tensor] = []

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        copies.append(x.clone())
        return _toy(x, sigma)

    _, asked = _run(_begin(sampler, sigmas_for(model, schedule, steps), model), denoiser)
    assert all(torch.equal(x, copy) for (x, _), copy in zip(asked, copies, strict=True))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_single_step_returns_the_prediction(sampler: str, model: Parameterization) -> None:
    sigmas = sigmas_for(model, "simple", 1)
    out, asked = _run(_begin(sampler, sigmas, model), _toy)
    assert len(asked) == 1
    assert torch.allclose(out, _toy(*asked[0]), atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_predictions_are_not_modified(sampler: str) -> None:
    picture = torch.linspace(-2, 2, 24).reshape(SHAPE)
    kept = picture.clone()
    _run(_begin(sampler, sigmas_for(Flow(), "simple", 6), Flow()), lambda x, sigma: picture)
    assert torch.equal(picture, kept)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_interleaved_runs_equal_runs_alone(sampler: str) -> None:
    sigmas = sigmas_for(Flow(), "beta", 5)
    alone = [_run(_begin(sampler, sigmas, Flow(), seed), _toy)[0] for seed in (1, 2)]
    runs = [_begin(sampler, sigmas, Flow(), seed) for seed in (1, 2)]
    waiting = [next(run) for run in runs]
    together: list[Tensor] = []
    while len(together) < 2:
        for i, run in enumerate(runs):
            try:
                waiting[i] = run.send(_toy(*waiting[i]))
            except StopIteration as finished:
                together.append(finished.value)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("model", [Flow(3.0), Epsilon()])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_stochastic_samplers_draw_from_their_stream(sampler: str, model: Parameterization) -> None:
    sigmas = sigmas_for(model, "simple", 4)
    one, two = (_run(_begin(sampler, sigmas, model, stream_seed=seed), _toy)[0] for seed in (1, 2))
    assert torch.equal(one, two) != is_stochastic(sampler)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_levels_may_be_a_plain_list(sampler: str) -> None:
    sigmas = sigmas_for(Flow(), "simple", 3)
    levels = [float(sigma) for sigma in sigmas]
    noise = [Noise(3, SHAPE, levels[-2], levels[0]) for _ in range(2)]
    one, two = (
        _run(SAMPLERS[sampler](noise[i].initial(), steps, noise[i], Flow()), _toy)[0]
        for i, steps in enumerate((sigmas, levels))
    )
    assert torch.equal(one, two)
    assert evaluations(sampler, levels) == evaluations(sampler, sigmas)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_steps_without_length_do_no_harm(sampler: str, model: Parameterization) -> None:
    levels = [float(model.table[row]) for row in (800, 800, 500, 500, 500, 200)]
    sigmas = torch.tensor([*levels, 0.0])
    out, asked = _run(_begin(sampler, sigmas, model), _toy)
    assert len(asked) == evaluations(sampler, sigmas)
    assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_run_may_stop_before_the_last_level(sampler: str) -> None:
    sigmas = sigmas_for(Flow(), "simple", 8)[:5]
    out, asked = _run(_begin(sampler, sigmas, Flow()), _toy)
    assert len(asked) == evaluations(sampler, sigmas)
    assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("sampler", ["dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde", "er_sde"])
def test_samplers_in_log_snr_begin_just_below_a_flow_s_first_level(sampler: str) -> None:
    _, sigma = next(_begin(sampler, sigmas_for(Flow(3.0), "simple", 9), Flow(3.0)))
    assert sigma == pytest.approx(Flow(3.0).percent_to_sigma(1e-4), abs=1e-7)
    _, sigma = next(_begin(sampler, sigmas_for(Flow(3.0), "simple", 9, 0.5), Flow(3.0)))
    assert sigma == float(sigmas_for(Flow(3.0), "simple", 9, 0.5)[0])


@pytest.mark.parametrize("model", [Flow(1.0), Flow(2.0), Epsilon()])
def test_ddpm_rounds_its_variances_as_the_published_sampler_does(model: Parameterization) -> None:
    # Low levels leave 1 - 1/(1 + sigma^2) few digits in float32, and with them the outcome: 3e-3 apart from float64.
    sigmas = sigmas_for(model, "exponential", 9)
    out, asked = _run(_begin("ddpm", sigmas, model), _toy)
    noise = Noise(7, SHAPE, 0.0, 1.0)
    x = asked[0][0]
    for sigma, after in pairwise(sigmas):
        epsilon = (x - _toy(x, float(sigma))) / sigma
        kept, kept_after = 1 / (sigma * sigma + 1), 1 / (after * after + 1)
        ratio = kept / kept_after
        x = (1 / ratio).sqrt() * (x / (1 + sigma**2).sqrt() - (1 - ratio) * epsilon / (1 - kept).sqrt())
        if after > 0:
            x = x + ((1 - ratio) * (1 - kept_after) / (1 - kept)).sqrt() * noise.ancestral()
            x = x * (1 + after**2).sqrt()
    assert float((out - x).abs().max()) < 2e-5


def test_levels_below_what_float32_can_tell_from_none_do_no_harm_to_ddpm() -> None:
    out, _ = _run(_begin("ddpm", torch.tensor([0.5, 2e-4, 1e-4, 0.0]), Flow(1.0)), _toy)
    assert bool(torch.isfinite(out).all())


def test_two_evaluations_a_step_and_one_for_the_last() -> None:
    sigmas = sigmas_for(Flow(), "simple", 9)
    assert {name: evaluations(name, sigmas) for name in ("euler", "heun", "dpmpp_sde", "dpmpp_2s_ancestral")} == {
        "euler": 9,
        "heun": 17,
        "dpmpp_sde": 17,
        "dpmpp_2s_ancestral": 17,
    }


def test_unknown_sampler_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"euler, euler_ancestral.*er_sde"):
        evaluations("leapfrog", [1.0, 0.0])
    with pytest.raises(ValueError, match="dpmpp_2m_sde"):
        is_stochastic("leapfrog")
