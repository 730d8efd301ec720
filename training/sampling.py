"""Paint with a half-trained or an exported `sketchbook`: one size, plain Euler, no engine.

It knows nothing of stages, samplers or mixed batches; `limner` has those. It is small enough to be read in a minute,
which makes it the second opinion when the engine's pictures look wrong. Every picture has noise of its own, drawn from
`seed` plus its place, so that it does not depend on how many are painted at once.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, Qwen3Model

import vae as vae_module
from denoiser import PAD, SHIFT, Denoiser, build_network
from latents import LinearCode
from text import encode

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Painter:
    """The four parts that turn captions into pictures; `decode` maps latents (B, 16, h, w) to (B, 3, 8h, 8w)."""

    model: Denoiser
    tokenizer: Any
    reader: Any
    decode: Callable[[Tensor], Tensor]
    name: str


def from_build(folder: Path, decoder: str = "trained") -> Painter:
    """The averaged weights of a build folder; `decoder` is "trained" (linear while there is none) or "linear"."""
    network = build_network()
    saved = torch.load(folder / "denoiser.pt", weights_only=True, mmap=True)
    network.load_state_dict(saved["average"])
    progress = saved["progress"]
    decode: Callable[[Tensor], Tensor] = LinearCode.load(folder / "latents.safetensors").decode
    if decoder == "trained" and (folder / "decoder.pt").exists():
        autoencoder = build_autoencoder().eval()
        autoencoder.decoder.load_state_dict(torch.load(folder / "decoder.pt", weights_only=True)["average"])
        decode = _decode_with(autoencoder)
    name = f"{folder.name} after {progress['trained_s'] / 60:.0f} min, {progress['samples']} pictures"
    return _painter(network, folder, decode, name)


def from_checkpoint(folder: Path) -> Painter:
    """An exported diffusers folder, in float32."""
    network = ZImageTransformer2DModel.from_pretrained(folder / "transformer", dtype=torch.float32)
    autoencoder = AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32).eval()
    return _painter(network, folder, _decode_with(autoencoder), folder.name)


def _painter(network: Any, folder: Path, decode: Callable[[Tensor], Tensor], name: str) -> Painter:
    reader = Qwen3Model.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return Painter(
        model=Denoiser(network).eval().requires_grad_(False),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        reader=reader.eval().requires_grad_(False),
        decode=decode,
        name=name,
    )


def build_autoencoder() -> Any:
    """The autoencoder with fresh weights."""
    config: dict[str, Any] = dict(vae_module.CONFIG)
    return AutoencoderKL(**config)


def _decode_with(autoencoder: Any) -> Callable[[Tensor], Tensor]:
    autoencoder.to(memory_format=torch.channels_last)

    def decode(latents: Tensor) -> Tensor:
        return autoencoder.decode(latents.contiguous(memory_format=torch.channels_last), return_dict=False)[0]

    return decode


def noise_levels(steps: int, shift: float = SHIFT) -> list[float]:
    """`steps` + 1 falling noise levels from 1 to 0, even in time and then shifted."""
    even = [1 - index / steps for index in range(steps + 1)]
    return [shift * u / (1 + (shift - 1) * u) for u in even]


def noise_for(count: int, width: int, height: int, seed: int) -> Tensor:
    """Noise (count, 16, height/8, width/8); row i is drawn from `seed` + i alone."""
    shape = (16, height // 8, width // 8)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(count)])


@torch.no_grad()
def denoise(painter: Painter, texts: Sequence[str], noise: Tensor, steps: int, cfg: float) -> Tensor:
    """Euler from pure noise to latents (B, 16, h, w); `cfg` 1 asks the network once a step, else twice."""
    guided = cfg != 1.0
    features, lengths = encode(painter.tokenizer, painter.reader, [*texts, *([""] * len(texts) if guided else [])])
    if int(lengths.max()) > PAD:
        raise ValueError(f"a prompt has {int(lengths.max())} tokens, this sampler takes {PAD}. Shorten it.")
    x, levels = noise, noise_levels(steps)
    for now, after in pairwise(levels):
        rows = torch.cat([x, x]) if guided else x
        answer, _ = painter.model(rows, torch.full((len(rows),), 1 - now), features, lengths)  # z - n
        if guided:
            said, unsaid = answer.chunk(2)
            answer = unsaid + cfg * (said - unsaid)
        x = x + (now - after) * answer
    return x


def to_pixels(pictures: Tensor) -> list[Pixels]:
    """Pictures (B, 3, H, W) in [-1, 1] to arrays (H, W, 3) in 0..255."""
    levels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return list(levels.permute(0, 2, 3, 1).contiguous().numpy())


@torch.no_grad()
def paint(
    painter: Painter,
    texts: Sequence[str],
    size: tuple[int, int],
    steps: int = 12,
    cfg: float = 3.0,
    seed: int = 0,
    batch: int = 12,
) -> list[Pixels]:
    """One picture (height, width, 3) a text; `size` is (width, height) in px, multiples of 16."""
    pictures: list[Pixels] = []
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        latents = denoise(painter, part, noise_for(len(part), *size, seed + start), steps, cfg)
        for row in latents:
            pictures += to_pixels(painter.decode(row[None]))
    return pictures
