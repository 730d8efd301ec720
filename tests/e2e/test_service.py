"""The service as its users meet it: the README's examples, the command line against a server, and sudden deaths."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from PIL import Image

from limner.media.metadata import read_recipe
from tests.e2e.conftest import Limner

ROOT = Path(__file__).parents[2]
SMALL = ("--preset", "sketch", "--size", "176x224", "--seed", "5")
LONG = {"prompt": "a blue boat on the sea", "preset": "sketch", "width": 176, "height": 224, "count": 3, "steps": 30}
T = TypeVar("T")


class Server:
    """`limner serve` on a port that stays the same when it is started again."""

    def __init__(self, folder: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
        environment = kept | {"LIMNER_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
        self.limner = Limner(folder, environment)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "limner", "serve", "--port", self.address.partition(":")[2]]
        with (self.limner.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.limner.environment, stderr=log, stdout=log)
        until(self.worker_pids, "no worker came up")

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def get(self, path: str) -> dict[str, Any]:
        return httpx.get(self.url + path, timeout=30).json()

    def submit(self, **fields: Any) -> str:
        return httpx.post(f"{self.url}/api/jobs", json=LONG | fields, timeout=30).json()["id"]

    def worker_pids(self) -> list[int]:
        assert self.process is not None and self.process.poll() is None
        try:
            workers = self.get("/api/backends")["workers"]
        except httpx.TransportError:
            return []
        return [worker["pid"] for worker in workers if worker["lane"] == "native" and _lives(worker["pid"])]

    def is_painting(self, job_id: str) -> bool:
        job = self.get(f"/api/jobs/{job_id}")
        assert job["finished_at"] is None, "it was done too soon to be interrupted"
        return any(state["step"] > 2 for state in job["progress"])

    def ended(self, job_id: str) -> dict[str, Any]:
        return until(lambda: (job := self.get(f"/api/jobs/{job_id}"))["finished_at"] and job, "it did not end")


def until(look: Callable[[], T], otherwise: str, timeout_s: float = 150) -> T:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("served"))
    made.start()
    yield made
    assert made.process is not None
    if made.process.poll() is None:
        made.stop()


def _example(language: str) -> str:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Serve it")[2]
    found = re.search(rf"```{language}\n(.*?)```", section, re.S)
    assert found
    return found[1]


def test_the_readmes_curl_examples_work_as_written(server: Server, tmp_path: Path) -> None:
    script = _example("bash").replace("127.0.0.1:9000", server.address)
    command = ["bash", "-eu", "-o", "pipefail", "-c", script]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_recipe(tmp_path / "cat.png").plan.prompt == "a red cat"
    assert "event: image_generated" in done.stdout and "event: done" in done.stdout
    boat = json.loads((tmp_path / "boat.json").read_text())["data"][0]["b64_json"]
    assert Image.open(io.BytesIO(base64.b64decode(boat))).format == "PNG"


def test_the_readmes_openai_example_works_as_written(server: Server) -> None:
    script = _example("python").replace("127.0.0.1:9000", server.address) + "\nprint(picture[:6])"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=200)
    assert done.stdout.startswith("iVBORw"), done.stderr


def test_a_server_paints_the_same_pixels_as_the_command_line(server: Server) -> None:
    server.limner("generate", "a red cat", *SMALL, "--out", "here")
    server.limner("generate", "a red cat", *SMALL, "--out", "there", "--server", server.url)
    here, there = (Image.open(server.limner.folder / place / "a-red-cat-5.png") for place in ("here", "there"))
    assert here.tobytes() == there.tobytes()


def test_jobs_are_found_here_and_on_the_server(server: Server) -> None:
    job_id = server.submit(count=1, steps=4)
    server.limner("jobs", "watch", job_id, "--server", server.url)
    assert job_id in server.limner("jobs", "list").stdout
    shown = json.loads(server.limner("jobs", "show", job_id, "--json").stdout)
    assert shown["status"] == "completed"
    assert Path(shown["pictures"][0]["file"]["where"]).stat().st_size > 1000


def test_a_job_whose_worker_is_killed_is_run_again(server: Server) -> None:
    job_id = server.submit(seed=11)
    until(lambda: server.is_painting(job_id), "it was not begun")
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGKILL)
    job = server.ended(job_id)
    assert (job["status"], job["attempt"] >= 2) == ("completed", True)
    _whole(server, job)


def test_a_job_whose_server_is_killed_is_done_when_it_comes_back(server: Server) -> None:
    painting = server.limner.start(
        *("generate", "a green apple", "--preset", "sketch", "--size", "176x224", "--steps", "30", "--count", "3"),
        *("--seed", "21", "--server", server.url, "--out", "survived"),
    )
    (job_id,) = until(
        lambda: [job["id"] for job in server.get("/api/jobs?search=green+apple")["jobs"]], "it was not sent"
    )
    until(lambda: server.is_painting(job_id), "it was not begun")
    server.kill()
    server.start()
    out, err = painting.communicate(timeout=150)
    assert painting.returncode == 0, err
    assert sorted(out.split()) == [f"survived/a-green-apple-{seed}.png" for seed in (21, 22, 23)]
    assert f"{server.url} does not answer; waiting for it." in err
    _whole(server, server.ended(job_id))


def _whole(server: Server, job: dict[str, Any]) -> None:
    """Every picture of the job is there, once: as a row, as a file, and in the log."""
    images = server.get(f"/api/images?job_id={job['id']}")["images"]
    assert sorted(image["index"] for image in images) == list(range(len(job["pictures"])))
    assert {image["id"] for image in images} == {picture["image_id"] for picture in job["pictures"]}
    files = list((server.limner.folder / "home/pictures/images" / job["id"]).glob("*.png"))
    assert len(files) == len(images)
    events = httpx.get(f"{server.url}/api/jobs/{job['id']}/events", timeout=30).text
    assert events.count("event: image_generated") == len(images)
    assert events.count("event: done") == 1


def test_ctrl_c_cancels_on_the_server_what_it_would_have_stopped_here(server: Server) -> None:
    painting = server.limner.start("generate", "a yellow house", "--steps", "100", "--server", server.url)
    (job_id,) = until(
        lambda: [job["id"] for job in server.get("/api/jobs?search=yellow+house")["jobs"]], "it was not sent"
    )
    painting.send_signal(signal.SIGINT)
    _, err = painting.communicate(timeout=30)
    assert painting.returncode == 130
    assert f"Job {job_id} is cancelled on the server" in err
    assert server.ended(job_id)["status"] == "cancelled"


def test_sigterm_ends_server_and_worker_in_order(server: Server) -> None:
    (pid,) = server.worker_pids()
    assert server.stop() == 0
    assert not _lives(pid)
    log = (server.limner.folder / "serve.log").read_text()
    assert "Traceback" not in log
    assert f"limner listens on {server.url}" in log
