"""Small SDXL and SD 1.5 checkpoints of the real classes, written in every layout that limner reads.

Weights are drawn at random from a seed. The names of the original code are written down here on their own, one line a
block, so that a mistake in the loader's map does not hide in this one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.models.clip.tokenization_clip import CLIPTokenizer as _Tokenizer

from limner.engine.checkpoints import CheckpointFiles
from limner.engine.families.unet_weights import Components, Prediction
from tests.support.checkpoints import VAE, original_vae, state, write

WORDS = ("a", "red", "blue", "boat", "tree", "house", "sea", "at", "night", "cat")
N = TypeVar("N", bound=nn.Module)
POOLED = 40
CLIP_L: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 1, "hidden_act": "quick_gelu"}
CLIP_G: dict[str, Any] = {"hidden_size": 128, "num_attention_heads": 2, "hidden_act": "gelu", "projection_dim": POOLED}
TIME_DIM = 8
UNETS: dict[str, dict[str, Any]] = {
    "sdxl": {
        "block_out_channels": [16, 32],
        "layers_per_block": 2,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2],
        "attention_head_dim": [1, 2],
        "cross_attention_dim": 192,
        "use_linear_projection": True,
        "norm_num_groups": 4,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": TIME_DIM,
        "projection_class_embeddings_input_dim": POOLED + 6 * TIME_DIM,
    },
    "sd15": {
        "block_out_channels": [16, 32],
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "attention_head_dim": 8,
        "cross_attention_dim": 64,
        "norm_num_groups": 4,
    },
}
SCALES = {"sdxl": 0.13025, "sd15": 0.18215}
# What no tensor shows, and the published models have otherwise.
UNSHOWN: dict[str, dict[str, Any]] = {
    "sdxl": {
        "norm_num_groups": 4,
        "attention_head_dim": [1, 2],
        "addition_time_embed_dim": TIME_DIM,
        "hidden_act": "quick_gelu",
    },
    "sd15": {"norm_num_groups": 4, "hidden_act": "quick_gelu"},
}


@dataclass
class SmallUnet:
    """SDXL or SD 1.5 with a few hundred thousand parameters."""

    family: str
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    text_encoder_2: CLIPTextModelWithProjection | None
    tokenizer: CLIPTokenizer
    vae: AutoencoderKL

    def components(self, prediction: Prediction | None = None) -> Components:
        """The same as the loader would answer, predicting noise unless another `prediction` is given."""
        encoders: dict[str, Any] = {"text_encoder": self.text_encoder}
        if self.text_encoder_2 is not None:
            encoders["text_encoder_2"] = self.text_encoder_2
        files = CheckpointFiles("small", self.family, "diffusers", Path("/nowhere"), {})
        return Components(files, self.unet, encoders, self.tokenizer, self.vae, prediction or Prediction())


def small_unet(family: str, seed: int = 0, **changes: Any) -> SmallUnet:
    """Components with random weights; `family` is `sdxl` or `sd15`, `changes` replace fields of the UNet's
    configuration.
    """
    with cast(Any, torch.random).fork_rng(devices=[]):
        unet = cast(UNet2DConditionModel, cast(Any, UNet2DConditionModel).from_config(UNETS[family] | changes))
        vae_config = VAE | {"latent_channels": 4, "use_quant_conv": True, "use_post_quant_conv": True}
        vae_config |= {"scaling_factor": SCALES[family], "shift_factor": None, "force_upcast": family == "sdxl"}
        vae = cast(AutoencoderKL, cast(Any, AutoencoderKL).from_config(vae_config))
        larger = small_projecting_clip(seed + 1) if family == "sdxl" else None
        reader = small_clip(seed)
    return SmallUnet(family, _drawn(unet, seed + 2), reader, larger, small_clip_tokenizer(), _drawn(vae, seed + 3))


def save_folder(parts: SmallUnet, folder: Path, scheduler: Mapping[str, Any] | None = None) -> Path:
    """Write a diffusers folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("unet", "vae", "text_encoder", *(["text_encoder_2"] if parts.text_encoder_2 else [])):
        getattr(parts, name).save_pretrained(folder / name)
    cast(Any, parts.tokenizer).save_pretrained(str(folder / "tokenizer"))
    if parts.text_encoder_2:
        cast(Any, small_clip_tokenizer("!")).save_pretrained(str(folder / "tokenizer_2"))
    written = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, **(scheduler or {})}
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(written), "utf-8")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}), "utf-8")
    return folder


def whole_tensors(parts: SmallUnet) -> dict[str, Tensor]:
    """Everything under the names of the original code, as published single files have it."""
    tensors = {f"model.diffusion_model.{name}": t for name, t in original_unet(parts).items()}
    tensors |= {f"first_stage_model.{name}": t for name, t in original_vae(parts.vae).items()}
    first = "cond_stage_model" if parts.text_encoder_2 is None else "conditioner.embedders.0"
    tensors |= {f"{first}.transformer.{name}": t for name, t in transformers_names(parts.text_encoder).items()}
    if parts.text_encoder_2 is not None:
        tensors |= {f"conditioner.embedders.1.model.{n}": t for n, t in openclip_names(parts.text_encoder_2).items()}
    unused = {"denoiser.sigmas": torch.linspace(0, 14, 1000), "model_ema.decay": torch.tensor(0.9)}
    return tensors | unused


def save_whole(
    parts: SmallUnet,
    models_dir: Path,
    name: str = "all",
    *,
    extra: Mapping[str, Tensor] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write one file of the original code, and the tokenizer that such files do not carry."""
    save_tokenizer(parts, models_dir)
    file = models_dir / "checkpoints" / f"{name}.safetensors"
    return write(whole_tensors(parts) | dict(extra or {}), file, UNSHOWN[parts.family] | dict(config or {}))


def save_split(parts: SmallUnet, models_dir: Path, name: str = "small") -> Path:
    """Write ComfyUI's split files; the UNet under its original names, text encoders under transformers'."""
    unshown = UNSHOWN[parts.family]
    save_tokenizer(parts, models_dir)
    texts = models_dir / "text_encoders"
    write(transformers_names(parts.text_encoder), texts / "clip_l.safetensors", unshown)
    if parts.text_encoder_2 is not None:
        write(transformers_names(parts.text_encoder_2), texts / "clip_g.safetensors", {"hidden_act": "gelu"})
    write(original_vae(parts.vae), models_dir / "vae" / "vae.safetensors", unshown)
    return write(original_unet(parts), models_dir / "diffusion_models" / f"{name}.safetensors", unshown)


def save_tokenizer(parts: SmallUnet, models_dir: Path) -> None:
    """Write the tokenizer where single files look for it."""
    cast(Any, parts.tokenizer).save_pretrained(str(models_dir / "tokenizers" / "clip"))


def original_unet(parts: SmallUnet) -> dict[str, Tensor]:
    """The UNet's tensors under the names of the original code."""
    modules = dict(_original_modules(UNETS[parts.family]))
    renamed: dict[str, Tensor] = {}
    for name, tensor in state(parts.unet).items():
        ours = max((stem for stem in modules if name.startswith(stem + ".")), key=len)
        leaf = name.removeprefix(ours + ".")
        for mine, theirs in _RESNET if ".resnets." in ours else ():
            leaf = leaf.replace(mine + ".", theirs + ".")
        renamed[f"{modules[ours]}.{leaf}"] = tensor
    return renamed


_RESNET = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
)


def _original_modules(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """diffusers' name and the original one of every block, in the order in which the original code makes them."""
    yield from (("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"))
    yield from (("add_embedding.linear_1", "label_emb.0.0"), ("add_embedding.linear_2", "label_emb.0.2"))
    yield from (("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"))
    for place, kind in enumerate(("resnets.0", "attentions.0", "resnets.1")):
        yield f"mid_block.{kind}", f"middle_block.{place}"
    number, levels = 1, len(config["block_out_channels"])
    for level, kind in enumerate(config["down_block_types"]):
        for layer in range(config["layers_per_block"]):
            yield f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0"
            if kind == "CrossAttnDownBlock2D":
                yield f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{number}.1"
            number += 1
        if level < levels - 1:
            yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{number}.0.op"
            number += 1
    number = 0
    for level, kind in enumerate(config["up_block_types"]):
        for layer in range(config["layers_per_block"] + 1):
            yield f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{number}.0"
            attends = kind == "CrossAttnUpBlock2D"
            if attends:
                yield f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{number}.1"
            if layer == config["layers_per_block"] and level < levels - 1:
                yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{number}.{1 + attends}.conv"
            number += 1


def small_clip(seed: int = 0, **changes: Any) -> CLIPTextModel:
    """A text encoder of two layers in OpenAI's manner, with the vocabulary of `small_clip_tokenizer`."""
    return _drawn(CLIPTextModel(_clip_config(CLIP_L | changes)), seed)


def small_projecting_clip(seed: int = 1, **changes: Any) -> CLIPTextModelWithProjection:
    """A wider one in OpenCLIP's manner, with a projection."""
    return _drawn(CLIPTextModelWithProjection(_clip_config(CLIP_G | changes)), seed)


def small_clip_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """A tokenizer that knows ten words whole and spells all others byte by byte."""
    letters = [chr(code) for code in range(33, 127)] + [chr(code) for code in (*range(161, 173), *range(174, 324))]
    pieces = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[str] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            if f"{parts[-2]} {parts[-1]}" not in merges:
                merges.append(f"{parts[-2]} {parts[-1]}")
            parts[-2:] = [parts[-2] + parts[-1]]
            if parts[-1] not in pieces:
                pieces.append(parts[-1])
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    pairs: Any = [tuple(merge.split(" ")) for merge in merges]
    return _Tokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=pairs, pad_token=pad, model_max_length=77
    )


def openclip_names(network: CLIPTextModelWithProjection) -> dict[str, Tensor]:
    """The tensors under OpenCLIP's names: q, k, v fused, the projection the other way round."""
    tensors = {name.removeprefix("text_model."): tensor for name, tensor in state(network).items()}
    renamed = {
        "positional_embedding": tensors["embeddings.position_embedding.weight"],
        "token_embedding.weight": tensors["embeddings.token_embedding.weight"],
        "ln_final.weight": tensors["final_layer_norm.weight"],
        "ln_final.bias": tensors["final_layer_norm.bias"],
        "text_projection": tensors["text_projection.weight"].T,
        "logit_scale": torch.tensor(4.6),
    }
    for index in range(network.config.num_hidden_layers):
        for kind in ("weight", "bias"):
            theirs, ours = f"transformer.resblocks.{index}", f"encoder.layers.{index}"
            renamed[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(
                [tensors[f"{ours}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            )
            renamed[f"{theirs}.attn.out_proj.{kind}"] = tensors[f"{ours}.self_attn.out_proj.{kind}"]
            renamed[f"{theirs}.ln_1.{kind}"] = tensors[f"{ours}.layer_norm1.{kind}"]
            renamed[f"{theirs}.ln_2.{kind}"] = tensors[f"{ours}.layer_norm2.{kind}"]
            renamed[f"{theirs}.mlp.c_fc.{kind}"] = tensors[f"{ours}.mlp.fc1.{kind}"]
            renamed[f"{theirs}.mlp.c_proj.{kind}"] = tensors[f"{ours}.mlp.fc2.{kind}"]
    return renamed


def transformers_names(network: nn.Module) -> dict[str, Tensor]:
    """The tensors as single files of transformers' layout keep them, below `text_model.`, with position numbers."""
    renamed = {name if name.startswith("text_") else f"text_model.{name}": t for name, t in state(network).items()}
    return renamed | {"text_model.embeddings.position_ids": torch.arange(77)[None]}


def _clip_config(changes: dict[str, Any]) -> CLIPTextConfig:
    vocabulary = len(small_clip_tokenizer())
    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "max_position_embeddings": 77,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    return CLIPTextConfig(**(common | changes))


def _drawn(network: N, seed: int) -> N:
    random = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        with torch.no_grad():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5, generator=random)
            else:
                nn.init.normal_(parameter, mean=0.5, std=0.2, generator=random)
    network.eval().requires_grad_(False)
    return network
