"""Wishes to load and unload checkpoints, and their fulfilment by a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from limner.backends.fake import FakeBackend
from limner.errors import NotFound, OutOfMemory
from limner.jobs import wishes
from limner.jobs.database import Database
from limner.jobs.wishes import Fulfilment, WishRows


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wishes, "LOOK_EVERY_S", 0.02)


@asynccontextmanager
async def fulfilling(rows: WishRows, backend: object) -> AsyncGenerator[list[list[str]]]:
    """A worker that fulfils; what it held whenever it has reported."""
    told: list[list[str]] = []

    def loaded() -> list[str]:
        return list(backend.loaded()) if isinstance(backend, FakeBackend) else []

    async def tell() -> None:
        told.append(loaded())

    task = asyncio.create_task(Fulfilment(rows, "w", lambda: backend, loaded, tell).run())
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], Awaitable[bool]], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not await true():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.02)


class Slow(FakeBackend):
    """Loads when it may, and says what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.may = asyncio.Event()

    async def load(self, name: str) -> None:
        self.asked.append(f"load {name}")
        await self.may.wait()
        await super().load(name)

    async def unload(self, name: str) -> None:
        self.asked.append(f"unload {name}")
        await super().unload(name)


async def test_many_may_wish_the_same_at_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    await databases[0].upgrade()
    orders = [["a", "b", "c"], ["c", "b", "a"]]

    async def wish(number: int) -> None:
        for _ in range(10):
            await WishRows(databases[number]).wish("m", "load", orders[number % 2])

    await asyncio.gather(*(wish(number) for number in range(4)))
    assert sorted(wish.worker for wish in await WishRows(databases[0]).list()) == ["a", "b", "c"]
    for database in databases:
        await database.aclose()


async def test_a_newer_wish_replaces_an_older_one_and_outlives_its_end(database: Database) -> None:
    rows = WishRows(database)
    await rows.wish("a/b", "load", ["w", "v"])
    await rows.wish("c", "load", ["w"])
    (older,) = [wish for wish in await rows.list("w") if wish.model == "a/b"]
    await rows.wish("a/b", "unload", ["w"])
    await rows.fulfilled(older)
    await rows.failed(older, "It is broken.")
    assert [(wish.worker, wish.model, wish.wanted, wish.problem) for wish in await rows.list()] == [
        ("w", "c", "load", ""),
        ("w", "a/b", "unload", ""),
    ]
    await rows.remove("w")
    assert await rows.list() == []


async def test_wishes_at_the_same_moment_leave_one(database: Database) -> None:
    rows = WishRows(database)
    await asyncio.gather(*(rows.wish("a", wanted, ["w"]) for wanted in ("load", "unload")))
    assert len(await rows.list()) == 1


async def test_old_wishes_are_forgotten(database: Database) -> None:
    rows = WishRows(database)
    await rows.wish("a", "load", ["w"])
    assert [await rows.forget(60), await rows.forget(-60)] == [0, 1]


async def test_a_wish_is_fulfilled_and_reported_before_it_is_removed(database: Database) -> None:
    rows, backend = WishRows(database), Slow()
    backend.may.set()
    async with fulfilling(rows, backend) as told:
        await rows.wish("fake", "load", ["w", "another"])

        async def done() -> bool:
            return not await rows.list("w")

        await until(done)
        assert list(backend.loaded()) == ["fake"] and told[-1] == ["fake"]
        assert [wish.worker for wish in await rows.list()] == ["another"]
        await rows.wish("fake", "unload", ["w"])
        await until(done)
        assert backend.loaded() == {} and told[-1] == []


async def test_what_a_job_has_loaded_is_reported_without_a_wish(database: Database) -> None:
    backend = FakeBackend()
    async with fulfilling(WishRows(database), backend) as told:
        await backend.load("fake")

        async def reported() -> bool:
            return told == [["fake"]]

        await until(reported)


async def test_a_wish_that_is_being_fulfilled_is_begun_once_and_given_up_for_a_newer_one(database: Database) -> None:
    rows, backend = WishRows(database), Slow()
    async with fulfilling(rows, backend):
        await rows.wish("fake", "load", ["w"])
        await asyncio.sleep(0.3)  # many looks
        assert backend.asked == ["load fake"]
        await rows.wish("fake", "unload", ["w"])

        async def done() -> bool:
            return not await rows.list()

        await until(done)
    assert backend.asked == ["load fake", "unload fake"] and backend.loaded() == {}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OutOfMemory("There is no room."), "There is no room."),
        (NotFound("It is gone."), "It is gone."),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
    ids=["memory", "missing", "unforeseen"],
)
async def test_what_fails_stays_with_its_reason_until_it_is_wished_again(
    database: Database, error: Exception, told: str
) -> None:
    class Failing(FakeBackend):
        async def load(self, name: str) -> None:
            raise error

    rows = WishRows(database)
    async with fulfilling(rows, Failing()):
        await rows.wish("fake", "load", ["w"])

        async def failed() -> bool:
            return any(wish.problem.startswith(told) for wish in await rows.list())

        await until(failed)
        assert await rows.list("w") == []
        await rows.wish("fake", "unload", ["w"])

        async def gone() -> bool:
            return not await rows.list()

        await until(gone)


async def test_a_backend_that_keeps_nothing_says_so(database: Database) -> None:
    rows = WishRows(database)
    async with fulfilling(rows, object()):
        await rows.wish("fake", "load", ["w"])

        async def failed() -> bool:
            return any("keeps no checkpoints" in wish.problem for wish in await rows.list())

        await until(failed)


async def test_a_worker_that_ends_leaves_no_wish(database: Database) -> None:
    rows, backend = WishRows(database), Slow()
    async with fulfilling(rows, backend):
        await rows.wish("fake", "load", ["w"])

        async def begun() -> bool:
            return bool(backend.asked)

        await until(begun)
    assert await rows.list() == [] and backend.loaded() == {}
