"""The records that everybody shares: requests, plans, outcomes, recipes.

All of them are frozen pydantic models: checked where they enter, trusted inside, serialisable everywhere. This module
knows neither torch nor files nor processes. Sizes are in pixels, times in seconds.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

SIZE_MULTIPLE = 16
MIN_SIDE, MAX_SIDE = 64, 4096
MAX_STEPS = 200
MAX_CFG = 30
MAX_COUNT = 64
MAX_STAGES = 8
MAX_ADAPTERS = 16
MAX_REFERENCES = 16
MAX_FALLBACKS = 8
MAX_CLIP_SKIP = 12
MAX_SEED = 2**64 - 1
MAX_EXACT_SEED = 2**53 - 1
"""Larger whole numbers are not exact in JavaScript, nor in other programs that read JSON numbers as floats."""
MAX_PROMPT = 32_000

SAMPLERS = (
    "euler",
    "euler_ancestral",
    "heun",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "dpmpp_sde",
    "dpmpp_2s_ancestral",
    "lcm",
    "res_multistep",
    "ddpm",
    "er_sde",
)
SCHEDULES = (
    "simple",
    "normal",
    "beta",
    "karras",
    "exponential",
    "sgm_uniform",
    "ddim_uniform",
    "linear_quadratic",
    "kl_optimal",
)


def _known(kind: str, names: tuple[str, ...]) -> BeforeValidator:
    def check(value: object) -> object:
        if value is not None and value not in names:
            raise ValueError(f"There is no such {kind}. Choose one of: {', '.join(names)}")
        return value

    return BeforeValidator(check)


def _paintable(value: object, check: ValidatorFunctionWrapHandler) -> int:
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError(f"Give a multiple of {SIZE_MULTIPLE} from {MIN_SIDE} to {MAX_SIDE}") from error


def _two_sides(value: object, check: ValidatorFunctionWrapHandler) -> str:
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError("Give a shape of two numbers from 1 to 9999, such as 16:9") from error


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _without_controls(text: str) -> str:
    if found := _CONTROL.search(text):
        raise ValueError(f"It holds the control character U+{ord(found[0]):04X}. Take that out")
    return text


Text = Annotated[str, AfterValidator(_without_controls)]
"""A text without control characters other than tab and the ends of lines: databases and files would choke on them."""

Seed = Annotated[
    int,
    Field(ge=0, le=MAX_SEED),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
                {"type": "string", "pattern": "^[0-9]{1,20}$"},
            ]
        }
    ),
]
"""A seed; it enters as a number or as its digits, since not every program can hold the number."""

Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=SIZE_MULTIPLE), WrapValidator(_paintable)]
AspectRatio = Annotated[str, Field(pattern=r"^0*[1-9]\d{0,3}:0*[1-9]\d{0,3}$"), WrapValidator(_two_sides)]
Sampler = Annotated[str, _known("sampler", SAMPLERS)]
Schedule = Annotated[str, _known("schedule", SCHEDULES)]


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class FullRecord(Record):
    """A record that is always written in full: what has a default is there as well."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class CacheSettings(Record):
    """EasyCache: reuse the network's last answer where it hardly changes (within a window of the schedule)."""

    reuse_threshold: float = Field(
        default=0.2, ge=0, le=3, description="accumulated relative change below which it is reused"
    )
    start_percent: float = Field(
        default=0.15, ge=0, le=1, description="start of the window, as a share of the schedule"
    )
    end_percent: float = Field(default=0.95, ge=0, le=1, description="end of the window")


class Stage(Record):
    """One sampling pass at one size."""

    width: Side = Field(description="width in pixels")
    height: Side = Field(description="height in pixels")
    steps: int = Field(
        default=20,
        ge=1,
        le=MAX_STEPS,
        validation_alias=AliasChoices("steps", "num_inference_steps"),
        description="denoising steps",
    )
    cfg: float = Field(
        default=1.0,
        ge=0,
        le=MAX_CFG,
        validation_alias=AliasChoices("cfg", "guidance_scale"),
        description="how strongly to follow the prompt; 1 means without guidance",
    )
    guidance: float | None = Field(
        default=None,
        ge=0,
        le=MAX_CFG,
        description="guidance that a distilled network such as FLUX.1-dev is told; the family's own when absent",
    )
    sampler: Sampler = Field(default="euler", description="how steps are made")
    schedule: Schedule = Field(default="simple", description="how the noise is spread over the steps")
    shift: float | None = Field(default=None, gt=0, le=100, description="flow shift; the family's own when absent")
    denoise: float = Field(
        default=1.0, gt=0, le=1, description="1 paints anew; less keeps that much of what came before"
    )
    upscale: Literal["nearest-exact"] = Field(
        default="nearest-exact", description="how what came before is brought to this size"
    )
    cache: CacheSettings | None = Field(default=None, description="EasyCache; off when absent")
    noise_seed: Seed | None = Field(default=None, description="set when the plan is made")
    stream_seed: Seed | None = Field(
        default=None,
        description="seed of the ancestral noise; noise_seed + 1 (ComfyUI's) when absent",
    )


class AdapterRequest(Record):
    """A LoRA to apply: a name in the adapters folder or a path to a safetensors file."""

    name: Text = Field(min_length=1, max_length=1000, description="as it is listed, or a path; no paths over HTTP")
    weight: float = Field(default=1.0, ge=-10, le=10, description="how strongly it is applied")
    trigger: Text = Field(default="", max_length=MAX_PROMPT, description="words put in front of the prompt")
    stages: tuple[Annotated[int, Field(ge=0, lt=MAX_STAGES)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_STAGES,
        description="those that it is applied in, from 0; all if absent",
    )


class Reference(Record):
    """A picture that the request starts from: a file, an uploaded picture, or one that was painted before."""

    path: str | None = Field(default=None, min_length=1, description="a file on this machine; not over HTTP")
    upload: str | None = Field(default=None, min_length=1, max_length=64, description="id of an uploaded picture")
    image: str | None = Field(default=None, min_length=1, max_length=64, description="id of a picture in the gallery")
    sha256: str | None = Field(default=None, description="checked when set: the same bytes must be found again")

    @model_validator(mode="after")
    def _one_source(self) -> Reference:
        if sum(source is not None for source in (self.path, self.upload, self.image)) != 1:
            raise ValueError("a reference is one of path, upload and image. Give exactly one")
        return self


ReferencesAs = Literal["start", "context", "stitched"]


class OutputSettings(Record):
    """How pictures are written."""

    format: Literal["png", "jpeg", "webp"] = Field(default="png", description="of the file")
    quality: int = Field(default=92, ge=1, le=100, description="for jpeg and webp")


class GenerationRequest(Record):
    """What the caller wants. Absent values come from the preset, then from the checkpoint's own defaults.

    Building one raises pydantic's `ValidationError` (a `ValueError`) for values that are out of range.
    """

    prompt: Text = Field(default="", max_length=MAX_PROMPT, description="what to paint; empty means: whatever comes")
    negative_prompt: Text = Field(
        default="", max_length=MAX_PROMPT, description="what to keep out; used where cfg is not 1"
    )
    model: Text | None = Field(
        default=None, max_length=500, description="checkpoint name or path; the configured default when absent"
    )
    preset: Text | None = Field(
        default=None, max_length=1000, description="a named set of request fields, such as `progressive`"
    )
    width: Side | None = Field(default=None, description="of the finished picture in pixels; goes with height")
    height: Side | None = Field(default=None, description="of the finished picture in pixels; goes with width")
    aspect_ratio: AspectRatio | None = Field(default=None, description="such as 16:9, keeps the area")
    count: int = Field(default=1, ge=1, le=MAX_COUNT, description="pictures; picture i uses seed + i")
    seed: Seed | None = Field(default=None, description="drawn at random when absent, and recorded")
    steps: int | None = Field(
        default=None,
        ge=1,
        le=MAX_STEPS,
        validation_alias=AliasChoices("steps", "num_inference_steps"),
        description="denoising steps of the first stage",
    )
    cfg: float | None = Field(
        default=None,
        ge=0,
        le=MAX_CFG,
        validation_alias=AliasChoices("cfg", "guidance_scale"),
        description="how strongly the first stage follows the prompt; 1 means without guidance",
    )
    guidance: float | None = Field(
        default=None,
        ge=0,
        le=MAX_CFG,
        description="guidance that a distilled network such as FLUX.1-dev is told, in every stage",
    )
    clip_skip: int | None = Field(
        default=None,
        ge=1,
        le=MAX_CLIP_SKIP,
        description="which of CLIP's layers is read, counted from its end; the family's own when absent",
    )
    sampler: Sampler | None = Field(default=None, description="how steps are made, in every stage")
    schedule: Schedule | None = Field(default=None, description="how the noise is spread over the steps of a stage")
    shift: float | None = Field(default=None, gt=0, le=100, description="flow shift of every stage")
    denoise: float | None = Field(default=None, gt=0, le=1, description="how far to leave the reference picture")
    stages: tuple[Stage, ...] | None = Field(
        default=None, min_length=1, max_length=MAX_STAGES, description="in place of a preset's"
    )
    references: tuple[Reference, ...] = Field(
        default=(), max_length=MAX_REFERENCES, description="the picture to start from, or those to look at"
    )
    references_as: ReferencesAs | None = Field(
        default=None,
        description="`start`: the picture is painted over; `context`: the network looks at the pictures as it paints "
        "(FLUX Kontext); `stitched`: at all of them side by side; the preset's when absent, and `start` without that",
    )
    mask: Reference | None = Field(
        default=None,
        description="which part of that picture is painted anew: white is, black stays; "
        "or, where the file has transparent parts, those are and the others stay",
    )
    adapters: tuple[AdapterRequest, ...] = Field(default=(), max_length=MAX_ADAPTERS, description="LoRAs to apply")
    on_adapter_mismatch: Literal["degrade", "fail"] = Field(
        default="degrade", description="what to do when one does not fit: paint without it and say so, or fail"
    )
    cache: CacheSettings | None = Field(default=None, description="EasyCache for every stage")
    output: OutputSettings = Field(default=OutputSettings(), description="how pictures are written")
    backend: Text = Field(
        default="native",
        max_length=200,
        description="where pictures are made; `auto` takes one that is set up and can do it",
    )
    fallback: tuple[Annotated[Text, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=MAX_FALLBACKS, description="backends to try next, in this order, with what is missing"
    )

    @model_validator(mode="before")
    @classmethod
    def _missing_texts_are_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = cast(dict[str, Any], values)
        missing = {name: "" for name in ("prompt", "negative_prompt") if given.get(name, "") is None}
        return given | missing

    @model_validator(mode="after")
    def _one_way_to_say_the_size(self) -> GenerationRequest:
        if self.stages and (self.width or self.height or self.aspect_ratio):
            raise ValueError("Stages carry their own sizes. Give either stages or width, height and aspect_ratio")
        if self.aspect_ratio and (self.width or self.height):
            raise ValueError("The size is told in two ways. Give either aspect_ratio or width and height")
        if (self.width is None) != (self.height is None):
            raise ValueError("Width and height go together. Give both or neither")
        return self

    @model_validator(mode="after")
    def _something_to_mask(self) -> GenerationRequest:
        if self.mask and not self.references:
            raise ValueError(
                "A mask says which part of a picture is painted anew, and there is no picture. "
                "Add a reference picture or leave the mask out"
            )
        if self.mask and self.references_as not in (None, "start"):
            raise ValueError(
                "A mask belongs to the picture that is painted over, and this request only looks at its pictures. "
                "Leave the mask out or set references_as to start"
            )
        return self


class Plan(Record):
    """The stages that one picture becomes, with every seed and number fixed."""

    prompt: str = Field(description="with the adapters' trigger words")
    negative_prompt: str = Field(description="what to keep out")
    seed: Seed = Field(description="of the first noise")
    clip_skip: int | None = Field(default=None, description="CLIP's layer that is read, counted from its end")
    stages: tuple[Stage, ...] = Field(min_length=1, description="in the order in which they are painted")

    @property
    def width(self) -> int:
        """Width of the finished picture in pixels."""
        return self.stages[-1].width

    @property
    def height(self) -> int:
        """Height of the finished picture in pixels."""
        return self.stages[-1].height


class AdapterStatus(StrEnum):
    """How far an adapter was applied."""

    APPLIED = "applied"
    PARTIAL = "partial"
    SKIPPED = "skipped"


class AdapterOutcome(FullRecord):
    """What became of one requested adapter."""

    name: str = Field(description="as the request names it")
    requested_weight: float = Field(description="as the request has it")
    status: AdapterStatus = Field(description="how far it was applied")
    matched: int = Field(description="weights of the file that found their place")
    total: int = Field(description="weights that the file holds")
    reason: str = Field(default="", description="why it was not applied in full")
    sha256: str = Field(default="", description="of the file; empty when nothing of it was applied")


class StageOutcome(FullRecord):
    """What one stage cost."""

    evaluations: int = Field(description="network answers that the sampler asked for, guidance counted once")
    skipped: int = Field(default=0, description="of these, answered by EasyCache")
    duration_s: float = Field(default=0.0, description="from its first step to its last")


class Recipe(FullRecord):
    """Everything needed to make a picture again; stored inside the picture."""

    request: GenerationRequest = Field(description="what the caller wanted")
    plan: Plan = Field(description="what it became for this picture")
    index: int = Field(default=0, description="which of the request's pictures this is")
    checkpoint: str = Field(description="the checkpoint's name")
    checkpoint_sha256: str = Field(description="of its weights")
    family: str = Field(description="its architecture")
    device: str = Field(description="what it was painted on")
    precision: dict[str, str] = Field(description="component to dtype")
    threads: int | None = Field(
        default=None, description="CPU threads, on which the last digits of sums depend; absent where they changed"
    )
    adapters: tuple[AdapterOutcome, ...] = Field(default=(), description="what became of the adapters")
    outcome: tuple[StageOutcome, ...] = Field(default=(), description="what each stage cost")
    warnings: tuple[str, ...] = Field(default=(), description="where it is not quite what was asked for")
    versions: dict[str, str] = Field(default={}, description="of the packages that painted it")


# --- jobs and what they leave ----------------------------------------------------------------------------------------

LOCAL_OWNER = "local"


class JobStatus(StrEnum):
    """Where a job is; the last four are final."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to the job, unless it is retried."""
        return self not in (JobStatus.PENDING, JobStatus.PROCESSING)


class Fault(FullRecord):
    """What went wrong, as a record: the code, the message and whether trying again makes sense."""

    code: str = Field(description="the same for programs")
    message: str = Field(description="what happened, and what to do")
    retryable: bool = Field(default=False, description="whether the same request may work later")


class ImageRecord(Record):
    """A stored picture: where it lies, and everything about how it was made."""

    id: str
    job_id: str
    owner: str
    index: int = Field(description="which of the job's pictures this is")
    width: int
    height: int
    format: Literal["png", "jpeg", "webp"]
    size_bytes: int
    sha256: str
    prompt: str
    seed: int
    favourite: bool = False
    created_at: float = Field(description="seconds since 1970, UTC")
    key: str = Field(exclude=True, description="where the picture lies in the storage")
    thumbnail_key: str = Field(exclude=True)
    recipe: Recipe


class PictureState(Record):
    """One of a job's pictures: its id when painted, its fault when that failed, neither while it is still to come."""

    index: int
    seed: int
    image_id: str | None = None
    error: Fault | None = None


class Job(Record):
    """The durable unit of work, as its row and the rows of its pictures say."""

    id: str
    seq: int = Field(exclude=True, description="order of arrival")
    lane: str = Field(exclude=True, description="which workers take it")
    owner: str
    status: JobStatus
    request: GenerationRequest
    plans: tuple[Plan, ...] = Field(exclude=True, description="one a picture, every number fixed")
    pictures: tuple[PictureState, ...] = ()
    priority: int = 0
    attempt: int = Field(default=0, description="how often a worker has begun it")
    max_attempts: int = 3
    cancel_requested: bool = False
    adapters: tuple[AdapterOutcome, ...] = ()
    warnings: tuple[str, ...] = ()
    error: Fault | None = None
    cached: bool = Field(default=False, description="answered with pictures that were painted before")
    queue_position: int | None = Field(default=None, description="jobs that will be begun before this one; 0 is next")
    worker: str | None = None
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    webhook: str | None = Field(default=None, description="address that is told when the job has ended")


class Upload(Record):
    """A picture that somebody sent, checked and written anew."""

    id: str
    owner: str
    name: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    created_at: float
    key: str = Field(exclude=True)


class Template(Record):
    """A saved request."""

    id: str
    owner: str
    name: str = Field(min_length=1, max_length=200)
    request: GenerationRequest
    created_at: float


class WorkerRecord(Record):
    """A worker as it reported itself last."""

    id: str
    host: str
    pid: int
    lane: str
    started_at: float
    seen_at: float
    slots: int
    models: tuple[dict[str, Any], ...] = ()
    adapters: tuple[dict[str, Any], ...] = ()
    device: dict[str, Any] = {}
    loaded: tuple[str, ...] = ()
    held: dict[str, dict[str, Any]] = {}
    statistics: dict[str, float] = {}
