"""Samplers that replace part of the noise at every step by fresh draws, independent of each other.

Written once for flow and epsilon models: `signal(sigma)` is 1 - sigma for the one and 1 for the other. All of them
draw from the picture's ancestral stream, one draw a step, none for a step that reaches 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limner.engine.noise import Noise
from limner.engine.parameterization import Parameterization
from limner.engine.samplers.port import Sampling, Sigmas, finite_steps_of, steps_of

NEARLY_ONE = 0.9999
INTEGRATION_POINTS = 200


def euler_ancestral(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """Euler's step to below the next level, then fresh noise up to it (Song et al. 2020, eta = 1; flows rescaled).

    Args:
        x: latent at `sigmas[0]`, (C, H/8, W/8), float32.
        sigmas: decreasing, ends in 0; n+1 values give n steps.
        noise: draws one (C, H/8, W/8) tensor a step, on the CPU.
        parameterization: of the model that answers.

    Yields:
        `(x, sigma)`; expects the denoised prediction to be sent back.
    """
    for sigma, after in steps_of(sigmas):
        denoised = yield x, sigma
        if after == 0:
            x = denoised
        else:
            down = after * after / sigma
            x = (down / sigma) * x + (1 - down / sigma) * denoised
            x = _renoise(x, down, after, noise, parameterization)
    return x


def dpmpp_2s_ancestral(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """DPM-Solver++ (2S) to below the next level, then fresh noise up to it (Lu et al. 2022, algorithm 1).

    Arguments as of `euler_ancestral`. Two evaluations a step, one for the last.
    """
    for sigma, after in steps_of(sigmas):
        denoised = yield x, sigma
        if after == 0:
            x = denoised
        else:
            down = after * after / sigma
            middle = _middle(sigma, down, parameterization)
            guess = (middle / sigma) * x + (1 - middle / sigma) * denoised
            denoised = yield guess, middle
            x = (down / sigma) * x + (1 - down / sigma) * denoised
            x = _renoise(x, down, after, noise, parameterization)
    return x


def lcm(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """Jump to the prediction and noise it afresh (Luo et al. 2023, "Latent consistency models").

    Arguments as of `euler_ancestral`.
    """
    for sigma, after in steps_of(sigmas):
        x = yield x, sigma
        if after > 0:
            x = parameterization.start(noise.ancestral().to(x), after, x)
    return x


def ddpm(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """The posterior of the noising process, drawn from (Ho et al. 2020, eq. 6 and 7), whatever the model.

    Arguments as of `euler_ancestral`.
    """
    for sigma, after in steps_of(sigmas):
        denoised = yield x, sigma
        kept, kept_after = _variance_kept(sigma), _variance_kept(after)
        if kept == 1:
            x = denoised  # less noise than float32 can tell from none
            continue
        ratio = kept / kept_after
        epsilon = (x - denoised) / sigma
        mean = x / math.sqrt(1 + sigma * sigma) - epsilon * float((1 - ratio) / (1 - kept).sqrt())
        mean = mean / math.sqrt(ratio)
        if after > 0:
            deviation = float(((1 - ratio) * (1 - kept_after) / (1 - kept)).sqrt())
            mean = mean + deviation * noise.ancestral().to(x)
        x = mean * math.sqrt(1 + after * after)
    return x


def er_sde(x: Tensor, sigmas: Sigmas, noise: Noise, parameterization: Parameterization) -> Sampling:
    """Extended reverse-time SDE, third order (Cui et al. 2023, "ER-SDE solvers", algorithm 3).

    Arguments as of `euler_ancestral`. Times are noise over signal; the prediction is continued by its first two divided
    differences over the steps before.
    """
    times: list[float] = []
    previous: Tensor | None = None
    previous_slope: Tensor | None = None
    for sigma, after in finite_steps_of(sigmas, parameterization):
        denoised = yield x, sigma
        if after == 0:
            return denoised
        signal, signal_after = parameterization.signal(sigma), parameterization.signal(after)
        time, time_after = sigma / signal, after / signal_after
        ratio = _er_scale(time_after) / _er_scale(time)
        moved = (signal_after / signal * ratio) * x + signal_after * (1 - ratio) * denoised
        slope: Tensor | None = None
        if previous is not None and time < times[-1]:
            length = time_after - time
            area, moment = _er_integrals(time, time_after)
            slope = (denoised - previous) / (time - times[-1])
            moved = moved + signal_after * (length + area * _er_scale(time_after)) * slope
            if previous_slope is not None:
                bend = (slope - previous_slope) / ((time - times[-2]) / 2)
                moved = moved + signal_after * (length * length / 2 + moment * _er_scale(time_after)) * bend
        variance = time_after * time_after - time * time * ratio * ratio
        x = moved + signal_after * math.sqrt(max(variance, 0.0)) * noise.ancestral().to(x)
        times.append(time)
        previous, previous_slope = denoised, slope
    return x


def _renoise(x: Tensor, down: float, after: float, noise: Noise, parameterization: Parameterization) -> Tensor:
    scale = parameterization.signal(after) / parameterization.signal(down)
    deviation = math.sqrt(max(after * after - (down * scale) ** 2, 0.0))
    return scale * x + deviation * noise.ancestral().to(x)


def _middle(sigma: float, down: float, parameterization: Parameterization) -> float:
    begin, end = parameterization.half_log_snr(sigma), parameterization.half_log_snr(down)
    if math.isinf(begin):
        return NEARLY_ONE  # half-way from infinity is infinity; the published sampler evaluates here
    return parameterization.sigma_of_half_log_snr((begin + end) / 2)


def _variance_kept(sigma: float) -> Tensor:
    # In float32, although so little is left of 1 minus this at low levels: its rounding is part of the numbers.
    level = torch.tensor(sigma, dtype=torch.float32, device="cpu")
    return 1 / (level * level + 1)  # ()


def _er_scale(time: float) -> float:
    return time * (math.exp(time**0.3) + 10.0)


def _er_integrals(time: float, time_after: float) -> tuple[float, float]:
    # Of 1/scale and of (u - time)/scale over the step, by left rectangles as published: part of the numbers.
    width = (time - time_after) / INTEGRATION_POINTS
    points = [time_after + j * width for j in range(INTEGRATION_POINTS)]
    weights = [width / _er_scale(point) for point in points]
    return sum(weights), sum(w * (point - time) for w, point in zip(weights, points, strict=True))
