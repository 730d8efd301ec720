"""Everything that touches the device: conditioning, forwards, pixels.

The runner decides nothing. It evaluates what it is handed, splits a forward that does not fit the memory, and turns
what libraries raise into our errors.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from limner.domain import Plan
from limner.engine.families.port import AppliedAdapters, Family, Row
from limner.engine.inpainting import Inpainting, KeptArea
from limner.engine.trajectory import NEGATIVE, POSITIVE, Conditioning, Trajectory
from limner.errors import EngineFault, LimnerError, OutOfMemory

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Painting:
    """One picture to be painted.

    `reference` is (3, H, W) in [-1, 1] at the size of the plan's first stage: what the picture starts from;
    `inpainting` says what is kept of it. `context` are pictures of any size that the network looks at.
    `stage_adapters` goes before `adapters` where stages differ in them; one entry a stage.
    """

    plan: Plan
    family: Family
    adapters: AppliedAdapters = ()
    reference: Tensor | None = None
    inpainting: Inpainting | None = None
    context: tuple[Tensor, ...] = ()
    previews: bool = False
    stage_adapters: tuple[AppliedAdapters, ...] = ()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library's error says that memory ran out: CUDA's own class, or a message that only others give."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = ("can't allocate memory", "out of memory", "ALLOC_FAILED")  # CPU, Metal, cuBLAS and cuDNN
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


def guarded(run: Callable[[], T], doing: str) -> T:
    """Run device work; whatever a library raises becomes `OutOfMemory` or `EngineFault`."""
    try:
        return run()
    except LimnerError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            # The error may be kept while others try again; the tensors of the frames it came through must not be.
            traceback.clear_frames(error.__traceback__)
            raise OutOfMemory(
                f"Memory ran out while {doing}. Choose a smaller size, or free memory on the device.", doing=doing
            ) from error
        raise EngineFault(f"{type(error).__name__} while {doing}: {error}. Report this with the recipe.") from error


class Runner:
    """Device work for the engine; a picture that several paintings share is encoded once for each family."""

    def __init__(self) -> None:
        # By picture, for as long as a painting holds it.
        self._encoded = cast("MutableMapping[Tensor, WeakKeyDictionary[Family, Tensor]]", WeakIdKeyDictionary())

    def prepare(self, painting: Painting) -> Trajectory:
        """Encode texts and the reference picture; answers a trajectory that waits for its first evaluation."""
        return guarded(lambda: self._prepare(painting), "preparing the picture")

    @torch.inference_mode()
    def _prepare(self, painting: Painting) -> Trajectory:
        family, plan = painting.family, painting.plan
        guided = any(stage.cfg != 1 for stage in plan.stages)
        texts = {POSITIVE: plan.prompt} | ({NEGATIVE: plan.negative_prompt} if guided else {})
        conditionings = [
            Conditioning(
                {name: family.encode_text(text, adapters, plan.clip_skip) for name, text in texts.items()}, adapters
            )
            for adapters in painting.stage_adapters or (painting.adapters,) * len(plan.stages)
        ]
        start = None if painting.reference is None else self._encode(painting.reference, family)
        kept = () if start is None else _kept_areas(painting, start)
        context = tuple(self._encode(picture, family) for picture in painting.context)
        return Trajectory(plan, family, conditionings, start, kept, context)

    def _encode(self, picture: Tensor, family: Family) -> Tensor:
        known = self._encoded.get(picture) or WeakKeyDictionary[Family, Tensor]()
        self._encoded[picture] = known
        if (latent := known.get(family)) is None:
            latent = known[family] = family.encode_picture(picture)
        return latent

    @torch.inference_mode()
    def evaluate(self, family: Family, batch: Sequence[Sequence[Row]]) -> list[list[Tensor] | LimnerError]:
        """The raw outputs of every member's rows, or why that member failed.

        One forward for all; where memory runs out, halves are tried again, down to single rows.
        """
        rows = [row for member in batch for row in member]
        try:
            flat = iter(self._predict(family, rows))
            return [list(islice(flat, len(member))) for member in batch]
        except LimnerError as error:
            if len(batch) == 1:
                return [error]
        # Whatever it was may be one member's own; the others must not fail with it.
        middle = len(batch) // 2
        return [*self.evaluate(family, batch[:middle]), *self.evaluate(family, batch[middle:])]

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
    def decode(self, trajectory: Trajectory, inpainting: Inpainting | None = None) -> tuple[Tensor, Tensor, bool]:
        """Pixels (3, H, W) in [-1, 1] of a finished trajectory, with what was to be kept put back, and its latent.

        The third says whether memory ran out, so that tiles were decoded instead.
        Raises `EngineFault` when latent or pixels are not finite: such a picture is never called a success.
        """
        latent = trajectory.latent
        assert latent is not None
        require_finite(latent, "latent")
        pixels, tiled = None, False
        with suppress(OutOfMemory):
            pixels = guarded(lambda: trajectory.family.decode(latent), "decoding the picture")
        if pixels is None:  # outside the handler, so that the tensors of the failed attempt are free by now
            tiled = True
            pixels = guarded(lambda: trajectory.family.decode(latent, tiled=True), "decoding the picture in tiles")
        require_finite(pixels, "picture")
        if inpainting is not None:
            kept, painted = inpainting, pixels
            pixels = guarded(lambda: kept.composited(painted), "putting the kept pixels back")
        return pixels, latent, tiled


def _kept_areas(painting: Painting, start: Tensor) -> tuple[KeptArea, ...]:
    """What each stage keeps; the reference is encoded once for each size."""
    if (inpainting := painting.inpainting) is None:
        return ()
    first = painting.plan.stages[0]
    latents = {(first.width, first.height): start}
    areas: list[KeptArea] = []
    for stage in painting.plan.stages:
        size = (stage.width, stage.height)
        if size not in latents:
            latents[size] = painting.family.encode_picture(inpainting.picture_at(*size))
        mask = inpainting.mask_at(*size, painting.family.latent_shape(*size))
        areas.append(KeptArea(latents[size], mask))
    return tuple(areas)


def require_finite(tensor: Tensor, what: str) -> None:
    """Raise `EngineFault` unless every number of the tensor is finite."""
    if not bool(torch.isfinite(tensor).all()):
        raise EngineFault(
            f"The {what} holds numbers that are not finite. Try float32 (`--dtype float32`), a lower guidance, "
            "or no adapter; the picture was not saved."
        )
