"""Write the pages of `docs/reference/` from the code: commands, settings, errors, and the OpenAPI document.

`make gen` runs it; a test fails when a page is not what this would write.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel

from limner.cli import COMMANDS
from limner.cli import exit_codes as codes
from limner.config import (
    ALIASES,
    CONFIG_VARIABLE,
    LOG_VARIABLE,
    REMOTE_VARIABLE,
    SWITCHES,
    UNSUPPORTED,
    describe,
    load_settings,
)
from limner.errors import LimnerError
from limner.server.app import build
from limner.server.problems import status_of
from limner.service import Service
from limner.workflows.comfyui import nodes

FOLDER = Path(__file__).parent / "reference"
VARIABLES = {
    CONFIG_VARIABLE: "the settings file",
    REMOTE_VARIABLE: "`--server` of `limner generate` and `limner jobs`, where that is absent",
    LOG_VARIABLE: "`--log-level` of `limner serve` and `limner worker`, where that is absent",
}
HEAD = "<!-- Written by docs/generate.py; change the code and run `make gen`. -->\n"


@cache
def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    parts = {"command-line.md": _command_line(), "settings.md": _settings(), "errors.md": _errors()}
    parts["workflow-nodes.md"] = _workflow_nodes()
    texts = {name: HEAD + "\n" + "\n".join(lines) + "\n" for name, lines in parts.items()}
    return {FOLDER / name: text for name, text in (texts | {"openapi.json": _openapi()}).items()}


def _command_line() -> Iterator[str]:
    yield "# Commands"
    for name in COMMANDS:
        command: click.Command = import_module(f"limner.cli.{name}").command
        yield from _command(name, command)
        if isinstance(command, click.Group):
            for part in command.commands.values():
                yield from _command(f"{name} {part.name}", part)
    yield "\n## Variables that are no settings\n\n| variable | meaning |\n|---|---|"
    for variable, meaning in VARIABLES.items():
        yield f"| `{variable}` | {meaning} |"
    yield "\n## Exit codes\n"
    yield cleandoc(codes.__doc__ or "").partition("\n\n")[2]


def _command(name: str, command: click.Command) -> Iterator[str]:
    names = [_argument(param) for param in command.params if isinstance(param, click.Argument)]
    names = ["COMMAND"] if isinstance(command, click.Group) else ["[OPTIONS]", *names]
    yield f"\n## limner {name}\n\n```\n{' '.join(['limner', name, *names])}\n```\n"
    text, _, examples = cleandoc(command.help or "").partition("\n\n\b\n")
    yield text
    if examples:
        yield f"\n```sh\n{examples}\n```"
    if options := [param for param in command.params if isinstance(param, click.Option) and not param.hidden]:
        yield "\n| option | meaning |\n|---|---|"
        for option in options:
            yield f"| `{_cell(_spelling(option))}` | {_cell(option.help or '')} |"


def _argument(param: click.Argument) -> str:
    return param.human_readable_name if param.required else f"[{param.human_readable_name}]"


def _spelling(option: click.Option) -> str:
    if option.is_flag:
        return ", ".join(option.opts)
    if isinstance(option.type, click.Choice):
        value = "|".join(str(choice) for choice in option.type.choices)
    elif isinstance(option.type, click.File):
        value = "FILE"
    else:
        value = option.metavar or option.type.name
        value = value.upper() if value.islower() else value
    return f"{', '.join(option.opts)} {value}"


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield "How they are read is told in [Settings](../05-settings.md). N is a stage of preset `progressive`, 1 to 3.\n"
    yield "| setting | variable | default | meaning |\n|---|---|---|---|"
    for name, field in describe():
        if name.startswith(("generation.stage2.", "generation.stage3.")):
            continue  # as of the first stage
        name = name.replace("stage1", "stageN")
        variable = "LIMNER_" + name.replace(".", "__").upper()
        default = "absent" if field.default is None or field.default_factory else f"`{_plain(field.default)}`"
        meaning = field.description or f"the preset's own when absent{_range(field.annotation)}"
        yield f"| `{name}` | `{variable}` | {default} | {_cell(meaning)} |"
    yield "\n## Other names\n"
    yield "These are understood in every source, so that a `native_image_config.yaml` can be used as it stands.\n"
    yield "| name | setting |\n|---|---|"
    for alias, name in ALIASES.items():
        yield f"| `{alias}` | `{name}` |"
    yield "| `generation.progressive` | `generation.preset`: `progressive` where true, `single` where false |"
    yield "| `generation.stageN.num_inference_steps`, `….guidance_scale` | `generation.stageN.steps`, `….cfg` |"
    for switch, (name, value) in SWITCHES.items():
        yield f"| `{switch}` | `{name}`: `{_plain(value)}` where true |"
    yield "\n## Switches of other programs\n"
    yield "Accepted with the value that describes what limner does; any other value is refused at the start.\n"
    yield "| name | value | why |\n|---|---|---|"
    for name, (only, reason) in UNSUPPORTED.items():
        yield f"| `{name}` | `{_plain(only)}` | {reason}. |"


def _errors() -> Iterator[str]:
    yield "# Errors\n"
    yield "Every error has a code that stays the same, says whether trying again makes sense, and what to do next.\n"
    yield "| code | class | a kind of | again? | HTTP | exit | message by default |\n|---|---|---|---|---|---|---|"
    for kind in _kinds(LimnerError):
        parent = kind.__bases__[0].__name__
        message = " ".join((kind.__doc__ or "").split())
        again = "yes" if kind.retryable else "no"
        statuses = f"{status_of(kind())} | {codes.exit_code_of(kind())}"
        yield f"| `{kind.code}` | `{kind.__name__}` | `{parent}` | {again} | {statuses} | {message} |"


def _workflow_nodes() -> Iterator[str]:
    yield "# Nodes of ComfyUI\n"
    yield "What `limner workflow` makes of each class of nodes; [Workflows](../11-workflows.md) tells how."
    for title, kinds in nodes.GROUPS.items():
        yield f"\n## {title}\n\n| node | becomes | values |\n|---|---|---|"
        for kind in kinds:
            values = ", ".join(f"`{name}`" for name in kind.values or ())
            yield f"| `{kind.name}` | {_cell(kind.becomes)} | {values} |"
    yield "\n## In the editor only\n\nThese are in saved workflows and not in exported ones.\n"
    yield "| node | becomes |\n|---|---|"
    for name, becomes in nodes.EDITOR_ONLY.items():
        yield f"| `{name}` | {_cell(becomes)} |"
    yield "\n## Not run, and why\n\nEvery other class is told as one that limner does not know.\n"
    yield "| node | it |\n|---|---|"
    for name, reason in nodes.REASONS.items():
        yield f"| `{name}` | {_cell(reason)} |"


def _kinds(kind: type[LimnerError]) -> Iterator[type[LimnerError]]:
    for child in kind.__subclasses__():
        if child.__module__ == LimnerError.__module__:
            yield child
            yield from _kinds(child)


def _openapi() -> str:
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings({"home": home}, environ={}, folder=Path(home))
        return json.dumps(build(Service(settings)).openapi(), indent=1, ensure_ascii=False) + "\n"


def _range(annotation: Any) -> str:
    groups = [part for part in get_args(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
    if not groups:
        return ""
    return "; a table of " + ", ".join(f"`{name}`" for name in groups[0].model_fields)


def _plain(value: object) -> str:
    return json.dumps(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path)
