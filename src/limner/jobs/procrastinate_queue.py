"""Procrastinate on PostgreSQL as the queue: workers on many machines are woken at once, and lost ones are noticed.

Procrastinate holds entries that name jobs, and only a window of those that wait: our own SQL says which jobs are
admitted to it (`limner.jobs.turns`), and which entry of the window is next. The jobs table stays the truth. An entry is
worth nothing by itself: an entry too many finds nothing to begin, and a job whose entry is gone gets a new one from the
sweep that every worker makes a few times per lease. Invariant: `jobs.admitted` and the entry are written in one
transaction, so a waiting job that is admitted has an entry, or had one that could not begin it.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

from procrastinate import App, schema
from procrastinate.jobs import DeleteJobCondition, Job, Status
from procrastinate.manager import JobManager
from procrastinate.worker import Worker
from sqlalchemy import (
    ColumnElement,
    and_,
    column,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError

from limner.domain import JobStatus
from limner.errors import DatabaseError
from limner.jobs.database import Database
from limner.jobs.procrastinate_connector import RECONNECT_S, Connector
from limner.jobs.tables import jobs
from limner.jobs.turns import in_turn, ranked_jobs
from limner.ports import Connection, Run

TASK = "run"
WINDOW = 32
POLL_S = 0.5
_SCHEMA_LOCK, _ADMISSION_LOCK, _SWEEP_LOCK = 7_203_501_644, 7_203_501_645, 7_203_501_646
"""Keys of advisory locks: one process at a time makes the schema, admits jobs, sweeps."""

log = logging.getLogger("limner.queue")

entries = table(
    "procrastinate_jobs",
    column("id"),
    column("status"),
    column("task_name"),
    column("priority"),
    column("lock"),
    column("queueing_lock"),
    column("args", JSONB),
    column("scheduled_at"),
    column("queue_name"),
    column("attempts"),
    column("worker_id"),
)
_workers = table("procrastinate_workers", column("id"))
_entry_job = entries.c.args["job_id"].astext
_todo: ColumnElement[Any] = literal_column("'todo'::procrastinate_job_status")
_doing: ColumnElement[Any] = literal_column("'doing'::procrastinate_job_status")


class ProcrastinateQueue:
    """Delivers through Procrastinate.

    Args:
        database: where the jobs are; PostgreSQL.
        owner_cap: how many jobs of one owner may run at a time.
        stalled_s: how long a worker may give no sign of life before what it fetched is delivered again.
        window: about how many waiting jobs of a lane are admitted at a time.
    """

    def __init__(
        self, database: Database, *, owner_cap: int | None = None, stalled_s: float = 8.0, window: int = WINDOW
    ) -> None:
        self._database = database
        self._owner_cap = owner_cap
        self.stalled_s = stalled_s
        self._window = window
        self.connector = Connector(database)
        self._manager = JobManager(self.connector)

    async def prepare(self) -> None:
        """Make Procrastinate's tables in the database, where they are missing."""
        async with self._database.begin() as connection:
            await _lock(connection, _SCHEMA_LOCK)
            if await connection.scalar(text("SELECT to_regclass('procrastinate_jobs')")) is None:
                await self.connector.run_script(connection, schema.SchemaManager.get_schema())

    async def put(self, connection: Connection, job_id: str) -> None:
        """Admit the job, if it is among the first of those that wait; else it is admitted when it is."""
        job = (
            await connection.execute(select(jobs.c.lane, jobs.c.owner, jobs.c.priority).where(jobs.c.id == job_id))
        ).one()
        # Nearly always the same answer as the ranking, at a cost that does not grow with the number of waiting jobs.
        waiting, own = (
            await connection.execute(
                select(func.count(), func.count().filter(entries.c.args["owner"].astext == job.owner)).where(
                    entries.c.queue_name == _queue(job.lane),
                    entries.c.status == _todo,
                    entries.c.priority >= job.priority,
                )
            )
        ).one()
        if waiting < self._window or not own:
            await self._admit(connection, job.lane)

    async def cancel(self, job_id: str) -> None:
        """Wake the worker that runs the job. Workers look at the flag by themselves too, a little later."""
        async with self._database.begin() as connection:
            await connection.execute(
                select(func.procrastinate_cancel_job_v1(entries.c.id, True, False)).where(
                    _entry_job == job_id, entries.c.status == _doing
                )
            )

    async def work(self, lane: str, loaded: Collection[str], slots: int, run: Run, stop: asyncio.Event) -> None:
        """Run jobs until `stop` is set and the running ones have returned. A database that is gone is waited for."""
        shift = _Shift(self, lane, loaded, run)
        sweeping = asyncio.create_task(self._keep_window(lane, shift.changed))
        try:
            while not stop.is_set():
                if not await shift.work(slots, stop):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(RECONNECT_S):
                            await stop.wait()
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    # --- the window --------------------------------------------------------------------------------------------------

    async def _admit(self, connection: Connection, lane: str) -> None:
        """Give entries to the jobs that fewer than `window` admitted ones go before.

        A job that outranks the window is so admitted although it is full, and nobody can fill it for all others.
        """
        await _lock(connection, _ADMISSION_LOCK)
        candidates = ranked_jobs(lane, owner_cap=self._owner_cap, admitted=False).subquery()
        first = select(candidates).order_by(*in_turn(candidates.c)).limit(self._window)
        rows = (await connection.execute(first)).all()
        if not rows:
            return
        admitted = (await connection.execute(ranked_jobs(lane, admitted=True))).all()
        places = sorted(_place(row) for row in admitted)
        chosen: list[str] = []
        for row in rows:
            if bisect_left(places, _place(row)) >= self._window:
                break
            insort(places, _place(row))
            chosen.append(row.id)
        # Who holds a row now changes it, and may wait for our lock: it is left for the next time.
        free = select(jobs.c.id).where(
            jobs.c.id.in_(chosen), jobs.c.status == JobStatus.PENDING, jobs.c.admitted.is_(False)
        )
        marked = await connection.execute(
            update(jobs)
            .where(jobs.c.id.in_(free.with_for_update(skip_locked=True)))
            .values(admitted=True)
            .returning(jobs.c.id, jobs.c.owner, jobs.c.priority)
        )
        found = {row.id: row for row in marked}
        new = [
            Job(
                queue=_queue(lane),
                task_name=TASK,
                priority=found[job_id].priority,
                lock=None,
                queueing_lock=None,
                task_kwargs={"job_id": job_id, "owner": found[job_id].owner},
            )
            for job_id in chosen
            if job_id in found
        ]
        if new:
            await self._manager.batch_defer_jobs_async(new, connection=connection)

    async def _keep_window(self, lane: str, changed: asyncio.Event) -> None:
        """Fill the window whenever something left it, and put in order what lost workers left, until cancelled."""
        loop = asyncio.get_running_loop()
        next_sweep = 0.0
        while True:
            changed.clear()
            try:
                async with self._database.begin() as connection:
                    if loop.time() >= next_sweep:
                        await self._sweep(connection, lane)
                        next_sweep = loop.time() + self.stalled_s / 3
                    await self._admit(connection, lane)
            except DatabaseError as error:
                log.warning("waiting jobs could not be admitted: %s", error.message)
                await asyncio.sleep(RECONNECT_S)
            except Exception:  # nothing else admits what waits
                log.exception("waiting jobs could not be admitted")
                await asyncio.sleep(RECONNECT_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.stalled_s / 3):
                    await changed.wait()

    async def _sweep(self, connection: Connection, lane: str) -> None:
        if not await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _SWEEP_LOCK}):
            return
        # Their entries stay behind, without a worker.
        await connection.execute(select(func.procrastinate_prune_stalled_workers_v1(self.stalled_s)))
        waits = and_(jobs.c.status == JobStatus.PENDING, jobs.c.admitted.is_(True))
        wanted = exists().where(jobs.c.id == _entry_job, or_(jobs.c.status == JobStatus.PROCESSING, waits))
        await connection.execute(
            delete(entries).where(
                entries.c.queue_name == _queue(lane),
                or_(~wanted, and_(entries.c.status == _doing, entries.c.worker_id.is_(None))),
            )
        )
        await _lock(connection, _ADMISSION_LOCK)
        lost = select(jobs.c.id).where(jobs.c.lane == lane, waits, ~exists().where(_entry_job == jobs.c.id))
        done = await connection.execute(
            update(jobs).where(jobs.c.id.in_(lost.with_for_update(of=jobs, skip_locked=True))).values(admitted=False)
        )
        if done.rowcount:
            log.warning("%d waiting jobs had lost their entries and get new ones", done.rowcount)

    async def fetch(self, lane: str, loaded: Collection[str], worker_id: int) -> Job | None:
        """Take the next entry of the window for one of Procrastinate's workers."""
        ranked = ranked_jobs(lane, loaded, self._owner_cap, admitted=True).subquery()
        chosen = (
            select(entries.c.id)
            .join_from(entries, ranked, _entry_job == ranked.c.id)
            .where(entries.c.queue_name == _queue(lane), entries.c.status == _todo)
            .order_by(*in_turn(ranked.c))
            .limit(1)
            .with_for_update(of=entries, skip_locked=True)
        )
        # An id that was given up by a sweep is not written: such an entry is seen to be nobody's.
        known = select(_workers.c.id).where(_workers.c.id == worker_id).scalar_subquery()
        taking = (
            update(entries)
            .where(entries.c.id == chosen.scalar_subquery())
            .values(status=_doing, worker_id=known)
            .returning(*entries.c)
        )
        async with self._database.begin() as connection:
            row = (await connection.execute(taking)).mappings().first()
        return None if row is None else Job.from_row(dict(row))


class _Shift:
    """One call of `work`: Procrastinate's worker, and a new one where that fails."""

    def __init__(self, queue: ProcrastinateQueue, lane: str, loaded: Collection[str], run: Run) -> None:
        self.changed = asyncio.Event()
        """Set when the window has room again, or an owner."""
        self._stalled_s, self._lane, self._run = queue.stalled_s, lane, run
        self._deliveries: set[asyncio.Task[Any]] = set()
        self._manager = _Manager(queue, lane, loaded, self.changed)
        self._app = App(connector=self._manager.connector)
        self._app.job_manager = self._manager
        self._app.task(name=TASK)(self._deliver)

    async def work(self, slots: int, stop: asyncio.Event) -> bool:
        """Until `stop` is set; False when Procrastinate's worker ended by itself."""
        worker = Worker(
            self._app,
            queues=[_queue(self._lane)],
            concurrency=slots,
            fetch_job_polling_interval=POLL_S,
            delete_jobs=DeleteJobCondition.ALWAYS,
            install_signal_handlers=False,
            update_heartbeat_interval=self._stalled_s / 4,
            stalled_worker_timeout=self._stalled_s,
        )
        working = asyncio.create_task(worker.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                worker.stop()
                await asyncio.wait((working,))
        except asyncio.CancelledError:
            self._manager.ending = True
            worker.stop()
            for delivery in self._deliveries:
                delivery.cancel()
            await asyncio.wait((working,))
            raise
        finally:
            stopping.cancel()
            if working.done() and (error := working.exception()):
                log.warning("Procrastinate's worker ended: %s", error)
        return stop.is_set()

    async def _deliver(self, job_id: str, owner: str) -> None:
        delivery = asyncio.current_task()
        assert delivery is not None
        if self._manager.ending:
            return
        self._deliveries.add(delivery)
        try:
            await self._run(job_id)
        finally:
            self._deliveries.discard(delivery)
            self.changed.set()


class _Manager(JobManager):
    """What Procrastinate's worker asks of the database, in our order, and with patience."""

    def __init__(self, queue: ProcrastinateQueue, lane: str, loaded: Collection[str], changed: asyncio.Event) -> None:
        super().__init__(queue.connector)
        self._queue, self._lane, self._loaded, self._changed = queue, lane, loaded, changed
        self._notified = 0
        self.ending = False

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """The next entry; None when there is none, or no database."""
        while True:
            notified = self._notified
            try:
                job = await self._queue.fetch(self._lane, self._loaded, worker_id)
            except (DatabaseError, IntegrityError) as error:
                log.warning("no job could be fetched: %s", error)
                await asyncio.sleep(RECONNECT_S)
                return None
            if job is not None:
                self._changed.set()
                return job
            # What is said during the look would be forgotten after it.
            if notified == self._notified:
                return None

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Remove the entry, which may be gone. Waits for the database, lest the job be taken for one that is run."""
        while True:
            try:
                await self.connector.execute_query_async("DELETE FROM procrastinate_jobs WHERE id = %(id)s", id=job.id)
            except DatabaseError as error:
                if self.ending:
                    log.warning("entry %s stays until the next sweep: %s", job.id, error.message)
                    return
            else:
                return
            await asyncio.sleep(RECONNECT_S)

    async def update_heartbeat(self, worker_id: int) -> None:
        """Give a sign of life, also when somebody took the worker for dead."""
        try:
            await self.connector.execute_query_async(
                "INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES (%(id)s)"
                " ON CONFLICT (id) DO UPDATE SET last_heartbeat = now()",
                id=worker_id,
            )
        except DatabaseError as error:
            log.warning("no heartbeat could be given: %s", error.message)

    async def listen_for_jobs(self, *, on_notification: Any, queues: Iterable[str] | None = None) -> None:
        """Hear of new entries and of jobs to be cancelled, until cancelled."""

        async def told(**said: Any) -> None:
            self._notified += 1
            await on_notification(**said)

        await super().listen_for_jobs(on_notification=told, queues=queues)


async def _lock(connection: Connection, key: int) -> None:
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def _queue(lane: str) -> str:
    return f"limner-{lane}"


def _place(row: Any) -> tuple[int, int, bool, float, int]:
    return -row.priority, row.rank, row.is_served, row.served, row.seq
