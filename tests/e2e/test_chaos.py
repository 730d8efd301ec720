"""Processes are killed, again and again: no job may be lost, done twice, or be told to be what it is not."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limner.config import load_settings
from limner.jobs.gallery import ImageFilter
from limner.jobs.records import JobFilter, StoredEvent
from limner.service import Service
from tests.support.databases import postgres_database
from tests.support.processes import Server, environment, eventually, kill, serving, workers_of


@pytest.fixture(params=["sqlite", "postgresql"])
def env(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of servers with two workers and short leases, on each kind of database."""
    home = tmp_path / "home"
    settings = {"server__workers": 2, "jobs__lease_s": 6, "jobs__slots": 8, "jobs__max_attempts": 20}
    if request.param == "sqlite":
        yield environment(home, **settings)
        return
    with postgres_database(request.getfixturevalue("postgres")) as url:
        yield environment(home, database__url=url, **settings)


def submit(server: Server, number: int, prompt: str = "a cat", **fields: Any) -> str:
    """A small job, asked for until somebody answers; the key makes that one job."""
    body = {"prompt": f"{prompt} {number}", "width": 64, "height": 64, "steps": 8, "reuse": False} | fields
    answer = server.request("POST", "/api/jobs", json=body, headers={"Idempotency-Key": f"{prompt}-{number}"})
    return answer["id"]


def statuses(server: Server, ids: list[str]) -> list[str]:
    return [server.request("GET", f"/api/jobs/{job_id}")["status"] for job_id in ids]


def wait_for_end(server: Server, ids: list[str], timeout_s: float) -> None:
    found: list[str] = []

    def ended() -> bool:
        found[:] = statuses(server, ids)
        return not {"pending", "processing"} & set(found)

    eventually(ended, timeout_s, lambda: f"{Counter(found)} {server.log()}")


async def everything(env: dict[str, str]) -> tuple[list[Any], list[Any], list[StoredEvent], list[str]]:
    """All jobs, pictures and events, and the pictures whose stored bytes are not what their row says."""
    async with Service(load_settings(environ=env, folder=Path(env["LIMNER_HOME"]))) as service:
        jobs: list[Any] = []
        cursor = None
        while True:
            page = await service.store.list(JobFilter(), 200, cursor)
            jobs += page.items
            if (cursor := page.next_cursor) is None:
                break
        images: list[Any] = []
        while True:
            page = await service.gallery.list(ImageFilter(), 200, cursor)
            images += page.items
            if (cursor := page.next_cursor) is None:
                break
        events: list[StoredEvent] = []
        while found := await service.store.feed(None, events[-1].id if events else 0):
            events += found
        broken = [
            image.id
            for image in images
            if hashlib.sha256(await service.gallery.storage.get(image.key)).hexdigest() != image.sha256
        ]
        return jobs, images, events, broken


def test_no_kill_loses_or_doubles_anything(env: dict[str, str], tmp_path: Path) -> None:
    on_sqlite = "LIMNER_DATABASE__URL" not in env
    count, kills_wanted, recovery_s = (200, 20, 10.0) if on_sqlite else (60, 6, 30.0)
    rng = random.Random(5)
    kills: list[float] = []
    with serving(env | {"FAKE_STEP_S": "0.1"}, tmp_path) as server:
        ids: list[str] = []
        while len(kills) < kills_wanted:
            numbers = range(len(ids), len(ids) + count // kills_wanted)
            ids += [submit(server, number, count=1 + number % 2) for number in numbers]
            time.sleep(rng.uniform(0.1, 1.0))
            what = rng.choice(["worker", "worker", "worker", "server", "both"])
            workers = asyncio.run(workers_of(env))
            kills.append(time.time())
            if what != "server":
                for worker in workers if what == "both" else workers[:1]:
                    kill(worker.pid)
            if what != "worker":
                server.kill()
                server.start()
        wait_for_end(server, ids, 120)
    jobs, images, events, broken = asyncio.run(everything(env))
    assert {job.id for job in jobs} == set(ids)
    assert len(ids) == count
    assert Counter(job.status for job in jobs) == {"completed": count}
    assert Counter((image.job_id, image.index) for image in images) == Counter(
        (job.id, picture.index) for job in jobs for picture in job.pictures
    )
    assert broken == []
    assert Counter(event.job_id for event in events if event.type == "done") == Counter(ids)
    logs: dict[str, list[int]] = {}
    for event in events:
        logs.setdefault(event.job_id, []).append(event.number)
    assert all(found == list(range(1, len(found) + 1)) for found in logs.values())
    again = [event for event in events if event.data.get("status") == "processing" and event.data.get("attempt", 1) > 1]
    assert again, "no kill hit a running job; the test tests nothing"
    waits = sorted(event.created_at - max(at for at in kills if at < event.created_at) for event in again)
    assert waits[len(waits) * 9 // 10] < recovery_s, waits
    assert waits[-1] < 1.5 * recovery_s, waits  # the last of them share two slow cores with all that starts anew


def test_poison_is_named_and_the_others_go_on(env: dict[str, str], tmp_path: Path) -> None:
    env |= {"LIMNER_JOBS__MAX_ATTEMPTS": "3", "LIMNER_SERVER__WORKERS": "1", "FAKE_STEP_S": "0.05"}
    with serving(env, tmp_path) as server:
        others = [submit(server, number) for number in range(4)]
        poison = submit(server, 0, "poison")
        others += [submit(server, number) for number in range(4, 8)]
        wait_for_end(server, [poison, *others], 90)
        found = server.request("GET", f"/api/jobs/{poison}")
        assert (found["status"], found["error"]["code"]) == ("failed", "attempts_exhausted")
        assert "3 attempts" in found["error"]["message"]
        assert statuses(server, others) == ["completed"] * len(others)


def test_a_worker_that_was_suspended_cannot_end_what_another_took_over(env: dict[str, str], tmp_path: Path) -> None:
    with serving(env | {"FAKE_STEP_S": "0.25"}, tmp_path) as server:
        job_id = submit(server, 0)
        job: dict[str, Any] = {}

        def running() -> bool:
            job.update(server.request("GET", f"/api/jobs/{job_id}"))
            return job["status"] == "processing"

        eventually(running, 30, server.log)
        suspended = next(worker for worker in asyncio.run(workers_of(env)) if worker.id == job["worker"])
        kill(suspended.pid, signal.SIGSTOP)
        try:
            eventually(lambda: running() and job["attempt"] == 2, 30, server.log)
            other = job["worker"]
        finally:
            kill(suspended.pid, signal.SIGCONT)
        wait_for_end(server, [job_id], 60)
    jobs, images, events, broken = asyncio.run(everything(env))
    assert [(job.status, job.attempt) for job in jobs] == [("completed", 2)]
    assert other != suspended.id
    assert (len(images), broken) == (1, [])
    assert Counter(event.type for event in events)["done"] == 1


def test_a_stopped_server_leaves_jobs_that_the_next_one_runs(env: dict[str, str], tmp_path: Path) -> None:
    with serving(env | {"FAKE_STEP_S": "0.5"}, tmp_path) as server:
        ids = [submit(server, number) for number in range(3)]
        eventually(lambda: server.request("GET", f"/api/jobs/{ids[0]}")["status"] == "processing", 30, server.log)
        started = time.monotonic()
        assert server.stop() in (0, -signal.SIGTERM)
        assert time.monotonic() - started < 30
        assert asyncio.run(workers_of(env)) == [], "no worker outlives its server"
    with serving(env | {"FAKE_STEP_S": "0.01"}, tmp_path) as server:
        wait_for_end(server, ids, 60)
    jobs, images, _, broken = asyncio.run(everything(env))
    assert {job.status for job in jobs} == {"completed"}
    assert (len(images), broken) == (3, [])
