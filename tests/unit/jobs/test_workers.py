"""What is written of the workers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from limner.jobs.database import Database
from limner.jobs.tables import workers
from limner.jobs.workers import WorkerRows


async def test_a_report_is_written_when_it_has_changed(database: Database) -> None:
    rows, report = WorkerRows(database), {"loaded": ["sketchbook"]}
    await rows.register("w", "native", 4, report)
    async with database.begin() as connection:  # so that it shows whether it is written again
        await connection.execute(update(workers).values(report={"loaded": ["untouched"]}, seen_at=0.0))

    async def after(report: dict[str, Any]) -> tuple[str, ...]:
        await rows.register("w", "native", 4, report)
        (worker,) = await rows.list(alive_s=60)
        return worker.loaded

    assert await after({"loaded": ["sketchbook"]}) == ("untouched",)
    report["loaded"].append("z-turbo")  # the same object, with other contents
    assert await after(report) == ("sketchbook", "z-turbo")


async def test_a_worker_whose_row_was_forgotten_comes_back_with_its_report(database: Database) -> None:
    rows, report = WorkerRows(database), {"loaded": ["sketchbook"], "of_a_newer_release": 1}
    await rows.register("w", "native", 4, report)
    await WorkerRows(database).remove("w")
    await rows.register("w", "native", 4, report)
    assert [worker.loaded for worker in await rows.list()] == [("sketchbook",)]
