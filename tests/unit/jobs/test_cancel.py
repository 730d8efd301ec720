"""Cancelling at every moment of a job's life: always the right final state, within a step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from limner.backends.fake import FakeBackend
from limner.domain import Job, JobStatus
from limner.events import Event
from limner.jobs.database import Database
from limner.jobs.queue import TableQueue
from limner.jobs.store import JobStore
from limner.jobs.worker import Worker
from limner.jobs.workers import WorkerRows
from tests.support.jobs import Painter, new_job, until

STAGES = [
    {"width": 64, "height": 64, "steps": 3},
    {"width": 64, "height": 64, "steps": 3, "denoise": 0.7},
    {"width": 64, "height": 64, "steps": 3, "denoise": 0.6},
]


class Halting(Painter):
    """Halts before it tells a certain event, until somebody closes it."""

    def __init__(self, kind: str, index: int, stage: int) -> None:
        super().__init__(FakeBackend())
        self.halted = asyncio.Event()
        self._at = (kind, index, stage)

    async def paint(self, job: Job, missing: tuple[int, ...]) -> AsyncGenerator[Event, None]:
        async with aclosing(super().paint(job, missing)) as events:
            async for event in events:
                if (event.type, getattr(event, "index", 0), getattr(event, "stage", 0)) == self._at:
                    self.halted.set()
                    await asyncio.Event().wait()
                yield event


@pytest.mark.parametrize(
    ("kind", "index", "stage", "painted"),
    [
        ("stage_update", 0, 0, 0),
        ("progress", 0, 0, 0),
        ("progress", 0, 1, 0),
        ("progress", 0, 2, 0),
        ("image_generated", 0, 0, 0),  # while the first is decoded
        ("progress", 1, 0, 1),
        ("image_generated", 1, 0, 1),
    ],
)
async def test_what_is_painted_stays_and_the_rest_stops(
    database: Database, store: JobStore, kind: str, index: int, stage: int, painted: int
) -> None:
    painter = Halting(kind, index, stage)
    queue = TableQueue(database)
    worker = Worker(
        store, WorkerRows(database), queue, painter.paint, painter.keep, painter.discard, name="w", look_s=0.05
    )
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    try:
        job, _ = await store.create(new_job(count=2, stages=STAGES, width=None, height=None))
        async with asyncio.timeout(20):
            await painter.halted.wait()
        await store.cancel(job.id)

        async def ended() -> bool:
            return (await store.get(job.id)).status.final

        await until(ended)
        found = await store.get(job.id)
        assert found.status is JobStatus.CANCELLED
        assert sum(picture.image_id is not None for picture in found.pictures) == painted
        assert painter.backend.cancelled == 1, "the backend was told to stop"
        events = await store.events(job.id)
        assert [event.type for event in events].count("done") == 1
        assert events[-1].data["status"] == "cancelled"
        assert await store.shown() == []
    finally:
        stop.set()
        await running
