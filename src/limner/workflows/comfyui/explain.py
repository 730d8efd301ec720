"""Tell in words what limner will do with a workflow, and what it will not.

As a record for programs and as lines for people; both say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from limner.domain import SIZE_MULTIPLE, Stage
from limner.workflows.comfyui.translate import Translation
from limner.workflows.comfyui.wires import Pass

TITLES = {"differs": "The picture may differ", "note": "Worth knowing", "ignored": "Without effect"}


def record_of(translation: Translation) -> dict[str, Any]:
    """The translation for programs; `request` is None where it cannot be run as it stands."""
    request = translation.request
    return {
        "runs": request is not None,
        "output": translation.output,
        "request": request.model_dump(mode="json", exclude_unset=True) if request else None,
        "stages": [
            {"node": step.node, "text": stage_text(step, _stage(translation, number))}
            for number, step in enumerate(translation.passes)
        ],
        "unsupported": [vars(trouble) for trouble in translation.troubles],
        "missing": [vars(missing) | {"near": list(missing.near)} for missing in translation.missing],
        "remarks": [vars(remark) for remark in translation.remarks],
    }


def lines_of(translation: Translation) -> Iterator[str]:
    """The translation for people."""
    request, passes = translation.request, translation.passes
    if request is not None and request.stages:
        last = request.stages[-1]
        yield f"Runs natively: {last.width}x{last.height} with checkpoint `{request.model}`."
    else:
        yield "Cannot be run natively as it stands."
    for number, step in enumerate(passes):
        yield f"  stage {number + 1} (node {step.node}): {stage_text(step, _stage(translation, number))}"
    if passes:
        yield f"  prompt: {request.prompt if request else passes[0].positive.text}"
    if request is not None:
        yield from _more(translation)
    if translation.troubles:
        yield "Not supported:"
        yield from (f"  {trouble}" for trouble in translation.troubles)
    if translation.missing:
        yield "Not here:"
        yield from (f"  {missing}" for missing in translation.missing)
    for kind, title in TITLES.items():
        if remarks := [remark for remark in translation.remarks if remark.kind == kind]:
            yield f"{title}:"
            nodes: dict[str, list[str]] = {}
            for remark in remarks:
                nodes.setdefault(remark.text, []).append(remark.node)
            yield from (f"  node {', '.join(ids)}: {text}." for text, ids in nodes.items())


def stage_text(step: Pass, stage: Stage | None = None) -> str:
    """A sampler in one line; as the stage that it becomes, where there is one."""
    size = (stage.width, stage.height) if stage else step.size
    steps = stage.steps if stage else step.steps - step.begin
    denoise = stage.denoise if stage else step.denoise
    shift = stage.shift if stage else step.model.shift
    told = [
        f"{size[0]}x{size[1]}" if size else f"as large as its picture, in multiples of {SIZE_MULTIPLE}",
        f"{steps} steps" if not step.begin else f"the last {steps} of {step.steps} steps",
        f"cfg {step.cfg:g}",
        f"{step.sampler}, {step.schedule}",
    ]
    told += [] if step.positive.guidance is None else [f"guidance {step.positive.guidance:g}"]
    told += [] if shift is None else [f"shift {shift:.4g}"]
    told += [f"denoise {denoise:g}"] if denoise < 1 and not step.begin else []
    told += [f"cache {step.model.cache.reuse_threshold:g}"] if step.model.cache else []
    return " · ".join([*told, f"seed {step.seed}"])


def _more(translation: Translation) -> Iterator[str]:
    request = translation.request
    assert request is not None
    if request.negative_prompt:
        yield f"  negative: {request.negative_prompt}"
    for adapter in request.adapters:
        where = f" in stages {', '.join(str(number + 1) for number in adapter.stages)}" if adapter.stages else ""
        yield f"  LoRA: {adapter.name} at {adapter.weight:g}{where}"
    if request.references:
        mask = " with a mask" if request.mask else ""
        yield f"  pictures: {len(request.references)}, as {request.references_as}{mask}"
    if request.count > 1:
        yield f"  {request.count} pictures, each with the next seeds"


def _stage(translation: Translation, number: int) -> Stage | None:
    stages = translation.request.stages if translation.request else None
    return stages[number] if stages else None
