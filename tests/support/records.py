"""Records that many tests need."""

from __future__ import annotations

from typing import Any

from PIL import Image

from limner.domain import AdapterOutcome, AdapterStatus, GenerationRequest, Recipe, StageOutcome
from limner.workflows.plans import make_plans
from limner.workflows.presets import Presets


def recipe(preset: str = "progressive", **fields: Any) -> Recipe:
    """A recipe as a backend would make it for the first picture of such a request."""
    request = GenerationRequest.model_validate({"prompt": "a red boat", "seed": 7} | fields)
    plan = make_plans(request, Presets().get(preset), default_seed_source=lambda: 99)[0]
    return Recipe(
        request=request,
        plan=plan,
        checkpoint="sketchbook",
        checkpoint_sha256="0123456789abcdef" * 4,
        family="zimage",
        device="cpu",
        precision={"transformer": "float32"},
        adapters=tuple(
            AdapterOutcome(
                name=adapter.name,
                requested_weight=adapter.weight,
                status=AdapterStatus.APPLIED,
                matched=3,
                total=3,
            )
            for adapter in request.adapters
        ),
        outcome=tuple(StageOutcome(evaluations=stage.steps, duration_s=0.5) for stage in plan.stages),
        versions={"limner": "0.1.0"},
    )


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    """A picture in which every column and row differs."""
    red = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, red.transpose(Image.Transpose.FLIP_TOP_BOTTOM), red.rotate(180)))
