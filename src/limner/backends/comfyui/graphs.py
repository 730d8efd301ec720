"""Make the graph for one picture out of a template and what the picture shall be.

Pure: no server is asked and no file is read. What the template has no field for is told in words, for the picture's
warnings. Invariant: a graph has no link to a node that is not in it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from limner.backends.comfyui.templates import Graph, Part, Template
from limner.domain import GenerationRequest, Plan, Stage

SAMPLED = ("width", "height", "seed", "steps", "cfg", "guidance", "sampler", "schedule", "shift", "denoise")
"""A stage's fields that a template may have inputs for."""


@dataclass(frozen=True)
class Wanted:
    """What goes into a graph besides the plan, under the names that the server knows it by.

    Args:
        prefix: of the file that is saved.
        model: the checkpoint's file; the template's own when absent.
        adapters: file and weight of each.
        start: name of the uploaded picture that is painted over.
        mask: name of the uploaded picture that is white where that is painted over.
        context: names of the uploaded pictures that the network looks at.
    """

    prefix: str
    model: str | None = None
    adapters: Sequence[tuple[str, float]] = ()
    start: str | None = None
    mask: str | None = None
    context: Sequence[str] = ()


def fill(template: Template, plan: Plan, wanted: Wanted) -> Graph:
    """The graph that paints this plan; as many stages as the template has."""
    graph = copy.deepcopy(template.graph)
    fields = template.fields
    _set(graph, fields.prefix, wanted.prefix)
    _set(graph, fields.prompt, plan.prompt)
    _set(graph, fields.negative_prompt, plan.negative_prompt)
    if wanted.model is not None:
        _set(graph, fields.model, wanted.model)
    if plan.clip_skip is not None:
        _set(graph, fields.clip_skip, -plan.clip_skip)
    for stage, inputs in zip(plan.stages, fields.stages, strict=True):
        for name in SAMPLED:
            if (value := _value(stage, name)) is not None:
                _set(graph, getattr(inputs, name), value)
        if inputs.cache:
            named = stage.cache.model_dump() if stage.cache else {}
            values = {name: (getattr(inputs.cache, name), value) for name, value in named.items()}
            _repeat(graph, inputs.cache, [values] if named else [])
    if loras := fields.adapters:
        chain = [{"name": (loras.name, name), "weight": (loras.weight, weight)} for name, weight in wanted.adapters]
        _repeat(graph, loras, chain)
    single = ((fields.mask, wanted.mask), (fields.start, wanted.start))
    loaded = [(part, [name] if name else []) for part, name in single]
    for part, names in (*loaded, (fields.context, wanted.context)):
        if part:
            _repeat(graph, part, [{"image": (part.image, name)} for name in names])
    return graph


def shortcomings(template: Template, request: GenerationRequest, plan: Plan) -> list[str]:
    """What of a request the template has no field for, each in two sentences."""
    fields = template.fields
    told: list[str] = []

    def lacks(name: str) -> None:
        told.append(f"Template `{template.name}` has no field `{name}`, which was left out. Choose another template.")

    if plan.negative_prompt.strip() and not fields.negative_prompt:
        lacks("negative_prompt")
    if plan.clip_skip is not None and not fields.clip_skip:
        lacks("clip_skip")
    for number, (stage, inputs) in enumerate(zip(plan.stages, fields.stages, strict=True)):
        missing = [name for name in SAMPLED if not getattr(inputs, name) and _asked(name, request, stage)]
        if stage.cache and not inputs.cache:
            missing.append("cache")
        for name in missing:
            lacks(f"stages.{number}.{name}")
    told += _shared(template, plan.stages)
    return told


def stage_of_nodes(template: Template) -> dict[str, int]:
    """Which stage a node's steps belong to."""
    return {stage.node: number for number, stage in enumerate(template.fields.stages)}


def _value(stage: Stage, name: str) -> object:
    return stage.noise_seed if name == "seed" else getattr(stage, name)


def _asked(name: str, request: GenerationRequest, stage: Stage) -> bool:
    """Whether somebody said it: what only the preset says is not missed."""
    if name == "seed":
        return True
    if name == "denoise":
        return stage.denoise != 1
    return getattr(request, name) is not None or bool(request.stages and name in stage.model_fields_set)


def _shared(template: Template, stages: Sequence[Stage]) -> list[str]:
    """What two stages want differently of one and the same input."""
    found: dict[str, set[object]] = {}
    for stage, inputs in zip(stages, template.fields.stages, strict=True):
        for name in SAMPLED:
            if (value := _value(stage, name)) is not None:
                for target in getattr(inputs, name):
                    found.setdefault(target, set()).add(value)
    return [
        f"Template `{template.name}` has one input {target} for stages that want different values; the last one's was "
        "taken. Choose another template."
        for target, values in found.items()
        if len(values) > 1
    ]


Values = Mapping[str, tuple[Iterable[str], Any]]
"""Inputs of a part and what they are set to, by name."""


def _set(graph: Graph, targets: Iterable[str], value: object) -> None:
    for target in targets:
        node, _, name = target.partition(".")
        graph[node]["inputs"][name] = value


def _repeat(graph: Graph, part: Part, wanted: Sequence[Values]) -> None:
    """Have a part as often as something is wanted of it, each copy behind the one before it."""
    if not wanted:
        _remove(graph, part)
        return
    original = {node: copy.deepcopy(graph[node]) for node in part.nodes}
    outside = [node for node in graph if node not in part.nodes]
    last = part.output
    for number, values in enumerate(wanted):
        names = {node: node if number == 0 else f"{node}_{number}" for node in part.nodes}
        for node, content in original.items():
            graph[names[node]] = renamed = copy.deepcopy(content)
            for name, value in renamed["inputs"].items():
                if _is_link(value) and value[0] in names:
                    renamed["inputs"][name] = [names[value[0]], value[1]]
        if number:
            for slot, target in enumerate(part.through):
                node, _, name = target.partition(".")
                graph[names[node]]["inputs"][name] = [last, slot]
        for targets, value in values.values():
            _set(graph, _of_copy(targets, names), value)
        last = names[part.output]
    if last != part.output:
        for node in outside:
            _relink(graph[node], part.output, {slot: [last, slot] for slot in range(len(part.through) or 1)})


def _of_copy(targets: Iterable[str], names: Mapping[str, str]) -> list[str]:
    split = [target.partition(".") for target in targets]
    return [f"{names.get(node, node)}.{name}" for node, _, name in split]


def _remove(graph: Graph, part: Part) -> None:
    """Take a part out: what it gave comes from where it took it, or from the node that stands in for it."""
    instead: dict[int, Any] = {}
    for slot, target in enumerate(part.through):
        node, _, name = target.partition(".")
        instead[slot] = graph[node]["inputs"][name]
    if part.otherwise is not None:
        instead.setdefault(0, [part.otherwise, 0])
    for node in part.nodes:
        del graph[node]
    for node in graph.values():
        _relink(node, part.output, instead)


def _relink(node: dict[str, Any], source: str, instead: Mapping[int, Any]) -> None:
    for name, value in node["inputs"].items():
        if _is_link(value) and value[0] == source and value[1] in instead:
            node["inputs"][name] = instead[value[1]]


def _is_link(value: object) -> bool:
    if not isinstance(value, list) or len(cast(list[Any], value)) != 2:
        return False
    node, slot = cast(list[Any], value)
    return isinstance(node, str) and isinstance(slot, int)
