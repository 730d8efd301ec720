"""A worker as the main thing of a process: signals, draining, and the end of whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any

from limner.jobs.worker import worker_name
from limner.reports import WorkerReport
from limner.service import Service

DRAIN_S = 15.0


async def run_worker(
    service: Service, name: str | None, lane: str, parent: int | None = None, looks: bool = True
) -> None:
    """Work until SIGTERM or SIGINT.

    Running jobs may then end for 15 seconds; what is not done by then is given back. A second signal, or the end of
    the parent, gives everything back at once.

    Args:
        service: whose jobs to run; opened and closed here.
        name: the worker's id; made up when absent.
        lane: which jobs it takes.
        parent: process id of whoever started it; when that has ended, this ends.
        looks: whether it finds out what there is to paint with, which imports the engine.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()

    def told() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    watching = [asyncio.create_task(_outlive(parent, stop, hurry))]
    try:
        report = WorkerReport(service.settings, service.studio)
        if looks:
            # The engine's imports take seconds, and nothing is painted before: they begin first.
            watching.append(asyncio.create_task(report.keep_looking()))
        async with service:
            worker = service.worker(name or worker_name(), lane, report, report.loaded)
            await _drained(asyncio.create_task(worker.run(stop)), stop, hurry)
    finally:
        for task in watching:
            task.cancel()


async def _drained(running: asyncio.Task[Any], stop: asyncio.Event, hurry: asyncio.Event) -> None:
    stopping, hurrying = asyncio.create_task(stop.wait()), asyncio.create_task(hurry.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait((running, hurrying), timeout=DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    hurrying.cancel()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _outlive(parent: int | None, *events: asyncio.Event) -> None:
    """Set the events when the parent has ended, be it before this was asked for the first time."""
    if parent is None:
        return
    while os.getppid() == parent:  # noqa: ASYNC110  # nobody tells us of a parent's end
        await asyncio.sleep(0.5)
    for event in events:
        event.set()
