"""The rows of the workers: who is alive, what it can do, how it is doing."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from sqlalchemy import delete, insert, select, update

from limner.domain import WorkerRecord
from limner.jobs.database import Database
from limner.jobs.records import known
from limner.jobs.tables import NOW, workers


class WorkerRows:
    """Reads and writes the table of workers.

    Args:
        database: where it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._told: dict[str, str] = {}

    async def register(self, name: str, lane: str, slots: int, report: dict[str, Any]) -> None:
        """Give a sign of life, with the worker's newest report, which is written when it has changed."""
        changes: dict[str, Any] = {"seen_at": NOW}
        if (told := json.dumps(report, sort_keys=True)) != self._told.get(name):
            changes["report"] = report
        async with self._database.begin() as connection:
            done = await connection.execute(update(workers).where(workers.c.id == name).values(**changes))
            if done.rowcount == 0:
                await connection.execute(
                    insert(workers).values(
                        id=name, host=socket.gethostname(), pid=os.getpid(), lane=lane, slots=slots,
                        started_at=NOW, seen_at=NOW, report=report,
                    )
                )  # fmt: skip
        self._told[name] = told

    async def remove(self, name: str) -> None:
        """Forget a worker."""
        self._told.pop(name, None)
        async with self._database.begin() as connection:
            await connection.execute(delete(workers).where(workers.c.id == name))

    async def forget(self, older_than_s: float) -> int:
        """Forget workers that have given no sign of life for so long; how many."""
        async with self._database.begin() as connection:
            gone = await connection.execute(delete(workers).where(workers.c.seen_at < NOW - older_than_s))
            return gone.rowcount

    async def list(self, alive_s: float | None = None) -> list[WorkerRecord]:
        """All workers, or only those that gave a sign of life within so many seconds; the newest first."""
        query = select(workers).order_by(workers.c.started_at.desc())
        if alive_s is not None:
            query = query.where(workers.c.seen_at > NOW - alive_s)
        async with self._database.glance() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_record(dict(row)) for row in rows]


def _record(row: dict[str, Any]) -> WorkerRecord:
    return known(WorkerRecord, row.pop("report") | row)
