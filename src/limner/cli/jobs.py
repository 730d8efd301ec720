"""`limner jobs`: look at jobs, end them, run them again, follow them; here or on a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from limner.cli.application import Application, json_option, server_option
from limner.cli.exit_codes import FAILED, OK, PARTIAL, exit_code_of

if TYPE_CHECKING:
    from limner.cli.desks import Desk, View

STATUSES = ("pending", "processing", "completed", "partial", "failed", "cancelled")
FINAL = STATUSES[2:]
T = TypeVar("T")


@click.group(name="jobs", short_help="Look at jobs, end them, run them again, follow them.")
def command() -> None:
    """Look at jobs, end them, run them again, follow them.

    Without --server it looks into the database of this machine's home, whether a server runs or not.

    \b
    limner jobs list --status failed
    limner jobs show JOB --events
    limner jobs watch JOB --server http://127.0.0.1:9000
    """


@command.command(name="list", short_help="List jobs, newest first.")
@click.option("--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="Only these; may be repeated.")
@click.option("--search", default="", help="Only jobs with these words in their prompt.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Jobs on a page.")
@click.option("--cursor", help="Where the page begins, as the page before says.")
@server_option
@json_option
@click.pass_obj
def list_jobs(
    application: Application, statuses: tuple[str, ...], search: str, limit: int, cursor: str | None, server: str | None
) -> None:
    """List jobs, newest first."""
    page = _at(application, server, lambda desk: desk.list(statuses, search, limit, cursor))
    if application.as_json:
        application.answer_json(page)
        return
    for job in page["jobs"]:
        painted = sum(picture["image_id"] is not None for picture in job["pictures"])
        progress = f"{painted}/{len(job['pictures'])}"
        prompt = " ".join(job["request"].get("prompt", "").split())
        application.answer(
            f"{job['id']}  {job['status']:<10}  {progress:>5}  {_when(job['created_at'])}  {prompt[:60]}"
        )
    if not page["jobs"]:
        application.say("There are no jobs." if not (statuses or search or cursor) else "There are no such jobs.")
    if page["next_cursor"]:
        application.say(f"There are more: add --cursor {page['next_cursor']}")


@command.command(name="show", short_help="Show everything about a job.")
@click.argument("job_id", metavar="JOB")
@click.option("--events", "with_events", is_flag=True, help="Also what happened to it, one line an event.")
@server_option
@json_option
@click.pass_obj
def show(application: Application, job_id: str, with_events: bool, server: str | None) -> None:
    """Show a job: how far it is, its pictures and whether their files are there, adapters, errors."""
    job = _at(application, server, lambda desk: _looked_at(desk, job_id, with_events))
    if application.as_json:
        application.answer_json(job)
        return
    rows = _rows(job)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        application.answer(f"{name:<{width}}  {value}".rstrip())
    for event in job.get("events", ()):
        told = " ".join(f"{name}={value}" for name, value in event.items() if name not in _EVENT_FRAME)
        application.answer(f"{event['number']:>4}  {_when(event['at'])}  {event['type']}  {told}".rstrip())


@command.command(name="cancel", short_help="End a job.")
@click.argument("job_id", metavar="JOB")
@server_option
@json_option
@click.pass_obj
def cancel(application: Application, job_id: str, server: str | None) -> None:
    """End a job: a waiting one at once, a running one within a step. What is painted stays."""
    job = _at(application, server, lambda desk: desk.cancel(job_id))
    if application.as_json:
        application.answer_json(job)
    elif job["status"] in FINAL:
        application.answer(f"{job_id} is {job['status']}")
    else:
        application.answer(f"{job_id} ends after this step")


@command.command(name="retry", short_help="Run again what failed.")
@click.argument("job_id", metavar="JOB")
@server_option
@json_option
@click.pass_obj
def retry(application: Application, job_id: str, server: str | None) -> None:
    """Run a job again that has ended. Only what is not painted yet is painted."""
    job = _at(application, server, lambda desk: desk.retry(job_id))
    if application.as_json:
        application.answer_json(job)
    else:
        missing = sum(picture["image_id"] is None for picture in job["pictures"])
        application.answer(f"{job_id} waits again; pictures to paint: {missing}")


@command.command(name="watch", short_help="Follow a job until it has ended.")
@click.argument("job_id", metavar="JOB")
@server_option
@json_option
@click.pass_context
def watch(ctx: click.Context, job_id: str, server: str | None) -> None:
    """Follow a job until it has ended; the exit code says how. Ctrl+C leaves the job alone."""
    application: Application = ctx.obj
    job = _at(application, server, lambda desk: _watched(application, desk, job_id), patient=True)
    if application.as_json:
        application.answer_json(job)
    ctx.exit(_exit_code(job))


_EVENT_FRAME = ("type", "job_id", "number", "at")


def _at(application: Application, server: str | None, work: Callable[[Desk], Awaitable[T]], patient: bool = False) -> T:
    """Do something at the desk that is meant."""

    async def done() -> T:
        if server:
            from limner.cli.remote import PATIENCE_S, Remote

            async with Remote(server, application.say, PATIENCE_S if patient else 0) as remote:
                return await work(remote)
        from limner.cli.desks import here

        async with here(application.settings()) as desk:
            return await work(desk)

    return asyncio.run(done())


async def _looked_at(desk: Desk, job_id: str, with_events: bool) -> View:
    job = await desk.get(job_id)
    for picture in job["pictures"]:
        picture["file"] = await desk.file(picture["image_id"]) if picture["image_id"] else None
    if with_events:
        job["events"] = [told.data for told in await desk.log(job_id)]
    return job


async def _watched(application: Application, desk: Desk, job_id: str) -> View:
    from limner.cli.progress import Display
    from limner.events import Info, Warned

    job = await desk.get(job_id)
    if job["status"] == "pending" and (advice := await desk.advice()):
        application.say(f"note: {advice}")
    with Display(application) as display:
        task = display.add(job["request"].get("prompt", ""))
        async with aclosing(desk.follow(job_id)) as events:
            async for told in events:
                if told.place:
                    display.tell_place(task, told.place)
                    application.say(f"{job_id} is {told.place}")
                elif told.type == "image_generated" and not application.as_json:
                    application.answer(f"picture {told.data['index'] + 1}  {told.data['image_id']}")
                elif told.type == "error":
                    application.say(f"error ({told.data['code']}): {told.data['message']}", "red")
                elif (event := told.event) is not None:
                    display.tell(task, event)
                    if isinstance(event, Info):
                        application.say(f"note: {event.message}")
                    elif isinstance(event, Warned):
                        application.warn(event.message)
        display.remove(task)
    job = await desk.get(job_id)
    application.say(f"{job_id} is {job['status']}")
    return job


def _exit_code(job: View) -> int:
    if job["status"] == "completed":
        return OK
    if any(picture["image_id"] for picture in job["pictures"]):
        return PARTIAL
    if job["error"]:
        from limner.events import Failed
        from limner.studio import raised

        return exit_code_of(raised(Failed.model_validate(job["error"])))
    return FAILED


def _rows(job: View) -> list[tuple[str, str]]:
    request = job["request"]
    attempts = f", attempt {job['attempt']} of {job['max_attempts']}" if job["attempt"] else ""
    rows = [("job", job["id"]), ("status", f"{job['status']}{attempts}")]
    if job["queue_position"] is not None:
        rows.append(("before it", str(job["queue_position"])))
    if job["cancel_requested"] and job["status"] not in FINAL:
        rows.append(("", "is being cancelled"))
    rows += [("worker", job["worker"])] if job["worker"] and job["status"] == "processing" else []
    rows.append(("prompt", request.get("prompt", "")))
    rows += [(name, str(request[name])) for name in ("model", "preset", "count") if request.get(name) is not None]
    times = [("asked", "created_at"), ("begun", "started_at"), ("ended", "finished_at")]
    rows += [(name, _when(job[key])) for name, key in times if job[key]]
    rows += [("answer", "painted before, not painted again")] if job["cached"] else []
    live = {entry["index"]: entry for entry in job.get("progress", ())}
    rows += [(f"picture {p['index'] + 1}", _picture(p, live.get(p["index"]))) for p in job["pictures"]]
    for outcome in job["adapters"]:
        told = f"{outcome['name']} at {outcome['requested_weight']:g}: {outcome['status']}"
        told += f", {outcome['matched']} of {outcome['total']}"
        rows.append(("adapter", f"{told}. {outcome['reason']}" if outcome["reason"] else told))
    rows += [("warning", warning) for warning in job["warnings"]]
    rows += [("error", f"{job['error']['message']} ({job['error']['code']})")] if job["error"] else []
    rows += [("webhook", job["webhook"])] if job["webhook"] else []
    return rows


def _picture(picture: View, live: Any) -> str:
    told = f"seed {picture['seed']}"
    if picture["file"]:
        where = picture["file"]["where"]
        return f"{told}, {picture['image_id']}, {where if picture['file']['there'] else f'FILE IS MISSING: {where}'}"
    if picture["error"]:
        return f"{told}, failed: {picture['error']['message']} ({picture['error']['code']})"
    if live:
        return f"{told}, stage {live['stage'] + 1}/{live['stages']}, step {live['step']}/{live['steps']}"
    return f"{told}, not painted"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
