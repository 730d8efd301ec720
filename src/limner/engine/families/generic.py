"""Pictures by a pipeline of diffusers, for architectures that the engine does not paint itself.

The pipeline owns the whole way from text to pixels, its scheduler included; what a plan says is handed to whatever its
call has a parameter for. This module knows no pipeline by name. Invariant: what a plan asks for and the pipeline has no
parameter for is refused or said, never left out in silence.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from limner.domain import Plan, StageOutcome
from limner.engine.adapters import AdapterTargets
from limner.engine.checkpoints import CheckpointFiles
from limner.engine.pipeline_folders import DENOISERS, GENERIC
from limner.engine.runner import require_finite
from limner.errors import EngineFault, Refused, Unsupported

# Given to every pipeline that has a parameter of that name; sizes are never rounded, prompts never rewritten.
_ALWAYS: Mapping[str, object] = {
    "num_images_per_prompt": 1,
    "output_type": "pt",
    "use_resolution_binning": False,
    "clean_caption": False,
}


@dataclass(frozen=True)
class Pictures:
    """The pictures that belong to an order: what it starts from, and what the network looks at."""

    start: Image.Image | None = None
    context: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class Remarks:
    """What is to be said before a pipeline paints: facts, and warnings where the result is not quite what was asked."""

    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class _Watch:
    """What is passed between a pipeline's steps and those who wait for it."""

    stepped: Callable[[int, int], None]
    cancelled: Callable[[], bool]
    steps: int
    taken: int = 0
    began: float = field(default_factory=time.monotonic)


class _Cancelled(Exception):
    """The picture is not wanted any more."""


class GenericPipeline:
    """A loaded pipeline; it paints one picture at a time, and is called from one thread at a time.

    Args:
        pipeline: of diffusers, with its weights where they belong.
        redrawing: a pipeline of the same components that starts from a picture, or None where there is none.
        files: where it came from.
        device: what it computes on.
        dtype: the precision of all its components.
    """

    name = GENERIC

    def __init__(
        self, pipeline: Any, redrawing: Any | None, files: CheckpointFiles, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.files = files
        self.device = device
        self.dtype = dtype
        self._pipeline = pipeline
        self._redrawing = redrawing

    @property
    def title(self) -> str:
        """The class of the pipeline, as diffusers calls it."""
        return type(self._pipeline).__name__

    def networks(self) -> dict[str, nn.Module]:
        """Its networks by component; the denoiser is `transformer`."""
        named = {name: part for name, part in self._pipeline.components.items() if isinstance(part, nn.Module)}
        denoiser = next((name for name in DENOISERS if name in named), None)
        return {"transformer" if name == denoiser else name: part for name, part in named.items()}

    def adapter_targets(self) -> AdapterTargets:
        """None: adapters are not attached to pipelines."""
        return AdapterTargets({}, {})

    def judge(self, plan: Plan, pictures: Pictures, masked: bool) -> Remarks:
        """What will be different from what was asked.

        Raises:
            Unsupported: it cannot be painted at all; the message says what to leave out.
        """
        own = f"This checkpoint is painted by its own pipeline ({self.title}), which"
        if len(plan.stages) != 1:
            raise Unsupported(
                f"{own} paints in one stage; the plan has {len(plan.stages)}. Choose a preset of one stage, or give "
                "steps and size alone."
            )
        if masked:
            raise Unsupported(f"{own} takes no mask here. Leave the mask out, or choose another checkpoint.")
        pipeline = self._pipeline_for(pictures)
        takes = _parameters(pipeline)
        if (pictures.start or pictures.context) and "image" not in takes:
            raise Unsupported(f"{own} takes no pictures. Leave the reference out, or choose another checkpoint.")
        scheduler = type(pipeline.scheduler).__name__ if "scheduler" in pipeline.components else "none"
        notes = [f"{own} makes one picture at a time, and shows none on its way."]
        stage = plan.stages[0]
        warnings = [f"{own} has its own sampler ({scheduler}) and schedule: those of the plan are not followed."]
        if pictures.start is not None and "strength" not in takes:
            warnings.append(
                f"{own} knows no denoise: the reference is a picture that it looks at, not one that is painted over."
            )
        elif pictures.start is not None:
            notes.append(
                f"{own} takes denoise as its strength: at {stage.denoise:g} it takes that share of the steps, "
                "which looks different from the same denoise elsewhere."
            )
        told = {"guidance_scale", "true_cfg_scale"} <= takes  # the first is the guidance only beside the second
        chosen = {"shift": stage.shift, "cache": stage.cache, "guidance": None if told else stage.guidance}
        if ignored := [name for name, wish in chosen.items() if wish is not None]:
            warnings.append(f"{own} does not follow {', '.join(ignored)}.")
        if plan.negative_prompt.strip() and "negative_prompt" not in takes:
            warnings.append(f"{own} takes no negative prompt.")
        if stage.cfg != 1 and not {"guidance_scale", "true_cfg_scale"} & takes:
            warnings.append(f"{own} takes no cfg: the {stage.cfg:g} that was asked for is not followed.")
        if not {"callback_on_step_end", "callback"} & takes:
            warnings.append(f"{own} tells nothing while it paints, and cannot be stopped in the middle of a picture.")
        return Remarks(tuple(notes), tuple(warnings))

    def paint(
        self,
        plan: Plan,
        pictures: Pictures,
        stepped: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> tuple[Tensor, StageOutcome] | None:
        """Pixels (3, H, W) in [-1, 1] on the CPU, and what they cost; None when it was cancelled.

        Args:
            plan: of one stage, judged before.
            pictures: of the order, the first one of the plan's size.
            stepped: called after each step with its number and how many there are.
            cancelled: asked after each step.

        Raises:
            EngineFault: the picture is not finite or of another size than the plan's.
            Refused: the checkpoint's own safety checker does not give the picture away.
        """
        pipeline = self._pipeline_for(pictures)
        watch = _Watch(stepped, cancelled, plan.stages[0].steps)
        if cancelled():
            return None
        try:
            result = pipeline(**self._arguments(pipeline, plan, pictures, watch))
        except _Cancelled:
            # What the call would have done at its end: weights that are offloaded go back.
            getattr(pipeline, "maybe_free_model_hooks", int)()
            return None
        if any(getattr(result, "nsfw_content_detected", None) or []):
            raise Refused(
                f"The safety checker of this checkpoint ({self.title}) withholds the picture. Change the prompt."
            )
        pixels = _pixels(result)
        require_finite(pixels, "picture")
        wanted = (3, plan.height, plan.width)
        if tuple(pixels.shape) != wanted:
            _, height, width = pixels.shape
            raise EngineFault(
                f"{self.title} made a picture of {width}x{height} where {plan.width}x{plan.height} was asked for. "
                "Choose a size that it makes."
            )
        return pixels * 2 - 1, StageOutcome(
            evaluations=watch.taken or watch.steps, duration_s=time.monotonic() - watch.began
        )

    def _pipeline_for(self, pictures: Pictures) -> Any:
        wanted = pictures.start is not None and not {"image", "strength"} <= _parameters(self._pipeline)
        return self._redrawing if wanted and self._redrawing is not None else self._pipeline

    def _arguments(self, pipeline: Any, plan: Plan, pictures: Pictures, watch: _Watch) -> dict[str, Any]:
        takes, stage = _parameters(pipeline), plan.stages[0]
        offered: dict[str, Any] = {
            "prompt": plan.prompt,
            "width": stage.width,
            "height": stage.height,
            "num_inference_steps": stage.steps,
            "guidance_scale": stage.cfg,
            "generator": torch.Generator("cpu").manual_seed(
                plan.seed if stage.noise_seed is None else stage.noise_seed
            ),
            **_ALWAYS,
        }
        if "true_cfg_scale" in takes:
            # Such pipelines call the number that their network is told guidance, and guide with another one.
            offered["true_cfg_scale"] = stage.cfg
            offered.pop("guidance_scale")
            offered |= {} if stage.guidance is None else {"guidance_scale": stage.guidance}
        if plan.negative_prompt.strip():
            offered["negative_prompt"] = plan.negative_prompt
        elif "true_cfg_scale" in takes and stage.cfg > 1:
            offered["negative_prompt"] = " "  # without one, it would not guide at all
        if pictures.start is not None:
            offered |= {"image": pictures.start, "strength": stage.denoise}
        elif pictures.context:
            offered["image"] = pictures.context[0] if len(pictures.context) == 1 else list(pictures.context)
        offered |= _callbacks(pipeline, takes, watch)
        return {name: value for name, value in offered.items() if name in takes}


def require_paintable(pipeline: Any, files: CheckpointFiles) -> None:
    """Refuse a pipeline that cannot be called with what a request holds.

    Raises:
        Unsupported: the message says what it wants.
    """
    known = inspect.signature(type(pipeline).__call__).parameters
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    wanted = [
        name
        for name, parameter in list(known.items())[1:]
        if parameter.default is inspect.Parameter.empty and parameter.kind in kinds and name not in ("prompt", "image")
    ]
    lacks = [name for name in ("prompt", "num_inference_steps", "generator", "output_type") if name not in known]
    if wanted or lacks:
        why = f"wants {', '.join(wanted)}" if wanted else f"takes no {', '.join(lacks)}"
        raise Unsupported(
            f"`{files.path}` belongs to diffusers' {type(pipeline).__name__}, which {why}. Choose a checkpoint of a "
            "pipeline that makes pictures from text.",
            file=str(files.path),
        )


def _parameters(pipeline: Any) -> set[str]:
    return set(inspect.signature(type(pipeline).__call__).parameters)


def _callbacks(pipeline: Any, takes: set[str], watch: _Watch) -> dict[str, Any]:
    def after(step: int) -> None:
        watch.taken = step + 1
        watch.steps = int(getattr(pipeline, "num_timesteps", 0) or 0) or max(watch.steps, watch.taken)
        watch.stepped(min(watch.taken, watch.steps), watch.steps)
        if watch.cancelled():
            raise _Cancelled

    def ended(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        after(step)
        return tensors

    def older(step: int, _: Any, __: Any) -> None:
        after(step)

    if "callback_on_step_end" in takes:
        return {"callback_on_step_end": ended}
    return {"callback": older, "callback_steps": 1}


def _pixels(result: Any) -> Tensor:
    images = getattr(result, "images", None)
    first = images[0] if images is not None and len(images) else None
    if not isinstance(first, Tensor) or first.ndim != 3:
        raise EngineFault(f"The pipeline answered {type(result).__name__} without a picture. Report this.")
    return first.detach().float().cpu()
