"""What a job reports while it runs: one closed union, told in the past tense.

`stage_update, info, progress, preview, image_generated, warning, error, done`. Progress and previews are worth only
their newest; the others are facts that stay.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from limner.domain import Recipe


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageUpdate(_Event):
    """A stage of a picture began or ended."""

    type: Literal["stage_update"] = "stage_update"
    index: int = Field(description="which picture of the request")
    stage: int
    stages: int
    status: Literal["processing", "completed"]
    width: int
    height: int


class Info(_Event):
    """Something worth knowing happened; nothing is wrong."""

    type: Literal["info"] = "info"
    message: str
    code: str = ""


class Progress(_Event):
    """Steps done of all steps of all pictures of the request."""

    type: Literal["progress"] = "progress"
    current: int
    total: int
    index: int
    stage: int
    stages: int
    step: int
    steps: int
    eta_s: float | None = None


class Preview(_Event):
    """A rough look at the picture on its way, as a small PNG."""

    type: Literal["preview"] = "preview"
    index: int
    stage: int
    step: int
    png: bytes


class ImageGenerated(_Event):
    """A picture is finished: raw RGB bytes (height, width, 3) and how they came about."""

    type: Literal["image_generated"] = "image_generated"
    index: int
    width: int
    height: int
    rgb: bytes = Field(repr=False)
    recipe: Recipe


class Warned(_Event):
    """The result is not quite what was asked for."""

    type: Literal["warning"] = "warning"
    message: str
    code: str = ""


class Failed(_Event):
    """One picture failed; `index` is absent when the whole request did."""

    type: Literal["error"] = "error"
    message: str
    code: str
    retryable: bool = False
    index: int | None = None


class Done(_Event):
    """The request has ended. `completed` means every picture, `partial` some, `failed` none."""

    type: Literal["done"] = "done"
    status: Literal["completed", "partial", "failed", "cancelled"]
    images: int
    failed: int
    duration_s: float


Event = Annotated[
    StageUpdate | Info | Progress | Preview | ImageGenerated | Warned | Failed | Done, Field(discriminator="type")
]
