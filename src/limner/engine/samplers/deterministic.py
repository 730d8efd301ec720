"""Samplers that draw no noise: one starting latent has one outcome.

Each solves the probability-flow equation dx/dsigma = (x - denoised) / sigma (Karras et al. 2022, eq. 1) from one level
to the next. `denoised` is what was sent back for the latent last yielded. A yielded latent is never written to again.
"""

from __future__ import annotations

import math

from torch import Tensor

from limner.engine.noise import Noise
from limner.engine.parameterization import Parameterization
from limner.engine.samplers.port import Sampling, Sigmas, steps_of


def euler(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """Euler's method: one straight line per step (Karras et al. 2022, algorithm 1 without its correction).

    Args:
        x: latent at `sigmas[0]`, (C, H/8, W/8), float32.
        sigmas: decreasing, ends in 0; n+1 values give n steps.
        noise: not drawn from.
        parameterization: of the model that answers.

    Yields:
        `(x, sigma)`; expects the denoised prediction to be sent back.
    """
    for sigma, after in steps_of(sigmas):
        denoised = yield x, sigma
        x = x + (x - denoised) / sigma * (after - sigma)
    return x


def heun(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """Euler's step, then again with the mean of both ends' slopes (Karras et al. 2022, algorithm 1).

    Arguments as of `euler`. Two evaluations a step, one for the last.
    """
    for sigma, after in steps_of(sigmas):
        denoised = yield x, sigma
        slope = (x - denoised) / sigma
        end = x + slope * (after - sigma)
        if after > 0:
            denoised = yield end, after
            end = x + (slope + (end - denoised) / after) / 2 * (after - sigma)
        x = end
    return x


def dpmpp_2m(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """DPM-Solver++ (2M): the prediction is continued in a straight line in -ln(sigma) (Lu et al. 2022, algorithm 2).

    Arguments as of `euler`.
    """
    previous: Tensor | None = None
    last = 0.0  # length of the step before
    for sigma, after in steps_of(sigmas):
        denoised = yield x, sigma
        estimate = denoised
        length = math.log(sigma / after) if after > 0 else math.inf
        if previous is not None and last > 0 and after > 0:
            estimate = denoised + (denoised - previous) * (length / (2 * last))
        x = (after / sigma) * x + (1 - after / sigma) * estimate
        previous, last = denoised, length
    return x


def res_multistep(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """RES, second order: like `dpmpp_2m`, with the straight line integrated exactly (Zhang et al. 2023, "RES").

    Arguments as of `euler`.
    """
    previous: Tensor | None = None
    last = 0.0
    for sigma, after in steps_of(sigmas):
        denoised = yield x, sigma
        length = math.log(sigma / after) if after > 0 else math.inf
        x = (after / sigma) * x + (1 - after / sigma) * denoised
        if previous is not None and last > 0 and after > 0:
            x = x + (length + math.expm1(-length)) / last * (denoised - previous)
        previous, last = denoised, length
    return x
