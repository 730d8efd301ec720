"""The OpenAPI document is complete enough to make a client from, and what goes over the wire is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_args

import httpx
import pytest
from pydantic import BaseModel

from limner.backends.fake import FakeBackend
from limner.domain import ImageRecord, Job, PictureState, Template, Upload, WorkerRecord
from limner.errors import EngineFault
from limner.jobs.workers import WorkerRows
from limner.server.app import build
from limner.server.messages import EventMessage
from limner.server.routes.catalog import WorkerView
from limner.server.views import ImageDetail, JobView, PictureView, TemplateView, UploadView
from tests.support.jobs import until
from tests.support.services import client_of, fake_service, settings_for, worker_of

PREFIX = "#/components/schemas/"
SIDES = {"width": 64, "height": 64}
# The preview of the first stage can be seen while the second runs.
SMALL: dict[str, Any] = {"prompt": "a red cat", "stages": [SIDES | {"steps": 1}, SIDES | {"steps": 8, "denoise": 0.5}]}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return build(fake_service(settings_for(tmp_path_factory.mktemp("home")))).openapi()


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a document."""
    inner: list[Any] = []
    if isinstance(value, dict):
        yield cast(dict[str, Any], value)
        inner = [*cast(dict[str, Any], value).values()]
    elif isinstance(value, list):
        inner = cast(list[Any], value)
    for item in inner:
        yield from parts(item)


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def named(schemas: dict[str, Any], value: Any) -> set[str]:
    """Names of all records that a part of the document leads to."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        names = {part["$ref"].removeprefix(PREFIX) for part in parts(waiting.pop()) if "$ref" in part}
        waiting += [schemas[name] for name in names - found]
        found |= names
    return found


def test_operations_have_short_names_of_their_own(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document)]
    assert len(set(ids)) == len(ids) > 30
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name) or len(name) > 24] == []


def test_every_answer_is_a_record_whose_fields_are_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    answers = [operation["responses"] for operation in operations(document)]
    for answer in answers:
        for status, response in answer.items():
            for kind, content in response.get("content", {}).items():
                if kind.endswith(("json", "event-stream")):
                    assert list(content["schema"]) == ["$ref"], (status, answer)
    records = named(schemas, answers) | named(schemas, schemas["SocketMessage"])
    assert {"JobPage", "ImageDetail", "Problem", "OpenAIError", "ImageStreamMessage", "EventMessage"} <= records
    fields = [(name, *field) for name in records for field in schemas[name].get("properties", {}).items()]
    assert [(name, field) for name, field, schema in fields if "description" not in schema] == []


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = {PREFIX + name for name in document["components"]["schemas"]}
    assert {part["$ref"] for part in parts(document) if "$ref" in part} <= known


def test_a_field_may_be_absent_or_null_but_not_both(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    job, picture = schemas["JobView"], schemas["PictureView"]
    assert {"url", "thumbnail_url"} == picture["properties"].keys() - set(picture["required"])
    assert {"progress", "deliveries"} == job["properties"].keys() - set(job["required"])
    assert picture["properties"]["url"]["type"] == "string" and "default" not in picture["properties"]["url"]


@pytest.mark.parametrize(("record", "field"), [("JobBody", "seed"), ("Plan", "seed"), ("Stage", "noise_seed")])
def test_the_document_says_that_seeds_may_be_texts(document: dict[str, Any], record: str, field: str) -> None:
    choices = document["components"]["schemas"][record]["properties"][field]["anyOf"]
    assert {choice["type"] for choice in choices} - {"null"} == {"integer", "string"}


@pytest.mark.parametrize(
    ("record", "view"),
    [
        (Job, JobView),
        (PictureState, PictureView),
        (ImageRecord, ImageDetail),
        (Upload, UploadView),
        (Template, TemplateView),
        (WorkerRecord, WorkerView),
    ],
)
def test_no_field_of_a_record_is_forgotten(record: type[BaseModel], view: type[BaseModel]) -> None:
    told = {name for name, field in record.model_fields.items() if not field.exclude}
    assert told - {"models", "adapters", "held"} <= view.model_fields.keys()


async def events(client: httpx.AsyncClient, job_id: str) -> list[dict[str, Any]]:
    """The data of everything that the job's stream tells until its end."""
    answer = await client.get(f"/api/jobs/{job_id}/events")
    return [json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:")]


async def test_every_message_is_one_that_the_document_knows(tmp_path: Path) -> None:
    backend = FakeBackend(
        failures={1: EngineFault("The latent holds numbers that are not finite.")}, misfits=("ink",), step_s=0.15
    )
    service = fake_service(settings_for(tmp_path), backend)
    async with client_of(build(service)) as client, worker_of(service):
        rows = WorkerRows(service.database)
        await rows.register("knows-the-hash", "native", 1, {"models": [{"name": "sketchbook", "sha256": "ab" * 32}]})

        async def told(**fields: Any) -> list[dict[str, Any]]:
            job = (await client.post("/api/jobs", json=SMALL | fields)).json()
            return await events(client, job["id"])

        messages = await told(prompt="", count=2, seed=3, adapters=[{"name": "ink"}])
        messages += await told(prompt="", seed=3, adapters=[{"name": "ink"}])
        job_id = messages[0]["job_id"]
        await client.post(f"/api/jobs/{job_id}/retry")
        messages += await events(client, job_id)
        stopped = (await client.post("/api/jobs", json={"prompt": "a dog", "steps": 100})).json()["id"]

        async def running() -> bool:
            return (await client.get(f"/api/jobs/{stopped}")).json()["status"] == "processing"

        await until(running)
        await client.post(f"/api/jobs/{stopped}/cancel")
        messages += await events(client, stopped)
    seen: set[type[BaseModel]] = set()
    for message in messages:
        known = EventMessage.model_validate(message)
        assert known.model_dump(mode="json", exclude_unset=True) == message
        seen.add(type(known.root))
    kinds = {get_args(kind)[0] for kind in get_args(EventMessage.model_fields["root"].annotation)}
    assert seen == kinds and len(kinds) == 9
    cached = [message for message in messages if message.get("cached")]
    assert [(message["width"], message["seed"], message["adapters"][0]["name"]) for message in cached] == [
        (64, "3", "ink")
    ]
