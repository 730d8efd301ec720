"""Load a pipeline of diffusers from its folder, and nothing from anywhere else.

All its components compute in one precision: pipelines hand tensors from one to the next as they are. Invariant: no
network is asked, no pickle is read, and no code of the folder is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

import diffusers
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from limner.engine.adapters import AdapterTargets
from limner.engine.checkpoints import CheckpointFiles
from limner.engine.families.generic import GenericPipeline, require_paintable
from limner.engine.offload import OffloadPlan
from limner.engine.pipeline_folders import left_out, pipeline_class, text_encoder_classes
from limner.engine.precision import Precision, PrecisionPolicy
from limner.engine.tensor_files import open_tensors
from limner.engine.weights import read_config
from limner.errors import BrokenCheckpoint, LimnerError

LAYERS_ARE_CALLED = True


def precision_policy(files: CheckpointFiles) -> PrecisionPolicy:
    """What `choose_precision` needs to know of the checkpoint, from its headers and configurations alone."""
    source = open_tensors(files.transformer)
    vae = read_config(files.vae) if "vae" in files.parts else None
    return PrecisionPolicy(
        stored=source.dtype,
        parameters=source.parameters,
        vae_float16=not (vae or {}).get("force_upcast", False),
        text_float16=not any("T5" in kind for kind in text_encoder_classes(files.path)),
    )


def header_targets(files: CheckpointFiles) -> AdapterTargets:
    """None: adapters are not attached to pipelines."""
    return AdapterTargets({}, {})


def common_precision(precision: Precision) -> Precision:
    """One precision for all components: the denoiser's, or what another needs where float16 overflows there."""
    chosen = precision.transformer
    if chosen is torch.float16:
        others = (precision.of(name) for name in ("text_encoder", "text_encoder_2", "vae"))
        chosen = next((dtype for dtype in others if dtype is not torch.float16), chosen)
    if {precision.text_encoder, precision.vae} == {chosen} and precision.transformer is chosen:
        return precision
    name = str(chosen).removeprefix("torch.")
    note = f"The parts of a pipeline compute in one precision: all use {name}."
    return Precision(chosen, chosen, chosen, (*precision.notes, note))


def load_pipeline(
    files: CheckpointFiles, device: torch.device, precision: Precision, plan: OffloadPlan
) -> tuple[GenericPipeline, tuple[str, ...]]:
    """The pipeline with its weights, and what is to be said of it.

    Raises:
        BrokenCheckpoint: diffusers cannot load it; the message has its reason.
        Unsupported: it cannot be called with what a request holds.
    """
    kind = pipeline_class(files.path)
    try:
        with _silence():
            pipeline: Any = cast(Any, DiffusionPipeline).from_pretrained(
                str(files.path),
                local_files_only=True,
                use_safetensors=True,
                dtype=precision.transformer,
                **dict.fromkeys(left_out(files.path)),
            )
    except LimnerError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, KeyError, ImportError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise BrokenCheckpoint(
            f"diffusers cannot load `{files.path}` ({kind}): {error}. Fetch it again, or install what it names.",
            file=str(files.path),
        ) from error
    require_paintable(pipeline, files)
    notes = _place(pipeline, device, plan)
    pipeline.set_progress_bar_config(disable=True)
    redrawing = _redrawing(pipeline)
    return GenericPipeline(pipeline, redrawing, files, device, precision.transformer), notes


def _place(pipeline: Any, device: torch.device, plan: OffloadPlan) -> tuple[str, ...]:
    vae = getattr(pipeline, "vae", None)
    if plan.tiles and hasattr(vae, "enable_tiling"):
        cast(Any, vae).enable_tiling()
    if plan.mode == "none" or not find_spec("accelerate"):
        pipeline.to(device)
        lacking = "A pipeline's weights are offloaded with the package accelerate, which is not installed: all of them "
        return () if plan.mode == "none" else (lacking + f"are on {device}. Run `pip install accelerate`.",)
    if plan.mode == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_group_offload(device, torch.device("cpu"), "leaf_level")
    return ()


def _redrawing(pipeline: Any) -> Any | None:
    """The pipeline of the same components that starts from a picture, by diffusers' way of naming it."""
    kind: Any = getattr(diffusers, type(pipeline).__name__.removesuffix("Pipeline") + "Img2ImgPipeline", None)
    if kind is None:
        return None
    wanted = inspect.signature(kind.__init__).parameters
    found = kind(**{name: part for name, part in pipeline.components.items() if name in wanted})
    found.set_progress_bar_config(disable=True)
    return found


@contextmanager
def _silence() -> Generator[None]:
    loggers: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    shown = [logger.is_progress_bar_enabled() for logger in loggers]
    for logger in loggers:
        logger.disable_progress_bar()
    try:
        yield
    finally:
        for logger, was in zip(loggers, shown, strict=True):
            if was:
                logger.enable_progress_bar()
