"""The queues keep their contract; what is Procrastinate's own is tested beside it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, select, text

from limner.backends.fake import FakeBackend
from limner.config import JobSettings
from limner.domain import JobStatus
from limner.errors import ConfigError
from limner.jobs.database import Database
from limner.jobs.procrastinate_queue import ProcrastinateQueue
from limner.jobs.queue import TableQueue
from limner.jobs.store import JobStore
from limner.jobs.tables import jobs
from limner.service import queue_of
from tests.contract.queue_contract import SHORT_LEASE_S, Gate, QueueContract, Site, create, ended
from tests.support.databases import postgres_database
from tests.support.jobs import until

WINDOW = 4
OUTAGE_S = 3.0


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Database]:
    database = Database(url)
    await database.upgrade()
    yield database
    await database.aclose()


def environment(url: str, queue: str) -> dict[str, str]:
    return {"LIMNER_DATABASE__URL": url, "LIMNER_JOBS__QUEUE": queue, "LIMNER_JOBS__LEASE_S": str(SHORT_LEASE_S)}


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    with postgres_database(postgres) as url:
        yield url


class OnPostgres(QueueContract):
    """What is asked of a queue whose database can go away."""

    async def test_a_worker_outlives_an_outage_of_its_database(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate(FakeBackend(step_s=0.1))
        (job_id,) = await create(store)
        async with site.worker(queue, painter, lease_s=30) as working:
            await painter.has_begun(1)
            async with outage(site):
                painter.let_through()
                await asyncio.sleep(OUTAGE_S)
            painter.let_through()
            assert (await ended(store, job_id, 30)).attempt == 1
            (later,) = await create(store)
            await ended(store, later)
            assert not working.done()
        assert painter.begun == [job_id, later]


@asynccontextmanager
async def outage(site: Site) -> AsyncGenerator[None]:
    """Nobody is connected to the site's database or can connect."""
    name = site.database.engine.url.database
    with psycopg.connect(site.admin_url, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


class TestTableOnSqlite(QueueContract):
    @pytest.fixture
    async def site(self, tmp_path: Path) -> AsyncGenerator[Site]:
        url = f"sqlite:///{tmp_path / 'limner.db'}"
        async with opened(url) as database:
            yield Site(database, partial(TableQueue, database), environment(url, "table"))


class TestTableOnPostgres(OnPostgres):
    @pytest.fixture
    async def site(self, postgres: str, postgres_url: str) -> AsyncGenerator[Site]:
        async with opened(postgres_url) as database:
            known = environment(postgres_url, "table")
            yield Site(database, partial(TableQueue, database), known, postgres)


class TestProcrastinate(OnPostgres):
    @pytest.fixture
    async def site(self, postgres: str, postgres_url: str) -> AsyncGenerator[Site]:
        async with opened(postgres_url) as database:
            known = environment(postgres_url, "procrastinate")
            yield Site(
                database,
                partial(ProcrastinateQueue, database, stalled_s=SHORT_LEASE_S, window=WINDOW),
                known,
                postgres,
            )

    async def test_only_a_window_is_admitted_and_what_outranks_it(self, site: Site) -> None:
        store, _ = await site.open()
        ids = await create(store, 7, owner="busy")
        (other,) = await create(store, owner="other")
        assert await entries(site) == [*ids[:WINDOW], other]

    async def test_nothing_is_left_of_jobs_that_have_ended(self, site: Site) -> None:
        store, queue = await site.open()
        painter = Gate(is_open=True)
        first, second = await create(store, 2)
        await store.cancel(first)
        async with site.worker(queue, painter):
            await ended(store, second)

            async def swept() -> bool:
                return not await entries(site)

            await until(swept)

    async def test_a_waiting_job_that_has_lost_its_entry_gets_another(self, site: Site) -> None:
        store, queue = await site.open()
        (job_id,) = await create(store)
        async with site.database.begin() as connection:
            await connection.execute(text("DELETE FROM procrastinate_jobs"))
        async with site.worker(queue, Gate(is_open=True)):
            assert (await ended(store, job_id)).attempt == 1

    async def test_what_a_lost_worker_had_only_fetched_is_delivered_again(self, site: Site) -> None:
        store, queue = await site.open()
        assert isinstance(queue, ProcrastinateQueue)
        (job_id,) = await create(store)
        async with site.database.begin() as connection:
            lost = await connection.scalar(text("SELECT procrastinate_register_worker_v1()"))
        assert await queue.fetch("native", (), int(lost))
        async with site.worker(queue, Gate(is_open=True)):
            assert (await ended(store, job_id, 10)).attempt == 1

    async def test_a_worker_that_was_taken_for_dead_goes_on(self, site: Site) -> None:
        store, queue = await site.open()
        async with site.worker(queue, Gate(is_open=True)):
            await ended(store, (await create(store))[0])
            async with site.database.begin() as connection:
                await connection.execute(text("DELETE FROM procrastinate_workers"))
            assert (await ended(store, (await create(store))[0])).status is JobStatus.COMPLETED

            async def known_again() -> bool:
                async with site.database.read() as connection:
                    return bool(await connection.scalar(text("SELECT count(*) FROM procrastinate_workers")))

            await until(known_again)

    async def test_several_processes_may_prepare_at_once(self, site: Site) -> None:
        await asyncio.gather(*(site.open() for _ in range(4)))
        assert await entries(site) == []

    async def test_jobs_of_a_time_with_the_table_alone_are_taken_over(self, site: Site) -> None:
        _, queue = await site.open()
        former = TableQueue(site.database)
        store = JobStore(site.database, former)
        ids = await create(store, 6)
        async with site.worker(queue, Gate(is_open=True)):
            assert [(await ended(store, job_id)).status for job_id in ids] == [JobStatus.COMPLETED] * 6

    async def test_a_capped_owner_of_a_lane_without_workers_is_served_in_another(self, site: Site) -> None:
        store, queue = await site.open(owner_cap=1)
        await create(store, 2, lane="remote")
        (job_id,) = await create(store, lane="native")
        async with site.worker(queue, Gate(is_open=True), lane="native"):
            await ended(store, job_id)
        async with site.database.read() as connection:
            waiting = await connection.scalar(
                select(func.count()).select_from(jobs).where(jobs.c.status == JobStatus.PENDING)
            )
        assert waiting == 2


async def entries(site: Site) -> list[str]:
    """Ids of the jobs that have entries."""
    async with site.database.read() as connection:
        return list(await connection.scalars(text("SELECT args->>'job_id' FROM procrastinate_jobs ORDER BY id")))


def test_the_setting_auto_means_the_table_on_sqlite_and_procrastinate_on_postgresql(tmp_path: Path) -> None:
    sqlite, postgres = Database(f"sqlite:///{tmp_path / 'limner.db'}"), Database("postgresql://nobody@127.0.0.1/none")
    assert isinstance(queue_of(JobSettings(), sqlite), TableQueue)
    assert isinstance(queue_of(JobSettings(), postgres), ProcrastinateQueue)
    assert isinstance(queue_of(JobSettings(queue="table"), postgres), TableQueue)


def test_procrastinate_on_sqlite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs PostgreSQL"):
        queue_of(JobSettings(queue="procrastinate"), Database(f"sqlite:///{tmp_path / 'limner.db'}"))


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "limner.jobs.procrastinate_queue")
    monkeypatch.setitem(sys.modules, "procrastinate", None)
    with pytest.raises(ConfigError, match=r"pip install 'limner\[postgres\]'"):
        queue_of(JobSettings(), Database("postgresql://nobody@127.0.0.1/none"))
