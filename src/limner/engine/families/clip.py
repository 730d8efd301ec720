"""Load CLIP's text encoders and their tokenizers; SD 1.5, SDXL and FLUX read with them.

Two layouts are published: that of transformers (OpenAI's CLIP-L, ComfyUI's `clip_l` and `clip_g` files, diffusers
folders), and that of OpenCLIP, in which SDXL's single files keep the larger encoder: q, k and v fused in `in_proj`, the
projection the other way round. This module knows no family. Invariant: names and shapes alone decide what a file holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from limner.engine.checkpoints import require_plain_numbers
from limner.engine.families.shared_weights import count_below, written_config
from limner.engine.tensor_files import TensorSource, open_tensors, some
from limner.engine.weights import Network, Part, build_network, fill_network, read_config, require_real
from limner.errors import BrokenCheckpoint

CLIP_L_PREFIXES = (
    "conditioner.embedders.0.transformer.",
    "cond_stage_model.transformer.",
    "text_encoders.clip_l.transformer.",
)
CLIP_G_PREFIXES = ("conditioner.embedders.1.model.", "text_encoders.clip_g.transformer.")
HEAD = 64
"""The size of a head in every published CLIP."""
# OpenAI trained its encoder with an approximation of GELU, OpenCLIP its larger ones with GELU itself.
ACTIVATIONS = {768: "quick_gelu", 1024: "gelu", 1280: "gelu"}
PROJECTION = "text_projection.weight"
TOKENS = "embeddings.token_embedding.weight"
POSITIONS = "embeddings.position_embedding.weight"
_MARKS = (TOKENS, POSITIONS, "encoder.layers.0.mlp.fc1.weight")
_OPEN_NAMES = {
    "positional_embedding": POSITIONS,
    "token_embedding.weight": TOKENS,
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_OPEN_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_OPEN_LEAVES = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"} | {
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
# Constants and CLIP's temperature, which nothing here reads.
_UNUSED = ("embeddings.position_ids", "logit_scale", "attn_mask")


def load_clip(
    path: Path, dtype: torch.dtype, device: torch.device | str = "cpu", prefixes: tuple[str, ...] = ()
) -> CLIPTextModel:
    """A CLIP text encoder without its projection, from a folder or a single file.

    Args:
        path: a folder of transformers' kind, or a safetensors file in either layout.
        dtype: what the weights become.
        device: where they shall lie.
        prefixes: where in a file of several parts the encoder lies; the first that any name has.

    Raises:
        BrokenCheckpoint: it is not a CLIP text encoder, or tensors are missing, foreign or of wrong shapes.
        Unsupported: its weights are quantised.
    """
    return _load(CLIPTextModel, path, dtype, device, prefixes)


def load_projecting_clip(
    path: Path, dtype: torch.dtype, device: torch.device | str = "cpu", prefixes: tuple[str, ...] = ()
) -> CLIPTextModelWithProjection:
    """As `load_clip`, with the projection that a pooled vector needs (SDXL's larger encoder)."""
    return _load(CLIPTextModelWithProjection, path, dtype, device, prefixes)


def load_clip_tokenizer(path: Path) -> CLIPTokenizer:
    """The tokenizer in the folder `path`: a tokenizer.json, or vocab.json with merges.txt.

    Raises:
        BrokenCheckpoint: it cannot be read, or has no marks of a text's beginning and end.
    """
    try:
        tokenizer: Any = cast(Any, CLIPTokenizer).from_pretrained(str(path), local_files_only=True)
        marks = [tokenizer.convert_tokens_to_ids(str(mark)) for mark in (tokenizer.bos_token, tokenizer.eos_token)]
    except Exception as error:  # the tokenizers library raises bare exceptions
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BrokenCheckpoint(
            f"The tokenizer in `{path}` cannot be read: {first}. Fetch the folder again.", file=str(path)
        ) from error
    if None in marks or len(set(marks)) < 2:
        raise BrokenCheckpoint(
            f"The tokenizer in `{path}` has no marks of a text's beginning and end, which CLIP's has. "
            "Fetch the tokenizer that the checkpoint was published with.",
            file=str(path),
        )
    return tokenizer


def clip_parts(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Part]:
    """Where `CLIPTextModel`'s tensors lie among stored ones, whichever layout they are of.

    Names are those of the encoder itself (`encoder.layers.0.…`), without the `text_model.` that it is often stored
    under; the projection, where there is one, is `text_projection.weight`. Names of neither layout are kept.
    """
    parts: dict[str, Part] = {}
    for name, shape in shapes.items():
        layer = _OPEN_LAYER.fullmatch(name)
        if name == "text_projection":
            parts[PROJECTION] = Part(name, transposed=True)
        elif name in _OPEN_NAMES:
            parts[_OPEN_NAMES[name]] = Part(name)
        elif layer is None:
            bare = name.removeprefix("text_model.")
            if bare not in _UNUSED:
                parts[bare] = Part(name)
        else:
            stem = f"encoder.layers.{layer[1]}."
            if fused := re.fullmatch(r"attn\.in_proj_(weight|bias)", layer[2]):
                third = shape[0] // 3 if shape else 0
                for place, letter in enumerate("qkv"):
                    rows = slice(place * third, (place + 1) * third)
                    parts[f"{stem}self_attn.{letter}_proj.{fused[1]}"] = Part(name, rows=rows)
            else:
                module, _, kind = layer[2].rpartition(".")
                parts[f"{stem}{_OPEN_LEAVES.get(module, module)}.{kind}"] = Part(name)
    return parts


def network_parts(shapes: Mapping[str, tuple[int, ...]], kind: type[nn.Module]) -> dict[str, Part]:
    """As `clip_parts`, under the names of a network of that class; a projection that it lacks is left out."""
    stem = "text_model." if _is_wrapped(kind) else ""
    return {
        name if name == PROJECTION else stem + name: part
        for name, part in clip_parts(shapes).items()
        if name != PROJECTION or kind is CLIPTextModelWithProjection
    }


@lru_cache
def _is_wrapped(kind: Any) -> bool:
    # Releases of transformers differ in whether the encoder lies one level deeper.
    with torch.device("meta"):
        return hasattr(kind(CLIPTextConfig(num_hidden_layers=1)), "text_model")


def _load(
    kind: type[Network], path: Path, dtype: torch.dtype, device: torch.device | str, prefixes: tuple[str, ...]
) -> Network:
    source = open_tensors(path).under(*prefixes)
    require_plain_numbers(source)
    parts = clip_parts(source.shapes)
    config = read_config(path)
    if config is not None and not str(config.get("model_type", "clip")).startswith("clip"):
        raise BrokenCheckpoint(
            f"`{path}` holds a text encoder of type {config['model_type']}; expected CLIP. Fetch the right one.",
            file=str(path),
        )
    settings = config if config is not None else _config(source, parts)
    factory: Any = kind
    network: Network = build_network(lambda: factory(CLIPTextConfig(**settings)), settings, path)
    fill_network(network, source, network_parts(source.shapes, kind), dtype=dtype, device=device)
    for module in network.modules():
        # Position numbers are computed, not stored.
        if isinstance(getattr(module, "position_ids", None), torch.Tensor):
            count = int(settings.get("max_position_embeddings", 77))
            module.register_buffer("position_ids", torch.arange(count, device=device)[None], persistent=False)
    require_real(network)
    return network


def _config(source: TensorSource, parts: Mapping[str, Part]) -> dict[str, Any]:
    shapes = {name: part.shape(source.tensors[part.name].shape) for name, part in parts.items()}
    if missing := [name for name in _MARKS if len(shapes.get(name, ())) != 2]:
        raise BrokenCheckpoint(
            f"`{source.path}` is not a CLIP text encoder: it lacks {some(missing)}. "
            "Choose the one that the checkpoint was published with.",
            file=str(source.path),
        )
    (vocabulary, width), (positions, _) = shapes[TOKENS], shapes[POSITIONS]
    written = written_config(source, CLIPTextConfig)
    opened = any(_OPEN_LAYER.fullmatch(name) for name in source.tensors)
    activation = "gelu" if opened else written.get("hidden_act") or ACTIVATIONS.get(width)
    if activation is None:
        raise BrokenCheckpoint(
            f"`{source.path}` is a CLIP text encoder of width {width}, and nothing says which activation it has. "
            'Load its folder, or write {"hidden_act": "quick_gelu"} or "gelu" into the file\'s `limner.config`.',
            file=str(source.path),
        )
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "projection_dim": shapes.get(PROJECTION, (width,))[0],
        "num_hidden_layers": count_below(shapes, "encoder.layers."),
        "num_attention_heads": max(1, width // HEAD),
        "max_position_embeddings": positions,
        # The marks of beginning and end are the last two words of CLIP's vocabulary.
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
        **written,
        "hidden_act": activation,
    }
