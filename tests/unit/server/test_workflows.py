"""`/api/workflows`: ComfyUI's workflows become jobs, or a problem that names every node in the way."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from PIL import Image

from limner.backends.fake import FakeBackend
from tests.support.graphs import changed, example, node, plain
from tests.support.records import gradient


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(models=("dream", "kontext"))


@pytest.fixture
async def upload(client: httpx.AsyncClient) -> str:
    stream = io.BytesIO()
    gradient(800, 600).save(stream, "PNG")
    return (await client.post("/api/uploads", files={"file": ("garden.png", stream.getvalue())})).json()["id"]


async def posted(client: httpx.AsyncClient, verb: str, workflow: dict[str, Any], **more: Any) -> httpx.Response:
    return await client.post(f"/api/workflows/{verb}", json={"workflow": workflow} | more)


async def test_a_workflow_becomes_a_job(client: httpx.AsyncClient) -> None:
    answer = await posted(client, "run", plain(), set={"count": 2, "5.steps": 3, "prompt": "a cat"})
    job = answer.json()
    assert (answer.status_code, job["status"], len(job["pictures"])) == (202, "pending", 2)
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert (job["request"]["prompt"], job["request"]["model"], job["request"]["stages"][0]["steps"]) == (
        "a cat",
        "dream",
        3,
    )
    assert [picture["seed"] for picture in job["pictures"]] == ["7", "8"]


@pytest.mark.usefixtures("worker")
async def test_a_key_means_one_job_and_waiting_answers_with_its_end(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post("/api/workflows/run?wait=30", json={"workflow": plain()}, headers={"Idempotency-Key": "boat"})
        for _ in range(2)
    ]
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "completed")] * 2
    assert answers[0].json()["id"] == answers[1].json()["id"]


async def test_nodes_in_the_way_are_a_problem_with_details(client: httpx.AsyncClient) -> None:
    workflow = plain(n4=node("EmptyLatentImage", width=64, height=104), n6=node("New", samples=["5", 0]))
    answer = await posted(client, "run", workflow)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "unsupported")
    assert [(found["node"], found["kind"]) for found in problem["details"]["unsupported"]] == [
        ("4", "EmptyLatentImage"),
        ("6", "New"),
    ]


async def test_names_are_mapped_and_unknown_ones_are_told(client: httpx.AsyncClient) -> None:
    workflow = plain(n1=node("CheckpointLoaderSimple", ckpt_name="dreams.safetensors"))
    answer = await posted(client, "run", workflow)
    assert answer.status_code == 404
    assert answer.json()["details"]["missing"][0] == {
        "node": "1", "kind": "model", "name": "dreams.safetensors", "near": ["dream"],
    }  # fmt: skip
    mapped = await posted(client, "run", workflow, models={"dreams": "kontext"})
    assert (mapped.status_code, mapped.json()["request"]["model"]) == (202, "kontext")
    path = await posted(client, "run", workflow, models={"dreams": "/etc/passwd"})
    assert path.status_code == 404


async def test_uploads_stand_for_the_pictures_of_nodes(client: httpx.AsyncClient, upload: str) -> None:
    workflow = example("flux-kontext-basic")
    models = {"flux1-dev-kontext_fp8_scaled": "kontext"}
    without = await posted(client, "run", workflow, models=models)
    assert (without.status_code, without.json()["code"]) == (422, "invalid_request")
    job = (await posted(client, "run", workflow, models=models, references={"142": upload})).json()
    assert job["request"]["references"][0]["upload"] == upload
    assert job["request"]["references_as"] == "context"
    assert [(stage["width"], stage["height"]) for stage in job["request"]["stages"]] == [(1184, 880)]
    unknown = await posted(client, "run", workflow, models=models, references={"142": "nothing"})
    assert unknown.status_code == 404


@pytest.mark.parametrize(("transparent", "runs"), [(True, True), (False, False)])
async def test_a_mask_is_taken_from_the_transparency_of_an_upload(
    client: httpx.AsyncClient, transparent: bool, runs: bool
) -> None:
    image = gradient(64, 96).convert("RGBA")
    if transparent:
        image.paste((0, 0, 0, 0), (0, 0, 32, 32))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    upload = (await client.post("/api/uploads", files={"file": ("cat.png", stream.getvalue())})).json()["id"]
    workflow = plain(
        n4=node("VAEEncode", pixels=["8", 0], vae=["1", 2]),
        n8=node("LoadImage", image="cat.png"),
        n9=node("SetLatentNoiseMask", samples=["4", 0], mask=["8", 1]),
        n5=changed(plain()["5"], latent_image=["9", 0], denoise=0.5),
    )
    view = (await posted(client, "explain", workflow, references={"8": upload})).json()
    assert view["runs"] is runs
    assert Image.open(stream).mode == "RGBA"


async def test_a_workflow_is_explained_and_not_run(client: httpx.AsyncClient) -> None:
    answer = await posted(client, "explain", plain(n5=changed(plain()["5"], seed=2**60)))
    view = answer.json()
    assert (answer.status_code, view["runs"], view["unsupported"], view["missing"]) == (200, True, [], [])
    assert view["request"]["seed"] == str(2**60) and view["request"]["stages"][0]["noise_seed"] == str(2**60)
    assert view["stages"] == [{"node": "5", "text": f"64x96 · 4 steps · cfg 5 · euler, normal · seed {2**60}"}]
    assert view["text"].startswith("Runs natively: 64x96 with checkpoint `dream`.\n")
    broken = (await posted(client, "explain", plain(n5=changed(plain()["5"], scheduler="x")))).json()
    assert (broken["runs"], "request" in broken, broken["unsupported"][0]["node"]) == (False, False, "5")
    assert (await client.get("/api/jobs")).json()["jobs"] == []


async def test_what_is_no_workflow_is_a_problem(client: httpx.AsyncClient) -> None:
    bodies: list[dict[str, Any]] = [{"workflow": {}}, {"workflow": []}, {}, {"workflow": plain(), "x": 1}]
    for body in bodies:
        answer = await client.post("/api/workflows/run", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    unknown = await posted(client, "explain", plain(), set={"9.steps": 3})
    assert unknown.status_code == 404
