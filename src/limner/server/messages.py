"""What subscribers are told, as it goes over the wire: the `data` of server-sent events and of WebSocket messages.

The feed makes messages once for all subscribers and sends them unchecked; these records say in the OpenAPI document
what is in them, and a test holds every message against them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, RootModel, Tag
from pydantic.json_schema import SkipJsonSchema

from limner.domain import AdapterOutcome
from limner.server.views import Moment, PictureProgress, View, absent


class _Durable(View):
    job_id: str = Field(description="the job that it is about")
    number: int = Field(description="events of a job are numbered from 1")
    at: Moment = Field(description="when it happened, in seconds since 1970, UTC")


class JobUpdateMessage(_Durable):
    """A job waits, or was begun."""

    type: Literal["stage_update"] = Field(description="kind of the event")
    scope: Literal["job"] = Field(description="tells it from the news of a picture's stage")
    status: Literal["pending", "processing"] = Field(description="what the job does now")
    attempt: int | SkipJsonSchema[None] = absent("how often it has been begun, where it was")
    worker: str | SkipJsonSchema[None] = absent("who has begun it, where it was")
    retry: Literal[True] | SkipJsonSchema[None] = absent("there when somebody has asked for it to be run again")


class StageUpdateMessage(_Durable):
    """A stage of a picture began or ended."""

    type: Literal["stage_update"] = Field(description="kind of the event")
    index: int = Field(description="which of the job's pictures, from 0")
    stage: int = Field(description="the stage, from 0")
    stages: int = Field(description="how many stages the picture has")
    status: Literal["processing", "completed"] = Field(description="whether it began or ended")
    width: int = Field(description="of the stage, in pixels")
    height: int = Field(description="of the stage, in pixels")


class InfoMessage(_Durable):
    """Something worth knowing happened; nothing is wrong."""

    type: Literal["info"] = Field(description="kind of the event")
    message: str = Field(description="what happened")
    code: str = Field(description="the same for programs; may be empty")
    attempt: int | SkipJsonSchema[None] = absent("the attempt that has ended, where that is what happened")


class ImageGeneratedMessage(_Durable):
    """A picture is painted and stored."""

    type: Literal["image_generated"] = Field(description="kind of the event")
    index: int = Field(description="which of the job's pictures, from 0")
    image_id: str = Field(description="the picture's id")
    cached: Literal[True] | SkipJsonSchema[None] = absent("there when it was painted before, for another job")
    width: int = Field(description="in pixels")
    height: int = Field(description="in pixels")
    seed: str = Field(description="its seed, as text: it may be larger than JavaScript's numbers")
    adapters: tuple[AdapterOutcome, ...] = Field(description="what became of the adapters")


class WarningMessage(_Durable):
    """The result is not quite what was asked for."""

    type: Literal["warning"] = Field(description="kind of the event")
    message: str = Field(description="what is different, and what to do")
    code: str = Field(description="the same for programs; may be empty")


class ErrorMessage(_Durable):
    """One picture failed, or the whole job did."""

    type: Literal["error"] = Field(description="kind of the event")
    message: str = Field(description="what happened, and what to do")
    code: str = Field(description="the same for programs")
    retryable: bool = Field(description="whether the same request may work later")
    index: int | SkipJsonSchema[None] = absent("which of the job's pictures; absent when it is about the job")


class DoneMessage(_Durable):
    """The job has ended; its last event, unless it is run again."""

    type: Literal["done"] = Field(description="kind of the event")
    status: Literal["completed", "partial", "failed", "cancelled"] = Field(
        description="whether every picture is painted, some, or none; or the job was cancelled"
    )
    images: int = Field(description="pictures that are painted")
    failed: int = Field(description="pictures that failed")


class ProgressMessage(PictureProgress):
    """A picture under way has come further; only the newest is told."""

    type: Literal["progress"] = Field(description="kind of the event")
    job_id: str = Field(description="the job that it is about")


class PreviewMessage(View):
    """A rough look at a picture on its way; only the newest is told."""

    type: Literal["preview"] = Field(description="kind of the event")
    job_id: str = Field(description="the job that it is about")
    index: int = Field(description="which of the job's pictures, from 0")
    stage: int = Field(description="the stage that it was made in, from 0")
    step: int = Field(description="after how many steps of that stage")
    png: str = Field(description="a small PNG, in base64")


def _kind(message: Any) -> str:
    told: dict[str, Any] = vars(message) if isinstance(message, View) else message
    return "job_update" if told.get("scope") == "job" else str(told.get("type"))


class EventMessage(
    RootModel[
        Annotated[
            Annotated[JobUpdateMessage, Tag("job_update")]
            | Annotated[StageUpdateMessage, Tag("stage_update")]
            | Annotated[InfoMessage, Tag("info")]
            | Annotated[ProgressMessage, Tag("progress")]
            | Annotated[PreviewMessage, Tag("preview")]
            | Annotated[ImageGeneratedMessage, Tag("image_generated")]
            | Annotated[WarningMessage, Tag("warning")]
            | Annotated[ErrorMessage, Tag("error")]
            | Annotated[DoneMessage, Tag("done")],
            Discriminator(_kind),
        ]
    ]
):
    """Everything that can be told of a job."""


class SocketMessage(View):
    """A message of the WebSocket `/api/ws`; what is not in the log has no id."""

    id: int | None = Field(description="go on behind it with `?after=`; null for progress and previews")
    event: str = Field(description="the `type` of what is told")
    data: EventMessage = Field(description="what is told")
