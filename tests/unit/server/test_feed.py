"""What subscribers are told: everything durable, once, in order; of progress only the newest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import chain

import pytest

from limner.jobs.database import Database
from limner.jobs.queue import TableQueue
from limner.jobs.records import Claim, Fact, LiveState, StoredEvent
from limner.jobs.store import JobStore
from limner.server import feed as module
from limner.server.feed import Feed, Message
from tests.support.jobs import begun, new_image, new_job


@pytest.fixture
async def store(database_url: str) -> AsyncGenerator[JobStore]:
    database = Database(database_url)
    await database.upgrade()
    yield JobStore(database, TableQueue(database))
    await database.aclose()


async def told(messages: AsyncGenerator[Sequence[Message]], until: str = "done", durable: bool = True) -> list[Message]:
    """Messages up to the first of that type."""
    found: list[Message] = []
    async with asyncio.timeout(20), aclosing(messages):
        async for some in messages:
            for message in some:
                if message.id is not None or not durable:
                    found.append(message)
                    if message.type == until:
                        return found
    return found


async def work(store: JobStore, claim: Claim, infos: int) -> None:
    for number in range(infos):
        await store.append(claim, [Fact("info", {"message": str(number), "code": ""})])
    await store.add_image(claim, new_image(claim))
    await store.finish(claim)


async def test_every_subscriber_gets_every_durable_event_in_order(store: JobStore) -> None:
    claim, job = await begun(store)
    feed = Feed(store)
    followers = [asyncio.create_task(told(feed.of_job(job.id, 0))) for _ in range(50)]
    await work(store, claim, infos=30)
    log = [event.number for event in await store.events(job.id)]
    for messages in await asyncio.gather(*followers):
        assert [message.id for message in messages] == log


async def test_whoever_comes_back_gets_what_was_missed_and_nothing_twice(store: JobStore) -> None:
    claim, job = await begun(store)
    feed = Feed(store)
    first = await told(feed.of_job(job.id, 0), until="stage_update")
    writing = asyncio.create_task(work(store, claim, infos=20))
    second = await told(feed.of_job(job.id, first[-1].id or 0), until="info")
    await writing
    third = await told(feed.of_job(job.id, second[-1].id or 0))
    log = [event.number for event in await store.events(job.id)]
    assert [message.id for message in (*first, *second, *third)] == log


async def test_an_owner_is_told_of_all_jobs_and_of_nobody_elses(store: JobStore) -> None:
    feed = Feed(store)
    start = (await store.newest())[0]
    following = asyncio.create_task(told(feed.of_owner("mine", start)))
    await store.create(new_job(owner="theirs"))
    claim, job = await begun(store, owner="mine")
    await work(store, claim, infos=3)
    messages = await following
    assert {message.data["job_id"] for message in messages} == {job.id}
    assert [message.id for message in messages] == [event.id for event in await store.feed("mine", start)]


async def test_an_owner_who_missed_a_little_gets_it_from_memory(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(store)
    start = (await store.newest())[0]
    claim, _ = await begun(store, owner="mine")
    async with aclosing(feed.of_owner("mine", (await store.newest())[0])) as listening:
        reading = asyncio.ensure_future(anext(listening))
        await asyncio.sleep(0.3)
        middle = (await store.newest())[0]
        await work(store, claim, infos=3)
        await reading
        log = [event.id for event in await store.feed("mine", start)]
        asked: list[str | None] = []
        look = store.feed

        async def counted(owner: str | None, *more: int) -> list[StoredEvent]:
            asked.append(owner)
            return await look(owner, *more)

        monkeypatch.setattr(store, "feed", counted)
        late = await told(feed.of_owner("mine", middle))
        assert [message.id for message in late] == [number for number in log if number > middle]
        assert "mine" not in asked
        everything = await told(feed.of_owner("mine", start))
        assert [message.id for message in everything] == log
        assert "mine" in asked, "what was before anybody listened is in the database only"


async def test_with_many_subscribers_the_database_is_looked_at_less_often(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    newest = store.newest

    async def counted() -> tuple[int, int]:
        nonlocal looks
        looks += 1
        return await newest()

    monkeypatch.setattr(store, "newest", counted)
    found: list[int] = []
    for per_s in (1000, 1):
        monkeypatch.setattr(module, "WAKE_PER_S", per_s)
        feed = Feed(store)
        async with aclosing(feed.of_owner("mine", 0)) as listening:
            reading = asyncio.ensure_future(anext(listening))
            await asyncio.sleep(0.2)
            looks = 0
            await asyncio.sleep(1.0)
            found.append(looks)
            reading.cancel()
            await asyncio.wait((reading,))
        await feed.aclose()
    assert found[0] > 3 * max(1, found[1])


async def test_where_many_follow_the_same_only_they_are_told_less_often(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAKE_PER_S", 10)
    claim, job = await begun(store, owner="mine")
    feed = Feed(store)
    start = (await store.newest())[0]

    async def pieces(messages: AsyncGenerator[Sequence[Message]]) -> list[list[int]]:
        found: list[list[int]] = []
        async with asyncio.timeout(20), aclosing(messages):
            async for some in messages:
                found.append([message.id for message in some if message.id is not None])
                if any(message.type == "done" for message in some):
                    break
        return found

    crowd = [asyncio.create_task(pieces(feed.of_owner("mine", start))) for _ in range(10)]
    single = asyncio.create_task(pieces(feed.of_job(job.id, 0)))
    for number in range(15):
        await asyncio.sleep(0.15)
        await store.append(claim, [Fact("info", {"message": str(number), "code": ""})])
    await store.finish(claim)
    alone = await single
    assert list(chain.from_iterable(alone)) == [event.number for event in await store.events(job.id)]
    log = [event.id for event in await store.feed("mine", start)]
    for found in await asyncio.gather(*crowd):
        assert list(chain.from_iterable(found)) == log
        assert len(found) < 0.7 * len(alone)


async def test_who_falls_behind_reads_the_log_instead(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_EVENTS", 5)
    claim, job = await begun(store)
    feed = Feed(store)
    async with aclosing(feed.of_job(job.id, 0)) as slow:
        first = await anext(slow)
        # Somebody else keeps the feed looking while the slow one does not read.
        other = asyncio.create_task(told(feed.of_job(job.id, 0)))
        await work(store, claim, infos=40)
        await other
        rest = await told(slow)
    log = [event.number for event in await store.events(job.id)]
    assert [message.id for message in rest] == log[len(first) :]


async def test_of_progress_only_the_newest_is_told(store: JobStore) -> None:
    claim, job = await begun(store)
    feed = Feed(store)
    async with aclosing(feed.of_owner("local", (await store.newest())[0])) as messages:
        reading = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0.3)
        for step in range(20):
            await store.show([(claim, LiveState(job.id, 0, 0, {"step": step}, b"png", {"step": step // 10}))])
        found: list[Message] = []
        async with asyncio.timeout(20):
            some = await reading
            while not any(message.data.get("step") == 19 for message in some):
                found += some
                some = await anext(messages)
    assert len(found) < 20
    steps = [message.data["step"] for message in found if message.type == "progress"]
    assert steps == sorted(steps)


async def test_a_job_that_has_ended_ends_its_stream(store: JobStore) -> None:
    claim, job = await begun(store)
    await work(store, claim, infos=0)
    feed = Feed(store)
    messages = await told(feed.of_job(job.id, 0), until="never")
    assert messages[-1].type == "done"
    assert await told(feed.of_job(job.id, messages[-1].id or 0)) == []


async def test_nobody_looks_when_nobody_listens(store: JobStore) -> None:
    _, job = await begun(store)
    feed = Feed(store)
    await told(feed.of_job(job.id, 0), until="stage_update")
    looking = [task for task in asyncio.all_tasks() if "Feed._look" in repr(task.get_coro())]
    assert looking
    async with asyncio.timeout(5):
        await asyncio.wait(looking)


async def test_a_look_that_fails_unforeseen_is_not_the_last(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, job = await begun(store)
    feed, newest, failed = Feed(store), store.newest, asyncio.Event()
    follower = asyncio.create_task(told(feed.of_job(job.id, 0)))

    async def failing_once() -> tuple[int, int]:
        if any("Feed._look" in repr(task.get_coro()) for task in asyncio.all_tasks()) and not failed.is_set():
            failed.set()
            raise RuntimeError("unforeseen")
        return await newest()

    monkeypatch.setattr(store, "newest", failing_once)
    async with asyncio.timeout(20):
        await failed.wait()
    await work(store, claim, infos=0)
    assert (await follower)[-1].type == "done"
