"""Checkpoints are loaded and unloaded by the workers, and what they hold is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from limner.backends.fake import FakeBackend
from limner.errors import OutOfMemory
from limner.jobs import wishes
from limner.jobs.worker import Worker
from limner.reports import WorkerReport
from limner.server.app import build
from limner.service import Service
from limner.studio import Studio
from tests.support.checkpoints import save_split, tiny_components
from tests.support.services import client_of, settings_for

NAMES = ("fake", "folder/turbo")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wishes, "LOOK_EVERY_S", 0.05)


class Tight(FakeBackend):
    """Has room for one checkpoint."""

    async def load(self, name: str) -> None:
        if set(self.loaded()) - {name}:
            raise OutOfMemory("Memory ran out while loading. Unload another checkpoint first.")
        await super().load(name)


@pytest.fixture
def backend() -> FakeBackend:
    return Tight(models=NAMES, step_s=0.02)


class Reports:
    """The report of a worker of the fake backend."""

    def __init__(self, backend: FakeBackend) -> None:
        self._backend = backend

    def __call__(self) -> dict[str, Any]:
        held = self._backend.loaded()
        return {
            "models": [{"name": name, "family": "fake"} for name in NAMES],
            "loaded": list(held),
            "held": {name: vars(entry) for name, entry in held.items()},
        }


@asynccontextmanager
async def working(client: httpx.AsyncClient, worker: Worker, name: str) -> AsyncGenerator[None]:
    """A worker, once it has told of a checkpoint of that name."""
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        await until(client, name, bool)
        yield
    finally:
        stop.set()
        await task


@pytest.fixture
async def worker(client: httpx.AsyncClient, service: Service, backend: FakeBackend) -> AsyncGenerator[None]:
    """A worker that reports what it holds."""
    async with working(client, service.worker("w", "native", Reports(backend)), "fake"):
        yield


async def until(client: httpx.AsyncClient, name: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The model's view once it is so; {} stands for a model that is not listed."""
    deadline = time.monotonic() + 30
    while True:
        models = {model["name"]: model for model in (await client.get("/api/models")).json()["models"]}
        if true(found := models.get(name, {})):
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


async def status(client: httpx.AsyncClient, job_id: str, wanted: str) -> None:
    """Wait for a job's status."""
    deadline = time.monotonic() + 30
    while (found := (await client.get(f"/api/jobs/{job_id}")).json()["status"]) != wanted:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


async def test_a_worker_that_ends_while_it_is_asked_is_a_conflict(
    client: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.workers.register("w", "native", 1, {"models": [{"name": "fake"}]})
    wish = service.wishes.wish

    async def wished(*what: Any) -> None:
        await wish(*what)
        await service.workers.remove("w")

    monkeypatch.setattr(service.wishes, "wish", wished)
    answer = await client.post("/api/models/fake/load")
    assert (answer.status_code, "ended meanwhile" in answer.json()["detail"]) == (409, True)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("written", ["folder/turbo", "folder%2Fturbo"])
async def test_a_checkpoint_is_loaded_and_unloaded(client: httpx.AsyncClient, written: str) -> None:
    asked = await client.post(f"/api/models/{written}/load")
    assert (asked.status_code, asked.json()["name"], asked.json()["loading"]) == (202, "folder/turbo", True)
    model = await until(client, "folder/turbo", lambda model: not model["loading"])
    assert (model["loaded"], model["memory_bytes"], model["load_problem"]) == (True, 1024, "")
    assert model["memory_by_component"] == {"transformer": 1024} and abs(model["idle_since"] - time.time()) < 60
    asked = await client.post(f"/api/models/{written}/unload")
    assert (asked.status_code, asked.json()["unloading"]) == (202, True)
    model = await until(client, "folder/turbo", lambda model: not model["unloading"])
    assert (model["loaded"], model["memory_bytes"], "idle_since" in model) == (False, 0, False)


@pytest.mark.usefixtures("worker")
async def test_what_keeps_a_checkpoint_out_of_memory_is_told_until_it_is_loaded(client: httpx.AsyncClient) -> None:
    await client.post("/api/models/fake/load")
    await until(client, "fake", lambda model: model["loaded"])
    await client.post("/api/models/folder/turbo/load")
    model = await until(client, "folder/turbo", lambda model: not model["loading"])
    assert (model["loaded"], model["problem"]) == (False, "")
    assert model["load_problem"] == "Memory ran out while loading. Unload another checkpoint first."
    await client.post("/api/models/fake/unload")
    await until(client, "fake", lambda model: not model["loaded"])
    await client.post("/api/models/folder/turbo/load")
    model = await until(client, "folder/turbo", lambda model: not model["loading"])
    assert (model["loaded"], model["load_problem"]) == (True, "")


async def test_a_worker_that_dies_of_a_load_is_the_reason(
    client: httpx.AsyncClient, service: Service, backend: FakeBackend
) -> None:
    report = Reports(backend)()
    await service.workers.register("dies", "native", 4, report)
    assert (await client.post("/api/models/fake/load")).json()["loading"]
    await service.workers.remove("dies")
    await service.workers.register("next", "native", 4, report)
    model = await until(client, "fake", lambda model: not model["loading"])
    assert "dies ended before it had loaded `fake`" in model["load_problem"]


@pytest.mark.usefixtures("worker")
async def test_a_job_under_way_keeps_its_checkpoint(client: httpx.AsyncClient) -> None:
    job = (
        await client.post("/api/jobs", json={"prompt": "a", "model": "fake", "steps": 100, "preset": "single"})
    ).json()
    await until(client, "fake", lambda model: model["loaded"])
    await client.post("/api/models/fake/unload")
    await until(client, "fake", lambda model: not model["unloading"])
    await status(client, job["id"], "completed")


async def test_an_unknown_name_and_no_worker_are_told_apart(client: httpx.AsyncClient, service: Service) -> None:
    alone = await client.post("/api/models/fake/load")
    assert (alone.status_code, alone.json()["code"]) == (409, "conflict")
    assert "Start one with `limner worker`" in alone.json()["detail"]
    await service.workers.register("w", "native", 4, {})
    early = await client.post("/api/models/fake/load")
    assert (early.status_code, "still looking" in early.json()["detail"]) == (409, True)
    await service.workers.register("w", "native", 4, {"models": [{"name": name} for name in NAMES]})
    unknown = await client.post("/api/models/folder/tubro/unload")
    assert (unknown.status_code, unknown.json()["details"]["near"]) == (404, ["folder/turbo"])
    assert await service.wishes.list() == []


async def test_the_engine_frees_a_checkpoint_after_its_jobs(tmp_path: Path) -> None:
    models = tmp_path / "models"
    save_split(tiny_components(), models)
    settings = settings_for(tmp_path, native={"device": "cpu", "models_dir": str(models), "model": "tiny"})
    service = Service(settings, Studio(settings))
    report = WorkerReport(settings, service.studio)
    await asyncio.to_thread(report.look)
    async with (
        client_of(build(service)) as client,
        working(client, service.worker("w", "native", report, report.loaded), "tiny"),
    ):
        await client.post("/api/models/tiny/load")
        model = await until(client, "tiny", lambda model: not model["loading"])
        assert (model["loaded"], model["load_problem"]) == (True, "")
        assert model["memory_bytes"] == sum(model["memory_by_component"].values()) > 10_000
        assert set(model["memory_by_component"]) == {"transformer", "text_encoder", "vae"}

        wanted = {"prompt": "a red boat", "preset": "single", "width": 64, "height": 64, "steps": 40, "count": 2}
        job = (await client.post("/api/jobs", json=wanted)).json()
        await status(client, job["id"], "processing")
        await client.post("/api/models/tiny/unload")
        await status(client, job["id"], "completed")
        model = await until(client, "tiny", lambda model: not model["loaded"])
        assert (model["memory_bytes"], model["memory_by_component"]) == (0, {})

        (models / "vae" / "ae.safetensors").write_bytes(b"broken")
        await client.post("/api/models/tiny/load")
        model = await until(client, "tiny", lambda model: not model["loading"])
        assert not model["loaded"] and "ae" in model["load_problem"]
