"""Workflow templates: a graph as ComfyUI exports it (API format), and a TOML file that names what may be filled in.

    portrait.json    the graph: node id -> {class_type, inputs}
    portrait.toml    prompt = "6.text"        the input `text` of node 6 is the prompt
                     output = "41"            node 41 saves the picture
                     [[stages]] …             one table for each sampling pass

Files are read when they are asked for, so that a new one needs no restart and a broken one harms nobody who does not
use it. This module sends nothing and fills nothing in. Invariant: every input that a template names is in its graph.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from limner.errors import ConfigError
from limner.validation import sentences

Graph = dict[str, dict[str, Any]]


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Inputs = Annotated[tuple[Annotated[str, Field(pattern=r"^[^.\s]+\.[^.\s]+$")], ...], BeforeValidator(_several)]
"""Inputs of nodes, each as `NODE.INPUT`; one text is a list of one."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Table):
    """Nodes that are there as often as something was asked for: not at all, once, or in a chain.

    Absent, what they gave comes from where they took it; once more, the next takes what the one before it gave.
    """

    nodes: tuple[str, ...] = Field(min_length=1, description="all of them")
    output: str = Field(description="the node whose outputs the others take")
    through: Inputs = Field(default=(), description="for output 0, 1 … of that node: the input that it passes on")
    otherwise: str | None = Field(default=None, description="node whose outputs are taken where the part is absent")


class Adapters(Part):
    """Nodes that load a LoRA."""

    name: Inputs = Field(min_length=1)
    weight: Inputs = Field(min_length=1)


class Pictures(Part):
    """Nodes that load a picture."""

    image: Inputs = Field(min_length=1)


class Cache(Part):
    """Nodes that reuse the network's answers."""

    reuse_threshold: Inputs = ()
    start_percent: Inputs = ()
    end_percent: Inputs = ()


class StageFields(_Table):
    """The inputs of one sampling pass."""

    node: str = Field(description="the node whose steps are the stage's")
    width: Inputs = ()
    height: Inputs = ()
    seed: Inputs = ()
    steps: Inputs = ()
    cfg: Inputs = ()
    guidance: Inputs = ()
    sampler: Inputs = ()
    schedule: Inputs = ()
    shift: Inputs = ()
    denoise: Inputs = ()
    cache: Cache | None = None


class Fields(_Table):
    """What a template's TOML file says."""

    description: str = ""
    presets: tuple[str, ...] = Field(default=(), description="presets whose requests it is the first choice for")
    output: str = Field(description="the node that saves the picture")
    prefix: Inputs = Field(min_length=1, description="the beginning of the saved file's name")
    prompt: Inputs = Field(min_length=1)
    negative_prompt: Inputs = ()
    model: Inputs = Field(default=(), description="the checkpoint's file")
    clip_skip: Inputs = Field(default=(), description="told as ComfyUI counts it: -2 for 2")
    adapters: Adapters | None = None
    start: Pictures | None = Field(default=None, description="the picture that is painted over")
    mask: Pictures | None = Field(default=None, description="where that picture is painted over: white is")
    context: Pictures | None = Field(default=None, description="pictures that the network looks at")
    stages: tuple[StageFields, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Template:
    """A graph, and what may be filled in there."""

    name: str
    fields: Fields
    graph: Graph

    @property
    def checkpoint(self) -> str:
        """The checkpoint's file as the graph has it; the template's name where it names none."""
        for field in self.fields.model:
            node, _, name = field.partition(".")
            return str(self.graph[node]["inputs"][name])
        return self.name

    def title_of(self, node: str) -> str:
        """A node as people see it: its title, or its class."""
        return title_of(self.graph, node)


def title_of(graph: Mapping[str, Any], node: str) -> str:
    """A node of a graph as people see it: its title, or its class."""
    found: dict[str, Any] = graph.get(node) or {}
    about = cast(dict[str, Any], found.get("_meta") or {})
    return str(about.get("title") or found.get("class_type") or "unknown")


class Templates:
    """All templates that there are: the shipped ones, and a folder of the user's, whose go first.

    Args:
        folder: holds `NAME.toml` and `NAME.json`; need not exist.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """All names, in alphabetical order."""
        return sorted(self._paths())

    def sound(self) -> list[Template]:
        """Every template that can be used, by name."""
        found: list[Template] = []
        for path in self._paths().values():
            try:
                found.append(load(path))
            except ConfigError:
                continue
        return sorted(found, key=lambda template: template.name)

    def find(self, name: str) -> Template | None:
        """The template of that name. Raises `ConfigError`, which names file and mistake."""
        path = self._paths().get(name)
        return load(path) if path else None

    def _paths(self) -> dict[str, Path]:
        folders = [shipped_folder(), *([self._folder] if self._folder else [])]
        return {path.stem: path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.toml"))}


def shipped_folder() -> Path:
    """Where the shipped templates lie."""
    with as_file(files("limner.backends") / "comfyui_templates") as folder:
        return folder


def load(path: Path) -> Template:
    """The template of a TOML file, with the graph of the same name beside it.

    Raises `ConfigError`, which names the file and what is wrong in it.
    """
    try:
        fields = Fields.model_validate(tomllib.loads(_text(path)))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"Template {path} is not valid TOML: {error}. Correct it.", path=str(path)) from error
    except ValidationError as error:
        raise ConfigError(sentences(error, f"Template {path}"), path=str(path)) from error
    beside = path.with_suffix(".json")
    graph = _graph(beside)
    for node, name in _named(fields):
        if node not in graph:
            raise ConfigError(f"Template {path} names node {node}, which is not in {beside.name}. Correct it.")
        if name and name not in graph[node]["inputs"]:
            told = f"Template {path} names the input {name} of node {node} ({title_of(graph, node)}), which has none"
            raise ConfigError(f"{told} of that name in {beside.name}. Correct it.")
    return Template(path.stem, fields, graph)


def _graph(path: Path) -> Graph:
    try:
        loaded: object = json.loads(_text(path))
    except ValueError as error:
        raise ConfigError(f"Graph {path} is not valid JSON: {error}. Export it again.", path=str(path)) from error
    nodes = cast(dict[str, Any], loaded) if isinstance(loaded, dict) else {}
    if not nodes or not all(_is_node(node) for node in nodes.values()):
        raise ConfigError(
            f"Graph {path} is not in ComfyUI's API format. Export it there with `Export (API)`.", path=str(path)
        )
    return nodes


def _is_node(found: object) -> bool:
    if not isinstance(found, dict):
        return False
    node = cast(dict[str, Any], found)
    return isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Template file {path} cannot be read ({error}). Check it.", path=str(path)) from error


def _named(fields: Fields) -> Iterator[tuple[str, str]]:
    """Every node that is named, with the input where one is."""
    yield fields.output, ""
    for table in _tables(fields):
        if isinstance(table, StageFields):
            yield table.node, ""
        if isinstance(table, Part):
            yield from ((node, "") for node in (*table.nodes, table.output, table.otherwise) if node)
        for name, field in type(table).model_fields.items():
            if field.annotation == _INPUTS:
                for target in getattr(table, name):
                    node, _, wanted = target.partition(".")
                    yield node, wanted


def _tables(fields: Fields) -> Iterator[_Table]:
    yield fields
    yield from (part for part in (fields.adapters, fields.start, fields.mask, fields.context) if part)
    for stage in fields.stages:
        yield stage
        if stage.cache:
            yield stage.cache


_INPUTS = Fields.model_fields["prompt"].annotation
