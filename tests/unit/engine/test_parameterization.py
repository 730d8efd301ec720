"""Noise and v prediction over Stable Diffusion's levels, with and without a level that holds no picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from limner.engine.parameterization import Epsilon, Flow, VPrediction


def kept() -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
    """How much of the picture's variance is left at each of the 1000 times."""
    betas = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
    return np.cumprod(1 - betas)


def test_v_leads_to_the_picture_that_it_was_made_from() -> None:
    model = VPrediction()
    picture, noise = torch.randn(4, 8, 8), torch.randn(4, 8, 8)
    for sigma in (0.05, 1.0, 14.6):
        # The network sees alpha * picture + beta * noise with alpha^2 + beta^2 = 1, and answers their derivative.
        alpha, beta = 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
        x = model.start(noise, sigma, picture)
        assert torch.allclose(model.model_input(x, sigma), alpha * picture + beta * noise, atol=1e-5)
        v = alpha * noise - beta * picture
        assert torch.allclose(model.denoised(x, sigma, v), picture, atol=1e-4)


def test_v_and_noise_prediction_share_their_levels() -> None:
    assert torch.equal(VPrediction().table, Epsilon().table)
    assert VPrediction() != Epsilon() and VPrediction(True) != VPrediction()


@pytest.mark.parametrize("model", [Epsilon(zero_terminal=True), VPrediction(zero_terminal=True)])
def test_rescaled_levels_end_without_a_picture(model: Epsilon) -> None:
    signal = np.sqrt(kept())
    rescaled = ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])) ** 2
    rescaled[-1] = 4.8973451890853435e-08
    expected = np.sqrt((1 - rescaled) / rescaled)
    assert np.allclose(model.table.numpy(), expected, rtol=1e-6)
    assert model.sigma_max == pytest.approx(4518.76, rel=1e-4)
    assert model.sigma_min == pytest.approx(Epsilon().sigma_min, rel=1e-4)
    assert bool((model.table.diff() > 0).all())


@pytest.mark.parametrize("zero_terminal", [False, True])
def test_times_and_levels_are_inverse(zero_terminal: bool) -> None:
    model = VPrediction(zero_terminal)
    for place in (0, 1, 500, 998, 999):
        assert model.timestep(float(model.table[place])) == place
    assert model.timestep(1e9) == 999
    assert float(model.sigmas_at(torch.tensor(999.0))) == pytest.approx(model.sigma_max, rel=1e-5)


@pytest.mark.parametrize("model", [Epsilon(), VPrediction()])
def test_a_run_from_the_largest_level_begins_with_a_little_more_noise_than_that(model: Epsilon) -> None:
    noise, picture = torch.ones(4, 2, 2), torch.full((4, 2, 2), 0.25)
    top = model.sigma_max
    assert torch.allclose(model.begin(noise, top, picture), noise * math.sqrt(1 + top**2) + picture)
    lower = float(model.table[900])
    assert torch.equal(model.begin(noise, lower, picture), model.start(noise, lower, picture))
    assert torch.equal(Flow(3.0).begin(noise, 1.0, picture), Flow(3.0).start(noise, 1.0, picture))
