"""Follow a graph's links backwards, from what is wanted to what it is made of.

A node is read once, by the function that the table has for its class, after everything that leads to it: so all that
stands in the way is found in one go, not the first of it. What a node cannot do is noted with its name; whoever needs
its answer gives up. Invariant: reading ends, whatever the graph; a circle or an endless chain is something in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeVar

from limner.domain import MAX_SEED
from limner.validation import shown
from limner.workflows.comfyui.editor import UNSAVED
from limner.workflows.comfyui.graph import Graph, Link, Node
from limner.workflows.comfyui.wires import Cannot, Given, Size, Value

MAX_DEPTH = 100

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """What limner makes of a class of nodes.

    Args:
        name: the class.
        becomes: what it becomes, for the table in the documents.
        read: what it puts onto one of its outputs. Raises `Cannot`.
        values: the names of its values in the order in which the editor saves them; None where that is not known.
        outputs: how many there are; 0 for a node that a run ends with.
        late: inputs that are read only when they are asked for.
    """

    name: str
    becomes: str
    read: Callable[[Reader, Node, int], object]
    values: tuple[str, ...] | None = ()
    outputs: int = 1
    late: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Trouble:
    """A node that cannot be run natively, and why."""

    node: str
    kind: str
    title: str
    reason: str

    def __str__(self) -> str:
        return f"{Node(self.node, self.kind, self.title, {})} {self.reason}."


@dataclass(frozen=True)
class Remark:
    """Something about a node that is worth knowing.

    `ignored` changes nothing in the picture, `differs` may; a `note` is about how limner does it.
    """

    kind: Literal["ignored", "differs", "note"]
    node: str
    text: str


class Unreadable(Exception):
    """What a node needs cannot be had; why is noted already."""


_BEGUN, _FAILED = object(), object()


class Reader:
    """Reads one graph.

    Args:
        graph: the workflow.
        kinds: the table of nodes.
        given: pictures by the id of the node that loads them.
        resized: whether the caller sets the picture's size, so that its own one need not fit.
    """

    def __init__(
        self, graph: Graph, kinds: Mapping[str, Kind], given: Mapping[str, Given], *, resized: bool = False
    ) -> None:
        self.graph = graph
        self.given = given
        self.resized = resized
        self.troubles: list[Trouble] = []
        self.remarks: list[Remark] = []
        self.met: set[str] = set()
        """Ids of the nodes that were read."""
        self._kinds = kinds
        self._results: dict[Link, object] = {}
        self._depth = 0

    @property
    def sizes(self) -> dict[str, Size | None]:
        """Of the given pictures, by node."""
        return {node: given.size for node, given in self.given.items()}

    def output(self, node: Node) -> object:
        """What a node that a run ends with shows. Raises `Unreadable`."""
        return self._result(Link(node.id, 0), node)

    def at(self, node: Node, name: str, kind: type[T]) -> T:
        """What arrives at an input. Raises `Unreadable`, and `Cannot` where it is missing or something else."""
        found = self.find(node, name, kind)
        if found is None:
            raise Cannot(f"has nothing at its input `{name}`")
        return found

    def find(self, node: Node, name: str, kind: type[T]) -> T | None:
        """As `at`, but None where nothing is connected."""
        link = node.inputs.get(name)
        if link is None:
            return None
        if not isinstance(link, Link):
            raise Cannot(f"has {shown(link)} at its input `{name}`, where a link belongs")
        found = self._result(link, node)
        if not isinstance(found, kind):
            raise Cannot(f"gets at its input `{name}` what does not belong there")
        return found

    def quietly(self, node: Node, name: str, kind: type[T]) -> T | None:
        """As `find` for what is not needed: None, and nothing is noted, where it cannot be had."""
        before = len(self.troubles), len(self.remarks), set(self._results)
        try:
            return self.find(node, name, kind)
        except (Cannot, Unreadable):
            del self.troubles[before[0] :], self.remarks[before[1] :]
            # Whoever does need it shall be told.
            self._results = {link: found for link, found in self._results.items() if link in before[2]}
            return None

    def prepare(self, node: Node, name: str) -> None:
        """Read what leads to an input, so that all that is wrong there is noted; nothing fails yet."""
        link = node.inputs.get(name)
        if isinstance(link, Link):
            with suppress(Unreadable):
                self._result(link, node)

    def value(self, node: Node, name: str, otherwise: object = None) -> object:
        """A value, whether it stands in the node or comes from one that only holds it."""
        found = node.inputs.get(name)
        if isinstance(found, Link):
            return self.at(node, name, Value).value
        if found is None:
            found = otherwise
        if found is None and UNSAVED in node.inputs:
            raise Cannot("has values whose names are not known here; export the workflow in ComfyUI's API format")
        if found is None:
            raise Cannot(f"has no `{name}`")
        return found

    def text(self, node: Node, name: str, otherwise: str | None = None) -> str:
        """A text."""
        found = self.value(node, name, otherwise)
        if not isinstance(found, str):
            raise Cannot(f"has {shown(found)} as `{name}`, which is no text")
        return found

    def whole(self, node: Node, name: str, otherwise: int | None = None) -> int:
        """A whole number."""
        found = self.value(node, name, otherwise)
        if isinstance(found, str) and found.strip().lstrip("-").isascii() and found.strip().lstrip("-").isdigit():
            found = int(found) if len(found) < 40 else found
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        if not isinstance(found, int) or isinstance(found, bool):
            raise Cannot(f"has {shown(found)} as `{name}`, which is no whole number")
        if abs(found) > MAX_SEED:
            raise Cannot(f"has {shown(found)} as `{name}`, which is too large")
        return found

    def number(self, node: Node, name: str, otherwise: float | None = None) -> float:
        """A finite number."""
        found = self.value(node, name, otherwise)
        try:
            number = float(found) if isinstance(found, int | float | str) and not isinstance(found, bool) else None
        except (ValueError, OverflowError):
            number = None
        if number is None or not abs(number) < float("inf"):
            raise Cannot(f"has {shown(found)} as `{name}`, which is no number")
        return number

    def only(self, node: Node, name: str, *allowed: object, otherwise: object = None) -> None:
        """Raise `Cannot` unless a value is one of those that limner can do."""
        found = self.value(node, name, otherwise)
        if found not in allowed:
            told = " or ".join(f"`{choice}`" for choice in allowed)
            raise Cannot(f"has {shown(found)} as `{name}`, where limner can do {told} only")

    def note(self, kind: Literal["ignored", "differs", "note"], node: Node | str, text: str) -> None:
        """Remember a remark, once."""
        remark = Remark(kind, node if isinstance(node, str) else node.id, text)
        if remark not in self.remarks:
            self.remarks.append(remark)

    def trouble(self, node: Node | str, reason: str) -> None:
        """Remember that a node cannot be run natively, and why, once."""
        if isinstance(node, str):
            node = self.graph.nodes.get(node, Node(node, "unknown", "", {}))
        found = Trouble(node.id, node.kind, node.title, reason)
        if found not in self.troubles:
            self.troubles.append(found)

    def _result(self, link: Link, wanted_by: Node) -> object:
        if (known := self._results.get(link)) is not None:
            if known is _BEGUN:
                self.trouble(wanted_by, "leads back to itself")
            if known is _BEGUN or known is _FAILED:
                raise Unreadable
            return known
        self._results[link] = _BEGUN
        try:
            found = self._read(link, wanted_by)
        except Unreadable:
            self._results[link] = _FAILED
            raise
        self._results[link] = found
        return found

    def _read(self, link: Link, wanted_by: Node) -> object:
        node = self.graph.nodes.get(link.node)
        if node is None:
            self.trouble(wanted_by, f"is linked to a node {shown(link.node)} that is not there")
            raise Unreadable
        self.met.add(node.id)
        if self._depth > MAX_DEPTH:
            self.trouble(node, f"is more than {MAX_DEPTH} nodes away from the end")
            raise Unreadable
        kind = self._kinds.get(node.kind)
        self._depth += 1
        try:
            self._read_what_leads_to(node, kind)
            if kind is None:
                raise Cannot("is of a class that limner does not know")
            if not 0 <= link.slot < max(1, kind.outputs):
                raise Cannot(f"has no output {link.slot}")
            return kind.read(self, node, link.slot)
        except Cannot as error:
            self.trouble(node, str(error))
            raise Unreadable from error
        finally:
            self._depth -= 1

    def _read_what_leads_to(self, node: Node, kind: Kind | None) -> None:
        for name in node.inputs:
            if not (kind and name in kind.late):
                self.prepare(node, name)
