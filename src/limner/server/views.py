"""Records as clients see them: with links, and with seeds that JavaScript can hold.

A field that is always there is required in the OpenAPI document; one that may be absent is optional there and never
null. Records of the domain enter as they are, already checked.
"""

from __future__ import annotations

from functools import partial
from operator import is_
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.json_schema import SkipJsonSchema

from limner.domain import (
    MAX_EXACT_SEED,
    AdapterOutcome,
    Fault,
    GenerationRequest,
    ImageRecord,
    Job,
    JobStatus,
    Recipe,
    Template,
)
from limner.server.links import Links


class View(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


def absent(description: str) -> Any:
    """A field of type `… | SkipJsonSchema[None]` that is left out of the answer where there is nothing to say."""
    return Field(default=None, description=description, exclude_if=partial(is_, None), json_schema_extra=_drop_default)


def _drop_default(schema: dict[str, Any]) -> None:
    del schema["default"]


SEEDS = frozenset({"seed", "noise_seed", "stream_seed"})


def with_exact_seeds(value: Any) -> Any:
    """JSON whose seeds are texts where JavaScript would round the number."""
    if isinstance(value, list):
        return [with_exact_seeds(item) for item in cast(list[Any], value)]
    if not isinstance(value, dict):
        return value
    return {
        name: str(item) if name in SEEDS and isinstance(item, int) and item > MAX_EXACT_SEED else with_exact_seeds(item)
        for name, item in cast(dict[str, Any], value).items()
    }


# What the caller left out stays out: the plans say what it became. No return type: the schema stays the request's own.
AsGiven = Annotated[
    GenerationRequest,
    PlainSerializer(lambda request: with_exact_seeds(request.model_dump(mode="json", exclude_unset=True))),
]
InFull = Annotated[Recipe, PlainSerializer(lambda recipe: with_exact_seeds(recipe.model_dump(mode="json")))]
Moment = Annotated[float, Field(description="seconds since 1970, UTC")]


class JobLinks(View):
    """Where more about a job is found."""

    self: str = Field(description="path of the job")
    events: str = Field(description="path of its event stream")


class PictureView(View):
    """One of a job's pictures: painted, failed, or still to come."""

    index: int = Field(description="which of the job's pictures this is, from 0")
    seed: str = Field(description="its seed, as text: it may be larger than JavaScript's numbers")
    image_id: str | None = Field(description="id of the painted picture; null until it is painted")
    error: Fault | None = Field(description="why it could not be painted")
    url: str | SkipJsonSchema[None] = absent("signed link to the picture, once it is painted")
    thumbnail_url: str | SkipJsonSchema[None] = absent("signed link to its small version, once it is painted")


class PictureProgress(View):
    """How far a picture under way is."""

    index: int = Field(description="which of the job's pictures")
    current: int = Field(description="steps done, of all pictures painted together")
    total: int = Field(description="steps of all pictures painted together")
    stage: int = Field(description="the stage that runs, from 0")
    stages: int = Field(description="how many stages the picture has")
    step: int = Field(description="steps done of this stage")
    steps: int = Field(description="steps of this stage")
    eta_s: float | None = Field(description="seconds to the end, as far as can be told")


class DeliveryView(View):
    """How the message to a job's webhook is doing."""

    id: str = Field(description="the message's id, as its receiver sees it")
    tries: int = Field(description="how often it was sent")
    due_at: Moment | None = Field(description="when it is sent next; null when that is over")
    delivered_at: Moment | None = Field(description="when it was accepted")
    last_error: str | None = Field(description="why the last try failed")


class JobView(View):
    """A job with links to what is painted of it."""

    id: str = Field(description="the job's id")
    owner: str = Field(description="whose job it is")
    status: JobStatus = Field(description="where the job is; the last four are final")
    request: AsGiven = Field(description="what the caller asked for; what was left out stays out")
    pictures: tuple[PictureView, ...] = Field(description="one for each picture asked for")
    priority: int = Field(description="more goes first")
    attempt: int = Field(description="how often a worker has begun it")
    max_attempts: int = Field(description="how often workers may begin it")
    cancel_requested: bool = Field(description="whether its end was asked for")
    adapters: tuple[AdapterOutcome, ...] = Field(description="what became of the adapters")
    warnings: tuple[str, ...] = Field(description="where the result is not quite what was asked for")
    error: Fault | None = Field(description="why the job failed")
    cached: bool = Field(description="whether it was answered with pictures that were painted before")
    queue_position: int | None = Field(description="jobs that will be begun before this one; 0 is next")
    worker: str | None = Field(description="the worker that runs it, or ran it last")
    created_at: Moment
    started_at: Moment | None = Field(description="when a worker began it for the first time")
    finished_at: Moment | None = Field(description="when it ended")
    webhook: str | None = Field(description="address that is told when the job has ended")
    links: JobLinks = Field(description="where more about it is found")
    progress: tuple[PictureProgress, ...] | SkipJsonSchema[None] = absent(
        "pictures under way, where one job is looked at that has not ended"
    )
    deliveries: tuple[DeliveryView, ...] | SkipJsonSchema[None] = absent(
        "messages to the webhook, where one job is looked at that has one"
    )


class JobPage(View):
    """Some jobs, newest first."""

    jobs: tuple[JobView, ...] = Field(description="the jobs")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one")


class ImageView(View):
    """A picture without its recipe, which has a route of its own."""

    id: str = Field(description="the picture's id")
    job_id: str = Field(description="the job that it belongs to")
    owner: str = Field(description="whose picture it is")
    index: int = Field(description="which of the job's pictures this is, from 0")
    width: int = Field(description="in pixels")
    height: int = Field(description="in pixels")
    format: Literal["png", "jpeg", "webp"] = Field(description="how it is written")
    size_bytes: int = Field(description="of its file")
    sha256: str = Field(description="of its file, in hexadecimal")
    prompt: str = Field(description="what it was painted from, with the adapters' trigger words")
    seed: str = Field(description="its seed, as text: it may be larger than JavaScript's numbers")
    favourite: bool = Field(description="whether it is marked as a favourite")
    created_at: Moment
    model: str = Field(description="the checkpoint that it was painted with")
    adapters: tuple[AdapterOutcome, ...] = Field(description="what became of the adapters")
    warnings: tuple[str, ...] = Field(description="where it is not quite what was asked for")
    url: str = Field(description="signed link to the picture")
    thumbnail_url: str = Field(description="signed link to its small version")


class ImageDetail(ImageView):
    """A picture with everything needed to make it again."""

    recipe: InFull = Field(description="as it is stored inside the picture")


class ImagePage(View):
    """Some pictures, newest first."""

    images: tuple[ImageView, ...] = Field(description="the pictures")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one")


class UploadView(View):
    """A picture that was sent, checked and written anew."""

    id: str = Field(description='what `references` name it by: `{"upload": id}`')
    owner: str = Field(description="whose upload it is")
    name: str = Field(description="the file's name as it was sent")
    width: int = Field(description="in pixels")
    height: int = Field(description="in pixels")
    size_bytes: int = Field(description="as it is stored")
    sha256: str = Field(description="as it is stored, in hexadecimal")
    created_at: Moment


class TemplateView(View):
    """A saved request."""

    id: str = Field(description="the saved request's id")
    owner: str = Field(description="whose it is")
    name: str = Field(description="what it is called")
    request: AsGiven = Field(description="the request as it was saved; what was left out stays out")
    created_at: Moment


def image_path(image_id: str) -> str:
    """Where a picture's bytes are."""
    return f"/api/images/{image_id}"


def image_links(links: Links, image_id: str, base: str = "") -> dict[str, str]:
    """Signed links to a picture and its thumbnail; `base` goes in front of them."""
    path = image_path(image_id)
    thumbnail = f"{path}/thumbnail"
    return {
        "url": f"{base}{path}?{links.query(path)}",
        "thumbnail_url": f"{base}{thumbnail}?{links.query(thumbnail)}",
    }


def image_view(links: Links, image: ImageRecord) -> ImageView:
    """A picture without its recipe."""
    return ImageView.model_validate(_of_image(links, image))


def image_detail(links: Links, image: ImageRecord) -> ImageDetail:
    """A picture with its recipe."""
    return ImageDetail.model_validate(_of_image(links, image))


def _of_image(links: Links, image: ImageRecord) -> dict[str, Any]:
    recipe = image.recipe
    facts = {"seed": str(image.seed), "model": recipe.checkpoint, "adapters": recipe.adapters}
    return vars(image) | facts | {"warnings": recipe.warnings} | image_links(links, image.id)


def job_view(links: Links, job: Job, **more: Any) -> JobView:
    """A job with links to what is painted of it; `more` are further fields."""
    pictures = [
        vars(picture) | {"seed": str(picture.seed)} | (image_links(links, picture.image_id) if picture.image_id else {})
        for picture in job.pictures
    ]
    return JobView.model_validate(vars(job) | {"pictures": pictures, "links": _job_links(job.id)} | more)


def template_view(template: Template) -> TemplateView:
    """A saved request as it was given."""
    return TemplateView.model_validate(vars(template))


def linked(links: Links, job: dict[str, Any], base: str = "") -> dict[str, Any]:
    """A job as JSON, with links; `base` goes in front of them."""
    pictures = [
        picture
        | {"seed": str(picture["seed"])}
        | (image_links(links, picture["image_id"], base) if picture["image_id"] else {})
        for picture in job["pictures"]
    ]
    return with_exact_seeds(job) | {"pictures": pictures, "links": _job_links(job["id"], base)}


def _job_links(job_id: str, base: str = "") -> dict[str, str]:
    path = f"{base}/api/jobs/{job_id}"
    return {"self": path, "events": f"{path}/events"}
