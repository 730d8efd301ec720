"""The records that everybody shares: requests, plans, outcomes, recipes.

All of them are frozen pydantic models: checked where they enter, trusted inside, serialisable everywhere. This module
knows neither torch nor files nor processes. Sizes are in pixels, times in seconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

SIZE_MULTIPLE = 16
MIN_SIDE, MAX_SIDE = 64, 4096
MAX_STEPS = 200
MAX_SEED = 2**64 - 1
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


Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=SIZE_MULTIPLE), WrapValidator(_paintable)]
AspectRatio = Annotated[str, Field(pattern=r"^0*[1-9]\d{0,3}:0*[1-9]\d{0,3}$"), WrapValidator(_two_sides)]
Sampler = Annotated[str, _known("sampler", SAMPLERS)]
Schedule = Annotated[str, _known("schedule", SCHEDULES)]


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


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
    steps: int = Field(default=20, ge=1, le=MAX_STEPS, validation_alias=AliasChoices("steps", "num_inference_steps"))
    cfg: float = Field(default=1.0, ge=0, le=30, validation_alias=AliasChoices("cfg", "guidance_scale"))
    sampler: Sampler = "euler"
    schedule: Schedule = "simple"
    shift: float | None = Field(default=None, gt=0, le=100, description="flow shift; the family's own when absent")
    denoise: float = Field(
        default=1.0, gt=0, le=1, description="1 paints anew; less keeps that much of what came before"
    )
    upscale: Literal["nearest-exact"] = "nearest-exact"
    cache: CacheSettings | None = None
    noise_seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="set when the plan is made")
    stream_seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="seed of the ancestral noise; noise_seed + 1 (ComfyUI's) when absent",
    )


class AdapterRequest(Record):
    """A LoRA to apply: a name in the adapters folder or a path to a safetensors file."""

    name: str = Field(min_length=1)
    weight: float = Field(default=1.0, ge=-10, le=10)
    trigger: str = Field(default="", description="words put in front of the prompt")


class Reference(Record):
    """A picture that the request starts from."""

    path: str
    sha256: str | None = Field(default=None, description="checked when set: the same bytes must be found again")


class OutputSettings(Record):
    """How pictures are written."""

    format: Literal["png", "jpeg", "webp"] = "png"
    quality: int = Field(default=92, ge=1, le=100, description="for jpeg and webp")


class GenerationRequest(Record):
    """What the caller wants. Absent values come from the preset, then from the checkpoint's own defaults.

    Building one raises pydantic's `ValidationError` (a `ValueError`) for values that are out of range.
    """

    prompt: str = Field(default="", max_length=MAX_PROMPT, description="what to paint; empty means: whatever comes")
    negative_prompt: str = Field(
        default="", max_length=MAX_PROMPT, description="what to keep out; used where cfg is not 1"
    )
    model: str | None = Field(default=None, description="checkpoint name or path; the configured default when absent")
    preset: str | None = Field(default=None, description="a named set of request fields, such as `progressive`")
    width: Side | None = None
    height: Side | None = None
    aspect_ratio: AspectRatio | None = Field(default=None, description="such as 16:9, keeps the area")
    count: int = Field(default=1, ge=1, le=64, description="pictures; picture i uses seed + i")
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="drawn at random when absent, and recorded")
    steps: int | None = Field(
        default=None, ge=1, le=MAX_STEPS, validation_alias=AliasChoices("steps", "num_inference_steps")
    )
    cfg: float | None = Field(default=None, ge=0, le=30, validation_alias=AliasChoices("cfg", "guidance_scale"))
    sampler: Sampler | None = None
    schedule: Schedule | None = None
    shift: float | None = Field(default=None, gt=0, le=100)
    denoise: float | None = Field(default=None, gt=0, le=1, description="how far to leave the reference picture")
    stages: tuple[Stage, ...] | None = Field(default=None, min_length=1, max_length=8)
    references: tuple[Reference, ...] = Field(default=(), max_length=1)
    adapters: tuple[AdapterRequest, ...] = Field(default=(), max_length=16)
    on_adapter_mismatch: Literal["degrade", "fail"] = "degrade"
    cache: CacheSettings | None = None
    output: OutputSettings = OutputSettings()
    backend: str = "native"

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


class Plan(Record):
    """The stages that one picture becomes, with every seed and number fixed."""

    prompt: str
    negative_prompt: str
    seed: int
    stages: tuple[Stage, ...] = Field(min_length=1)

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


class AdapterOutcome(Record):
    """What became of one requested adapter."""

    name: str
    requested_weight: float
    status: AdapterStatus
    matched: int = Field(description="weights of the file that found their place")
    total: int = Field(description="weights that the file holds")
    reason: str = Field(default="", description="why it was not applied in full")
    sha256: str = Field(default="", description="of the file; empty when nothing of it was applied")


class StageOutcome(Record):
    """What one stage cost."""

    evaluations: int = Field(description="network answers that the sampler asked for, guidance counted once")
    skipped: int = Field(default=0, description="of these, answered by EasyCache")
    duration_s: float = 0.0


class Recipe(Record):
    """Everything needed to make a picture again; stored inside the picture."""

    request: GenerationRequest
    plan: Plan
    index: int = Field(default=0, description="which of the request's pictures this is")
    checkpoint: str
    checkpoint_sha256: str
    family: str
    device: str
    precision: dict[str, str] = Field(description="component to dtype")
    adapters: tuple[AdapterOutcome, ...] = ()
    outcome: tuple[StageOutcome, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = {}
