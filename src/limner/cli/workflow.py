"""`limner workflow`: run ComfyUI's workflows without ComfyUI, or tell what that would come to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limner.cli.application import Application, json_option, server_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from limner.config import Settings
    from limner.studio import Studio
    from limner.workflows.comfyui.graph import Graph
    from limner.workflows.comfyui.names import Shelf
    from limner.workflows.comfyui.translate import Translation
    from limner.workflows.comfyui.wires import Given

MAX_FILE_BYTES = 32 * 2**20
WHERE = re.compile(r" \[(input|output|temp)\]$")
"""Which of ComfyUI's folders a picture lies in; behind its name."""


class Pair(click.ParamType[Any]):
    """Two texts with an equals sign between them."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, equals, rest = str(value).partition("=")
        if not equals or not name.strip():
            self.fail(f"{value!r} is not of the form NAME=VALUE.", param, ctx)
        return name.strip(), rest


def _workflow_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        server_option,
        click.option(
            "--image",
            "images",
            metavar="[NODE=]FILE",
            multiple=True,
            help="The picture that a node loads; without NODE, for the first one that has none.",
        ),
        click.option(
            "--map",
            "renamed",
            type=Pair(),
            metavar="OLD=NEW",
            multiple=True,
            help="The checkpoint or LoRA of yours that a name in the workflow means; may be repeated.",
        ),
        click.option(
            "--set",
            "given",
            type=Pair(),
            metavar="NAME=VALUE",
            multiple=True,
            help="prompt, negative_prompt, seed, steps, cfg, width, height, count, output, or NODE.input.",
        ),
        click.argument("file", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


@click.group(name="workflow", short_help="Run ComfyUI's workflows without ComfyUI.")
def command() -> None:
    """Run ComfyUI's workflows without ComfyUI, or tell what that would come to.

    FILE is what ComfyUI saves or exports in its API format, or a picture that it made.

    \b
    limner workflow explain zimage.json
    limner workflow run zimage.json --set prompt="a red boat" --set seed=7
    limner workflow run zimage.json --map z_image_turbo_bf16=z-image-turbo --out pictures
    limner workflow run kontext.json --image garden.png --set 31.steps=12
    """


@command.command(name="run", short_help="Paint what a workflow paints.")
@_workflow_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="here",
    help="A folder, or a file name ending in .png, .jpg or .webp. Nothing is overwritten.",
)
@click.option("--device", help="auto, cpu, cuda, cuda:N or mps.")
@json_option
@click.pass_context
def run(ctx: click.Context, /, **flags: Any) -> None:
    """Paint what the workflow in FILE paints, without ComfyUI.

    Either all of it is run, or nothing, and it is said which nodes stand in the way and why.
    """
    from limner.cli.generate import SUFFIXES
    from limner.cli.running import Place
    from limner.cli.workflow_painting import WorkflowPainting, WorkflowSending
    from limner.domain import OutputSettings

    application: Application = ctx.obj
    if flags["server"] and flags["device"]:
        raise click.UsageError("The server decides on its devices. Leave --device out, or --server.")
    settings = application.settings({"native": {"device": flags["device"]}})
    translation = _translated(application, settings, flags)
    request, out = translation.complete(), flags["out"]
    place = Place(out)
    if (suffix := out.suffix.lower()) in SUFFIXES:
        place = Place(out.parent, out.stem, out.suffix)
        request = request.model_copy(update={"output": OutputSettings.model_validate({"format": SUFFIXES[suffix]})})
    if flags["server"]:
        ctx.exit(WorkflowSending(application, flags["server"], place, translation.remarks).run([request]))
    ctx.exit(WorkflowPainting(application, settings, place, translation.remarks).run([request]))


@command.command(name="explain", short_help="Tell what running a workflow would come to.")
@_workflow_options
@json_option
@click.pass_obj
def explain(application: Application, /, **flags: Any) -> None:
    """Tell what running the workflow in FILE would come to: stages, texts, names, and what stands in the way.

    Nothing is painted and nothing is loaded.
    """
    from limner.workflows.comfyui.explain import lines_of, record_of

    translation = _translated(application, application.settings(), flags)
    if application.as_json:
        application.answer_json(record_of(translation))
        return
    for line in lines_of(translation):
        application.answer(line)


def _translated(application: Application, settings: Settings, flags: dict[str, Any]) -> Translation:
    from limner.workflows.comfyui.changes import read_changes
    from limner.workflows.comfyui.nodes import read_workflow
    from limner.workflows.comfyui.translate import translate

    graph, changes = read_workflow(_json_in(flags["file"])), read_changes(dict(flags["given"]))
    graph = changes.applied(graph)
    given = _pictures(graph, flags["file"].parent, flags["images"])
    renamed = dict(flags["renamed"])
    if flags["server"]:
        import asyncio

        from limner.cli.workflow_painting import names_on
        from limner.workflows.comfyui.names import Shelf

        shelf = Shelf(*asyncio.run(names_on(flags["server"], application)), renamed)
    else:
        shelf = _shelf(application.studio(settings), renamed)
    return translate(graph, shelf, given, changes)


def _json_in(path: Path) -> object:
    """What a workflow's file holds, or what ComfyUI wrote into a picture."""
    from limner.errors import InvalidRequest
    from limner.media.json_text import json_of
    from limner.media.metadata import graph_of
    from limner.media.pictures import opened

    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"Workflow `{path}` cannot be read ({error.strerror}). Check the path.") from error
    if content.lstrip()[:1] in (b"{", b"\xef"):
        if len(content) > MAX_FILE_BYTES:
            raise InvalidRequest(f"Workflow `{path}` is larger than {MAX_FILE_BYTES:,} bytes. Give a smaller one.")
        text: str | None = content.decode("utf-8-sig", errors="replace")
    else:
        with opened(path) as image:
            text = graph_of(image)
    if text is None:
        raise InvalidRequest(f"Picture `{path}` holds no workflow. Give one that ComfyUI made, or a JSON file.")
    try:
        return json_of(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"Workflow `{path}` is not valid JSON ({error}). Export it again.") from error


def _pictures(graph: Graph, folder: Path, images: tuple[str, ...]) -> dict[str, Given]:
    """The pictures for nodes that load one: those that were given, else files of their names beside the workflow."""
    from limner.domain import Reference
    from limner.media.pictures import open_whole
    from limner.workflows.comfyui.pictures import LOADING
    from limner.workflows.comfyui.wires import Given

    loading = [node for node in graph.nodes.values() if node.kind in LOADING]
    ids = {node.id for node in loading}
    paths: dict[str, Path] = {}
    for image in images:
        id, equals, file = image.partition("=")
        if equals and id in ids:
            paths[id] = Path(file)
            continue
        free = next((node.id for node in loading if node.id not in paths), None)
        if free is None:
            raise click.UsageError(f"--image {image}: no node of the workflow loads it.")
        paths[free] = Path(image)
    for node in loading:
        name = node.inputs.get("image")
        if node.id not in paths and isinstance(name, str) and name:
            plain = WHERE.sub("", name)
            found = next((path for path in (folder / plain, Path(plain)) if path.is_file()), None)
            paths |= {node.id: found} if found else {}
    given: dict[str, Given] = {}
    for id, path in paths.items():
        picture = open_whole(path)
        given[id] = Given(Reference(path=str(path)), picture.size, _transparent(picture))
    return given


def _transparent(picture: Image.Image) -> bool:
    return picture.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255)


def _shelf(studio: Studio, renamed: dict[str, str]) -> Shelf:
    from limner.domain import GenerationRequest
    from limner.workflows.comfyui.names import Shelf

    backend = studio.backend_of(GenerationRequest())
    known = dict.fromkeys(studio.abilities(backend).models, "")
    known |= studio.families() if backend == "native" else {}
    return Shelf(known, list(studio.adapter_files()), renamed, paths=True)
