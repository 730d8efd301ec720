"""Load T5's encoder and its tokenizer; FLUX reads with it, and so do others.

It is published as a folder of transformers' kind and as a single file under the same names (ComfyUI's `t5xxl`). The
decoder, where a file has one, is left out. This module knows no family. Invariant: no file is opened outside the paths
that it was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from limner.engine.checkpoints import require_plain_numbers
from limner.engine.families.shared_weights import count_below, written_config
from limner.engine.tensor_files import TensorSource, open_tensors, some
from limner.engine.weights import Part, build_network, fill_network, read_config, require_real
from limner.errors import BrokenCheckpoint

T5_PREFIXES = ("text_encoders.t5xxl.transformer.",)
SHARED = "shared.weight"
EMBEDDING = "encoder.embed_tokens.weight"
POSITIONS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
QUERY = "encoder.block.0.layer.0.SelfAttention.q.weight"
# The encoder's last layer of a block is its feed-forward; version 1.1 gates it with a second matrix.
GATED = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"
PLAIN = "encoder.block.0.layer.1.DenseReluDense.wi.weight"
# T5's published facts that no tensor shows.
T5_FACTS: dict[str, Any] = {"relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6}
_OTHER = ("decoder.", "lm_head.", "logit_scale")


def load_t5(
    path: Path, dtype: torch.dtype, device: torch.device | str = "cpu", prefixes: tuple[str, ...] = T5_PREFIXES
) -> T5EncoderModel:
    """A T5 encoder from a folder or a single file.

    Args:
        path: a folder of transformers' kind, or a file.
        dtype: what the weights become.
        device: where they shall lie.
        prefixes: where in a file of several parts the encoder lies; the first that any name has.

    Raises:
        BrokenCheckpoint: it is not a T5, or tensors are missing, foreign or of wrong shapes.
        Unsupported: its weights are quantised.
    """
    source = open_tensors(path).under(*prefixes)
    require_plain_numbers(source)
    config = read_config(path)
    if config is not None and config.get("model_type", "t5") != "t5":
        raise BrokenCheckpoint(
            f"`{path}` holds a text encoder of type {config['model_type']}; expected t5. Fetch the right one.",
            file=str(path),
        )
    settings = config if config is not None else _config(source)
    network = build_network(lambda: T5EncoderModel(T5Config(**settings)), settings, path)
    fill_network(network, source, t5_parts(source.tensors), dtype=dtype, device=device)
    # One table under two names; it is loaded once and kept once.
    tied: Any = network
    tied.encoder.embed_tokens.weight = tied.shared.weight
    require_real(network)
    return network


def load_t5_tokenizer(path: Path) -> T5Tokenizer:
    """The tokenizer in the folder `path`: a tokenizer.json with its tokenizer_config.json.

    Raises:
        BrokenCheckpoint: it cannot be read, or is not T5's.
    """
    try:
        tokenizer: Any = cast(Any, T5Tokenizer).from_pretrained(str(path), local_files_only=True)
        ends = int(tokenizer("").input_ids[-1]) == tokenizer.eos_token_id
    except Exception as error:  # the tokenizers library raises bare exceptions
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BrokenCheckpoint(
            f"The tokenizer in `{path}` cannot be read: {first}. Fetch the folder again.", file=str(path)
        ) from error
    if not ends or tokenizer.pad_token_id is None:
        raise BrokenCheckpoint(
            f"The tokenizer in `{path}` is not T5's: it does not end a text with its end mark, or has no padding. "
            "Fetch the tokenizer_2/ folder of the model's page.",
            file=str(path),
        )
    return tokenizer


def t5_parts(names: Iterable[str]) -> dict[str, Part]:
    """Where `T5EncoderModel`'s tensors lie among stored ones; the embedding may have either of its two names."""
    parts = {name: Part(name) for name in names if not name.startswith(_OTHER)}
    if table := parts.get(SHARED) or parts.get(EMBEDDING):
        parts[SHARED] = parts[EMBEDDING] = table
    return parts


def _config(source: TensorSource) -> dict[str, Any]:
    shapes = {name: source.tensors[part.name].shape for name, part in t5_parts(source.tensors).items()}
    gated = GATED in shapes
    needed = (SHARED, POSITIONS, QUERY, GATED if gated else PLAIN)
    if missing := [name for name in needed if len(shapes.get(name, ())) != 2]:
        raise BrokenCheckpoint(
            f"`{source.path}` is not a T5 text encoder: it lacks {some(missing)}. "
            "Choose the one that the checkpoint was published with (t5xxl).",
            file=str(source.path),
        )
    vocabulary, width = shapes[SHARED]
    buckets, heads = shapes[POSITIONS]
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": shapes[QUERY][0] // max(1, heads),
        "d_ff": shapes[GATED if gated else PLAIN][0],
        "num_layers": count_below(shapes, "encoder.block."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        **T5_FACTS,
        **written_config(source, T5Config),
    }
