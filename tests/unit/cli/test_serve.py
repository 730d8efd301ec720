"""`limner serve`: what it refuses to start with, how it listens, how it ends; and the front."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from limner.cli.application import Application
from limner.cli.serve import bound, serve
from limner.config import Settings
from limner.server.front import Front
from limner.server.supervisor import Supervisor
from tests.support.services import settings_for
from tests.unit.cli.conftest import Terminal


@pytest.fixture(autouse=True)
def level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_LOG_LEVEL", "warning")  # the command changes it for the processes that it starts


def test_a_taken_port_is_named(terminal: Terminal) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        terminal.run("serve", "--port", str(port))
    assert terminal.code == 2
    assert terminal.err.startswith(
        f"error (config): limner cannot listen on 127.0.0.1:{port} (Address already in use)."
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "limner.example"])
def test_other_machines_are_let_in_only_when_that_is_meant(terminal: Terminal, host: str) -> None:
    terminal.run("serve", "--host", host, "--port", "0")
    assert terminal.code == 2
    assert f"Setting `server.host` is {host}: everybody who reaches that could use this server" in terminal.err
    assert "add --open or set LIMNER_SERVER__OPEN=true" in terminal.err


@pytest.mark.parametrize("variable", ["HOST", "LIMNER_SERVER__HOST"])
def test_a_host_of_the_environment_is_refused_in_words_that_help(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "0.0.0.0")
    terminal.run("serve", "--port", "0")
    assert terminal.code == 2
    assert "Setting `server.host` is 0.0.0.0" in terminal.err and variable in terminal.err


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_a_server_that_is_open_says_what_that_means(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "variable":
        monkeypatch.setenv("LIMNER_SERVER__OPEN", "true")
    Path("home").touch()  # so that it ends behind the warning
    terminal.run("serve", "--host", "0.0.0.0", *(["--open"] if way == "flag" else []))
    assert "error (storage)" in terminal.err
    for told in ("everybody who reaches 0.0.0.0:9000 can use this server", "no accounts", "(Host) is not checked"):
        assert told in terminal.err


def test_a_home_that_cannot_be_written_is_named(terminal: Terminal) -> None:
    Path("home").touch()
    terminal.run("serve", "--port", "0")
    assert terminal.code == 1
    assert "error (storage): The home folder FOLDER/home cannot be used (File exists)." in terminal.err


def test_a_broken_database_is_an_error_and_not_a_traceback(terminal: Terminal) -> None:
    Path("home").mkdir()
    Path("home/limner.db").write_bytes(b"this is no database" * 1000)
    terminal.run("serve", "--port", "0", "--workers", "0")
    assert terminal.code == 1
    assert terminal.err.startswith("error (database): The database cannot be used (file is not a database).")


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "limner", "serve", "--port", "0", "--workers", "0"]
    environment = {"LIMNER_HOME": str(tmp_path / "home"), "PATH": ""}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_while_somebody_listens(process: subprocess.Popen[str], number: int) -> None:
    assert process.stderr
    found = re.fullmatch(r"limner listens on (http://127\.0\.0\.1:\d+), .*\n", process.stderr.readline())
    assert found
    job = httpx.post(f"{found[1]}/api/jobs", json={"prompt": "a cat"}).json()
    with httpx.stream("GET", f"{found[1]}/api/jobs/{job['id']}/events", timeout=20) as stream:
        lines = stream.iter_lines()
        assert any(line == "event: stage_update" for line in lines)
        process.send_signal(number)
        assert process.wait(15) == 0
    assert process.stderr.read() == "Stopping; press Ctrl+C again to end at once.\n"


async def test_a_signal_ends_it_also_while_the_application_is_being_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began, ends = threading.Event(), threading.Event()

    def slowly(settings: Settings, supervisor: Supervisor) -> FastAPI:
        began.set()
        ends.wait(60)
        return FastAPI()

    settings = settings_for(tmp_path, server={"workers": 1})
    with bound("127.0.0.1", 0) as listening:
        running = asyncio.create_task(serve(Application(), settings, listening, slowly, ("sh", "-c", "exec sleep 60")))
        try:
            assert await asyncio.to_thread(began.wait, 30)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(running, 20)
        finally:
            ends.set()
    assert capsys.readouterr().err == "Stopping; press Ctrl+C again to end at once.\n"


async def _answer(request: Request) -> Response:
    return PlainTextResponse("application")


async def test_the_front_answers_health_and_lets_the_rest_wait() -> None:
    front = Front()
    transport = httpx.ASGITransport(front)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/health")).json()["status"] == "ok"
        waiting = asyncio.create_task(client.get("/api/jobs"))
        await asyncio.sleep(0)
        assert not waiting.done()
        routes = [Route(path, _answer) for path in ("/health", "/api/jobs")]
        front.open(Starlette(routes=routes))
        assert (await waiting).text == "application"
        assert (await client.get("/health")).text == "application"
