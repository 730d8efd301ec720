"""`limner models`: checkpoints and adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limner.cli.application import Application, json_option

if TYPE_CHECKING:
    from limner.config import Settings


@click.command(name="models")
@json_option
@click.pass_obj
def command(application: Application) -> None:
    """List the checkpoints that can paint, and the adapters for them."""
    from limner.workflows.adapters import list_adapters, shipped_adapters

    settings = application.settings()
    models = _checkpoints(application, settings)
    folders = [folder for folder in (settings.native.adapters_dir, shipped_adapters()) if folder]
    adapters = [{"name": name, "path": str(path)} for name, path in sorted(list_adapters(folders).items())]
    if application.as_json:
        application.answer_json({"models": models, "adapters": adapters})
        return
    from rich.table import Table

    table = Table("checkpoint", "family", "size", "where", box=None, pad_edge=False)
    for model in models:
        where = "built in" if model["builtin"] else model["path"]
        size = f"{model['size_bytes'] / 2**20:,.1f} MB" if model["size_bytes"] else ""
        name = f"{model['name']} (default)" if model["default"] else model["name"]
        table.add_row(name, model["family"], size, model["problem"] or where)
    if models:
        application.show(table)
    else:
        application.say("There is no checkpoint.")
    if adapters:
        listing = Table("adapter", "where", box=None, pad_edge=False)
        for adapter in adapters:
            listing.add_row(adapter["name"], adapter["path"])
        application.show("", listing)
    if not any(model["default"] for model in models):
        default = settings.native.model_path or Path(settings.native.model).expanduser()
        if default.exists():
            application.say(f"Requests that name no checkpoint use {default}.")
        else:
            application.warn(f"Checkpoint `{default}`, which the settings name, is not here. Correct it or add it.")
    application.say(f"Checkpoints go into {settings.native.models_dir}, adapters into {settings.native.adapters_dir}.")


def _checkpoints(application: Application, settings: Settings) -> list[dict[str, Any]]:
    studio = application.studio(settings)
    backend = studio.backend(settings.backend)
    if backend.name != "native":
        names = backend.capabilities().models
        return [_row(name, default=number == 0) for number, name in enumerate(names)]
    from limner.backends.native import list_checkpoints

    return [
        _row(
            entry.name,
            family=entry.family,
            path=str(entry.path),
            size_bytes=entry.size_bytes,
            builtin=entry.builtin,
            problem=entry.problem,
            default=settings.native.model_path is None and entry.name == settings.native.model,
        )
        for entry in list_checkpoints(settings.native)
    ]


def _row(
    name: str,
    *,
    family: str = "",
    path: str = "",
    size_bytes: int = 0,
    builtin: bool = False,
    problem: str = "",
    default: bool = False,
) -> dict[str, Any]:
    return {
        "name": name,
        "family": family,
        "path": path,
        "size_bytes": size_bytes,
        "builtin": builtin,
        "default": default,
        "problem": problem,
    }
