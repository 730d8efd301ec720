"""The connections of the backends that come with limner.

A backend is handed its own group and never looks at the rest of the tree. This module reads no files and no
environment: `limner.config` does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

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
    memory_budget_mb: int | None = Field(
        default=None,
        ge=0,
        description="memory that weights may fill; what was used longest ago leaves first. 80 % of the device's memory "
        "that is free at the start when absent",
        examples=[20000],
    )
    offload: Literal["auto", "none", "model", "group"] = Field(
        default="auto",
        description="where weights rest on CUDA: `none` all on the card, `model` text encoders and VAE off it while "
        "unused, `group` the denoiser's layers too; `auto` by the budget",
        examples=["model"],
    )
    vae_tiling: Literal["auto"] | bool = Field(
        default="auto",
        description="whether pictures are decoded in tiles: `true` always, `false` only where memory ran out, `auto` "
        "also where little is left",
        examples=[True],
    )
    previews: bool = Field(default=True, description="whether pictures on their way can be seen")
    models_dir: Path | None = Field(
        default=None, description="folder of checkpoints; `models` in the home folder when absent", examples=["models"]
    )
    models_dirs: tuple[Path, ...] = Field(
        default=(),
        description="further folders of checkpoints, used in place: of ComfyUI, A1111 or Forge, of diffusers folders, "
        "or a Hugging Face cache",
        examples=[["/srv/ComfyUI/models"]],
    )
    index_path: Path | None = Field(
        default=None,
        description="what is remembered of checkpoints; `checkpoints.json` in the home folder when absent",
        examples=["/srv/limner/checkpoints.json"],
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

    @field_validator(
        "model_path", "text_encoder_path", "vae_path", "models_dir", "adapters_dir", "index_path", mode="after"
    )
    @classmethod
    def _paths_may_begin_with_a_tilde(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path else None

    @field_validator("models_dirs", mode="before")
    @classmethod
    def _a_variable_separates_folders_as_the_platform_does(cls, folders: object) -> object:
        return [folder for folder in folders.split(os.pathsep) if folder] if isinstance(folders, str) else folders

    @field_validator("models_dirs", mode="after")
    @classmethod
    def _folders_may_begin_with_a_tilde(cls, folders: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(folder.expanduser() for folder in folders)

    @model_validator(mode="after")
    def _parts_belong_to_a_model(self) -> NativeSettings:
        if self.model_path is None and (self.text_encoder_path or self.vae_path):
            raise ValueError("text_encoder_path and vae_path belong to a model_path, which is absent. Set it too")
        return self


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        sound = sound and url.isascii() and not (parts.query or parts.fragment)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("Give an address such as http://127.0.0.1:8188")
    return url.rstrip("/")


Address = Annotated[str, AfterValidator(_address)]
"""Where a server is: `http` or `https`, host, port and path."""


class ComfyUISettings(BaseModel):
    """ComfyUI servers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: tuple[Address, ...] = Field(
        default=(),
        description="addresses of the servers, separated by commas; the least busy one is asked first",
        examples=["http://127.0.0.1:8188"],
    )
    timeout_s: float = Field(
        default=300, gt=0, le=86_400, description="seconds that one picture may take from when a server begins it"
    )
    template: str = Field(
        default="zimage-three-stage",
        min_length=1,
        description="workflow template for requests that fit several and name none as their `model`",
    )
    templates_dir: Path | None = Field(
        default=None,
        description="folder of workflow templates; `comfyui` in the home folder when absent",
        examples=["workflows"],
    )
    previews: bool = Field(default=True, description="whether pictures on their way can be seen")
    poll_s: float = Field(default=1.0, ge=0.01, le=60, description="seconds between two looks at queue and history")

    @field_validator("url", mode="before")
    @classmethod
    def _a_text_separates_addresses_by_commas(cls, urls: object) -> object:
        return [url.strip() for url in urls.split(",") if url.strip()] if isinstance(urls, str) else urls

    @field_validator("templates_dir", mode="after")
    @classmethod
    def _the_folder_may_begin_with_a_tilde(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path else None


class OpenAISettings(BaseModel):
    """A provider that speaks OpenAI's Images API."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: Address | None = Field(
        default=None,
        description="address in front of `/images/generations`",
        examples=["https://api.openai.com/v1"],
    )
    api_key: SecretStr | None = Field(
        default=None, description="sent as the bearer key; from the environment only, and never shown"
    )
    model: str = Field(default="gpt-image-1", min_length=1, description="model for requests that name none")
    sizes: tuple[Annotated[str, Field(pattern=r"^\d{2,5}x\d{2,5}$")], ...] = Field(
        default=(),
        description="sizes that the provider paints; those of OpenAI's models are known, of others any when absent",
        examples=[["1024x1024", "1536x1024"]],
    )
    size_as: Literal["size", "ratio"] = Field(
        default="size",
        description="how a size is told: `size` as 1024x768, `ratio` as a `ratio` such as 4:3 with a `resolution`",
    )
    fields: tuple[Literal["seed", "negative_prompt", "num_inference_steps", "guidance_scale"], ...] = Field(
        default=(),
        description="fields beyond OpenAI's that the provider understands",
        examples=[["seed", "negative_prompt"]],
    )
    quality: str | None = Field(
        default=None, min_length=1, description="the provider's word for it; its own when absent", examples=["high"]
    )
    per_call: int = Field(
        default=4, ge=1, le=10, description="pictures that one call asks for, where seeds are not told"
    )
    at_a_time: int = Field(default=2, ge=1, le=64, description="calls of one request that run at a time")
    timeout_s: float = Field(default=300, gt=0, le=86_400, description="seconds that one call may take")
    allow_private: bool = Field(
        default=False,
        description="whether pictures may be fetched from addresses of private networks other than the provider's own",
    )

    @field_validator("sizes", "fields", mode="before")
    @classmethod
    def _a_text_separates_by_commas(cls, found: object) -> object:
        return [part.strip() for part in found.split(",") if part.strip()] if isinstance(found, str) else found


class RunpodSettings(BaseModel):
    """A serverless endpoint at RunPod whose workers run `limner runpod`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_id: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$", description="id of the endpoint", examples=["a1b2c3d4e5f6g7"]
    )
    api_key: SecretStr | None = Field(
        default=None, description="RunPod's key; from the environment only, and never shown"
    )
    base_url: Address = Field(
        default="https://api.runpod.ai/v2",
        description="address in front of the endpoint's id; without an id, that of `limner runpod --serve-api`",
        examples=["https://api.runpod.ai/v2"],
    )
    models: tuple[str, ...] = Field(
        default=(),
        description="checkpoints that the endpoint's workers have; any name is passed on when absent",
        examples=[["sketchbook"]],
    )
    timeout_s: float = Field(
        default=900,
        ge=10,
        le=604_800,
        description="seconds that one picture may take from when it is sent, its wait for a worker included",
    )
    poll_s: float = Field(default=1.0, ge=0.01, le=60, description="seconds between two looks at a picture on its way")
    at_a_time: int = Field(default=8, ge=1, le=200, description="pictures of one request that are sent at a time")
    previews: bool = Field(default=True, description="whether pictures on their way can be seen")
    allow_private: bool = Field(
        default=False, description="whether the workers' bucket may have an address of a private network"
    )
    jobs_dir: Path | None = Field(
        default=None,
        description="folder of the ids of jobs at RunPod; `runpod` in the home folder when absent",
        examples=["/srv/limner/runpod"],
    )

    @field_validator("models", mode="before")
    @classmethod
    def _a_text_separates_by_commas(cls, found: object) -> object:
        return [part.strip() for part in found.split(",") if part.strip()] if isinstance(found, str) else found

    @field_validator("jobs_dir", mode="after")
    @classmethod
    def _the_folder_may_begin_with_a_tilde(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path else None
