"""The jobs table as the queue: workers look for what is next, several times a second.

No other service is needed, and nothing can be out of step with the truth, since this is the truth.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any

from limner.errors import DatabaseError
from limner.jobs.database import Database, whole
from limner.jobs.turns import any_waits, next_ids
from limner.ports import Connection, Run

log = logging.getLogger("limner.queue")


class TableQueue:
    """Delivers straight from the jobs table.

    Args:
        database: where the table is.
        poll_s: how long an idle worker waits between two looks.
        owner_cap: how many jobs of one owner may run at a time.
    """

    def __init__(self, database: Database, *, poll_s: float = 0.1, owner_cap: int | None = None) -> None:
        self._database = database
        self._poll_s = poll_s
        self._owner_cap = owner_cap

    async def prepare(self) -> None:
        """Nothing to do: the table is there already."""

    async def put(self, connection: Connection, job_id: str) -> None:
        """Nothing to do: the row itself is the entry."""

    async def cancel(self, job_id: str) -> None:
        """Nothing to do: workers look at the flag."""

    async def work(self, lane: str, loaded: Collection[str], slots: int, run: Run, stop: asyncio.Event) -> None:
        """Run jobs until `stop` is set and the running ones have returned. A database that is gone is waited for."""
        running: dict[asyncio.Task[Any], str] = {}
        stopping: asyncio.Task[Any] = asyncio.create_task(stop.wait())
        try:
            while True:
                found = 0
                if not stop.is_set() and len(running) < slots:
                    for job_id in await whole(self._look(lane, loaded, slots - len(running), set(running.values()))):
                        running[asyncio.create_task(_safely(run, job_id))] = job_id
                        found += 1
                if stop.is_set() and not running:
                    break
                waited = {*running} if stop.is_set() else {*running, stopping}
                pause = 0 if found and len(running) < slots else None if stop.is_set() else self._poll_s
                done, _ = await asyncio.wait(waited, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stopping}:
                    del running[task]
        finally:
            stopping.cancel()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _look(self, lane: str, loaded: Collection[str], free: int, running: set[str]) -> list[str]:
        try:
            async with self._database.glance() as connection:
                if not await any_waits(connection, lane):
                    return []
            async with self._database.read() as connection:
                # What was handed out a moment ago may not be begun yet.
                ids = await next_ids(connection, lane, loaded, self._owner_cap, free + len(running))
        except DatabaseError as error:
            log.warning("no job could be looked for: %s", error.message)
            await asyncio.sleep(1.0)
            return []
        return [job_id for job_id in ids if job_id not in running][:free]


async def _safely(run: Run, job_id: str) -> None:
    try:
        await run(job_id)
    except Exception:  # one job never ends the worker
        log.exception("job %s ended in a way that nobody foresaw", job_id)
