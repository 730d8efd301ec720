"""Read ComfyUI's graphs: the form that its API takes, and the form that its editor saves.

What comes out is the same for both: nodes by id, each with its class and its inputs, which are values or links to other
nodes' outputs. This module knows no node in particular; that a graph makes sense is for its reader to find out.
Invariant: reading never follows a link, so that a graph that leads back to itself is read like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from limner.errors import InvalidRequest, NotFound
from limner.validation import shown

MAX_NODES = 5000
MAX_TITLE = 100

Fields = Callable[[str], tuple[str, ...] | None]
"""The names of a class's values in the order in which the editor saves them; None for a class that is not known."""


class Link(NamedTuple):
    """One output of a node."""

    node: str
    slot: int


@dataclass(frozen=True)
class Node:
    """One node: its class is called `kind`, its inputs are values or links."""

    id: str
    kind: str
    title: str
    inputs: Mapping[str, object]

    def __str__(self) -> str:
        named = f"`{self.kind}`" if self.title in ("", self.kind) else f"`{self.kind}` “{self.title}”"
        return f"node {self.id} ({named})"


@dataclass(frozen=True)
class Graph:
    """A workflow. `left_out` says which nodes of the editor's form take no part: notes, muted and bypassed ones."""

    nodes: Mapping[str, Node]
    left_out: tuple[tuple[Node, str], ...] = ()

    def changed(self, id: str, name: str, value: object) -> Graph:
        """The graph with another value for one input, of the type that it had; a text becomes a number where it must.

        Raises `NotFound` for a node or input that is not there, `InvalidRequest` for a value of another type.
        """
        node = self.nodes.get(id)
        if node is None:
            raise NotFound(f"The workflow has no node {shown(id)}. Look at `limner workflow explain`.", node=id)
        if name not in node.inputs:
            known = ", ".join(f"`{known}`" for known in node.inputs) or "none"
            raise NotFound(f"There is no input {shown(name)} at {node}. It has: {known}.", node=id, input=name)
        inputs = {**node.inputs, name: _typed(value, node, name)}
        return replace(self, nodes={**self.nodes, id: replace(node, inputs=inputs)})


def read_graph(found: object, fields: Fields) -> Graph:
    """The graph that parsed JSON holds, in either form; also one that is wrapped for ComfyUI's `/prompt`.

    Raises `InvalidRequest`, which says what is not as it should be.
    """
    if not isinstance(found, dict):
        raise InvalidRequest("A workflow is a JSON object, and this is none. Give what ComfyUI saves or exports.")
    workflow = cast(dict[str, Any], found)
    if isinstance(workflow.get("nodes"), list):
        from limner.workflows.comfyui.editor import read_editor

        return _checked(read_editor(workflow, fields))
    if isinstance(workflow.get("prompt"), dict) and "class_type" not in workflow["prompt"]:
        workflow = cast(dict[str, Any], workflow["prompt"])
    return _checked(Graph({id: _node(id, value) for id, value in workflow.items()}))


def _checked(graph: Graph) -> Graph:
    if not graph.nodes:
        raise InvalidRequest("The workflow has no nodes. Give what ComfyUI saves or exports.")
    if len(graph.nodes) > MAX_NODES:
        raise InvalidRequest(f"The workflow has {len(graph.nodes)} nodes; {MAX_NODES} are read. Give a smaller one.")
    return graph


def _node(id: str, value: object) -> Node:
    fields = cast(dict[str, Any], value) if isinstance(value, dict) else {}
    kind, inputs, meta = fields.get("class_type"), fields.get("inputs", {}), fields.get("_meta")
    if not isinstance(kind, str) or not isinstance(inputs, dict):
        raise InvalidRequest(
            f"Entry {shown(id)} of the workflow is no node: it has no `class_type` with `inputs`. "
            "Give a workflow that ComfyUI saved, or exported in its API format."
        )
    title: object = cast(dict[str, Any], meta).get("title") if isinstance(meta, dict) else ""
    links = {name: _link(item) for name, item in cast(dict[str, Any], inputs).items()}
    return Node(id, kind, title[:MAX_TITLE] if isinstance(title, str) else "", links)


def _link(value: object) -> object:
    match value:
        case [str() | int() as node, int() as slot] if not isinstance(node, bool) and not isinstance(slot, bool):
            return Link(str(node), slot)
        case _:
            return value


def _typed(value: object, node: Node, name: str) -> object:
    old = node.inputs[name]
    if isinstance(old, Link) or isinstance(value, bool) or not isinstance(value, str) or isinstance(old, str):
        return value
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(old, int):
            return int(value)
        return float(value) if isinstance(old, float) else value
    except (KeyError, ValueError) as error:
        kind = "true or false" if isinstance(old, bool) else "a number"
        raise InvalidRequest(f"{shown(value)} is not {kind}, which `{name}` of {node} is. Correct it.") from error
