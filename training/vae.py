"""Train the decoder of `sketchbook`'s AutoencoderKL around the fixed linear code of `latents.py`.

It learns to turn codes back into crisp pictures (the linear code alone is blurred at edges), also when they are
slightly wrong, as a denoiser's are. It waits neither for the denoiser nor for the encoder, which needs no training
(`encoder.py`). It resumes.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from denoiser import save_atomically
from drawings import render, sample_scene
from latents import LinearCode, to_tensor

CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (16, 32, 48, 64),
    "layers_per_block": 1,
    "latent_channels": 16,
    "norm_num_groups": 8,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "mid_block_add_attention": False,
    "force_upcast": False,
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
}
SIZES = ((176, 224), (336, 432), (672, 864), (176, 176), (336, 336))
CROP = 96


def draw_crops(rng: random.Random, count: int) -> Tensor:
    """Crops (count, 3, CROP, CROP) of fresh pictures at every size and in both styles, aligned to the 8 px grid."""
    crops = []
    while len(crops) < count:
        width, height = rng.choice(SIZES)
        style = "ink" if rng.random() < 0.25 else "flat"
        picture = render(sample_scene(rng), width, height, rng.getrandbits(31), style)
        for _ in range(2 if width < 300 else 4):
            top = 8 * rng.randrange((height - CROP) // 8 + 1)
            left = 8 * rng.randrange((width - CROP) // 8 + 1)
            crop = picture[top : top + CROP, left : left + CROP]
            # Plain paper teaches nothing after the first minute.
            if crop.std() > 8 or rng.random() < 0.1:
                crops.append(crop)
    return to_tensor(crops[:count])


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the right and lower neighbours: what makes an edge an edge."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 + L2 on pixels and L1 on their differences."""
    edges = sum(F.l1_loss(a, b) for a, b in zip(gradients(made), gradients(wanted), strict=True))
    return F.l1_loss(made, wanted) + F.mse_loss(made, wanted) + 0.5 * edges


def train(folder: Path, minutes: float, batch: int = 8, lr: float = 2e-3) -> None:
    """Train into `folder`/decoder.pt until `minutes` of training time are used up."""
    torch.set_num_threads(1)
    code = LinearCode.load(folder / "latents.safetensors")
    torch.manual_seed(1)
    vae: Any = AutoencoderKL(**CONFIG)
    vae.to(memory_format=torch.channels_last)
    network = vae.decoder
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, betas=(0.9, 0.95))
    average = {name: value.clone() for name, value in network.state_dict().items()}
    state_file, spent_s, steps = folder / "decoder.pt", 0.0, 0
    if state_file.exists():
        saved = torch.load(state_file, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        average, spent_s, steps = saved["average"], saved["spent_s"], saved["steps"]
    rng = random.Random(steps)
    torch.manual_seed(steps + 1)
    started, errors = time.monotonic(), []
    while True:
        now_s = spent_s + time.monotonic() - started
        done = min(1.0, now_s / (minutes * 60))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (steps + 1) / 100) * min(1.0, max(0.02, (1 - done) / 0.5))
        wanted = draw_crops(rng, batch).to(memory_format=torch.channels_last)
        z = code.encode(wanted)
        strength = 0.15 * torch.rand(batch, 1, 1, 1) * (torch.rand(batch, 1, 1, 1) < 0.6)
        made = network(z + strength * torch.randn_like(z))
        loss, error = picture_loss(made, wanted), F.mse_loss(made.clamp(-1, 1), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        steps += 1
        errors.append(error.item())
        keep = min(0.998, (steps + 1) / (steps + 10))
        for name, value in network.state_dict().items():
            average[name].lerp_(value, 1 - keep)
        if steps % 100 == 0 or done >= 1:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
            save_atomically({**state, "spent_s": now_s, "steps": steps}, state_file)
            mean_error = sum(errors) / len(errors)
            decibels = 10 * torch.log10(torch.tensor(4.0 / mean_error)).item()
            print(
                f"decoder {now_s / 60:5.1f} min {steps * batch} crops mse {mean_error:.5f} ({decibels:.2f} dB)",
                flush=True,
            )
            errors.clear()
        if done >= 1:
            return
