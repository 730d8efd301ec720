"""What a worker at RunPod answers: pictures, failures and nothing else, within RunPod's limits."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from limner import runpod_handler
from limner.backends.fake import FakeBackend
from limner.cli import cli
from limner.cli.application import Application
from limner.domain import Recipe
from limner.errors import OutOfMemory, StorageFull
from limner.events import Event
from limner.media.metadata import read_recipe
from limner.ports import Order, Storage
from limner.runpod_handler import Handler
from limner.storage.local import LocalStorage
from limner.studio import Studio
from tests.support.services import settings_for

Chunk = dict[str, Any]
SMALL: Chunk = {"prompt": "a red boat", "width": 64, "height": 96, "preset": "single", "steps": 2, "seed": 7}


def handler_of(folder: Path, backend: FakeBackend | None = None, storage: Storage | None = None) -> Handler:
    backend = backend or FakeBackend()
    return Handler(Studio(settings_for(folder), backend), backend, storage)


async def answer(handler: Handler, job_id: str = "job-1", **fields: Any) -> list[Chunk]:
    """All that a job with these fields yields."""
    return [chunk async for chunk in handler.run({"id": job_id, "input": fields})]


def painted(chunks: list[Chunk]) -> list[Chunk]:
    return [chunk for chunk in chunks if chunk.get("type") == "image_generated"]


def fault(chunks: list[Chunk]) -> Chunk:
    """The error that the job ended with, which RunPod takes for failure."""
    assert list(chunks[-1]) == ["error"]
    return json.loads(chunks[-1]["error"])


def text_of(image: Image.Image, form: str = "PNG") -> str:
    stream = io.BytesIO()
    image.save(stream, form)
    return base64.b64encode(stream.getvalue()).decode()


async def test_a_picture_comes_with_its_recipe_inside(tmp_path: Path) -> None:
    chunks = await answer(handler_of(tmp_path), **SMALL)
    (picture,) = painted(chunks)
    file = tmp_path / "picture.png"
    file.write_bytes(base64.b64decode(picture["image"]))
    recipe = read_recipe(file)
    assert (recipe.plan.seed, recipe.plan.width, recipe.plan.height) == (7, 64, 96)
    assert Recipe.model_validate_json(picture["recipe"]) == recipe
    assert [chunk["type"] for chunk in chunks if chunk["type"] in ("progress", "preview")][:1] == ["progress"]
    assert chunks[-1]["type"] == "done"
    assert len(json.dumps(chunks)) < 100_000


async def test_names_in_wide_use_mean_our_fields(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    for name in ("ink", "wash"):
        (tmp_path / "adapters" / f"{name}.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    backend = FakeBackend()
    fields: Chunk = {
        "prompt": None,
        "negativePrompt": "blue",
        "width": 64,
        "height": 96,
        "preset": "single",
        "num_inference_steps": 3,
        "guidance_scale": 2.5,
        "seed": -1,
        "num_images": 2,
        "loras": ["ink", {"path": "wash", "strength": 0.5}],
        "model": None,
    }
    chunks = await answer(handler_of(tmp_path, backend), **fields)
    assert [picture["index"] for picture in painted(chunks)] == [0, 1]
    request = backend.orders[0].request
    assert (request.prompt, request.negative_prompt, request.steps, request.cfg) == ("", "blue", 3, 2.5)
    assert [(adapter.name, adapter.weight) for adapter in request.adapters] == [("ink", 1.0), ("wash", 0.5)]
    await answer(handler_of(tmp_path, backend), **SMALL, lora_list={"ink": 0.7})
    assert [(a.name, a.weight) for a in backend.orders[-1].request.adapters] == [("ink", 0.7)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"promt": "a boat"}, "`promt` is unknown"),
        ({"steps": 3, "num_inference_steps": 4}, "differ"),
        ({"model": "/etc/passwd"}, "is a path"),
        ({"loras": ["../../etc/passwd"]}, "is a path"),
        ({"loras": 3}, "Adapters cannot be read"),
        ({"width": 65, "height": 65}, "multiple of 16"),
        ({"previews": "yes"}, "`previews` is neither"),
        ({"backend": "comfyui"}, "paint with backend `fake`"),
        ({"references": [3]}, "base64"),
        ({"references": ["!"]}, "no base64"),
        ({"references": ["aGVsbG8="]}, "references.0"),
        ({"mask": "aGVsbG8="}, "mask"),
        ({"order": {"version": 2}}, "The order cannot be read"),
    ],
)
async def test_what_cannot_be_painted_fails_with_code_and_remedy(tmp_path: Path, fields: Chunk, words: str) -> None:
    given = fields if "order" in fields else {"prompt": "a boat"} | fields
    told = fault(await answer(handler_of(tmp_path), **given))
    assert words in told["message"]
    assert (told["code"], told["retryable"]) == ("unsupported" if "backend" in fields else "invalid_request", False)


@pytest.mark.parametrize("given", [None, "a red boat", 3])
async def test_a_job_without_input_fails(tmp_path: Path, given: object) -> None:
    chunks = [chunk async for chunk in handler_of(tmp_path).run({"id": "x", "input": given})]
    assert fault(chunks)["code"] == "invalid_request"


async def test_references_and_masks_come_as_base64(tmp_path: Path) -> None:
    backend = FakeBackend()
    handler = handler_of(tmp_path, backend)
    red = text_of(Image.new("RGB", (64, 96), "red"))
    mask = Image.new("L", (64, 96), 0)
    mask.paste(255, (32, 0, 64, 96))
    fields: Chunk = SMALL | {"image": f"data:image/png;base64,{red}", "denoise": 0.5}
    chunks = await answer(handler, **fields, mask=text_of(mask))
    (picture,) = painted(chunks)
    image = Image.open(io.BytesIO(base64.b64decode(picture["image"])))
    assert image.getpixel((3, 50)) == (255, 0, 0)
    assert image.getpixel((60, 50)) != (255, 0, 0)
    assert backend.orders[0].mask is not None
    wrong = await answer(handler, **fields, mask=text_of(Image.new("L", (64, 64), 0)))
    assert fault(wrong)["code"] == "invalid_request"


async def test_no_picture_is_never_success(tmp_path: Path) -> None:
    backend = FakeBackend(failures={0: OutOfMemory(), 1: OutOfMemory()})
    told = fault(await answer(handler_of(tmp_path, backend), **SMALL, num_images=2))
    assert (told["code"], told["retryable"]) == ("out_of_memory", True)


async def test_some_pictures_are_a_partial_success(tmp_path: Path) -> None:
    chunks = await answer(handler_of(tmp_path, FakeBackend(failures={0: OutOfMemory()})), **SMALL, n=2)
    assert [picture["index"] for picture in painted(chunks)] == [1]
    assert (chunks[-1]["status"], chunks[-1]["images"], chunks[-1]["failed"]) == ("partial", 1, 1)
    assert not any("error" in chunk for chunk in chunks)


async def test_a_backend_that_breaks_down_is_a_failure_of_the_job(tmp_path: Path) -> None:
    class Broken(FakeBackend):
        async def run(self, order: Order) -> AsyncGenerator[Event, None]:
            raise RuntimeError("device-side assert")
            yield

    told = fault(await answer(handler_of(tmp_path, Broken()), **SMALL))
    assert told["code"] == "backend"
    assert "device-side" not in told["message"]


async def test_jobs_run_together_on_one_backend(tmp_path: Path) -> None:
    class Counting(FakeBackend):
        now = most = 0

        async def run(self, order: Order) -> AsyncGenerator[Event, None]:
            self.now += 1
            self.most = max(self.most, self.now)
            async for event in super().run(order):
                yield event
            self.now -= 1

    backend = Counting(step_s=0.01)
    handler = handler_of(tmp_path, backend)
    answers = await asyncio.gather(*(answer(handler, f"job-{n}", **SMALL) for n in range(3)))
    assert [len(painted(chunks)) for chunks in answers] == [1, 1, 1]
    assert backend.most == 3


async def test_a_stopped_job_stops_painting_though_nobody_closes_it(tmp_path: Path) -> None:
    backend = FakeBackend(step_s=0.02)
    chunks = handler_of(tmp_path, backend).run({"id": "job-1", "input": SMALL | {"steps": 100}})

    async def read() -> None:  # as the SDK does: it is stopped while it sends a message, and drops the generator
        await anext(chunks)
        await asyncio.sleep(60)

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.1)
    assert backend.cancelled == 0
    reading.cancel()
    await asyncio.wait((reading,))
    await asyncio.sleep(0.1)
    assert backend.cancelled == 1
    await chunks.aclose()


@pytest.mark.parametrize(("job_id", "fits"), [("sync-1", 2), ("1-u1", 1)])
async def test_pictures_beyond_runpods_limit_are_told_as_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job_id: str, fits: int
) -> None:
    (picture,) = painted(await answer(handler_of(tmp_path), **SMALL))
    size = len(json.dumps(picture))
    monkeypatch.setattr(runpod_handler, "RESERVE_BYTES", 0)
    monkeypatch.setattr(runpod_handler, "RUN_LIMIT_BYTES", int(size * 1.6))
    monkeypatch.setattr(runpod_handler, "SYNC_LIMIT_BYTES", size * 4)
    chunks = await answer(handler_of(tmp_path), job_id, **SMALL, num_images=2)
    assert len(painted(chunks)) == fits
    failures = [chunk for chunk in chunks if chunk["type"] == "error"]
    assert [(chunk["code"], chunk["index"]) for chunk in failures] == [("too_large", 1)] * (2 - fits)
    monkeypatch.setattr(runpod_handler, "RUN_LIMIT_BYTES", 1000)
    assert fault(await answer(handler_of(tmp_path), "1-u1", **SMALL))["code"] == "too_large"


async def test_previews_are_few_and_only_for_who_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = SMALL | {"preset": "progressive"}
    rough = [chunk for chunk in await answer(handler_of(tmp_path), **fields, previews=True) if "step" in chunk]
    assert [chunk["type"] for chunk in rough].count("preview") == 1  # of three, within two seconds
    assert "preview" not in [chunk["type"] for chunk in await answer(handler_of(tmp_path), **fields)]
    monkeypatch.setattr(runpod_handler, "PREVIEWS_BYTES", 10)
    assert "preview" not in [c["type"] for c in await answer(handler_of(tmp_path), **fields, previews=True)]


class _Linked(LocalStorage):
    async def link(self, key: str, ttl_s: float) -> str | None:
        return f"https://bucket.example/{key}?for={ttl_s:g}"


class _Full(_Linked):
    async def put(self, key: str, content: bytes, media_type: str) -> None:
        raise StorageFull


async def test_pictures_in_a_bucket_are_answered_as_links(tmp_path: Path) -> None:
    storage = _Linked(tmp_path / "bucket")
    chunks = await answer(handler_of(tmp_path, storage=storage), "a/../b", **SMALL, output={"format": "webp"})
    (picture,) = painted(chunks)
    assert picture["url"] == "https://bucket.example/runpod/a----b/0.webp?for=3600"
    assert "image" not in picture
    stored = await storage.get("runpod/a----b/0.webp")
    assert Image.open(io.BytesIO(stored)).format == "WEBP"


async def test_a_bucket_that_takes_nothing_fails_the_job(tmp_path: Path) -> None:
    told = fault(await answer(handler_of(tmp_path, storage=_Full(tmp_path)), **SMALL))
    assert (told["code"], told["retryable"]) == ("storage_full", True)


def test_a_worker_that_would_ask_itself_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_HOME", str(tmp_path))
    monkeypatch.setenv("LIMNER_BACKEND", "runpod")
    result = CliRunner().invoke(cli, ["runpod"], obj=Application())
    assert result.exit_code != 0
    assert "would ask itself" in result.stderr


def test_a_missing_sdk_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_HOME", str(tmp_path))
    monkeypatch.setenv("LIMNER_BACKEND", "fake")
    monkeypatch.setenv("RUNPOD_LOG_LEVEL", "INFO")
    monkeypatch.setitem(sys.modules, "runpod", None)
    monkeypatch.setitem(sys.modules, "runpod.serverless", None)
    result = CliRunner().invoke(cli, ["runpod"], obj=Application())
    assert result.exit_code != 0
    assert "pip install 'limner[runpod]'" in result.stderr
