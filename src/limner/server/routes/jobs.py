"""`/api/jobs`: submit, list, look at, cancel, retry, and follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field
from starlette.websockets import WebSocketState

from limner.domain import LOCAL_OWNER, GenerationRequest, JobStatus
from limner.errors import Conflict
from limner.jobs.records import JobFilter
from limner.server.feed import Message
from limner.server.sse import last_event_id, stream
from limner.server.state import Owner, Parts, State
from limner.server.views import JobPage, JobView, job_view
from limner.server.webhooks import check_url

router = APIRouter(prefix="/api", tags=["jobs"])
MAX_WAIT_S = 300.0


class JobBody(GenerationRequest):
    """A request for pictures, and how it shall be run."""

    priority: int = Field(default=0, ge=-100, le=100, description="more goes first")
    webhook: str | None = Field(default=None, max_length=2000, pattern=r"^https?://", description="told of the end")
    reuse: bool = Field(default=True, description="whether pictures that were painted before may be the answer")

    def request(self) -> GenerationRequest:
        """What is to be painted."""
        given = self.model_fields_set - {"priority", "webhook", "reuse"}
        return GenerationRequest.model_validate({name: getattr(self, name) for name in given})


class Priority(BaseModel):
    """A new priority."""

    model_config = ConfigDict(extra="forbid")
    priority: int = Field(ge=-100, le=100)


ENDED: dict[int | str, dict[str, Any]] = {200: {"model": JobView, "description": "it was there already, or has ended"}}


@router.post("/jobs", operation_id="jobs_submit", status_code=202, summary="Ask for pictures", responses=ENDED)
async def submit(
    body: JobBody,
    parts: Parts,
    owner: Owner,
    request: Request,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="seconds to wait for the job's end")] = 0,
) -> JobView:
    """Answers at once with the job, or with the ended job when it ends within `wait` seconds."""
    if body.webhook is not None:
        check_url(body.webhook, parts.webhooks.allow_private)
    job, new = await parts.service.submit(
        body.request(),
        owner,
        priority=body.priority,
        idempotency_key=idempotency_key,
        webhook=body.webhook,
        reuse=body.reuse,
    )
    if wait:
        job = await parts.ended(job, request, wait)
    response.headers["Location"] = f"/api/jobs/{job.id}"
    if job.status.final or not new:
        response.status_code = 200
    return job_view(parts.links, job)


@router.get("/jobs", operation_id="jobs_list", summary="List jobs, newest first")
async def list_jobs(
    parts: Parts,
    owner: Owner,
    status: Annotated[list[JobStatus] | None, Query()] = None,
    search: Annotated[str, Query(max_length=500, description="words of the prompt")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
) -> JobPage:
    """A page of jobs, and the cursor of the next one."""
    page = await parts.service.store.list(JobFilter(owner, tuple(status or ()), search), limit, cursor)
    return JobPage(jobs=tuple(job_view(parts.links, job) for job in page.items), next_cursor=page.next_cursor)


@router.get("/jobs/{job_id}", operation_id="jobs_get", summary="Look at a job")
async def get_job(job_id: str, parts: Parts, owner: Owner) -> JobView:
    """The job as it is now."""
    job = await parts.service.store.get(job_id, owner)
    more: dict[str, Any] = {}
    if not job.status.final:
        live = await parts.service.store.shown(job_id=job_id)
        more["progress"] = [{"index": state.picture} | state.progress for state in live if state.progress]
    if job.webhook:
        more["deliveries"] = await parts.webhooks.of_job(job_id)
    return job_view(parts.links, job, **more)


@router.post("/jobs/{job_id}/cancel", operation_id="jobs_cancel", summary="End a job")
async def cancel(job_id: str, parts: Parts, owner: Owner) -> JobView:
    """A waiting job ends at once, a running one within a step; what is painted stays."""
    return job_view(parts.links, await parts.service.store.cancel(job_id, owner))


@router.post("/jobs/{job_id}/retry", operation_id="jobs_retry", status_code=202, summary="Run again what failed")
async def retry(job_id: str, parts: Parts, owner: Owner) -> JobView:
    """Only what is not painted yet is run again."""
    return job_view(parts.links, await parts.service.store.retry(job_id, owner))


@router.patch("/jobs/{job_id}", operation_id="jobs_change", summary="Change a waiting job's priority")
async def change(job_id: str, body: Priority, parts: Parts, owner: Owner) -> JobView:
    """More goes first."""
    job = await parts.service.store.set_priority(job_id, body.priority, owner)
    if job.status is not JobStatus.PENDING:
        raise Conflict(f"Job `{job_id}` is {job.status}. Only a waiting job has a place in the line.")
    return job_view(parts.links, job)


EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "events; the `data` of each is one of these messages",
        "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/EventMessage"}}},
    }
}
NOTHING_MORE: dict[int | str, dict[str, Any]] = {204: {"description": "nothing more will come"}}


@router.get(
    "/jobs/{job_id}/events",
    operation_id="jobs_follow",
    summary="Follow a job",
    response_class=Response,
    responses=EVENTS | NOTHING_MORE,
)
async def job_events(
    job_id: str, parts: Parts, owner: Owner, last_event: Annotated[str | None, Header(alias="Last-Event-ID")] = None
) -> Response:
    """Server-sent events until the job is done; `Last-Event-ID` goes on exactly behind that event.

    204 when there is nothing more to come: that ends a browser's `EventSource`.
    """
    after = last_event_id(last_event)
    job = await parts.service.store.get(job_id, owner)
    if job.status.final and not await parts.service.store.events(job_id, after, limit=1):
        return Response(status_code=204)
    return stream(parts.feed.of_job(job_id, after))


@router.get(
    "/events",
    operation_id="jobs_follow_all",
    summary="Follow all jobs",
    response_class=Response,
    responses=EVENTS,
)
async def all_events(
    parts: Parts, owner: Owner, last_event: Annotated[str | None, Header(alias="Last-Event-ID")] = None
) -> Response:
    """Server-sent events of all of one's jobs; without `Last-Event-ID` from now on."""
    after = last_event_id(last_event) if last_event else (await parts.service.store.newest())[0]
    return stream(parts.feed.of_owner(owner, after))


@router.websocket("/ws")
async def socket(websocket: WebSocket, after: int | None = None) -> None:
    """The events of `/api/events` as JSON messages `{id, event, data}`; `?after=` goes on behind that id."""
    parts: State = websocket.app.state.limner
    await websocket.accept()
    start = (await parts.service.store.newest())[0] if after is None else after
    tasks = [
        asyncio.create_task(_send_all(websocket, parts.feed.of_owner(LOCAL_OWNER, start))),
        asyncio.create_task(_until_closed(websocket)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if websocket.application_state is not WebSocketState.DISCONNECTED:
            with suppress(RuntimeError):  # the other side has gone
                await websocket.close(1011)


async def _until_closed(websocket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.receive_text()


async def _send_all(websocket: WebSocket, messages: AsyncGenerator[Sequence[Message]]) -> None:
    async for some in messages:
        for message in some:
            await websocket.send_json({"id": message.id, "event": message.type, "data": message.data})
