"""The jobs' store: the only place that writes what becomes of jobs, their events, and what is painted of them.

A job is begun by raising its attempt number and taking a lease. Whatever that attempt finds out is written under the
fence `(id, attempt)`: an attempt that has lost its job writes nothing and gets `LeaseLost`. A job's row and its events
are written in one transaction. Invariants: a final job has an event `done` as its last; a picture is stored at most
once per job and number; events of a job are numbered from 1 without gaps.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Select, and_, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from limner.domain import AdapterStatus, Fault, Job, JobStatus, PictureState
from limner.errors import AttemptsExhausted, Conflict, LeaseLost, NotFound, QueueFull
from limner.jobs import statements
from limner.jobs.database import Database
from limner.jobs.records import (
    RELEASE,
    Claim,
    Fact,
    JobFilter,
    LiveState,
    NewImage,
    NewJob,
    Page,
    StoredEvent,
    Told,
    end_of,
    job_of,
    known,
    new_id,
    serial,
    told_of_image,
    unreadable,
)
from limner.jobs.tables import NAME_CHARACTERS, NOW, deliveries, events, image_adapters, images, jobs, live, pictures
from limner.jobs.turns import place_of
from limner.ports import Connection, Queue

PENDING, PROCESSING = JobStatus.PENDING, JobStatus.PROCESSING
RETRY_ATTEMPTS = 3
"""Attempts that a retried job has at least, whatever it has used up before."""

_EVENT_LOCK = 7_203_501_643
"""Advisory lock under which events get their ids, so that on PostgreSQL a smaller id is never seen later."""


class JobStore:
    """Jobs, their events and their pictures in a database.

    Args:
        database: where they are.
        queue: told of every job that becomes pending, inside the same transaction.
    """

    def __init__(self, database: Database, queue: Queue | None = None) -> None:
        self.database = database
        self.queue = queue

    # --- submitting --------------------------------------------------------------------------------------------------

    async def create(self, new: NewJob) -> tuple[Job, bool]:
        """Write a job; the job, and whether it is new.

        A key that was used before answers with the job of that time. Where every picture of the request has been
        painted for the same owner already, the job is complete at once with those.

        Raises `Conflict` when the key was used for another request, `QueueFull` when too many of the owner's wait.
        """
        try:
            async with self.database.begin() as connection:
                if new.idempotency_key and (found := await self._same_key(connection, new)):
                    return found, False
                await self._check_room(connection, new)
                return await self._placed(connection, await self._insert(connection, new)), True
        except IntegrityError:
            # Somebody else used the key between our look and our insert.
            async with self.database.begin() as connection:
                if found := await self._same_key(connection, new):
                    return found, False
            raise

    async def _same_key(self, connection: Connection, new: NewJob) -> Job | None:
        values = {"its_owner": new.owner, "its_key": new.idempotency_key}
        row = (await connection.execute(statements.same_key(), values)).first()
        if row is None:
            return None
        if row.fingerprint != new.fingerprint:
            raise Conflict(
                f"The idempotency key `{new.idempotency_key}` was used for another request. Choose a new key.",
                job_id=row.id,
            )
        return await self._get(connection, row.id)

    async def _check_room(self, connection: Connection, new: NewJob) -> None:
        if new.waiting_limit is None:
            return
        waiting = await connection.scalar(statements.waiting(), {"its_owner": new.owner})
        if (waiting or 0) >= new.waiting_limit:
            raise QueueFull(f"{waiting} of your jobs wait already. Try again when some have ended.", waiting=waiting)

    async def _insert(self, connection: Connection, new: NewJob) -> Job:
        job_id = new_id("job")
        values = {
            "id": job_id,
            "owner": new.owner,
            "lane": new.lane,
            "model": new.model,
            "priority": new.priority,
            "request": new.request.model_dump(mode="json", exclude_unset=True),
            "plans": [plan.model_dump(mode="json") for plan in new.plans],
            "prompt": new.request.prompt,
            "max_attempts": new.max_attempts,
            "idempotency_key": new.idempotency_key,
            "fingerprint": new.fingerprint,
            "webhook": new.webhook,
            "release": RELEASE,
        }
        written = await connection.execute(statements.new_job(), values)
        keys = new.recipe_keys or (None,) * len(new.plans)
        await connection.execute(
            insert(pictures),
            [
                {"job_id": job_id, "number": number, "seed": str(plan.seed), "recipe_key": key}
                for number, (plan, key) in enumerate(zip(new.plans, keys, strict=True))
            ],
        )
        told = [Fact("stage_update", {"status": "pending", "scope": "job"})]
        await self._append(connection, job_id, new.owner, told, last=0)
        if new.reuse and all(keys) and await self._answer_from_cache(connection, new, job_id):
            return await self._get(connection, job_id)
        if self.queue is not None:
            await self.queue.put(connection, job_id)
        states = tuple(PictureState(index=number, seed=plan.seed) for number, plan in enumerate(new.plans))
        return job_of(written.one(), states)

    async def _answer_from_cache(self, connection: Connection, new: NewJob, job_id: str) -> bool:
        found: list[Any] = []
        for key in new.recipe_keys:
            row = (
                await connection.execute(
                    select(images)
                    .join(pictures, and_(pictures.c.job_id == images.c.job_id, pictures.c.number == images.c.number))
                    .where(pictures.c.recipe_key == key, images.c.owner == new.owner, images.c.deleted_at.is_(None))
                    .order_by(images.c.seq.desc())
                    .limit(1)
                    # Bytes are removed when no row names them: the row must stay until the copy is there. What somebody
                    # changes is not waited for: we hold the lock of the events, for which they may wait.
                    .with_for_update(read=True, of=images, skip_locked=True)
                )
            ).first()
            if row is None:
                return False
            found.append(row)
        outcomes = found[0].recipe.get("adapters", [])
        if new.request.on_adapter_mismatch == "fail" and any(o["status"] != AdapterStatus.APPLIED for o in outcomes):
            return False
        warnings = list(dict.fromkeys(warning for row in found for warning in row.recipe.get("warnings", [])))
        told = [
            Fact("info", {"code": "cached", "message": "These pictures were painted before and are not painted again."})
        ]
        for number, row in enumerate(found):
            image_id = new_id("img")
            values = dict(row._mapping) | {"id": image_id, "job_id": job_id, "number": number}
            del values["seq"], values["created_at"]
            await _insert_image(connection, values)
            await _change_picture(connection, job_id, number, image_id=image_id)
            told.append(Fact("image_generated", told_of_image(values) | {"cached": True}))
        await _change(connection, job_id, cached=True, adapters=outcomes, warnings=warnings)
        told += [Fact("warning", {"code": "cached", "message": warning}) for warning in warnings]
        await self._append(connection, job_id, new.owner, told)
        await self._close(connection, job_id, JobStatus.COMPLETED)
        return True

    # --- reading -----------------------------------------------------------------------------------------------------

    async def get(self, job_id: str, owner: str | None = None) -> Job:
        """The job of that id. Raises `NotFound`, also when it is somebody else's."""
        async with self.database.glance() as connection:
            job = await self._get(connection, job_id, owner)
        if job.status is not PENDING:
            return job
        async with self.database.read() as connection:
            return await self._placed(connection, job)

    async def _placed(self, connection: Connection, job: Job) -> Job:
        """The job with its place in the queue, if it waits in one."""
        if job.status is not PENDING:
            return job
        place = await place_of(connection, job.id, job.lane)
        return job.model_copy(update={"queue_position": place})

    async def _get(self, connection: Connection, job_id: str, owner: str | None = None, strictly: bool = False) -> Job:
        row = (await connection.execute(statements.job(), {"its_id": job_id})).first()
        if row is None or (owner is not None and row.owner != owner):
            raise NotFound(f"There is no job `{job_id}`. Check the id; old jobs are removed after a while.")
        states = await self._pictures(connection, [job_id])
        return job_of(row, states.get(job_id, ()), strictly)

    async def _held(self, connection: Connection, job_id: str, owner: str | None = None) -> Job:
        """As `_get`; nobody else changes the job before the end of the transaction."""
        await connection.execute(select(jobs.c.id).where(jobs.c.id == job_id).with_for_update(key_share=True))
        return await self._get(connection, job_id, owner)

    async def _pictures(self, connection: Connection, ids: Sequence[str]) -> dict[str, tuple[PictureState, ...]]:
        rows = await connection.execute(statements.pictures_of(), {"ids": list(ids)})
        found: dict[str, list[PictureState]] = {}
        for row in rows:
            error = known(Fault, row.error) if row.error else None
            state = PictureState(index=row.number, seed=int(row.seed), image_id=row.image_id, error=error)
            found.setdefault(row.job_id, []).append(state)
        return {job_id: tuple(states) for job_id, states in found.items()}

    async def list(self, wanted: JobFilter, limit: int = 50, cursor: str | None = None) -> Page:
        """Jobs, newest first. `cursor` is what the page before said."""
        query = select(jobs).order_by(jobs.c.seq.desc()).limit(limit + 1)
        if wanted.owner is not None:
            query = query.where(jobs.c.owner == wanted.owner)
        if wanted.text:
            query = query.where(jobs.c.prompt.icontains(wanted.text, autoescape=True))
        if cursor is not None:
            query = query.where(jobs.c.seq < serial(cursor))
        queries = [query]
        if by_index := wanted.owner is not None and not wanted.text:
            # Several statuses in one query would have SQLite look at every job of the owner.
            queries = [query.where(jobs.c.status == status) for status in set(wanted.statuses)] or queries
        elif wanted.statuses:
            queries = [query.where(jobs.c.status.in_(wanted.statuses))]
        async with self.database.glance() if by_index else self.database.read() as connection:
            rows = [row for query in queries for row in await connection.execute(query)]
            rows = sorted(rows, key=lambda row: -row.seq)[: limit + 1]
            states = await self._pictures(connection, [row.id for row in rows[:limit]])
        items = [job_of(row, states.get(row.id, ())) for row in rows[:limit]]
        return Page(items, str(items[-1].seq) if len(rows) > limit else None)

    async def counts(self) -> dict[tuple[str, str], int]:
        """How many jobs there are for each (lane, status)."""
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(jobs.c.lane, jobs.c.status, func.count()).group_by(jobs.c.lane, jobs.c.status)
            )
            return {(row[0], row[1]): row[2] for row in rows}

    async def waits(self) -> dict[str, float]:
        """Seconds that the oldest waiting job of each lane has waited."""
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(jobs.c.lane, NOW - func.min(jobs.c.created_at))
                .where(jobs.c.status == PENDING)
                .group_by(jobs.c.lane)
            )
            return {row[0]: float(row[1]) for row in rows}

    async def remove_old(self, older_than_s: float, limit: int = 200) -> tuple[int, set[str]]:
        """Remove some of the jobs that ended so long ago, with their pictures' rows; how many, and the bytes' keys."""
        async with self.database.begin() as connection:
            old = await connection.scalars(
                select(jobs.c.id)
                .where(jobs.c.finished_at < NOW - older_than_s)
                .order_by(jobs.c.finished_at)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            ids = list(old)
            rows = await connection.execute(
                select(images.c.key, images.c.thumbnail_key).where(images.c.job_id.in_(ids))
            )
            keys = {key for row in rows for key in row}
            removed = await connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
            return removed.rowcount, keys

    # --- asking for a change -----------------------------------------------------------------------------------------

    async def cancel(self, job_id: str, owner: str | None = None) -> Job:
        """Ask for the job's end. A waiting job ends at once, a running one within a step, a final one stays."""
        async with self.database.begin() as connection:
            job = await self._held(connection, job_id, owner)
            if not job.status.final:
                await _change(connection, job_id, cancel_requested=True)
                if job.status is PENDING:
                    await self._close(connection, job_id, JobStatus.CANCELLED)
            job = await self._get(connection, job_id)
        if self.queue is not None and job.status is PROCESSING:
            await self.queue.cancel(job_id)
        return job

    async def retry(self, job_id: str, owner: str | None = None) -> Job:
        """Run again what failed or was cancelled of a final job; painted pictures stay.

        Raises `Conflict` when the job is not final or has nothing left to paint.
        """
        async with self.database.begin() as connection:
            job = await self._held(connection, job_id, owner)
            if not job.status.final:
                raise Conflict(f"Job `{job_id}` is {job.status}. Wait for its end, or cancel it first.")
            if all(picture.image_id for picture in job.pictures):
                raise Conflict(f"Every picture of job `{job_id}` is painted. Send a new request for others.")
            await connection.execute(
                update(pictures).where(pictures.c.job_id == job_id, pictures.c.image_id.is_(None)).values(error=None)
            )
            await connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id)
                .values(
                    status=PENDING, cancel_requested=False, error=None, finished_at=None, worker=None, lease_until=None,
                    admitted=False, max_attempts=job.attempt + max(job.max_attempts - job.attempt, RETRY_ATTEMPTS),
                )
            )  # fmt: skip
            await self._append(
                connection,
                job_id,
                job.owner,
                [Fact("stage_update", {"status": "pending", "scope": "job", "retry": True})],
            )
            if self.queue is not None:
                await self.queue.put(connection, job_id)
            return await self._get(connection, job_id)

    async def set_priority(self, job_id: str, priority: int, owner: str | None = None) -> Job:
        """Move a waiting job forward (more) or back (less)."""
        async with self.database.begin() as connection:
            await self._held(connection, job_id, owner)
            await connection.execute(
                update(jobs).where(jobs.c.id == job_id, jobs.c.status == PENDING).values(priority=priority)
            )
            return await self._get(connection, job_id)

    # --- attempts ----------------------------------------------------------------------------------------------------

    async def begin(self, job_id: str, worker: str, lease_s: float) -> tuple[Claim, Job] | None:
        """Begin an attempt; None when the job is not there to be begun any more.

        A job whose attempts are used up fails here, with its reason, and so does one that this release cannot read.
        """
        async with self.database.begin() as connection:
            values = {"its_id": job_id, "its_lease": lease_s, "worker": worker}
            row = (await connection.execute(statements.begin(), values)).first()
            if row is None:
                await self._fail_exhausted(connection, jobs.c.id == job_id)
                return None
            try:
                states = await self._pictures(connection, [job_id])
                job = job_of(row, states.get(job_id, ()), strictly=True)
            except ValidationError as error:
                await self._close(connection, job_id, JobStatus.FAILED, unreadable(row.release, error))
                return None
            told = {"status": "processing", "scope": "job", "attempt": row.attempt, "worker": worker}
            await self._append(connection, job_id, row.owner, [Fact("stage_update", told)])
            return Claim(job_id, row.attempt, row.owner, worker), job

    async def is_last_attempt(self, job_id: str) -> bool:
        """Whether a waiting job has lost attempts, and has only one left."""
        async with self.database.glance() as connection:
            row = (await connection.execute(statements.attempts(), {"its_id": job_id})).first()
        return row is not None and 0 < row.attempt == row.max_attempts - 1

    async def renew(self, worker: str, claims: Iterable[Claim], lease_s: float) -> tuple[set[str], set[str]]:
        """Extend the leases of a worker's jobs; ids of those that are lost, and of those to be cancelled."""
        held = {claim.job_id: claim for claim in claims}
        if not held:
            return set(), set()
        async with self.database.begin() as connection:
            rows = (
                await connection.execute(
                    update(jobs)
                    .where(jobs.c.id.in_(held), jobs.c.worker == worker, jobs.c.status == PROCESSING)
                    .values(lease_until=NOW + lease_s)
                    .returning(jobs.c.id, jobs.c.attempt, jobs.c.cancel_requested)
                )
            ).all()
        kept = {row.id for row in rows if row.attempt == held[row.id].attempt}
        return held.keys() - kept, {row.id for row in rows if row.cancel_requested and row.id in kept}

    async def wishes(self, claims: Iterable[Claim]) -> tuple[set[str], set[str]]:
        """As `renew` answers, without extending anything: cheap enough to ask several times a second."""
        held = {claim.job_id: claim for claim in claims}
        if not held:
            return set(), set()
        async with self.database.glance() as connection:
            rows = (await connection.execute(statements.held(), {"ids": list(held)})).all()
        kept = {row.id for row in rows if row.attempt == held[row.id].attempt and row.status == PROCESSING}
        return held.keys() - kept, {row.id for row in rows if row.cancel_requested and row.id in kept}

    # Of these, what writes several things takes the events that came before it as well: one transaction for all.

    async def append(self, claim: Claim, told: Told) -> None:
        """Write events of an attempt. Raises `LeaseLost`."""
        async with self.database.begin() as connection:
            await self._fence(connection, claim)
            await self._append(connection, claim.job_id, claim.owner, told)

    async def warn(self, claim: Claim, message: str, code: str, before: Told = ()) -> None:
        """Write that the result is not quite what was asked for: into the log and the job's row. Raises `LeaseLost`."""
        async with self.database.begin() as connection:
            await self._fence(connection, claim)
            told = list(before)
            warnings: list[str] = await connection.scalar(select(jobs.c.warnings).where(jobs.c.id == claim.job_id))
            if message not in warnings:
                await _change(connection, claim.job_id, warnings=[*warnings, message])
                told.append(Fact("warning", {"message": message, "code": code}))
            await self._append(connection, claim.job_id, claim.owner, told)

    async def add_image(self, claim: Claim, image: NewImage, before: Told = ()) -> None:
        """Write that a picture is painted and stored; once, also when the answer was lost and it is written again.

        Raises `LeaseLost`: unless it was written before, its bytes are then nobody's.
        """
        recipe = image.recipe
        async with self.database.begin() as connection:
            await self._fence(connection, claim)
            if await connection.scalar(statements.image(), {"its_id": image.id}) is not None:
                return
            values: dict[str, Any] = {
                "id": image.id,
                "job_id": claim.job_id,
                "owner": claim.owner,
                "number": image.number,
                "width": image.width,
                "height": image.height,
                "format": image.format,
                "size_bytes": image.size_bytes,
                "sha256": image.sha256,
                "prompt": recipe.plan.prompt,
                "seed": str(recipe.plan.seed),
                "model": recipe.checkpoint,
                "key": image.key,
                "thumbnail_key": image.thumbnail_key,
                "recipe": recipe.model_dump(mode="json"),
            }
            await _insert_image(connection, values)
            await _change_picture(connection, claim.job_id, image.number, image_id=image.id, error=None)
            told = told_of_image(values)
            await _change(connection, claim.job_id, adapters=told["adapters"])
            await self._append(connection, claim.job_id, claim.owner, [*before, Fact("image_generated", told)])
            await connection.execute(statements.forget_picture(), {"its_id": claim.job_id, "its_number": image.number})

    async def fail_picture(self, claim: Claim, number: int, fault: Fault, before: Told = ()) -> None:
        """Write that one picture failed. Raises `LeaseLost`."""
        async with self.database.begin() as connection:
            await self._fence(connection, claim)
            await _change_picture(connection, claim.job_id, number, error=fault.model_dump())
            told = {"index": number, "message": fault.message, "code": fault.code, "retryable": fault.retryable}
            await self._append(connection, claim.job_id, claim.owner, [*before, Fact("error", told)])

    async def finish(self, claim: Claim, fault: Fault | None = None, cancelled: bool = False, before: Told = ()) -> Job:
        """End the job as its pictures say: completed, partial or failed; or cancelled. Raises `LeaseLost`."""
        async with self.database.begin() as connection:
            await self._fence(connection, claim)
            states = (await self._pictures(connection, [claim.job_id]))[claim.job_id]
            painted = any(picture.image_id for picture in states)
            if all(picture.image_id for picture in states):
                status = JobStatus.COMPLETED
            elif cancelled:
                status = JobStatus.CANCELLED
            else:
                status = JobStatus.PARTIAL if painted else JobStatus.FAILED
                fault = fault or next((picture.error for picture in states if picture.error), None)
                fault = fault or Fault(code="backend", message="The backend ended without a picture. Report this.")
            return await self._close(connection, claim.job_id, status, fault, before)

    async def lose_image(self, image_id: str, fault: Fault) -> bool:
        """Write that a stored picture is no more: its row goes, its job's picture gets the fault.

        The end of a final job is told anew, as the pictures say that are left, so that it can be retried. False when
        there is no such row.
        """
        async with self.database.begin() as connection:
            job_id = await connection.scalar(select(images.c.job_id).where(images.c.id == image_id))
            if job_id is None:
                return False
            await self._held(connection, job_id)
            row = (
                await connection.execute(
                    delete(images).where(images.c.id == image_id).returning(images.c.job_id, images.c.number)
                )
            ).first()
            if row is None:
                return False
            await connection.execute(
                update(pictures)
                .where(pictures.c.job_id == row.job_id, pictures.c.image_id == image_id)
                .values(image_id=None, error=fault.model_dump())
            )
            job = await self._get(connection, row.job_id)
            told = {"index": row.number, "message": fault.message, "code": fault.code, "retryable": fault.retryable}
            await self._append(connection, job.id, job.owner, [Fact("error", told)])
            if job.status in (JobStatus.COMPLETED, JobStatus.PARTIAL):
                painted = any(picture.image_id for picture in job.pictures)
                job = job.model_copy(update={"status": JobStatus.PARTIAL if painted else JobStatus.FAILED})
                await _change(connection, job.id, status=job.status, error=fault.model_dump())
            if job.status.final:
                await self._append(connection, job.id, job.owner, [end_of(job)])
            return True

    async def tell_end(self, job_id: str) -> bool:
        """Write the event that a final job lacks; False when it is not final or does not lack it."""
        async with self.database.begin() as connection:
            job = await self._held(connection, job_id)
            last = select(events.c.type).where(events.c.job_id == job_id).order_by(events.c.number.desc()).limit(1)
            if not job.status.final or await connection.scalar(last) == "done":
                return False
            await self._append(connection, job.id, job.owner, [end_of(job)])
            return True

    async def release(self, claim: Claim) -> None:
        """Give a job back to be begun again, as at an orderly stop; no error when it was lost already."""
        async with self.database.begin() as connection:
            await self._release(
                connection,
                and_(jobs.c.id == claim.job_id, jobs.c.attempt == claim.attempt, jobs.c.status == PROCESSING),
                "The worker stopped; the job waits for another.",
                undo=True,
            )

    async def release_worker(self, worker: str) -> int:
        """Give back all jobs of a worker that is known to be dead; how many."""
        async with self.database.begin() as connection:
            return await self._release(
                connection,
                and_(jobs.c.worker == worker, jobs.c.status == PROCESSING),
                "The worker died; the job is run again.",
            )

    async def reap(self) -> int:
        """Give back every job whose lease has run out; how many."""
        # A row that somebody holds is left for the next time: that may be its worker, and others need not wait for it.
        silent = select(jobs.c.id).where(jobs.c.status == PROCESSING, jobs.c.lease_until < NOW)
        async with self.database.begin() as connection:
            return await self._release(
                connection,
                jobs.c.id.in_(silent.with_for_update(skip_locked=True)),
                "The worker does not answer any more; the job is run again.",
            )

    async def _release(self, connection: Connection, which: Any, message: str, undo: bool = False) -> int:
        changes: dict[str, Any] = {"status": PENDING, "worker": None, "lease_until": None, "admitted": False}
        if undo:
            # The attempt's number stays used, so that the fence holds; it only does not count.
            changes["max_attempts"] = jobs.c.max_attempts + 1
        rows = (
            await connection.execute(
                update(jobs)
                .where(which)
                .values(**changes)
                .returning(jobs.c.id, jobs.c.owner, jobs.c.attempt, jobs.c.max_attempts, jobs.c.cancel_requested)
            )
        ).all()
        for row in rows:
            await connection.execute(statements.forget(), {"its_id": row.id})
            if row.cancel_requested:
                await self._close(connection, row.id, JobStatus.CANCELLED)
            elif row.attempt >= row.max_attempts:
                await self._fail_exhausted(connection, jobs.c.id == row.id)
            else:
                await self._append(
                    connection,
                    row.id,
                    row.owner,
                    [
                        Fact("info", {"message": message, "code": "attempt_ended", "attempt": row.attempt}),
                        Fact("stage_update", {"status": "pending", "scope": "job"}),
                    ],
                )
                if self.queue is not None:
                    await self.queue.put(connection, row.id)
        return len(rows)

    async def _fail_exhausted(self, connection: Connection, which: Any) -> None:
        rows = await connection.execute(
            select(jobs.c.id, jobs.c.attempt).where(
                which, jobs.c.status == PENDING, jobs.c.attempt >= jobs.c.max_attempts
            )
        )
        for row in rows.all():
            message = (
                f"The worker died in each of {row.attempt} attempts at this job. "
                "Look into the worker's log, or ask for less."
            )
            await self._close(connection, row.id, JobStatus.FAILED, Fault(code=AttemptsExhausted.code, message=message))

    async def _fence(self, connection: Connection, claim: Claim) -> None:
        """Lock the job's row for this transaction, if it still belongs to the attempt."""
        held = await connection.execute(statements.fence(), {"its_id": claim.job_id, "its_attempt": claim.attempt})
        if held.rowcount != 1:
            raise LeaseLost(claim.job_id)

    async def _close(
        self, connection: Connection, job_id: str, status: JobStatus, fault: Fault | None = None, before: Told = ()
    ) -> Job:
        values = {"its_id": job_id, "status": status, "error": fault.model_dump() if fault else None}
        await connection.execute(statements.close(), values)
        await connection.execute(statements.forget(), {"its_id": job_id})
        job = await self._get(connection, job_id)
        told = list(before)
        if fault is not None and not any(picture.error == fault for picture in job.pictures):
            told.append(Fact("error", fault.model_dump()))
        await self._append(connection, job_id, job.owner, [*told, end_of(job)])
        if job.webhook:
            await connection.execute(
                insert(deliveries).values(
                    id=new_id("msg"),
                    job_id=job_id,
                    owner=job.owner,
                    url=job.webhook,
                    payload=job.model_dump_json(exclude={"queue_position", "worker"}),
                    due_at=NOW,
                )
            )
        return job

    # --- events ------------------------------------------------------------------------------------------------------

    async def _append(
        self,
        connection: Connection,
        job_id: str,
        owner: str,
        told: Told,
        last: int | None = None,
    ) -> None:
        """Write events behind those that there are; `last` is the newest one's number where that is known."""
        if told and not self.database.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _EVENT_LOCK})
        for place, fact in enumerate(told, 1):
            age_s = time.monotonic() - fact.since if fact.since is not None else 0.0
            values = {"job_id": job_id, "owner": owner, "type": fact.type, "data": fact.data, "its_age": age_s}
            if last is None:
                await connection.execute(statements.next_event(), values | {"its_job": job_id})
            else:
                await connection.execute(statements.numbered_event(), values | {"number": last + place})

    async def events(self, job_id: str, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Events of a job with larger numbers than `after`, in order."""
        query = select(events).where(events.c.job_id == job_id, events.c.number > after).order_by(events.c.number)
        return await self._events(self.database.glance(), query.limit(limit))

    async def feed(self, owner: str | None, after: int, limit: int = 1000) -> list[StoredEvent]:
        """Events of all of an owner's jobs with larger ids than `after`, in order."""
        query = select(events).where(events.c.id > after).order_by(events.c.id).limit(limit)
        if owner is None:
            return await self._events(self.database.glance(), query)
        return await self._events(self.database.read(), query.where(events.c.owner == owner))

    async def newest(self) -> tuple[int, int]:
        """The newest event's id and the newest progress's version: they differ whenever there is something new."""
        async with self.database.glance() as connection:
            event, version = (await connection.execute(statements.newest())).one()
            return int(event or 0), int(version or 0)

    @staticmethod
    async def _events(connecting: AbstractAsyncContextManager[Connection], query: Select[Any]) -> list[StoredEvent]:
        async with connecting as connection:
            rows = await connection.execute(query)
            return [
                StoredEvent(row.id, row.job_id, row.number, row.owner, row.type, row.data, row.created_at)
                for row in rows
            ]

    # --- latest-only -------------------------------------------------------------------------------------------------

    async def show(
        self, states: Sequence[tuple[Claim, LiveState]], told: Sequence[tuple[Claim, Told]] = ()
    ) -> set[Claim]:
        """Put the newest progress and previews in the place of the former ones, and write events; all at once.

        Whatever is of attempts that have lost their job, or are just being written about, is left out: the answer names
        the others. Previews that are absent leave the former one.
        """
        claims = {claim.job_id: claim for claim, _ in (*states, *told)}
        async with self.database.begin() as connection:
            rows = await connection.execute(statements.under_way(), {"ids": list(claims)})
            held = {claims[row.id] for row in rows if row.attempt == claims[row.id].attempt}
            for claim, some in told:
                if claim in held:
                    await self._append(connection, claim.job_id, claim.owner, some)
            kept = [(claim, state) for claim, state in states if claim in held]
            if kept:
                # Rows go when pictures are done, so the largest version of the table alone could fall again.
                # The database's clock gives a floor: machines may disagree on the time.
                newest, now = (await connection.execute(statements.version())).one()
                version = max(int(newest or 0), int(now * 1000))
                await connection.execute(
                    statements.show(self.database.is_sqlite),
                    [
                        {
                            "job_id": claim.job_id,
                            "picture": state.picture,
                            "owner": claim.owner,
                            "version": number,
                            "progress": state.progress,
                            "preview": state.preview,
                            "preview_at": state.preview_at,
                        }
                        for number, (claim, state) in enumerate(kept, version + 1)
                    ],
                )
        return held

    async def shown(self, after: int = 0, job_id: str | None = None) -> list[LiveState]:
        """Progress and previews that are newer than version `after`."""
        query = select(live).where(live.c.version > after).order_by(live.c.version)
        if job_id is not None:
            query = query.where(live.c.job_id == job_id)
        async with self.database.glance() as connection:
            rows = await connection.execute(query)
            return [
                LiveState(row.job_id, row.picture, row.version, row.progress, row.preview, row.preview_at, row.owner)
                for row in rows
            ]


async def _insert_image(connection: Connection, values: dict[str, Any]) -> None:
    seq = await connection.scalar(statements.new_image(), values)
    names = {
        outcome["name"][:NAME_CHARACTERS]: None
        for outcome in values["recipe"].get("adapters", ())
        if outcome["status"] != AdapterStatus.SKIPPED
    }
    if names:
        await connection.execute(insert(image_adapters), [{"name": name, "image": seq} for name in names])


async def _change(connection: Connection, job_id: str, **values: Any) -> None:
    await connection.execute(statements.change(), {"its_id": job_id} | values)


async def _change_picture(connection: Connection, job_id: str, number: int, **values: Any) -> None:
    await connection.execute(statements.change_picture(), {"its_id": job_id, "its_number": number} | values)
