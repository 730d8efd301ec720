"""Orders for checkpoints that a pipeline paints as a whole, beside the engine's steps.

It says what a pipeline will not follow, and puts the pictures in line; what happens to them comes back in the engine's
own words. Invariant: its pictures' ids are below 0, where the engine has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from limner.domain import AdapterOutcome, AdapterStatus
from limner.errors import AdapterMismatch

if TYPE_CHECKING:
    from limner.backends.native import Job
    from limner.engine.engine import Happening
    from limner.engine.families.generic import GenericPipeline
    from limner.engine.pipeline_lane import PipelineLane


class WholePictures:
    """The pictures that pipelines paint.

    Args:
        post: called with whatever happens to them, in a thread of its own.
    """

    def __init__(self, post: Callable[[Happening], None]) -> None:
        self._post = post
        self._lane: PipelineLane | None = None
        self._last = 0

    def accept(self, job: Job, pipeline: GenericPipeline) -> dict[int, int]:
        """Put an order's pictures in line; their ids, each with its index in the order.

        Raises:
            Unsupported: the pipeline cannot paint it; the message says what to leave out.
            AdapterMismatch: it has adapters, and shall not be painted without them.
        """
        from limner.engine.families.generic import Pictures
        from limner.engine.pipeline_lane import PipelineLane, PipelinePainting

        _skip_adapters(job, pipeline)
        order = job.order
        pictures = Pictures(order.reference, order.context)
        remarks = pipeline.judge(order.plans[0], pictures, masked=order.mask is not None)
        for note in remarks.notes:
            job.note(note, "pipeline")
        for warning in remarks.warnings:
            job.warn(warning, "not_followed")
        if not order.request.prompt.strip():
            job.note("The prompt is empty: the picture is whatever comes.", "empty_prompt")
        lane = self._lane = self._lane or PipelineLane(self._post)
        ids: dict[int, int] = {}
        for index, plan in enumerate(order.plans):
            self._last -= 1
            ids[self._last] = index
            lane.add(PipelinePainting(self._last, pipeline, plan, pictures))
        return ids

    def abort(self, id: int) -> None:
        """Drop a picture; one under way stops after its step. Others are ignored."""
        if self._lane is not None:
            self._lane.abort(id)

    def close(self) -> None:
        """Drop all pictures and wait for the step under way."""
        if self._lane is not None:
            self._lane.close()
            self._lane = None


def _skip_adapters(job: Job, pipeline: GenericPipeline) -> None:
    reason = f"its pipeline ({pipeline.title}) takes no adapters here."
    outcomes: list[AdapterOutcome] = []
    for wanted in job.request.adapters:
        outcome = AdapterOutcome(
            name=wanted.name,
            requested_weight=wanted.weight,
            status=AdapterStatus.SKIPPED,
            matched=0,
            total=0,
            reason=reason,
        )
        message = f"LoRA `{wanted.name}` was skipped: {reason}"
        if job.request.on_adapter_mismatch == "fail":
            raise AdapterMismatch(message, outcome=outcome.model_dump(mode="json"))
        job.warn(message, "adapter_mismatch")
        outcomes.append(outcome)
    job.outcomes = tuple(outcomes)
