"""`limner doctor`: what this machine has, what is missing, and what an end at the wrong moment has left behind."""

from __future__ import annotations

import asyncio
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import click

from limner.cli.application import Application, json_option
from limner.cli.exit_codes import FAILED, OK

if TYPE_CHECKING:
    from limner.config import Settings
    from limner.jobs.repair import Findings, Repair

_BYTES = ("memory_total_bytes", "memory_free_bytes")

_FINDINGS = {
    "lost_files": ("files without a picture", "moved to {place}"),
    "missing_pictures": ("pictures without their file", "their jobs say so and can be retried"),
    "missing_thumbnails": ("pictures without their thumbnail", "drawn anew"),
    "missing_uploads": ("uploads without their file", "forgotten"),
    "leftovers": ("files that were begun and never finished", "removed"),
    "abandoned_jobs": ("jobs that nobody runs any more", "run again, or failed where all attempts are used up"),
    "unended_jobs": ("jobs whose end is not in the log", "written there"),
}
"""What may be wrong, and what becomes of it."""


@click.command(name="doctor", short_help="Show the device, and what is missing; repair.")
@click.option("--repair", is_flag=True, help="Put right what is wrong with stored jobs and pictures.")
@click.option("--force", is_flag=True, help="Repair, too, when database and storage have no picture in common.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, repair: bool, force: bool) -> None:
    """Show device, precision, memory and versions, what is missing and how to get it, and what is wrong with jobs.

    Jobs and pictures are looked at where there are any. With --repair what is wrong with them is put right: files that
    belong to no picture are moved to the folder lost+found in the home, pictures whose file is gone are said to be so,
    jobs that nobody runs any more are run again. A server may go on meanwhile. Exit code 1 when something is missing
    or stays wrong.
    """
    application: Application = ctx.obj
    settings = application.settings()
    report, problems = _report(settings)
    kept, wrong, repaired = asyncio.run(_examine(application, settings, repair, force))
    report, problems = report | kept, problems + wrong
    if application.as_json:
        application.answer_json(report | {"problems": problems})
    else:
        report.pop("repaired", None)
        report.pop("wrong", None)
        rows = [(name.replace("_bytes", "").replace("_", " "), _told(name, value)) for name, value in report.items()]
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            application.answer(f"{name:<{width}}  {value}".rstrip())
        for line in repaired:
            application.answer(f"repaired: {line}")
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


async def _examine(
    application: Application, settings: Settings, repair: bool, force: bool
) -> tuple[dict[str, Any], list[str], list[str]]:
    """What is stored, what is wrong with it, and what was repaired. Makes no database where there is none."""
    from contextlib import AsyncExitStack

    from limner.errors import ConfigError, DatabaseError, StorageError
    from limner.jobs.database import database_exists, shown_url
    from limner.jobs.repair import Repair
    from limner.service import Service

    kept: dict[str, Any] = {}
    try:
        if not await database_exists(settings.database_url):
            return kept, [], []
        kept["database"] = shown_url(settings.database_url)
        async with AsyncExitStack() as stack:
            service = Service(settings, application.studio(settings))
            if repair:
                await stack.enter_async_context(service)
            else:
                stack.push_async_exit(service.__aexit__)  # looking does not bring the database up to date
            doctor = Repair(service.store, service.gallery, settings.home / "lost+found")
            found = await doctor.look()
            kept |= {"files": found.known_files + len(found.lost_files), "wrong": found.counts()}
            return await _treated(doctor, found, kept, repair, force)
    except (ConfigError, DatabaseError, StorageError) as error:
        return kept, [error.message], []


async def _treated(
    doctor: Repair, found: Findings, kept: dict[str, Any], repair: bool, force: bool
) -> tuple[dict[str, Any], list[str], list[str]]:
    if found.unrelated and not force:
        told = (
            "Storage and database have no picture in common "
            f"(files without a picture: {len(found.lost_files)}, pictures without their file: "
            f"{len(found.missing_pictures)}). Check `storage` and `database.url`, and that the disk is mounted; "
            "if they are right, use --repair --force."
        )
        return kept, [told], []
    repaired: list[str] = []
    if repair:
        done = await doctor.put_right(found)
        found = await doctor.look()
        kept |= {"repaired": done, "wrong": found.counts(), "files": found.known_files + len(found.lost_files)}
        for name, (what, become) in _FINDINGS.items():
            if done[name]:
                repaired.append(f"{what}: {done[name]}, {become.format(place=doctor.lost_folder)}")
    counts = found.counts()
    problems = [
        f"{what}: {counts[name]}. `limner doctor --repair` puts that right."
        for name, (what, _) in _FINDINGS.items()
        if counts[name]
    ]
    return kept, problems, repaired


def _told(name: str, value: Any) -> str:
    if name in _BYTES:
        return f"{value / 2**30:.1f} GB" if value else "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in cast("dict[str, Any]", value).items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in cast("list[Any]", value))
    return str(value)
