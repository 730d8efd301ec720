"""The service: how soon it is there, what it costs, and what it bears. Every server is a process of its own."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from limner.config import load_settings
from limner.domain import GenerationRequest
from limner.jobs.database import Database
from limner.jobs.store import JobStore
from limner.studio import Studio
from tests.bench.cpu import PROMPTS
from tests.bench.report import Measurement
from tests.support.jobs import begun, new_image, new_job
from tests.support.processes import Server, environment

COMMAND = (sys.executable, "-m", "limner", "serve")
DONE = b"event: done\n"
SMALL: dict[str, Any] = {"preset": "sketch", "width": 176, "height": 224, "reuse": False}


@contextmanager
def _server(checkpoint: Path, workers: int = 1, **settings: object) -> Generator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        settings |= {"server__workers": workers, "native__model": checkpoint.absolute()}
        env = environment(Path(folder), **settings)
        server = Server(COMMAND, env, Path(folder, "server.log"))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _submit(server: Server, client: httpx.Client, number: int, **fields: Any) -> str:
    body = SMALL | {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number} | fields
    answer = client.post(f"{server.url}/api/jobs", json=body, params={"wait": fields.get("wait", 0)})
    answer.raise_for_status()
    return str(answer.json()["id"])


def _wait(server: Server, client: httpx.Client, ids: list[str]) -> None:
    """Until all are completed."""
    under_way: dict[str, Any] = {"status": ["pending", "processing"], "limit": 1}
    while client.get(f"{server.url}/api/jobs", params=under_way).json()["jobs"]:
        time.sleep(0.1)  # asking is not free: it shares the cores with the engine
    page = client.get(f"{server.url}/api/jobs", params={"limit": len(ids)}).json()["jobs"]
    completed = {job["id"] for job in page if job["status"] == "completed"}
    if failed := [job_id for job_id in ids if job_id not in completed]:
        raise RuntimeError(f"{failed} failed: {server.log()}")


def start(checkpoint: Path, rounds: int) -> list[Measurement]:
    """From the start of the process to `/health`, and to the first picture."""
    health: list[float] = []
    picture: list[float] = []
    for _ in range(max(2, min(rounds, 3))):
        begin = time.perf_counter()
        with _server(checkpoint) as server, httpx.Client(timeout=120) as client:
            health.append(time.perf_counter() - begin)
            body = {"prompt": PROMPTS[0], "preset": "sketch"}
            client.post(f"{server.url}/api/jobs", json=body, params={"wait": 100}).raise_for_status()
            picture.append(time.perf_counter() - begin)
    return [
        Measurement("`limner serve` to its first answer on `/health`", statistics.median(health), "s", 1.0),
        Measurement("cold server to its first picture, 336x432", statistics.median(picture), "s", 10.0),
    ]


def accept(checkpoint: Path, rounds: int) -> list[Measurement]:
    """Accepting jobs, one client after the other and twenty at once."""
    with _server(checkpoint, workers=0) as server, httpx.Client(timeout=60) as client:
        for number in range(20):
            _submit(server, client, number)
        taken: list[float] = []
        for number in range(100):
            begin = time.perf_counter()
            _submit(server, client, number)
            taken.append(1000 * (time.perf_counter() - begin))

        def burst(first: int) -> list[str]:
            with httpx.Client(timeout=60) as mine:
                return [_submit(server, mine, first + number) for number in range(10)]

        with ThreadPoolExecutor(20) as pool:
            ids = [job_id for made in pool.map(burst, range(0, 200, 10)) for job_id in made]
        found = {client.get(f"{server.url}/api/jobs/{job_id}").json()["id"] for job_id in ids}
    return [
        Measurement("accepting a job, median", statistics.median(taken), "ms", 15.0),
        Measurement("jobs refused or lost of 200 from 20 clients at once", 200 - len(found), "jobs", 0.0),
    ]


def listing(checkpoint: Path, rounds: int) -> list[Measurement]:
    """A page of jobs, of a thousand and of a million."""
    times: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder, 'limner.db')}"
        asyncio.run(_seed_job(url))
        env = environment(Path(folder), database__url=url, server__workers=0)
        for rows in (1_000, 1_000_000):
            asyncio.run(_multiply(url, rows))
            server = Server(COMMAND, env, Path(folder, "server.log"))
            server.start()
            with httpx.Client(timeout=60) as client:
                middle = {"limit": 50, "cursor": str(rows // 2)}
                pages: list[dict[str, Any]] = [{"limit": 50}, middle, {"limit": 50, "status": "failed"}]
                taken: list[float] = []
                for _ in range(30):
                    begin = time.perf_counter()
                    for page in pages:
                        client.get(f"{server.url}/api/jobs", params=page).raise_for_status()
                    taken.append(time.perf_counter() - begin)
            server.stop()
            times[rows] = statistics.median(taken)
    ratio = times[1_000_000] / times[1_000]
    note = f"{1000 * times[1_000_000] / 3:.1f} ms a page: first, middle, filtered"
    return [Measurement("a page of a million jobs, of the time for one of a thousand", ratio, "x", 1.3, note=note)]


async def _seed_job(url: str) -> None:
    database = Database(url)
    await database.upgrade()
    store = JobStore(database)
    claim, _ = await begun(store)
    await store.add_image(claim, new_image(claim))
    await store.finish(claim)
    await store.cancel((await store.create(new_job()))[0].id)
    await database.aclose()


async def _multiply(url: str, rows: int) -> None:
    """Copy the first job, with its picture's state, until there are that many."""
    database = Database(url)
    async with database.begin() as connection:
        names = [row[1] for row in await connection.execute(text("PRAGMA table_info(jobs)"))]
        kept = ", ".join(name for name in names if name not in ("seq", "id"))
        have = await connection.scalar(text("SELECT count(*) FROM jobs")) or 0
        numbers = f"WITH RECURSIVE n(i) AS (SELECT {have + 1} UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        await connection.execute(
            text(
                f"INSERT INTO jobs (id, {kept}) {numbers} "
                f"SELECT 'job_' || n.i, {kept} FROM n, (SELECT * FROM jobs WHERE seq = 1)"
            )
        )
        await connection.execute(
            text(f"INSERT INTO pictures (job_id, number, seed) {numbers} SELECT 'job_' || n.i, 0, '7' FROM n")
        )
    await database.aclose()


def subscribers(checkpoint: Path, rounds: int) -> list[Measurement]:
    """Sixteen jobs with 500 event streams open, against the same jobs with none."""
    count, jobs = 500, 16
    slower: list[float] = []
    missed = 0
    with _server(checkpoint) as server, httpx.Client(timeout=300) as client:

        def run(first: int) -> float:
            begin = time.perf_counter()
            _wait(server, client, [_submit(server, client, first + number, steps=20) for number in range(jobs)])
            return time.perf_counter() - begin

        run(0)
        for turn in range(1, max(2, rounds // 2) + 1):
            alone_s = run(1000 * turn)
            command = [sys.executable, "-m", "tests.bench.service", server.url, str(count), str(jobs)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listeners:
                assert listeners.stdout is not None
                assert listeners.stdout.readline() == "ready\n"
                slower.append(run(1000 * turn + 500) / alone_s)
                heard: list[list[int]] = json.loads(listeners.stdout.readline())
            complete = max(heard, key=len)
            missed += sum(ids != complete for ids in heard)
    return [
        Measurement("sixteen jobs with 500 subscribers, of the time without", statistics.median(slower), "x", 1.05),
        Measurement("subscribers of 500 that missed or doubled a durable event", missed, "", 0.0),
    ]


class _Listener(asyncio.Protocol):
    """One event stream: what it was told, until a number of jobs is done. It shares the cores with the engine."""

    def __init__(self, host: str, jobs: int) -> None:
        self._host, self._jobs = host, jobs
        self._told = bytearray()
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.heard: asyncio.Future[list[int]] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(f"GET /api/events HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        before = max(0, len(self._told) - len(DONE) + 1)
        self._told += data
        if not self.ready.done() and b"retry: " in self._told:
            self.ready.set_result(None)
        self._jobs -= self._told.count(DONE, before)
        if self._jobs <= 0 and not self.heard.done():
            self.heard.set_result([int(number) for number in re.findall(rb"^id: (\d+)$", self._told, re.MULTILINE)])
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in (self.ready, self.heard):
            if not waiting.done():
                waiting.set_exception(exc or ConnectionError("the server has ended the stream"))


async def _listen(url: str, count: int, jobs: int) -> None:
    """Open `count` event streams, say so, and print the ids that each has got when all jobs are done."""
    address = url.removeprefix("http://")
    host, port = address.split(":")
    loop = asyncio.get_running_loop()
    listeners: list[_Listener] = []
    for _ in range(count):
        _, listener = await loop.create_connection(lambda: _Listener(address, jobs), host, int(port))
        listeners.append(listener)
    await asyncio.gather(*(listener.ready for listener in listeners))
    print("ready", flush=True)
    print(json.dumps(await asyncio.gather(*(listener.heard for listener in listeners))), flush=True)


def through_the_server(checkpoint: Path, rounds: int) -> list[Measurement]:
    """Thirty-two small jobs through the server, against the same in one process."""
    requests = [
        GenerationRequest.model_validate(
            {name: value for name, value in SMALL.items() if name != "reuse"}
            | {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number, "model": str(checkpoint.absolute())}
        )
        for number in range(32)
    ]
    ours: list[float] = []
    theirs: list[float] = []
    with _server(checkpoint) as server, httpx.Client(timeout=300) as client:
        _wait(server, client, [_submit(server, client, 1)])

        async def both() -> None:
            async with Studio(load_settings({"backend": "native"}, environ={})) as studio:
                await studio.generate(requests[0])
                for _ in range(max(2, rounds // 2)):
                    begin = time.perf_counter()
                    await asyncio.gather(*(studio.generate(request) for request in requests))
                    theirs.append(time.perf_counter() - begin)
                    begin = time.perf_counter()
                    await asyncio.to_thread(
                        lambda: _wait(server, client, [_submit(server, client, number) for number in range(32)])
                    )
                    ours.append(time.perf_counter() - begin)

        asyncio.run(both())
    ours_s, theirs_s = statistics.median(ours), statistics.median(theirs)
    what = "32 jobs of 176x224 through the server, of the engine's time in process"
    return [Measurement(what, ours_s / theirs_s, "x", 1.15, ours_s, theirs_s)]


if __name__ == "__main__":
    asyncio.run(_listen(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
