"""Small checkpoints of the real classes, written in every layout that limner reads.

Components are drawn at random from a seed, so that two calls give the same weights. The key maps are the inverse of the
loader's and are written down on their own, so that a mistake in one does not hide in the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from safetensors import torch as safetensors_torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

TRANSFORMER: dict[str, Any] = {
    "dim": 32,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 2,
    "cap_feat_dim": 24,
    "in_channels": 16,
    "axes_dims": [4, 6, 6],
    "axes_lens": [512, 128, 128],
}
ENCODER: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
}
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [8, 8, 16, 16],
    "layers_per_block": 1,
    "latent_channels": 16,
    "norm_num_groups": 4,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "mid_block_add_attention": True,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "sample_size": 1024,
}
WORDS = ("a", "red", "blue", "boat", "tree", "house", "user", "assistant", "on", "sea")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} {{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)


@dataclass
class TinyComponents:
    """A Z-Image model of a few thousand parameters."""

    transformer: ZImageTransformer2DModel
    text_encoder: Qwen3Model
    tokenizer: PreTrainedTokenizerFast
    vae: AutoencoderKL


def tiny_components(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> TinyComponents:
    """Components with random weights; `changes` replace fields of the transformer's configuration."""
    tokenizer = tiny_tokenizer()
    with cast(Any, torch.random).fork_rng(devices=[]):
        transformer = ZImageTransformer2DModel(**(TRANSFORMER | changes))
        text_encoder = Qwen3Model(Qwen3Config(vocab_size=len(tokenizer), **ENCODER))
        vae = cast(AutoencoderKL, cast(Any, AutoencoderKL).from_config(VAE))
    random = torch.Generator().manual_seed(seed)
    for network in (transformer, text_encoder, vae):
        _draw(network, random)
        # `nn.Module.to`, since diffusers' own warns about a cast even where there is nothing to cast.
        nn.Module.to(network, dtype).eval().requires_grad_(False)
    return TinyComponents(transformer, text_encoder, tokenizer, vae)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of ten words with a chat template and an unknown token."""
    special = ("<|unknown|>", "<|pad|>", "<|im_start|>", "<|im_end|>")
    tokenizer = Tokenizer(
        cast(Any, models.WordLevel)({word: i for i, word in enumerate(special + WORDS)}, unk_token=special[0])
    )
    cast(Any, tokenizer).normalizer = normalizers.Lowercase()
    cast(Any, tokenizer).pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=special[0],
        pad_token=special[1],
        additional_special_tokens=list(special[2:]),
        chat_template=CHAT_TEMPLATE,
    )


def save_folder(parts: TinyComponents, folder: Path, shard_bytes: int | None = None) -> Path:
    """Write a diffusers folder, sharded where `shard_bytes` is given."""
    folder.mkdir(parents=True, exist_ok=True)
    size: Any = {} if shard_bytes is None else {"max_shard_size": shard_bytes}
    for name in ("transformer", "text_encoder", "vae"):
        getattr(parts, name).save_pretrained(folder / name, **size)
    _save_tokenizer(parts, folder / "tokenizer")
    index = {
        "_class_name": "ZImagePipeline",
        "transformer": ["diffusers", "ZImageTransformer2DModel"],
        "text_encoder": ["transformers", "Qwen3Model"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder


def save_split(
    parts: TinyComponents, models_dir: Path, name: str = "tiny", *, prefix: str = "", tokenizer: bool = True
) -> Path:
    """Write ComfyUI's split files (fused qkv, LDM names); returns the transformer's file."""
    file = models_dir / "diffusion_models" / f"{name}.safetensors"
    transformer = {prefix + key: tensor for key, tensor in original_transformer(parts.transformer).items()}
    write(transformer, file, {"axes_dims": TRANSFORMER["axes_dims"], "axes_lens": TRANSFORMER["axes_lens"]})
    encoder = {f"model.{key}": tensor for key, tensor in state(parts.text_encoder).items()}
    write(encoder, models_dir / "text_encoders" / "qwen.safetensors", {"max_position_embeddings": 512})
    write(original_vae(parts.vae), models_dir / "vae" / "ae.safetensors", {"norm_num_groups": VAE["norm_num_groups"]})
    if tokenizer:
        _save_tokenizer(parts, models_dir / "tokenizers" / "qwen3")
    return file


def save_whole(parts: TinyComponents, models_dir: Path, name: str = "all") -> Path:
    """Write one file that holds all parts, as ComfyUI's checkpoints do."""
    tensors = {f"model.diffusion_model.{k}": v for k, v in original_transformer(parts.transformer).items()}
    tensors |= {f"text_encoders.qwen3_4b.transformer.model.{k}": v for k, v in state(parts.text_encoder).items()}
    tensors |= {f"vae.{k}": v for k, v in original_vae(parts.vae).items()}
    file = models_dir / "checkpoints" / f"{name}.safetensors"
    written = {"axes_dims": TRANSFORMER["axes_dims"], "axes_lens": TRANSFORMER["axes_lens"], "norm_num_groups": 4}
    write(tensors, file, written)
    _save_tokenizer(parts, models_dir / "tokenizers" / "qwen3")
    return file


def state(network: nn.Module) -> dict[str, Tensor]:
    """Name to tensor of everything that a network stores."""
    return dict(cast("Mapping[str, Tensor]", network.state_dict()))


def original_transformer(network: ZImageTransformer2DModel) -> dict[str, Tensor]:
    """The tensors under the names of the original code, q, k and v fused."""
    tensors = state(network)
    renamed: dict[str, Tensor] = {"norm_final.weight": torch.ones(TRANSFORMER["dim"])}
    for name, tensor in tensors.items():
        stem = name.removesuffix(".to_q.weight")
        if stem != name:
            renamed[f"{stem}.qkv.weight"] = torch.cat([tensors[f"{stem}.to_{letter}.weight"] for letter in "qkv"])
        elif not name.endswith((".to_k.weight", ".to_v.weight")):
            name = name.replace("all_x_embedder.2-1.", "x_embedder.").replace("all_final_layer.2-1.", "final_layer.")
            name = name.replace(".to_out.0.", ".out.").replace(".norm_q.", ".q_norm.").replace(".norm_k.", ".k_norm.")
            renamed[name] = tensor
    return renamed


def original_vae(network: AutoencoderKL) -> dict[str, Tensor]:
    """The tensors under the names of the original (LDM) code; attention as 1x1 convolutions."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state(network).items():
        if ".attentions.0." in name:
            for ours, theirs in (("group_norm", "norm"), ("to_out.0", "proj_out"), ("to_", "")):
                name = name.replace(f".attentions.0.{ours}", f".attentions.0.{theirs}")
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        name = name.replace(".mid_block.attentions.0.", ".mid.attn_1.")
        name = name.replace(".mid_block.resnets.0.", ".mid.block_1.").replace(".mid_block.resnets.1.", ".mid.block_2.")
        name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{3 - int(m[1])}.block.", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{3 - int(m[1])}.upsample.", name)
        renamed[name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")] = tensor
    return renamed


def write(tensors: Mapping[str, Tensor], file: Path, config: Mapping[str, Any] | None = None) -> Path:
    """Write a safetensors file, with what shapes cannot tell in its metadata."""
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"limner.config": json.dumps(config)} if config else None
    write_file: Any = cast(Any, safetensors_torch).save_file
    write_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file, metadata)
    return file


def linear_targets(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Module path to (out, in) of every linear layer."""
    named = cast("Iterable[tuple[str, nn.Module]]", cast(Any, network).named_modules())
    return {path: (m.out_features, m.in_features) for path, m in named if isinstance(m, nn.Linear)}


def _save_tokenizer(parts: TinyComponents, folder: Path) -> None:
    cast(Any, parts.tokenizer).save_pretrained(str(folder))


def _draw(network: nn.Module, random: torch.Generator) -> None:
    """Fill what the class leaves empty or at one: random, of a size that keeps activations in bounds."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5, generator=random)
        else:
            nn.init.normal_(parameter, mean=0.5, std=0.2, generator=random)
