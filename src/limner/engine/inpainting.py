"""Keep a part of a reference picture while the rest is painted anew.

While a stage samples, the kept area of the latent is the reference's own, brought to each noise level with the noise
that the stage began with; so the network sees what surrounds the area that it paints. This is what ComfyUI does with a
latent's noise mask. A latent says little of single pixels, so at the end the kept pixels are put back as they were.
Everywhere a mask is 1 where the picture is painted anew and 0 where it stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.engine.parameterization import Parameterization

FEATHER_PX = 8
"""How far the new picture fades into the kept one, counted outwards from the mask's edge."""


@dataclass(frozen=True, eq=False)
class Inpainting:
    """A reference picture and its mask.

    Args:
        picture: (3, H, W) in [-1, 1], at the size of the finished picture.
        mask: (1, H, W) in [0, 1], at the same size.
    """

    picture: Tensor
    mask: Tensor

    def picture_at(self, width: int, height: int) -> Tensor:
        """The picture (3, height, width) at a stage's size in pixels."""
        return _resized(self.picture, width, height)

    def mask_at(self, width: int, height: int, latent: tuple[int, int, int]) -> Tensor:
        """The mask (1, h, w) of a stage's latent (C, h, w); cells that the edge crosses are in between."""
        pixels = _resized(self.mask, width, height)
        return F.interpolate(pixels[None], size=latent[1:], mode="bilinear")[0]

    def composited(self, painted: Tensor) -> Tensor:
        """The painted picture (3, H, W) with the kept pixels as they were, but for a feathered edge."""
        faded = feathered(self.mask)
        return painted * faded + self.picture * (1 - faded)


@dataclass(frozen=True, eq=False)
class KeptArea:
    """What a stage keeps.

    Args:
        latent: the reference picture's, (C, h, w).
        mask: (1, h, w).
    """

    latent: Tensor
    mask: Tensor

    def over(self, x: Tensor) -> Tensor:
        """A clean latent with the kept area as the reference has it."""
        return self._blended(x, self.latent)

    def noised_over(self, x: Tensor, sigma: float, noise: Tensor, parameterization: Parameterization) -> Tensor:
        """A latent at `sigma` with the kept area as the reference has it there."""
        return self._blended(x, parameterization.start(noise, sigma, self.latent))

    def to(self, device: torch.device) -> KeptArea:
        """The same on a device."""
        return KeptArea(self.latent.to(device), self.mask.to(device))

    def _blended(self, x: Tensor, kept: Tensor) -> Tensor:
        return x * self.mask + kept * (1 - self.mask)


def feathered(mask: Tensor) -> Tensor:
    """The mask (1, H, W), faded outwards: 1 wherever it was, 0 from `FEATHER_PX` pixels beyond, in between a ramp."""
    reach = FEATHER_PX // 2
    width = 2 * reach + 1
    grown = F.max_pool2d(mask, width, stride=1, padding=reach)
    return F.avg_pool2d(grown, width, stride=1, padding=reach, count_include_pad=False)


def _resized(image: Tensor, width: int, height: int) -> Tensor:
    if image.shape[1:] == (height, width):
        return image
    return F.interpolate(image[None], size=(height, width), mode="bilinear", antialias=True)[0]
