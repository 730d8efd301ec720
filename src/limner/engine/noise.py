"""The random numbers of one picture.

Three streams, all drawn on the CPU in float32 so that a seed gives one picture on every device: the noise a picture
starts from, the fresh noise that ancestral samplers add, and a Brownian path for samplers that look at the same noise
at several resolutions. The global random state is neither read nor changed.
Invariant: the same arguments and the same calls give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

SEEDS = 2**64
PATH_DIGITS = 6  # torchsde's own rounding at its default tolerance


class Noise:
    """The noise of one picture in one stage.

    ComfyUI derives the ancestral stream from `seed + 1`, so stages or pictures with neighbouring seeds share noise.
    That is kept for translated workflows; pass `stream_seed` to draw the ancestral and Brownian streams from a seed of
    their own.

    Args:
        seed: 0 to 2**64 - 1, of the starting noise.
        shape: of one picture's latent, (C, H/8, W/8); a leading 1 gives the same numbers.
        sigma_min: the smallest positive level of the run; the Brownian path begins there.
        sigma_max: the largest level of the run; the Brownian path ends there.
        stream_seed: 0 to 2**64 - 1, or None for ComfyUI's streams.

    Raises:
        ValueError: a seed out of range.
    """

    def __init__(
        self, seed: int, shape: tuple[int, ...], sigma_min: float, sigma_max: float, stream_seed: int | None = None
    ) -> None:
        for value in (seed, stream_seed or 0):
            if not 0 <= value < SEEDS:
                raise ValueError(f"Seed {value} is out of range. Choose one from 0 to {SEEDS - 1}.")
        self.seed = seed
        self.shape = shape
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self._ancestral_seed = (seed + 1) % SEEDS if stream_seed is None else stream_seed
        self._path_seed = seed if stream_seed is None else stream_seed
        self._fresh: torch.Generator | None = None
        self._path: Callable[[float, float], Tensor] | None = None

    def initial(self) -> Tensor:
        """The starting noise, of `shape`: what `torch.randn` gives after `torch.manual_seed(seed)`, at every call."""
        return self._normal(torch.Generator("cpu").manual_seed(self.seed))

    def ancestral(self) -> Tensor:
        """The next draw of the ancestral stream, of `shape`; independent of all draws before it."""
        if self._fresh is None:
            self._fresh = torch.Generator("cpu").manual_seed(self._ancestral_seed)
        return self._normal(self._fresh)

    def brownian(self, sigma_a: float, sigma_b: float) -> Tensor:
        """How far the picture's Brownian path goes from `sigma_a` to `sigma_b`, scaled to unit deviation, of `shape`.

        Spans that overlap are correlated, which is what lets a step and its parts agree. Both levels lie between
        `sigma_min` and `sigma_max`. The path is known to a millionth: a shorter span gives zeros.

        Raises:
            ValueError: a level outside the path.
        """
        start, end = round(self.sigma_min, PATH_DIGITS), round(self.sigma_max, PATH_DIGITS)
        low, high = (round(sigma, PATH_DIGITS) for sigma in sorted((sigma_a, sigma_b)))
        if low < start or high > end:
            raise ValueError(f"The noise path spans {start} to {end}, not {low} to {high}. Build it over all levels.")
        if low == high:
            return torch.zeros(self.shape, dtype=torch.float32, device="cpu")
        if self._path is None:
            self._path = self._grow_path()
        scale = math.copysign(1.0, sigma_b - sigma_a) / math.sqrt(abs(sigma_b - sigma_a))
        return self._path(low, high) * scale

    def _normal(self, generator: torch.Generator) -> Tensor:
        return torch.randn(self.shape, generator=generator, dtype=torch.float32, device="cpu")

    def _grow_path(self) -> Callable[[float, float], Tensor]:
        import torchsde  # pyright: ignore[reportMissingTypeStubs]  # here, because few samplers need its half second

        origin = torch.zeros(self.shape, dtype=torch.float32, device="cpu")
        tree = torchsde.BrownianTree(t0=self.sigma_min, w0=origin, t1=self.sigma_max, entropy=self._path_seed)
        return cast(Callable[[float, float], Tensor], tree)
