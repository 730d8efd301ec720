"""Everything that touches the device: conditioning, forwards, pixels.

The runner decides nothing. It evaluates what it is handed, splits a forward that does not fit the memory, and turns
what libraries raise into our errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from limner.domain import Plan
from limner.engine.families.port import AppliedAdapters, Family, Row
from limner.engine.trajectory import NEGATIVE, POSITIVE, Trajectory
from limner.errors import EngineFault, LimnerError, OutOfMemory

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Painting:
    """One picture to be painted.

    `reference` is (3, H, W) in [-1, 1] at the size of the plan's first stage.
    """

    plan: Plan
    family: Family
    adapters: AppliedAdapters = ()
    reference: Tensor | None = None
    previews: bool = False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library's error says that memory ran out (CUDA's own class, or the CPU allocator's message)."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def guarded(run: Callable[[], T], doing: str) -> T:
    """Run device work; whatever a library raises becomes `OutOfMemory` or `EngineFault`."""
    try:
        return run()
    except LimnerError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(
                f"Memory ran out while {doing}. Choose a smaller size, or free memory on the device.", doing=doing
            ) from error
        raise EngineFault(f"{type(error).__name__} while {doing}: {error}. Report this with the recipe.") from error


class Runner:
    """Device work for the engine."""

    def prepare(self, painting: Painting) -> Trajectory:
        """Encode texts and the reference picture; answers a trajectory that waits for its first evaluation."""
        return guarded(lambda: self._prepare(painting), "preparing the picture")

    @torch.inference_mode()
    def _prepare(self, painting: Painting) -> Trajectory:
        family, plan = painting.family, painting.plan
        encodings = {POSITIVE: family.encode_text(plan.prompt, painting.adapters)}
        if any(stage.cfg != 1 for stage in plan.stages):
            encodings[NEGATIVE] = family.encode_text(plan.negative_prompt, painting.adapters)
        start = None if painting.reference is None else family.encode_picture(painting.reference)
        return Trajectory(plan, family, encodings, painting.adapters, start)

    @torch.inference_mode()
    def evaluate(self, family: Family, batch: Sequence[Sequence[Row]]) -> list[list[Tensor] | LimnerError]:
        """The raw outputs of every member's rows, or why that member failed.

        One forward for all; where memory runs out, halves are tried again, down to single rows.
        """
        rows = [row for member in batch for row in member]
        try:
            flat = self._predict(family, rows)
        except LimnerError as error:
            if not isinstance(error, OutOfMemory) or len(batch) == 1:
                # A fault may be one member's own; the others must not fail with it.
                return [error] if len(batch) == 1 else [self.evaluate(family, [member])[0] for member in batch]
            middle = len(batch) // 2
            return [*self.evaluate(family, batch[:middle]), *self.evaluate(family, batch[middle:])]
        answers: list[list[Tensor] | LimnerError] = []
        start = 0
        for member in batch:
            answers.append(flat[start : start + len(member)])
            start += len(member)
        return answers

    def _predict(self, family: Family, rows: Sequence[Row]) -> list[Tensor]:
        try:
            return guarded(lambda: family.predict(rows), "evaluating the network")
        except OutOfMemory:
            if len(rows) == 1:
                raise
        # Outside the handler, so that the failed forward's tensors are free by now.
        middle = len(rows) // 2
        return [*self._predict(family, rows[:middle]), *self._predict(family, rows[middle:])]

    @torch.inference_mode()
    def decode(self, trajectory: Trajectory) -> tuple[Tensor, Tensor]:
        """Pixels (3, H, W) in [-1, 1] of a finished trajectory, and its latent.

        Raises `EngineFault` when latent or pixels are not finite: such a picture is never called a success.
        """
        latent = trajectory.latent
        assert latent is not None
        require_finite(latent, "latent")
        try:
            pixels = guarded(lambda: trajectory.family.decode(latent), "decoding the picture")
        except OutOfMemory:
            pixels = guarded(lambda: trajectory.family.decode(latent, tiled=True), "decoding the picture in tiles")
        require_finite(pixels, "picture")
        return pixels, latent


def require_finite(tensor: Tensor, what: str) -> None:
    """Raise `EngineFault` unless every number of the tensor is finite."""
    if not bool(torch.isfinite(tensor).all()):
        raise EngineFault(
            f"The {what} holds numbers that are not finite. Try float32 (`--dtype float32`), a lower guidance, "
            "or no adapter; the picture was not saved."
        )
