"""A loaded family whose text encoders and VAE need not be in memory all the time.

It stands before the family that it wraps and brings a network's weights in before that family computes with it. The
families themselves know nothing of this. Invariant: a text that was encoded lately is not encoded again, so that its
text encoder is not wanted again either.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

import torch
from torch import Tensor, nn

from limner.engine.adapters import AdapterTargets
from limner.engine.checkpoints import CheckpointFiles
from limner.engine.families.port import AppliedAdapters, Encoding, LoadedFamily, Row
from limner.engine.parameterization import Parameterization

PROMPTS_KEPT = 64


class ResidentFamily:
    """A `LoadedFamily` like the one that it wraps.

    Args:
        family: it must compute with its text encoders in `encode_text` alone, with its VAE in `encode_picture`,
            `decode` and `preview` alone.
        bring: called with the names of components before they are computed with, all together.
        tiles: whether pictures are always decoded in tiles.
    """

    def __init__(self, family: LoadedFamily, bring: Callable[[Collection[str]], None], tiles: bool = False) -> None:
        self.name = family.name
        self.device: torch.device = family.device
        self.dtype: torch.dtype = family.dtype
        self._family = family
        self._bring = bring
        self._tiles = tiles
        self._readers = [name for name in family.networks() if name.startswith("text_encoder")]
        self._encodings: OrderedDict[Hashable, Encoding] = OrderedDict()

    @property
    def files(self) -> CheckpointFiles:
        """Where its weights came from."""
        return self._family.files

    def networks(self) -> Mapping[str, nn.Module]:
        """The family's."""
        return self._family.networks()

    def adapter_targets(self) -> AdapterTargets:
        """The family's."""
        return self._family.adapter_targets()

    def parameterization(self, shift: float | None, width: int, height: int) -> Parameterization:
        """The family's."""
        return self._family.parameterization(shift, width, height)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, H/8, W/8), as the family says."""
        return self._family.latent_shape(width, height)

    def batch_key(self, shape: tuple[int, int, int], references: tuple[Tensor, ...] = ()) -> Hashable:
        """The family's."""
        return self._family.batch_key(shape, references)

    def row_tokens(self, shape: tuple[int, int, int], encoding: Encoding, references: tuple[Tensor, ...] = ()) -> int:
        """What one row costs, in tokens."""
        return self._family.row_tokens(shape, encoding, references)

    def encode_text(self, text: str, adapters: AppliedAdapters = (), clip_skip: int | None = None) -> Encoding:
        """The prompt's conditioning; the text encoders are brought in where it is not known yet."""
        key = (text, tuple((adapter.serial, weight) for adapter, weight in adapters), clip_skip)
        if (known := self._encodings.get(key)) is not None:
            self._encodings.move_to_end(key)
            return known
        self._bring(self._readers)
        encoding = self._encodings[key] = self._family.encode_text(text, adapters, clip_skip)
        while len(self._encodings) > PROMPTS_KEPT:
            self._encodings.popitem(last=False)
        return encoding

    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        """The raw network output of every row, as the family says."""
        self._bring(("transformer",))
        # A network whose weights rest elsewhere answers from the device that it was computed on.
        return [answer.to(self.device) for answer in self._family.predict(rows)]

    def encode_picture(self, pixels: Tensor) -> Tensor:
        """Pixels (3, H, W) in [-1, 1] to a latent (C, H/8, W/8)."""
        self._bring(("vae",))
        return self._family.encode_picture(pixels)

    def decode(self, latent: Tensor, tiled: bool = False) -> Tensor:
        """A latent (C, H/8, W/8) to pixels (3, H, W) in [-1, 1]."""
        self._bring(("vae",))
        return self._family.decode(latent, tiled or self._tiles)

    def preview(self, latent: Tensor) -> Tensor:
        """A rough picture (3, H/8, W/8) in [0, 1]."""
        self._bring(("vae",))
        return self._family.preview(latent)
