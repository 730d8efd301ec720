"""Starts worker processes, and starts them again when they die.

A worker that died took its attempts with it: its jobs are given back at once, without waiting for the end of their
leases. A worker whose server died stops by itself.

Nothing heavy is imported here: workers are started before the server has made its application, since they have the
most to import.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from limner.errors import DatabaseError

if TYPE_CHECKING:
    from limner.service import Service

log = logging.getLogger("limner.server")

WORKER_COMMAND = (sys.executable, "-m", "limner", "worker")
STOP_PATIENCE_S = 20.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 0.8
SOUND_AFTER_S = 30.0


class Supervisor:
    """Keeps a number of worker processes alive.

    Args:
        count: how many.
        command: starts one; `--name` and `--parent` are added.
    """

    def __init__(self, count: int, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._count, self._command = count, command
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.service: Service | None = None
        """Where jobs of workers that have died are given back, from when it is open."""

    def start(self) -> None:
        """Start the workers, unless that was done, and look after them until `aclose`."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._keep_alive(number)) for number in range(self._count)]

    async def aclose(self) -> None:
        """Ask the workers to finish what they can, give the rest back, and end."""
        self._stop.set()
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.terminate()
        if self._tasks:
            # They end with their processes, and tell those that are only being started.
            await asyncio.wait(self._tasks, timeout=STOP_PATIENCE_S)
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.kill()
        await asyncio.gather(*self._tasks)

    async def _keep_alive(self, number: int) -> None:
        pause_s = 0.0
        while not self._stop.is_set():
            name = f"embedded-{os.getpid()}-{number}-{time.time_ns() // 1_000_000}"
            started = time.monotonic()
            end = await self._run_one(name)
            if self._stop.is_set():
                return
            sound = time.monotonic() - started > SOUND_AFTER_S
            pause_s = SHORTEST_PAUSE_S if sound else min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, pause_s * 2))
            log.warning("worker %s %s; starting another in %.1f s", name, end, pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stop.wait()

    async def _run_one(self, name: str) -> str:
        who = ("--name", name, "--parent", str(os.getpid()))
        try:
            process = await asyncio.create_subprocess_exec(*self._command, *who)
        except OSError as error:  # as when memory or processes have run out for a while
            return f"could not be started ({error.strerror or error})"
        self._processes[name] = process
        if self._stop.is_set():  # nobody told it, since it was only being started
            with suppress(ProcessLookupError):
                process.terminate()
        code = await process.wait()
        del self._processes[name]
        if self.service is not None:
            with suppress(DatabaseError):
                await self.service.store.release_worker(name)
                await self.service.workers.remove(name)
        return f"ended with status {code}"
