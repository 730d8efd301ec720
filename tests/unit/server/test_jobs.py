"""`/api/jobs`: submitted, listed, looked at, cancelled, retried."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from limner.backends.fake import FakeBackend
from limner.errors import EngineFault
from limner.jobs.workers import WorkerRows
from limner.server.app import build
from limner.service import Service
from tests.support.services import client_of, fake_service, settings_for, worker_of

SMALL = {"prompt": "a red cat", "width": 64, "height": 64, "steps": 2, "preset": "single"}


async def posted(client: httpx.AsyncClient, wait: float = 0, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/api/jobs", json=SMALL | fields, params={"wait": wait})
    assert answer.is_success, answer.text
    return answer.json()


async def test_a_job_is_accepted_with_its_place(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/jobs", json=SMALL)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/jobs/{job['id']}" == job["links"]["self"]
    assert (job["status"], job["queue_position"], len(job["pictures"])) == ("pending", 0, 1)
    assert job["request"]["prompt"] == "a red cat" and "negative_prompt" not in job["request"]


@pytest.mark.usefixtures("worker")
async def test_waiting_answers_with_the_ended_job_and_links_that_work(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/jobs?wait=30", json=SMALL | {"count": 2})
    job = answer.json()
    assert (answer.status_code, job["status"]) == (200, "completed")
    for picture in job["pictures"]:
        fetched = await client.get(picture["url"])
        assert fetched.headers["content-type"] == "image/png"
        assert isinstance(picture["seed"], str)


async def test_waiting_ends_in_time_when_nobody_paints(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/jobs?wait=0.2", json=SMALL)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")


async def test_an_idempotency_key_means_one_job(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "order-17"}
    first = await client.post("/api/jobs", json=SMALL, headers=key)
    again = await client.post("/api/jobs", json=SMALL, headers=key)
    other = await client.post("/api/jobs", json=SMALL | {"prompt": "a dog"}, headers=key)
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert first.json()["id"] == again.json()["id"] == other.json()["details"]["job_id"]


async def test_names_in_wide_use_are_understood(client: httpx.AsyncClient) -> None:
    body = {"prompt": "a cat", "num_inference_steps": 3, "guidance_scale": 2.5}
    request = (await client.post("/api/jobs", json=body)).json()["request"]
    assert (request["steps"], request["cfg"]) == (3, 2.5)


BAD_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "`colour` is unknown. Remove it."),
    ({"count": -1}, "`count` is -1. Give at least 1."),
    ({"count": "two"}, "`count` is 'two'. Give a whole number."),
    ({"prompt": 7}, "`prompt` is 7. Give a text."),
    ({"prompt": "a" * 32_001}, "Give at most 32,000 characters."),
    ({"prompt": "a\x00cat"}, "It holds the control character U+0000. Take that out."),
    ({"negative_prompt": "a\x1b[31m"}, "control character U+001B"),
    ({"width": 65}, "Give a multiple of 16 from 64 to 4096"),
    ({"seed": 2**64}, "`seed`"),
    ({"sampler": "magic"}, "There is no such sampler. Choose one of: euler"),
    ({"preset": "../../etc/passwd"}, "There is no preset `../../etc/passwd`. Choose one of: "),
    ({"model": "/etc/passwd"}, "is not a name. Choose one of `/api/models`."),
    ({"model": "a/../../secret"}, "is not a name. Choose one of `/api/models`."),
    ({"adapters": [{"name": "../ink"}]}, "is not a name. Choose one of `/api/adapters`."),
    ({"adapters": [{"name": "pyproject.toml"}]}, "There is no adapter `pyproject.toml`. Known: "),
    ({"references": [{"path": "/etc/hostname"}]}, "Upload the file first."),
    ({"references": [{"upload": "upl_1"}]}, "There is no upload `upl_1`."),
    ({"mask": {"upload": "upl_1"}}, "there is no picture. Add a reference picture or leave the mask out."),
    ({"webhook": "ftp://example.com"}, "`webhook`"),
    ({"webhook": "http://127.0.0.1:9/hook"}, "which is not public"),
    ({"webhook": "http://[::ffff:10.0.0.1]/hook"}, "which is not public"),
    ({"backend": "none-such"}, "There is no backend `none-such`. Choose one of: comfyui, fake"),
    ({"priority": 1000}, "`priority` is 1000. Give at most 100."),
]


async def test_a_bad_value_is_refused_with_what_to_change(client: httpx.AsyncClient) -> None:
    for fields, told in BAD_VALUES:
        answer = await client.post("/api/jobs", json=SMALL | fields)
        assert answer.status_code in (404, 422), fields
        assert answer.headers["content-type"] == "application/problem+json"
        assert told in answer.json()["detail"]


async def test_a_checkpoint_that_no_worker_has_is_refused_at_once(
    client: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limner.service.REPORTS_KEPT_S", 0)
    body = {"prompt": "a boat", "model": "sketchbok", "backend": "native"}
    sketchbook = {"name": "sketchbook", "family": "zimage"}
    assert (await client.post("/api/jobs", json=body)).status_code == 202, "nobody has said what there is"

    async def status(report: dict[str, Any], host: str = "") -> tuple[int, str]:
        with monkeypatch.context() as patched:
            if host:
                patched.setattr("socket.gethostname", lambda: host)
            await service.workers.register("w", "native", 1, report)
        answer = await client.post("/api/jobs", json=body)
        return answer.status_code, answer.json().get("detail", "")

    told = "There is no checkpoint `sketchbok`. The nearest: `sketchbook`."
    assert await status({"models": [sketchbook]}) == (404, told)
    assert (await status({"models": [sketchbook, sketchbook | {"name": "sketchbok"}]}))[0] == 202
    await service.workers.remove("w")
    assert (await status({"models": [sketchbook]}, "elsewhere"))[0] == 202, "what lies there only that worker knows"


@pytest.mark.usefixtures("worker")
async def test_a_mask_is_an_upload_that_goes_with_the_picture(
    client: httpx.AsyncClient, service: Service, backend: FakeBackend
) -> None:
    report = {"models": [{"name": "sketchbook", "sha256": "ab" * 32}]}
    await WorkerRows(service.database).register("knows-the-hash", "native", 1, report)

    async def sent(image: Image.Image) -> dict[str, str]:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return {"upload": (await client.post("/api/uploads", files={"file": stream.getvalue()})).json()["id"]}

    left, right = Image.new("RGBA", (64, 64), "black"), Image.new("L", (64, 64))
    left.paste((0, 0, 0, 0), (0, 0, 32, 64))
    right.paste(255, (32, 0, 64, 64))
    fields = {"references": [await sent(Image.new("RGB", (64, 64), "teal"))], "seed": 7}
    for mask, kept_x, painted_x in ((await sent(left), 54, 10), (await sent(right), 10, 54)):
        job = await posted(client, wait=30, **fields, mask=mask)
        assert len(job["request"]["mask"]["sha256"]) == 64 and not job["cached"]
        picture = Image.open(io.BytesIO((await client.get(job["pictures"][0]["url"])).content))
        assert picture.getpixel((kept_x, 9)) == (0, 128, 128) != picture.getpixel((painted_x, 9))
    assert (await posted(client, wait=30, **fields, mask=await sent(right)))["cached"]
    assert len(backend.orders) == 2
    refused = await client.post("/api/jobs", json=SMALL | fields | {"mask": await sent(Image.new("L", (64, 96)))})
    assert refused.status_code == 422
    assert "The mask is 64x96, the reference picture 64x64" in refused.json()["detail"]


async def test_a_long_prompt_in_any_script_is_taken(database_url: str, tmp_path: Path) -> None:
    prompt = "猫🐈\t\n" * 8000
    settings = settings_for(tmp_path, database={"url": database_url})
    async with client_of(build(fake_service(settings))) as client:
        job = await posted(client, prompt=prompt)
        found = (await client.get(f"/api/jobs/{job['id']}")).json()
        assert found["request"]["prompt"] == prompt


@pytest.mark.usefixtures("worker")
async def test_missing_texts_are_empty_ones(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    job = await posted(client, wait=30, prompt=None, negative_prompt=None)
    assert (job["status"], len(job["pictures"])) == ("completed", 1)
    assert (backend.orders[0].plans[0].prompt, backend.orders[0].plans[0].negative_prompt) == ("", "")


async def test_pages_go_through_all_jobs(database_url: str, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, database={"url": database_url})
    async with client_of(build(fake_service(settings))) as client:
        ids = [(await posted(client, prompt=f"cat number {n}"))["id"] for n in range(5)]
        await client.post(f"/api/jobs/{ids[0]}/cancel")
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await client.get("/api/jobs", params={"limit": 2} | cursor)).json()
            seen += [job["id"] for job in page["jobs"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert seen == ids[::-1]
        filters = {"status": ["cancelled", "failed"]}, {"search": "number 3"}, {"status": "completed"}
        found = [(await client.get("/api/jobs", params=params)).json()["jobs"] for params in filters]
        assert [[job["id"] for job in jobs] for jobs in found] == [[ids[0]], [ids[3]], []]


async def test_a_bad_filter_is_refused(client: httpx.AsyncClient) -> None:
    for query in ("cursor=abc", "cursor=-1", "limit=0", "limit=1000", "status=asleep", "search=%00"):
        answer = await client.get(f"/api/jobs?{query}")
        assert answer.status_code in (400, 422), query
        assert answer.json()["code"] == "invalid_request"


async def test_a_waiting_job_is_cancelled_and_run_again(client: httpx.AsyncClient, service: Service) -> None:
    job = await posted(client)
    cancelled = (await client.post(f"/api/jobs/{job['id']}/cancel")).json()
    assert cancelled["status"] == "cancelled"
    retried = await client.post(f"/api/jobs/{job['id']}/retry")
    assert (retried.status_code, retried.json()["status"]) == (202, "pending")
    early = await client.post(f"/api/jobs/{job['id']}/retry")
    assert (early.status_code, early.json()["code"]) == (409, "conflict")


async def test_only_what_failed_is_run_again(tmp_path: Path) -> None:
    backend = FakeBackend(failures={1: EngineFault("The latent holds numbers that are not finite.")})
    service = fake_service(settings_for(tmp_path), backend)
    async with client_of(build(service)) as client, worker_of(service):
        job = await posted(client, wait=30, count=3)
        assert job["status"] == "partial"
        assert job["pictures"][1]["error"]["code"] == "engine_fault"
        kept = [picture["image_id"] for picture in job["pictures"]]
        await client.post(f"/api/jobs/{job['id']}/retry")
        while (job := (await client.get(f"/api/jobs/{job['id']}")).json())["status"] != "completed":
            assert job["status"] in ("pending", "processing")
            await asyncio.sleep(0.05)
        assert len(backend.orders[1].plans) == 1
        assert [picture["image_id"] for picture in job["pictures"]][::2] == kept[::2]


async def test_only_a_waiting_job_changes_its_priority(client: httpx.AsyncClient) -> None:
    first, second = await posted(client), await posted(client, prompt="a dog")
    raised = await client.patch(f"/api/jobs/{second['id']}", json={"priority": 5})
    assert raised.json()["priority"] == 5
    assert (await client.get(f"/api/jobs/{first['id']}")).json()["queue_position"] == 1
    await client.post(f"/api/jobs/{second['id']}/cancel")
    late = await client.patch(f"/api/jobs/{second['id']}", json={"priority": 9})
    assert (late.status_code, late.json()["code"]) == (409, "conflict")


@pytest.mark.usefixtures("worker")
async def test_the_same_recipe_is_not_painted_twice_unless_asked(
    client: httpx.AsyncClient, service: Service, backend: FakeBackend
) -> None:
    report = {"models": [{"name": "sketchbook", "sha256": "ab" * 32}]}
    await WorkerRows(service.database).register("knows-the-hash", "native", 1, report)
    first = await posted(client, wait=30, seed=3)
    cached = await posted(client, seed=3)
    assert (first["cached"], cached["cached"], cached["status"]) == (False, True, "completed")
    assert await posted(client, wait=30, seed=3, reuse=False) != cached and len(backend.orders) == 2
    assert not (await posted(client, wait=30, seed=4))["cached"]


async def test_pictures_painted_before_tell_what_became_of_their_adapters(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "ink.safetensors").write_bytes(bytes([2, 0, 0, 0, 0, 0, 0, 0]) + b"{}")
    service = fake_service(settings_for(tmp_path), FakeBackend(misfits=["ink"]))
    async with client_of(build(service)) as client, worker_of(service):
        report = {"models": [{"name": "sketchbook", "sha256": "ab" * 32}]}
        await WorkerRows(service.database).register("knows-the-hash", "native", 1, report)
        first, again = [await posted(client, wait=30, seed=3, adapters=[{"name": "ink"}]) for _ in range(2)]
        assert again["cached"] and first["warnings"]
        assert (again["adapters"], again["warnings"]) == (first["adapters"], first["warnings"])
        assert again["adapters"][0]["status"] == "skipped"
        strict = await posted(client, seed=3, adapters=[{"name": "ink"}], on_adapter_mismatch="fail")
        assert not strict["cached"]


async def test_too_many_waiting_jobs_are_refused_for_now(tmp_path: Path) -> None:
    service = fake_service(settings_for(tmp_path, jobs={"waiting_limit": 2}))
    async with client_of(build(service)) as client:
        answers = [await client.post("/api/jobs", json=SMALL) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert answers[2].headers["retry-after"].isdigit()
        assert answers[2].json()["retryable"] is True


async def test_an_unknown_job_is_not_found(client: httpx.AsyncClient) -> None:
    for method, action in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/events")):
        answer = await client.request(method, f"/api/jobs/job_nowhere{action}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
