"""What a denoiser of each family needs beside it: text encoders, tokenizers, an autoencoder.

Facts about architectures, read from names and shapes of tensors; no file is opened here and torch is not needed.
Parts are called by the folders that diffusers keeps them in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from limner.engine.signatures import (
    clip_encoders,
    clip_text_width,
    flux_partners,
    latent_channels,
    partners,
    t5_width,
    text_width,
    unet_partners,
)

Shapes = Mapping[str, tuple[int, ...]]

TEXT_FOLDERS = ("text_encoders", "clip")
VAE_FOLDERS = ("vae",)


@dataclass(frozen=True)
class Need:
    """A part that lies beside the denoiser, or with it in one file.

    Args:
        part: `text_encoder`, `text_encoder_2`, `vae`.
        folders: of ComfyUI's layout, where it is looked for.
        fits: whether tensors of these names and shapes are such a part.
        what: it, for messages.
    """

    part: str
    folders: tuple[str, ...]
    fits: Callable[[Shapes], bool]
    what: str


@dataclass(frozen=True)
class Family:
    """What is needed around a denoiser of one family.

    Args:
        needs: the parts for a denoiser of these shapes; None where its shapes do not even tell that much.
        tokenizers: part to (folder below `tokenizers/`, the text encoder that it belongs to).
        denoiser: the folder that diffusers keeps the denoiser in.
        landmarks: tensors that every such denoiser has, for messages.
    """

    needs: Callable[[Shapes], tuple[Need, ...] | None]
    tokenizers: Mapping[str, tuple[str, str]]
    denoiser: str = "transformer"
    landmarks: str = ""


def _zimage(shapes: Shapes) -> tuple[Need, ...] | None:
    wanted = partners(shapes)
    if wanted is None:
        return None
    width, channels = wanted.text_width, wanted.latent_channels
    return (
        Need(
            "text_encoder",
            TEXT_FOLDERS,
            lambda shapes: text_width(shapes) == width,
            f"a Qwen3 text encoder of width {width}",
        ),
        _vae(channels),
    )


def _flux(shapes: Shapes) -> tuple[Need, ...] | None:
    wanted = flux_partners(shapes)
    if wanted is None:
        return None
    pooled, width, channels = wanted.pooled_width, wanted.text_width, wanted.latent_channels
    return (
        Need(
            "text_encoder",
            TEXT_FOLDERS,
            lambda shapes: clip_text_width(shapes) == pooled,
            f"a CLIP text encoder of width {pooled} (clip_l)",
        ),
        Need(
            "text_encoder_2",
            TEXT_FOLDERS,
            lambda shapes: t5_width(shapes) == width,
            f"a T5 text encoder of width {width} (t5xxl)",
        ),
        _vae(channels),
    )


def _vae(channels: int) -> Need:
    return Need("vae", VAE_FOLDERS, lambda shapes: latent_channels(shapes) == channels, f"a VAE of {channels} channels")


def _sdxl(shapes: Shapes) -> tuple[Need, ...] | None:
    wanted = unet_partners(shapes)
    if wanted is None:
        return None
    # The features of two encoders lie side by side; the larger one gives the pooled vector too.
    half = wanted.text_width / 2
    return (
        Need(
            "text_encoder",
            TEXT_FOLDERS,
            lambda shapes: any(width < half for width, _ in clip_encoders(shapes)),
            f"a CLIP text encoder narrower than {half:g} (clip_l)",
        ),
        Need(
            "text_encoder_2",
            TEXT_FOLDERS,
            lambda shapes: any(width > half and projects for width, projects in clip_encoders(shapes)),
            f"a CLIP text encoder wider than {half:g} with its projection (clip_g)",
        ),
        _vae(wanted.latent_channels),
    )


def _sd15(shapes: Shapes) -> tuple[Need, ...] | None:
    wanted = unet_partners(shapes)
    if wanted is None:
        return None
    width = wanted.text_width
    return (
        Need(
            "text_encoder",
            TEXT_FOLDERS,
            lambda shapes: any(each == width for each, _ in clip_encoders(shapes)),
            f"a CLIP text encoder of width {width}",
        ),
        _vae(wanted.latent_channels),
    )


_UNET_LANDMARKS = "`out.2.weight` or an `attn2.to_k.weight`"

FAMILIES: Mapping[str, Family] = {
    "zimage": Family(
        _zimage,
        {"tokenizer": ("qwen3", "text_encoder")},
        landmarks="`cap_embedder.1.weight` or `x_embedder.weight`",
    ),
    "flux": Family(
        _flux,
        {"tokenizer": ("clip", "text_encoder"), "tokenizer_2": ("t5", "text_encoder_2")},
        landmarks="`vector_in.in_layer.weight`, `txt_in.weight` or `final_layer.linear.weight`",
    ),
    "sdxl": Family(_sdxl, {"tokenizer": ("clip", "text_encoder")}, denoiser="unet", landmarks=_UNET_LANDMARKS),
    "sd15": Family(_sd15, {"tokenizer": ("clip", "text_encoder")}, denoiser="unet", landmarks=_UNET_LANDMARKS),
}
"""The families that are painted with, by the names that `signatures.recognise` gives."""

# Their autoencoders are of the same shapes and read each other's latents wrongly.
_USUAL_VAES = {
    "sdxl": re.compile(r"sd[_-]?xl|xl[_.-]?vae", re.IGNORECASE),
    "sd15": re.compile(r"840000|(?<![a-z])(ema|mse)(?![a-z])|sd[_-]?vae|sd[_-]?v?1[._-]?5", re.IGNORECASE),
}


def strangeness(name: str, need: Need, family: str) -> int:
    """How unlike the usual names of this part a file is called: 0, 1, or 2 if it is called like another family's.

    For choosing among files that fit by their tensors equally well; VAEs of SD 1.5 and SDXL are those.
    """
    usual = _USUAL_VAES.get(family)
    if need.part != "vae" or usual is None:
        return 1
    if usual.search(name):
        return 0
    return 2 if any(other.search(name) for other in _USUAL_VAES.values()) else 1
