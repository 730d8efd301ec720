"""Pipelines of diffusers with tiny random components, written as folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.pixart_alpha.pipeline_pixart_sigma import PixArtSigmaPipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import nn
from transformers import CLIPTextConfig, T5Config, T5EncoderModel
from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection

from tests.support.checkpoints import VAE, tiny_tokenizer

TOKENS = 16
CLIP: dict[str, Any] = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 8,
    "max_position_embeddings": TOKENS,
}
TRANSFORMER: dict[str, Any] = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": 16,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "caption_projection_dim": 16,
    "pooled_projection_dim": 16,
    "out_channels": 16,
    "pos_embed_max_size": 24,
}


def save_sd3(folder: Path, seed: int = 0) -> Path:
    """Stable Diffusion 3 of a few thousand parameters, without its T5."""
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = TOKENS
    config = CLIPTextConfig(vocab_size=len(tokenizer), bos_token_id=2, eos_token_id=3, pad_token_id=1, **CLIP)
    with cast(Any, torch.random).fork_rng(devices=[]):
        encoders = [cast(Any, CLIPTextModelWithProjection)(config) for _ in range(2)]
        transformer = SD3Transformer2DModel(**TRANSFORMER)
        vae = cast(AutoencoderKL, cast(Any, AutoencoderKL).from_config(VAE))
    _draw((*encoders, transformer, vae), seed)
    pipeline: Any = cast(Any, StableDiffusion3Pipeline)(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.save_pretrained(str(folder))
    return folder


def save_pixart(folder: Path, seed: int = 0) -> Path:
    """PixArt-Sigma of a few thousand parameters, an older pipeline that reads T5."""
    tokenizer = tiny_tokenizer()
    config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    with cast(Any, torch.random).fork_rng(devices=[]):
        encoder = T5EncoderModel(config)
        transformer = PixArtTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            cross_attention_dim=16,
            caption_channels=16,
            sample_size=8,
            use_additional_conditions=False,
        )
        vae = cast(AutoencoderKL, cast(Any, AutoencoderKL).from_config(VAE | {"latent_channels": 4}))
    _draw((encoder, transformer, vae), seed)
    pipeline: Any = cast(Any, PixArtSigmaPipeline)(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=vae,
        transformer=transformer,
        scheduler=DDIMScheduler(),
    )
    pipeline.save_pretrained(str(folder))
    return folder


def _draw(networks: Iterable[nn.Module], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for parameter in (parameter for network in networks for parameter in network.parameters()):
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5, generator=random)
        else:
            nn.init.normal_(parameter, mean=0.5, std=0.2, generator=random)
