"""What every sampler is: a generator that yields `(x, sigma)` and is sent the denoised prediction."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from limner.engine.noise import Noise
from limner.engine.parameterization import Parameterization

Sigmas = Tensor | Sequence[float]
Sampling = Generator[tuple[Tensor, float], Tensor, Tensor]
SamplerFn = Callable[[Tensor, Sigmas, Noise, Parameterization], Sampling]


def steps_of(sigmas: Sigmas) -> list[tuple[float, float]]:
    """The steps of a run, each as the level it leaves and the level it reaches."""
    return list(pairwise(float(sigma) for sigma in sigmas))


def finite_steps_of(sigmas: Sigmas, parameterization: Parameterization) -> list[tuple[float, float]]:
    """Like `steps_of`, for samplers that count in log-SNR, which is infinite at a flow's level 1.

    Such a run begins just below 1. The levels fall or stay, also where the second one lies above the replaced first.
    """
    steps = steps_of(sigmas)
    if not steps or parameterization.signal(steps[0][0]) > 0:
        return steps
    ceiling = float(torch.tensor(parameterization.percent_to_sigma(1e-4), dtype=torch.float32))
    return [(min(sigma, ceiling), min(after, ceiling)) for sigma, after in steps]
