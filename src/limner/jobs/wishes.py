"""Wishes that workers load or unload a checkpoint: their rows, and the part of a worker that fulfils them.

A worker has one wish for a checkpoint at most; a newer one replaces it. A wish that was fulfilled is removed after the
worker has reported what it holds now; one that could not be fulfilled stays with the reason, until the next wish for
its checkpoint. So does that of a worker that died, which may well be the reason.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import delete, insert, select, text, update

from limner.errors import DatabaseError, LimnerError, Unsupported
from limner.jobs.database import Database, whole
from limner.jobs.tables import NOW, model_wishes
from limner.ports import ModelKeeper

LOOK_EVERY_S = 0.5
_WISH_LOCK = 7_203_501_647
"""Advisory lock under which somebody wishes, so that on PostgreSQL two who wish the same do it one after the other."""

Wanted = Literal["load", "unload"]

log = logging.getLogger("limner.worker")


@dataclass(frozen=True)
class Wish:
    """What a worker is to do with a checkpoint; `problem` says why it could not, and is empty until then."""

    worker: str
    model: str
    id: str
    wanted: Wanted
    problem: str = ""


class WishRows:
    """Reads and writes the table of wishes.

    Args:
        database: where it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def wish(self, model: str, wanted: Wanted, workers: Collection[str]) -> None:
        """Ask these workers; whatever was wished for the checkpoint before is forgotten."""
        rows = [{"worker": worker, "model": model, "id": secrets.token_hex(8), "wanted": wanted} for worker in workers]
        async with self._database.begin() as connection:
            if not self._database.is_sqlite:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WISH_LOCK})
            await connection.execute(delete(model_wishes).where(model_wishes.c.model == model))
            for row in rows:
                await connection.execute(insert(model_wishes).values(created_at=NOW, **row))

    async def list(self, worker: str | None = None) -> list[Wish]:
        """All wishes, or those that a worker has not tried yet; oldest first."""
        query = select(model_wishes).order_by(model_wishes.c.created_at, model_wishes.c.model)
        if worker is not None:
            query = query.where(model_wishes.c.worker == worker, model_wishes.c.problem == "")
        async with self._database.glance() as connection:
            rows = (await connection.execute(query)).all()
        return [Wish(row.worker, row.model, row.id, cast(Wanted, row.wanted), row.problem) for row in rows]

    async def fulfilled(self, wish: Wish) -> None:
        """Remove a wish, unless a newer one has replaced it."""
        async with self._database.begin() as connection:
            await connection.execute(delete(model_wishes).where(model_wishes.c.id == wish.id, *_of(wish)))

    async def failed(self, wish: Wish, problem: str) -> None:
        """Write why a wish could not be fulfilled, unless a newer one has replaced it."""
        change = update(model_wishes).where(model_wishes.c.id == wish.id, *_of(wish)).values(problem=problem)
        async with self._database.begin() as connection:
            await connection.execute(change)

    async def remove(self, worker: str) -> None:
        """Forget what a worker was asked for, since it ends."""
        async with self._database.begin() as connection:
            await connection.execute(delete(model_wishes).where(model_wishes.c.worker == worker))

    async def forget(self, older_than_s: float) -> int:
        """Forget wishes that are so old; how many."""
        async with self._database.begin() as connection:
            gone = await connection.execute(delete(model_wishes).where(model_wishes.c.created_at < NOW - older_than_s))
            return gone.rowcount


class Fulfilment:
    """Fulfils the wishes of one worker, each in a task of its own, and reports at once when it holds something else.

    Args:
        rows: the wishes.
        worker: its name.
        backend: gives what loads; may take seconds and is called on a thread.
        loaded: names of the checkpoints in memory; cheap.
        tell: writes what the worker holds now.
    """

    def __init__(
        self,
        rows: WishRows,
        worker: str,
        backend: Callable[[], object],
        loaded: Callable[[], Collection[str]],
        tell: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._rows, self._worker, self._backend, self._loaded, self._tell = rows, worker, backend, loaded, tell
        self._told: frozenset[str] = frozenset()
        self._tasks: dict[str, tuple[Wish, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Look for wishes, twice a second, until it is cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                try:
                    await whole(self._look())
                except DatabaseError as error:
                    log.debug("%s", error.message)
                except Exception:  # the next look may do better
                    log.exception("wishes could not be looked at")
        finally:
            tasks = [task for _, task in self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(DatabaseError):
                await self._rows.remove(self._worker)

    async def _look(self) -> None:
        loaded = frozenset(self._loaded())
        if loaded != self._told:
            await self._tell()
            self._told = loaded
        for wish in await self._rows.list(self._worker):
            former, task = self._tasks.get(wish.model, (None, None))
            if task is not None and not task.done():
                if former == wish:
                    continue
                task.cancel()
            self._tasks[wish.model] = wish, asyncio.create_task(self._fulfil(wish))
        self._tasks = {model: (wish, task) for model, (wish, task) in self._tasks.items() if not task.done()}

    async def _fulfil(self, wish: Wish) -> None:
        try:
            problem = await self._tried(wish)
            # First what it holds, then the end of the wish: nobody shall see neither.
            await whole(self._tell())
            await whole(self._rows.failed(wish, problem) if problem else self._rows.fulfilled(wish))
        except DatabaseError as error:  # the wish is still there and is tried again
            log.warning("a wish to %s `%s` could not be settled: %s", wish.wanted, wish.model, error.message)

    async def _tried(self, wish: Wish) -> str:
        """Why it could not be fulfilled; empty when it was."""
        try:
            backend = await asyncio.to_thread(self._backend)
            if not isinstance(backend, ModelKeeper):
                raise Unsupported("The backend of this worker keeps no checkpoints in memory. Send jobs as they are.")
            await (backend.load if wish.wanted == "load" else backend.unload)(wish.model)
        except LimnerError as error:
            log.warning("could not %s `%s`: %s", wish.wanted, wish.model, error.message)
            return error.message
        except Exception as error:
            log.exception("could not %s `%s`", wish.wanted, wish.model)
            return f"{type(error).__name__}: {error}. Report this with the worker's log."
        log.info("%sed `%s`", wish.wanted, wish.model)
        return ""


def _of(wish: Wish) -> tuple[Any, Any]:
    return model_wishes.c.worker == wish.worker, model_wishes.c.model == wish.model
