"""A server and its workers as processes, to be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx

from limner.config import load_settings
from limner.domain import WorkerRecord
from limner.service import NATIVE_LANE, Service

SERVE = (sys.executable, "-m", "tests.support.services", "serve")


def environment(home: Path, **settings: object) -> dict[str, str]:
    """The environment of a process with a home of its own; `jobs__lease_s=3` sets `jobs.lease_s`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
    ours = {f"LIMNER_{name.upper()}": str(value) for name, value in settings.items()}
    return kept | {"LIMNER_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"} | ours


def free_port() -> int:
    """A port that nobody listens on."""
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A server process that can be killed and started again.

    Args:
        command: starts it; `--port` is added.
        env: its environment.
        log: where it and its workers write what they say.
    """

    def __init__(self, command: tuple[str, ...], env: dict[str, str], log: Path) -> None:
        self._command, self._env, self._log = command, env, log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, patience_s: float = 60.0) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            command = [*self._command, "--port", str(self.port)]
            self.process = subprocess.Popen(command, env=self._env, stdout=log, stderr=log)
        eventually(self._answers, patience_s, lambda: f"the server does not answer: {self.log()}")

    def kill(self) -> None:
        """As the kernel would: no goodbye."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """As an operator would; the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def log(self) -> str:
        """What was said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-4000:]

    def request(self, method: str, path: str, **more: Any) -> Any:
        """Ask, for as long as nobody answers; the JSON answer. For requests that may be repeated."""
        answers: list[Any] = []
        refusals = [""]

        def ask() -> bool:
            try:
                answer = httpx.request(method, self.url + path, timeout=30, **more)
            except httpx.TransportError as error:
                refusals.append(repr(error))
                return False
            if answer.status_code == 503:
                refusals.append(answer.text)
                return False
            assert answer.status_code < 400, answer.text + self.log()
            answers.append(answer.json())
            return True

        eventually(ask, 60.0, lambda: refusals[-1] + self.log())
        return answers[0]

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server ended: {self.log()}"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        return False


@contextlib.contextmanager
def serving(env: dict[str, str], folder: Path, command: tuple[str, ...] = SERVE) -> Generator[Server]:
    """A started server; it and all its workers are gone afterwards."""
    server = Server(command, env, folder / "server.log")
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()


async def workers_of(env: dict[str, str]) -> list[WorkerRecord]:
    """The worker processes of such a server that exist."""
    async with Service(load_settings(environ=env, folder=Path(env["LIMNER_HOME"]))) as service:
        return [worker for worker in await service.workers.list() if worker.lane == NATIVE_LANE and alive(worker.pid)]


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal, to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def eventually(look: Callable[[], object], timeout_s: float, told: Callable[[], str] = str) -> None:
    """Wait until `look` answers something true."""
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, f"it did not happen within {timeout_s:g} s. {told()}"
        time.sleep(0.05)
