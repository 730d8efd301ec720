"""A graph becomes a request, or the exact list of what stands in the way.

The end of the run is looked for first, and what it is made of is read backwards; every sampler on that way is a stage.
Nothing is left out in silence: what cannot be expressed is a `Trouble`, what changes nothing or little is a `Remark`.
This module opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from limner.domain import MAX_SEED, GenerationRequest
from limner.errors import InvalidRequest, NotFound, Unsupported
from limner.validation import checked
from limner.workflows.comfyui.assembly import Assembly, Missing
from limner.workflows.comfyui.changes import Changes
from limner.workflows.comfyui.graph import Graph, Link, Node
from limner.workflows.comfyui.names import Shelf
from limner.workflows.comfyui.nodes import KINDS
from limner.workflows.comfyui.reading import Reader, Remark, Trouble, Unreadable
from limner.workflows.comfyui.wires import Given, Latent, Pass, Pixels

TOLD = 8
"""So many nodes are named in a message; `details` has all of them."""


@dataclass(frozen=True)
class Translation:
    """What a workflow became.

    `request` is there when neither `troubles` nor `missing` are. `passes` are the samplers that lead to the picture,
    as far as they could be read, also where there is no request; `output` is the node that shows it.
    """

    request: GenerationRequest | None
    passes: tuple[Pass, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    missing: tuple[Missing, ...] = ()
    remarks: tuple[Remark, ...] = ()
    output: str = ""

    def complete(self) -> GenerationRequest:
        """The request.

        Raises `Unsupported` with every node that cannot be run in `details`, `NotFound` with the names that are not
        known, and `InvalidRequest` where pictures have to be given.
        """
        if self.troubles:
            listed = [vars(trouble) for trouble in self.troubles]
            told = " ".join(_sentence(str(trouble)) for trouble in self.troubles[:TOLD])
            told += f" {len(self.troubles) - TOLD} more nodes stand in the way." if len(self.troubles) > TOLD else ""
            raise Unsupported(
                f"This workflow cannot be run natively. {told} Change these nodes, or run it in ComfyUI.",
                unsupported=listed,
            )
        if names := [missing for missing in self.missing if missing.kind != "picture"]:
            told = " ".join(str(missing) for missing in names)
            raise NotFound(
                f"{told} Say which of yours is meant, or add it.", missing=[vars(missing) for missing in names]
            )
        if self.missing:
            told = " ".join(str(missing) for missing in self.missing)
            raise InvalidRequest(f"{told} Give it by the node's id.", missing=[vars(m) for m in self.missing])
        assert self.request is not None
        return self.request


def translate(
    graph: Graph, shelf: Shelf, given: Mapping[str, Given] | None = None, changes: Changes | None = None
) -> Translation:
    """What a workflow becomes.

    Args:
        graph: the workflow.
        shelf: the checkpoints and LoRAs that there are, and which of them the workflow's names mean.
        given: pictures by the id of the node that loads them.
        changes: what the caller sets.

    Raises `NotFound` and `InvalidRequest` for changes that the workflow has no place for.
    """
    changes = changes or Changes()
    graph = changes.applied(graph)
    fields = changes.fields
    reader = Reader(graph, KINDS, given or {}, resized=bool(fields.width and fields.height))
    end, latent = _end(reader, changes)
    passes = _changed(latent.passes, changes) if latent else ()
    missing: tuple[Missing, ...] = ()
    request = None
    if latent is not None:
        assembly = Assembly(reader, shelf, changes, replace(latent, passes=passes))
        values = assembly.values()
        missing = tuple(assembly.missing)
        if values is not None and not reader.troubles and not missing:
            request = checked(GenerationRequest, values, "The workflow")
    _note_unused(reader, graph)
    remarks = (
        *reader.remarks,
        *(Remark("ignored", node.id, f"`{node.kind}` is {why}") for node, why in graph.left_out),
    )
    return Translation(request, passes, tuple(reader.troubles), missing, remarks, end)


def _end(reader: Reader, changes: Changes) -> tuple[str, Latent | None]:
    """The node that the run ends with, and the latent that it shows, decoded."""
    ends = [node for node in reader.graph.nodes.values() if (kind := KINDS.get(node.kind)) and kind.outputs == 0]
    if (wanted := changes.fields.output) is not None:
        ends = [node for node in ends if node.id == wanted]
        if not ends:
            raise NotFound(f"The workflow does not end with a node `{wanted[:40]}`. Name a SaveImage or PreviewImage.")
    if not ends:
        return _without_end(reader), None
    shown: dict[str, Latent] = {}
    failed: list[Node] = []
    for node in sorted(ends, key=_is_preview):
        # What a preview shows need not be made where another node keeps the picture.
        if _is_preview(node) and shown and not failed:
            pixels = reader.quietly(node, "images", Pixels)
            if pixels is None:
                reader.note("ignored", node, "shows what limner does not make")
                continue
        else:
            try:
                pixels = reader.output(node)
            except Unreadable:
                failed.append(node)
                continue
        if isinstance(pixels, Pixels) and pixels.decoded is not None and pixels.decoded.passes:
            shown[node.id] = pixels.decoded
        else:
            reader.note("ignored", node, "shows a picture that nothing has painted")
    if failed:
        return failed[0].id, None
    if not shown:
        reader.trouble(ends[0], "shows nothing that a sampler has painted")
        return ends[0].id, None
    chosen = _chosen(reader, shown)
    return chosen, shown[chosen] if chosen else None


def _without_end(reader: Reader) -> str:
    """Say which nodes of unknown classes may be meant to end the run; one of them."""
    used = {
        value.node for node in reader.graph.nodes.values() for value in node.inputs.values() if isinstance(value, Link)
    }
    ends = [node for node in reader.graph.nodes.values() if node.id not in used and node.kind not in KINDS]
    if not ends:
        raise InvalidRequest("The workflow has no SaveImage or PreviewImage, so that nothing comes of it. Add one.")
    for node in ends:
        with suppress(Unreadable):
            reader.output(node)
    return ends[0].id


def _chosen(reader: Reader, shown: Mapping[str, Latent]) -> str:
    """The one that goes through all samplers; what the others show is on its way."""
    longest = max(shown, key=lambda id: (len(shown[id].passes), not _is_preview(reader.graph.nodes[id])))
    whole = [step.node for step in shown[longest].passes]
    for id, latent in shown.items():
        nodes = [step.node for step in latent.passes]
        if nodes == whole[: len(nodes)]:
            if id != longest:
                what = "the same picture again" if nodes == whole else f"what stage {len(nodes)} leaves"
                reader.note("ignored", id, f"shows {what}")
        elif _is_preview(reader.graph.nodes[id]) and not _is_preview(reader.graph.nodes[longest]):
            reader.note("ignored", id, "shows another picture, which is not kept")
        else:
            reader.trouble(id, "shows another picture; run one at a time, and say which with `output`")
    return longest


def _is_preview(node: Node) -> bool:
    return node.kind == "PreviewImage"


def _changed(passes: tuple[Pass, ...], changes: Changes) -> tuple[Pass, ...]:
    fields, first = changes.fields, passes[0]
    changed: dict[str, Any] = {"steps": fields.steps, "cfg": fields.cfg}
    if fields.seed is not None:
        apart = fields.seed - first.seed
        passes = tuple(replace(step, seed=(step.seed + apart) % (MAX_SEED + 1)) for step in passes)
    given = {name: value for name, value in changed.items() if value is not None}
    return (replace(passes[0], **given), *passes[1:])


def _note_unused(reader: Reader, graph: Graph) -> None:
    for node in graph.nodes.values():
        kind = KINDS.get(node.kind)
        if node.id not in reader.met:
            if reader.troubles:
                continue  # whether it is needed cannot be told
            reader.note("ignored", node, f"`{node.kind}` leads to no picture that is painted")
        elif kind is not None and kind.outputs == 0 and "filename_prefix" in node.inputs:
            reader.note("ignored", node, "has a `filename_prefix`; where files go is for the caller to say")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
