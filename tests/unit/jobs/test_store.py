"""The jobs' store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from limner.domain import Fault, JobStatus
from limner.errors import Conflict, InvalidRequest, LeaseLost, NotFound, QueueFull
from limner.jobs.database import Database
from limner.jobs.records import Claim, Fact, JobFilter, LiveState
from limner.jobs.store import JobStore
from tests.support.jobs import begun, new_image, new_job

BROKEN = Fault(code="backend", message="It broke.", retryable=True)


async def kinds(store: JobStore, job_id: str) -> list[str]:
    """The job's log, by type; numbers without gaps are checked on the way."""
    events = await store.events(job_id)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    return [event.type for event in events]


async def test_a_job_goes_its_way_to_completed(store: JobStore) -> None:
    claim, job = await begun(store, count=2)
    assert (job.status, job.attempt) == (JobStatus.PROCESSING, 1)
    for number in (0, 1):
        await store.add_image(claim, new_image(claim, number))
    ended = await store.finish(claim)
    assert ended.status is JobStatus.COMPLETED
    assert [picture.seed for picture in ended.pictures] == [7, 8]
    assert all(picture.image_id for picture in ended.pictures)
    assert await kinds(store, job.id) == [
        *("stage_update", "stage_update", "image_generated", "image_generated", "done")
    ]  # fmt: skip


async def test_without_a_picture_a_job_never_counts_as_done_well(store: JobStore) -> None:
    claim, _ = await begun(store)
    ended = await store.finish(claim)
    assert ended.status is JobStatus.FAILED
    assert ended.error is not None and ended.error.message


async def test_some_pictures_make_a_partial_job_whose_rest_can_be_retried(store: JobStore) -> None:
    claim, job = await begun(store, count=2)
    await store.add_image(claim, new_image(claim, 0))
    await store.fail_picture(claim, 1, BROKEN)
    ended = await store.finish(claim)
    assert (ended.status, ended.error) == (JobStatus.PARTIAL, BROKEN)
    painted = ended.pictures[0].image_id

    again = await store.retry(job.id)
    assert (again.status, again.error, again.pictures[1].error) == (JobStatus.PENDING, None, None)
    second = await store.begin(job.id, "w", 30)
    assert second is not None
    await store.add_image(second[0], new_image(second[0], 1))
    ended = await store.finish(second[0])
    assert ended.status is JobStatus.COMPLETED
    assert ended.pictures[0].image_id == painted


async def test_only_what_has_ended_unfinished_can_be_retried(store: JobStore) -> None:
    claim, job = await begun(store)
    with pytest.raises(Conflict, match="processing"):
        await store.retry(job.id)
    await store.add_image(claim, new_image(claim))
    await store.finish(claim)
    with pytest.raises(Conflict, match="painted"):
        await store.retry(job.id)


async def test_an_attempt_that_lost_its_job_writes_nothing(store: JobStore) -> None:
    late, job = await begun(store, lease_s=0.0)
    await asyncio.sleep(0.01)
    assert await store.reap() == 1
    second = await store.begin(job.id, "other", 30)
    assert second is not None
    claim, _ = second
    for write in (
        lambda: store.add_image(late, new_image(late)),
        lambda: store.fail_picture(late, 0, BROKEN),
        lambda: store.append(late, [Fact("info", {"message": "late"})]),
        lambda: store.warn(late, "late", "late"),
        lambda: store.finish(late),
    ):
        with pytest.raises(LeaseLost):
            await write()
    written = await store.show(
        [(late, LiveState(job.id, 0, 0, {"step": 1}))], [(late, [Fact("info", {"message": "late"})])]
    )
    assert written == set()
    assert not any(event.data.get("message") == "late" for event in await store.events(job.id))
    assert await store.shown() == []
    await store.release(late)
    await store.add_image(claim, new_image(claim))
    ended = await store.finish(claim)
    assert (ended.status, ended.attempt) == (JobStatus.COMPLETED, 2)
    assert (await kinds(store, job.id)).count("image_generated") == 1


async def test_one_begins_a_job_and_all_others_do_not(store: JobStore) -> None:
    job, _ = await store.create(new_job())
    found = await asyncio.gather(*(store.begin(job.id, f"w{i}", 30) for i in range(8)))
    assert sum(begun is not None for begun in found) == 1


async def test_a_job_that_kills_every_worker_fails_and_says_so(store: JobStore) -> None:
    job, _ = await store.create(new_job(max_attempts=2))
    for _ in range(2):
        assert await store.begin(job.id, "w", 0.0) is not None
        await asyncio.sleep(0.01)
        await store.reap()
    ended = await store.get(job.id)
    assert ended.status is JobStatus.FAILED
    assert ended.error is not None and ended.error.code == "attempts_exhausted"
    assert "2 attempts" in ended.error.message
    assert (await kinds(store, job.id))[-2:] == ["error", "done"]


async def test_an_orderly_stop_costs_no_attempt(store: JobStore) -> None:
    job, _ = await store.create(new_job(max_attempts=1))
    for attempt in (1, 2, 3):
        found = await store.begin(job.id, "w", 30)
        assert found is not None and found[0].attempt == attempt
        await store.release(found[0])
    assert (await store.get(job.id)).status is JobStatus.PENDING


async def test_a_waiting_job_is_cancelled_at_once(store: JobStore) -> None:
    job, _ = await store.create(new_job())
    assert (await store.cancel(job.id)).status is JobStatus.CANCELLED
    assert await store.begin(job.id, "w", 30) is None
    assert (await kinds(store, job.id))[-1] == "done"


async def test_a_running_job_is_told_of_its_cancellation(store: JobStore) -> None:
    claim, job = await begun(store, count=2)
    await store.add_image(claim, new_image(claim, 0))
    assert (await store.cancel(job.id)).status is JobStatus.PROCESSING
    assert await store.wishes([claim]) == (set(), {job.id})
    ended = await store.finish(claim, cancelled=True)
    assert ended.status is JobStatus.CANCELLED
    assert ended.pictures[0].image_id and not ended.pictures[1].image_id


async def test_cancelling_what_has_ended_changes_nothing(store: JobStore) -> None:
    claim, job = await begun(store)
    await store.add_image(claim, new_image(claim))
    await store.finish(claim)
    before = await kinds(store, job.id)
    assert (await store.cancel(job.id)).status is JobStatus.COMPLETED
    assert await kinds(store, job.id) == before


async def test_a_cancelled_job_whose_worker_dies_ends_cancelled(store: JobStore) -> None:
    _, job = await begun(store, worker="dead")
    await store.cancel(job.id)
    assert await store.release_worker("dead") == 1
    assert (await store.get(job.id)).status is JobStatus.CANCELLED


async def test_leases_are_kept_by_signs_of_life(store: JobStore) -> None:
    claim, job = await begun(store, lease_s=0.3)
    for _ in range(3):
        await asyncio.sleep(0.2)
        assert await store.renew("w", [claim], 0.3) == (set(), set())
        assert await store.reap() == 0
    stranger = Claim(job.id, claim.attempt, claim.owner, "stranger")
    assert await store.renew("stranger", [stranger], 30) == ({job.id}, set())


async def test_the_same_key_is_the_same_job(store: JobStore) -> None:
    wanted = new_job(idempotency_key="k")
    found = await asyncio.gather(*(store.create(wanted) for _ in range(8)))
    assert len({job.id for job, _ in found}) == 1
    assert sum(new for _, new in found) == 1
    with pytest.raises(Conflict, match="`k`"):
        await store.create(new_job(idempotency_key="k", prompt="a dog"))
    other, new = await store.create(new_job(owner="somebody", idempotency_key="k", prompt="a dog"))
    assert new and other.id != found[0][0].id


async def test_what_was_painted_before_is_not_painted_again(store: JobStore) -> None:
    claim, first = await begun(store, count=2, recipe_key="r")
    for number in (0, 1):
        await store.add_image(claim, new_image(claim, number))
    await store.finish(claim)

    again, _ = await store.create(new_job(count=2, recipe_key="r"))
    assert (again.status, again.cached) == (JobStatus.COMPLETED, True)
    assert {picture.image_id for picture in again.pictures}.isdisjoint(p.image_id for p in first.pictures)
    assert (await kinds(store, again.id))[-1] == "done"
    for other in (
        new_job(count=2, recipe_key="r", reuse=False),
        new_job(count=2, recipe_key="other"),
        new_job(count=3, recipe_key="r"),
        new_job(count=2, recipe_key="r", owner="somebody"),
        new_job(count=2),
    ):
        assert (await store.create(other))[0].status is JobStatus.PENDING


async def test_too_many_waiting_jobs_are_refused_for_their_owner_alone(store: JobStore) -> None:
    for _ in range(2):
        await store.create(new_job(waiting_limit=2))
    with pytest.raises(QueueFull, match="2 of your jobs"):
        await store.create(new_job(waiting_limit=2))
    await store.create(new_job(owner="somebody", waiting_limit=2))


async def test_the_place_in_the_queue_counts_fair_turns(store: JobStore) -> None:
    mine = [(await store.create(new_job(owner="busy")))[0] for _ in range(3)]
    other, _ = await store.create(new_job(owner="other"))
    urgent, _ = await store.create(new_job(owner="busy", priority=5))
    places = [(await store.get(job.id)).queue_position for job in (urgent, mine[0], other, *mine[1:])]
    assert places[0] == 0
    assert sorted(place for place in places if place is not None) == [0, 1, 2, 3, 4]
    assert (await store.get(other.id)).queue_position == 1, "the other's first goes before the busy one's second"


async def test_pages_are_walked_without_gaps_while_jobs_arrive(store: JobStore) -> None:
    made = [(await store.create(new_job(prompt=f"cat {n}")))[0].id for n in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.list(JobFilter("local"), limit=3, cursor=cursor)
        seen += [job.id for job in page.items]
        await store.create(new_job(prompt="late"))
        if (cursor := page.next_cursor) is None:
            break
    assert seen == made[::-1]


async def test_lists_are_filtered(store: JobStore) -> None:
    boat, _ = await store.create(new_job(prompt="A red Boat 100% _new_"))
    await store.create(new_job(prompt="a cat", owner="somebody"))
    await store.cancel((await store.create(new_job(prompt="a boat")))[0].id)

    async def found(**wanted: object) -> list[str]:
        return [job.id for job in (await store.list(JobFilter(**wanted))).items]  # pyright: ignore[reportArgumentType]

    assert await found(owner="local", text="boat", statuses=(JobStatus.PENDING,)) == [boat.id]
    assert await found(owner="local", text="100%") == [boat.id]
    assert await found(owner="local", text="%") == [boat.id]
    assert await found(owner="local", text="_new_") == [boat.id]
    assert len(await found(owner="somebody")) == 1
    assert len(await found()) == 3


async def test_lists_of_several_statuses_are_in_one_order(store: JobStore) -> None:
    made = [(await store.create(new_job()))[0].id for _ in range(8)]
    for job_id in made[::3]:
        await store.cancel(job_id)
    both = (JobStatus.PENDING, JobStatus.CANCELLED, JobStatus.PENDING)
    for owner in ("local", None):
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await store.list(JobFilter(owner, both), limit=3, cursor=cursor)
            found += [job.id for job in page.items]
            if (cursor := page.next_cursor) is None:
                break
        assert found == made[::-1]


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "", "9" * 30, "١"])
async def test_a_made_up_cursor_is_refused(store: JobStore, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        await store.list(JobFilter(), cursor=cursor)


async def test_other_peoples_jobs_are_not_there(store: JobStore) -> None:
    job, _ = await store.create(new_job())
    for look in (store.get, store.cancel, store.retry):
        with pytest.raises(NotFound):
            await look(job.id, "somebody")
    with pytest.raises(NotFound):
        await store.get("job_none")


async def test_the_feed_holds_an_owners_events_in_order(store: JobStore) -> None:
    jobs = await asyncio.gather(*(store.create(new_job(owner=f"o{n % 2}")) for n in range(10)))
    events = await store.feed("o0", 0)
    assert [event.job_id for event in events] == sorted(
        (job.id for job, _ in jobs if job.owner == "o0"), key=[event.job_id for event in events].index
    )
    assert [event.id for event in events] == sorted(event.id for event in events)
    assert len(events) == 5
    assert len(await store.feed(None, 0)) == 10
    assert await store.feed("o0", events[-1].id) == []
    assert (await store.newest())[0] >= events[-1].id


async def test_only_the_newest_progress_and_preview_are_kept(store: JobStore) -> None:
    claim, job = await begun(store)
    await store.show([(claim, LiveState(job.id, 0, 0, {"step": 1}, b"one", {"step": 1}))])
    (first,) = await store.shown()
    await store.show([(claim, LiveState(job.id, 0, 0, {"step": 2}))])
    (second,) = await store.shown(first.version)
    assert (second.progress, second.preview, second.owner) == ({"step": 2}, b"one", "local")
    assert await store.shown(second.version) == []
    await store.add_image(claim, new_image(claim))
    assert await store.shown() == []


async def test_old_jobs_go_with_everything_that_is_theirs(store: JobStore, database: Database) -> None:
    claim, old = await begun(store)
    image = new_image(claim)
    await store.add_image(claim, image)
    await store.finish(claim)
    waiting, _ = await store.create(new_job())
    assert await store.remove_old(3600) == (0, set())
    assert await store.remove_old(-1) == (1, {image.key, image.thumbnail_key})
    with pytest.raises(NotFound):
        await store.get(old.id)
    assert await store.events(old.id) == []
    assert (await store.get(waiting.id)).status is JobStatus.PENDING


async def test_priority_moves_a_waiting_job(store: JobStore) -> None:
    await store.create(new_job())
    late, _ = await store.create(new_job())
    await store.set_priority(late.id, 9)
    found = await store.get(late.id)
    assert (found.priority, found.queue_position) == (9, 0)


async def test_counts_and_waits_tell_of_each_lane(store: JobStore) -> None:
    await begun(store)
    await store.create(new_job(lane="remote"))
    assert await store.counts() == {("native", "processing"): 1, ("remote", "pending"): 1}
    assert set(await store.waits()) == {"remote"}
