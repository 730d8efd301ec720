"""What there is to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from limner.domain import GenerationRequest
from limner.jobs.workers import WorkerRows
from limner.ports import Capabilities
from limner.server.app import build
from limner.service import Service
from tests.support.services import client_of, fake_service, settings_for

FITS = {"status": "applied", "matched": 8, "total": 8, "reason": ""}
MISFIT = {"status": "skipped", "matched": 0, "total": 8, "reason": "LoRA `flux` is for FLUX. Choose another."}


@pytest.fixture
async def workers(client: httpx.AsyncClient, service: Service) -> None:
    """Two workers: one has looked at everything, the other has the checkpoint in memory."""
    rows = WorkerRows(service.database)
    sketchbook: dict[str, Any] = {"name": "sketchbook", "family": "zimage", "problem": ""}
    broken = {"name": "half", "family": "", "problem": "`half` is truncated. Fetch it again."}
    adapters = [
        {"name": "ink", "fits": {"sketchbook": FITS}},
        {"name": "a-flux", "fits": {"sketchbook": MISFIT}},
    ]
    await rows.register("w1", "native", 4, {"models": [sketchbook, broken], "adapters": adapters})
    await rows.register("w2", "native", 4, {"models": [sketchbook | {"sha256": "ab" * 32}], "loaded": ["sketchbook"]})


@pytest.mark.usefixtures("workers")
async def test_models_are_those_of_all_workers_together(client: httpx.AsyncClient) -> None:
    body = (await client.get("/api/models")).json()
    models = {model["name"]: model for model in body["models"]}
    assert models["sketchbook"]["loaded"] and models["sketchbook"]["sha256"] == "ab" * 32
    assert models["half"]["problem"] == "`half` is truncated. Fetch it again."
    assert (body["default"], body["workers"]) == ("sketchbook", 2)
    listed = (await client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["sketchbook"]


@pytest.mark.usefixtures("workers")
async def test_adapters_say_which_fit_and_why_not(client: httpx.AsyncClient, tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    folder.mkdir()
    for name in ("a-flux", "new"):
        (folder / f"{name}.safetensors").write_bytes(b"")
    rows = (await client.get("/api/adapters", params={"model": "sketchbook"})).json()["adapters"]
    assert [(row["name"], row["fit"] and row["fit"]["status"]) for row in rows] == [
        ("ink", "applied"),
        ("new", None),
        ("a-flux", "skipped"),
    ]
    assert rows[2]["fit"]["reason"] == MISFIT["reason"]
    assert rows[0]["trigger"]
    rows = (await client.get("/api/adapters")).json()["adapters"]
    assert {row["name"]: row["fits"] for row in rows}["ink"] == {"sketchbook": FITS}
    unknown = await client.get("/api/adapters?model=sdxl")
    assert (unknown.status_code, "Known: half, sketchbook" in unknown.json()["detail"]) == (404, True)


@pytest.mark.usefixtures("workers")
async def test_backends_and_presets_are_listed(client: httpx.AsyncClient) -> None:
    backends = (await client.get("/api/backends")).json()
    known = ["comfyui", "native", "openai", "runpod"]
    assert backends["backends"] == known, "the one for tests is offered to nobody"
    assert (await client.post("/api/jobs", json={"backend": "fake"})).status_code == 202
    assert {worker["id"] for worker in backends["workers"]} >= {"w1", "w2"}
    presets = (await client.get("/api/presets")).json()
    assert {"progressive", "single"} <= {preset["name"] for preset in presets["presets"]}
    assert presets["default"] == "progressive" and "euler" in presets["samplers"]


@pytest.mark.usefixtures("workers")
async def test_a_form_learns_what_each_backend_can_do(client: httpx.AsyncClient) -> None:
    able = (await client.get("/api/backends")).json()["capabilities"]
    native = able.pop("native")
    assert native["problem"] == "" and "euler" in native["samplers"] and "karras" in native["schedules"]
    assert all(native[name] for name in ("previews", "adapters", "references", "negative_prompts", "guidance"))
    limits = native["limits"]
    assert (limits["min_side"], limits["max_side"], limits["size_multiple"]) == (64, 4096, 16)
    assert (limits["max_steps"], limits["max_count"], limits["max_references"]) == (200, 64, 16)
    for field, value in (("steps", limits["max_steps"]), ("count", limits["max_count"]), ("cfg", limits["max_cfg"])):
        assert (await client.post("/api/jobs", json={field: value})).status_code == 202
        assert (await client.post("/api/jobs", json={field: value + 1})).status_code == 422


async def test_what_native_can_do_is_known_without_starting_it(tmp_path: Path) -> None:
    service = Service(settings_for(tmp_path, native={"previews": False}))
    async with client_of(build(service)) as client:
        native = (await client.get("/api/backends")).json()["capabilities"]["native"]
    assert (native["previews"], native["models"], service.studio.made("native")) == (False, [], None)


async def test_a_backend_that_cannot_be_made_says_why_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = fake_service(settings_for(tmp_path, backend="fake"))
    abilities = service.studio.abilities

    def broken(name: str) -> Capabilities:
        if name == "fake":
            raise ImportError("no module named paint")
        return abilities(name)

    monkeypatch.setattr(service.studio, "abilities", broken)
    async with client_of(build(service)) as client:
        able = (await client.get("/api/backends")).json()["capabilities"]
    assert able["fake"]["problem"] == "It cannot be made (no module named paint). Look at the log."
    assert able["fake"]["samplers"] == [] and able["native"]["samplers"]


@pytest.mark.usefixtures("workers")
async def test_models_and_presets_tell_the_sizes_that_they_give(client: httpx.AsyncClient, service: Service) -> None:
    model = (await client.get("/api/models")).json()["models"][0]
    assert (model["preset"], model["size"]) == ("progressive", {"width": 672, "height": 864})
    assert (model["size_multiple"], model["guidance"]) == (16, True)
    _, plans = service.studio.planned(GenerationRequest(aspect_ratio="16:9"))
    assert model["sizes"]["16:9"] == {"width": plans[0].width, "height": plans[0].height}
    presets = {preset["name"]: preset for preset in (await client.get("/api/presets")).json()["presets"]}
    _, plans = service.studio.planned(GenerationRequest(preset="sketch", aspect_ratio="1:1"))
    assert presets["sketch"]["sizes"]["1:1"] == {"width": plans[0].width, "height": plans[0].height}


async def test_a_request_is_saved_and_forgotten(client: httpx.AsyncClient) -> None:
    saved = await client.post("/api/templates", json={"name": "ink", "request": {"prompt": "a cat", "count": 2}})
    assert saved.status_code == 201
    assert saved.json()["request"] == {"prompt": "a cat", "count": 2}
    twice = await client.post("/api/templates", json={"name": "ink", "request": {}})
    assert (twice.status_code, twice.json()["code"]) == (409, "conflict")
    assert (await client.post("/api/templates", json={"name": "a\x00", "request": {}})).status_code == 422
    assert [template["name"] for template in (await client.get("/api/templates")).json()["templates"]] == ["ink"]
    path = f"/api/templates/{saved.json()['id']}"
    assert [(await client.delete(path)).status_code for _ in range(2)] == [204, 404]
