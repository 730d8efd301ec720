"""Workflows of ComfyUI for tests: the examples, a plain one, and the editor's form of a graph."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from limner.domain import GenerationRequest, Reference, Stage
from limner.workflows.comfyui.changes import read_changes
from limner.workflows.comfyui.names import Shelf
from limner.workflows.comfyui.nodes import KINDS, read_workflow
from limner.workflows.comfyui.translate import Translation, translate
from limner.workflows.comfyui.wires import Given

EXAMPLES = Path(__file__).parents[2] / "examples"
Json = dict[str, Any]
SHELF = Shelf({"z-image": "zimage", "flux-kontext": "flux", "dream": "sdxl"}, ("ink", "pens/wash"))


def example(name: str) -> Json:
    """One of the workflows in the folder of examples."""
    return json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def node(kind: str, **inputs: Any) -> Json:
    """A node in the API form; a link is a list of id and output."""
    return {"class_type": kind, "inputs": inputs}


def changed(base: Json, **inputs: Any) -> Json:
    """A node with other inputs."""
    return base | {"inputs": base["inputs"] | inputs}


def plain(**changes: Json) -> Json:
    """One stage of 64x96; nodes are replaced by id, written as `n3`."""
    nodes = {
        "1": node("CheckpointLoaderSimple", ckpt_name="dream.safetensors"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a red boat"),
        "3": node("CLIPTextEncode", clip=["1", 1], text="fog"),
        "4": node("EmptyLatentImage", width=64, height=96, batch_size=1),
        "5": node(
            "KSampler",
            **{"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0], "seed": 7},
            **{"steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
        ),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix="boat"),
    }
    return nodes | {name.removeprefix("n"): value for name, value in changes.items()}


def sampler(**inputs: Any) -> Json:
    """The sampler of `plain` with other inputs."""
    return changed(plain()["5"], **inputs)


def translated(
    workflow: Json, given: Mapping[str, Given] | None = None, shelf: Shelf = SHELF, **changes: Any
) -> Translation:
    """What a workflow becomes; `changes` as names and values, with `__` where a node's input has its point."""
    named = {re.sub(r"^n(\d+)__", r"\1.", name): value for name, value in changes.items()}
    return translate(read_workflow(workflow), shelf, given, read_changes(named))


def reasons(workflow: Json, given: Mapping[str, Given] | None = None, **changes: Any) -> dict[str, str]:
    """Why a workflow cannot be run, by node."""
    found = translated(workflow, given, **changes)
    assert found.request is None
    return {trouble.node: trouble.reason for trouble in found.troubles}


def stages(request: GenerationRequest) -> tuple[Stage, ...]:
    """The stages of a request that has some."""
    assert request.stages
    return request.stages


def picture(width: int = 64, height: int = 96, transparent: bool | None = False) -> Given:
    """A picture that was given."""
    return Given(Reference(upload="cat"), (width, height), transparent)


def drawn(workflow: Json) -> Json:
    """The workflow as ComfyUI's editor saves it."""
    nodes: list[Json] = []
    links: list[list[Any]] = []
    for id, entry in workflow.items():
        names = KINDS[entry["class_type"]].values if entry["class_type"] in KINDS else ()
        values: list[Any] = []
        for name in names or ():
            values.append(None if _is_link(entry["inputs"].get(name)) else entry["inputs"].get(name))
            values += ["randomize"] if name.endswith("seed") else []
        slots: list[Json] = []
        for name, value in entry["inputs"].items():
            if _is_link(value):
                links.append([len(links) + 1, int(value[0]), value[1], int(id), len(slots), "*"])
                slots.append({"name": name, "type": "*", "link": len(links)})
        saved = {"id": int(id), "type": entry["class_type"], "mode": 0, "inputs": slots, "widgets_values": values}
        nodes.append(saved)
    return {"nodes": nodes, "links": links, "version": 0.4}


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(cast(list[Any], value)) == 2 and str(cast(list[Any], value)[0]).isdigit()
