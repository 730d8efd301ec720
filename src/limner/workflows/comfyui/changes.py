"""What a caller sets in a workflow before it is run: fields of the picture, and inputs of single nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from limner.domain import MAX_CFG, MAX_COUNT, MAX_STEPS, Record, Seed, Side, Text
from limner.errors import InvalidRequest
from limner.validation import checked, shown
from limner.workflows.comfyui.graph import Graph

Setting = str | int | float | bool


class PictureFields(Record):
    """Fields of the picture that stand above what the workflow says."""

    prompt: Text | None = Field(default=None, description="in place of the positive texts")
    negative_prompt: Text | None = Field(default=None, description="in place of the negative texts")
    seed: Seed | None = Field(default=None, description="of the first stage; the others keep their distance to it")
    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS, description="of the first stage")
    cfg: float | None = Field(default=None, ge=0, le=MAX_CFG, description="of the first stage")
    width: Side | None = Field(default=None, description="of the finished picture; other stages keep their proportion")
    height: Side | None = Field(default=None, description="of the finished picture; other stages keep their proportion")
    count: int | None = Field(default=None, ge=1, le=MAX_COUNT, description="pictures; picture i adds i to every seed")
    output: str | None = Field(
        default=None, description="id of the node whose picture is wanted, where there are several"
    )


@dataclass(frozen=True)
class Changes:
    """What the caller sets: `inputs` are values by node and name."""

    fields: PictureFields = field(default_factory=PictureFields)
    inputs: Mapping[tuple[str, str], Setting] = field(default_factory=dict[tuple[str, str], Setting])

    def applied(self, graph: Graph) -> Graph:
        """The graph with the inputs that are set. Raises as `Graph.changed`."""
        for (node, name), value in self.inputs.items():
            graph = graph.changed(node, name, value)
        return graph


def read_changes(given: Mapping[str, Setting]) -> Changes:
    """Changes from names and values: `NODE.input` is an input of that node, everything else a field of the picture.

    Raises `InvalidRequest` for a name that is neither, and for a value that is out of range.
    """
    fields: dict[str, Any] = {}
    inputs: dict[tuple[str, str], Setting] = {}
    for name, value in given.items():
        node, dot, input = name.rpartition(".")
        if dot and node and input:
            inputs[node, input] = value
        elif name in PictureFields.model_fields:
            fields[name] = str(value) if name == "output" else value
        else:
            known = ", ".join(PictureFields.model_fields)
            raise InvalidRequest(
                f"There is nothing called {shown(name)} to set. Set {known}, or NODE.input.", name=name
            )
    return Changes(checked(PictureFields, fields, "set"), inputs)
