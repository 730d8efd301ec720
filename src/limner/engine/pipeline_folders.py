"""Diffusers folders whose architecture is none of the engine's own: they are painted with by their own pipelines.

Only `model_index.json` and the names of files are read. Invariant: a folder that brings code of its own is refused.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from limner.engine.tensor_files import PICKLE_SUFFIXES, some
from limner.errors import BrokenCheckpoint, Unsupported

GENERIC = "generic"
DENOISERS = ("transformer", "unet", "prior")
# Modules of diffusers' pipelines that hold parts of published checkpoints.
_MODULES_OF_DIFFUSERS = {"stable_diffusion", "stable_diffusion_safe", "kandinsky", "kolors", "wuerstchen"}
_OWN = ("ZImagePipeline", "FluxPipeline", "StableDiffusionPipeline", "StableDiffusionXLPipeline")
# Pipelines that make no pictures, or make them from something that no request holds.
_OTHER_KINDS = re.compile(r"Video|Wan|LTX|Audio|Music|Shap|3D|ControlNet|Adapter|Inpaint|Upscale|Depth|Prior$|Marigold")


def is_own_class(folder: Path) -> bool:
    """Whether a folder claims to be of an architecture that the engine paints itself."""
    return _index(folder).get("_class_name") in _OWN


def pipeline_class(folder: Path) -> str:
    """The class of a folder's pipeline.

    Raises:
        BrokenCheckpoint: its `model_index.json` is not readable, or parts are missing.
        Unsupported: it brings its own code, or paints no pictures from text or pictures alone.
    """
    index = _index(folder)
    name = index.get("_class_name")
    scripts = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.py"))
    if not isinstance(name, str) or scripts:
        raise Unsupported(
            f"`{folder}` brings code of its own ({some(scripts) if scripts else name}), which is never run. "
            "Choose a checkpoint of a pipeline that diffusers has.",
            file=str(folder),
        )
    if foreign := sorted(set(_libraries(index)) - {"diffusers", "transformers"} - _MODULES_OF_DIFFUSERS):
        raise Unsupported(
            f"`{folder}` wants parts of {some(foreign)}. Choose a checkpoint whose parts are of diffusers and "
            "transformers.",
            file=str(folder),
        )
    if not name.endswith("Pipeline") or _OTHER_KINDS.search(name):
        raise Unsupported(
            f"`{folder}` belongs to diffusers' {name}, which this version does not paint with. Choose a checkpoint "
            "of a pipeline that makes pictures from text.",
            file=str(folder),
        )
    if absent := [part + "/" for part in _components(index) if not (folder / part).is_dir()]:
        raise BrokenCheckpoint(f"`{folder}` lacks {some(absent)}. Fetch the whole folder again.", file=str(folder))
    return name


def pipeline_parts(folder: Path) -> dict[str, Path]:
    """The folders of a pipeline that hold weights, by component; its denoiser is `transformer` whatever it is."""
    parts: dict[str, Path] = {}
    for name in _components(_index(folder)):
        suffixes = {file.suffix for file in (folder / name).glob("*")}
        if ".safetensors" in suffixes or suffixes & set(PICKLE_SUFFIXES):
            parts["transformer" if name in DENOISERS and "transformer" not in parts else name] = folder / name
    return parts


def text_encoder_classes(folder: Path) -> list[str]:
    """The classes of a pipeline's text encoders."""
    return [kind for name, kind in _components(_index(folder)).items() if name.startswith("text_encoder")]


def left_out(folder: Path) -> list[str]:
    """The components that a pipeline of this class may have and this one does without."""
    index = _index(folder)
    return [name for name, entry in index.items() if isinstance(entry, list) and name not in _components(index)]


def _index(folder: Path) -> dict[str, Any]:
    file = folder / "model_index.json"
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BrokenCheckpoint(f"`{file}` is not readable: {error}. Fetch it again.", file=str(file)) from error


def _libraries(index: dict[str, Any]) -> list[str]:
    return [str(entry[0]) for name in _components(index) for entry in (index[name],)]


def _components(index: dict[str, Any]) -> dict[str, str]:
    """Component to its class; those that are left out of this checkpoint have none."""
    found: dict[str, str] = {}
    for name, entry in index.items():
        if isinstance(entry, list) and len(pair := cast("list[Any]", entry)) == 2 and all(pair):
            found[name] = str(pair[1])
    return found
