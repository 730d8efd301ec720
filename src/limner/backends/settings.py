"""The connections of the backends that come with limner.

A backend is handed its own group and never looks at the rest of the tree. This module reads no files and no
environment: `limner.config` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_DTYPE_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}


class NativeSettings(BaseModel):
    """Limner's own engine. `load_settings` fills in the two folders."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        default="sketchbook",
        description="checkpoint for requests that name none: `sketchbook`, a name in `models_dir`, or a path",
    )
    model_path: Path | None = Field(
        default=None,
        description="diffusion model in place of `model`: a file of ComfyUI's split layout or a diffusers folder",
        examples=["models/z_image_turbo_bf16.safetensors"],
    )
    text_encoder_path: Path | None = Field(
        default=None, description="text encoder that belongs to `model_path`", examples=["models/qwen_3_4b.safetensors"]
    )
    vae_path: Path | None = Field(
        default=None, description="VAE that belongs to `model_path`", examples=["models/ae.safetensors"]
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$",
        description="`auto`, `cpu`, `mps`, `cuda` or `cuda:N`",
        examples=["cuda"],
    )
    dtype: Dtype = Field(
        default="auto", description="precision of every component; `auto` takes what the device does well"
    )
    transformer_dtype: Dtype | None = Field(
        default=None, description="precision of the denoising network alone", examples=["bfloat16"]
    )
    text_encoder_dtype: Dtype | None = Field(
        default=None, description="precision of the text encoder alone", examples=["float32"]
    )
    vae_dtype: Dtype | None = Field(default=None, description="precision of the VAE alone", examples=["float32"])
    token_budget: int = Field(
        default=4096,
        ge=64,
        le=1_000_000,
        description="tokens that one evaluation of the network may hold, over all its rows",
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="CPU threads; the cores that are free when absent", examples=[4]
    )
    unload_after_s: float = Field(
        default=0,
        ge=0,
        description="seconds without a picture after which a checkpoint's memory is freed; 0 keeps it",
        examples=[900],
    )
    previews: bool = Field(default=True, description="whether pictures on their way can be seen")
    models_dir: Path | None = Field(
        default=None, description="folder of checkpoints; `models` in the home folder when absent", examples=["models"]
    )
    adapters_dir: Path | None = Field(
        default=None, description="folder of LoRA files; `adapters` in the home folder when absent", examples=["loras"]
    )

    @field_validator("dtype", "transformer_dtype", "text_encoder_dtype", "vae_dtype", mode="before")
    @classmethod
    def _names_in_wide_use(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        name = value.lower().removeprefix("torch.")
        return _DTYPE_NAMES.get(name, name)

    @field_validator("model_path", "text_encoder_path", "vae_path", "models_dir", "adapters_dir", mode="after")
    @classmethod
    def _paths_may_begin_with_a_tilde(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path else None

    @model_validator(mode="after")
    def _parts_belong_to_a_model(self) -> NativeSettings:
        if self.model_path is None and (self.text_encoder_path or self.vae_path):
            raise ValueError("text_encoder_path and vae_path belong to a model_path, which is absent. Set it too")
        return self
