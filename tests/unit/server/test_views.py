"""Seeds that JavaScript can read: as numbers where it holds them exactly, else as text."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from limner.domain import MAX_EXACT_SEED, MAX_SEED, GenerationRequest
from limner.service import Service

SMALL: dict[str, Any] = {"prompt": "a red cat", "width": 64, "height": 64}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (7, 7),
        ("7", 7),
        (MAX_EXACT_SEED, MAX_EXACT_SEED),
        (MAX_EXACT_SEED + 1, str(MAX_EXACT_SEED + 1)),
        (str(MAX_SEED), str(MAX_SEED)),
    ],
)
async def test_a_seed_arrives_exactly_and_is_told_exactly(
    client: httpx.AsyncClient, service: Service, sent: Any, told: Any
) -> None:
    stage = {"width": 64, "height": 64, "steps": 1, "noise_seed": sent, "stream_seed": sent}
    job = (await client.post("/api/jobs?wait=30", json={"stages": [stage], "seed": sent})).json()
    assert (job["request"]["seed"], job["request"]["stages"][0]["noise_seed"]) == (told, told)
    stored = await service.store.get(job["id"])
    assert stored.plans[0].seed == stored.plans[0].stages[0].stream_seed == int(sent)
    detail = (await client.get(f"/api/images/{job['pictures'][0]['image_id']}/metadata")).json()
    plan = detail["recipe"]["plan"]
    assert (plan["seed"], plan["stages"][0]["stream_seed"], detail["recipe"]["request"]["seed"]) == (told, told, told)
    saved = await client.post("/api/templates", json={"name": "mine", "request": {"seed": sent}})
    assert saved.json()["request"] == {"seed": told}
    listed = (await client.get("/api/templates")).json()["templates"]
    assert [template["request"] for template in listed] == [{"seed": told}]
    again = await client.post("/api/jobs", json=detail["recipe"]["request"])
    assert again.status_code in (200, 202)


@pytest.mark.parametrize("seed", [str(MAX_SEED + 1), "-1", "1.5", "seven", "0x10"])
async def test_a_text_that_is_no_seed_is_refused(client: httpx.AsyncClient, seed: str) -> None:
    answer = await client.post("/api/jobs", json=SMALL | {"seed": seed})
    assert answer.status_code == 422 and "`seed`" in answer.json()["detail"]


def test_random_seeds_are_numbers_that_javascript_holds(service: Service) -> None:
    seeds = [service.studio.planned(GenerationRequest())[1][0].seed for _ in range(50)]
    assert max(seeds) <= MAX_EXACT_SEED and len(set(seeds)) == 50
