"""Fit the linear latent code on fresh pictures of all sizes and both styles."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from drawings import render, sample_scene
from latents import LinearCode, fit, to_tensor

SIZES = ((176, 224), (336, 432), (672, 864))


def sample(rng: random.Random, count: int) -> list[torch.Tensor]:
    """Pictures as batches of one; a quarter in ink."""
    batches = []
    for index in range(count):
        width, height = SIZES[index % 3]
        style = "ink" if rng.random() < 0.25 else "flat"
        batches.append(to_tensor([render(sample_scene(rng), width, height, rng.getrandbits(31), style)]))
    return batches


def train(folder: Path, pictures: int = 300) -> None:
    """Write `folder`/latents.safetensors and print how well the code alone restores pictures."""
    code: LinearCode = fit(sample(random.Random(0), pictures))
    code.save(folder / "latents.safetensors")
    for index, (width, height) in enumerate(SIZES):
        test = sample(random.Random(1), 30)[index::3]
        errors = [(code.decode(code.encode(x)) - x).pow(2).mean() for x in test]
        decibels = 10 * torch.log10(4 / torch.stack(errors).mean())
        print(f"linear code alone at {width}x{height}: {decibels.item():.2f} dB", flush=True)
    print("channel deviations", [round(v, 2) for v in (code.scale).tolist()])
