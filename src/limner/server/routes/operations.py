"""For operators and newcomers: is it alive, is it ready, how is it doing, what can it do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from pydantic import Field

from limner.domain import WorkerRecord
from limner.reports import resident_bytes
from limner.server.problems import MEDIA_TYPE, PROBLEM, problem
from limner.server.state import Parts
from limner.server.views import View
from limner.service import NATIVE_LANE

router = APIRouter(tags=["operations"])
# The page brings everything that it needs and asks nobody but this server.
DOCS_POLICY = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"description": "not yet", "content": {MEDIA_TYPE: {"schema": PROBLEM}}}
}


class HealthView(View):
    """The server is alive."""

    status: Literal["ok"] = Field(description="always `ok`")
    version: str = Field(description="of limner")


class ReadyView(View):
    """Pictures can be painted."""

    status: Literal["ready"] = Field(description="always `ready`")
    lanes: tuple[str, ...] = Field(description="kinds of work that living workers take")


@router.get("/docs", include_in_schema=False, response_class=HTMLResponse)
async def docs() -> HTMLResponse:
    """Every route with its parameters; works without a network."""
    page = (files("limner.server") / "docs.html").read_text("utf-8")
    return HTMLResponse(page, headers={"Content-Security-Policy": DOCS_POLICY})


@router.get("/health", operation_id="health", summary="Whether the server is alive")
async def health() -> HealthView:
    """Says nothing of database and workers; `/ready` does."""
    return HealthView(status="ok", version=version("limner"))


@router.get(
    "/ready",
    operation_id="ready",
    summary="Whether pictures can be painted now",
    response_model=ReadyView,
    responses=NOT_READY,
)
async def ready(parts: Parts) -> ReadyView | Response:
    """503 while the database does not answer or no worker is alive."""
    await parts.service.database.check()
    lanes = sorted({worker.lane for worker in await parts.service.living_workers()})
    if NATIVE_LANE not in lanes:
        return problem(503, "no_worker", "No worker is alive yet. Jobs are accepted and wait for one.", retryable=True)
    return ReadyView(status="ready", lanes=tuple(lanes))


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(parts: Parts) -> Response:
    """Jobs by lane and status, waits, and what each worker's engine does: steps, batches, seconds by stage, memory."""
    counts, waits = await parts.service.store.counts(), await parts.service.store.waits()
    workers = await parts.service.living_workers()
    registry = CollectorRegistry()
    registry.register(_Ready([*_of_jobs(counts, waits), *_of_workers(workers)]))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Ready(Collector):
    """Figures that are known already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_jobs(counts: Mapping[tuple[str, str], int], waits: Mapping[str, float]) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("limner_jobs", "Jobs by lane and status", labels=("lane", "status"))
    for labels, count in counts.items():
        jobs.add_metric(labels, count)
    oldest = GaugeMetricFamily("limner_oldest_wait_seconds", "Age of the oldest waiting job", labels=("lane",))
    for lane, seconds in waits.items():
        oldest.add_metric((lane,), seconds)
    yield from (jobs, oldest)


def _of_workers(workers: Iterable[WorkerRecord]) -> Iterator[Metric]:
    each = ("worker",)
    alive = GaugeMetricFamily("limner_worker_slots", "Jobs that a worker takes at a time", labels=("worker", "lane"))
    memory = GaugeMetricFamily("limner_memory_bytes", "Memory of a process by kind", labels=("worker", "kind"))
    for kind, size in resident_bytes().items():
        memory.add_metric(("server", kind), size)
    stages = SummaryMetricFamily("limner_stage_seconds", "Run time of stages", labels=("worker", "stage"))
    steps = CounterMetricFamily("limner_engine_steps", "Steps of the engine", labels=each)
    moved = CounterMetricFamily("limner_engine_step_pictures", "Pictures moved, over all steps", labels=each)
    busy = CounterMetricFamily("limner_engine_busy_seconds", "Seconds in which the engine stepped", labels=each)
    occupancy = GaugeMetricFamily("limner_batch_occupancy_pictures", "Pictures that a step moves", labels=each)
    running = GaugeMetricFamily("limner_engine_running_pictures", "Pictures under way", labels=each)
    for worker in workers:
        figures = worker.statistics
        alive.add_metric((worker.id, worker.lane), worker.slots)
        for name, value in figures.items():
            if found := re.fullmatch(r"memory_(\w+)_bytes", name):
                memory.add_metric((worker.id, found[1]), value)
            elif found := re.fullmatch(r"stage_(\d+)_seconds_total", name):
                runs = figures.get(f"stage_{found[1]}_runs_total", 0)
                stages.add_metric((worker.id, found[1]), int(runs), value)
        if taken := figures.get("engine_steps_total"):
            occupancy.add_metric((worker.id,), figures.get("engine_step_pictures_total", 0) / taken)
        for family, name in (
            (steps, "engine_steps_total"),
            (moved, "engine_step_pictures_total"),
            (busy, "engine_busy_seconds_total"),
            (running, "engine_running_pictures"),
        ):
            if name in figures:
                family.add_metric((worker.id,), figures[name])
    yield from (alive, memory, stages, steps, moved, busy, occupancy, running)
