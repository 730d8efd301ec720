"""What two transactions make of one job when they meet in the middle, and what becomes of answers that get lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

import pytest
from sqlalchemy import delete, text, update

from limner.domain import Fault, JobStatus
from limner.errors import Conflict, DatabaseError, LeaseLost
from limner.jobs.database import Database
from limner.jobs.gallery import Gallery
from limner.jobs.queue import TableQueue
from limner.jobs.records import Fact, LiveState
from limner.jobs.store import JobStore
from limner.jobs.tables import images, jobs
from limner.ports import Connection
from tests.support.databases import postgres_database
from tests.support.jobs import begun, new_image, new_job, painted, until
from tests.support.records import recipe

T = TypeVar("T")
LOST = Fault(code="storage", message="It is gone.")


@pytest.fixture
async def shared(postgres: str) -> AsyncGenerator[JobStore]:
    """A store on PostgreSQL, where transactions run side by side; on SQLite one that writes waits for the other."""
    with postgres_database(postgres) as url:
        database = Database(url)
        await database.upgrade()
        yield JobStore(database, TableQueue(database))
        await database.aclose()


async def waits(connection: Connection, task: asyncio.Task[Any] | None = None) -> bool:
    """Whether somebody waits for a lock, or the task has ended without."""
    blocked = await connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    return bool(blocked) or (task is not None and task.done())


async def meeting(
    store: JobStore, first: Callable[[Connection], Awaitable[Any]], second: Awaitable[T]
) -> asyncio.Task[T]:
    """Commit what `first` does when `second` waits for its locks; the task of `second`."""
    async with store.database.begin() as connection:
        await first(connection)
        task = asyncio.ensure_future(second)
        await until(lambda: waits(connection, task))
    await asyncio.wait((task,), timeout=20)
    assert task.done()
    return task


async def kinds(store: JobStore, job_id: str) -> list[str]:
    return [event.type for event in await store.events(job_id)]


async def test_a_job_that_is_given_back_while_it_is_cancelled_ends(shared: JobStore) -> None:
    _, job = await begun(shared)
    given_back = update(jobs).where(jobs.c.id == job.id).values(status=JobStatus.PENDING, worker=None)
    await meeting(shared, lambda connection: connection.execute(given_back), shared.cancel(job.id))
    assert (await shared.get(job.id)).status is JobStatus.CANCELLED
    assert (await kinds(shared, job.id))[-1] == "done"


async def test_a_job_that_ends_while_it_is_cancelled_has_ended_once(shared: JobStore) -> None:
    job, _ = await shared.create(new_job())

    async def runs_and_ends(connection: Connection) -> None:
        await connection.execute(update(jobs).where(jobs.c.id == job.id).values(status=JobStatus.COMPLETED))

    task = await meeting(shared, runs_and_ends, shared.cancel(job.id))
    assert task.result().status is JobStatus.COMPLETED
    assert "done" not in await kinds(shared, job.id)


async def test_of_two_who_retry_a_job_one_comes_too_late(shared: JobStore) -> None:
    claim, job = await begun(shared)
    await shared.finish(claim, LOST)
    again = update(jobs).where(jobs.c.id == job.id).values(status=JobStatus.PROCESSING, attempt=2)
    task = await meeting(shared, lambda connection: connection.execute(again), shared.retry(job.id))
    assert isinstance(task.exception(), Conflict)
    assert (await shared.get(job.id)).status is JobStatus.PROCESSING


async def test_who_looks_for_painted_pictures_does_not_wait_for_one_that_is_deleted(shared: JobStore) -> None:
    claim, job = await begun(shared, recipe_key="k")
    await shared.add_image(claim, new_image(claim))
    await shared.finish(claim)
    async with shared.database.begin() as connection:
        # As the repair does: it would wait for the one who waits for it.
        await connection.execute(delete(images).where(images.c.job_id == job.id))
        new, _ = await asyncio.wait_for(shared.create(new_job(recipe_key="k")), 10)
    assert (new.status, new.cached) == (JobStatus.PENDING, False)


async def test_a_picture_that_is_lost_while_its_job_is_changed_stops_nobody(shared: JobStore) -> None:
    claim, job = await begun(shared, count=2)
    image = new_image(claim, 0)
    await shared.add_image(claim, image)
    await shared.finish(claim)
    async with shared.database.begin() as connection:
        await connection.execute(update(jobs).where(jobs.c.id == job.id).values(priority=1))
        losing = asyncio.create_task(shared.lose_image(image.id, LOST))
        await until(lambda: waits(connection))
        await asyncio.wait_for(shared.create(new_job()), 10)  # everybody's events wait for one lock
    assert await losing


async def test_a_job_whose_row_somebody_holds_keeps_no_other_from_being_given_back(shared: JobStore) -> None:
    held, other = [(await begun(shared, lease_s=0.0))[1] for _ in range(2)]
    async with shared.database.begin() as connection:
        await connection.execute(update(jobs).where(jobs.c.id == held.id).values(priority=1))
        assert await asyncio.wait_for(shared.reap(), 10) == 1
    assert (await shared.get(other.id)).status is JobStatus.PENDING
    assert await shared.reap() == 1


async def test_a_process_that_is_suspended_in_a_transaction_stops_the_others_for_a_while_only(
    shared: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limner.jobs.database.IDLE_TIMEOUT_MS", 300)
    suspended = Database(shared.database.url)
    claim, _ = await begun(shared)

    async def hold_and_wait() -> None:
        async with suspended.begin() as connection:
            await connection.execute(update(jobs).where(jobs.c.id == claim.job_id).values(priority=1))
            await asyncio.wait_for(shared.append(claim, [Fact("info", {"message": "on"})]), 10)

    with pytest.raises(DatabaseError):
        await hold_and_wait()
    assert (await kinds(shared, claim.job_id))[-1] == "info"
    await suspended.check()
    await suspended.aclose()


async def test_progress_is_newer_whatever_the_clocks_of_the_machines_say(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def shown(ahead_s: float) -> int:
        claim, job = await begun(store)
        with monkeypatch.context() as clock:
            clock.setattr("time.time", lambda: now + ahead_s)
            await store.show([(claim, LiveState(job.id, 0, 0, {"step": 1}))])
        (state,) = await store.shown(job_id=job.id)
        await store.finish(claim, LOST)
        return state.version

    now = time.time()
    assert await shown(3600) < await shown(0)


async def test_a_picture_whose_row_is_written_twice_is_there_once(store: JobStore) -> None:
    claim, job = await begun(store)
    image = new_image(claim)
    for _ in range(2):  # the answer to the first may be lost
        await store.add_image(claim, image)
    assert await kinds(store, job.id) == ["stage_update", "stage_update", "image_generated"]
    assert (await store.finish(claim)).pictures[0].image_id == image.id


async def test_a_picture_that_has_its_row_keeps_its_bytes_when_the_attempt_is_lost(
    store: JobStore, gallery: Gallery
) -> None:
    claim, _ = await begun(store, lease_s=0.0)
    image = await gallery.keep(claim, 0, painted(recipe("single")))
    await store.add_image(claim, image)
    await until(store.reap)
    with pytest.raises(LeaseLost):
        await store.add_image(claim, image)
    await gallery.discard(image)
    assert await gallery.storage.size(image.key) == image.size_bytes
    assert await gallery.storage.size(image.thumbnail_key)
