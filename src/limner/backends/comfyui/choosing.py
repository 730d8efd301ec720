"""Decide how an order is painted: with which template, which files of the server's, and on which servers.

It asks servers what they have and sends them nothing to paint. Invariant: what an arrangement names is on each of its
servers, as far as these tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, cast

from limner.backends.comfyui.client import Instance
from limner.backends.comfyui.graphs import shortcomings
from limner.backends.comfyui.templates import Template, Templates
from limner.domain import AdapterOutcome, AdapterRequest, AdapterStatus
from limner.errors import AdapterMismatch, LimnerError, NotFound, Unsupported
from limner.ports import Order

UNTOLD = "ComfyUI does not tell how many of its weights found their place"
SUFFIXES = ("", ".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Place:
    """A server for an order, and what the order's files are called there."""

    instance: Instance
    device: str
    version: str
    free_bytes: int
    model: str | None
    adapters: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Arrangement:
    """How an order is painted."""

    template: Template
    places: tuple[Place, ...]
    adapters: tuple[AdapterOutcome, ...]
    warnings: tuple[str, ...]


async def arrange(order: Order, templates: Templates, default: str, instances: Sequence[Instance]) -> Arrangement:
    """Raises `Unsupported` and `NotFound` for what no template or server has, and `Unreachable` when none answers."""
    template = choose(order, templates, default)
    places = await _reachable(instances)
    places = await _with_model(order, template, places)
    places, outcomes, warnings = await _with_adapters(order, template, places)
    warnings += shortcomings(template, order.request, order.plans[0])
    return Arrangement(template, tuple(places), tuple(outcomes), tuple(warnings))


def choose(order: Order, templates: Templates, default: str) -> Template:
    """The template for an order: the one that it names as its model, else one that has what the order needs.

    Of these one that is made for the order's preset goes first, then the default one, then by name.
    """
    request = order.request
    if request.model and (named := templates.find(request.model)):
        if objection := _objection(named, order):
            raise Unsupported(f"Template `{named.name}` {objection}. Choose another one or change the request.")
        return named
    known = templates.sound()
    fitting = [template for template in known if not _objection(template, order)]
    if request.model:
        owners = [template for template in fitting if _same(request.model, template.checkpoint)]
        fitting = owners or fitting
    if not fitting:
        told = "; ".join(f"`{template.name}` {_objection(template, order)}" for template in known)
        raise Unsupported(f"No template of ComfyUI's can do this: {told or 'there is none'}. Change the request.")
    made = [template for template in fitting if request.preset in template.fields.presets]
    usual = [template for template in fitting if template.name == default]
    return (made or usual or fitting)[0]


def file_of(name: str, files: Sequence[str]) -> str | None:
    """What a server calls the file of that name: with any folder in front of it and any usual ending; None if none."""
    exact = [file for file in files if file == name]
    return next(iter(exact or [file for file in files if _same(name, file)]), None)


def _same(name: str, file: str) -> bool:
    path = PurePosixPath(file.replace("\\", "/"))
    return any(name + suffix in (path.as_posix(), path.name) for suffix in SUFFIXES)


def _objection(template: Template, order: Order) -> str:
    """Why a template cannot be used for an order; empty where it can."""
    have, want = len(template.fields.stages), len(order.plans[0].stages)
    if have != want:
        return f"has {have} stage{'s' * (have != 1)} and the request {want}"
    if order.reference is not None and template.fields.start is None:
        return "has no field `start` for the picture to start from"
    if order.mask is not None and template.fields.mask is None:
        return "has no field `mask`"
    if order.context and template.fields.context is None:
        return "has no field `context` for pictures to look at"
    if len(order.context) > 1 and template.fields.context and not template.fields.context.through:
        return "can look at one picture"
    return ""


async def _reachable(instances: Sequence[Instance]) -> list[Place]:
    async def look(instance: Instance) -> Place | LimnerError:
        try:
            stats = await instance.stats()
        except LimnerError as error:
            return error
        devices = cast(list[dict[str, Any]], stats.get("devices") or [{}])
        system = cast(dict[str, Any], stats.get("system") or {})
        device, version = str(devices[0].get("name") or "unknown"), str(system.get("comfyui_version") or "unknown")
        return Place(instance, device, version, int(devices[0].get("vram_free") or 0), None)

    found = await asyncio.gather(*(look(instance) for instance in instances))
    places = [place for place in found if isinstance(place, Place)]
    if not places:
        raise next(error for error in found if isinstance(error, LimnerError))
    return places


async def _with_model(order: Order, template: Template, places: list[Place]) -> list[Place]:
    request, inputs = order.request, template.fields.model
    named = None if request.model in (None, template.name) else request.model
    if not inputs:
        if named:
            raise NotFound(f"There is no checkpoint `{named}`: template `{template.name}` has its own. Leave it out.")
        return places
    node, _, name = inputs[0].partition(".")
    node_class = template.graph[node]["class_type"]
    wanted = named or template.checkpoint
    listed = await asyncio.gather(*(place.instance.choices(node_class, name) for place in places))
    kept: list[Place] = []
    for place, files in zip(places, listed, strict=True):
        if (file := wanted if files is None else file_of(wanted, files)) is not None:
            kept.append(replace(place, model=file))
    if not kept:
        known = ", ".join(sorted({file for files in listed for file in files or ()})[:10]) or "none"
        raise NotFound(
            f"There is no checkpoint `{wanted}` on ComfyUI, in the list of {node_class}. Known: {known}. "
            "Name one of them, or put the file there.",
            name=wanted,
        )
    return kept


async def _with_adapters(
    order: Order, template: Template, places: list[Place]
) -> tuple[list[Place], list[AdapterOutcome], list[str]]:
    """The servers that have the adapters, what becomes of each, and what is to be said about them."""
    outcomes: list[AdapterOutcome] = []
    loader, listed = template.fields.adapters, dict[str, list[str]]()
    if loader and order.request.adapters:
        node, _, name = loader.name[0].partition(".")
        node_class = template.graph[node]["class_type"]
        found = await asyncio.gather(*(place.instance.choices(node_class, name) for place in places))
        listed = {place.instance.url: files or [] for place, files in zip(places, found, strict=True)}
    for number, adapter in enumerate(order.request.adapters):
        names = [adapter.name, *(PurePosixPath(file).name for file in order.adapter_files[number : number + 1])]
        files = {url: _first_of(names, known) for url, known in listed.items()}
        having = [place for place in places if files.get(place.instance.url)]
        if not having:
            why = "ComfyUI has no such file" if loader else f"template `{template.name}` has no field `adapters`"
            outcomes.append(_outcome(adapter, AdapterStatus.SKIPPED, why))
            continue
        places = [
            replace(place, adapters=(*place.adapters, (files[place.instance.url] or "", adapter.weight)))
            for place in having
        ]
        some = adapter.stages is not None and set(adapter.stages) != set(range(len(template.fields.stages)))
        why = f"it was applied in all stages, since templates know no others; {UNTOLD}" if some else UNTOLD
        outcomes.append(_outcome(adapter, AdapterStatus.PARTIAL if some else AdapterStatus.APPLIED, why))
    told = [
        f"LoRA `{outcome.name}` was {outcome.status}: {outcome.reason}. Put the file there or choose another one."
        for outcome in outcomes
        if outcome.status is not AdapterStatus.APPLIED
    ]
    if told and order.request.on_adapter_mismatch == "fail":
        raise AdapterMismatch(told[0])
    return places, outcomes, told


def _first_of(names: Sequence[str], files: Sequence[str]) -> str | None:
    return next((file for name in names if (file := file_of(name, files))), None)


def _outcome(adapter: AdapterRequest, status: AdapterStatus, reason: str) -> AdapterOutcome:
    return AdapterOutcome(
        name=adapter.name, requested_weight=adapter.weight, status=status, matched=0, total=0, reason=reason
    )
