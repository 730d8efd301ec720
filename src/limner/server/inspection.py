"""How a picture from outside was made, as a form can take it: what is here is in the request, the rest in the notes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from limner.domain import GenerationRequest, Recipe
from limner.errors import InvalidRequest, NotFound, RequestError, Unsupported
from limner.media.metadata import inspect_picture
from limner.media.parameters import CHECKPOINT_NOTE
from limner.server.state import State
from limner.server.views import AsGiven, InFull, View
from limner.studio import backend_names
from limner.workflows.plans import replayed


class InspectionView(View):
    """What a picture says of how it was made."""

    source: Literal["limner", "a1111", "comfyui", "none"] = Field(
        description="whose form it is in: ours, that of AUTOMATIC1111's web UI, ComfyUI's graph, or none"
    )
    request: AsGiven | None = Field(description="what makes such a picture here; null where nothing could be read")
    recipe: InFull | None = Field(description="everything, where limner made it")
    notes: tuple[str, ...] = Field(description="what could not be carried over, and what to do")


async def inspection(parts: State, owner: str, path: Path, name: str) -> InspectionView:
    """What the picture in `path` says; it is called `name`.

    Raises `RequestError` when it is no picture, or what it says is damaged.
    """
    try:
        found = await asyncio.to_thread(inspect_picture, path)
    except (NotFound, Unsupported) as error:
        note = error.message.replace(str(path), name)
        return InspectionView(source="none", request=None, recipe=None, notes=(note,))
    except InvalidRequest as error:
        raise RequestError(error.message.replace(str(path), name)) from error
    if isinstance(found, Recipe):
        notes: list[str] = []
        values = _of_recipe(parts, found, notes)
        source, recipe, checkpoint = "limner", found, found.checkpoint
    else:
        # Whether the checkpoint is here is said below.
        notes = [note for note in found.notes if not note.startswith(CHECKPOINT_NOTE)]
        values = found.request.model_dump(exclude_unset=True)
        source, recipe, checkpoint = found.source, None, found.checkpoint
    known = {entry["name"]: entry for worker in await parts.service.living_workers() for entry in worker.models}
    _place_model(values, checkpoint, recipe, known, notes)
    files = await asyncio.to_thread(parts.service.studio.adapter_files)
    values["adapters"] = _adapters(values.get("adapters", ()), files, notes)
    await _check_references(parts, owner, values, notes)
    request = GenerationRequest.model_validate({key: value for key, value in values.items() if value not in (None, ())})
    told = request if request.model_fields_set else None
    return InspectionView(source=source, request=told, recipe=recipe, notes=tuple(notes))


def _of_recipe(parts: State, recipe: Recipe, notes: list[str]) -> dict[str, Any]:
    """The request of one picture: as it was asked for, with the seed that this picture got."""
    request, presets = recipe.request, parts.service.studio.presets
    if request.stages or (request.preset and request.preset not in presets.names()):
        if request.preset and not request.stages:
            notes.append(f"Preset `{request.preset}` is not here; its stages were taken from the picture.")
        request = replayed(recipe)
    else:
        request = request.model_copy(update={"count": 1, "seed": recipe.plan.seed})
    # A recipe holds every field, also those that nobody asked for.
    asked = request.model_dump(exclude_defaults=True)
    values = {name: value for name, value in request.model_dump(exclude_none=True).items() if name in asked}
    for name in ("backend", "fallback"):
        values.pop(name, None)
    if request.backend not in backend_names():
        notes.append(f"Backend `{request.backend}` is not here; the usual one is used.")
    elif request.backend != parts.service.settings.backend:
        values["backend"] = request.backend
    return values


def _place_model(
    values: dict[str, Any],
    checkpoint: str,
    recipe: Recipe | None,
    known: Mapping[str, Mapping[str, Any]],
    notes: list[str],
) -> None:
    values.pop("model", None)
    if checkpoint in known:
        values["model"] = checkpoint
        sha256 = known[checkpoint].get("sha256")
        if recipe is not None and sha256 and recipe.checkpoint_sha256 not in ("", sha256):
            notes.append(f"Checkpoint `{checkpoint}` is not the one that it was made with; the picture will differ.")
    elif checkpoint:
        notes.append(f"{CHECKPOINT_NOTE} `{checkpoint}`, which no worker has; choose one of yours.")


def _adapters(wanted: Collection[dict[str, Any]], files: Collection[str], notes: list[str]) -> tuple[Any, ...]:
    placed: list[dict[str, Any]] = []
    for adapter in wanted:
        stem = Path(adapter["name"]).name.removesuffix(".safetensors")
        alike = [name for name in files if name.rpartition("/")[2] == stem]
        name = adapter["name"] if adapter["name"] in files else alike[0] if len(alike) == 1 else None
        if name is None:
            told = f"LoRA `{adapter['name']}` at {adapter.get('weight', 1.0):g} is not here and was left out"
            notes.append(f"{told}. Put its file into the folder of adapters.")
        else:
            placed.append(adapter | {"name": name})
    return tuple(placed)


async def _check_references(parts: State, owner: str, values: dict[str, Any], notes: list[str]) -> None:
    gallery = parts.service.gallery
    references: list[dict[str, Any]] = [
        *values.get("references", ()),
        *([mask] if (mask := values.get("mask")) else []),
    ]
    try:
        for reference in references:
            if (upload := reference.get("upload")) is not None:
                await gallery.get_upload(upload, owner)
            elif (image := reference.get("image")) is not None:
                await gallery.get(image, owner)
            else:
                raise NotFound
    except NotFound:
        values["references"], values["mask"] = (), None
        notes.append("It began with another picture, which is not here. Add that picture again.")
