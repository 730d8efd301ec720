"""`limner inspect`: how a picture was made."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from limner.cli.application import Application, json_option

if TYPE_CHECKING:
    from limner.domain import GenerationRequest, Recipe, Stage


@click.command(name="inspect")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def command(application: Application, file: Path) -> None:
    """Tell how the picture in FILE was made.

    Reads limner's own recipe, and as much as it can of what AUTOMATIC1111's web UI and its kin or ComfyUI write.
    """
    from limner.domain import Recipe
    from limner.media.metadata import inspect_picture

    found = inspect_picture(file)
    if application.as_json:
        kind = "recipe" if isinstance(found, Recipe) else "foreign"
        application.answer_json({"path": str(file), kind: found.model_dump(mode="json")})
        return
    rows = _rows(found) if isinstance(found, Recipe) else _foreign_rows(found.request)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        application.answer(f"{name:<{width}}  {value}".rstrip())
    for note in () if isinstance(found, Recipe) else found.notes:
        application.say(f"note: {note}")
    if isinstance(found, Recipe):
        application.say(f"Make it again: limner generate --like {shlex.quote(str(file))}")


def _rows(recipe: Recipe) -> list[tuple[str, str]]:
    plan, request = recipe.plan, recipe.request
    rows = [("prompt", plan.prompt), ("negative", plan.negative_prompt), ("seed", str(plan.seed))]
    rows += [("picture", f"{recipe.index + 1} of {request.count}")] if request.count > 1 else []
    rows += [("preset", request.preset)] if request.preset else []
    for number, stage in enumerate(plan.stages):
        told = stage_line(stage)
        if number < len(recipe.outcome) and recipe.outcome[number].skipped:
            told += f" ({recipe.outcome[number].skipped} of {recipe.outcome[number].evaluations} evaluations reused)"
        rows.append((f"stage {number + 1}", told))
    rows += [("clip skip", str(plan.clip_skip))] if plan.clip_skip else []
    rows += [("references", f"used as {request.references_as}")] if request.references_as else []
    given = [("reference", reference) for reference in request.references]
    given += [("mask", request.mask)] if request.mask else []
    rows += [(name, f"{file.path} (SHA-256 {(file.sha256 or 'unknown')[:12]})") for name, file in given]
    for adapter in recipe.adapters:
        told = f"{adapter.name} at {adapter.requested_weight:g}: {adapter.status}, {adapter.matched} of {adapter.total}"
        rows.append(("adapter", f"{told}. {adapter.reason}" if adapter.reason else told))
    rows += [
        ("checkpoint", f"{recipe.checkpoint} ({recipe.family}, SHA-256 {recipe.checkpoint_sha256[:12]})"),
        ("device", f"{recipe.device}, {_precision(recipe.precision)}{_threads(recipe.threads)}"),
    ]
    rows += [("warning", warning) for warning in recipe.warnings]
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in recipe.versions.items())))
    return [(name, value) for name, value in rows if value]


def _foreign_rows(request: GenerationRequest) -> list[tuple[str, str]]:
    given = request.model_dump(mode="json", exclude_defaults=True)
    adapters = [f"{adapter.name} at {adapter.weight:g}" for adapter in request.adapters]
    given["adapters"] = ", ".join(adapters)
    return [(name.replace("_prompt", ""), str(value)) for name, value in given.items() if value not in ("", None)]


def stage_line(stage: Stage) -> str:
    """A stage in one line."""
    parts = [
        f"{stage.width}x{stage.height}",
        f"{stage.steps} steps",
        f"cfg {stage.cfg:g}",
        *([] if stage.guidance is None else [f"guidance {stage.guidance:g}"]),
        f"{stage.sampler}, {stage.schedule}",
    ]
    parts += [f"denoise {stage.denoise:g}"] if stage.denoise < 1 else []
    parts += [f"cache {stage.cache.reuse_threshold:g}"] if stage.cache else []
    return " · ".join(parts)


def _threads(count: int | None) -> str:
    return "" if count is None else f", {count} thread{'' if count == 1 else 's'}"


def _precision(precision: dict[str, str]) -> str:
    kinds = set(precision.values())
    if len(kinds) == 1:
        return kinds.pop()
    return ", ".join(f"{component} {dtype}" for component, dtype in precision.items())
