"""What may go wrong around a worker costs it one attempt at most, never the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from itertools import pairwise
from typing import Any

import pytest

from limner.backends.fake import FakeBackend
from limner.domain import Job, JobStatus
from limner.errors import DatabaseError
from limner.events import Event, ImageGenerated, Info
from limner.jobs import worker as module
from limner.jobs.database import Database
from limner.jobs.queue import TableQueue
from limner.jobs.records import Claim, NewImage
from limner.jobs.store import JobStore
from limner.jobs.worker import Worker
from limner.jobs.workers import WorkerRows
from limner.ports import Run
from tests.support.jobs import Painter, new_job, until


class Stage:
    """A worker, and a queue that delivers what the test says."""

    def __init__(self, store: JobStore, painter: Painter, **options: Any) -> None:
        self.store, self.painter = store, painter
        rows = WorkerRows(store.database)
        options = {"name": "w", "look_s": 0.02} | options
        self.worker = Worker(store, rows, self, painter.paint, painter.keep, painter.discard, **options)
        self.stop = asyncio.Event()
        self._ready = asyncio.Event()

    async def prepare(self) -> None: ...
    async def put(self, connection: Any, job_id: str) -> None: ...
    async def cancel(self, job_id: str) -> None: ...

    async def work(self, lane: str, loaded: Collection[str], slots: int, run: Run, stop: asyncio.Event) -> None:
        self._run = run
        self._ready.set()
        await stop.wait()

    async def __aenter__(self) -> Stage:
        self.running = asyncio.create_task(self.worker.run(self.stop))
        await self._ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await self.running

    def deliver(self, job_id: str) -> asyncio.Task[Any]:
        """The run of a job, as a task that the queue may cancel."""
        return asyncio.ensure_future(self._run(job_id))


class Paused(Painter):
    """Paints when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def paint(self, job: Job, missing: tuple[int, ...]) -> AsyncGenerator[Event, None]:
        self.begun.set()
        await self.go_on.wait()
        async for event in super().paint(job, missing):
            yield event


async def created(store: JobStore, **fields: Any) -> str:
    return (await store.create(new_job(**fields)))[0].id


async def test_a_backend_that_cancels_its_own_work_fails_the_job_and_not_the_worker(store: JobStore) -> None:
    class SelfCancelling(Painter):
        async def paint(self, job: Job, missing: tuple[int, ...]) -> AsyncGenerator[Event, None]:
            raise asyncio.CancelledError
            yield

    job_id = await created(store)
    async with Stage(store, SelfCancelling()) as stage:
        await stage.deliver(job_id)
    job = await store.get(job_id)
    assert job.status is JobStatus.FAILED and job.error is not None and job.error.retryable


async def test_a_run_that_the_queue_ends_for_a_cancelled_job_cancels_the_job(store: JobStore) -> None:
    painter = Paused()
    job_id = await created(store)
    async with Stage(store, painter, look_s=60) as stage:
        delivery = stage.deliver(job_id)
        await painter.begun.wait()
        await store.cancel(job_id)
        delivery.cancel()
        await delivery
    assert (await store.get(job_id)).status is JobStatus.CANCELLED


async def test_a_run_that_the_queue_ends_while_it_begins_is_given_back(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun_in_the_store = store.begin, asyncio.Event()

    async def slow(*args: Any) -> Any:
        begun = await begin(*args)
        begun_in_the_store.set()
        await asyncio.sleep(0.05)
        return begun

    monkeypatch.setattr(store, "begin", slow)
    job_id = await created(store)
    async with Stage(store, Painter()) as stage:
        delivery = stage.deliver(job_id)
        await begun_in_the_store.wait()
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
    assert (await store.get(job_id)).status is JobStatus.PENDING


async def test_an_attempt_that_is_lost_does_not_take_the_next_one_of_the_same_worker_along(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease ran out, and the job came back to the worker before it knew."""
    painter = Paused()
    job_id = await created(store)
    async with Stage(store, painter, look_s=60) as stage:
        first = stage.deliver(job_id)
        await painter.begun.wait()
        await store.release_worker("w")
        painter.begun.clear()
        second = stage.deliver(job_id)
        await painter.begun.wait()
        painter.go_on.set()
        await asyncio.gather(first, second)
    job = await store.get(job_id)
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)
    assert len(painter.kept) - len(painter.discarded) == 1


async def test_a_worker_ends_its_own_older_attempt_at_a_job(store: JobStore) -> None:
    painter = Paused()
    job_id = await created(store)
    async with Stage(store, painter) as stage:
        first = stage.deliver(job_id)
        await painter.begun.wait()
        await store.release_worker("w")
        painter.begun.clear()
        second = stage.deliver(job_id)
        await painter.begun.wait()
        await asyncio.wait_for(first, 10)
        assert not second.done()
        painter.go_on.set()
        await second
    assert (await store.get(job_id)).attempt == 2


async def test_a_job_that_is_cancelled_while_its_picture_is_stored_keeps_row_and_bytes_together(
    store: JobStore,
) -> None:
    class SlowShelf(Painter):
        storing = asyncio.Event()

        async def keep(self, claim: Claim, number: int, event: ImageGenerated) -> NewImage:
            image = await super().keep(claim, number, event)
            self.storing.set()
            await asyncio.sleep(0.2)
            return image

    painter = SlowShelf()
    job_id = await created(store, count=2)
    async with Stage(store, painter) as stage:
        delivery = stage.deliver(job_id)
        await painter.storing.wait()
        await store.cancel(job_id)
        await delivery
    job = await store.get(job_id)
    assert job.status is JobStatus.CANCELLED
    rows = {picture.image_id for picture in job.pictures if picture.image_id}
    assert rows == {image.id for image in painter.kept}


async def test_a_chore_that_fails_unforeseen_is_done_again(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    renew, calls = store.renew, 0

    async def failing_once(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("nobody foresaw this")
        return await renew(*args)

    monkeypatch.setattr(store, "renew", failing_once)
    async with Stage(store, Painter(), lease_s=0.2):

        async def renewed() -> bool:
            return calls > 1

        await until(renewed)


async def test_a_job_that_cannot_be_read_does_not_end_the_worker(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreadable(*_: Any) -> Any:
        raise ValueError("a plan of another release")

    job_id = await created(store)
    async with Stage(store, Painter()) as stage:
        with monkeypatch.context() as broken:
            broken.setattr(store, "begin", unreadable)
            await stage.deliver(job_id)
        await stage.deliver(job_id)
    assert (await store.get(job_id)).status is JobStatus.COMPLETED


async def test_what_a_database_refuses_for_a_while_is_written_later(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, refusals = store.finish, 2

    async def refusing(*args: Any, **options: Any) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise DatabaseError
        return await finish(*args, **options)

    monkeypatch.setattr(store, "finish", refusing)
    job_id = await created(store)
    async with Stage(store, Painter()) as stage:
        await stage.deliver(job_id)
    assert (await store.get(job_id)).status is JobStatus.COMPLETED


async def test_a_table_queue_outlives_a_run_that_raises_and_a_stop_while_it_looks(database: Database) -> None:
    queue, stop, runs = TableQueue(database, poll_s=0.01), asyncio.Event(), 0
    store = JobStore(database, queue)
    await created(store)

    async def run(job_id: str) -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            stop.set()
            await store.cancel(job_id)
        raise ValueError("nobody foresaw this")

    await asyncio.wait_for(queue.work("native", (), 1, run, stop), 20)
    assert runs == 2


async def test_a_table_queue_that_is_stopped_while_it_looks_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, stop = TableQueue(database), asyncio.Event()
    glance = database.glance

    def stopping() -> Any:
        stop.set()
        return glance()

    monkeypatch.setattr(database, "glance", stopping)

    async def run(job_id: str) -> None: ...

    await asyncio.wait_for(queue.work("native", (), 1, run, stop), 20)


async def test_progress_and_previews_are_shown_while_a_job_runs(store: JobStore) -> None:
    painter = Painter(FakeBackend(step_s=0.1))
    job_id = await created(store)
    async with Stage(store, painter) as stage:
        delivery = stage.deliver(job_id)

        async def shown() -> bool:
            return bool(await store.shown(job_id=job_id))

        await until(shown)
        await store.cancel(job_id)
        await delivery
    assert await store.shown(job_id=job_id) == []


class Noting(Painter):
    """Tells things that change nothing, waits, and then paints."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def paint(self, job: Job, missing: tuple[int, ...]) -> AsyncGenerator[Event, None]:
        for number in range(3):
            yield Info(message=str(number), code="")
        await self.go_on.wait()
        yield Info(message="3", code="")
        async for event in super().paint(job, missing):
            yield event


async def log_of(store: JobStore, job_id: str) -> list[str]:
    """Every event of a job: what it says, or its type."""
    return [str(event.data.get("message") or event.type) for event in await store.events(job_id)]


async def test_what_changes_nothing_is_told_soon_once_and_in_its_order(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    show, refusals = store.show, 2

    async def refusing(*args: Any) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise DatabaseError
        return await show(*args)

    monkeypatch.setattr(store, "show", refusing)
    painter = Noting()
    job_id = await created(store)
    async with Stage(store, painter) as stage:
        delivery = stage.deliver(job_id)

        async def told() -> bool:
            return "2" in await log_of(store, job_id)

        await until(told)
        assert (await log_of(store, job_id))[-3:] == ["0", "1", "2"]
        painter.go_on.set()
        await delivery
    log = await log_of(store, job_id)
    assert [said for said in log if said.isdigit()] == ["0", "1", "2", "3"]
    assert log.index("3") < log.index("image_generated") < log.index("done")
    assert [event.number for event in await store.events(job_id)] == list(range(1, len(log) + 1))


async def test_what_was_told_before_a_cancellation_is_not_lost(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHOW_EVERY_S", 60)
    painter = Noting()
    job_id = await created(store)
    async with Stage(store, painter) as stage:
        delivery = stage.deliver(job_id)

        async def told() -> bool:
            return any(attempt.told for attempt in stage.worker._attempts.values())  # pyright: ignore[reportPrivateUsage]

        await until(told)
        await store.cancel(job_id)
        await delivery
    assert (await log_of(store, job_id))[-4:] == ["0", "1", "2", "done"]


async def test_events_are_not_shown_while_their_job_is_written_about(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture's events, which are on their way already, go first: shown beside them, some would come twice."""
    monkeypatch.setattr(module, "SHOW_EVERY_S", 0.01)
    add_image, shown = store.add_image, 0

    async def slow(*args: Any, **options: Any) -> Any:
        nonlocal shown
        before = shown
        await asyncio.sleep(0.2)
        assert shown == before
        return await add_image(*args, **options)

    show = store.show

    async def counted(*args: Any) -> Any:
        nonlocal shown
        shown += 1
        return await show(*args)

    monkeypatch.setattr(store, "add_image", slow)
    monkeypatch.setattr(store, "show", counted)
    painter = Noting()
    painter.go_on.set()
    job_id = await created(store)
    async with Stage(store, painter) as stage:
        await stage.deliver(job_id)
    log = await log_of(store, job_id)
    assert [said for said in log if said.isdigit()] == ["0", "1", "2", "3"]
    assert log[-2:] == ["image_generated", "done"]


async def test_events_carry_the_time_at_which_they_came_about(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOW_EVERY_S", 60)
    painter = Noting()
    job_id = await created(store)
    async with Stage(store, painter) as stage:
        delivery = stage.deliver(job_id)
        await asyncio.sleep(0.5)
        painter.go_on.set()
        await delivery
    events = await store.events(job_id)
    at = {event.data.get("message"): event.created_at for event in events}
    assert at["3"] - at["2"] > 0.3
    assert at["2"] - at["0"] < 0.2
    for former, event in pairwise(events):
        assert event.created_at > former.created_at - 0.002, "SQLite's clock has milliseconds"
