"""Turn a request into one plan a picture, with every size, number and seed fixed.

Pure: the same request, preset and seed source give the same plans. What overrides what:

- The preset (or the request's own `stages`) gives the stages.
- `width` and `height`, or `aspect_ratio`, set the size of the last stage; the others keep their proportion to it.
- Pictures that the network looks at give the size where the request tells none.
- `sampler`, `schedule`, `shift`, `guidance` and `cache` apply to every stage.
- `steps` and `cfg` apply to the first stage only. Of a one-stage plan that is the whole plan; in a progressive plan the
  first stage makes the picture and the others refine it with numbers of their own.
- `denoise` applies to the first stage and needs a reference picture.

Invariant: no two noise streams of a plan are the same, unless the request itself fixes their seeds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

from limner.domain import (
    MAX_SEED,
    MAX_SIDE,
    MIN_SIDE,
    SIZE_MULTIPLE,
    AdapterRequest,
    GenerationRequest,
    Plan,
    Recipe,
    Stage,
)
from limner.errors import InvalidRequest
from limner.workflows.presets import Preset

SINGLE_DENOISE = 0.6
FIRST_STAGE_DENOISE = 0.7


def make_plans(
    request: GenerationRequest,
    preset: Preset,
    *,
    default_seed_source: Callable[[], int],
    context_size: tuple[int, int] | None = None,
) -> tuple[Plan, ...]:
    """One plan for each picture of the request.

    Args:
        request: what the caller wants.
        preset: gives the stages where the request has none.
        default_seed_source: called once when the request has no seed; a number from 0 to 2**64 - 1.
        context_size: width and height that follow from the pictures that the network looks at, if there are any: for
            requests that tell no size.

    Raises `InvalidRequest` for a shape that cannot be painted, or a denoise with nothing to start from.
    """
    seed = default_seed_source() if request.seed is None else request.seed
    stages = _adjusted(request, _sized(request, request.stages or preset.stages, context_size))
    for adapter in request.adapters:
        if adapter.stages and max(adapter.stages) >= len(stages):
            raise InvalidRequest(
                f"Adapter `{adapter.name}` is for stage {max(adapter.stages)}, and the picture has {len(stages)}, "
                "counted from 0. Correct its `stages`, or leave them out."
            )
    prompt = with_triggers(request.prompt, request.adapters)
    return tuple(
        Plan(
            prompt=prompt,
            negative_prompt=request.negative_prompt,
            seed=_wrapped(seed + index),
            clip_skip=request.clip_skip,
            stages=_seeded(stages, _wrapped(seed + index), index),
        )
        for index in range(request.count)
    )


def with_triggers(prompt: str, adapters: Sequence[AdapterRequest]) -> str:
    """The prompt with the adapters' trigger words in front, the first adapter's first."""
    for adapter in reversed(adapters):
        if adapter.trigger:
            prompt = f"{adapter.trigger}, {prompt}".strip(", ")
    return prompt


def replayed(recipe: Recipe) -> GenerationRequest:
    """The request for one picture whose plan is the recipe's, whatever presets and defaults say by then."""
    return recipe.request.model_copy(
        update={
            "preset": None,
            "width": None,
            "height": None,
            "aspect_ratio": None,
            "count": 1,
            "seed": recipe.plan.seed,
            "steps": None,
            "cfg": None,
            "sampler": None,
            "schedule": None,
            "shift": None,
            "guidance": None,
            "cache": None,
            "stages": recipe.plan.stages,
        }
    )


def resized(stages: Sequence[Stage], width: int, height: int) -> tuple[Stage, ...]:
    """The stages with the last one at this size and the others in the same proportion to it as before."""
    last = stages[-1]
    return tuple(
        stage.model_copy(
            update={
                "width": _side(stage.width * width / last.width),
                "height": _side(stage.height * height / last.height),
            }
        )
        for stage in stages
    )


def size_of_aspect(aspect_ratio: str, width: int, height: int) -> tuple[int, int]:
    """Width and height of that shape with about the area of `width` x `height`, in multiples of 16.

    Raises `InvalidRequest` when a side would leave the range that can be painted.
    """
    across, down = (int(part) for part in aspect_ratio.split(":"))
    exact = math.sqrt(width * height * across / down), math.sqrt(width * height * down / across)
    if min(exact) < MIN_SIDE or max(exact) > MAX_SIDE:
        limit = math.floor(min(width * height / MIN_SIDE**2, MAX_SIDE**2 / (width * height)))
        raise InvalidRequest(
            f"aspect_ratio {aspect_ratio} would give a picture of {exact[0]:.0f}x{exact[1]:.0f}. "
            f"Choose a shape between 1:{limit} and {limit}:1.",
            aspect_ratio=aspect_ratio,
        )
    return _side(exact[0]), _side(exact[1])


def derived_seed(seed: int, stage: int, purpose: str) -> int:
    """A seed for one noise stream of one stage: the first 8 bytes of the SHA-256 of seed, stage and purpose."""
    digest = hashlib.sha256(f"limner {seed} {stage} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _sized(
    request: GenerationRequest, stages: tuple[Stage, ...], context_size: tuple[int, int] | None
) -> tuple[Stage, ...]:
    if request.aspect_ratio:
        return resized(stages, *size_of_aspect(request.aspect_ratio, stages[-1].width, stages[-1].height))
    if request.width and request.height:
        return resized(stages, request.width, request.height)
    if context_size and not request.stages:
        return resized(stages, *context_size)
    return stages


def _adjusted(request: GenerationRequest, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    everywhere = {
        "sampler": request.sampler,
        "schedule": request.schedule,
        "shift": request.shift,
        "cache": request.cache,
        "guidance": request.guidance,
    }
    first = {"steps": request.steps, "cfg": request.cfg, "denoise": _first_denoise(request, stages)}
    changes = [everywhere | first] + [everywhere] * (len(stages) - 1)
    return tuple(
        stage.model_copy(update={key: value for key, value in change.items() if value is not None})
        for stage, change in zip(stages, changes, strict=True)
    )


def _first_denoise(request: GenerationRequest, stages: tuple[Stage, ...]) -> float | None:
    own = stages[0].denoise
    if not request.references or request.references_as in ("context", "stitched"):
        if request.denoise is not None and request.references:
            raise InvalidRequest(
                "denoise says how far to leave a picture that is painted over, and this request only looks at its "
                "pictures. Leave denoise out, or set references_as to start."
            )
        if request.denoise is not None:
            raise InvalidRequest(
                "denoise says how far to leave a reference picture, and there is none. "
                "Add a picture or leave denoise out."
            )
        if own < 1:
            raise InvalidRequest(
                f"The first stage has denoise {own:g} and nothing to start from. "
                "Add a reference picture or set denoise to 1."
            )
        return None
    if request.denoise is not None:
        return request.denoise
    return own if own < 1 else (SINGLE_DENOISE if len(stages) == 1 else FIRST_STAGE_DENOISE)


def _seeded(stages: tuple[Stage, ...], seed: int, index: int) -> tuple[Stage, ...]:
    def fixed(own: int | None, otherwise: int) -> int:
        return otherwise if own is None else _wrapped(own + index)

    return tuple(
        stage.model_copy(
            update={
                "noise_seed": fixed(stage.noise_seed, derived_seed(seed, number, "noise") if number else seed),
                "stream_seed": fixed(stage.stream_seed, derived_seed(seed, number, "stream")),
            }
        )
        for number, stage in enumerate(stages)
    )


def _side(exact: float) -> int:
    rounded = round(exact / SIZE_MULTIPLE) * SIZE_MULTIPLE
    return min(MAX_SIDE, max(MIN_SIDE, rounded))


def _wrapped(seed: int) -> int:
    return seed % (MAX_SEED + 1)
