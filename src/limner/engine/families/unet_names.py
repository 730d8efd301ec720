"""Names and shapes of Stable Diffusion's UNet, in the two layouts in which it is published.

The original (LDM) layout numbers its blocks through: `input_blocks`, `middle_block`, `output_blocks`; diffusers groups
them by level and says what each is. The configuration that a single file does not carry is inferred from shapes.
Nothing is loaded here. Invariant: every name of a file is mapped or kept, so that foreign ones are found later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from limner.engine.adapter_targets import Place, originals_of
from limner.engine.families.shared_weights import count_below
from limner.engine.weights import Part

Shapes = Mapping[str, tuple[int, ...]]

MARKS = ("v_pred", "ztsnr")
"""Empty tensors by which authors say that a model predicts v, and that its noise ends without any signal."""
HEAD = 64
"""The size of an attention head in SDXL; SD 1.5 has the same number of heads at every level instead."""
HEADS = 8
TIME_DIM = 256
"""Numbers that each of SDXL's six sizes is spread over."""

_STEMS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
_BLOCK = re.compile(r"(input_blocks|output_blocks)\.(\d+)\.(\d+)\.(.+)")


def unet_parts(names: Iterable[str]) -> dict[str, Part]:
    """diffusers' name of every tensor of a UNet, whichever of the two layouts the names are of."""
    known = [name for name in names if name not in MARKS]
    if not any(name.startswith("input_blocks.") for name in known):
        return {name: Part(name) for name in known}
    translate = _translator(known)
    parts: dict[str, Part] = {}
    for name in known:
        module, dot, kind = name.rpartition(".")
        parts[translate(module) + dot + kind] = Part(name)
    return parts


def original_places(paths: Iterable[str]) -> dict[str, tuple[Place, ...]]:
    """Original names of a UNet's layers, given their paths in diffusers, with where they are found.

    Many adapters are published under them, whichever layout the checkpoint is in.
    """
    known = list(paths)
    size = count_below(known, "down_blocks.0.resnets.") + 1
    attends = {path.partition(".attentions.")[0] for path in known if ".attentions." in path}
    parts: dict[str, Part] = {}
    for path in known:
        if (original := _original(path, size, attends)) is not None:
            parts[f"{path}.weight"] = Part(f"{original}.weight")
    return originals_of(parts)


def unfit_width(family: str, shapes: Shapes) -> int | None:
    """A level's width that the published numbers of heads do not divide, so that something else must name them."""
    divisor = HEAD if family == "sdxl" else HEADS
    return next((width for width in _widths(shapes) if width % divisor), None)


def infer_config(family: str, shapes: Shapes, written: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a UNet of these tensors (diffusers' names).

    Args:
        family: `sdxl` or `sd15`.
        shapes: of all its tensors; `conv_in`, `conv_out` and an `attn2.to_k` must be among them.
        written: what is known from elsewhere, which goes before what shapes tell.
    """
    widths = _widths(shapes)
    levels = len(widths)
    attends = [f"down_blocks.{i}.attentions.0.norm.weight" in shapes for i in range(levels)]
    rises = [f"up_blocks.{i}.attentions.0.norm.weight" in shapes for i in range(levels)]
    depths = [count_below(shapes, f"down_blocks.{i}.attentions.0.transformer_blocks.") or 1 for i in range(levels)]
    if levels and not attends[-1]:
        # The middle is as deep as the innermost level says, which need not have attention itself.
        depths[-1] = count_below(shapes, "mid_block.attentions.0.transformer_blocks.") or 1
    config: dict[str, Any] = {
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "block_out_channels": widths,
        "down_block_types": ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in rises],
        "layers_per_block": count_below(shapes, "down_blocks.0.resnets."),
        "transformer_layers_per_block": depths,
        "cross_attention_dim": cross_width(shapes),
        "use_linear_projection": any(
            name.endswith(".proj_in.weight") and len(shape) == 2 for name, shape in shapes.items()
        ),
    }
    if family == "sdxl":
        config["addition_embed_type"] = "text_time"
        config["addition_time_embed_dim"] = TIME_DIM
        config["projection_class_embeddings_input_dim"] = shapes.get("add_embedding.linear_1.weight", (0, 0))[-1]
    # What diffusers calls a dimension here counts heads.
    config["attention_head_dim"] = [width // HEAD for width in widths] if family == "sdxl" else HEADS
    return {**config, **written}


def _widths(shapes: Shapes) -> list[int]:
    levels = count_below(shapes, "down_blocks.")
    return [shapes.get(f"down_blocks.{i}.resnets.0.conv1.weight", (0,))[0] for i in range(levels)]


def cross_width(shapes: Shapes) -> int:
    """The width of the text features that the attention layers read; 0 where there are none."""
    found = (shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight") and len(shape) == 2)
    return next(found, 0)


def _original(path: str, size: int, attends: Container[str]) -> str | None:
    stems = {ours: theirs for theirs, ours in _STEMS.items()}
    resnet = {ours: theirs for theirs, ours in _RESNET.items()}
    if path in stems:
        return stems[path]
    if middle := re.fullmatch(r"mid_block\.(\w+\.\d)\.(.+)", path):
        place = next((place for place, name in _MIDDLE.items() if name == middle[1]), None)
        return None if place is None else f"middle_block.{place}.{resnet.get(middle[2], middle[2])}"
    block = re.fullmatch(r"((down|up)_blocks\.(\d+))\.(\w+)\.(\d+)\.(.+)", path)
    if block is None:
        return None
    level, kind, layer = int(block[3]), block[4], int(block[5])
    if block[2] == "down":
        stem = f"input_blocks.{1 + level * size + layer}"
        changed = f"input_blocks.{(level + 1) * size}.0.op"
    else:
        stem = f"output_blocks.{level * size + layer}"
        changed = f"output_blocks.{(level + 1) * size - 1}.{1 + (block[1] in attends)}.conv"
    if kind == "resnets":
        return f"{stem}.0.{resnet.get(block[6], block[6])}"
    return f"{stem}.1.{block[6]}" if kind == "attentions" else changed


def _translator(names: Iterable[str]) -> Callable[[str], str]:
    numbers: list[int] = []
    first_down: int | None = None
    for name in names:
        block = _BLOCK.fullmatch(name)
        if block and block[1] == "input_blocks":
            numbers.append(int(block[2]))
            if block[4].startswith("op."):
                first_down = min(int(block[2]), first_down or int(block[2]))
    # Each level has its layers and then what changes the size, which the last one lacks.
    size = first_down or max(numbers, default=0) + 1

    def translate(module: str) -> str:
        if module in _STEMS:
            return _STEMS[module]
        middle = re.fullmatch(r"middle_block\.([012])\.(.+)", module)
        if middle:
            return f"mid_block.{_MIDDLE[middle[1]]}.{_RESNET.get(middle[2], middle[2])}"
        block = _BLOCK.fullmatch(module)
        if block is None:
            return module
        down = block[1] == "input_blocks"
        level, layer = divmod(int(block[2]) - down, size)
        stem = f"{'down' if down else 'up'}_blocks.{level}"
        if block[4] in ("op", "conv"):
            return f"{stem}.{'downsamplers' if down else 'upsamplers'}.0.conv"
        if block[3] == "0":
            return f"{stem}.resnets.{layer}.{_RESNET.get(block[4], block[4])}"
        return f"{stem}.attentions.{layer}.{block[4]}"

    return translate
