"""Which noise levels a run of n steps visits.

A schedule turns a parameterization and a number of steps into descending sigmas that end in 0; n + 1 values make n
steps. It knows nothing of samplers, latents or networks. The numbers are ComfyUI's to the last bit, which is why the
arithmetic is float32: samplers with a Brownian path read it at these levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import scipy.special  # pyright: ignore[reportMissingTypeStubs]
import torch
from torch import Tensor

from limner.engine.parameterization import Parameterization

Schedule = Callable[[Parameterization, int], Tensor]

PENULTIMATE_DROPPED = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})
FULL_DENOISE = 0.9999
MOST_STEPS = 10_000


def sigmas_for(
    parameterization: Parameterization, schedule: str, steps: int, denoise: float = 1.0, sampler: str | None = None
) -> Tensor:
    """The noise levels of one stage.

    A `denoise` below 1 starts late: of the schedule of `int(steps / denoise)` steps the last `steps` are run, all of
    them. (The `strength` of other tools runs fewer steps; it is another thing.)

    Args:
        schedule: a name of `SCHEDULES`.
        steps: at least 1. `ddim_uniform` may give a few more, `beta` fewer where steps coincide.
        denoise: in (0, 1]; 1 starts from pure noise.
        sampler: some samplers need a schedule of one step more without its penultimate level.

    Returns:
        Descending sigmas, float32 on the CPU, the last one 0.

    Raises:
        ValueError: an unknown schedule, no steps, a denoise out of range, or one so small that the whole schedule would
            have more than 10,000 steps; the message says what is allowed.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"No schedule is called {schedule!r}. Choose one of {', '.join(SCHEDULES)}.")
    if steps < 1:
        raise ValueError(f"{steps} steps make no picture. Choose at least 1.")
    if not 0.0 < denoise <= 1.0:
        raise ValueError(f"Denoise {denoise} is out of range. Choose a number above 0 and up to 1.")
    if steps / denoise > MOST_STEPS:
        raise ValueError(f"{steps} steps at denoise {denoise} end too long a schedule. Choose a larger denoise.")
    total = steps if denoise > FULL_DENOISE else int(steps / denoise)
    drops_penultimate = sampler in PENULTIMATE_DROPPED
    levels = SCHEDULES[schedule](parameterization, total + drops_penultimate)
    if drops_penultimate:
        levels = torch.cat([levels[:-2], levels[-1:]])
    return levels if denoise > FULL_DENOISE else levels[-(steps + 1) :]


def simple(parameterization: Parameterization, steps: int) -> Tensor:
    """Every (1000/n)-th level of the table, from the noisiest down."""
    stride = len(parameterization.table) / steps
    return _down_to_0(parameterization.table[[-(1 + int(i * stride)) for i in range(steps)]])


def ddim_uniform(parameterization: Parameterization, steps: int) -> Tensor:
    """Every (1000//n)-th level of the table from the bottom up, as in DDIM (Song et al. 2020).

    Gives more than n steps where n does not divide 1000, and does not begin at the noisiest level.
    """
    stride = max(len(parameterization.table) // steps, 1)
    return _down_to_0(parameterization.table[1::stride].flip(0))


def normal(parameterization: Parameterization, steps: int) -> Tensor:
    """Evenly spaced in the model's time, both ends included."""
    return _down_to_0(parameterization.sigmas_at(torch.linspace(*parameterization.time_span, steps)))


def sgm_uniform(parameterization: Parameterization, steps: int) -> Tensor:
    """Evenly spaced in the model's time, without the lower end."""
    return _down_to_0(parameterization.sigmas_at(torch.linspace(*parameterization.time_span, steps + 1)[:-1]))


def karras(parameterization: Parameterization, steps: int) -> Tensor:
    """Evenly spaced in the seventh root of sigma (Karras et al. 2022, eq. 5, rho = 7)."""
    rho = 7.0
    first, last = parameterization.sigma_max ** (1 / rho), parameterization.sigma_min ** (1 / rho)
    return _down_to_0((first + torch.linspace(0, 1, steps) * (last - first)) ** rho)


def exponential(parameterization: Parameterization, steps: int) -> Tensor:
    """Evenly spaced in the logarithm of sigma."""
    first, last = math.log(parameterization.sigma_max), math.log(parameterization.sigma_min)
    return _down_to_0(torch.linspace(first, last, steps).exp())


def beta(parameterization: Parameterization, steps: int) -> Tensor:
    """Dense at both ends: quantiles of Beta(0.6, 0.6) over the table (Lee et al. 2024, "Beta Sampling").

    Steps that fall on the same level of the table are one step, so a long schedule is shorter than n.
    """
    quantile = cast(Callable[[float, float, float], float], cast(Any, scipy.special).betaincinv)
    last = len(parameterization.table) - 1
    rows = [round(quantile(0.6, 0.6, 1.0 - i / steps) * last) for i in range(steps)]
    return _down_to_0(parameterization.table[list(dict.fromkeys(rows))])


def linear_quadratic(parameterization: Parameterization, steps: int) -> Tensor:
    """Small even steps for the first half, quadratic ones to the end (Polyak et al. 2024, "Movie Gen", for video).

    The even half removes 2.5 % of the noise; the parabola that follows continues its slope and reaches 0 at step n.
    """
    even, removed = steps // 2, 0.025
    if even == 0:
        return _down_to_0(parameterization.table[-1:])
    slope, rest = removed / even, steps - even
    bend = (1.0 - removed - slope * rest) / rest**2
    left = [1.0 - slope * i - bend * max(i - even, 0) ** 2 for i in range(steps)]
    return _down_to_0(torch.tensor(left) * parameterization.sigma_max)


def kl_optimal(parameterization: Parameterization, steps: int) -> Tensor:
    """Evenly spaced in the arc tangent of sigma (Sabour et al. 2024, "Align Your Steps", the closed form)."""
    first, last = math.atan(parameterization.sigma_max), math.atan(parameterization.sigma_min)
    part = torch.arange(steps) / max(steps - 1, 1)
    return _down_to_0(torch.tan(part * last + (1 - part) * first))


def _down_to_0(levels: Tensor) -> Tensor:
    return torch.cat([levels, levels.new_zeros(1)])  # (n + 1,)


SCHEDULES: Mapping[str, Schedule] = {
    "simple": simple,
    "normal": normal,
    "beta": beta,
    "karras": karras,
    "exponential": exponential,
    "sgm_uniform": sgm_uniform,
    "ddim_uniform": ddim_uniform,
    "linear_quadratic": linear_quadratic,
    "kl_optimal": kl_optimal,
}
