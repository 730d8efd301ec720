"""A thread in which pipelines paint, one picture after another, beside the engine's steps.

What happens is posted in the engine's own words, so that whoever listens cannot tell who painted. Invariant: of a
picture that was aborted nothing is posted any more.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from limner.domain import Plan
from limner.engine.engine import Broke, Happening, Painted, StageBegan, StageEnded, Stepped
from limner.engine.families.generic import GenericPipeline, Pictures
from limner.engine.runner import guarded
from limner.errors import LimnerError

IDLE_S = 0.2


@dataclass(frozen=True, eq=False)
class PipelinePainting:
    """One picture to be painted by a pipeline; `id` is what its happenings carry."""

    id: int
    pipeline: GenericPipeline
    plan: Plan
    pictures: Pictures


class PipelineLane:
    """Pictures in the order in which they were added.

    Args:
        post: called in the lane's thread with whatever happened.
    """

    def __init__(self, post: Callable[[Happening], None]) -> None:
        self._post = post
        self._waiting: queue.Queue[PipelinePainting | None] = queue.Queue()
        self._wanted: set[int] = set()
        self._thread: threading.Thread | None = None

    def add(self, painting: PipelinePainting) -> None:
        """Put a picture in line; the thread starts with the first."""
        self._wanted.add(painting.id)
        self._waiting.put(painting)
        if self._thread is None:
            # Not a daemon: those are cut off inside torch when the program ends, which aborts it.
            self._thread = threading.Thread(target=self._work, name="limner-pipelines")
            self._thread.start()

    def abort(self, id: int) -> None:
        """Drop a picture; one under way stops after its step. Unknown and finished ids are ignored."""
        self._wanted.discard(id)

    def close(self) -> None:
        """Drop all pictures and wait for the step under way."""
        self._wanted.clear()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join()

    def _work(self) -> None:
        # A program that ends without closing us must not wait for its pictures.
        while threading.main_thread().is_alive():
            try:
                painting = self._waiting.get(timeout=IDLE_S)
            except queue.Empty:
                continue
            if painting is None:
                return
            self._paint(painting)
            self._wanted.discard(painting.id)
            del painting  # it may hold the last pipeline of its kind

    def _paint(self, painting: PipelinePainting) -> None:
        id = painting.id

        def wanted() -> bool:
            return id in self._wanted and threading.main_thread().is_alive()

        def post(happening: Happening) -> None:
            if wanted():
                self._post(happening)

        def stepped(step: int, steps: int) -> None:
            post(Stepped(id, 0, step, steps, step / steps))

        post(StageBegan(id, 0))
        try:
            doing = f"painting with {painting.pipeline.title}"
            done = guarded(
                lambda: painting.pipeline.paint(painting.plan, painting.pictures, stepped, lambda: not wanted()), doing
            )
        except LimnerError as error:
            post(Broke(id, error))
            return
        if done is not None:
            pixels, outcome = done
            post(StageEnded(id, 0, outcome))
            post(Painted(id, pixels, torch.empty(0), (outcome,)))
