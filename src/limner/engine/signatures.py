"""Tell which architecture tensors belong to, by their names and shapes.

The same rules serve checkpoints and adapters: separators may be dots or underscores (kohya flattens names), prefixes
are ignored. A file's own name is never looked at. Knowing an architecture here does not mean that it can be painted
with; it lets a message say what was found instead of only what was not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

FAMILY_TITLES = {
    "zimage": "Z-Image",
    "flux": "FLUX",
    "flux2": "FLUX.2",
    "chroma": "Chroma",
    "qwenimage": "Qwen-Image",
    "sd3": "Stable Diffusion 3",
    "sdxl": "SDXL",
    "sd15": "Stable Diffusion 1.5",
    "sd21": "Stable Diffusion 2",
    "lumina2": "Lumina 2",
    "wan": "Wan",
    "hunyuan": "Hunyuan",
    "ltx": "LTX-Video",
    "auraflow": "AuraFlow",
}

# The first rule of which every pattern is found decides; more particular ones come first.
_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("chroma", (r"distilled.guidance.layer",)),
    ("flux2", (r"double.stream.modulation.img|attn.to.qkv.mlp.proj",)),
    ("auraflow", (r"joint.transformer.blocks.\d+|double.layers.\d+.attn.w",)),
    ("hunyuan", (r"double.blocks.\d+.img|single.transformer.blocks.\d+", r"token.refiner|txt.in.c.embed")),
    (
        "flux",
        (r"double.blocks.\d+.(img|txt).|single.blocks.\d+.(linear|modulation|norm)|single.transformer.blocks.\d+",),
    ),
    ("qwenimage", (r"transformer.blocks.\d+.(img|txt).(mod|mlp)",)),
    ("sd3", (r"joint.blocks.\d+.|transformer.blocks.\d+.(ff.context|attn.add.(q|k|v).proj)",)),
    ("lumina2", (r"(layers|refiner).\d+.(attn|norm1).(to.(q|k|v|out)|linear|norm)",)),
    ("zimage", (r"(layers|noise.refiner|context.refiner).\d+.attention.(qkv|out|to.(q|k|v|out)|to)\b",)),
    ("zimage", (r"(noise|context).refiner.\d+.feed.forward|layers.\d+.(feed.forward.w[123]|adaLN.modulation)",)),
    ("wan", (r"blocks.\d+.(self.attn|cross.attn|ffn).(q|k|v|o|0|2)\b",)),
    ("ltx", (r"transformer.blocks.\d+.(scale.shift|attn1)", r"patchify.proj|(^|\.)proj.in\.")),
)
_UNET = re.compile(
    r"(input|output|down|up|middle|mid).blocks?.\d+.*(attentions?|transformer.blocks|resnets|in.layers)"
    r"|input.blocks.\d+.\d+.|mid.block.(attentions|resnets)"
)
_CROSS = re.compile(r"attn2.to.(k|v)\b")
_CROSS_DIMS = {2048: "sdxl", 768: "sd15", 1024: "sd21"}
# Attention alone looks the same in several networks of this kind; their widths tell them apart.
_TWO_STREAMS = re.compile(r"transformer.blocks.\d+.attn.(to|add)\.")
_STREAM_DIMS = {3072: "qwenimage", 1536: "sd3", 2432: "sd3"}
_UP_HALF = re.compile(r"lora.(B|up)\b")
_COMPILED = tuple((family, tuple(re.compile(p) for p in patterns)) for family, patterns in _RULES)
_LUMINA2_DIM = 2304


@dataclass(frozen=True)
class Partners:
    """What a denoiser asks of the parts beside it."""

    text_width: int
    latent_channels: int


def partners(shapes: Mapping[str, tuple[int, ...]]) -> Partners | None:
    """What the denoiser of these tensors needs, or None where this version cannot tell."""
    names = {name.removeprefix("model.diffusion_model."): shape for name, shape in shapes.items()}
    caption = names.get("cap_embedder.1.weight", ())
    picture = names.get("x_embedder.weight") or names.get("all_x_embedder.2-1.weight") or ()
    if len(caption) != 2 or len(picture) != 2:
        return None
    return Partners(caption[1], picture[1] // 4)


def text_width(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The width of a Qwen3 text encoder's features, or None for anything else."""
    qwen3 = any(name.endswith("layers.0.self_attn.q_norm.weight") for name in shapes)
    widths = [shape[-1] for name, shape in shapes.items() if name.endswith("embed_tokens.weight") and shape]
    return widths[0] if qwen3 and widths else None


def latent_channels(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The latent channels of an image autoencoder of the AutoencoderKL kind, or None for anything else."""
    for name, shape in shapes.items():
        if name.endswith("decoder.conv_in.weight") and len(shape) == 4:
            return dict(enumerate(shape))[1]
    return None


def title(family: str) -> str:
    """The family's name for people."""
    return FAMILY_TITLES.get(family, family)


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The family that tensors of these names and shapes belong to, or None when nothing is recognised."""
    names = {re.sub(r"[._-]", ".", name): shape for name, shape in shapes.items()}
    if any(_UNET.search(name) for name in names):
        return _unet(names)
    for family, patterns in _COMPILED:
        if all(any(pattern.search(name) for name in names) for pattern in patterns):
            return "lumina2" if family == "zimage" and _is_lumina(names) else family
    return _by_width(names, _TWO_STREAMS, _STREAM_DIMS)


def _by_width(names: Mapping[str, tuple[int, ...]], pattern: re.Pattern[str], widths: Mapping[int, str]) -> str | None:
    """The family whose width a layer reads: columns of a weight (out, in), or of the lower half of a LoRA (r, in)."""
    for name, shape in names.items():
        width = dict(enumerate(shape)).get(1, 0)
        if width in widths and pattern.search(name) and not _UP_HALF.search(name):
            return widths[width]
    return None


def _unet(names: Mapping[str, tuple[int, ...]]) -> str:
    if family := _by_width(names, _CROSS, _CROSS_DIMS):
        return family
    wide = r"conditioner.embedders.1|lora.te2|label.emb|add.embedding|attentions?.*transformer.blocks.[1-9]"
    return "sdxl" if any(re.search(wide, name) for name in names) else "sd15"


def _is_lumina(names: Mapping[str, tuple[int, ...]]) -> bool:
    return any(name.endswith("layers.0.adaLN.modulation.1.weight") for name in names) or any(
        re.search(r"attention.qkv", name) and _LUMINA2_DIM in shape for name, shape in names.items()
    )
