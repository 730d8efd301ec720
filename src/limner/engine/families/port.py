"""What the engine asks of an architecture.

The engine knows trajectories, samplers and batches; a family knows one architecture: how text becomes conditioning,
how the network is evaluated for many rows at once, how latents become pixels. Nothing in the engine knows a family by
name.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from limner.engine.adapters import Adapter
from limner.engine.parameterization import Parameterization

AppliedAdapters = tuple[tuple[Adapter, float], ...]


@dataclass(frozen=True, eq=False)
class Encoding:
    """A prompt as the network reads it: features (tokens, dim) and whatever else the family needs."""

    features: Tensor
    tokens: int
    unknown: tuple[str, ...] = ()
    extra: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a forward: a latent ready for the network, its time, its conditioning, its adapters."""

    x: Tensor  # (C, H/8, W/8), already scaled by the parameterization
    timestep: float
    encoding: Encoding
    adapters: AppliedAdapters = ()


class Family(Protocol):
    """One architecture with loaded weights."""

    name: str
    default_shift: float

    def parameterization(self, shift: float | None) -> Parameterization:
        """The noise levels and scalings of this architecture; `shift` is ignored by epsilon models."""
        ...

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, H/8, W/8) of a picture in pixels."""
        ...

    def encode_text(self, text: str, adapters: AppliedAdapters = ()) -> Encoding:
        """The prompt's conditioning, cached by prompt."""
        ...

    def batch_key(self, shape: tuple[int, int, int]) -> Hashable:
        """Rows of equal keys may share a forward."""
        ...

    def row_tokens(self, shape: tuple[int, int, int], encoding: Encoding) -> int:
        """What one row costs, in tokens."""
        ...

    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        """The raw network output F of every row, each of its latent's shape, float32."""
        ...

    def encode_picture(self, pixels: Tensor) -> Tensor:
        """Pixels (3, H, W) in [-1, 1] to a latent (C, H/8, W/8) as the sampler sees it."""
        ...

    def decode(self, latent: Tensor, tiled: bool = False) -> Tensor:
        """A latent (C, H/8, W/8) to pixels (3, H, W) in [-1, 1], float32 on the CPU; `tiled` needs less memory."""
        ...

    def preview(self, latent: Tensor) -> Tensor:
        """A rough picture (3, H/8, W/8) in [0, 1], float32 on the CPU, at next to no cost."""
        ...
