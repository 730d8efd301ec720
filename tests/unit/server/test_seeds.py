"""The older interfaces, called as their documents say."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from limner.backends.fake import FakeBackend
from limner.config import load_settings
from limner.errors import EngineFault
from limner.server.app import build
from tests.support.jobs import until
from tests.support.services import client_of, fake_service, settings_for, worker_of


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (80, 60), "teal").save(stream, "PNG")
    return stream.getvalue()


def ended(client: httpx.AsyncClient, path: str, *way: str) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Asks for a task until it has ended."""

    async def look() -> dict[str, Any]:
        body = (await client.get(path)).json()
        for key in way:
            body = body[key]
        assert body["status"] in ("pending", "processing", "completed", "failed")
        return body if body["status"] in ("completed", "failed") else {}

    return look


@pytest.mark.usefixtures("worker")
async def test_the_kontext_service_paints_from_a_form(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    form = {"description": "图像描述", "count": "2", "size": "1024x1024", "steps": "20", "seed": "12345"}
    answer = await client.post("/generate-image", data=form, files={"referenceImage": ("cat.png", png(), "image/png")})
    assert answer.status_code == 200
    task_id = answer.json()["task_id"]
    task = await until(ended(client, f"/api/task-status/{task_id}"))
    assert (task["status"], task["progress"], task["description"]) == ("completed", 100, "图像描述")
    assert task["error_message"] is None
    order = backend.orders[0]
    assert order.reference is not None
    assert [plan.seed for plan in order.plans] == [12345, 12346]
    assert order.plans[0].stages[0].steps == 20
    for index, path in enumerate(task["result_path"]):
        assert path == f"/api/image/{task_id}?index={index}"
        picture = await client.get(path)
        assert picture.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(picture.content)).size == (1024, 1024)
    assert (await client.get(f"/api/image/{task_id}")).status_code == 200
    missing = await client.get(f"/api/image/{task_id}?index=2")
    assert (missing.status_code, "no picture 2" in missing.json()["detail"]) == (404, True)


async def test_a_form_without_a_picture_and_with_empty_fields_is_taken(client: httpx.AsyncClient) -> None:
    answer = await client.post("/generate-image", data={"description": "a cat", "seed": "", "size": ""})
    status = (await client.get(f"/api/task-status/{answer.json()['task_id']}")).json()
    assert (status["status"], status["progress"]) == ("pending", 0)


async def test_a_form_with_bad_values_is_refused(client: httpx.AsyncClient) -> None:
    for fields, told in (
        ({"count": "5"}, "`count` is '5'. Give at most 4."),
        ({"count": "-1"}, "Give at least 1"),
        ({"size": "1000x1000"}, "Give a multiple of 16 from 64 to 4096"),
        ({"size": "big"}, "is not of the form 1024x1024"),
        ({"steps": "many"}, "Give a whole number"),
        ({"description": "a\x00"}, "control character"),
    ):
        answer = await client.post("/generate-image", files={name: (None, value) for name, value in fields.items()})
        assert answer.status_code == 422, fields
        assert told in answer.json()["detail"]
    answer = await client.post("/generate-image", files={"referenceImage": ("../../x.png", b"no picture")})
    assert (answer.status_code, "x.png" in answer.json()["detail"]) == (422, True)


@pytest.mark.usefixtures("worker")
async def test_the_generation_page_asks_until_it_has_its_picture(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/generate", json={"prompt": "a red cat"})
    assert answer.json().keys() == {"data"} and answer.json()["data"].keys() == {"taskId"}
    task = await until(ended(client, f"/api/tasks/{answer.json()['data']['taskId']}", "data"))
    assert (task["status"], task["progress"]) == ("completed", 100)
    assert (await client.get(task["url"])).headers["content-type"] == "image/png"


@pytest.mark.usefixtures("worker")
async def test_the_generation_page_may_send_its_picture_along(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    import base64

    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    body = {"prompt": "in winter", "referenceImage": url, "size": "128x128", "negativePrompt": "rain"}
    task_id = (await client.post("/api/generate", json=body)).json()["data"]["taskId"]
    await until(ended(client, f"/api/tasks/{task_id}", "data"))
    assert backend.orders[0].reference is not None
    assert backend.orders[0].request.negative_prompt == "rain"
    bad = await client.post("/api/generate", json=body | {"referenceImage": "data:image/png;base64,@@"})
    assert (bad.status_code, "data URL" in bad.json()["detail"]) == (422, True)


async def test_a_failed_task_says_why(tmp_path: Path) -> None:
    service = fake_service(settings_for(tmp_path), FakeBackend(failures={0: EngineFault("The latent broke.")}))
    async with client_of(build(service)) as client, worker_of(service):
        task_id = (await client.post("/api/generate", json={"prompt": "a cat"})).json()["data"]["taskId"]
        task = await until(ended(client, f"/api/tasks/{task_id}", "data"))
        assert (task["status"], task["error"], task["url"]) == ("failed", "The latent broke.", None)
        assert (await client.get(f"/api/task-status/{task_id}")).json()["error_message"] == "The latent broke."


def test_the_environment_of_the_kontext_service_is_understood(tmp_path: Path) -> None:
    environ = {
        "HOST": "127.0.0.1",
        "PORT": "9000",
        "DEBUG": "false",
        "COMFYUI_URL": "http://127.0.0.1:8188",
        "COMFYUI_TIMEOUT": "300",
        "MAX_FILE_SIZE": "10485760",
        "MAX_CONCURRENT_TASKS": "3",
        "TASK_CLEANUP_DAYS": "7",
    }
    settings = load_settings({"home": str(tmp_path)}, environ=environ, folder=tmp_path)
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 9000)
    assert settings.server.max_upload_bytes == 10_485_760
    assert (settings.jobs.slots, settings.jobs.cleanup_days) == (3, 7)
