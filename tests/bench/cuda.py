"""Z-Image at its full size with random weights, on a graphics card: the bench needs no download."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

from limner.domain import Stage
from limner.engine.engine import Engine
from limner.engine.families.zimage import ZImage
from limner.engine.families.zimage_weights import Components
from tests.bench.cpu import paint, plan
from tests.bench.report import Measurement
from tests.support.checkpoints import tiny_components

# Arithmetic alone at 790 TFLOP/s, milliseconds.
FLOORS_MS = {"1024x1024, 8 steps": 563.0, "three stages to 672x864": 799.0}


def _full_size() -> ZImage:
    parts: Any = tiny_components()
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            # Captions keep the tiny encoder's width: encoding is no part of this bench.
            parts.transformer = ZImageTransformer2DModel(cap_feat_dim=parts.text_encoder.config.hidden_size).eval()
            vae = cast(Any, AutoencoderKL)(
                block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16,
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
            )  # fmt: skip
        finally:
            torch.set_default_dtype(torch.float32)
    parts.vae = vae.eval()
    return ZImage(cast(Components, parts))


def full_size(checkpoint: Path, rounds: int) -> list[Measurement]:
    """One picture at a time; the time is compared with the floor of the arithmetic."""
    family = _full_size()
    jobs = {
        "1024x1024, 8 steps": (Stage(width=1024, height=1024, steps=8),),
        "three stages to 672x864": (
            Stage(width=176, height=224, steps=9, cfg=2.0, sampler="euler_ancestral"),
            Stage(width=336, height=432, steps=16, sampler="euler_ancestral", denoise=0.7),
            Stage(width=672, height=864, steps=16, sampler="dpmpp_sde", schedule="beta", denoise=0.6),
        ),
    }
    results: list[Measurement] = []
    for name, stages in jobs.items():
        times: list[float] = []
        for _ in range(rounds + 1):
            torch.cuda.synchronize()
            start = time.perf_counter()
            paint(Engine(), family, [plan("a red boat", 1, *stages)])
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        seconds = statistics.median(times[1:])
        note = "floor at 790 TFLOP/s, denoising only; with decoding"
        results.append(
            Measurement(f"Z-Image full size {name}, of the floor", seconds * 1e3 / FLOORS_MS[name], "x", note=note)
        )
    return results
