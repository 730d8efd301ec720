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
    ("sd3", (r"joint.blocks.\d+.",)),
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
# The blocks for two streams look the same in several networks; their widths tell them apart, or how many there are.
_TWO_STREAMS = re.compile(r"(?:^|\W)transformer.blocks.(\d+).(attn.(to|add)|ff|ff.context|norm1.context)\.")
_STREAM_DIMS = {3072: "flux", 1536: "sd3", 2432: "sd3"}
_FLUX_DOUBLE_BLOCKS = 19
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


@dataclass(frozen=True)
class FluxPartners:
    """What a FLUX denoiser asks of the parts beside it."""

    pooled_width: int
    text_width: int
    latent_channels: int


def flux_partners(shapes: Mapping[str, tuple[int, ...]]) -> FluxPartners | None:
    """What the FLUX denoiser of these tensors needs, or None where landmarks are missing.

    Answers for the original names and for diffusers'.
    """
    names = {name.removeprefix("model.diffusion_model."): shape for name, shape in shapes.items()}
    pooled = names.get("vector_in.in_layer.weight") or names.get("time_text_embed.text_embedder.linear_1.weight") or ()
    text = names.get("txt_in.weight") or names.get("context_embedder.weight") or ()
    painted = names.get("final_layer.linear.weight") or names.get("proj_out.weight") or ()
    if len(pooled) != 2 or len(text) != 2 or len(painted) != 2:
        return None
    return FluxPartners(pooled[1], text[1], painted[0] // 4)


def t5_width(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The width of a T5 encoder's features, or None for anything else."""
    bias = "layer.0.SelfAttention.relative_attention_bias.weight"
    # UMT5 looks the same but for a table of positions in every block.
    if any(name.endswith(f"encoder.block.1.{bias}") for name in shapes):
        return None
    for name, shape in shapes.items():
        if name.endswith("encoder.block.0.layer.0.SelfAttention.q.weight") and len(shape) == 2:
            return shape[1]
    return None


def clip_text_width(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The width of a CLIP text encoder's features (transformers' names), or None for anything else."""
    for name, shape in shapes.items():
        if name.endswith("embeddings.token_embedding.weight") and len(shape) == 2:
            return shape[1]
    return None


@dataclass(frozen=True)
class UnetPartners:
    """What the UNet of a Stable Diffusion asks of the parts beside it."""

    text_width: int
    latent_channels: int


def unet_partners(shapes: Mapping[str, tuple[int, ...]]) -> UnetPartners | None:
    """What the UNet of these tensors needs, or None where landmarks are missing.

    Answers for the original names and for diffusers'.
    """
    names = {name.removeprefix("model.diffusion_model."): shape for name, shape in shapes.items()}
    painted = names.get("out.2.weight") or names.get("conv_out.weight") or ()
    reads = next((shape for name, shape in names.items() if name.endswith("attn2.to_k.weight")), ())
    if len(painted) != 4 or len(reads) != 2:
        return None
    return UnetPartners(reads[1], painted[0])


def clip_encoders(shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, bool], ...]:
    """(width, whether a projection lies with it) of every CLIP text encoder among tensors of these names and shapes.

    Answers for transformers' names and for OpenCLIP's.
    """
    found: list[tuple[int, bool]] = []
    for name, shape in shapes.items():
        stem = name.removesuffix("token_embedding.weight")
        if stem == name or len(shape) != 2:
            continue
        if stem.endswith("embeddings."):
            home = stem.removesuffix("embeddings.").removesuffix("text_model.")
            found.append((shape[1], f"{home}text_projection.weight" in shapes))
        elif f"{stem}positional_embedding" in shapes:
            found.append((shape[1], f"{stem}text_projection" in shapes))
    return tuple(found)


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
    return _two_streams(names)


def _two_streams(names: Mapping[str, tuple[int, ...]]) -> str | None:
    numbers = [int(found[1]) for name in names if (found := _TWO_STREAMS.search(name))]
    family = _by_width(names, _TWO_STREAMS, _STREAM_DIMS)
    if family is None:
        second = re.compile(r"transformer.blocks.\d+.(ff.context|attn.add.(q|k|v).proj)")
        return "sd3" if any(second.search(name) for name in names) else None
    return "qwenimage" if family == "flux" and max(numbers) >= _FLUX_DOUBLE_BLOCKS else family


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
    wide = r"conditioner.embedders.1|lora.te2|label.emb|add.embedding|blocks?.*transformer.blocks.[1-9]"
    return "sdxl" if any(re.search(wide, name) for name in names) else "sd15"


def _is_lumina(names: Mapping[str, tuple[int, ...]]) -> bool:
    return any(name.endswith("layers.0.adaLN.modulation.1.weight") for name in names) or any(
        re.search(r"attention.qkv", name) and _LUMINA2_DIM in shape for name, shape in names.items()
    )
