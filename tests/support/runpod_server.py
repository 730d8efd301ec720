"""RunPod on this machine: the API of an endpoint, the API that its workers' SDK asks, and every way to misbehave.

The limits are RunPod's: what it takes by `/run`, as one piece of a stream, and as an answer. As a process of its own:
a worker, `limner runpod`, whose fake backend takes its time.

    python -m tests.support.runpod_server
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limner.backends.fake import FakeBackend
from limner.events import Event
from limner.ports import Order
from limner.runpod_handler import Handler
from limner.storage.local import LocalStorage

ENDPOINT, KEY = "abc123", "rpa_not-a-real-key"
POLL_S = 0.3
"""How long a worker's question is held open where there is nothing to say."""

RUN_BYTES, CHUNK_BYTES, ANSWER_BYTES = 10_000_000, 1_000_000, 20_000_000

Chunk = dict[str, Any]


@dataclass
class Fault:
    """What is answered in place of the truth: after a while, with a status, headers and a body."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    after_s: float = 0.0
    also: bool = False
    """Whether the request is carried out nevertheless."""


@dataclass
class FakeJob:
    """A job as RunPod keeps it."""

    id: str
    input: Any
    policy: Any
    status: str = "IN_QUEUE"
    unread: list[Chunk] = field(default_factory=list[Chunk])
    output: Any = None
    error: str | None = None


class RunPod:
    """An endpoint. `faults["run"]` and so on are answered first, one a request; `seen` counts the requests."""

    def __init__(self) -> None:
        self.jobs: dict[str, FakeJob] = {}
        self.waiting: asyncio.Queue[FakeJob] = asyncio.Queue()
        self.stops: asyncio.Queue[str] = asyncio.Queue()
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.seen: list[str] = []
        self.swallows_a_part = False
        """Whether the first part of a picture goes to somebody else who reads the stream."""
        self.objects: dict[str, bytes] = {}
        self.url = ""

    def fail(self, path: str, *faults: Fault) -> None:
        """What the next requests of a kind meet."""
        self.faults[path].extend(faults)

    def count(self, path: str) -> int:
        """Requests of a kind so far."""
        return self.seen.count(path)

    async def asked(self, path: str, times: int = 1) -> None:
        """Wait until there were so many requests of a kind."""
        async with asyncio.timeout(10):
            while self.count(path) < times:  # noqa: ASYNC110  # it is what the others do
                await asyncio.sleep(0.005)

    @property
    def only(self) -> FakeJob:
        """The one job that there is."""
        (job,) = self.jobs.values()
        return job

    def app(self) -> Starlette:
        """Both of its APIs."""
        base = f"/v2/{ENDPOINT}"
        return Starlette(
            routes=[
                Route(f"{base}/run", self._run, methods=["POST"]),
                Route(f"{base}/status/{{job}}", self._status, methods=["GET", "POST"]),
                Route(f"{base}/stream/{{job}}", self._stream, methods=["GET", "POST"]),
                Route(f"{base}/cancel/{{job}}", self._cancel, methods=["POST"]),
                Route("/bucket/{key:path}", self._object),
                Route("/job-take/{worker}", self._take),
                Route("/job-take-batch/{worker}", self._take),
                Route("/job-stop/{worker}", self._stop),
                Route("/job-stream/{worker}/{job}", self._worker_says, methods=["POST"]),
                Route("/job-done/{worker}/{job}", self._worker_ends, methods=["POST"]),
            ]
        )

    async def _met(self, path: str, request: Request) -> tuple[Response | None, bool]:
        self.seen.append(path)
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return Response("unauthorized", 401), False
        if not self.faults[path]:
            return None, True
        fault = self.faults[path].popleft()
        await asyncio.sleep(fault.after_s)
        body = fault.body if isinstance(fault.body, bytes) else json.dumps(fault.body).encode()
        return Response(body, fault.status, fault.headers), fault.also

    async def _run(self, request: Request) -> Response:
        content = await request.body()
        fault, real = await self._met("run", request)
        if not real:
            return fault or Response(status_code=500)
        if len(content) > RUN_BYTES:
            return JSONResponse({"error": "payload too large"}, 413)
        sent = json.loads(content)
        job = FakeJob(f"{uuid.uuid4()}-u1", sent["input"], sent.get("policy"))
        self.jobs[job.id] = job
        self.waiting.put_nowait(job)
        return fault or JSONResponse({"id": job.id, "status": job.status})

    async def _status(self, request: Request) -> Response:
        fault, _ = await self._met("status", request)
        job = self.jobs.get(request.path_params["job"])
        if fault or job is None:
            return fault or JSONResponse({"error": "job not found"}, 404)
        told = {"id": job.id, "status": job.status, "output": job.output, "error": job.error}
        return JSONResponse({name: value for name, value in told.items() if value is not None})

    async def _stream(self, request: Request) -> Response:
        fault, _ = await self._met("stream", request)
        job = self.jobs.get(request.path_params["job"])
        if fault or job is None:
            return fault or JSONResponse({"error": "job not found"}, 404)
        unread, job.unread = job.unread, []
        if self.swallows_a_part:
            unread = [chunk for chunk in unread if chunk.get("part") != 0]
        return JSONResponse({"status": job.status, "stream": [{"output": chunk} for chunk in unread]})

    async def _cancel(self, request: Request) -> Response:
        fault, _ = await self._met("cancel", request)
        job = self.jobs.get(request.path_params["job"])
        if fault or job is None:
            return fault or JSONResponse({"error": "job not found"}, 404)
        if job.status in ("IN_QUEUE", "IN_PROGRESS"):
            job.status = "CANCELLED"
            self.stops.put_nowait(job.id)
        return JSONResponse({"id": job.id, "status": job.status})

    async def _object(self, request: Request) -> Response:
        found = self.objects.get(request.path_params["key"])
        return Response(status_code=404) if found is None else Response(found, media_type="image/png")

    # --- what the SDK in a worker asks

    async def next_job(self) -> FakeJob:
        """The next one that was not cancelled meanwhile; it is in progress then."""
        while True:
            job = await self.waiting.get()
            if job.status == "IN_QUEUE":
                job.status = "IN_PROGRESS"
                return job

    async def _take(self, request: Request) -> Response:
        try:
            jobs = [await asyncio.wait_for(self.next_job(), POLL_S)]
        except TimeoutError:
            return Response(status_code=204)
        if "batch" not in request.url.path:
            return JSONResponse({"id": jobs[0].id, "input": jobs[0].input})
        while not self.waiting.empty() and len(jobs) < int(request.query_params["batch_size"]):
            jobs.append(await self.next_job())
        return JSONResponse([{"id": job.id, "input": job.input} for job in jobs])

    async def _stop(self, request: Request) -> Response:
        try:
            return JSONResponse({"jobsToStop": [await asyncio.wait_for(self.stops.get(), POLL_S)]})
        except TimeoutError:
            return Response(status_code=204)

    async def _worker_says(self, request: Request) -> Response:
        content = await request.body()
        if len(content) > CHUNK_BYTES:
            return Response("too large", 400)
        self.jobs[request.path_params["job"]].unread.append(json.loads(content)["output"])
        return Response()

    async def _worker_ends(self, request: Request) -> Response:
        content = await request.body()
        if len(content) > ANSWER_BYTES:
            return Response("too large", 400)
        self.ended(self.jobs[request.path_params["job"]], json.loads(content))
        return Response()

    def ended(self, job: FakeJob, result: Chunk) -> None:
        """A worker is done with a job."""
        if job.status == "IN_PROGRESS":
            job.output, job.error = result.get("output"), result.get("error")
            job.status = "FAILED" if job.error else "COMPLETED"


@contextlib.asynccontextmanager
async def runpod() -> AsyncGenerator[RunPod]:
    """RunPod on a socket of this process; no workers yet."""
    found = RunPod()
    server = uvicorn.Server(uvicorn.Config(found.app(), port=0, log_level="warning", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.01)
    found.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        await server.shutdown()  # it would look only after a while whether it should end
        task.cancel()
        await asyncio.wait((task,))


class LinkedStorage(LocalStorage):
    """A bucket whose links lead to this RunPod's server."""

    def __init__(self, folder: Path, found: RunPod) -> None:
        super().__init__(folder)
        self._found = found

    async def put(self, key: str, content: bytes, media_type: str) -> None:
        self._found.objects[key] = content

    async def link(self, key: str, ttl_s: float) -> str | None:
        return f"{self._found.url}/bucket/{key}"


@contextlib.asynccontextmanager
async def workers_of(found: RunPod, handler: Handler, *, streams: bool = True) -> AsyncGenerator[None]:
    """Workers inside this process, as many as there are jobs, which do with a handler what the SDK does.

    Without `streams`, what they say comes with their jobs' output only, as where somebody else has read the stream.
    """

    async def paint(job: FakeJob) -> None:
        outputs: list[Chunk] = []
        async with aclosing(handler.run({"id": job.id, "input": job.input})) as chunks:
            async for chunk in chunks:
                if chunk.get("error"):
                    found.ended(job, {"error": str(chunk["error"])})
                    return
                assert len(json.dumps(chunk)) <= CHUNK_BYTES
                outputs.append(chunk)
                if streams:
                    job.unread.append(chunk)
        found.ended(job, {"output": outputs})

    async def work() -> None:
        async with asyncio.TaskGroup() as painting:
            while True:
                painting.create_task(paint(await found.next_job()))

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


def worker_environment(found: RunPod, home: Path, **settings: str) -> dict[str, str]:
    """The environment of a worker's process at this RunPod."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LIMNER_", "RUNPOD_"))}
    return kept | {
        "LIMNER_HOME": str(home),
        "LIMNER_BACKEND": "fake",
        "RUNPOD_POD_ID": "worker1",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_WEBHOOK_GET_JOB": f"{found.url}/job-take/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{found.url}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{found.url}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
        **settings,
    }


class _Noting(FakeBackend):
    """Writes down which orders it began, and which ended early."""

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        note = Path(os.environ["LIMNER_HOME"]) / order.request.prompt
        note.write_text("begun")
        try:
            async for event in super().run(order):
                yield event
            note.write_text("ended")
        finally:
            if note.read_text() == "begun":
                note.write_text("closed")


if __name__ == "__main__":
    from limner.cli import cli
    from limner.cli.application import Application

    cli(["runpod"], obj=Application(_Noting(step_s=float(os.environ["FAKE_STEP_S"]))))
