"""Pixels to latents and back through an `AutoencoderKL`, as families do it.

Families differ in how a latent is shifted and scaled, which the autoencoder's own configuration says. Large pictures
are taken in overlapping tiles; a rough preview needs no network. This module knows no family and no sampler.
Invariant: a latent leaves here as the sampler sees it, (z - shift) * scale, float32.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

VAE_FACTOR = 8
TILE_ABOVE_PX = 1536 * 1536
TILE_PX = 512


class Autoencoder:
    """A loaded autoencoder, which several families may share.

    Args:
        vae: its weights may lie on another device than the sampler's latents.
        device: where latents shall lie.
    """

    def __init__(self, vae: AutoencoderKL, device: torch.device) -> None:
        self.vae = vae
        self._device = device
        config = cast(Any, vae.config)
        self._scale, self._shift = float(config.scaling_factor), float(config.shift_factor or 0.0)
        self._preview_map: Tensor | None = None
        if cast(Any, vae).device.type == "cpu":
            # Convolutions with few channels run about twice as fast with the channels innermost.
            cast(Any, vae).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """The mode of the posterior of pixels (3, H, W) in [-1, 1]: a latent (C, H/8, W/8)."""
        vae = self._prepared(pixels.shape[1] * pixels.shape[2])
        posterior = vae.encode(pixels[None].to(vae.device, vae.dtype)).latent_dist
        return ((posterior.mode() - self._shift) * self._scale)[0].float().to(self._device)

    @torch.inference_mode()
    def decode(self, latent: Tensor, tiled: bool = False) -> Tensor:
        """Pixels (3, H, W) in [-1, 1], float32 on the CPU; in overlapping tiles above `TILE_ABOVE_PX`."""
        vae = self._prepared(latent.shape[1] * latent.shape[2] * VAE_FACTOR**2, tiled)
        z = latent[None] / self._scale + self._shift
        pixels = vae.decode(z.to(vae.device, vae.dtype)).sample
        return pixels[0].float().clamp_(-1, 1).cpu()

    @torch.inference_mode()
    def preview(self, latent: Tensor) -> Tensor:
        """A linear map from latent channels to RGB, fitted once to what this VAE makes of coloured squares."""
        if self._preview_map is None:
            self._preview_map = self._fit_preview()
        flat = latent.float().cpu().flatten(1)  # (C, n)
        rgb = self._preview_map[:, :-1] @ flat + self._preview_map[:, -1:]
        return rgb.view(3, *latent.shape[1:]).clamp_(0, 1)

    def _prepared(self, pixels: int, tiled: bool = False) -> Any:
        vae: Any = self.vae
        vae.use_tiling = tiled or pixels > TILE_ABOVE_PX
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE_PX, TILE_PX // VAE_FACTOR
        return vae

    def _fit_preview(self) -> Tensor:
        side = 16
        squares = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0)).round(decimals=1)
        pixels = squares.repeat_interleave(16, 1).repeat_interleave(16, 2) * 2 - 1
        latent = self.encode(pixels).cpu()
        z = F.avg_pool2d(latent[None], 2)[0].flatten(1)
        z = torch.cat([z, torch.ones(1, z.shape[1])])  # (C + 1, n)
        solved = cast(Any, torch.linalg).lstsq(z.T, squares.flatten(1).T)
        return cast(Tensor, solved.solution).T.contiguous()
