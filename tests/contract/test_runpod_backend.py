"""The backend `runpod` keeps the contract with a worker behind it: in RunPod's place, and in the SDK's own server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from limner.backends.fake import FakeBackend
from limner.backends.remote import Patience
from limner.backends.runpod import RunpodBackend
from limner.backends.settings import RunpodSettings
from limner.errors import NotFound, OutOfMemory
from limner.events import Progress
from limner.ports import Backend
from limner.runpod_handler import Handler
from limner.studio import Studio
from tests.contract.backend_contract import BackendContract, Trouble, images, order, run
from tests.support.processes import environment, eventually, free_port
from tests.support.runpod_server import ENDPOINT, KEY, Fault, RunPod, runpod, worker_environment, workers_of
from tests.support.services import settings_for

MODELS = ("fake", "no-such-checkpoint")  # the worker lacks the second: it shall say so itself


QUICK = Patience(tries=2, first_pause_s=0.01)


def backend_at(found: RunPod, folder: Path, timeout_s: float = 30.0) -> RunpodBackend:
    """The backend for RunPod in this process."""
    settings = RunpodSettings(
        endpoint_id=ENDPOINT,
        api_key=SecretStr(KEY),
        base_url=f"{found.url}/v2",
        models=MODELS,
        poll_s=0.02,
        jobs_dir=folder / "jobs",
    )
    return RunpodBackend(settings.model_copy(update={"timeout_s": timeout_s}), patience=QUICK)


@pytest.fixture(scope="module")
def sdk_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `limner runpod --serve-api`."""
    home, port = tmp_path_factory.mktemp("runpod"), free_port()
    command = [sys.executable, "-m", "limner", "runpod", "--serve-api", "--port", str(port)]
    env = environment(home, backend="fake")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (home / "log").read_text()
        try:
            return httpx.get(url, timeout=5).is_success
        except httpx.HTTPError:
            return False

    try:
        eventually(answers, 60.0)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


class TestRunpodBackend(BackendContract):
    tolerance = 0

    @pytest.fixture
    async def backend(self, tmp_path: Path) -> AsyncGenerator[Backend]:
        worker = FakeBackend()
        handler = Handler(Studio(settings_for(tmp_path), worker), worker)
        async with runpod() as found, workers_of(found, handler):
            backend = backend_at(found, tmp_path)
            yield backend
            await backend.aclose()

    @pytest.fixture(params=["memory", "slow", "key", "credit", "busy", "lost"])
    async def trouble(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Trouble]:
        kind = str(request.param)
        worker = FakeBackend(failures={0: OutOfMemory("It is full. Wait.")}, step_s=5 if kind == "slow" else 0)
        handler = Handler(Studio(settings_for(tmp_path), worker), worker)
        faults, code, retryable = {
            "memory": ([], "out_of_memory", True),
            "slow": ([], "timeout", True),
            "key": ([("run", Fault(401))] * 2, "rejected", False),
            "credit": ([("run", Fault(402))] * 2, "rejected", False),
            "busy": ([("run", Fault(429))] * 4, "capacity", True),
            "lost": ([("stream", Fault(404))] * 8, "unreachable", True),
        }[kind]
        async with runpod() as found, workers_of(found, handler):
            for path, fault in faults:
                found.fail(path, fault)
            backend = backend_at(found, tmp_path, timeout_s=0.2 if kind == "slow" else 30.0)
            yield Trouble(backend, code, retryable)
            await backend.aclose()


class TestRunpodBackendAtTheSdksServer(BackendContract):
    tolerance = 0

    @pytest.fixture
    async def trouble(self, tmp_path: Path) -> AsyncGenerator[Trouble]:
        gone = RunpodSettings(base_url=f"http://127.0.0.1:{free_port()}", jobs_dir=tmp_path)
        backend = RunpodBackend(gone, patience=QUICK)
        yield Trouble(backend, "unreachable", True)
        await backend.aclose()

    @pytest.fixture
    async def backend(self, sdk_server: str, tmp_path: Path) -> AsyncGenerator[Backend]:
        settings = RunpodSettings(base_url=sdk_server, models=MODELS, poll_s=0.02, jobs_dir=tmp_path)
        backend = RunpodBackend(settings)
        yield backend
        await backend.aclose()

    def test_fields_under_names_in_wide_use_are_understood(self, sdk_server: str) -> None:
        asked = {"prompt": "a boat", "width": 64, "height": 96, "num_images": 2, "guidance_scale": 1.5, "seed": -1}
        answer = httpx.post(f"{sdk_server}/runsync", json={"input": asked}, timeout=30).json()
        assert answer["status"] == "COMPLETED"
        painted = [chunk for chunk in answer["output"] if chunk["type"] == "image_generated"]
        assert [(chunk["index"], chunk["width"], chunk["height"]) for chunk in painted] == [(0, 64, 96), (1, 64, 96)]
        assert json.loads(painted[0]["recipe"])["request"]["cfg"] == 1.5
        assert answer["output"][-1] | {"duration_s": 0} == {
            "type": "done",
            "status": "completed",
            "images": 2,
            "failed": 0,
            "duration_s": 0,
        }


class TestTheSdksLoop:
    """`limner runpod` as RunPod starts it: the SDK takes jobs, streams, stops them and sends their ends."""

    @asynccontextmanager
    async def worker(self, found: RunPod, home: Path, step_s: float) -> AsyncGenerator[Process]:
        env = worker_environment(found, home, FAKE_STEP_S=str(step_s), PYTHONPATH=os.pathsep.join(sys.path))
        with (home / "log").open("wb") as log:
            command = (sys.executable, "-m", "tests.support.runpod_server")
            process = await asyncio.create_subprocess_exec(*command, env=env, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 30)

    async def test_a_job_is_painted_failed_or_stopped(self, tmp_path: Path) -> None:
        async with runpod() as found:
            backend = backend_at(found, tmp_path)
            async with self.worker(found, tmp_path, step_s=0.05) as process:
                events = await run(backend, order(prompt="together", count=2))
                assert len(images(events)) == 2
                assert any(isinstance(event, Progress) for event in events)
                assert {job.status for job in found.jobs.values()} <= {"IN_PROGRESS", "COMPLETED"}
                with pytest.raises(NotFound, match="no-such-checkpoint"):
                    await run(backend, order(model="no-such-checkpoint"))

                found.jobs.clear()
                slow = order(prompt="slow", stages=[{"width": 64, "height": 64, "steps": 200}])
                async with aclosing(backend.run(slow)) as going:
                    async for event in going:
                        if isinstance(event, Progress):
                            break
                assert found.only.status == "CANCELLED"
                note = tmp_path / "slow"
                await asyncio.to_thread(eventually, lambda: note.read_text() == "closed", 5.0, note.read_text)
                assert process.returncode is None
            await backend.aclose()
        assert process.returncode == 0
