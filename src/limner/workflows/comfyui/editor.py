"""Read the form that ComfyUI's editor saves, as its own page turns it into a prompt.

There, values lie in a list without names (`widgets_values`), links have numbers, and some nodes exist in the editor
only: reroutes, primitives, notes. Muted nodes are not sent, bypassed ones pass their inputs on. A subgraph is laid out
in place of the node that stands for it; the ids of what it holds are then `OUTER:INNER`, as ComfyUI names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from limner.errors import InvalidRequest
from limner.validation import shown
from limner.workflows.comfyui.graph import MAX_TITLE, Fields, Graph, Link, Node

MUTED, BYPASSED = 2, 4
CONTROLS = ("fixed", "increment", "decrement", "randomize")
"""What the editor does to a seed after a run; saved behind the seed, by old versions as yes or no."""
NOTES = ("Note", "MarkdownNote")
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"
FROM_OUTSIDE, TO_OUTSIDE = "-10", "-20"
INSIDE, OWN, NOWHERE = ":", "-1", -1
MAX_DEPTH = 8
MAX_HOPS = 1000
UNSAVED = "UNSAVED"
"""The input of a node whose values have no names here, so that they cannot be told."""

PROMPTS = ("text", "text_g", "text_l", "clip_l", "t5xxl", "prompt")
"""The inputs whose texts the editor's page looks through before it sends them."""

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_CHOICE = re.compile(r"(?<!\\)\{[^{}]*\|[^{}]*(?<!\\)\}")
_BRACE = re.compile(r"(?<!\\)[{}]")

Json = dict[str, Any]


@dataclass
class _Drawn:
    """A node as the editor draws it."""

    id: str
    kind: str
    title: str
    mode: int
    values: list[Any] | Json = field(default_factory=list[Any])
    slots: list[Json] = field(default_factory=list[Json])
    sources: dict[int, Link] = field(default_factory=dict[int, Link])  # by the place of the input
    exits: dict[int, Link] = field(default_factory=dict[int, Link])  # of a subgraph, by the place of the output
    entries: list[str] = field(default_factory=list[str])  # of a subgraph: the names of its inputs
    proxies: list[list[str]] = field(default_factory=list[list[str]])  # whose values these are: node and name

    def of_type(self, type: object, first: int) -> Link | None:
        """What a bypassed node passes on: its input at that place or the first one, of the wanted type."""
        for place in (first, *range(len(self.slots))):
            if place < len(self.slots) and self.slots[place].get("type") == type and place in self.sources:
                return self.sources[place]
        return None

    def input_at(self, entry: int) -> int:
        """The place here of the subgraph's input at that place; they are told by name, where there is one."""
        name = self.entries[entry] if entry < len(self.entries) else None
        places = [place for place, slot in enumerate(self.slots) if slot.get("name") == name] if name else [entry]
        return places[0] if places else NOWHERE

    def promoted(self, entry: int) -> object:
        """The value that a node that stands for a subgraph shows for the subgraph's input; None without one."""
        values = [] if isinstance(self.values, dict) else self.values
        if self.proxies:
            name = self.entries[entry] if entry < len(self.entries) else None
            places = [place for place, proxy in enumerate(self.proxies) if proxy == [OWN, name]]
        else:
            widgets = [place for place, slot in enumerate(self.slots) if "widget" in slot]
            here = self.input_at(entry)
            places = [widgets.index(here)] if here in widgets and len(values) >= len(widgets) else []
        return values[places[0]] if places and places[0] < len(values) else None


def read_editor(workflow: Json, fields: Fields) -> Graph:
    """The graph of a saved workflow.

    Raises `InvalidRequest`, which says what is not as it should be.
    """
    held = workflow.get("definitions")
    definitions = _objects(cast(Json, held).get("subgraphs")) if isinstance(held, dict) else []
    subgraphs = {str(definition.get("id")): definition for definition in definitions}
    drawn: dict[str, _Drawn] = {}
    _lay_out(workflow, "", subgraphs, drawn, 0)
    nodes: dict[str, Node] = {}
    left_out: list[tuple[Node, str]] = []
    for node in drawn.values():
        told = Node(node.id, node.kind, node.title, {})
        if node.kind in NOTES:
            left_out.append((told, "a note"))
        elif node.mode in (MUTED, BYPASSED):
            left_out.append((told, "muted" if node.mode == MUTED else "bypassed"))
        elif node.kind not in (REROUTE, PRIMITIVE) and node.kind not in subgraphs:
            nodes[node.id] = Node(node.id, node.kind, node.title, _inputs(node, drawn, fields))
    return Graph(nodes, tuple(left_out))


def _lay_out(place: Json, outer: str, subgraphs: Mapping[str, Json], drawn: dict[str, _Drawn], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidRequest("The workflow's subgraphs hold each other too deeply. Unpack them in ComfyUI.")
    here: dict[str, _Drawn] = {}
    for saved in _objects(place.get("nodes")):
        id, kind, mode = f"{outer}{saved.get('id')}", saved.get("type"), saved.get("mode", 0)
        if not isinstance(kind, str):
            raise InvalidRequest(f"Node {shown(id)} of the workflow has no type. Save it again in ComfyUI.")
        title = saved.get("title")
        named = title[:MAX_TITLE] if isinstance(title, str) else ""
        node = _Drawn(id, kind, named, mode if isinstance(mode, int) else 0)
        node.values, node.slots = _given_values(saved.get("widgets_values")), _objects(saved.get("inputs"))
        node.proxies = _proxies(saved.get("properties"))
        here[str(saved.get("id"))] = drawn[id] = node
    around = drawn.get(outer.removesuffix(INSIDE))
    for origin, slot, target, there in _links(place.get("links")):
        if (node := here.get(target)) is not None:
            node.sources[there] = Link(outer + origin, slot)
        elif target == TO_OUTSIDE and around is not None:
            around.exits[there] = Link(outer + origin, slot)
    for node in here.values():
        node.mode = around.mode if around and around.mode in (MUTED, BYPASSED) else node.mode
        if (definition := subgraphs.get(node.kind)) is not None:
            node.entries = [str(entry.get("name")) for entry in _objects(definition.get("inputs"))]
            _lay_out(definition, f"{node.id}{INSIDE}", subgraphs, drawn, depth + 1)


def _inputs(node: _Drawn, drawn: Mapping[str, _Drawn], fields: Fields) -> dict[str, object]:
    inputs: dict[str, object] = _values(node, fields(node.kind))
    for place, slot in enumerate(node.slots):
        name = slot.get("name")
        if isinstance(name, str) and place in node.sources:
            found = _source(node, node.sources[place], slot.get("type"), drawn)
            inputs |= {} if found is None else {name: found}
    texts = {name: _as_queued(inputs[name], node) for name in PROMPTS if isinstance(inputs.get(name), str)}
    return inputs | texts


def _source(node: _Drawn, link: Link | None, type: object, drawn: Mapping[str, _Drawn]) -> object:
    """What arrives at an input, through what only the editor knows; None where nothing does."""
    for _ in range(MAX_HOPS):
        if link is None:
            return None
        outer, _, last = link.node.rpartition(INSIDE)
        if last == FROM_OUTSIDE and outer in drawn:
            around = drawn[outer]
            here = around.input_at(link.slot)
            if here not in around.sources:
                return around.promoted(link.slot)
            link = around.sources[here]
            continue
        origin = drawn.get(link.node)
        if origin is None:
            return link  # a link to nowhere is told by whoever follows it
        if origin.kind == PRIMITIVE:
            return next(iter(origin.values.values() if isinstance(origin.values, dict) else origin.values), None)
        if origin.mode == MUTED:
            return None
        if origin.mode == BYPASSED:
            link = origin.of_type(type, link.slot)
        elif origin.kind == REROUTE:
            link = origin.sources.get(0)
        elif origin.exits:
            link = origin.exits.get(link.slot)
        else:
            return link
    raise InvalidRequest(f"What leads to node {node.id} of the workflow goes round in a circle. Take the circle out.")


def _values(node: _Drawn, names: tuple[str, ...] | None) -> dict[str, object]:
    if isinstance(node.values, dict):
        return dict(node.values)
    values = node.values
    if names is None:
        return {UNSAVED: True} if values else {}
    inputs: dict[str, object] = {}
    at = 0
    for name in names:
        if at >= len(values):
            break
        inputs[name] = values[at]
        at += 1
        control = values[at] if name.endswith("seed") and at < len(values) else None
        at += isinstance(control, bool) or control in CONTROLS
    return inputs


def _as_queued(value: object, node: _Drawn) -> object:
    """A prompt as the editor sends it: without comments; what it would choose at random cannot be known."""
    if not isinstance(value, str):
        return value
    text = _COMMENT.sub("", value)
    if _CHOICE.search(text):
        raise InvalidRequest(
            f"The prompt of node {node.id} has alternatives in braces, of which ComfyUI's page takes one at random. "
            "Choose one of them, or export the workflow in the API format."
        )
    return _BRACE.sub("", text).replace("\\{", "{").replace("\\}", "}")


def _links(found: object) -> Iterator[tuple[str, int, str, int]]:
    """Origin, its output, target, its input of every link; they are lists in the older form, objects in the newer."""
    for link in cast(list[object], found) if isinstance(found, list) else ():
        if isinstance(link, dict):
            named = cast(Json, link)
            parts = [named.get(name) for name in ("origin_id", "origin_slot", "target_id", "target_slot")]
        else:
            parts = cast(list[object], link)[1:5] if isinstance(link, list) else []
        if len(parts) == 4 and isinstance(parts[1], int) and isinstance(parts[3], int):
            yield str(parts[0]), parts[1], str(parts[2]), parts[3]


def _objects(found: object) -> list[Json]:
    items = cast(list[object], found) if isinstance(found, list) else []
    return [cast(Json, item) for item in items if isinstance(item, dict)]


def _proxies(properties: object) -> list[list[str]]:
    held: object = cast(Json, properties).get("proxyWidgets") if isinstance(properties, dict) else None
    proxies = cast(list[object], held) if isinstance(held, list) else []
    return [[str(part) for part in cast(list[object], proxy)] if isinstance(proxy, list) else [] for proxy in proxies]


def _given_values(found: object) -> list[Any] | Json:
    if isinstance(found, dict):
        return cast(Json, found)
    return cast(list[Any], found) if isinstance(found, list) else []
