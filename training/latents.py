"""The latent space of `sketchbook`: a fixed linear code of 8x8 blocks.

Flat illustrations are described almost completely by the sixteen strongest principal components of their 8x8 RGB
blocks. Fixing the latent space to that linear code (instead of learning it together with a decoder) lets the denoiser
train at once; the AutoencoderKL learns afterwards to produce it (encoder) and to turn it back into crisp pictures
(decoder). Being linear per block, the code of an enlarged picture is close to the enlarged code, which is what the
three-stage workflow relies on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

BLOCK = 8
CHANNELS = 16


@dataclass(frozen=True)
class LinearCode:
    """Projection of 8x8 RGB blocks on `CHANNELS` numbers and back.

    `basis` is (192, 16) with orthonormal columns, `mean` (192,), `scale` (16,): z = (block - mean) @ basis * scale.
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] to latents (B, 16, H/8, W/8)."""
        b, _, h, w = pictures.shape
        blocks = torch.nn.functional.pixel_unshuffle(pictures, BLOCK)  # (B, 192, H/8, W/8)
        flat = blocks.permute(0, 2, 3, 1).reshape(-1, 3 * BLOCK * BLOCK)
        z = (flat - self.mean) @ self.basis * self.scale
        return z.view(b, h // BLOCK, w // BLOCK, CHANNELS).permute(0, 3, 1, 2).contiguous()

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, 16, h, w) to pictures (B, 3, 8h, 8w) in [-1, 1]: the best linear reconstruction."""
        b, _, h, w = latents.shape
        flat = latents.permute(0, 2, 3, 1).reshape(-1, CHANNELS)
        blocks = (flat / self.scale) @ self.basis.T + self.mean
        return torch.nn.functional.pixel_shuffle(blocks.view(b, h, w, -1).permute(0, 3, 1, 2), BLOCK)

    def save(self, path: Path) -> None:
        """Write the code as safetensors."""
        save_file({"mean": self.mean, "basis": self.basis.contiguous(), "scale": self.scale}, path)

    @staticmethod
    def load(path: Path) -> LinearCode:
        """Read what `save` wrote."""
        tensors = load_file(path)
        return LinearCode(tensors["mean"], tensors["basis"], tensors["scale"])


def to_tensor(pictures: list[NDArray[np.uint8]]) -> Tensor:
    """Pictures (H, W, 3) in 0..255 to one tensor (B, 3, H, W) in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return stacked.float().div_(127.5).sub_(1.0)


def fit(batches: list[Tensor], whitening: float = 0.5) -> LinearCode:
    """Principal components of the blocks, channels scaled by variance**(-whitening/2), then all to unit deviation.

    `whitening` 0 keeps the natural spectrum (the mean colour dominates), 1 makes all channels equally strong.
    """
    blocks = torch.cat(
        [
            torch.nn.functional.pixel_unshuffle(batch, BLOCK).permute(0, 2, 3, 1).reshape(-1, 3 * BLOCK * BLOCK)
            for batch in batches
        ]
    ).double()
    mean = blocks.mean(0)
    covariance = (blocks - mean).T @ (blocks - mean) / len(blocks)
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0)[:CHANNELS], vectors.flip(1)[:, :CHANNELS]
    scale = values.pow(-whitening / 2)
    scale = scale / (values * scale**2).mean().sqrt()
    return LinearCode(mean.float(), vectors.float().contiguous(), scale.float())
