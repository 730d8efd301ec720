"""`limner loras`: which LoRAs there are, and which checkpoints they fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limner.cli.application import Application, json_option

if TYPE_CHECKING:
    from limner.config import Settings


@click.command(name="loras", short_help="List LoRAs, and what they fit.")
@click.option("--model", metavar="NAME", help="Say how well they fit this checkpoint.")
@json_option
@click.pass_obj
def command(application: Application, model: str | None) -> None:
    """List LoRAs with their family and trigger words, and with --model how well they fit a checkpoint.

    They are looked for in the adapters folder and in the LoRA folders of every models folder that is known.
    """
    settings = application.settings()
    rows = _rows(settings)
    if model is not None:
        fits = _fits(settings, {row["name"]: Path(row["path"]) for row in rows}, model)
        for row in rows:
            row["fit"] = fits.get(row["name"])
    if application.as_json:
        application.answer_json({"loras": rows, **({} if model is None else {"model": model})})
        return
    for row in rows:
        facts: list[str] = [row["family"] or "unknown family"]
        facts += [f"trigger “{row['trigger']}”"] if row["trigger"] else []
        facts += ["shipped"] if row["shipped"] else [row["path"]]
        application.answer(f"{row['name']}  {' · '.join(facts)}")
        if row["problem"]:
            application.answer(f"  cannot be used: {row['problem']}")
        elif fit := row.get("fit"):
            counted = f"{fit['status']}, {fit['matched']} of {fit['total']} modules"
            application.answer(f"  on {model}: {counted}" + (f": {fit['reason']}" if fit["reason"] else ""))
    if not rows:
        application.say("There is no LoRA.")
    application.say(f"LoRAs go into {settings.native.adapters_dir}.")


def _rows(settings: Settings) -> list[dict[str, Any]]:
    from limner.backends.catalogue import lora_folders
    from limner.engine.signatures import recognise
    from limner.engine.tensor_files import open_tensors
    from limner.errors import LimnerError
    from limner.workflows.adapters import list_adapters, shipped_adapters, trigger_of

    shipped, native = shipped_adapters(), settings.native
    folders = [folder for folder in (native.adapters_dir, shipped, *lora_folders(native)) if folder]
    rows: list[dict[str, Any]] = []
    for name, path in sorted(list_adapters(folders).items()):
        family, problem = "", ""
        try:
            family = recognise(open_tensors(path).shapes) or ""
        except LimnerError as error:
            problem = error.message
        rows.append(
            {
                "name": name,
                "family": family,
                "trigger": trigger_of(path),
                "path": str(path),
                "size_bytes": path.stat().st_size,
                "shipped": path.is_relative_to(shipped),
                "problem": problem,
            }
        )
    return rows


def _fits(settings: Settings, adapters: dict[str, Path], model: str) -> dict[str, dict[str, Any]]:
    from limner.backends.native import judge_adapters
    from limner.cli.models import catalogue_of
    from limner.errors import Unsupported

    entry = catalogue_of(settings).entry(model)
    if entry.problem:
        raise Unsupported(f"Checkpoint `{entry.name}` cannot be used, so nothing fits it: {entry.problem}")
    judged = judge_adapters(settings.native, adapters, entry.name)
    wanted = {"status", "matched", "total", "reason"}
    return {name: found[entry.name].model_dump(mode="json", include=wanted) for name, found in judged.items()}
