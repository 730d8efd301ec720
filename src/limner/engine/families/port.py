"""What the engine asks of an architecture.

The engine knows trajectories, samplers and batches; a family knows one architecture: how text becomes conditioning,
how the network is evaluated for many rows at once, how latents become pixels. Nothing in the engine knows a family by
name.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from limner.engine.adapters import Adapter, AdapterTargets
from limner.engine.checkpoints import CheckpointFiles
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
    """One row of a forward: a latent ready for the network, its time, its conditioning, its adapters.

    `guidance` is for networks that read it as a number; `references` are the latents (C, h, w) of pictures that the
    network looks at while it paints.
    """

    x: Tensor  # (C, H/8, W/8), already scaled by the parameterization
    timestep: float
    encoding: Encoding
    adapters: AppliedAdapters = ()
    guidance: float | None = None
    references: tuple[Tensor, ...] = ()


class Family(Protocol):
    """One architecture with loaded weights."""

    name: str

    def parameterization(self, shift: float | None, width: int, height: int) -> Parameterization:
        """The noise levels and scalings of this architecture at a size in pixels.

        Without `shift` the family's own; epsilon models ignore it.
        """
        ...

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, H/8, W/8) of a picture in pixels."""
        ...

    def encode_text(self, text: str, adapters: AppliedAdapters = (), clip_skip: int | None = None) -> Encoding:
        """The prompt's conditioning, cached by prompt.

        `clip_skip` counts CLIP's layers from its end, 1 being the last; families without CLIP ignore it.
        """
        ...

    def batch_key(self, shape: tuple[int, int, int], references: tuple[Tensor, ...] = ()) -> Hashable:
        """Rows of equal keys may share a forward."""
        ...

    def row_tokens(self, shape: tuple[int, int, int], encoding: Encoding, references: tuple[Tensor, ...] = ()) -> int:
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


class LoadedFamily(Family, Protocol):
    """A family as residency keeps it: what the engine asks, and the facts about its weights."""

    device: torch.device
    dtype: torch.dtype

    @property
    def files(self) -> CheckpointFiles:
        """Where its weights came from."""
        ...

    def networks(self) -> Mapping[str, nn.Module]:
        """Its networks by component: `transformer`, `text_encoder`, …, `vae`."""
        ...

    def adapter_targets(self) -> AdapterTargets:
        """What an adapter may change in it."""
        ...
