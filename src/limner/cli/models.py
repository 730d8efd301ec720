"""`limner models`: which checkpoints there are, and everything about one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limner.cli.application import Application, json_option
from limner.cli.model_changes import add, pull, remove

if TYPE_CHECKING:
    from limner.backends.catalogue import Catalogue, PartFacts
    from limner.config import Settings
    from limner.engine.checkpoints import CheckpointEntry

TOLD_BYTES = 2**30
"""From here on it is said that reading takes a while."""


@click.group(name="models", short_help="List, show, add, fetch and remove checkpoints.", invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, show, add, fetch and remove checkpoints; alone it lists them.

    They are used where they lie: in the models folder, in the folders of native.models_dirs, and in what was added.

    \b
    limner models
    limner models show z-image-turbo
    limner models add ~/ComfyUI/models
    limner models pull Tongyi-MAI/Z-Image-Turbo
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.obj)


@command.command(name="list", short_help="List the checkpoints that can paint, and the adapters for them.")
@json_option
@click.pass_obj
def list_models(application: Application) -> None:
    """List the checkpoints that can paint, and the adapters for them.

    Broken ones are listed with what is wrong and what to do. Of files of the same size it is found out, once, whether
    they are the same.
    """
    _list(application)


@command.command(name="show", short_help="Show everything about a checkpoint.")
@click.argument("name", metavar="NAME")
@click.option("--hash/--no-hash", "hashed", default=True, help="Whether to hash what was never hashed before.")
@json_option
@click.pass_obj
def show(application: Application, name: str, hashed: bool) -> None:
    """Show a checkpoint: family, layout, every part with its file, the precision to be used, which LoRAs fit.

    NAME is a name that `limner models` lists, or a path. The hash of large files takes a while the first time.
    """
    settings = application.settings()
    catalogue = catalogue_of(settings)
    entry = catalogue.entry(name)
    if hashed and not application.as_json:
        application.say("Looking at its files …")
    parts = catalogue.parts(name, hashed)
    twins = catalogue.duplicates(catalogue.entries()).get(entry.name, []) if hashed else []
    engine: dict[str, Any] = {} if entry.problem else _engine_facts(application, settings, entry.name)
    record = entry_record(entry, settings) | {
        "layout": entry.layout,
        "parts": [_part_record(part) for part in parts],
        "same_as": twins,
        **engine,
    }
    for note in catalogue.notes():
        application.warn(note)
    if application.as_json:
        application.answer_json(record)
        return
    _tell(application, record, parts)


def catalogue_of(settings: Settings) -> Catalogue:
    """The checkpoints of these settings."""
    from limner.backends.catalogue import Catalogue
    from limner.backends.native import BUILTIN_DIR

    return Catalogue(settings.native, BUILTIN_DIR)


def entry_record(entry: CheckpointEntry, settings: Settings) -> dict[str, Any]:
    """A checkpoint for programs."""
    return {
        "name": entry.name,
        "family": entry.family,
        "path": str(entry.path),
        "size_bytes": entry.size_bytes,
        "builtin": entry.builtin,
        "default": settings.native.model_path is None and entry.name == settings.native.model,
        "problem": entry.problem,
        "dtype": entry.dtype,
        "parameters": entry.parameters,
    }


def told_size(size_bytes: int) -> str:
    """A size for people."""
    return f"{size_bytes / 2**30:,.1f} GB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:,.1f} MB"


def _list(application: Application) -> None:
    from limner.workflows.adapters import list_adapters

    settings = application.settings()
    studio = application.studio(settings)
    backend = studio.backend(settings.backend)
    models: list[dict[str, Any]]
    notes: list[str] = []
    if backend.name == "native":
        catalogue = catalogue_of(settings)
        notes = catalogue.notes()
        entries = catalogue.entries()
        if (unread := catalogue.unhashed_bytes(entries)) >= TOLD_BYTES:
            application.say(f"Comparing files of the same size, once; {told_size(unread)} are read …")
        twins = catalogue.duplicates(entries)
        models = [entry_record(entry, settings) | {"same_as": twins.get(entry.name, [])} for entry in entries]
    else:
        models = [_named(name, number == 0) for number, name in enumerate(backend.capabilities().models)]
    found = list_adapters(_adapter_folders(settings))
    adapters = [{"name": name, "path": str(path)} for name, path in sorted(found.items())]
    for note in notes:
        application.warn(note)
    if application.as_json:
        application.answer_json({"models": models, "adapters": adapters})
        return
    _show_models(application, models)
    _show_adapters(application, adapters)
    if not any(model["default"] for model in models):
        default = settings.native.model_path or Path(settings.native.model).expanduser()
        if default.exists():
            application.say(f"Requests that name no checkpoint use {default}.")
        else:
            application.warn(f"Checkpoint `{default}`, which the settings name, is not here. Correct it or add it.")
    application.say(f"Checkpoints go into {settings.native.models_dir}, adapters into {settings.native.adapters_dir}.")


def _adapter_folders(settings: Settings) -> list[Path]:
    from limner.backends.catalogue import lora_folders
    from limner.workflows.adapters import shipped_adapters

    native = settings.native
    return [folder for folder in (native.adapters_dir, shipped_adapters(), *lora_folders(native)) if folder]


def _show_models(application: Application, models: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("checkpoint", "family", "size", "where", box=None, pad_edge=False)
    for model in models:
        where = "built in" if model["builtin"] else model["path"]
        if same := model["same_as"]:
            where += f" (the same weights as {', '.join(same)})"
        size = told_size(model["size_bytes"]) if model["size_bytes"] else ""
        name = f"{model['name']} (default)" if model["default"] else model["name"]
        table.add_row(name, model["family"], size, model["problem"] or where)
    if models:
        application.show(table)
    else:
        application.say("There is no checkpoint.")


def _show_adapters(application: Application, adapters: list[dict[str, str]]) -> None:
    from rich.table import Table

    if adapters:
        listing = Table("adapter", "where", box=None, pad_edge=False)
        for adapter in adapters:
            listing.add_row(adapter["name"], adapter["path"])
        application.show("", listing)


def _named(name: str, default: bool) -> dict[str, Any]:
    """A checkpoint of which only another backend's name is known."""
    return {
        "name": name,
        "family": "",
        "path": "",
        "size_bytes": 0,
        "builtin": False,
        "default": default,
        "problem": "",
        "dtype": "",
        "parameters": 0,
        "same_as": [],
    }


def _engine_facts(application: Application, settings: Settings, name: str) -> dict[str, Any]:
    from limner.backends.native import judge_adapters, precision_of
    from limner.studio import missing_packages
    from limner.workflows.adapters import list_adapters

    if missing := missing_packages():
        application.warn(
            f"The precision is not known without the engine: {', '.join(missing)} are not installed. "
            "Install them with: pip install 'limner[native]'"
        )
        return {}
    precision, notes = precision_of(settings.native, name)
    judged = judge_adapters(settings.native, list_adapters(_adapter_folders(settings)), name)
    fits = [adapter for adapter, by_model in judged.items() if by_model[name].status == "applied"]
    return {"precision": precision, "notes": notes, "adapters_fitting": fits, "adapters_total": len(judged)}


def _part_record(part: PartFacts) -> dict[str, Any]:
    return {
        "part": part.part,
        "path": str(part.path),
        "dtype": part.dtype,
        "parameters": part.parameters,
        "size_bytes": part.size_bytes,
        "sha256": part.sha256,
    }


def _tell(application: Application, record: dict[str, Any], parts: list[PartFacts]) -> None:
    rows = [("name", record["name"]), ("family", record["family"]), ("layout", record["layout"])]
    rows += [("path", record["path"]), ("size", told_size(record["size_bytes"]))]
    for part in parts:
        facts = [str(part.path)]
        if part.dtype:
            facts += [part.dtype, f"{part.parameters:,} numbers", told_size(part.size_bytes)]
        elif part.size_bytes == 0:
            facts += ["in the same file"]
        facts += [f"SHA-256 {part.sha256[:12]}"] if part.sha256 else []
        rows.append((part.part.replace("_", " "), " · ".join(facts)))
    if precision := record.get("precision"):
        rows.append(("precision", ", ".join(f"{part.replace('_', ' ')} {dtype}" for part, dtype in precision.items())))
        rows += [("", note) for note in record["notes"]]
        fitting = record["adapters_fitting"]
        named = f" ({', '.join(fitting)})" if fitting else ""
        rows.append(("LoRAs", f"{len(fitting)} of {record['adapters_total']} fit{named}"))
    if record["same_as"]:
        rows.append(("same as", ", ".join(record["same_as"])))
    if record["problem"]:
        rows.append(("problem", record["problem"]))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        if value:
            application.answer(f"{name:<{width}}  {value}".rstrip())


for _part in (add, pull, remove):
    command.add_command(_part)
