"""OpenAI's Images API: `/v1/images/generations`, `/v1/images/edits`, `/v1/models`.

Requests become jobs like all others, so that a picture asked for here is in the gallery and survives a crash. Errors
have OpenAI's form, with all four keys. What is understood but not acted on is named in `warnings`.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from limner import errors as e
from limner.domain import MAX_PROMPT, MAX_SEED, GenerationRequest, Job
from limner.server.bodies import kept_data_url, size_of
from limner.server.openai_views import (
    CompletedImageMessage,
    ImageDatum,
    ImageFacts,
    ImagesAnswer,
    ImagesUsage,
    InputTokens,
    OpenAIModel,
    OpenAIModels,
    PartialImageMessage,
)
from limner.server.problems import openai_error, status_of
from limner.server.sse import HEADERS
from limner.server.state import Owner, Parts, State
from limner.server.views import image_links
from limner.validation import checked

FOREIGN_MODELS = re.compile(r"(gpt-image|chatgpt-image|dall-e)[\w.-]*")
QUALITY_PRESETS = {"low": "sketch", "high": "progressive", "hd": "progressive"}
MAX_IMAGES = 16


router = APIRouter(prefix="/v1", tags=["OpenAI"])


def _number(value: object) -> object:
    # Forms know only texts.
    return None if value == "" else value


class ImageBody(BaseModel):
    """What both routes take; fields of other servers (`seed`, `negative_prompt` …) are understood as well."""

    model_config = ConfigDict(extra="allow")

    prompt: str = Field(max_length=MAX_PROMPT)
    model: str | None = None
    n: Annotated[int | None, BeforeValidator(_number)] = Field(default=1, ge=1, le=10)
    size: str | None = Field(default="auto", description="`auto` or WIDTHxHEIGHT in multiples of 16")
    quality: Literal["standard", "hd", "low", "medium", "high", "auto"] | None = "auto"
    output_format: Literal["png", "jpeg", "webp"] | None = "png"
    output_compression: Annotated[int | None, BeforeValidator(_number)] = Field(default=None, ge=0, le=100)
    background: Literal["transparent", "opaque", "auto"] | None = "auto"
    response_format: Literal["url", "b64_json"] | None = "b64_json"
    stream: bool | None = False
    partial_images: Annotated[int | None, BeforeValidator(_number)] = Field(default=0, ge=0, le=3)
    moderation: str | None = None
    style: str | None = None
    user: str | None = None
    seed: Annotated[int | None, BeforeValidator(_number)] = Field(default=None, ge=0, le=MAX_SEED)
    negative_prompt: str | None = None
    num_inference_steps: Annotated[int | None, BeforeValidator(_number)] = None
    steps: Annotated[int | None, BeforeValidator(_number)] = None
    guidance_scale: Annotated[float | None, BeforeValidator(_number)] = None
    true_cfg_scale: Annotated[float | None, BeforeValidator(_number)] = None


BodyT = TypeVar("BodyT", bound=ImageBody)


class ImageAddress(BaseModel):
    """A picture in a JSON body: a data URL, or the id of an upload."""

    image_url: str | None = None
    file_id: str | None = None


class EditBody(ImageBody):
    """The JSON form of an edit."""

    images: list[ImageAddress] = Field(default_factory=list[ImageAddress], max_length=MAX_IMAGES)
    mask: ImageAddress | None = Field(default=None, description="where it is transparent, the picture is painted anew")


EDIT_DESCRIBED: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image", "prompt"],
                "properties": {
                    "image": {"type": "string", "format": "binary", "description": "or `image[]`, once"},
                    "mask": {
                        "type": "string",
                        "format": "binary",
                        "description": "of the picture's shape; where it is transparent, the picture is painted anew",
                    },
                    "prompt": {"type": "string", "maxLength": MAX_PROMPT},
                    "n": {"type": "integer", "minimum": 1, "maximum": 10},
                    "size": {"type": "string", "description": "`auto` or WIDTHxHEIGHT in multiples of 16"},
                },
            }
        },
        "application/json": {"schema": {"$ref": "#/components/schemas/EditBody"}},
    },
}


@router.get("/models", operation_id="openai_models_list", summary="Checkpoints in OpenAI's form")
async def models(parts: Parts) -> OpenAIModels:
    """Every checkpoint that a live worker can paint with."""
    return OpenAIModels(object="list", data=tuple(_model(name) for name in sorted(await _names(parts))))


@router.get("/models/{model:path}", operation_id="openai_models_get", summary="A checkpoint in OpenAI's form")
async def model(model: str, parts: Parts) -> OpenAIModel:
    """The checkpoint of that name."""
    if model not in (names := await _names(parts)):
        raise e.NotFound(f"There is no model `{model[:80]}`. Known: {', '.join(sorted(names))}.")
    return _model(model)


async def _names(parts: State) -> set[str]:
    workers = await parts.service.living_workers()
    names = {entry["name"] for worker in workers for entry in worker.models if not entry.get("problem")}
    return names | {parts.service.settings.native.model}


def _model(name: str) -> OpenAIModel:
    return OpenAIModel(id=name, object="model", created=0, owned_by="limner")


IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200)]
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/ImageStreamMessage"}}}}
}


@router.post(
    "/images/generations",
    operation_id="openai_images_generate",
    summary="Pictures from text",
    response_model=ImagesAnswer,
    responses=STREAMED,
)
async def generations(
    body: ImageBody, parts: Parts, owner: Owner, request: Request, idempotency_key: IdempotencyKey = None
) -> Response | ImagesAnswer:
    """As OpenAI's: answers when all pictures are painted, or streams them with real previews."""
    return await _answer(parts, owner, body, [], "image_generation", request, idempotency_key)


@router.post(
    "/images/edits",
    operation_id="openai_images_edit",
    summary="Pictures from a picture",
    response_model=ImagesAnswer,
    responses=STREAMED,
    openapi_extra={"requestBody": EDIT_DESCRIBED},
)
async def edits(
    request: Request, parts: Parts, owner: Owner, idempotency_key: IdempotencyKey = None
) -> Response | ImagesAnswer:
    """As OpenAI's, as a form (`image`, `image[]`, `mask`) or as JSON (`images`, `mask`).

    What the mask has transparent is painted anew from noise; a mask that is nowhere transparent says it in white.
    """
    mask: str | None = None
    if request.headers.get("content-type", "").startswith("application/json"):
        body = _checked(EditBody, await request.body())
        uploads = [await _fetched(parts, owner, image) for image in body.images]
        if body.mask:
            mask = await _fetched(parts, owner, body.mask)
    else:
        async with request.form(max_files=MAX_IMAGES + 1) as form:
            texts = {name: value for name, value in form.items() if isinstance(value, str)}
            if texts.pop("mask", ""):
                message = "`mask` is a text. Send it as a file, like the picture."
                return openai_error(400, e.InvalidRequest.code, message, "mask", retryable=False)
            body = _checked(ImageBody, texts)
            files = [file for name in ("image", "image[]") for file in form.getlist(name)]
            uploads = [await _kept(parts, owner, f) for f in files if isinstance(f, UploadFile)]
            if isinstance(file := form.get("mask"), UploadFile):
                mask = await _kept(parts, owner, file)
    if not uploads:
        message = "An edit needs a picture. Send one as `image`."
        return openai_error(400, e.InvalidRequest.code, message, "image", retryable=False)
    return await _answer(parts, owner, body, uploads, "image_edit", request, idempotency_key, mask)


def _checked(model: type[BodyT], values: bytes | dict[str, str]) -> BodyT:
    try:
        return model.model_validate_json(values) if isinstance(values, bytes) else model.model_validate(values)
    except ValidationError as error:
        items: list[Any] = [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
        raise RequestValidationError(items) from error


async def _kept(parts: State, owner: str, file: UploadFile) -> str:
    limit = parts.service.settings.server.max_upload_bytes
    return (await parts.service.gallery.add_upload(owner, file.filename or "image", await file.read(), limit)).id


async def _fetched(parts: State, owner: str, image: ImageAddress) -> str:
    if image.file_id:
        return (await parts.service.gallery.get_upload(image.file_id, owner)).id
    return await kept_data_url(parts, owner, image.image_url or "")


def _request(
    parts: State, body: ImageBody, uploads: list[str], mask: str | None
) -> tuple[GenerationRequest, list[str]]:
    """Our request, and what of theirs is not acted on."""
    warnings = [f"`{name}` is unknown here and was ignored." for name in sorted(body.model_extra or {})]
    for name in ("style", "moderation"):
        if getattr(body, name):
            warnings.append(f"`{name}` has no effect here.")
    if body.background == "transparent":
        warnings.append("Pictures are opaque: `background` transparent cannot be had.")
    values: dict[str, Any] = {"prompt": body.prompt, "count": body.n or 1}
    studio = parts.service.studio
    if body.model and body.model in studio.presets.names():
        values["preset"] = body.model
    elif body.model and not FOREIGN_MODELS.fullmatch(body.model):
        values["model"] = body.model
    if not {"preset", "model"} & values.keys() and (preset := QUALITY_PRESETS.get(body.quality or "")):
        values["preset"] = preset
    if body.size and body.size != "auto":
        values["width"], values["height"] = size_of(body.size)
    cfg = body.true_cfg_scale if body.true_cfg_scale is not None else body.guidance_scale
    steps = body.steps if body.steps is not None else body.num_inference_steps
    extras = {"seed": body.seed, "negative_prompt": body.negative_prompt, "steps": steps, "cfg": cfg}
    values |= {name: value for name, value in extras.items() if value is not None}
    output: dict[str, Any] = {"format": body.output_format or "png"}
    if body.output_compression is not None:
        output["quality"] = max(1, body.output_compression)
    values["output"] = output
    if uploads:
        values["references"] = [{"upload": upload} for upload in uploads]
    if mask:
        # What was under the mask shall not show through.
        values |= {"mask": {"upload": mask}, "denoise": 1.0}
    return checked(GenerationRequest, values), warnings


async def _answer(
    parts: State,
    owner: str,
    body: ImageBody,
    uploads: list[str],
    kind: str,
    caller: Request,
    key: str | None,
    mask: str | None = None,
) -> Response | ImagesAnswer:
    request, warnings = _request(parts, body, uploads, mask)
    job, _ = await parts.service.submit(request, owner, idempotency_key=key)
    if body.stream:
        stream = _stream(parts, body, job, kind, warnings)
        return StreamingResponse(stream, media_type="text/event-stream", headers=HEADERS)
    job = await parts.ended(job, caller)
    if not any(picture.image_id for picture in job.pictures):
        return _failure(job)
    data: list[ImageDatum] = []
    for picture in job.pictures:
        if picture.image_id is None:
            warnings.append(f"Picture {picture.index} failed: {picture.error.message if picture.error else job.status}")
        elif body.response_format == "url":
            base = str(caller.base_url).rstrip("/")
            data.append(ImageDatum(url=image_links(parts.links, picture.image_id, base)["url"]))
        else:
            data.append(ImageDatum(b64_json=await _content(parts, picture.image_id)))
    return ImagesAnswer(
        **vars(_facts(body, job)),
        created=int(job.finished_at or job.created_at),
        data=tuple(data),
        usage=_usage(job),
        warnings=(*warnings, *job.warnings),
    )


def _failure(job: Job) -> JSONResponse:
    fault = job.error
    if fault is None:
        message = "The job was cancelled before it ended. Send the request again."
        return openai_error(400, "cancelled", message, retryable=False)
    callers = {kind.code for kind in (e.InvalidRequest, e.Unsupported, e.NotFound, e.AdapterMismatch)}
    status = 400 if fault.code in callers else 503 if fault.retryable else 500
    # The job has had its attempts: sending the request again by itself would only paint in vain once more.
    return openai_error(status, fault.code, fault.message, retryable=False)


def _facts(body: ImageBody, job: Job) -> ImageFacts:
    plan = job.plans[0]
    return ImageFacts(
        background="opaque",
        output_format=job.request.output.format,
        size=f"{plan.width}x{plan.height}",
        quality=body.quality if body.quality in ("low", "medium", "high") else "medium",
    )


def _usage(job: Job) -> ImagesUsage:
    words = len(job.plans[0].prompt.split())
    squares = sum((plan.width // 16) * (plan.height // 16) for plan in job.plans)
    return ImagesUsage(
        input_tokens=words,
        output_tokens=squares,
        total_tokens=words + squares,
        input_tokens_details=InputTokens(text_tokens=words, image_tokens=0),
    )


async def _content(parts: State, image_id: str) -> str:
    image = await parts.service.gallery.get(image_id)
    return base64.b64encode(await parts.service.gallery.storage.get(image.key)).decode()


async def _stream(parts: State, body: ImageBody, job: Job, kind: str, warnings: list[str]) -> AsyncIterator[bytes]:
    facts, told = vars(_facts(body, job)), dict[str, Any]()
    wanted, sent = body.partial_images or 0, dict.fromkeys(range(len(job.plans)), 0)
    done = dict.fromkeys(range(len(job.plans)), 0.0)
    try:
        async with aclosing(parts.feed.of_job(job.id, 0)) as messages:
            async for some in messages:
                if not some:
                    yield b": still here\n\n"
                for message in some:
                    index = message.data.get("index", 0)
                    if message.type == "progress":
                        done[index] = _share(job, message.data)
                    elif (
                        message.type == "preview" and sent[index] < wanted and done[index] >= sent[index] / (wanted + 1)
                    ):
                        content = await asyncio.to_thread(_enlarged, message.data["png"], job, index)
                        told = {"type": f"{kind}.partial_image", "b64_json": content, "created_at": int(time.time())}
                        told["partial_image_index"] = sent[index]
                        yield _sent(PartialImageMessage.model_validate(facts | told))
                        sent[index] += 1
                    elif message.type == "image_generated":
                        sent[index] = wanted  # a preview that comes late is of no use any more
                        content = await _content(parts, message.data["image_id"])
                        told = {"type": f"{kind}.completed", "b64_json": content, "created_at": int(time.time())}
                        told |= {"usage": _usage(job), "warnings": tuple(warnings) or None}
                        yield _sent(CompletedImageMessage.model_validate(facts | told))
        ended = await parts.service.store.get(job.id)
        failure = None if any(picture.image_id for picture in ended.pictures) else _failure(ended)
    except e.LimnerError as error:
        failure = openai_error(status_of(error), error.code, f"{error.message} The job {job.id} goes on.")
    if failure is not None:
        body_of_it = {"type": "error"} | json.loads(bytes(failure.body))
        yield f"event: error\ndata: {json.dumps(body_of_it)}\n\n".encode()


def _share(job: Job, progress: dict[str, Any]) -> float:
    """How much of its picture is done."""
    index = int(progress["index"])
    stages = job.plans[index].stages
    before = sum(stage.steps for stage in stages[: progress["stage"]])
    return (before + progress["step"]) / sum(stage.steps for stage in stages)


def _sent(message: PartialImageMessage | CompletedImageMessage) -> bytes:
    return f"event: {message.type}\ndata: {message.model_dump_json()}\n\n".encode()


def _enlarged(png: str, job: Job, index: int) -> str:
    """A preview at the size and in the format of the picture to come."""
    plan, output = job.plans[index], job.request.output
    image = Image.open(io.BytesIO(base64.b64decode(png))).resize((plan.width, plan.height), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, output.format.upper(), quality=output.quality)
    return base64.b64encode(stream.getvalue()).decode()
