"""Two older interfaces as their clients know them: the Kontext service's, and the generation page's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from limner.domain import MAX_PROMPT, MAX_SEED, MAX_STEPS, GenerationRequest, Job, JobStatus
from limner.errors import NotFound
from limner.jobs.gallery import MEDIA_TYPES
from limner.server.bodies import kept_data_url, size_of
from limner.server.state import Owner, Parts, State
from limner.server.views import View, image_links
from limner.validation import checked

router = APIRouter(tags=["older interfaces"])
PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}}}

Status = Literal["pending", "processing", "completed", "failed"]


class TaskAccepted(View):
    """The Kontext service's answer to a task."""

    task_id: str = Field(description="the task's id, which is the job's")
    status: Status = Field(description="where the task is")
    message: str = Field(description="for people")


class TaskStatus(View):
    """How a task of the Kontext service is going."""

    id: str = Field(description="the task's id")
    task_id: str = Field(description="the same once more")
    description: str = Field(description="the prompt")
    status: Status = Field(description="where the task is")
    progress: int = Field(description="in per cent")
    result_path: tuple[str, ...] = Field(description="where the pictures are that are painted")
    error_message: str | None = Field(description="why it failed")
    created_at: str = Field(description="when it was accepted, as in ISO 8601, UTC")
    updated_at: str = Field(description="when it began or ended, as in ISO 8601, UTC")


class PageTaskId(View):
    """A task of the generation page."""

    taskId: str = Field(description="the task's id, which is the job's")


class PageAccepted(View):
    """The generation page's answer to a task."""

    data: PageTaskId = Field(description="the task")


class PageTask(View):
    """How a task of the generation page is going."""

    status: Status = Field(description="where the task is")
    url: str | None = Field(description="signed link to the first picture; null until it is painted")
    urls: tuple[str, ...] = Field(description="signed links to the pictures that are painted")
    progress: int = Field(description="in per cent")
    error: str | None = Field(description="why it failed")


class PageTaskAnswer(View):
    """The generation page's answer to the question how a task is going."""

    data: PageTask = Field(description="the task")


@router.post(
    "/generate-image", operation_id="kontext_generate", summary="Kontext service: paint from a reference picture"
)
async def generate_image(
    parts: Parts,
    owner: Owner,
    description: Annotated[str, Form(max_length=MAX_PROMPT)] = "",
    reference: Annotated[UploadFile | None, File(alias="referenceImage")] = None,
    count: Annotated[int, Form(ge=1, le=4)] = 1,
    size: Annotated[str, Form(max_length=40, description="such as 1024x1024, multiples of 16")] = "",
    steps: Annotated[int | None, Form(ge=1, le=MAX_STEPS)] = None,
    seed: Annotated[int | None, Form(ge=0, le=MAX_SEED)] = None,
) -> TaskAccepted:
    """Answers with the task's id; `/api/task-status/{id}` says how it is going.

    A FLUX.1 Kontext checkpoint changes the reference picture where there is one; else the default one starts from it.
    """
    values: dict[str, Any] = {"prompt": description, "count": count, "steps": steps, "seed": seed}
    if size:
        values["width"], values["height"] = size_of(size)
    if reference is not None and reference.filename:
        limit = parts.service.settings.server.max_upload_bytes
        kept = await parts.service.gallery.add_upload(owner, reference.filename, await reference.read(), limit)
        values["references"] = [{"upload": kept.id}]
        values["model"] = await parts.service.editor()
    request = checked(GenerationRequest, {name: value for name, value in values.items() if value is not None})
    job, _ = await parts.service.submit(request, owner)
    return TaskAccepted(task_id=job.id, status=_status(job), message="The task was accepted.")


@router.get("/api/task-status/{task_id}", operation_id="kontext_status", summary="Kontext service: how a task is going")
async def task_status(task_id: str, parts: Parts, owner: Owner) -> TaskStatus:
    """`progress` is in per cent; `result_path` lists where the pictures are."""
    job = await parts.service.store.get(task_id, owner)
    painted = [f"/api/image/{job.id}?index={picture.index}" for picture in job.pictures if picture.image_id]
    return TaskStatus(
        id=job.id,
        task_id=job.id,
        description=job.request.prompt,
        status=_status(job),
        progress=await _per_cent(parts, job),
        result_path=tuple(painted),
        error_message=_reason(job),
        created_at=_timestamp(job.created_at),
        updated_at=_timestamp(job.finished_at or job.started_at or job.created_at),
    )


@router.get(
    "/api/image/{task_id}",
    operation_id="kontext_image",
    summary="Kontext service: a task's picture",
    response_class=Response,
    responses=PICTURE,
)
async def task_image(
    task_id: str, parts: Parts, owner: Owner, index: Annotated[int, Query(ge=0, le=1000)] = 0
) -> Response:
    """The picture's bytes."""
    job = await parts.service.store.get(task_id, owner)
    if index >= len(job.pictures) or not (image_id := job.pictures[index].image_id):
        raise NotFound(f"Task `{task_id}` has no picture {index}, or not yet. Look at its status.")
    image = await parts.service.gallery.get(image_id, owner)
    return Response(await parts.service.gallery.storage.get(image.key), media_type=MEDIA_TYPES[image.format])


class GenerateBody(BaseModel):
    """A request of the generation page."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    prompt: str = Field(default="", max_length=MAX_PROMPT)
    negative_prompt: str = Field(default="", max_length=MAX_PROMPT, alias="negativePrompt")
    reference: str | None = Field(default=None, alias="referenceImage", description="id of an upload, or a data URL")
    preset: str | None = None
    size: str | None = Field(default=None, max_length=40, description="such as 1024x1024, multiples of 16")
    count: int = Field(default=1, ge=1, le=4)
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)


@router.post("/api/generate", operation_id="page_generate", summary="Generation page: paint")
async def generate(body: GenerateBody, parts: Parts, owner: Owner) -> PageAccepted:
    """Answers with the task's id; `/api/tasks/{id}` says how it is going."""
    values = body.model_dump(exclude={"reference", "size"}, exclude_none=True)
    if body.size:
        values["width"], values["height"] = size_of(body.size)
    if body.reference:
        given = body.reference
        upload = await kept_data_url(parts, owner, given) if given.startswith("data:") else given
        values["references"] = [{"upload": upload}]
    job, _ = await parts.service.submit(checked(GenerationRequest, values), owner)
    return PageAccepted(data=PageTaskId(taskId=job.id))


@router.get("/api/tasks/{task_id}", operation_id="page_status", summary="Generation page: how a task is going")
async def task(task_id: str, parts: Parts, owner: Owner) -> PageTaskAnswer:
    """`url` is there when the first picture is; it works in an `<img>`."""
    job = await parts.service.store.get(task_id, owner)
    urls = [image_links(parts.links, picture.image_id)["url"] for picture in job.pictures if picture.image_id]
    found = PageTask(
        status=_status(job),
        url=urls[0] if urls else None,
        urls=tuple(urls),
        progress=await _per_cent(parts, job),
        error=_reason(job),
    )
    return PageTaskAnswer(data=found)


def _status(job: Job) -> Status:
    """In the four words that these clients know."""
    match job.status:
        case JobStatus.PENDING:
            return "pending"
        case JobStatus.PROCESSING:
            return "processing"
        case JobStatus.COMPLETED | JobStatus.PARTIAL:
            return "completed"
        case JobStatus.FAILED | JobStatus.CANCELLED:
            return "failed"


def _reason(job: Job) -> str | None:
    if job.status is JobStatus.CANCELLED:
        return "The task was cancelled."
    return job.error.message if job.error else None


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


async def _per_cent(parts: State, job: Job) -> int:
    if job.status in (JobStatus.COMPLETED, JobStatus.PARTIAL):
        return 100
    done = float(sum(picture.image_id is not None for picture in job.pictures))
    for state in await parts.service.store.shown(job_id=job.id):
        if state.progress and job.plans and job.pictures[state.picture].image_id is None:
            stages = job.plans[state.picture].stages
            before = sum(stage.steps for stage in stages[: state.progress["stage"]])
            done += min(1.0, (before + state.progress["step"]) / sum(stage.steps for stage in stages))
    return min(99, int(100 * done / len(job.pictures)))
