"""What the server answers to requests that no route can use."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from limner.errors import StorageFull
from limner.server.app import build
from limner.server.problems import MEDIA_TYPE
from limner.service import Service
from limner.storage.s3 import S3Storage
from tests.support.jobs import stored_picture
from tests.support.records import gradient
from tests.support.services import client_of, fake_service, listening, settings_for

JSON = {"Content-Type": "application/json"}


async def test_every_error_is_a_problem(client: httpx.AsyncClient) -> None:
    cases = [
        (await client.get("/nowhere"), 404, "not_found", "There is nothing at /nowhere."),
        (await client.put("/api/jobs"), 405, "method_not_allowed", "PUT cannot be done here, only "),
        (await client.post("/api/jobs", content=b"{'a': 1}", headers=JSON), 400, "invalid_request", "not valid JSON"),
        (await client.post("/api/jobs", content=b"[" * 20_000, headers=JSON), 400, "invalid_request", "Correct"),
        (await client.post("/api/jobs", content=b"\xff\xfe", headers=JSON), 400, "invalid_request", "Correct"),
        (await client.post("/api/jobs", content=b"[1]", headers=JSON), 422, "invalid_request", "Give a group"),
        (await client.post("/api/jobs", content=b"", headers=JSON), 422, "invalid_request", "is missing"),
        (await client.post("/api/jobs", data={"prompt": "a cat"}), 415, "unsupported_media_type", "application/json"),
        (await client.post("/api/uploads", json={"file": "x"}), 415, "unsupported_media_type", "multipart/form-data"),
        (
            await client.post("/api/uploads", files={"other": b"x"}),
            422,
            "invalid_request",
            "`file` is missing. Add it.",
        ),
        (await client.get("/api/jobs/a%00b"), 400, "invalid_request", "NUL"),
        (await client.get("/api/events", headers={"Last-Event-ID": "x"}), 422, "invalid_request", "Last-Event-ID"),
    ]
    for answer, status, code, detail in cases:
        body = answer.json()
        assert (answer.status_code, body["status"], body["code"]) == (status, status, code), answer.text
        assert detail in body["detail"], body
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert body["type"] == f"urn:limner:{code}" and body["title"]


async def test_a_form_is_told_which_field_is_wrong(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/jobs", json={"steps": 0, "stages": [{"width": 70, "height": 64}]})
    fields = answer.json()["details"]["fields"]
    assert fields["steps"] == "`steps` is 0. Give at least 1."
    assert fields.keys() == {"steps", "stages.0.width"}
    whole = await client.post("/api/jobs", json={"width": 64})
    assert "Give both" in whole.json()["detail"] and "details" not in whole.json()


async def test_below_v1_errors_have_openais_form(client: httpx.AsyncClient) -> None:
    cases = [
        (await client.get("/v1/nowhere"), 404),
        (await client.put("/v1/models"), 405),
        (await client.post("/v1/images/generations", content=b"{", headers=JSON), 400),
        (await client.post("/v1/images/generations", json={"n": 1}), 400),
        (await client.post("/v1/images/generations", json={"prompt": "a\x00"}), 400),
    ]
    for answer, status in cases:
        assert answer.status_code == status
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert cases[3][0].json()["error"]["param"] == "prompt"


async def test_a_lone_surrogate_is_refused(client: httpx.AsyncClient) -> None:
    for path in ("/api/jobs", "/v1/images/generations", "/api/generate"):
        answer = await client.post(path, content=b'{"prompt": "\\ud800"}', headers=JSON)
        assert answer.status_code in (400, 422)
        answer = await client.post(path, content=b'{"prompt": "a", "\\ud800": 1}', headers=JSON)
        assert answer.status_code in (400, 422)


async def test_a_storage_that_does_not_answer_and_one_without_room_are_two_things(
    client: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await stored_picture(service.store, service.gallery)

    async def full(*_: object) -> None:
        raise StorageFull("The disk is full. Make room.")

    monkeypatch.setattr(service.gallery.storage, "put", full)
    stream = io.BytesIO()
    gradient().save(stream, "PNG")
    answer = await client.post("/api/uploads", files={"file": stream.getvalue()})
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (507, "storage_full", True)

    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    gone = S3Storage("b", endpoint=endpoint, allow_http=True, access_key_id="a", secret_access_key="s", timeout_s=1.0)
    monkeypatch.setattr(service.gallery, "storage", gone)
    for path in (f"/api/images/{image.id}", f"/api/images/{image.id}/thumbnail"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "storage", True)
        assert int(answer.headers["Retry-After"]) > 0


async def test_an_unforeseen_failure_says_nothing_of_the_inside(
    client: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(service.database, "check", broken)
    answer = await client.get("/ready")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "42" not in answer.text


async def test_a_body_that_says_it_is_too_large_is_refused_unread(service: Service) -> None:
    async with listening(build(service)) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(
            b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100000000\r\n\r\n"
        )
        answer = await asyncio.wait_for(reader.read(), 5)  # to its end: the server hangs up
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413")
        assert json.loads(body)["code"] == "too_large"
        writer.close()


async def test_a_body_without_a_length_is_refused_when_it_has_become_too_large(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal sent
        yield b'{"prompt": "'
        while sent < 100_000_000:
            sent += 100_000
            yield b"a" * 100_000

    for path in ("/api/jobs", "/v1/images/generations"):
        sent = 0
        answer = await client.post(path, content=endless(), headers=JSON)
        assert answer.status_code == 413
        assert "2,097,152 bytes" in answer.text
        assert sent < 5_000_000


async def test_an_upload_may_be_as_large_as_the_setting_says(tmp_path: Path) -> None:
    service = fake_service(settings_for(tmp_path, server={"workers": 0, "max_upload_bytes": 4 * 2**20}))
    async with client_of(build(service)) as client:
        large = await client.post("/api/uploads", files={"file": b"x" * (4 * 2**20 + 1)})
        assert (large.status_code, large.json()["code"]) == (413, "too_large")
        larger = await client.post("/api/uploads", files={"file": b"x" * (7 * 2**20)})
        assert (larger.status_code, larger.json()["code"]) == (413, "too_large")
        wrong = await client.post("/api/uploads", files={"file": b"x" * (3 * 2**20)})
        assert wrong.status_code == 422
