"""`limner jobs` and `limner generate --server`: the same jobs in the database and over HTTP, and lost connections."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from limner.backends.fake import FakeBackend
from limner.cli.remote import Remote
from limner.errors import EngineFault, InvalidRequest, NotFound, Unreachable
from limner.media.metadata import read_recipe
from limner.server.app import build
from tests.support.records import gradient
from tests.support.services import fake_service, listening, settings_for, worker_of
from tests.unit.cli.conftest import Terminal

TINY: dict[str, Any] = {"preset": "sketch", "width": 64, "height": 64, "seed": 7}
FLAGS = ("--preset", "sketch", "--size", "64x64", "--seed", "7")


@dataclass(frozen=True)
class Server:
    """A server with a worker, on a thread of its own; its database is that of the terminal's home."""

    url: str

    def job(self, wait: float = 20, **fields: Any) -> dict[str, Any]:
        return httpx.post(f"{self.url}/api/jobs", params={"wait": wait}, json=TINY | fields, timeout=30).json()


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(failures={1: EngineFault("The picture was not finite.")})


@pytest.fixture
def server(terminal: Terminal, backend: FakeBackend) -> Iterator[Server]:
    told: queue.Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        service, stop = fake_service(settings_for(terminal.folder / "home"), backend), asyncio.Event()
        async with listening(build(service)) as url, worker_of(service):
            told.put((url, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    url, loop, stop = told.get(timeout=30)
    yield Server(url)
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)


@pytest.fixture(params=["here", "server"])
def where(request: pytest.FixtureRequest, server: Server) -> tuple[str, ...]:
    return () if request.param == "here" else ("--server", server.url)


def test_a_list_has_a_line_for_every_job_newest_first(
    terminal: Terminal, server: Server, where: tuple[str, ...]
) -> None:
    first, second = server.job(prompt="a cat"), server.job(prompt="a dog", count=2)
    lines = terminal.run("jobs", "list", *where).out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        [second["id"], "partial", "1/2"],
        [first["id"], "completed", "1/1"],
    ]
    assert [line.split("  ")[-1] for line in lines] == ["a dog", "a cat"]
    found = terminal.run("jobs", "list", "--status", "partial", "--json", *where).json
    assert [job["id"] for job in found["jobs"]] == [second["id"]]
    terminal.run("jobs", "list", "--limit", "1", *where)
    assert "There are more: add --cursor" in terminal.err


def test_a_job_is_shown_with_files_errors_and_events(
    terminal: Terminal, server: Server, where: tuple[str, ...]
) -> None:
    job = server.job(prompt="a cat", count=2)
    shown = terminal.run("jobs", "show", job["id"], "--events", *where).out
    assert "status     partial, attempt 1 of 3" in shown
    assert f"seed 7, {job['pictures'][0]['image_id']}, " in shown and "MISSING" not in shown
    assert "seed 8, failed: The picture was not finite. (engine_fault)" in shown
    assert shown.splitlines()[-1].endswith("done  status=partial images=1 failed=1")
    events = terminal.run("jobs", "show", job["id"], "--events", "--json", *where).json["events"]
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))


def test_a_missing_file_is_named(terminal: Terminal, server: Server, where: tuple[str, ...]) -> None:
    job = server.job(prompt="a cat")
    for path in (terminal.folder / "home/pictures").rglob("*.png"):
        path.unlink()
    assert "FILE IS MISSING" in terminal.run("jobs", "show", job["id"], *where).out


def test_only_what_failed_is_run_again(
    terminal: Terminal, server: Server, backend: FakeBackend, where: tuple[str, ...]
) -> None:
    job = server.job(prompt="a cat", count=2)
    assert terminal.run("jobs", "retry", job["id"], *where).out == f"{job['id']} waits again; pictures to paint: 1\n"
    terminal.run("jobs", "watch", job["id"], *where)
    assert (terminal.code, terminal.err.splitlines()[-1]) == (0, f"{job['id']} is completed")
    assert [len(order.plans) for order in backend.orders] == [2, 1]
    assert terminal.run("jobs", "retry", job["id"], *where).code == 2


def test_a_job_ends_when_it_is_cancelled_and_the_exit_code_says_so(
    terminal: Terminal, server: Server, backend: FakeBackend, where: tuple[str, ...]
) -> None:
    backend._step_s = 0.2  # pyright: ignore[reportPrivateUsage]
    job = server.job(prompt="a cat", wait=0)
    terminal.run("jobs", "cancel", job["id"], *where)
    assert terminal.out in (f"{job['id']} ends after this step\n", f"{job['id']} is cancelled\n")
    assert terminal.run("jobs", "watch", job["id"], "--json", *where).json["status"] == "cancelled"
    assert terminal.code == 1


def test_a_watcher_is_told_pictures_and_errors(terminal: Terminal, server: Server, where: tuple[str, ...]) -> None:
    job = server.job(prompt="a cat", count=2)
    terminal.run("jobs", "watch", job["id"], *where)
    assert terminal.code == 3
    assert terminal.out == f"picture 1  {job['pictures'][0]['image_id']}\n"
    assert "error (engine_fault): The picture was not finite." in terminal.err


@pytest.mark.parametrize("name", ["show", "cancel", "retry", "watch"])
def test_an_unknown_job_is_an_error(terminal: Terminal, server: Server, where: tuple[str, ...], name: str) -> None:
    assert terminal.run("jobs", name, "job_0", *where).code == 2
    assert terminal.err.startswith("error (not_found): There is no job `job_0`.")


def test_looking_makes_no_database(terminal: Terminal) -> None:
    assert terminal.run("jobs", "list").err == "There are no jobs.\n"
    assert terminal.run("jobs", "show", "job_0").code == 2
    assert terminal.files == []


# --- generate --server -----------------------------------------------------------------------------------------------


def test_pictures_of_a_server_get_the_names_they_would_have_here(terminal: Terminal, server: Server) -> None:
    terminal.run("generate", "A red boat, on the sea!", *FLAGS, "--server", server.url)
    assert (terminal.code, terminal.out) == (0, "a-red-boat-on-the-sea-7.png\n")
    assert read_recipe("a-red-boat-on-the-sea-7.png").request.prompt == "A red boat, on the sea!"


def test_the_answer_as_json_names_the_job_and_what_failed(terminal: Terminal, server: Server) -> None:
    terminal.run("generate", "a cat", *FLAGS, "--count", "2", "--json", LIMNER_REMOTE=server.url)
    assert (terminal.code, terminal.json["status"]) == (3, "partial")
    assert [picture["seed"] for picture in terminal.json["pictures"]] == [7]
    assert terminal.json["pictures"][0]["job_id"].startswith("job_")
    assert [(f["index"], f["code"]) for f in terminal.json["failures"]] == [(1, "engine_fault")]


def test_a_picture_to_start_from_is_sent_and_its_product_made_again(terminal: Terminal, server: Server) -> None:
    gradient().save("cat.png")
    terminal.run("generate", "a cat", *FLAGS, "--image", "cat.png", "--server", server.url, "--out", "first")
    assert terminal.code == 0, terminal.err
    terminal.run("generate", "--like", "first/a-cat-7.png", "--server", server.url, "--out", "again")
    first, again = (Image.open(f"{folder}/a-cat-7.png").tobytes() for folder in ("first", "again"))
    assert first == again
    assert terminal.run("generate", "--like", "first/a-cat-7.png").code == 2
    assert "was sent to a server. Give it with --image." in terminal.err


@pytest.mark.parametrize("flags", [("--lora", "./mine.safetensors"), ("--model", "weights/mine.safetensors")])
def test_files_of_weights_are_not_sent(terminal: Terminal, flags: tuple[str, str]) -> None:
    Path("weights").mkdir()
    Path(flags[1]).touch()
    terminal.run("generate", "a cat", *flags, "--server", "http://127.0.0.1:1")
    assert terminal.code == 2
    assert f"{flags[0]} {flags[1]} is a file of this machine, and files of weights are not sent." in terminal.err


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:1", 1, "error (unreachable): No server answers at http://127.0.0.1:1"),
        ("127.0.0.1:1", 1, "error (unreachable): No server answers at http://127.0.0.1:1"),
        ("ftp://127.0.0.1", 2, "error (invalid_request): The server's address 'ftp://127.0.0.1' is not valid."),
    ],
)
def test_a_server_that_is_not_there_is_named(terminal: Terminal, url: str, code: int, said: str) -> None:
    assert terminal.run("generate", "a cat", "--server", url).code == code
    assert terminal.err.startswith(said)


def test_what_the_server_objects_is_told(terminal: Terminal, server: Server) -> None:
    assert terminal.run("generate", "a cat", "--preset", "nope", "--server", server.url).code == 2
    assert terminal.err.startswith("error (not_found): There is no preset `nope`.")
    terminal.run("generate", "a cat", "--device", "cpu", "--server", server.url)
    assert "The server decides on its devices." in terminal.err


# --- lost connections ------------------------------------------------------------------------------------------------


def _event(number: int, kind: str = "info", **data: Any) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _app(*routes: Route) -> Any:
    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": "1"})

    return Starlette(routes=[Route("/health", health), *routes])


async def test_a_stream_that_breaks_goes_on_behind_its_last_event() -> None:
    asked: list[str | None] = []

    async def events(request: Request) -> Response:
        asked.append(request.headers.get("last-event-id"))
        parts = [[_event(1, text="a\u2028b\x85c"), _event(2)], [], [_event(3), _event(4, "done")]][len(asked) - 1]

        async def body() -> AsyncIterator[bytes]:
            for part in (b": hello\n\n", *parts):
                yield part[:5]
                yield part[5:]

        return StreamingResponse(body(), media_type="text/event-stream")

    said: list[str] = []
    async with listening(_app(Route("/api/jobs/job_1/events", events))) as url, Remote(url, said.append) as remote:
        told = [event async for event in remote.follow("job_1")]
    assert [event.number for event in told] == [1, 2, 3, 4]
    assert told[0].data["text"] == "a\u2028b\x85c"
    assert asked == [None, "2", "2"]


async def test_a_request_is_sent_again_under_the_same_key_until_it_is_accepted() -> None:
    keys: list[str] = []

    async def submit(request: Request) -> Response:
        keys.append(request.headers["idempotency-key"])
        return JSONResponse({}, 503) if len(keys) < 3 else JSONResponse({"id": "job_1"}, 202)

    said: list[str] = []
    route = Route("/api/jobs", submit, methods=["POST"])
    async with listening(_app(route)) as url, Remote(url, said.append) as remote:
        job = await remote.call("POST", "/api/jobs", json={}, headers={"Idempotency-Key": "k"})
        assert said == [f"{url} does not answer; waiting for it.", f"{url} answers again."]
    assert (job, keys) == ({"id": "job_1"}, ["k", "k", "k"])


async def test_patience_ends() -> None:
    async with listening(_app()) as url:
        remote = Remote(url, lambda line: None, patience_s=0.3)
        await remote.__aenter__()
    with pytest.raises(Unreachable, match="No server answers"):
        await remote.get("job_1")
    await remote.__aexit__(None, None, None)


async def test_another_programs_server_is_not_taken_for_ours() -> None:
    async with listening(FastAPI()) as url:
        with pytest.raises(Unreachable, match="is no limner server"):
            await Remote(url, lambda line: None).__aenter__()


async def test_an_id_cannot_lead_to_another_route() -> None:
    with pytest.raises(InvalidRequest):
        Remote("http://[", lambda line: None)
    with pytest.raises(NotFound):
        await Remote("http://127.0.0.1:1", lambda line: None).get("../images")
