"""A request from the graph that ComfyUI writes into its pictures, as far as the graph is plain.

A graph can compute anything. What is read is its first `KSampler` with the nodes that lead to it: texts, model, LoRAs,
shift, EasyCache, and the size of the empty latent. Everything else on that way is named in `notes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from limner.domain import MAX_SEED, MAX_STEPS, CacheSettings, GenerationRequest
from limner.errors import Unsupported
from limner.media.json_text import json_of
from limner.media.parameters import (
    CHECKPOINT_NOTE,
    ForeignRecipe,
    adapters_of,
    guidance,
    plain,
    sampler_of,
    schedule_of,
    size_near,
    whole,
)
from limner.validation import checked

SOURCE = "ComfyUI's graph"
_SAMPLERS = ("KSampler", "KSamplerAdvanced")
_SAMPLING = ("KSampler", "SamplerCustom")
_CHOICE = "KSamplerSelect"
_FARTHEST = 100
_LORAS = ("LoraLoader", "LoraLoaderModelOnly")
_SHIFTS = ("ModelSamplingAuraFlow", "ModelSamplingSD3")
_MODEL_NAMES = ("unet_name", "ckpt_name", "model_name")
_VALUES = ("value", "int", "float", "string", "text", "seed", "noise_seed", "number")
_TEXTS = ("text", "prompt", "text_g")


@dataclass(frozen=True)
class _Node:
    kind: str
    inputs: dict[str, Any]


@dataclass
class _Graph:
    nodes: dict[str, _Node]
    left_out: list[str] = field(default_factory=list[str])

    def source(self, value: object) -> _Node | None:
        """The node at the other end of an input that is a link."""
        if isinstance(value, list) and value:
            return self.nodes.get(str(cast(list[Any], value)[0]))
        return None

    def literal(self, node: _Node, name: str) -> str:
        """An input's value as text, through nodes that only hold one; empty where there is none."""
        value: Any = node.inputs.get(name)
        for _ in range(_FARTHEST):
            if not isinstance(value, list):
                return "" if value is None else str(value)
            held = source.inputs if (source := self.source(cast(object, value))) else {}
            value = next((held[key] for key in _VALUES if key in held), None)
        return ""

    def upstream(self, node: _Node, *names: str) -> Iterator[_Node]:
        """The nodes that lead to a node's input, the nearest first: on through the first of these inputs."""
        at: _Node | None = node
        for _ in range(_FARTHEST):
            at = next((found for name in names if (found := self.source(at.inputs.get(name)))), None)
            if at is None:
                return
            yield at

    def text(self, sampler: _Node, side: str) -> str | None:
        """The prompt that leads to one side of a sampler; None where it is not plain."""
        for node in self.upstream(sampler, side, "conditioning"):
            if node.kind == "ConditioningZeroOut":
                return ""
            if name := next((name for name in _TEXTS if name in node.inputs), None):
                return self.literal(node, name)
            self.left_out.append(node.kind)
        return None


def parse_graph(text: str, size: tuple[int, int]) -> ForeignRecipe:
    """A request from the text of the chunk `prompt` and the picture's size in pixels.

    What cannot be carried over is said in `notes`.

    Raises `Unsupported` when the text is something else.
    """
    graph = _Graph(_nodes(text))
    notes = ["Its graph was made with ComfyUI; the parts that limner understands were taken over."]
    samplers = [node for node in graph.nodes.values() if node.kind in _SAMPLERS]
    first = next((node for node in samplers if not any(at.kind in _SAMPLERS for at in _latents(graph, node))), None)
    if first is None:
        notes = ["Its graph was made with ComfyUI and has no KSampler that limner understands."]
        return ForeignRecipe(source="comfyui", request=GenerationRequest(), text=text, notes=tuple(notes))
    several = sum(node.kind.startswith(_SAMPLING) and node.kind != _CHOICE for node in graph.nodes.values())
    if several > 1:
        notes.append(f"Its graph has {several} samplers; the first one's numbers and the picture's size were taken.")
    values = _prompts(graph, first, notes) | _numbers(graph, first, notes)
    model, checkpoint = _model(graph, first, notes)
    values |= model | (size_near(*size, notes) if several > 1 else _size(graph, first, notes))
    if checkpoint:
        notes.append(f"{CHECKPOINT_NOTE} `{checkpoint}`; choose one of yours.")
    if graph.left_out:
        named = ", ".join(f"`{kind}`" for kind in dict.fromkeys(graph.left_out))
        notes.append(f"Not understood and left out: {named}.")
    request = checked(GenerationRequest, {name: value for name, value in values.items() if value is not None}, SOURCE)
    return ForeignRecipe(source="comfyui", request=request, checkpoint=checkpoint, text=text, notes=tuple(notes))


def _nodes(text: str) -> dict[str, _Node]:
    try:
        found = json_of(text)
    except (ValueError, RecursionError):
        found = None
    nodes: dict[str, _Node] = {}
    for key, value in cast(dict[str, Any], found).items() if isinstance(found, dict) else ():
        node = cast(dict[str, Any], value) if isinstance(value, dict) else {}
        kind, inputs = node.get("class_type"), node.get("inputs")
        if isinstance(kind, str) and isinstance(inputs, dict):
            nodes[key] = _Node(kind, cast(dict[str, Any], inputs))
    if not nodes:
        raise Unsupported("The picture's `prompt` text is no graph that limner knows. Choose another picture.")
    return nodes


def _latents(graph: _Graph, sampler: _Node) -> Iterator[_Node]:
    return graph.upstream(sampler, "latent_image", "samples", "latent", "pixels", "image")


def _prompts(graph: _Graph, sampler: _Node, notes: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for side, name in (("positive", "prompt"), ("negative", "negative_prompt")):
        text = graph.text(sampler, side)
        if text is None:
            notes.append(f"Its {side} prompt is computed in a way that limner does not understand.")
        else:
            found[name] = plain(text, notes)
    return found


def _numbers(graph: _Graph, sampler: _Node, notes: list[str]) -> dict[str, object]:
    seed = "seed" if "seed" in sampler.inputs else "noise_seed"
    denoise = graph.literal(sampler, "denoise")
    if denoise not in ("", "1", "1.0"):
        notes.append(
            f"Its first sampler has denoise {denoise}; it began with another picture, which is not in the file."
        )
    return {
        "seed": whole("Seed", graph.literal(sampler, seed), 0, MAX_SEED, notes),
        "steps": whole("Steps", graph.literal(sampler, "steps"), 1, MAX_STEPS, notes),
        "cfg": guidance("cfg", graph.literal(sampler, "cfg"), notes),
        "sampler": sampler_of(graph.literal(sampler, "sampler_name").removesuffix("_gpu"), notes),
        "schedule": schedule_of(graph.literal(sampler, "scheduler"), notes),
    }


def _model(graph: _Graph, sampler: _Node, notes: list[str]) -> tuple[dict[str, object], str]:
    loras: list[tuple[str, float]] = []
    values: dict[str, object] = {}
    checkpoint = ""
    for node in graph.upstream(sampler, "model"):
        if node.kind in _LORAS:
            name = graph.literal(node, "lora_name").replace("\\", "/").removesuffix(".safetensors")
            loras.insert(0, (name, _number(graph.literal(node, "strength_model"), 1.0)))
        elif node.kind in _SHIFTS:
            shift = _number(graph.literal(node, "shift"), 0.0)
            values["shift"] = shift if 0 < shift <= 100 else None
        elif node.kind == "EasyCache":
            fields = {name: _number(graph.literal(node, name), -1.0) for name in CacheSettings.model_fields}
            values["cache"] = fields if all(0 <= value <= 1 for value in fields.values()) else None
        elif name := next((name for name in _MODEL_NAMES if name in node.inputs), None):
            checkpoint = graph.literal(node, name).replace("\\", "/").removesuffix(".safetensors")
        else:
            graph.left_out.append(node.kind)
    return values | {"adapters": adapters_of(loras, notes)}, checkpoint


def _size(graph: _Graph, sampler: _Node, notes: list[str]) -> dict[str, object]:
    for node in _latents(graph, sampler):
        width, height = graph.literal(node, "width"), graph.literal(node, "height")
        if all(side.isascii() and side.isdigit() and len(side) < 6 for side in (width, height)):
            return size_near(int(width), int(height), notes)
    return {}


def _number(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise
