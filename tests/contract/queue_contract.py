"""What every queue must keep to, seen through the store and the workers. Inherit and give it a site.

    class TestMine(QueueContract):
        @pytest.fixture
        async def site(self) -> AsyncGenerator[Site]: ...

Queues of a site share one database, as those of several processes do.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from limner.backends.fake import FakeBackend
from limner.domain import Job, JobStatus
from limner.errors import EngineFault
from limner.events import Event
from limner.jobs.database import Database
from limner.jobs.records import new_id
from limner.jobs.store import JobStore
from limner.jobs.tables import jobs
from limner.jobs.worker import Worker
from limner.jobs.workers import WorkerRows
from limner.ports import Connection, Queue, Run
from tests.support.jobs import Painter, new_job, until

SHORT_LEASE_S = 2.0
"""The lease of a worker that will be killed. Others have the usual one, lest a busy machine take them for dead."""


class Gate(Painter):
    """Notes which jobs are begun, and paints while it is open; `let_through` opens it for one job."""

    def __init__(self, backend: FakeBackend | None = None, is_open: bool = False) -> None:
        super().__init__(backend)
        self.begun: list[str] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._passes = asyncio.Semaphore(1_000_000 if is_open else 0)

    def let_through(self, count: int = 1) -> None:
        for _ in range(count):
            self._passes.release()

    async def paint(self, job: Job, missing: tuple[int, ...]) -> AsyncGenerator[Event, None]:
        self.begun.append(job.id)
        self.running.update((job.owner, "all"))
        self.most |= self.running
        try:
            await self._passes.acquire()
            async for event in super().paint(job, missing):
                yield event
        finally:
            self.running.subtract((job.owner, "all"))

    async def has_begun(self, count: int) -> list[str]:
        async def look() -> bool:
            return len(self.begun) >= count

        await until(look)
        return self.begun


@dataclass
class Site:
    """A database, and how a queue on it is made and an own process set to work on it."""

    database: Database
    make: Callable[..., Queue]
    environment: dict[str, str] = field(default_factory=dict[str, str])
    admin_url: str = ""

    async def open(self, **options: Any) -> tuple[JobStore, Queue]:
        queue = self.make(**options)
        await queue.prepare()
        return JobStore(self.database, queue), queue

    @asynccontextmanager
    async def worker(
        self, queue: Queue, painter: Painter, stop: asyncio.Event | None = None, **options: Any
    ) -> AsyncGenerator[asyncio.Task[None]]:
        """A worker; at the end what it still runs is given back."""
        store, rows = JobStore(self.database, queue), WorkerRows(self.database)
        name = new_id("worker")
        worker = Worker(
            store, rows, queue, painter.paint, painter.keep, painter.discard, name=name, look_s=0.05, **options
        )  # fmt: skip
        task = asyncio.create_task(worker.run(stop or asyncio.Event()))
        try:
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def ended(store: JobStore, job_id: str, timeout_s: float = 20.0) -> Job:
    """The job, when it is final."""

    async def look() -> Job | None:
        job = await store.get(job_id)
        return job if job.status.final else None

    found = await until(look, timeout_s)
    assert found is not None
    return found


async def create(store: JobStore, count: int = 1, **fields: Any) -> list[str]:
    """Ids of new jobs."""
    return [(await store.create(new_job(**fields)))[0].id for _ in range(count)]


class QueueContract:
    """The suite."""

    async def test_every_job_runs_exactly_once_with_several_workers(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate(is_open=True)
        _, other = await site.open()
        ids = await create(store, 6) + await create(store, 6, owner="b")
        async with site.worker(queue, painter, slots=3), site.worker(other, painter, slots=3):
            ids += await create(store, 6, owner="c")
            done = [await ended(store, job_id) for job_id in ids]
        assert {(job.status, job.attempt) for job in done} == {(JobStatus.COMPLETED, 1)}
        assert sorted(painter.begun) == sorted(ids)

    async def test_a_worker_never_runs_more_than_its_slots(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate(FakeBackend(step_s=0.005), is_open=True)
        ids = await create(store, 5)
        async with site.worker(queue, painter, slots=2):
            for job_id in ids:
                await ended(store, job_id)
        assert painter.most["all"] == 2

    async def test_higher_priority_goes_first_however_many_wait(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate()
        ids = await create(store, 8)
        (urgent,) = await create(store, priority=5)
        (middling,) = await create(store, priority=1)
        async with site.worker(queue, painter, slots=3):
            begun = await painter.has_begun(3)
            assert set(begun) == {urgent, middling, ids[0]}

    async def test_a_raised_priority_counts_for_jobs_that_wait_already(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate()
        ids = await create(store, 3)
        await store.set_priority(ids[2], 9)
        async with site.worker(queue, painter, slots=1):
            assert await painter.has_begun(1) == [ids[2]]

    async def test_a_long_list_of_one_owner_does_not_hold_up_another(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate()
        ids = await create(store, 12, owner="busy")
        async with site.worker(queue, painter, slots=1):
            await painter.has_begun(1)
            (other,) = await create(store, owner="other")
            painter.let_through()
            assert await painter.has_begun(2) == [ids[0], other]

    async def test_an_owner_never_runs_more_than_the_cap(self, site: Site) -> None:
        store, queue = await site.open(owner_cap=2)
        _, other = await site.open(owner_cap=2)
        painter = Gate(FakeBackend(step_s=0.005), is_open=True)
        ids = await create(store, 6, owner="busy") + await create(store, owner="other")
        async with site.worker(queue, painter, slots=4), site.worker(other, painter, slots=4):
            for job_id in ids:
                await ended(store, job_id)
        assert painter.most["busy"] == 2

    async def test_jobs_for_a_loaded_checkpoint_go_first_among_equals(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate(FakeBackend(models=("cold", "warm")))
        await create(store, owner="a", model="cold")
        (warm,) = await create(store, owner="b", model="warm")
        async with site.worker(queue, painter, slots=1, loaded={"warm"}):
            assert await painter.has_begun(1) == [warm]

    async def test_lanes_are_separate(self, site: Site) -> None:
        store, queue = await site.open(owner_cap=1)
        painter = Gate(is_open=True)
        (remote,) = await create(store, lane="remote")
        (native,) = await create(store, lane="native")
        async with site.worker(queue, painter, lane="native"):
            await ended(store, native)
        assert (await store.get(remote)).status is JobStatus.PENDING
        async with site.worker(queue, painter, lane="remote"):
            await ended(store, remote)
        assert painter.begun == [native, remote]

    async def test_an_idle_worker_begins_a_new_job_at_once(self, site: Site) -> None:
        store, queue = await site.open()
        async with site.worker(queue, Gate(is_open=True)):
            waits: list[float] = []
            for _ in range(3):
                job = await ended(store, (await create(store))[0])
                assert job.started_at is not None
                waits.append(job.started_at - job.created_at)
        # The best of them: the others may have met a machine that was busy with something else.
        assert min(waits) < 1.0

    async def test_a_job_cancelled_while_it_waits_is_never_begun(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate()
        first, second, third = await create(store, 3)
        async with site.worker(queue, painter, slots=1):
            await painter.has_begun(1)
            assert (await store.cancel(second)).status is JobStatus.CANCELLED
            painter.let_through(2)
            await ended(store, third)
        assert painter.begun == [first, third]

    async def test_a_job_cancelled_while_it_runs_ends_and_frees_its_slot(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate()
        first, second = await create(store, 2)
        async with site.worker(queue, painter, slots=1):
            await painter.has_begun(1)
            await store.cancel(first)
            assert (await ended(store, first)).status is JobStatus.CANCELLED
            painter.let_through()
            assert (await ended(store, second)).status is JobStatus.COMPLETED
        assert painter.begun == [first, second]

    async def test_a_killed_workers_jobs_are_run_again_by_another(self, site: Site, tmp_path: Path) -> None:
        store, queue = await site.open()
        ids = await create(store, 2)

        async def all_begun() -> bool:
            return all([(await store.get(job_id)).status is JobStatus.PROCESSING for job_id in ids])

        environment = os.environ | site.environment | {"LIMNER_HOME": str(tmp_path), "FAKE_STEP_S": "30"}
        command = [sys.executable, "-m", "tests.support.services", "worker"]
        command += ["--name", "doomed", "--lane", "native", "--parent", str(os.getpid())]
        doomed = await asyncio.create_subprocess_exec(*command, env=environment)
        try:
            await until(all_begun, 60)
        finally:
            doomed.kill()
            await doomed.wait()
        async with site.worker(queue, Gate(is_open=True)):
            done = [await ended(store, job_id, 15) for job_id in ids]
        assert all(job.status is JobStatus.COMPLETED and job.attempt > 1 for job in done)

    async def test_a_transaction_that_is_rolled_back_delivers_nothing(self, site: Site) -> None:
        store, queue = await site.open()
        with pytest.raises(_RolledBack):
            await JobStore(site.database, _Spoiling(queue)).create(new_job())
        painter = Gate(is_open=True)
        async with site.worker(queue, painter):
            (job_id,) = await create(store)
            await ended(store, job_id)
        assert painter.begun == [job_id]
        async with site.database.read() as connection:
            assert await connection.scalar(select(func.count()).select_from(jobs)) == 1

    async def test_a_worker_that_is_told_to_stop_ends_what_it_runs_and_begins_nothing(self, site: Site) -> None:
        store, queue = await site.open()
        painter, stop = Gate(), asyncio.Event()
        first, second = await create(store, 2)
        async with site.worker(queue, painter, stop, slots=1) as running:
            await painter.has_begun(1)
            stop.set()
            painter.let_through(2)
            await running
        assert (await store.get(first)).status is JobStatus.COMPLETED
        assert (await store.get(second)).status is JobStatus.PENDING

    async def test_a_worker_that_is_made_to_stop_gives_back_what_it_runs(self, site: Site) -> None:
        store, queue = await site.open()
        painter, stop = Gate(), asyncio.Event()
        (job_id,) = await create(store, max_attempts=1)
        async with site.worker(queue, painter, stop, slots=1):
            await painter.has_begun(1)
            stop.set()  # its time to end the job runs out at once
        assert (await store.get(job_id)).status is JobStatus.PENDING
        async with site.worker(queue, Gate(is_open=True)):
            assert (await ended(store, job_id)).status is JobStatus.COMPLETED

    async def test_a_failed_job_runs_again_when_somebody_asks(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate(FakeBackend(failures={0: EngineFault("It came out black. Try again.")}), is_open=True)
        (job_id,) = await create(store)
        async with site.worker(queue, painter):
            assert (await ended(store, job_id)).status is JobStatus.FAILED
            painter.backend = FakeBackend()
            await store.retry(job_id)
            job = await ended(store, job_id)
        assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)


class _RolledBack(Exception):
    pass


class _Spoiling:
    """A queue after which the transaction fails."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def prepare(self) -> None: ...
    async def cancel(self, job_id: str) -> None: ...

    async def work(self, lane: str, loaded: Collection[str], slots: int, run: Run, stop: asyncio.Event) -> None: ...

    async def put(self, connection: Connection, job_id: str) -> None:
        await self._queue.put(connection, job_id)
        raise _RolledBack
