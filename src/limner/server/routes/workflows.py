"""`/api/workflows`: run ComfyUI's workflows without ComfyUI, or tell what that would come to."""

from __future__ import annotations

import asyncio
import io
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from limner.domain import GenerationRequest, Reference
from limner.server.routes.jobs import ENDED, MAX_WAIT_S
from limner.server.state import Owner, Parts, State
from limner.server.views import AsGiven, JobView, View, absent, job_view
from limner.workflows.comfyui.changes import read_changes
from limner.workflows.comfyui.explain import lines_of, record_of
from limner.workflows.comfyui.names import Shelf
from limner.workflows.comfyui.nodes import read_workflow
from limner.workflows.comfyui.translate import Translation, translate
from limner.workflows.comfyui.wires import Given

router = APIRouter(prefix="/api/workflows", tags=["workflows"])
MAX_PICTURES = 32
Setting = str | int | float | bool


class WorkflowBody(BaseModel):
    """A workflow of ComfyUI's, and what is set in it."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, allow_inf_nan=False)
    workflow: dict[str, Any] = Field(description="as ComfyUI saves it, or exports it in its API format")
    changes: dict[str, Setting] = Field(
        default={},
        alias="set",
        description="prompt, negative_prompt, seed, steps, cfg, width, height, count, output, or NODE.input",
    )
    models: dict[str, str] = Field(
        default={}, description="names of checkpoints and LoRAs in the workflow to those here"
    )
    references: dict[str, str] = Field(
        default={},
        max_length=MAX_PICTURES,
        description="ids of uploaded pictures, by the id of the node that loads them",
    )


class WorkflowStageView(View):
    """What a sampler of the workflow does."""

    node: str = Field(description="id of the sampler's node")
    text: str = Field(description="in words")


class WorkflowTroubleView(View):
    """A node that cannot be run natively."""

    node: str = Field(description="its id")
    kind: str = Field(description="its class")
    title: str = Field(description="what the workflow's author calls it; may be empty")
    reason: str = Field(description="why, as half a sentence that follows the node's name")


class WorkflowMissingView(View):
    """Something that a node names and that is not here."""

    node: str = Field(description="the node's id")
    kind: Literal["model", "adapter", "picture"] = Field(description="what it is")
    name: str = Field(description="as the workflow names it")
    near: tuple[str, ...] = Field(description="names here that resemble it")


class WorkflowRemarkView(View):
    """Something about a node that is worth knowing."""

    kind: Literal["ignored", "differs", "note"] = Field(
        description="`ignored` changes nothing in the picture, `differs` may; a `note` is about how limner does it"
    )
    node: str = Field(description="the node's id")
    text: str = Field(description="in words")


class WorkflowView(View):
    """What running a workflow would come to."""

    runs: bool = Field(description="whether it runs natively as it stands")
    output: str = Field(description="id of the node whose picture is painted")
    request: AsGiven | SkipJsonSchema[None] = absent("what it becomes, where it runs")
    stages: tuple[WorkflowStageView, ...] = Field(description="the samplers on the way to the picture, in their order")
    unsupported: tuple[WorkflowTroubleView, ...] = Field(description="nodes that cannot be run natively")
    missing: tuple[WorkflowMissingView, ...] = Field(description="names that are not known here, and pictures to give")
    remarks: tuple[WorkflowRemarkView, ...] = Field(description="what else there is to say of its nodes")
    text: str = Field(description="all of this in words, as several lines")


@router.post(
    "/run", operation_id="workflows_run", status_code=202, summary="Run a workflow of ComfyUI's", responses=ENDED
)
async def run(
    body: WorkflowBody,
    parts: Parts,
    owner: Owner,
    request: Request,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="seconds to wait for the job's end")] = 0,
) -> JobView:
    """Answers with the job that it becomes, as `POST /api/jobs` does.

    Where nodes cannot be run natively nothing is run: `details.unsupported` lists each of them with the reason.
    """
    wanted = (await _translated(body, parts, owner)).complete()
    job, new = await parts.service.submit(wanted, owner, idempotency_key=idempotency_key)
    if wait:
        job = await parts.ended(job, request, wait)
    response.headers["Location"] = f"/api/jobs/{job.id}"
    if job.status.final or not new:
        response.status_code = 200
    return job_view(parts.links, job)


@router.post("/explain", operation_id="workflows_explain", summary="Tell what a workflow would come to")
async def explain(body: WorkflowBody, parts: Parts, owner: Owner) -> WorkflowView:
    """The stages that it becomes, what limner does otherwise, and what stands in the way; nothing is run."""
    translation = await _translated(body, parts, owner)
    record = record_of(translation) | {"request": translation.request, "text": "\n".join(lines_of(translation))}
    return WorkflowView.model_validate(record)


async def _translated(body: WorkflowBody, parts: State, owner: str) -> Translation:
    changes = read_changes(body.changes)
    given = {node: await _given(parts, upload, owner) for node, upload in body.references.items()}
    shelf = await _shelf(parts, body.models)
    return await asyncio.to_thread(lambda: translate(read_workflow(body.workflow), shelf, given, changes))


async def _given(parts: State, upload_id: str, owner: str) -> Given:
    upload = await parts.service.gallery.get_upload(upload_id[:64], owner)
    content = await parts.service.gallery.storage.get(upload.key)
    transparent = await asyncio.to_thread(_transparent, content)
    return Given(Reference(upload=upload.id), (upload.width, upload.height), transparent)


def _transparent(content: bytes) -> bool:
    with Image.open(io.BytesIO(content)) as image:
        return image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


async def _shelf(parts: State, renamed: dict[str, str]) -> Shelf:
    """What living workers have found; what lies beside the server while none has."""
    studio = parts.service.studio
    backend = studio.backend_of(GenerationRequest())

    def beside() -> tuple[dict[str, str], list[str]]:
        able = dict.fromkeys(studio.abilities(backend).models, "")
        return able | (studio.families() if backend == "native" else {}), list(studio.adapter_files())

    known, adapters = await asyncio.to_thread(beside)
    workers = await parts.service.living_workers()
    found = {model["name"]: model.get("family", "") for worker in workers for model in worker.models}
    return Shelf(found if found and backend == "native" else known, adapters, renamed)
