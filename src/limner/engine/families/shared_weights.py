"""Load the parts that several families share: the Qwen3 text encoder, the AutoencoderKL, their tokenizers.

Each is read in the layouts in which it is published: a diffusers folder with its config, or a single file of ComfyUI or
of the original code, whose configuration is inferred from the shapes of its tensors. What shapes cannot tell is taken
from the file's own metadata (`limner.config`, a JSON object), else from the published model's facts. This module knows
no family. Invariant: no file is opened outside the paths that it was given.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model, Qwen3RotaryEmbedding

from limner.engine.checkpoints import require_plain_numbers
from limner.engine.tensor_files import TensorSource, open_tensors, some
from limner.engine.weights import (
    Part,
    build_network,
    fill_network,
    read_config,
    require_real,
)
from limner.errors import BrokenCheckpoint

CONFIG_METADATA = "limner.config"
TEXT_PREFIXES = ("text_encoders.qwen3_4b.transformer.model.", "text_encoders.qwen3_4b.transformer.", "model.")
VAE_PREFIXES = ("first_stage_model.", "vae.")
# Qwen3's published facts that no tensor shows.
QWEN3_FACTS: dict[str, Any] = {"rope_theta": 1_000_000.0, "rms_norm_eps": 1e-6, "max_position_embeddings": 40_960}
# Those of FLUX's autoencoder, which Z-Image uses too: 16 channels, no quantisation layers.
VAE_FACTS: dict[str, Any] = {
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "sample_size": 1024,
    "force_upcast": True,
}
VAE_GROUPS = 32


def load_qwen3(path: Path, dtype: torch.dtype, device: torch.device | str = "cpu") -> Qwen3Model:
    """A Qwen3 text encoder without its language head, from a folder or a single file.

    Raises:
        BrokenCheckpoint: it is not a Qwen3, or tensors are missing, foreign or of wrong shapes.
        Unsupported: its weights are quantised.
    """
    source = open_tensors(path).under(*TEXT_PREFIXES)
    require_plain_numbers(source)
    config = read_config(path)
    if config is not None and config.get("model_type", "qwen3") != "qwen3":
        raise BrokenCheckpoint(
            f"`{path}` holds a text encoder of type {config['model_type']}; expected qwen3. Fetch the right one.",
            file=str(path),
        )
    settings = config if config is not None else _qwen3_config(source)
    network = build_network(lambda: Qwen3Model(Qwen3Config(**settings)), settings, path)
    parts = {name: Part(name) for name in source.tensors if name != "lm_head.weight"}
    fill_network(network, source, parts, dtype=dtype, device=device)
    # The rotary tables are computed, not stored.
    network.rotary_emb = Qwen3RotaryEmbedding(network.config).to(device)
    require_real(network)
    return network


def load_vae(
    path: Path, dtype: torch.dtype, device: torch.device | str = "cpu", facts: Mapping[str, Any] = VAE_FACTS
) -> AutoencoderKL:
    """An AutoencoderKL from a diffusers folder, or a single file under diffusers' or the original (LDM) names.

    `facts` are those that no tensor of a single file shows.

    Raises:
        BrokenCheckpoint: tensors are missing, foreign or of wrong shapes.
        Unsupported: its weights are quantised.
    """
    source = open_tensors(path).under(*VAE_PREFIXES)
    require_plain_numbers(source)
    parts = vae_parts(source.tensors)
    config = read_config(path)
    if config is None:
        config = _vae_config(
            source, {name: part.shape(source.tensors[part.name].shape) for name, part in parts.items()}, facts
        )
    network = build_network(lambda: cast(AutoencoderKL, cast(Any, AutoencoderKL).from_config(config)), config, path)
    fill_network(network, source, parts, dtype=dtype, device=device)
    require_real(network)
    return network


def load_tokenizer(path: Path) -> Any:
    """The tokenizer in the folder `path`, with its chat template.

    Raises:
        BrokenCheckpoint: it cannot be read, or has no chat template.
    """
    try:
        tokenizer: Any = cast(Any, AutoTokenizer).from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the tokenizers library raises bare exceptions
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BrokenCheckpoint(
            f"The tokenizer in `{path}` cannot be read: {first}. Fetch the folder again.", file=str(path)
        ) from error
    if not tokenizer.chat_template:
        raise BrokenCheckpoint(
            f"The tokenizer in `{path}` has no chat template. Put the tokenizer_config.json of the model's page "
            "(or its chat_template.jinja) beside it.",
            file=str(path),
        )
    return tokenizer


def written_config(source: TensorSource, network: type) -> dict[str, Any]:
    """What a single file says in its metadata of the network of this class (or configuration); mostly nothing.

    Raises:
        BrokenCheckpoint: the metadata is not a JSON object.
    """
    text = source.metadata.get(CONFIG_METADATA, "{}")
    try:
        written = dict(cast("Mapping[str, Any]", json.loads(text)))
    except (ValueError, TypeError, RecursionError) as error:
        raise BrokenCheckpoint(
            f"`{source.path}` has an unreadable `{CONFIG_METADATA}` in its metadata: {error}.", file=str(source.path)
        ) from error
    # One object may describe all the networks of a file.
    return {name: value for name, value in written.items() if name in inspect.signature(network).parameters}


def count_below(names: Iterable[str], prefix: str) -> int:
    """How many numbered children the names show below `prefix`, such as `layers.`."""
    numbers = [name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)]
    return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1


def vae_parts(names: Iterable[str]) -> dict[str, Part]:
    """diffusers' name of every tensor of an autoencoder, whichever of the two layouts the names are of."""
    # What the training left behind is no part of the network.
    known = [name for name in names if not name.startswith(("loss.", "model_ema."))]
    ups = count_below(known, "decoder.up.")
    return {
        _vae_name(name, ups): Part(name, flat=bool(re.search(r"\.(attn_1|attentions\.0)\.", name))) for name in known
    }


def _vae_name(name: str, ups: int) -> str:
    def up(match: re.Match[str]) -> str:
        # The original code counts the decoder's blocks from the picture inwards.
        return f"decoder.up_blocks.{ups - 1 - int(match[1])}."

    name = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", name)
    name = re.sub(r"^decoder\.up\.(\d+)\.", up, name)
    name = re.sub(r"_blocks\.(\d+)\.block\.", r"_blocks.\1.resnets.", name)
    name = re.sub(r"\.(down|up)sample\.conv\.", r".\1samplers.0.conv.", name)
    name = re.sub(r"\.mid\.block_(\d)\.", lambda match: f".mid_block.resnets.{int(match[1]) - 1}.", name)
    name = name.replace(".mid.attn_1.", ".mid_block.attentions.0.").replace(".nin_shortcut.", ".conv_shortcut.")
    name = re.sub(r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out.", name)
    stem, middle, leaf = name.partition(".attentions.0.")
    if middle:
        leaf = re.sub(r"^norm\.", "group_norm.", leaf)
        leaf = re.sub(r"^(proj_out|proj_attn)\.", "to_out.0.", leaf)
        leaf = re.sub(r"^(q|k|v)(uery|ey|alue)?\.", r"to_\1.", leaf)
    return stem + middle + leaf


def _qwen3_config(source: TensorSource) -> dict[str, Any]:
    shapes = source.shapes
    needed = ["embed_tokens.weight", *(f"layers.0.{part}.weight" for part in _QWEN3_LAYER)]
    if missing := [name for name in needed if name not in shapes]:
        raise BrokenCheckpoint(
            f"`{source.path}` is not a Qwen3 text encoder: it lacks {some(missing)}. "
            "Choose the one that the checkpoint was published with.",
            file=str(source.path),
        )
    vocabulary, hidden = shapes["embed_tokens.weight"]
    (head,) = shapes["layers.0.self_attn.q_norm.weight"]
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": shapes["layers.0.mlp.gate_proj.weight"][0],
        "num_hidden_layers": count_below(shapes, "layers."),
        "head_dim": head,
        "num_attention_heads": shapes["layers.0.self_attn.q_proj.weight"][0] // head,
        "num_key_value_heads": shapes["layers.0.self_attn.k_proj.weight"][0] // head,
        "attention_bias": "layers.0.self_attn.q_proj.bias" in shapes,
        **QWEN3_FACTS,
        **written_config(source, Qwen3Config),
    }


_QWEN3_LAYER = ("self_attn.q_norm", "self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj")


def _vae_config(
    source: TensorSource, shapes: Mapping[str, tuple[int, ...]], facts: Mapping[str, Any]
) -> dict[str, Any]:
    needed = ("encoder.conv_in.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
    blocks = count_below(shapes, "encoder.down_blocks.")
    if (missing := [name for name in needed if name not in shapes]) or not blocks:
        raise BrokenCheckpoint(
            f"`{source.path}` is not an image autoencoder (AutoencoderKL): it lacks "
            f"{some(missing or ['encoder.down_blocks'])}. Choose the one that the checkpoint was published with.",
            file=str(source.path),
        )
    widths = [shapes.get(f"encoder.down_blocks.{i}.resnets.0.conv1.weight", (0,))[0] for i in range(blocks)]
    latent = dict(enumerate(shapes["decoder.conv_in.weight"])).get(1, 0)
    config: dict[str, Any] = {
        "in_channels": dict(enumerate(shapes["encoder.conv_in.weight"])).get(1, 3),
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "block_out_channels": widths,
        "layers_per_block": count_below(shapes, "encoder.down_blocks.0.resnets."),
        "latent_channels": latent,
        "norm_num_groups": VAE_GROUPS,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": "decoder.mid_block.attentions.0.to_q.weight" in shapes,
        **facts,
        **written_config(source, AutoencoderKL),
    }
    if unfit := [width for width in widths if not width or width % int(config["norm_num_groups"])]:
        groups = config["norm_num_groups"]
        raise BrokenCheckpoint(
            f"`{source.path}` has blocks of {unfit[0]} channels, which {groups} groups do not divide. "
            f"Shapes cannot tell the number of groups: name `norm_num_groups` in the file's `{CONFIG_METADATA}`.",
            file=str(source.path),
        )
    return config
