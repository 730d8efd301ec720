"""Small FLUX checkpoints of the real classes, written in every layout that limner reads.

Weights are drawn at random from a seed. The key map is the inverse of the loader's and is written down on its own, so
that a mistake in one does not hide in the other. The tokenizers are of the real classes with a few words, so that the
same objects serve diffusers' pipelines and ours.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from limner.engine.checkpoints import CheckpointFiles
from limner.engine.families.flux_weights import Components
from tests.support.checkpoints import VAE, original_vae, state, write

TRANSFORMER: dict[str, Any] = {
    "in_channels": 64,
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 24,
    "pooled_projection_dim": 16,
    "guidance_embeds": True,
    "axes_dims_rope": [4, 6, 6],
}
CLIP: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "projection_dim": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
T5: dict[str, Any] = {
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
}
WORDS = ("a", "red", "blue", "boat", "tree", "house", "on", "the", "sea", "at", "night")
# What shapes cannot tell of networks this small.
WRITTEN: dict[str, Any] = {"axes_dims_rope": [4, 6, 6], "hidden_act": "quick_gelu", "norm_num_groups": 4}
_OUTSIDE = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "proj_out": "final_layer.linear",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
} | {
    f"time_text_embed.{ours}.linear_{number}": f"{theirs}.{layer}"
    for ours, theirs in (
        ("timestep_embedder", "time_in"),
        ("guidance_embedder", "guidance_in"),
        ("text_embedder", "vector_in"),
    )
    for number, layer in ((1, "in_layer"), (2, "out_layer"))
}
_FUSED = {
    "double_blocks.{}.img_attn.qkv": [f"transformer_blocks.{{}}.attn.to_{letter}" for letter in "qkv"],
    "double_blocks.{}.txt_attn.qkv": [f"transformer_blocks.{{}}.attn.add_{letter}_proj" for letter in "qkv"],
    "single_blocks.{}.linear1": [
        *(f"single_transformer_blocks.{{}}.attn.to_{letter}" for letter in "qkv"),
        "single_transformer_blocks.{}.proj_mlp",
    ],
}
_WITHIN = {
    "double_blocks.{}.img_mod.lin": "transformer_blocks.{}.norm1.linear",
    "double_blocks.{}.txt_mod.lin": "transformer_blocks.{}.norm1_context.linear",
    "double_blocks.{}.img_attn.proj": "transformer_blocks.{}.attn.to_out.0",
    "double_blocks.{}.txt_attn.proj": "transformer_blocks.{}.attn.to_add_out",
    "double_blocks.{}.img_mlp.0": "transformer_blocks.{}.ff.net.0.proj",
    "double_blocks.{}.img_mlp.2": "transformer_blocks.{}.ff.net.2",
    "double_blocks.{}.txt_mlp.0": "transformer_blocks.{}.ff_context.net.0.proj",
    "double_blocks.{}.txt_mlp.2": "transformer_blocks.{}.ff_context.net.2",
    "single_blocks.{}.modulation.lin": "single_transformer_blocks.{}.norm.linear",
    "single_blocks.{}.linear2": "single_transformer_blocks.{}.proj_out",
}
_SCALES = {
    "double_blocks.{}.img_attn.norm.query_norm": "transformer_blocks.{}.attn.norm_q",
    "double_blocks.{}.img_attn.norm.key_norm": "transformer_blocks.{}.attn.norm_k",
    "double_blocks.{}.txt_attn.norm.query_norm": "transformer_blocks.{}.attn.norm_added_q",
    "double_blocks.{}.txt_attn.norm.key_norm": "transformer_blocks.{}.attn.norm_added_k",
    "single_blocks.{}.norm.query_norm": "single_transformer_blocks.{}.attn.norm_q",
    "single_blocks.{}.norm.key_norm": "single_transformer_blocks.{}.attn.norm_k",
}


@dataclass
class SmallFlux:
    """A FLUX model of some ten thousand parameters."""

    transformer: FluxTransformer2DModel
    text_encoder: CLIPTextModel
    text_encoder_2: T5EncoderModel
    tokenizer: CLIPTokenizer
    tokenizer_2: T5Tokenizer
    vae: AutoencoderKL

    def components(self) -> Components:
        """The same as the loader would answer."""
        files = CheckpointFiles("small", "flux", "diffusers", Path("/nowhere"), {})
        return Components(files, **vars(self))


def small_flux(seed: int = 0, **changes: Any) -> SmallFlux:
    """Components with random weights; `changes` replace fields of the transformer's configuration."""
    clip_tokenizer, t5_tokenizer = small_tokenizers()
    words = len(cast(Any, clip_tokenizer))
    clip_settings: dict[str, Any] = CLIP | {"vocab_size": words, "bos_token_id": words - 2}
    clip_settings |= {"eos_token_id": words - 1, "pad_token_id": words - 1}
    with cast(Any, torch.random).fork_rng(devices=[]):
        transformer = FluxTransformer2DModel(**(TRANSFORMER | changes))
        clip = CLIPTextModel(CLIPTextConfig(**clip_settings))
        t5 = T5EncoderModel(T5Config(vocab_size=len(cast(Any, t5_tokenizer)), **T5))
        vae = cast(AutoencoderKL, cast(Any, AutoencoderKL).from_config(VAE))
    random = torch.Generator().manual_seed(seed)
    for network in (transformer, clip, t5, vae):
        for parameter in network.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5, generator=random)
            else:
                nn.init.normal_(parameter, mean=0.5, std=0.2, generator=random)
        network.eval().requires_grad_(False)
    return SmallFlux(transformer, clip, t5, clip_tokenizer, t5_tokenizer, vae)


def small_tokenizers() -> tuple[CLIPTokenizer, T5Tokenizer]:
    """CLIP's, which knows letters, and T5's, which knows a dozen words."""
    pieces = [*string.ascii_lowercase, *(letter + "</w>" for letter in string.ascii_lowercase)]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    clip = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *(("▁" + word, -1.0) for word in WORDS)]
    return clip, T5Tokenizer(vocab=scores, extra_ids=0)


def save_folder(parts: SmallFlux, folder: Path) -> Path:
    """Write a diffusers folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in vars(parts).items():
        part.save_pretrained(str(folder / name))
    index = {
        "_class_name": "FluxPipeline",
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder


def save_split(parts: SmallFlux, models_dir: Path, name: str = "small") -> Path:
    """Write ComfyUI's split files; returns the transformer's."""
    file = models_dir / "diffusion_models" / f"{name}.safetensors"
    write(original_transformer(parts.transformer), file, WRITTEN)
    write(_clip(parts), models_dir / "text_encoders" / "clip_l.safetensors", WRITTEN)
    write(_t5(parts), models_dir / "text_encoders" / "t5xxl_fp16.safetensors")
    write(original_vae(parts.vae), models_dir / "vae" / "ae.safetensors", WRITTEN)
    save_tokenizers(parts, models_dir)
    return file


def save_whole(parts: SmallFlux, models_dir: Path, name: str = "all") -> Path:
    """Write one file that holds all parts, as ComfyUI's checkpoints do."""
    tensors = {f"model.diffusion_model.{k}": v for k, v in original_transformer(parts.transformer).items()}
    tensors |= {f"text_encoders.clip_l.transformer.{k}": v for k, v in _clip(parts).items()}
    tensors |= {f"text_encoders.t5xxl.transformer.{k}": v for k, v in _t5(parts).items()}
    tensors |= {f"vae.{k}": v for k, v in original_vae(parts.vae).items()}
    save_tokenizers(parts, models_dir)
    return write(tensors, models_dir / "checkpoints" / f"{name}.safetensors", WRITTEN)


def save_tokenizers(parts: SmallFlux, models_dir: Path) -> None:
    """Write the tokenizers where single files look for them."""
    cast(Any, parts.tokenizer).save_pretrained(str(models_dir / "tokenizers" / "clip"))
    cast(Any, parts.tokenizer_2).save_pretrained(str(models_dir / "tokenizers" / "t5"))


def original_transformer(network: FluxTransformer2DModel) -> dict[str, Tensor]:
    """The tensors under the names of the original code."""
    tensors = state(network)
    renamed: dict[str, Tensor] = {}
    for leaf in ("weight", "bias"):
        for ours, theirs in _OUTSIDE.items():
            if (tensor := tensors.pop(f"{ours}.{leaf}", None)) is not None:
                if ours == "norm_out.linear":
                    scale, shift = tensor.chunk(2)
                    tensor = torch.cat([shift, scale])
                renamed[f"{theirs}.{leaf}"] = tensor
        for number in range(4):
            for theirs, parts in _FUSED.items():
                names = [f"{part.format(number)}.{leaf}" for part in parts]
                if names[0] in tensors:
                    renamed[f"{theirs.format(number)}.{leaf}"] = torch.cat([tensors.pop(name) for name in names])
            for theirs, ours in _WITHIN.items():
                if (tensor := tensors.pop(f"{ours.format(number)}.{leaf}", None)) is not None:
                    renamed[f"{theirs.format(number)}.{leaf}"] = tensor
            for theirs, ours in _SCALES.items():
                if (tensor := tensors.pop(f"{ours.format(number)}.{leaf}", None)) is not None:
                    renamed[f"{theirs.format(number)}.scale"] = tensor
    assert not tensors, f"left over: {list(tensors)}"
    return renamed


def _clip(parts: SmallFlux) -> Mapping[str, Tensor]:
    # As published: below `text_model`, with the projection and the temperature that only contrasting needs.
    tensors = {f"text_model.{name}": tensor for name, tensor in state(parts.text_encoder).items()}
    return tensors | {"text_projection.weight": torch.ones(16, 16), "logit_scale": torch.ones(())}


def _t5(parts: SmallFlux) -> Mapping[str, Tensor]:
    return {name: tensor for name, tensor in state(parts.text_encoder_2).items() if "embed_tokens" not in name}
