"""What there is to choose from: models, adapters, backends, presets, templates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from limner.domain import (
    MAX_ADAPTERS,
    MAX_CFG,
    MAX_COUNT,
    MAX_PROMPT,
    MAX_REFERENCES,
    MAX_SIDE,
    MAX_STAGES,
    MAX_STEPS,
    MIN_SIDE,
    SAMPLERS,
    SCHEDULES,
    SIZE_MULTIPLE,
    AdapterStatus,
    GenerationRequest,
    ReferencesAs,
    Stage,
    Text,
)
from limner.errors import InvalidRequest, LimnerError, NotFound
from limner.ports import Capabilities
from limner.server.holdings import holding
from limner.server.state import Owner, Parts
from limner.server.views import Moment, TemplateView, View, absent, template_view
from limner.studio import Studio, offered_backends
from limner.workflows.families import FACTS, edits_pictures
from limner.workflows.plans import size_of_aspect

router = APIRouter(prefix="/api", tags=["catalog"])
log = logging.getLogger("limner.server")
NOTHING = Capabilities(
    (), (), (), previews=False, adapters=False, references=False, negative_prompts=False, guidance=False
)
ASPECT_RATIOS = ("1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16", "21:9", "9:21")


class TemplateBody(BaseModel):
    """A request to be saved under a name."""

    model_config = ConfigDict(extra="forbid")
    name: Text = Field(min_length=1, max_length=200)
    request: GenerationRequest


class SizeView(View):
    """How large a picture is."""

    width: int = Field(description="in pixels")
    height: int = Field(description="in pixels")


class ModelView(View):
    """A checkpoint that a worker has found."""

    name: str = Field(description="what a request's `model` names it by")
    family: str = Field(default="", description="its architecture; empty where it is not known")
    size_bytes: int = Field(default=0, description="of its files; 0 where it is not known")
    builtin: bool = Field(default=False, description="whether it came with limner")
    problem: str = Field(default="", description="why it cannot be used, and what to do; empty when it can")
    sha256: str | SkipJsonSchema[None] = absent("of its weights, in hexadecimal, once a worker has read them")
    loaded: bool = Field(default=False, description="whether a worker has it in memory")
    loading: bool = Field(default=False, description="whether a worker was asked to load it and has not done so yet")
    unloading: bool = Field(default=False, description="whether its memory is freed once its pictures are finished")
    load_problem: str = Field(default="", description="why it was not loaded when that was asked for; empty else")
    memory_bytes: int = Field(default=0, description="what its weights hold, over all workers that have it in memory")
    memory_by_component: dict[str, int] = Field(default={}, description="the same for each of its networks")
    idle_since: Moment | SkipJsonSchema[None] = absent("since when no picture is painted with it, while it is loaded")
    preset: str = Field(description="for requests that name none")
    size: SizeView | SkipJsonSchema[None] = absent("of a picture whose request tells none; absent with a broken preset")
    sizes: dict[str, SizeView] = Field(description="what `aspect_ratio` makes of that, for the shapes in wide use")
    size_multiple: int = Field(description="sides are multiples of this many pixels")
    guidance: bool = Field(description="whether `cfg` and the negative prompt have an effect")
    distilled_guidance: bool = Field(description="whether its network is told `guidance` as a number")
    clip_skip: bool = Field(description="whether `clip_skip` has an effect")
    context_references: int = Field(description="pictures that it can look at while it paints; 0 where it cannot")
    edits: bool = Field(description="whether it is made to change the picture that it is shown")


class ModelList(View):
    """What can be painted with."""

    models: tuple[ModelView, ...] = Field(description="the checkpoints of all living workers together")
    default: str = Field(description="for requests that name none")
    workers: int = Field(description="living workers that have looked for checkpoints")


class AdapterFit(View):
    """How an adapter fits a checkpoint, judged by the names and shapes of its weights."""

    status: AdapterStatus = Field(description="how far it would be applied")
    matched: int = Field(description="weights of the file that find their place")
    total: int = Field(description="weights that the file holds")
    reason: str = Field(description="why it would not be applied in full; empty when it would")


class AdapterView(View):
    """A LoRA file."""

    name: str = Field(description="what a request's `adapters` name it by")
    trigger: str = Field(description="words that are put in front of the prompt; may be empty")
    suggested: tuple[str, ...] = Field(description="words that its training used most; none is put anywhere by itself")
    fits: dict[str, AdapterFit] = Field(description="by checkpoint; empty while no worker has looked at the file")
    fit: AdapterFit | None = Field(
        default=None, description="how it fits the checkpoint of `?model=`; null without that, and while nobody knows"
    )


class AdapterList(View):
    """The LoRA files that there are."""

    adapters: tuple[AdapterView, ...] = Field(description="by name; with `?model=` those that fit best come first")


class DeviceView(View):
    """What a worker paints on; all is absent until it has looked."""

    device: str | SkipJsonSchema[None] = absent("such as `cpu` or `cuda:0`")
    device_name: str | SkipJsonSchema[None] = absent("what its maker calls it")
    precision: dict[str, str] | SkipJsonSchema[None] = absent("number formats by component")
    memory_total_bytes: int | SkipJsonSchema[None] = absent("its memory")
    memory_free_bytes: int | SkipJsonSchema[None] = absent("of that, what was free when the worker looked")
    threads: int | SkipJsonSchema[None] = absent("threads that the worker uses")
    versions: dict[str, str] | SkipJsonSchema[None] = absent("of the packages that paint")
    problems: tuple[str, ...] | SkipJsonSchema[None] = absent("what is in the way")
    notes: tuple[str, ...] | SkipJsonSchema[None] = absent("what is worth knowing")


class WorkerView(View):
    """A living worker as it reported itself last."""

    id: str = Field(description="the worker's name")
    host: str = Field(description="the machine that it runs on")
    pid: int = Field(description="its process there")
    lane: str = Field(description="the kind of work that it takes: `native` or `remote`")
    started_at: Moment = Field(description="when it started")
    seen_at: Moment = Field(description="when it gave its last sign of life")
    slots: int = Field(description="jobs that it takes at a time")
    device: DeviceView = Field(description="what it paints on")
    loaded: tuple[str, ...] = Field(description="names of the checkpoints in its memory")
    statistics: dict[str, float] = Field(description="figures of its engine, as `/metrics` has them")


class LimitsView(View):
    """What a request may ask for at most."""

    min_side: int = Field(description="shortest side in pixels")
    max_side: int = Field(description="longest side in pixels")
    size_multiple: int = Field(description="sides are multiples of this many pixels")
    max_steps: int = Field(description="denoising steps of a stage")
    max_cfg: float = Field(description="highest guidance")
    max_count: int = Field(description="pictures of a request")
    max_stages: int = Field(description="stages of a picture")
    max_adapters: int = Field(description="adapters of a request")
    max_references: int = Field(description="pictures to start from or to look at; 0 where there can be none")
    max_prompt: int = Field(description="characters of a prompt")


class CapabilitiesView(View):
    """What can be asked of a backend: a form shows this and no more."""

    problem: str = Field(description="why it cannot be used, and what to do; empty when it can")
    models: tuple[str, ...] = Field(description="what `model` may name there; of `native`, what living workers found")
    samplers: tuple[str, ...] = Field(description="what `sampler` may be")
    schedules: tuple[str, ...] = Field(description="what `schedule` may be")
    previews: bool = Field(description="whether pictures on their way can be seen")
    adapters: bool = Field(description="whether it applies LoRAs")
    references: bool = Field(description="whether it can start from a picture")
    masks: bool = Field(description="whether it can repaint a part of that picture")
    negative_prompts: bool = Field(description="whether it can be told what to keep out")
    guidance: bool = Field(description="whether `cfg` has an effect")
    limits: LimitsView = Field(description="what a request may ask for at most")


class BackendView(View):
    """Places where pictures are made."""

    backends: tuple[str, ...] = Field(description="what a request's `backend` may name")
    default: str = Field(description="for requests that name none")
    capabilities: dict[str, CapabilitiesView] = Field(description="what each of them can do, by name")
    workers: tuple[WorkerView, ...] = Field(description="living workers, the newest first")


class PresetView(View):
    """Named stages."""

    name: str = Field(description="what a request's `preset` names it by")
    shipped: bool = Field(description="whether it came with limner")
    problem: str = Field(description="why its file cannot be used; empty when it can")
    description: str | SkipJsonSchema[None] = absent("what it is for, where the file can be used")
    family: str = Field(default="", description="the architecture that it is made for; empty where any will do")
    negative_prompt: str = Field(default="", description="for requests that have none")
    clip_skip: int | SkipJsonSchema[None] = absent("for requests that have none")
    references_as: ReferencesAs | SkipJsonSchema[None] = absent("for requests that do not say it")
    stages: tuple[Stage, ...] | SkipJsonSchema[None] = absent("its stages, where the file can be used")
    sizes: dict[str, SizeView] | SkipJsonSchema[None] = absent(
        "of the picture, by `aspect_ratio`, for the shapes in wide use; where the file can be used"
    )


class PresetList(View):
    """What there is to say about stages."""

    presets: tuple[PresetView, ...] = Field(description="by name")
    default: str = Field(description="for requests that name none")
    samplers: tuple[str, ...] = Field(description="what a stage's `sampler` may be")
    schedules: tuple[str, ...] = Field(description="what a stage's `schedule` may be")


class TemplateList(View):
    """One's saved requests."""

    templates: tuple[TemplateView, ...] = Field(description="by name")


@router.get("/models", operation_id="models_list", summary="Checkpoints")
async def list_models(parts: Parts) -> ModelList:
    """What the workers that are alive can paint with, and what they have in memory."""
    # Wishes first: a worker tells what it holds before it ends a wish, and nobody shall see neither.
    wishes = await parts.service.wishes.list()
    workers = await parts.service.living_workers()
    models: dict[str, dict[str, Any]] = {}
    for worker in workers:
        for model in worker.models:
            entry = models.setdefault(model["name"], model.copy())
            if model.get("sha256"):
                entry["sha256"] = model["sha256"]
    for name, entry in models.items():
        entry |= holding(name, workers, wishes)
    able = sum(bool(worker.models) for worker in workers)
    studio = parts.service.studio
    return ModelList(
        models=tuple(ModelView.model_validate(_facts(studio, model) | model) for model in models.values()),
        default=parts.service.settings.native.model,
        workers=able,
    )


@router.get("/adapters", operation_id="adapters_list", summary="LoRA files")
async def list_adapters(
    parts: Parts, model: Annotated[str | None, Query(max_length=500, description="a checkpoint's name")] = None
) -> AdapterList:
    """Names that a request may put into `adapters`, with their trigger words and how they fit each checkpoint.

    `fits` is empty while no worker has looked at the file. With `model`, `fit` is the one for that checkpoint, and
    those that fit best come first.
    """
    workers = await parts.service.living_workers()
    models = {entry["name"] for worker in workers for entry in worker.models}
    if model is not None and models and model not in models:
        raise NotFound(f"There is no checkpoint `{model[:80]}`. Known: {', '.join(sorted(models))}.")
    fits: dict[str, dict[str, Any]] = {}
    for worker in reversed(workers):
        for entry in worker.adapters:
            fits.setdefault(entry["name"], {}).update(entry["fits"])
    rows: list[dict[str, Any]] = [
        {**row, "fits": fits.get(row["name"], {})} for row in await asyncio.to_thread(parts.service.studio.adapters)
    ]
    if model is not None:
        rows = [row | {"fit": row["fits"].get(model)} for row in rows]
        order = ["applied", "partial", None, "skipped"]
        rows.sort(key=lambda row: order.index(row["fit"]["status"] if row["fit"] else None))
    return AdapterList(adapters=tuple(AdapterView.model_validate(row) for row in rows))


@router.get("/backends", operation_id="backends_list", summary="Places where pictures are made")
async def list_backends(parts: Parts) -> BackendView:
    """Their names, what each can do, and the workers that are alive."""
    workers = await parts.service.living_workers()
    found = {entry["name"]: None for worker in workers for entry in worker.models if not entry.get("problem")}
    names = offered_backends(parts.service.settings.backend)
    able = await asyncio.to_thread(lambda: [_capabilities(parts.service.studio, name, tuple(found)) for name in names])
    return BackendView(
        backends=tuple(names),
        default=parts.service.settings.backend,
        capabilities=dict(zip(names, able, strict=True)),
        workers=tuple(WorkerView.model_validate(vars(worker)) for worker in workers),
    )


@router.get("/presets", operation_id="presets_list", summary="Presets")
async def list_presets(parts: Parts) -> PresetList:
    """Named stages, and the samplers and schedules that stages may name."""
    presets = parts.service.studio.presets
    return PresetList(
        presets=tuple(
            PresetView(
                name=row.name,
                shipped=row.shipped,
                problem=row.problem,
                description=row.preset.description if row.preset else None,
                family=row.preset.family if row.preset else "",
                negative_prompt=row.preset.negative_prompt if row.preset else "",
                clip_skip=row.preset.clip_skip if row.preset else None,
                references_as=row.preset.references_as if row.preset else None,
                stages=row.preset.stages if row.preset else None,
                sizes=_sizes(row.preset.stages) if row.preset else None,
            )
            for row in presets.list()
        ),
        default=presets.default,
        samplers=SAMPLERS,
        schedules=SCHEDULES,
    )


@router.get("/templates", operation_id="templates_list", summary="Saved requests")
async def list_templates(parts: Parts, owner: Owner) -> TemplateList:
    """One's saved requests by name."""
    templates = await parts.service.gallery.list_templates(owner)
    return TemplateList(templates=tuple(template_view(template) for template in templates))


@router.post("/templates", operation_id="templates_add", status_code=201, summary="Save a request")
async def add_template(body: TemplateBody, parts: Parts, owner: Owner) -> TemplateView:
    """Under a name that is not taken yet."""
    return template_view(await parts.service.gallery.add_template(owner, body.name, body.request))


@router.delete(
    "/templates/{template_id}", operation_id="templates_delete", status_code=204, summary="Forget a saved request"
)
async def delete_template(template_id: str, parts: Parts, owner: Owner) -> None:
    """For good."""
    await parts.service.gallery.delete_template(template_id, owner)


def _facts(studio: Studio, model: dict[str, Any]) -> dict[str, Any]:
    """What a request for a checkpoint may ask, and what it gets where it does not."""
    family = model.get("family")
    known = FACTS.get(family or "")
    preset = studio.presets.default_for(family)
    facts: dict[str, Any] = {
        "preset": preset or studio.presets.default,
        "sizes": {},
        "size_multiple": SIZE_MULTIPLE,
        "guidance": studio.abilities("native").guidance,
        "distilled_guidance": bool(known and known.guidance),
        "clip_skip": bool(known and known.clip_skip),
        "context_references": known.context if known else 0,
        "edits": edits_pictures(model["name"], family),
    }
    try:
        stages = studio.presets.get(preset).stages
        facts |= {"size": SizeView(width=stages[-1].width, height=stages[-1].height), "sizes": _sizes(stages)}
    except LimnerError as error:
        log.warning("the preset `%s` cannot be used: %s", facts["preset"], error.message)
    return facts


def _capabilities(studio: Studio, name: str, found: tuple[str, ...]) -> CapabilitiesView:
    try:
        able, problem = studio.abilities(name), ""
    except Exception as error:  # one that another package brings must not hide the others
        if not isinstance(error, LimnerError):
            log.warning("backend %s cannot be made", name, exc_info=error)
        problem = error.message if isinstance(error, LimnerError) else f"It cannot be made ({error}). Look at the log."
        able = NOTHING
    return CapabilitiesView(
        problem=problem,
        models=able.models or (found if name == "native" else ()),
        samplers=able.samplers,
        schedules=able.schedules,
        previews=able.previews,
        adapters=able.adapters,
        references=able.references,
        masks=able.masks,
        negative_prompts=able.negative_prompts,
        guidance=able.guidance,
        limits=LimitsView(
            min_side=MIN_SIDE,
            max_side=MAX_SIDE,
            size_multiple=SIZE_MULTIPLE,
            max_steps=MAX_STEPS,
            max_cfg=MAX_CFG,
            max_count=MAX_COUNT,
            max_stages=MAX_STAGES,
            max_adapters=MAX_ADAPTERS if able.adapters else 0,
            max_references=MAX_REFERENCES if able.references else 0,
            max_prompt=MAX_PROMPT,
        ),
    )


def _sizes(stages: Sequence[Stage]) -> dict[str, SizeView]:
    """What becomes of the finished picture in each shape that it can have."""
    sizes: dict[str, SizeView] = {}
    for shape in ASPECT_RATIOS:
        try:
            width, height = size_of_aspect(shape, stages[-1].width, stages[-1].height)
        except InvalidRequest:
            continue
        sizes[shape] = SizeView(width=width, height=height)
    return sizes
