"""Samplers of the reverse diffusion equation, driven by one Brownian path per picture.

With h the step's length in half log-SNR, one step has a closed solution for a prediction that stands still; the three
samplers differ in how they let the prediction move. All are at full noise (eta = 1).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from limner.engine.noise import Noise
from limner.engine.parameterization import Parameterization
from limner.engine.samplers.port import Sampling, Sigmas, finite_steps_of


def dpmpp_sde(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """DPM-Solver++ (SDE): a trial step to the middle, then all of it with the middle's prediction (Lu et al. 2022).

    Args:
        x: latent at `sigmas[0]`, (C, H/8, W/8), float32.
        sigmas: decreasing, ends in 0; n+1 values give n steps of two evaluations, of one for the last.
        noise: its Brownian path spans the positive sigmas; two (C, H/8, W/8) increments a step.
        parameterization: of the model that answers.

    Yields:
        `(x, sigma)`; expects the denoised prediction to be sent back.
    """
    for sigma, after in finite_steps_of(sigmas, parameterization):
        denoised = yield x, sigma
        if after == 0:
            return denoised
        here, there = _level(sigma, parameterization), _level(after, parameterization)
        middle = _middle(here, there, parameterization)
        denoised = yield _step(x, denoised, here, middle, noise), middle.sigma
        x = _step(x, denoised, here, there, noise)
    return x


def dpmpp_2m_sde(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """DPM-Solver++ (2M SDE), midpoint form: the prediction is continued in a straight line (Lu et al. 2022).

    Arguments as of `dpmpp_sde`; one evaluation and one increment a step.
    """
    previous: Tensor | None = None
    last = 0.0  # length of the step before
    for sigma, after in finite_steps_of(sigmas, parameterization):
        denoised = yield x, sigma
        if after == 0:
            return denoised
        estimate = denoised
        here, there = _level(sigma, parameterization), _level(after, parameterization)
        length = there.half_log_snr - here.half_log_snr
        if previous is not None and last > 0:
            estimate = denoised + (denoised - previous) * (length / (2 * last))
        x = _step(x, estimate, here, there, noise)
        previous, last = denoised, length
    return x


def dpmpp_3m_sde(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """DPM-Solver++ (3M SDE): the prediction is continued along a parabola (after Lu et al. 2022, with SDE weights).

    Arguments as of `dpmpp_sde`; one evaluation and one increment a step.
    """
    previous: Tensor | None = None
    previous_slope: Tensor | None = None
    last, before_last = 0.0, 0.0
    for sigma, after in finite_steps_of(sigmas, parameterization):
        denoised = yield x, sigma
        if after == 0:
            return denoised
        here, there = _level(sigma, parameterization), _level(after, parameterization)
        length = there.half_log_snr - here.half_log_snr
        x = _step(x, denoised, here, there, noise)
        slope: Tensor | None = None
        if previous is not None and last > 0:
            slope = (denoised - previous) / last
            slope_weight, bend_weight = _weights(length)
            change = (slope_weight * length) * slope
            if previous_slope is not None:
                bend = (slope - previous_slope) / (last + before_last)
                change = change + (slope_weight * length * last - bend_weight * length * length) * bend
            x = x + there.signal * change
        previous, previous_slope = denoised, slope
        last, before_last = length, last
    return x


class _Level(NamedTuple):
    sigma: float
    half_log_snr: float

    @property
    def signal(self) -> float:
        # Not 1 - sigma: near a flow's level 1 that difference has lost its digits.
        return self.sigma * math.exp(self.half_log_snr)


def _level(sigma: float, parameterization: Parameterization) -> _Level:
    return _Level(sigma, parameterization.half_log_snr(sigma))


def _middle(here: _Level, there: _Level, parameterization: Parameterization) -> _Level:
    # In float32 and in this order: the path is read at the middle, and one rounding apart is another draw.
    begin, end = torch.tensor([here.half_log_snr, there.half_log_snr], dtype=torch.float32, device="cpu")
    halfway = float(begin + 0.5 * (end - begin))
    return _Level(parameterization.sigma_of_half_log_snr(halfway), halfway)


def _step(x: Tensor, denoised: Tensor, here: _Level, there: _Level, noise: Noise) -> Tensor:
    length = there.half_log_snr - here.half_log_snr
    replaced = -math.expm1(-2 * length)  # share of the noise's variance that is drawn anew
    fresh = noise.brownian(here.sigma, there.sigma).to(x)
    kept = (there.sigma / here.sigma * math.exp(-length)) * x + (there.signal * replaced) * denoised
    return kept + (there.sigma * math.sqrt(replaced)) * fresh


def _weights(length: float) -> tuple[float, float]:
    if length <= 0:
        return 0.0, 0.0
    first = math.expm1(-2 * length) / (2 * length) + 1
    return first, first / (2 * length) - 0.5
