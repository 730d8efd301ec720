"""Health, readiness, figures, and the page that describes the API."""

from __future__ import annotations

import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from limner.jobs.workers import WorkerRows
from limner.service import Service

SMALL = {"prompt": "a cat", "width": 64, "height": 64, "preset": "single", "steps": 1}


async def figures(client: httpx.AsyncClient) -> dict[str, float]:
    """Every sample of `/metrics`, as `name{label=value}`."""
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        sample.name + "".join(f"{{{key}={value}}}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_health_is_not_readiness(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json()["status"] == "ok"
    early = await client.get("/ready")
    assert (early.status_code, early.json()["code"]) == (503, "no_worker")
    assert early.headers["retry-after"].isdigit()


@pytest.mark.usefixtures("worker")
async def test_it_is_ready_with_a_worker(client: httpx.AsyncClient) -> None:
    await client.post("/api/jobs?wait=30", json=SMALL)
    answer = await client.get("/ready")
    assert (answer.status_code, "native" in answer.json()["lanes"]) == (200, True)


async def test_figures_tell_of_jobs_and_of_every_worker(client: httpx.AsyncClient, service: Service) -> None:
    for _ in range(2):
        await client.post("/api/jobs", json=SMALL)
    cancelled = (await client.post("/api/jobs", json=SMALL)).json()["id"]
    await client.post(f"/api/jobs/{cancelled}/cancel")
    statistics = {
        "engine_steps_total": 10,
        "engine_step_pictures_total": 35,
        "engine_busy_seconds_total": 4.5,
        "engine_running_pictures": 3,
        "stage_0_runs_total": 4,
        "stage_0_seconds_total": 2.5,
        "memory_resident_bytes": 1e9,
        "memory_device_bytes": 2e9,
    }
    await WorkerRows(service.database).register("w1", "native", 16, {"statistics": statistics})
    found = await figures(client)
    assert found["limner_jobs{lane=native}{status=pending}"] == 2
    assert found["limner_jobs{lane=native}{status=cancelled}"] == 1
    assert 0 <= found["limner_oldest_wait_seconds{lane=native}"] < 30
    assert found["limner_batch_occupancy_pictures{worker=w1}"] == 3.5
    assert found["limner_stage_seconds_sum{stage=0}{worker=w1}"] == 2.5
    assert found["limner_stage_seconds_count{stage=0}{worker=w1}"] == 4
    assert found["limner_engine_steps_total{worker=w1}"] == 10
    assert found["limner_engine_busy_seconds_total{worker=w1}"] == 4.5
    assert found["limner_memory_bytes{kind=device}{worker=w1}"] == 2e9
    assert found["limner_memory_bytes{kind=resident}{worker=server}"] > 1e6
    assert found["limner_worker_slots{lane=native}{worker=w1}"] == 16


async def test_the_page_on_the_api_needs_nobody_else(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"(src|href)=\"?(https?:)?//", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    described = (await client.get("/openapi.json")).json()["paths"]
    assert {"/api/jobs", "/v1/images/generations", "/generate-image"} <= described.keys()
