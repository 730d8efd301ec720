"""The backend `runpod` against a RunPod that is slow, busy, forgetful, out of its mind or gone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import SecretStr

from limner.backends import runpod as backend_module
from limner.backends import runpod_wire
from limner.backends.fake import FakeBackend
from limner.backends.remote import Patience
from limner.backends.runpod import RunpodBackend
from limner.backends.runpod_ids import JobIds
from limner.backends.settings import RunpodSettings
from limner.errors import AdapterMismatch, ConfigError, InvalidRequest, NotFound, OutOfMemory, StorageError, Unsupported
from limner.events import Done, Event, Failed, Info, Preview, Warned
from limner.ports import Order
from limner.runpod_handler import Handler
from limner.studio import Studio
from tests.contract.backend_contract import images, order, run
from tests.support.runpod_server import (
    ENDPOINT,
    KEY,
    Fault,
    LinkedStorage,
    RunPod,
    runpod,
    workers_of,
)
from tests.support.services import settings_for

QUICK = Patience(tries=3, first_pause_s=0.01, longest_pause_s=0.02, longest_wait_s=1.0)


@pytest.fixture
async def found() -> AsyncGenerator[RunPod]:
    async with runpod() as there:
        yield there


@pytest.fixture
def worker() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def handler(worker: FakeBackend, tmp_path: Path) -> Handler:
    return Handler(Studio(settings_for(tmp_path), worker), worker)


@pytest.fixture
async def backend(found: RunPod, tmp_path: Path) -> AsyncGenerator[RunpodBackend]:
    there = backend_of(found, tmp_path)
    yield there
    await there.aclose()


def backend_of(found: RunPod, folder: Path, answer_timeout_s: float = 5.0, **changes: Any) -> RunpodBackend:
    settings = RunpodSettings(
        endpoint_id=ENDPOINT,
        api_key=SecretStr(KEY),
        base_url=f"{found.url}/v2",
        poll_s=0.02,
        jobs_dir=folder / "jobs",
    )
    return RunpodBackend(settings.model_copy(update=changes), patience=QUICK, answer_timeout_s=answer_timeout_s)


def failure(events: list[Event]) -> Failed:
    """The failure of an order of one picture."""
    (failed,) = [event for event in events if isinstance(event, Failed)]
    last = events[-1]
    assert isinstance(last, Done) and last.status == "failed" and failed.index == 0
    return failed


def remarks(events: list[Event]) -> list[str]:
    return [event.code for event in events if isinstance(event, Info | Warned)]


async def scripted(backend: RunpodBackend, found: RunPod, result: dict[str, Any], status: str = "") -> list[Event]:
    """What becomes of an order whose one job ends in that way."""
    going = asyncio.create_task(run(backend, order()))
    job = await found.next_job()
    found.ended(job, result)
    job.status = status or job.status
    return await going


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, "rejected", "refuses the request with 400"),
        (401, "rejected", "LIMNER_RUNPOD__API_KEY"),
        (402, "rejected", "no credit"),
        (404, "rejected", "runpod.endpoint_id"),
        (413, "rejected", "larger than RunPod takes"),
        (500, "unreachable", "answered 500"),
        (502, "unreachable", "answered 502"),
    ],
)
async def test_a_refusal_says_what_to_do(
    backend: RunpodBackend, found: RunPod, status: int, code: str, words: str
) -> None:
    found.fail("run", Fault(status))
    failed = failure(await run(backend, order()))
    assert (failed.code, failed.retryable) == (code, code == "unreachable")
    assert words in failed.message
    assert found.count("run") == 1


async def test_a_busy_runpod_is_asked_again_when_it_says(
    backend: RunpodBackend, found: RunPod, handler: Handler
) -> None:
    found.fail("run", Fault(429, headers={"Retry-After": "0.05"}), Fault(503))
    found.fail("stream", Fault(429, headers={"Retry-After": "0"}), Fault(502))
    async with workers_of(found, handler):
        assert len(images(await run(backend, order()))) == 1
    assert (found.count("run"), len(found.jobs)) == (3, 1)


async def test_a_runpod_that_stays_busy_has_no_room(backend: RunpodBackend, found: RunPod) -> None:
    found.fail("run", *[Fault(429)] * 3)
    failed = failure(await run(backend, order()))
    assert (failed.code, failed.retryable) == ("capacity", True)


@pytest.mark.parametrize(
    ("result", "status", "code", "retryable"),
    [
        ({}, "TIMED_OUT", "timeout", True),
        ({}, "CANCELLED", "rejected", False),
        ({"error": "worker exited with exit code 137"}, "", "backend", False),
        ({"error": '{"error_type": "X", "error_message": "out of luck"}'}, "", "backend", False),
        ({"error": '{"code": "out_of_memory", "message": "Too big.", "retryable": true}'}, "", "out_of_memory", True),
        ({"error": '{"code": "storage", "message": "No bucket.", "retryable": true}'}, "", "unreachable", True),
        ({"error": '{"code": "config", "message": "Set it.", "retryable": false}'}, "", "backend", False),
        ({"output": {"images": []}}, "", "garbled", False),
        ({"output": []}, "", "garbled", False),
        ({"output": ["hello"]}, "", "garbled", False),
        ({"output": [{"type": "progress", "current": "x"}]}, "", "garbled", False),
        ({"output": [{"type": "image_generated", "recipe": "{}", "sha256": ""}]}, "", "garbled", False),
        ({}, "EXPLODED", "garbled", False),
    ],
)
async def test_every_end_of_a_job_is_told_truthfully(
    backend: RunpodBackend, found: RunPod, result: dict[str, Any], status: str, code: str, retryable: bool
) -> None:
    failed = failure(await scripted(backend, found, result, status))
    assert (failed.code, failed.retryable) == (code, retryable)


async def test_what_a_worker_says_of_a_request_is_raised(found: RunPod, backend: RunpodBackend, tmp_path: Path) -> None:
    worker = FakeBackend(misfits=["ink"])
    async with workers_of(found, Handler(Studio(settings_for(tmp_path), worker), worker)):
        with pytest.raises(NotFound, match="no-such"):
            await run(backend, order(model="no-such"))
        (tmp_path / "adapters").mkdir()
        (tmp_path / "adapters" / "ink.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"{}")
        with pytest.raises(AdapterMismatch):
            await run(backend, order(adapters=[{"name": "ink"}], on_adapter_mismatch="fail"))
        events = await run(backend, order(adapters=[{"name": "ink"}], count=2))
    assert remarks(events) == ["adapter_mismatch"]
    assert images(events)[0].recipe.adapters[0].status == "skipped"


async def test_one_picture_of_several_may_fail(found: RunPod, backend: RunpodBackend, tmp_path: Path) -> None:
    class Moody(FakeBackend):
        async def run(self, order: Order) -> AsyncGenerator[Event, None]:
            sick = order.plans[0].seed == 8
            async for event in FakeBackend(failures={0: OutOfMemory()} if sick else {}).run(order):
                yield event

    worker = Moody()
    async with workers_of(found, Handler(Studio(settings_for(tmp_path), worker), worker)):
        events = await run(backend, order(count=3))
    assert [image.index for image in images(events)] == [0, 2]
    assert [(e.index, e.code) for e in events if isinstance(e, Failed)] == [(1, "out_of_memory")]
    last = events[-1]
    assert isinstance(last, Done) and (last.status, last.images, last.failed) == ("partial", 2, 1)


async def test_a_stream_that_somebody_else_has_read_loses_nothing(
    found: RunPod, backend: RunpodBackend, handler: Handler
) -> None:
    async with workers_of(found, handler, streams=False):
        events = await run(backend, order(prompt=""))
    assert len(images(events)) == 1
    assert remarks(events) == ["empty_prompt"]


@pytest.mark.parametrize("lost", [False, True])
async def test_a_large_picture_comes_in_parts_of_which_one_may_be_lost(
    found: RunPod, backend: RunpodBackend, handler: Handler, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    monkeypatch.setattr(runpod_wire, "PART_CHARACTERS", 100)
    found.swallows_a_part = lost
    async with workers_of(found, handler):
        assert len(images(await run(backend, order()))) == 1
        assert found.count("status") == lost
        await asyncio.sleep(0.05)
    parts = [chunk for chunk in found.only.output if chunk["type"] == "image_part"]
    assert len(parts) > 3


@pytest.mark.parametrize("harm", ["content", "size", "plan"])
async def test_a_picture_that_is_another_one_is_not_taken(
    found: RunPod, backend: RunpodBackend, handler: Handler, harm: str
) -> None:
    other = order(seed=9) if harm == "plan" else order(stages=[{"width": 128, "height": 64, "steps": 1}])
    chunks: list[dict[str, Any]] = []
    sent = runpod_wire.packed(other if harm != "content" else order(), 0, {}, previews=False)
    async with aclosing(handler.run({"id": "x", "input": sent})) as said:
        chunks.extend([chunk async for chunk in said])
    (painted,) = [chunk for chunk in chunks if chunk["type"] == "image_generated"]
    if harm == "content":
        painted["sha256"] = "0" * 64
    if harm == "size":
        recipe = runpod_wire.Recipe.model_validate_json(painted["recipe"])
        painted["recipe"] = recipe.model_copy(update={"plan": order().plans[0]}).model_dump_json()
    failed = failure(await scripted(backend, found, {"output": chunks}))
    assert failed.code == "garbled"
    assert {"content": "damaged", "size": "128x64", "plan": "another plan"}[harm] in failed.message


async def test_pictures_are_fetched_from_the_workers_bucket_where_that_may_be(
    found: RunPod, worker: FakeBackend, backend: RunpodBackend, tmp_path: Path
) -> None:
    handler = Handler(Studio(settings_for(tmp_path), worker), worker, LinkedStorage(tmp_path, found))
    trusting = backend_of(found, tmp_path, allow_private=True)
    async with workers_of(found, handler):
        (image,) = images(await run(trusting, order()))
        assert (image.width, image.height) == (64, 96)
        failed = failure(await run(backend, order()))
    assert (failed.code, failed.retryable) == ("rejected", False)
    await trusting.aclose()


# --- jobs that are found again


async def test_the_next_attempt_finds_the_job_again(
    found: RunPod, backend: RunpodBackend, handler: Handler, tmp_path: Path
) -> None:
    wanted = replace(order(), token="job_1")
    going = asyncio.create_task(run(backend, wanted))
    await found.asked("stream")
    next_worker = backend_of(found, tmp_path)  # the first one is as good as dead: it never notices anything
    again = asyncio.create_task(run(next_worker, wanted))
    await found.asked("status")
    async with workers_of(found, handler):
        events = await again
        await going
    assert len(images(events)) == 1
    assert remarks(events) == ["found_again"]
    assert found.count("run") == 1
    await next_worker.aclose()


async def test_a_picture_that_is_there_already_is_not_painted_again(
    found: RunPod, backend: RunpodBackend, handler: Handler, worker: FakeBackend
) -> None:
    wanted = replace(order(count=2), token="job_1")
    async with workers_of(found, handler):
        first = images(await run(backend, wanted))
        again = images(await run(backend, wanted))
        assert [image.rgb for image in again] == [image.rgb for image in first]
        assert len(worker.orders) == 2
        await run(backend, replace(wanted, token="job_2"))
        assert len(worker.orders) == 4


async def test_a_job_that_runpod_forgot_or_ended_is_sent_again(
    found: RunPod, backend: RunpodBackend, handler: Handler
) -> None:
    wanted = replace(order(), token="job_1")
    async with workers_of(found, handler):
        await run(backend, wanted)
        found.jobs.clear()
        assert len(images(await run(backend, wanted))) == 1
        found.only.status = "FAILED"
        assert len(images(await run(backend, wanted))) == 1
    assert found.count("run") == 3


async def test_an_id_that_never_came_is_admitted(found: RunPod, backend: RunpodBackend, handler: Handler) -> None:
    wanted = replace(order(), token="job_1")
    found.fail("run", Fault(504, also=True))
    failed = failure(await run(backend, wanted))
    assert (failed.code, failed.retryable) == ("unreachable", True)
    async with workers_of(found, handler):
        events = await run(backend, wanted)
    assert remarks(events) == ["sent_again"]
    assert len(found.jobs) == 2


async def test_a_refused_job_leaves_nothing_behind(found: RunPod, backend: RunpodBackend, tmp_path: Path) -> None:
    found.fail("run", Fault(402))
    failure(await run(backend, replace(order(), token="job_1")))
    assert not list((tmp_path / "jobs").iterdir())


async def test_an_id_that_cannot_be_kept_stops_before_anything_is_paid_for(found: RunPod, tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("a file")
    backend = backend_of(found, tmp_path)
    failed = failure(await run(backend, replace(order(), token="job_1")))
    assert failed.code == StorageError.code
    assert not found.jobs
    await backend.aclose()


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_broken_or_old_note_is_as_none(tmp_path: Path) -> None:
    ids = JobIds(tmp_path, "https://runpod.example/v2/a")
    plan = order().plans[0]
    key = ids.key("job_1", plan)
    assert key == ids.key("job_1", plan) != JobIds(tmp_path, "https://runpod.example/v2/b").key("job_1", plan)
    await ids.keep(key, "abc")
    assert await ids.find(key) == "abc"
    (tmp_path / f"{key}.json").write_text("{")
    assert await ids.find(key) is None
    os.utime(tmp_path / f"{key}.json", (0, 0))
    later = JobIds(tmp_path, "https://runpod.example/v2/a")
    await later.keep("other", "def")
    assert _names(tmp_path) == ["other.json"]


# --- ends


async def test_closing_cancels_the_job(found: RunPod, backend: RunpodBackend, tmp_path: Path) -> None:
    wanted = replace(order(count=2), token="job_1")
    going = asyncio.create_task(run(backend, wanted))
    await found.next_job()
    await found.next_job()
    await found.asked("stream", 3)
    going.cancel()
    await asyncio.wait((going,))
    assert [job.status for job in found.jobs.values()] == ["CANCELLED", "CANCELLED"]
    assert not list((tmp_path / "jobs").iterdir())


async def test_closing_while_a_job_is_sent_cancels_it_as_well(found: RunPod, backend: RunpodBackend) -> None:
    body = {"id": "late-1", "status": "IN_QUEUE"}
    found.fail("run", Fault(body=body, after_s=0.2))
    going = asyncio.create_task(run(backend, order()))
    await found.asked("run")
    going.cancel()
    await asyncio.wait((going,))
    assert found.count("cancel") == 1


async def test_a_job_that_takes_too_long_is_cancelled(found: RunPod, tmp_path: Path) -> None:
    backend = backend_of(found, tmp_path, timeout_s=0.3)
    failed = failure(await run(backend, order()))
    assert (failed.code, failed.retryable) == ("timeout", True)
    assert "runpod.timeout_s" in failed.message
    assert found.only.status == "CANCELLED"
    assert found.only.policy == {"executionTimeout": 300, "ttl": 300}
    await backend.aclose()


async def test_a_wait_for_workers_is_told(
    found: RunPod, backend: RunpodBackend, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "COLD_AFTER_S", 0.0)
    going = asyncio.create_task(run(backend, order()))
    await found.asked("stream", 3)
    async with workers_of(found, handler):
        assert remarks(await going) == ["waiting_for_worker"]


async def test_a_server_that_hangs_is_given_up(found: RunPod, tmp_path: Path) -> None:
    backend = backend_of(found, tmp_path, answer_timeout_s=0.1)
    found.fail("run", Fault(after_s=0.5))
    failed = failure(await run(backend, order()))
    assert (failed.code, failed.retryable) == ("timeout", True)
    assert found.count("run") == 1
    await backend.aclose()


async def test_a_server_that_is_gone_is_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    backend = RunpodBackend(RunpodSettings(base_url=f"http://127.0.0.1:{port}", jobs_dir=tmp_path), patience=QUICK)
    failed = failure(await run(backend, order()))
    assert (failed.code, failed.retryable) == ("unreachable", True)
    await backend.aclose()


async def test_an_answer_that_is_no_json_is_garbled(found: RunPod, backend: RunpodBackend) -> None:
    found.fail("run", Fault(body=b"<html>welcome</html>"))
    assert failure(await run(backend, order())).code == "garbled"
    found.fail("run", Fault(body={"id": "../../secrets"}))
    assert failure(await run(backend, order())).code == "garbled"


# --- what is not sent


async def test_a_picture_too_large_for_runpod_is_refused_with_the_limit(found: RunPod, backend: RunpodBackend) -> None:
    noise = Image.frombytes("RGB", (1700, 1700), os.urandom(1700 * 1700 * 3))
    with pytest.raises(Unsupported, match="at most 10,000,000"):
        await run(backend, order(noise, references=[{"path": "any.png"}], denoise=0.5))
    assert not found.seen


@pytest.mark.parametrize("fields", [{"model": "/models/a.safetensors"}, {"adapters": [{"name": "../ink"}]}])
async def test_paths_are_not_sent(found: RunPod, backend: RunpodBackend, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="is a path"):
        await run(backend, order(**fields))
    assert not found.seen


async def test_a_checkpoint_that_the_endpoint_has_not_is_refused_here(found: RunPod, tmp_path: Path) -> None:
    backend = backend_of(found, tmp_path, models=("sketchbook",))
    with pytest.raises(NotFound, match="Choose one of: sketchbook"):
        await run(backend, order(model="flux"))
    assert not found.seen
    await backend.aclose()


async def test_previews_come_only_where_they_are_wanted(found: RunPod, tmp_path: Path, handler: Handler) -> None:
    backend = backend_of(found, tmp_path, previews=False)
    async with workers_of(found, handler):
        events = await run(backend, order())
    assert images(events) and not [event for event in events if isinstance(event, Preview)]
    assert not backend.capabilities().previews
    await backend.aclose()


def test_what_the_backend_needs_is_named() -> None:
    with pytest.raises(ConfigError, match=r"runpod\.endpoint_id"):
        RunpodBackend(RunpodSettings(api_key=SecretStr("x")))
    with pytest.raises(ConfigError, match="LIMNER_RUNPOD__API_KEY"):
        RunpodBackend(RunpodSettings(endpoint_id="abc"))
