"""Workers are started again whatever ends them, and none outlives its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from limner.domain import JobStatus
from limner.server import supervisor as supervising
from limner.server.supervisor import Supervisor
from limner.service import Service
from tests.support.jobs import new_job, until
from tests.support.processes import kill
from tests.support.services import fake_service, settings_for


@pytest.fixture
async def service(tmp_path: Path) -> AsyncGenerator[Service]:
    async with fake_service(settings_for(tmp_path)) as service:
        yield service


async def test_a_worker_that_cannot_be_started_is_started_later(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command, started = tmp_path / "command", tmp_path / "started"
    supervisor = Supervisor(1, (str(command),))
    supervisor.start()

    async def is_refused() -> bool:
        return "could not be started (No such file" in caplog.text

    await until(is_refused)
    command.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 60\n")
    command.chmod(0o700)

    async def has_started() -> bool:
        return started.exists()

    await until(has_started)
    await asyncio.wait_for(supervisor.aclose(), 10)


async def test_a_worker_that_is_being_started_when_the_server_stops_ends_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, asked, ending = asyncio.create_subprocess_exec, asyncio.Event(), asyncio.Event()
    supervisor = Supervisor(1, ("sh", "-c", "exec sleep 60"))

    async def slowly(*command: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*command, **options)
        asked.set()
        await ending.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    supervisor.start()
    await asked.wait()
    closing = asyncio.create_task(supervisor.aclose())
    await asyncio.sleep(0)
    ending.set()
    await asyncio.wait_for(closing, 10)


async def test_a_worker_that_is_being_started_and_does_not_heed_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervising, "STOP_PATIENCE_S", 1.0)
    start, ready, ending = asyncio.create_subprocess_exec, tmp_path / "ready", asyncio.Event()
    supervisor = Supervisor(1, ("sh", "-c", f"trap '' TERM; touch {ready}; exec sleep 60"))

    async def slowly(*command: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*command, **options)
        await ending.wait()
        return process

    async def is_ready() -> bool:
        return ready.exists()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    supervisor.start()
    await until(is_ready)
    closing = asyncio.create_task(supervisor.aclose())
    await asyncio.sleep(0.1)  # it waits now
    ending.set()
    await asyncio.wait_for(closing, 10)


async def test_jobs_of_a_worker_that_was_started_before_the_service_are_given_back_when_it_dies(
    service: Service, tmp_path: Path
) -> None:
    who = tmp_path / "who"
    supervisor = Supervisor(1, ("sh", "-c", f"echo $1 $$ > {who}; exec sleep 60"))
    supervisor.start()

    async def is_told() -> bool:
        return who.exists() and who.read_text().endswith("\n")

    await until(is_told)
    supervisor.service = service
    name, pid = who.read_text().split()
    job, _ = await service.store.create(new_job())
    await service.store.begin(job.id, name, lease_s=60)
    kill(int(pid))

    async def waits() -> bool:
        return (await service.store.get(job.id)).status is JobStatus.PENDING

    await until(waits)
    await asyncio.wait_for(supervisor.aclose(), 10)
