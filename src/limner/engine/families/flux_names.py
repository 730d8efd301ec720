"""What FLUX.1's transformer is called in its two layouts, and the configuration that its tensors show.

diffusers' layout and the original one, which ComfyUI uses too. The original one fuses projections (`img_attn.qkv`,
`txt_attn.qkv`, `linear1`) and keeps the last modulation as shift and scale where diffusers has scale and shift. Names
and shapes only; nothing here loads a weight. Invariant: every mapping is of names and rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

from limner.engine.adapter_targets import Place, Targets
from limner.engine.families.shared_weights import CONFIG_METADATA, count_below, written_config
from limner.engine.tensor_files import TensorSource, some
from limner.engine.weights import Part
from limner.errors import BrokenCheckpoint

# The rotary axes of the published model, by the size of its heads; shapes do not show them.
KNOWN_AXES = {128: [16, 56, 56]}
HEAD_NORM = "attn.norm_q.weight"
_OUTSIDE = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_SINGLE = {
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
    "linear2": "proj_out",
}
_FUSED_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_FUSED_SINGLE = {"linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")}
# The original blocks, diffusers' name of them, what is called otherwise within, and what is in one piece there.
_BLOCKS: Mapping[str, tuple[str, Mapping[str, str], Mapping[str, tuple[str, ...]]]] = {
    "double_blocks": ("transformer_blocks", _DOUBLE, _FUSED_DOUBLE),
    "single_blocks": ("single_transformer_blocks", _SINGLE, _FUSED_SINGLE),
}
_BLOCK = re.compile(r"(double_blocks|single_blocks)\.(\d+)\.(.+)\.(weight|bias|scale)")
_SWAPPED = "final_layer.adaLN_modulation.1"


def transformer_parts(source: TensorSource) -> dict[str, Part]:
    """diffusers' name of every tensor of a transformer, whichever of the two layouts it is in."""
    parts: dict[str, Part] = {}
    for name, facts in source.tensors.items():
        stem, _, leaf = name.rpartition(".")
        if (block := _BLOCK.fullmatch(name)) is None:
            parts[f"{_OUTSIDE.get(stem, stem)}.{leaf}"] = Part(name, swapped=stem == _SWAPPED)
            continue
        kind, number, inner, _ = block.groups()
        blocks, names, fused = _BLOCKS[kind]
        if inner not in fused:
            leaf = "weight" if leaf == "scale" else leaf
            parts[f"{blocks}.{number}.{names.get(inner, inner)}.{leaf}"] = Part(name)
            continue
        start = 0
        rows = facts.shape[0] if facts.shape else 0
        width = _width(source) or rows // len(fused[inner])
        for target in fused[inner]:
            end = rows if target == fused[inner][-1] else start + width
            parts[f"{blocks}.{number}.{target}.{leaf}"] = Part(name, rows=slice(start, end))
            start = end
    return parts


def original_names(targets: Targets) -> dict[str, tuple[Place, ...]]:
    """What the original code calls the transformer's layers, for adapters that were trained under its names.

    Args:
        targets: the layers, under diffusers' names, whichever layout they were loaded from.
    """
    named: dict[str, tuple[Place, ...]] = {
        theirs: (Place(ours, swapped=theirs == _SWAPPED),) for theirs, ours in _OUTSIDE.items()
    }
    for kind, (blocks, names, fused) in _BLOCKS.items():
        for number in range(count_below(targets, f"{blocks}.")):
            ours, theirs = f"{blocks}.{number}", f"{kind}.{number}"
            named |= {f"{theirs}.{name}": (Place(f"{ours}.{path}"),) for name, path in names.items()}
            for name, paths in fused.items():
                named[f"{theirs}.{name}"] = _side_by_side([f"{ours}.{path}" for path in paths], targets)
    return {name: places for name, places in named.items() if all(place.path in targets for place in places)}


def infer_config(source: TensorSource, parts: Mapping[str, Part]) -> dict[str, Any]:
    """The configuration of a transformer that comes without one, from the shapes of its tensors.

    Raises:
        BrokenCheckpoint: tensors that every FLUX transformer has are missing, or the rotary axes cannot be known.
    """
    shapes = {name: part.shape(source.tensors[part.name].shape) for name, part in parts.items()}
    head_norm = next((name for name in shapes if name.endswith(HEAD_NORM)), f"transformer_blocks.0.{HEAD_NORM}")
    landmarks = {
        "x_embedder.weight": 2,
        "context_embedder.weight": 2,
        "time_text_embed.text_embedder.linear_1.weight": 2,
        "proj_out.weight": 2,
        head_norm: 1,
    }
    if missing := [name for name, sides in landmarks.items() if len(shapes.get(name, ())) != sides]:
        raise BrokenCheckpoint(
            f"`{source.path}` lacks {some(missing)}, which every FLUX transformer has. Fetch it again.",
            file=str(source.path),
        )
    width, packed = shapes["x_embedder.weight"]
    head = shapes[head_norm][0]
    written = written_config(source, FluxTransformer2DModel)
    axes = written.get("axes_dims_rope") or KNOWN_AXES.get(head)
    if axes is None:
        raise BrokenCheckpoint(
            f"`{source.path}` has heads of {head} numbers, and nothing says how the rotary axes share them. "
            f'Load its diffusers folder, or write {{"axes_dims_rope": [a, b, c]}} into the file\'s '
            f"`{CONFIG_METADATA}`.",
            file=str(source.path),
        )
    return {
        "patch_size": 1,
        "in_channels": packed,
        "out_channels": shapes["proj_out.weight"][0],
        "num_layers": count_below(shapes, "transformer_blocks."),
        "num_single_layers": count_below(shapes, "single_transformer_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "pooled_projection_dim": shapes["time_text_embed.text_embedder.linear_1.weight"][1],
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in shapes,
        **written,
        "axes_dims_rope": axes,
    }


def _width(source: TensorSource) -> int | None:
    """The width of the original layout's tokens, which says where `linear1` is to be cut."""
    shape = source.tensors[name].shape if (name := "img_in.weight") in source.tensors else ()
    return shape[0] if shape else None


def _side_by_side(paths: Sequence[str], targets: Targets) -> tuple[Place, ...]:
    places: list[Place] = []
    start = 0
    for path in paths:
        end = start + targets.get(path, (0,))[0]
        places.append(Place(path, slice(start, end)))
        start = end
    return tuple(places)
