"""The worker: begins jobs, has them painted, stores what comes, and keeps its leases.

It knows neither backends nor files: `paint` gives the events of the pictures that a job still lacks, `keep` turns one
picture into stored bytes. Everything that is written about a job carries its claim; when the claim is lost, what this
attempt still finds out is dropped. Progress, previews and events that change nothing are gathered and written a few
times a second, for all jobs in one transaction; what changes something takes those that came before it along.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from limner.domain import Fault, Job
from limner.errors import DatabaseError, LeaseLost, LimnerError, StorageError
from limner.events import Done, Event, Failed, ImageGenerated, Info, Preview, Progress, StageUpdate, Warned
from limner.jobs.database import whole
from limner.jobs.records import Claim, Fact, LiveState, NewImage
from limner.jobs.store import JobStore
from limner.jobs.workers import WorkerRows
from limner.ports import Queue

Paint = Callable[[Job, tuple[int, ...]], AsyncGenerator[Event, None]]
"""Paints the pictures of a job with these numbers; events count them from 0 in that order."""

Keep = Callable[[Claim, int, ImageGenerated], Awaitable[NewImage]]
"""Stores a picture, the job's number so-and-so, and its thumbnail. Raises `StorageError`."""

Discard = Callable[[NewImage], Awaitable[None]]
"""Removes the bytes of a picture that nobody will ever ask for, since no row names it."""

Report = Callable[[], dict[str, Any]]

T = TypeVar("T")
log = logging.getLogger("limner.worker")

SHOW_EVERY_S = 0.2
BEGIN_PAUSE_S = 1.0
"""Before a job that could not be begun may be delivered again."""

DATABASE_PATIENCE_S = 120.0


def worker_name() -> str:
    """Host, process and moment: no two workers ever have one name."""
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns() // 1_000_000 % 10**9}"


@dataclass
class Attempt:
    """A job that this worker runs."""

    claim: Claim
    task: asyncio.Task[None] = field(init=False)
    ended: str = ""
    shown: dict[int, LiveState] = field(default_factory=dict[int, LiveState])
    told: list[Fact] = field(default_factory=list[Fact])
    """Events that are not written yet."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while something is written about it, so that its events stay in their order."""


class Worker:
    """Runs jobs of one lane until it is told to stop.

    Args:
        name: its id; see `worker_name`.
        lane: which jobs it takes.
        slots: jobs at a time.
        lease_s: how long a job stays its own without a sign of life.
        loaded: names of the checkpoints in memory, kept up to date by whoever loads them.
        report: facts for the operator, written with every sign of life.
        beside: runs beside the jobs, and is cancelled when they have ended.
    """

    def __init__(
        self,
        store: JobStore,
        rows: WorkerRows,
        queue: Queue,
        paint: Paint,
        keep: Keep,
        discard: Discard,
        *,
        name: str,
        lane: str = "native",
        slots: int = 16,
        lease_s: float = 20.0,
        look_s: float = 0.2,
        loaded: Collection[str] = (),
        report: Report = dict,
        beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._store, self._rows, self._queue = store, rows, queue
        self._paint, self._keep, self._discard = paint, keep, discard
        self.name, self._lane, self._slots, self._lease_s, self._look_s = name, lane, slots, lease_s, look_s
        self._loaded, self._report, self._beside = loaded, report, beside
        self._attempts: dict[Claim, Attempt] = {}
        self._company = _Company()
        self._stop = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; running jobs are then finished. Cancelling gives them back instead."""
        self._stop = stop
        await self._patiently(lambda: self._rows.register(self.name, self._lane, self._slots, self._report()))
        chores = [
            asyncio.create_task(_every(self._lease_s / 4, self._keep_leases)),
            asyncio.create_task(_every(self._look_s, self._look_after)),
            asyncio.create_task(_every(SHOW_EVERY_S, self._show)),
            *([asyncio.create_task(self._beside())] if self._beside else ()),
        ]
        try:
            await self._queue.work(self._lane, self._loaded, self._slots, self._run, stop)
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            with suppress(DatabaseError):
                await self._rows.remove(self.name)

    # --- one job -----------------------------------------------------------------------------------------------------

    async def _run(self, job_id: str) -> None:
        try:
            async with self._company.join(await self._store.is_last_attempt(job_id)):
                if not self._stop.is_set():
                    await self._begin(job_id)
        except DatabaseError as error:
            log.warning("job %s could not be begun: %s", job_id, error.message)
            await asyncio.sleep(BEGIN_PAUSE_S)
        except Exception:
            log.exception("job %s could not be begun", job_id)
            await asyncio.sleep(BEGIN_PAUSE_S)

    async def _begin(self, job_id: str) -> None:
        beginning = asyncio.create_task(self._store.begin(job_id, self.name, self._lease_s))
        try:
            begun = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            (begun,) = await asyncio.gather(beginning, return_exceptions=True)
            if isinstance(begun, tuple):
                await self._give_back(begun[0])
            raise
        if begun is None:
            return
        claim, job = begun
        attempt = self._attempts[claim] = Attempt(claim)
        attempt.task = asyncio.create_task(self._attempt(attempt, job))
        try:
            await self._await_end(attempt)
        finally:
            del self._attempts[claim]

    async def _await_end(self, attempt: Attempt) -> None:
        try:
            await asyncio.wait((attempt.task,))
        except asyncio.CancelledError:
            # The queue ends this run: because the job is to be cancelled, or because we stop.
            attempt.task.cancel()
            await asyncio.wait((attempt.task,))
            if attempt.ended != "cancelled" and not await self._is_to_be_cancelled(attempt.claim):
                await self._give_back(attempt.claim)
                raise
            attempt.ended = "cancelled"
        try:
            await attempt.task
        except LeaseLost:
            log.warning("job %s was taken over by another attempt; dropped", attempt.claim.job_id)
        except asyncio.CancelledError:
            if attempt.ended == "cancelled":
                with suppress(LeaseLost, DatabaseError):
                    _log_end(await self._finish(attempt, cancelled=True))
        except DatabaseError as error:
            log.error("job %s: %s", attempt.claim.job_id, error.message)
        except Exception:  # its lease runs out, and it is run again
            log.exception("job %s ended in a way that nobody foresaw", attempt.claim.job_id)

    async def _is_to_be_cancelled(self, claim: Claim) -> bool:
        try:
            _, cancelled = await self._store.wishes([claim])
        except DatabaseError:
            return False
        return bool(cancelled)

    async def _give_back(self, claim: Claim) -> None:
        try:
            await self._store.release(claim)
        except DatabaseError as error:
            log.warning("job %s could not be given back and waits for its lease: %s", claim.job_id, error.message)

    async def _attempt(self, attempt: Attempt, job: Job) -> None:
        missing = tuple(picture.index for picture in job.pictures if picture.image_id is None)
        fault = None
        try:
            if missing:  # an attempt may die between its last picture and the end
                async with aclosing(self._paint(job, missing)) as events:
                    async for event in events:
                        await self._take(attempt, missing, event)
        except (LeaseLost, DatabaseError):
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            message = "The backend gave up its own work. Try again; look into the worker's log if it happens often."
            fault = Fault(code="backend", message=message, retryable=True)
        except LimnerError as error:
            fault = Fault(code=error.code, message=error.message, retryable=error.retryable)
        except Exception as error:
            log.exception("job %s failed in a way that nobody foresaw", job.id)
            message = f"{type(error).__name__}: {error}. Report this with the worker's log."
            fault = Fault(code="backend", message=message)
        _log_end(await self._finish(attempt, fault))

    async def _take(self, attempt: Attempt, numbers: tuple[int, ...], event: Event) -> None:
        match event:
            case Progress() | Preview():
                _gather(attempt, numbers[event.index], event)
            case ImageGenerated():
                # What is painted is stored with its row or not at all, also when the job is cancelled now.
                await whole(self._store_image(attempt, numbers[event.index], event))
            case Failed(index=int(index)):
                fault = Fault(code=event.code, message=event.message, retryable=event.retryable)
                await self._fail_picture(attempt, numbers[index], fault)
            case Warned():
                await self._write(attempt, partial(self._store.warn, attempt.claim, event.message, event.code))
            case StageUpdate():
                data = event.model_dump(mode="json", exclude={"type"}) | {"index": numbers[event.index]}
                attempt.told.append(Fact("stage_update", data, time.monotonic()))
            case Info() | Failed():
                data = event.model_dump(mode="json", exclude={"type", "index"})
                attempt.told.append(Fact(event.type, data, time.monotonic()))
            case Done():
                pass  # the store says it, from what is stored

    async def _store_image(self, attempt: Attempt, number: int, event: ImageGenerated) -> None:
        recipe = event.recipe.model_copy(update={"index": number})
        try:
            image = await self._keep(attempt.claim, number, event.model_copy(update={"recipe": recipe}))
        except StorageError as error:
            await self._fail_picture(attempt, number, Fault(code=error.code, message=error.message, retryable=True))
            return
        try:
            await self._write(attempt, partial(self._store.add_image, attempt.claim, image))
        except LeaseLost:
            with suppress(StorageError, DatabaseError):
                await self._discard(image)
            raise

    async def _fail_picture(self, attempt: Attempt, number: int, fault: Fault) -> None:
        await self._write(attempt, partial(self._store.fail_picture, attempt.claim, number, fault))

    async def _finish(self, attempt: Attempt, fault: Fault | None = None, cancelled: bool = False) -> Job:
        return await self._write(attempt, partial(self._store.finish, attempt.claim, fault, cancelled))

    async def _write(self, attempt: Attempt, write: Callable[..., Coroutine[Any, Any, T]]) -> T:
        """Write, together with the events that came `before` it."""

        async def written() -> T:
            before = tuple(attempt.told)
            result = await write(before=before)
            del attempt.told[: len(before)]
            return result

        async with attempt.writing:
            return await self._patiently(written)

    # --- chores ------------------------------------------------------------------------------------------------------

    async def _show(self) -> None:
        """Write the progress, the previews and the events that have been gathered."""
        # Whoever is being written about takes its events along.
        attempts = [a for a in self._attempts.values() if (a.shown or a.told) and not a.writing.locked()]
        if not attempts:
            return
        async with AsyncExitStack() as stack:
            for attempt in attempts:
                await stack.enter_async_context(attempt.writing)
            states = [(attempt.claim, state) for attempt in attempts for state in attempt.shown.values()]
            told = {attempt.claim: tuple(attempt.told) for attempt in attempts if attempt.told}
            for attempt in attempts:
                attempt.shown = {}
            written = await self._store.show(states, list(told.items()))
            for attempt in attempts:
                if attempt.claim in written:
                    del attempt.told[: len(told.get(attempt.claim, ()))]

    async def _look_after(self) -> None:
        """Stop what was cancelled or lost, several times a second."""
        claims = list(self._attempts)
        self._end(claims, *await self._store.wishes(claims))

    async def _keep_leases(self) -> None:
        try:
            claims = list(self._attempts)
            self._end(claims, *await self._store.renew(self.name, claims, self._lease_s))
            await self._rows.register(self.name, self._lane, self._slots, self._report())
            await self._store.reap()
        except DatabaseError as error:
            log.warning("no sign of life could be given: %s", error.message)

    def _end(self, claims: Collection[Claim], lost: set[str], cancelled: set[str]) -> None:
        """End attempts as the store said about `claims`: what was begun since then is not meant."""
        newest = {claim.job_id: claim for claim in sorted(claims, key=lambda claim: claim.attempt)}
        for claim, attempt in self._attempts.items():
            if attempt.ended or attempt.task.done() or claim not in claims:
                continue
            if claim.job_id in lost or claim != newest[claim.job_id]:
                attempt.ended = "lost"
            elif claim.job_id in cancelled:
                attempt.ended = "cancelled"
            if attempt.ended:
                attempt.task.cancel()

    async def _patiently(self, write: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Write, and wait for a database that is gone; after a while the last error is raised."""
        deadline, pause_s = time.monotonic() + DATABASE_PATIENCE_S, 0.2
        while True:
            try:
                return await whole(write())
            except DatabaseError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(5.0, pause_s * 2)


def _gather(attempt: Attempt, number: int, event: Progress | Preview) -> None:
    former = attempt.shown.get(number)
    progress = former.progress if former else None
    preview, preview_at = (former.preview, former.preview_at) if former else (None, None)
    if isinstance(event, Progress):
        progress = event.model_dump(mode="json", exclude={"type", "index"})
    else:
        preview, preview_at = event.png, {"stage": event.stage, "step": event.step}
    attempt.shown[number] = LiveState(attempt.claim.job_id, number, 0, progress, preview, preview_at)


class _Company:
    """Attempts run side by side. A job's last attempt runs alone.

    A job that kills its worker takes the attempts of all that run beside it. Alone it takes none, and whoever was only
    beside it gets a last attempt that nobody can spoil.
    """

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def join(self, alone: bool) -> AsyncGenerator[None]:
        """Wait for one's turn; `alone` waits until everybody has left, and lets nobody in."""
        async with self._door:
            if alone:
                await self._empty.wait()
                yield
                return
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()


async def _every(pause_s: float, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while True:
        await asyncio.sleep(pause_s)
        try:
            await whole(chore())
        except DatabaseError as error:
            log.debug("%s", error.message)
        except Exception:  # without its chores a worker loses every job
            log.exception("a chore failed in a way that nobody foresaw")


def _log_end(job: Job) -> None:
    painted = sum(picture.image_id is not None for picture in job.pictures)
    took_s = (job.finished_at or 0) - (job.started_at or 0)
    why = f": {job.error.message}" if job.error else ""
    log.info("job %s %s, %d of %d painted in %.1f s%s", job.id, job.status, painted, len(job.pictures), took_s, why)
