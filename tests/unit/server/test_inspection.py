"""A picture dropped on the page: what is told of how it was made."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import PngImagePlugin

from limner.domain import AdapterRequest, OutputSettings, Recipe
from limner.jobs.workers import WorkerRows
from limner.media.metadata import encoded
from limner.service import Service
from tests.support.jobs import stored_picture
from tests.support.records import gradient, recipe


def bearing(text: str) -> bytes:
    """A PNG with such a `parameters` text."""
    chunks, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    chunks.add_text("parameters", text)
    gradient().save(stream, "PNG", pnginfo=chunks)
    return stream.getvalue()


@pytest.fixture
async def sketchbook(client: httpx.AsyncClient, service: Service) -> None:
    """A worker that has the checkpoint of our recipes, in other weights."""
    model = {"name": "sketchbook", "sha256": "ab" * 32, "problem": ""}
    await WorkerRows(service.database).register("w", "native", 1, {"models": [model]})


async def told(client: httpx.AsyncClient, content: bytes) -> dict[str, Any]:
    answer = await client.post("/api/images/inspect", files={"file": ("../a cat.png", content, "image/png")})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.usefixtures("sketchbook")
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_our_own_picture_gives_the_request_of_that_one_picture(client: httpx.AsyncClient, kind: Any) -> None:
    made = recipe(count=4, adapters=(AdapterRequest(name="ink", weight=0.5),), width=640, height=480)
    made = made.model_copy(update={"plan": made.plan.model_copy(update={"seed": 2**64 - 1})})
    found = await told(client, encoded(gradient(), made, OutputSettings(format=kind)))
    assert found["source"] == "limner"
    assert found["request"] == {
        "prompt": "a red boat",
        "seed": str(2**64 - 1),
        "width": 640,
        "height": 480,
        "model": "sketchbook",
        "adapters": [{"name": "ink", "weight": 0.5, "trigger": ""}],
    }
    assert Recipe.model_validate(found["recipe"]) == made
    assert found["notes"] == ["Checkpoint `sketchbook` is not the one that it was made with; the picture will differ."]
    assert (await client.post("/api/jobs", json=found["request"])).status_code == 202


@pytest.mark.usefixtures("sketchbook")
async def test_a_recipe_that_names_no_hash_is_not_said_to_differ(client: httpx.AsyncClient) -> None:
    made = recipe().model_copy(update={"checkpoint_sha256": ""})
    assert (await told(client, encoded(gradient(), made, OutputSettings(format="png"))))["notes"] == []


@pytest.mark.usefixtures("sketchbook")
async def test_what_is_not_here_is_named(client: httpx.AsyncClient, tmp_path: Path) -> None:
    made = recipe(
        adapters=(AdapterRequest(name="gone"),), references=({"path": str(tmp_path / "a.png")},), backend="elsewhere"
    )
    made = made.model_copy(
        update={"checkpoint": "other", "request": made.request.model_copy(update={"preset": "mine"})}
    )
    found = await told(client, encoded(gradient(), made, OutputSettings()))
    assert found["request"].keys() == {"prompt", "stages", "seed"}
    assert [stage["width"] for stage in found["request"]["stages"]] == [176, 336, 672]
    assert found["notes"] == [
        "Preset `mine` is not here; its stages were taken from the picture.",
        "Backend `elsewhere` is not here; the usual one is used.",
        "It was made with checkpoint `other`, which no worker has; choose one of yours.",
        "LoRA `gone` at 1 is not here and was left out. Put its file into the folder of adapters.",
        "It began with another picture, which is not here. Add that picture again.",
    ]


async def test_a_picture_that_began_with_one_of_the_gallery_keeps_it(
    client: httpx.AsyncClient, service: Service
) -> None:
    original = await stored_picture(service.store, service.gallery)
    made = recipe(references=({"image": original.id},), denoise=0.5)
    found = await told(client, encoded(gradient(), made, OutputSettings()))
    assert found["request"]["references"][0]["image"] == original.id and found["request"]["denoise"] == 0.5
    await client.delete(f"/api/images/{original.id}")
    found = await told(client, encoded(gradient(), made, OutputSettings()))
    assert "references" not in found["request"] and "Add that picture again." in found["notes"][-1]


@pytest.mark.usefixtures("sketchbook")
async def test_a_picture_of_the_web_ui_gives_a_request(client: httpx.AsyncClient) -> None:
    found = await told(
        client,
        bearing(
            "a red boat <lora:ink:0.5> <lora:furry:0.7>\nNegative prompt: fog\n"
            "Steps: 9, Sampler: Euler a, CFG scale: 2, Seed: 9007199254740993, Size: 512x500, Model: sketchbook"
        ),
    )
    assert (found["source"], found["recipe"]) == ("a1111", None)
    assert found["request"] == {
        "prompt": "a red boat",
        "negative_prompt": "fog",
        "steps": 9,
        "cfg": 2.0,
        "seed": "9007199254740993",
        "sampler": "euler_ancestral",
        "width": 512,
        "height": 496,
        "model": "sketchbook",
        "adapters": [{"name": "ink", "weight": 0.5}],
    }
    assert found["notes"] == [
        "Its size 512x500 became 512x496: sides are multiples of 16 from 64 to 4096.",
        "LoRA `furry` at 0.7 is not here and was left out. Put its file into the folder of adapters.",
    ]
    assert (await client.post("/api/jobs", json=found["request"])).status_code == 202


@pytest.mark.parametrize("text", ["", "just some words"])
async def test_a_picture_that_says_nothing_known_says_so(client: httpx.AsyncClient, text: str) -> None:
    found = await told(client, bearing(text))
    assert (found["source"], found["request"], found["recipe"]) == ("none", None, None)
    assert len(found["notes"]) == 1 and "/tmp" not in found["notes"][0]


@pytest.mark.parametrize("content", [b"", b"<svg/>", bearing("")[:60]])
async def test_what_is_no_picture_is_a_problem(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/api/images/inspect", files={"file": ("../a cat.png", content, "image/png")})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["detail"].startswith("Picture `a cat.png` ")


async def test_half_characters_in_a_recipe_do_not_break_the_answer(client: httpx.AsyncClient) -> None:
    values = recipe().model_dump(mode="json") | {"checkpoint": "\ud800"}
    chunks, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    chunks.add_itxt("limner", json.dumps({"version": 1, "recipe": values}))
    gradient().save(stream, "PNG", pnginfo=chunks)
    found = await told(client, stream.getvalue())
    assert found["recipe"]["checkpoint"] == "?" and "checkpoint `?`, which no worker has" in found["notes"][0]
