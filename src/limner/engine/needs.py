"""What a denoiser of each family needs beside it: text encoders, tokenizers, an autoencoder.

Facts about architectures, read from names and shapes of tensors; no file is opened here and torch is not needed.
Parts are called by the folders that diffusers keeps them in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from limner.engine.signatures import latent_channels, partners, text_width

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
        Need("vae", VAE_FOLDERS, lambda shapes: latent_channels(shapes) == channels, f"a VAE of {channels} channels"),
    )


FAMILIES: Mapping[str, Family] = {
    "zimage": Family(
        _zimage,
        {"tokenizer": ("qwen3", "text_encoder")},
        landmarks="`cap_embedder.1.weight` or `x_embedder.weight`",
    ),
}
"""The families that are painted with, by the names that `signatures.recognise` gives."""
