"""A second family, as different from Z-Image as possible: an epsilon model that shares a forward at equal size only.

A small convolutional network with a text vector and a time; enough to prove that nothing in the engine knows Z-Image.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

from limner.engine.families.port import AppliedAdapters, Encoding, Row
from limner.engine.parameterization import Epsilon

CHANNELS = 4


class TinyFamily:
    """Epsilon prediction, four latent channels, one size a forward."""

    name = "tiny"

    def __init__(self, seed: int = 0, device: str = "cpu") -> None:
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Conv2d(CHANNELS, 8, 3, padding=1)
        self.second = nn.Conv2d(8, CHANNELS, 3, padding=1)
        with torch.no_grad():
            for parameter in (*self.first.parameters(), *self.second.parameters()):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        self.forwards: list[int] = []
        self.fail: Exception | None = None
        self.fail_above_rows: int | None = None

    def parameterization(self, shift: float | None, width: int, height: int) -> Epsilon:
        return Epsilon()

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        return (CHANNELS, height // 8, width // 8)

    def encode_text(self, text: str, adapters: AppliedAdapters = (), clip_skip: int | None = None) -> Encoding:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        features = torch.randn(1, 8, generator=torch.Generator().manual_seed(seed))
        return Encoding(features, tokens=1)

    def batch_key(self, shape: tuple[int, int, int], references: tuple[Tensor, ...] = ()) -> Hashable:
        return shape

    def row_tokens(self, shape: tuple[int, int, int], encoding: Encoding, references: tuple[Tensor, ...] = ()) -> int:
        return shape[1] * shape[2]

    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        if self.fail is not None:
            raise self.fail
        if self.fail_above_rows is not None and len(rows) > self.fail_above_rows:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        self.forwards.append(len(rows))
        x = torch.stack([row.x for row in rows])
        text = torch.cat([row.encoding.features for row in rows])[:, :, None, None]
        time = torch.tensor([math.sin(row.timestep / 100) for row in rows])[:, None, None, None]
        return list(self.second(torch.tanh(self.first(x) + text + time)).detach())

    def encode_picture(self, pixels: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(pixels[None], 8)[0]
        return torch.cat([small, small.mean(0, keepdim=True)])

    def decode(self, latent: Tensor, tiled: bool = False) -> Tensor:
        return torch.tanh(latent[:3]).repeat_interleave(8, 1).repeat_interleave(8, 2)

    def preview(self, latent: Tensor) -> Tensor:
        return torch.sigmoid(latent[:3])
