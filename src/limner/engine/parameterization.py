"""What a sampler must know of a model: its noise levels, and how they mix picture and noise.

Two kinds of model exist. A *flow* holds `x = (1 - sigma) * picture + sigma * noise`; an *epsilon* model holds
`x = picture + sigma * noise`. Everything that differs between them is here, so that a sampler has one form for both.
Nothing here knows a network, a latent's size or a device.
Invariant: sigmas are plain floats that grow with the noise; every method is pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

TABLE_SIZE = 1000
NEARLY = 1e-5
BETA_FIRST, BETA_LAST = 0.00085, 0.012
LAST_KEPT = 4.8973451890853435e-08
"""What stands for no signal at all where the betas are rescaled, so that the last level is finite (ComfyUI)."""


class Parameterization(Protocol):
    """The noise levels and scalings of one kind of model."""

    @property
    def table(self) -> Tensor:
        """The model's 1000 noise levels, ascending, float32 on the CPU. Shared: never write to it."""
        ...

    @property
    def sigma_min(self) -> float:
        """The smallest level of the table."""
        ...

    @property
    def sigma_max(self) -> float:
        """The largest level of the table."""
        ...

    @property
    def time_span(self) -> tuple[float, float]:
        """The first and the last of the model's times, as evenly spaced schedules walk them."""
        ...

    def sigmas_at(self, times: Tensor) -> Tensor:
        """The noise levels at some of the model's times, (n,) float32."""
        ...

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level when `percent` (0..1) of the model's times lie behind; open at both ends of a window."""
        ...

    def timestep(self, sigma: float) -> float:
        """The time that the network is told for a noise level."""
        ...

    def signal(self, sigma: float) -> float:
        """The factor of the clean picture in a latent at `sigma`."""
        ...

    def half_log_snr(self, sigma: float) -> float:
        """`ln(signal / sigma)`: infinite at 0, minus infinite where nothing of the picture is left."""
        ...

    def sigma_of_half_log_snr(self, half_log_snr: float) -> float:
        """The inverse of `half_log_snr`."""
        ...

    def model_input(self, x: Tensor, sigma: float) -> Tensor:
        """The latent as the network reads it; any shape, never changed in place."""
        ...

    def denoised(self, x: Tensor, sigma: float, output: Tensor) -> Tensor:
        """The clean picture that the network's raw output for `x` stands for; shapes as `x`."""
        ...

    def start(self, noise: Tensor, sigma0: float, latent: Tensor) -> Tensor:
        """A latent brought to `sigma0` with the given noise; an empty picture is a latent of zeros."""
        ...

    def begin(self, noise: Tensor, sigma0: float, latent: Tensor) -> Tensor:
        """As `start`, where a stage begins: some models begin at their largest level with more than its noise."""
        ...

    def finish(self, x: Tensor, sigma_last: float) -> Tensor:
        """The picture's latent from where the sampler stopped, rescaled if it stopped before 0."""
        ...


@dataclass(frozen=True)
class Flow:
    """Rectified flow with a shifted time (Esser et al. 2024): Z-Image, FLUX, SD3, Qwen-Image.

    Args:
        shift: how far the levels lean towards noise; 1 is even, larger spends more steps on the composition.
    """

    shift: float = 3.0

    def __post_init__(self) -> None:
        if not (self.shift > 0 and math.isfinite(self.shift)):
            raise ValueError(f"A flow's shift must be a positive number, not {self.shift}. Usual values are 1 to 7.")

    @property
    def table(self) -> Tensor:
        return _flow_table(self.shift)

    @property
    def sigma_min(self) -> float:
        return float(self.table[0])

    @property
    def sigma_max(self) -> float:
        return float(self.table[-1])

    @property
    def time_span(self) -> tuple[float, float]:
        # Shifted levels, read as unshifted times: a quirk that ComfyUI's schedules have.
        return self.sigma_max, self.sigma_min

    def sigmas_at(self, times: Tensor) -> Tensor:
        return self.shift * times / (1 + (self.shift - 1) * times)

    def percent_to_sigma(self, percent: float) -> float:
        if percent <= 0.0:
            return 1.0  # not what the formula rounds to
        time = 1.0 - min(percent, 1.0)
        return self.shift * time / (1 + (self.shift - 1) * time)

    def timestep(self, sigma: float) -> float:
        return sigma

    def signal(self, sigma: float) -> float:
        return 1.0 - sigma

    def half_log_snr(self, sigma: float) -> float:
        # Some shifts round the first level to a hair above 1.
        return -float(torch.logit(_level(sigma).clamp(max=1.0)))

    def sigma_of_half_log_snr(self, half_log_snr: float) -> float:
        return float(torch.sigmoid(-_level(half_log_snr)))

    def model_input(self, x: Tensor, sigma: float) -> Tensor:
        return x

    def denoised(self, x: Tensor, sigma: float, output: Tensor) -> Tensor:
        return x - sigma * output

    def start(self, noise: Tensor, sigma0: float, latent: Tensor) -> Tensor:
        return sigma0 * noise + (1.0 - sigma0) * latent

    def begin(self, noise: Tensor, sigma0: float, latent: Tensor) -> Tensor:
        return self.start(noise, sigma0, latent)

    def finish(self, x: Tensor, sigma_last: float) -> Tensor:
        return x / (1.0 - sigma_last)


@dataclass(frozen=True)
class Epsilon:
    """Noise prediction over the scaled-linear betas (Ho et al. 2020, Rombach et al. 2022): SDXL, SD1.5.

    Args:
        zero_terminal: whether the betas were rescaled so that nothing of the picture is left in the noisiest level
            (Lin et al. 2024).
    """

    zero_terminal: bool = False

    @property
    def table(self) -> Tensor:
        return _epsilon_table(self.zero_terminal)

    @property
    def sigma_min(self) -> float:
        return float(self.table[0])

    @property
    def sigma_max(self) -> float:
        return float(self.table[-1])

    @property
    def time_span(self) -> tuple[float, float]:
        return float(TABLE_SIZE - 1), 0.0

    def sigmas_at(self, times: Tensor) -> Tensor:
        logs = _epsilon_logs(self.zero_terminal)
        below, part = times.floor().long(), times.frac()
        above = times.ceil().long()
        return torch.exp((1 - part) * logs[below] + part * logs[above])

    def percent_to_sigma(self, percent: float) -> float:
        if percent <= 0.0:
            return math.inf
        if percent >= 1.0:
            return 0.0
        return float(self.sigmas_at(_level((1.0 - percent) * (TABLE_SIZE - 1))))

    def timestep(self, sigma: float) -> float:
        logs = _epsilon_logs(self.zero_terminal)
        # The network was trained at whole times, and ComfyUI tells it the nearest one.
        return float((logs - _level(sigma).log()).abs().argmin())

    def signal(self, sigma: float) -> float:
        return 1.0

    def half_log_snr(self, sigma: float) -> float:
        return -float(torch.log(_level(sigma)))

    def sigma_of_half_log_snr(self, half_log_snr: float) -> float:
        return float(torch.exp(-_level(half_log_snr)))

    def model_input(self, x: Tensor, sigma: float) -> Tensor:
        return x / math.sqrt(sigma * sigma + 1.0)

    def denoised(self, x: Tensor, sigma: float, output: Tensor) -> Tensor:
        return x - sigma * output

    def start(self, noise: Tensor, sigma0: float, latent: Tensor) -> Tensor:
        return sigma0 * noise + latent

    def begin(self, noise: Tensor, sigma0: float, latent: Tensor) -> Tensor:
        if sigma0 < self.sigma_max * (1 - NEARLY):
            return self.start(noise, sigma0, latent)
        # What is left of a picture at the largest level has a spread of its own, which noise alone would lack.
        return math.sqrt(1 + sigma0 * sigma0) * noise + latent

    def finish(self, x: Tensor, sigma_last: float) -> Tensor:
        return x


@dataclass(frozen=True)
class VPrediction(Epsilon):
    """Prediction of v, a mixture of noise and picture (Salimans & Ho 2022), over the same levels: NoobAI v-pred."""

    def denoised(self, x: Tensor, sigma: float, output: Tensor) -> Tensor:
        return x / (sigma * sigma + 1.0) - output * (sigma / math.sqrt(sigma * sigma + 1.0))


def _level(value: float) -> Tensor:
    # Levels are float32 numbers, and so is what follows from them: a Brownian path is read at levels computed in
    # log-SNR, and a level one rounding away from the reference's is another draw.
    return torch.tensor(value, dtype=torch.float32, device="cpu")


@lru_cache(maxsize=64)
def _flow_table(shift: float) -> Tensor:
    times = torch.arange(1, TABLE_SIZE + 1, dtype=torch.float32, device="cpu") / TABLE_SIZE
    return shift * times / (1 + (shift - 1) * times)  # (1000,)


@lru_cache(maxsize=2)
def _epsilon_levels(zero_terminal: bool) -> Tensor:
    roots = torch.linspace(math.sqrt(BETA_FIRST), math.sqrt(BETA_LAST), TABLE_SIZE, dtype=torch.float64, device="cpu")
    kept = torch.cumprod(1 - roots**2, dim=0)
    if zero_terminal:
        signal = kept.sqrt()
        signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
        kept = signal**2
        kept[-1] = LAST_KEPT
    return torch.sqrt((1 - kept) / kept)  # (1000,), float64


@lru_cache(maxsize=2)
def _epsilon_table(zero_terminal: bool) -> Tensor:
    return _epsilon_levels(zero_terminal).float()


@lru_cache(maxsize=2)
def _epsilon_logs(zero_terminal: bool) -> Tensor:
    return _epsilon_levels(zero_terminal).log().float()
