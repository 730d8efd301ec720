"""`limner doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import click

from limner.cli.application import Application, json_option
from limner.cli.exit_codes import FAILED, OK

if TYPE_CHECKING:
    from limner.config import Settings

_BYTES = ("memory_total_bytes", "memory_free_bytes")


@click.command(name="doctor", short_help="Show the device, and what is missing.")
@json_option
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show device, precision, memory and versions, and what is missing and how to get it.

    Exit code 1 when something is missing.
    """
    application: Application = ctx.obj
    settings = application.settings()
    report, problems = _report(settings)
    if application.as_json:
        application.answer_json(report | {"problems": problems})
    else:
        rows = [(name.replace("_bytes", "").replace("_", " "), _told(name, value)) for name, value in report.items()]
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            application.answer(f"{name:<{width}}  {value}".rstrip())
        for problem in problems:
            application.answer(f"problem: {problem}")
        if not problems:
            application.say("Nothing is missing.")
    ctx.exit(FAILED if problems else OK)


def _report(settings: Settings) -> tuple[dict[str, Any], list[str]]:
    from limner.errors import LimnerError, StorageError
    from limner.media.saving import check_folder
    from limner.studio import backend_names, missing_packages, presets_of

    report: dict[str, Any] = {
        "limner": version("limner"),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "home": str(settings.home),
        "backend": settings.backend,
        "backends": backend_names(),
    }
    problems: list[str] = []
    try:
        check_folder(settings.home)
    except StorageError:
        problems.append(f"{settings.home} cannot be written. Choose another folder with LIMNER_HOME.")
    if settings.backend not in report["backends"]:
        problems.append(f"There is no backend `{settings.backend}`. Choose one of: {', '.join(report['backends'])}.")
    try:
        presets_of(settings).get()
    except LimnerError as error:
        problems.append(error.message)
    if missing := missing_packages():
        told = f"The engine needs packages that are not installed: {', '.join(missing)}. "
        problems.append(told + "Install them with: pip install 'limner[native]'")
        return report, problems
    from limner.backends.native import device_report

    device = dict(device_report(settings.native))
    problems += cast("list[str]", device.pop("problems", []))
    return report | device, problems


def _told(name: str, value: Any) -> str:
    if name in _BYTES:
        return f"{value / 2**30:.1f} GB" if value else "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in cast("dict[str, Any]", value).items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in cast("list[Any]", value))
    return str(value)
