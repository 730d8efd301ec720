"""What goes into the store and comes out of it: jobs to be made, claims, events, pages, progress.

A database may hold what another release of limner wrote and this one cannot read: such a job is shown with its prompt,
and fails, with that as its reason, when a worker of this release begins it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from limner.domain import AdapterOutcome, Fault, GenerationRequest, Job, JobStatus, PictureState, Plan, Recipe, Record
from limner.errors import BackendError, InvalidRequest
from limner.validation import problems

RELEASE = version("limner")
RecordT = TypeVar("RecordT", bound=Record)


class Fact(NamedTuple):
    """An event that is not written yet; `since` is when it came about by `time.monotonic`, now where it is absent."""

    type: str
    data: dict[str, Any]
    since: float | None = None


Told = Sequence[Fact]
"""Events to be written, in their order."""


def new_id(kind: str) -> str:
    """A fresh id such as `job_019ab3…`: ids of one kind sort by time, roughly."""
    stamp = int(time.time() * 1000)
    return f"{kind}_{stamp:012x}{uuid.uuid4().hex[:16]}"


@dataclass(frozen=True)
class NewJob:
    """What a job is made of when it is submitted."""

    owner: str
    request: GenerationRequest
    plans: tuple[Plan, ...]
    lane: str
    fingerprint: str
    recipe_keys: tuple[str | None, ...] = ()
    model: str = ""
    priority: int = 0
    max_attempts: int = 3
    idempotency_key: str | None = None
    webhook: str | None = None
    reuse: bool = True
    waiting_limit: int | None = None


@dataclass(frozen=True)
class Claim:
    """An attempt's right to write about a job."""

    job_id: str
    attempt: int
    owner: str
    worker: str


@dataclass(frozen=True)
class StoredEvent:
    """An event of the durable log; `id` orders all events, `number` those of one job."""

    id: int
    job_id: str
    number: int
    owner: str
    type: str
    data: dict[str, Any]
    created_at: float

    def body(self) -> dict[str, Any]:
        """The event as it goes to subscribers."""
        return {"type": self.type, "job_id": self.job_id, "number": self.number, "at": self.created_at, **self.data}


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are listed; absent fields do not restrict."""

    owner: str | None = None
    statuses: tuple[JobStatus, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Page:
    """Some records, and where the next ones begin."""

    items: list[Any]
    next_cursor: str | None = None


@dataclass(frozen=True)
class LiveState:
    """The newest progress and preview of one picture under way; `version` rises with every change."""

    job_id: str
    picture: int
    version: int
    progress: dict[str, Any] | None = None
    preview: bytes | None = None
    preview_at: dict[str, Any] | None = None
    owner: str = ""


@dataclass
class NewImage:
    """A picture that is in the storage already."""

    id: str
    number: int
    width: int
    height: int
    format: str
    size_bytes: int
    sha256: str
    key: str
    thumbnail_key: str
    recipe: Recipe


def serial(cursor: str) -> int:
    """The place that a page's cursor stands for. Raises `InvalidRequest`."""
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise InvalidRequest(f"The cursor {cursor[:40]!r} is not one of ours. Leave it out to begin at the newest.")
    return int(cursor)


def told_of_image(values: dict[str, Any]) -> dict[str, Any]:
    """What the event about a stored picture tells, from the columns of its row."""
    told = {"index": values["number"], "image_id": values["id"]}
    told |= {name: values[name] for name in ("width", "height", "seed")}
    return told | {"adapters": values["recipe"].get("adapters", [])}


def end_of(job: Job) -> Fact:
    """The event with which a job's log ends."""
    painted = sum(picture.image_id is not None for picture in job.pictures)
    failed = sum(picture.error is not None for picture in job.pictures)
    return Fact("done", {"status": job.status, "images": painted, "failed": failed})


def known(kind: type[RecordT], values: dict[str, Any]) -> RecordT:
    """A record of something that has happened, without what only another release knows."""
    return kind.model_validate({name: value for name, value in values.items() if name in kind.model_fields})


def job_of(row: Any, states: tuple[PictureState, ...], strictly: bool = False) -> Job:
    """The job of a row of `jobs`, with the states of its pictures.

    Raises `ValidationError` for what this release cannot read, if it is to be read `strictly`; else leaves that out.
    """
    try:
        request = GenerationRequest.model_validate(row.request)
        plans = tuple(Plan.model_validate(plan) for plan in row.plans)
    except ValidationError:
        if strictly:
            raise
        request, plans = GenerationRequest.model_construct(prompt=row.prompt), ()
    return Job(
        id=row.id,
        seq=row.seq,
        lane=row.lane,
        owner=row.owner,
        status=JobStatus(row.status),
        request=request,
        plans=plans,
        pictures=states,
        priority=row.priority,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        cancel_requested=row.cancel_requested,
        adapters=tuple(known(AdapterOutcome, outcome) for outcome in row.adapters),
        warnings=tuple(row.warnings),
        error=known(Fault, row.error) if row.error else None,
        cached=row.cached,
        worker=row.worker,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        webhook=row.webhook,
    )


def unreadable(release: str, error: ValidationError) -> Fault:
    """Why a job that `release` has written cannot be run by this one."""
    parts = ", ".join(f"`{'.'.join(problem.path)}`" for problem in problems(error)[:3] if problem.path)
    reason = f"does not understand {parts or 'its request'}"
    if release == RELEASE:
        message = f"The row of this job is damaged: limner {reason}. Send the request again."
    else:
        writer = f"limner {release}" if release else "another release of limner"
        message = (
            f"This job was written by {writer}, and this worker, limner {RELEASE}, {reason}. "
            f"Run workers of {writer}, and retry the job."
        )
    return Fault(code=BackendError.code, message=message)
