"""Paint many pictures at once, one denoising step at a time.

    engine = Engine()
    id = engine.add(Painting(plan, family))
    while engine.busy:
        for happening in engine.step():
            ...

Pictures join and leave between any two steps. Each step: newcomers are prepared, cached answers are given, the
scheduler picks a batch, the runner evaluates it once, the samplers take their answers, finished latents become pixels.
The engine knows neither requests nor files nor threads; call it from one thread.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from limner.domain import StageOutcome
from limner.engine.runner import Painting, Runner, guarded, require_finite
from limner.engine.scheduler import Candidate, Scheduler
from limner.engine.trajectory import StageRun, Trajectory
from limner.errors import LimnerError

PREVIEW_EVERY_S = 0.4


@dataclass(frozen=True)
class StageBegan:
    """A picture's stage was begun."""

    id: int
    stage: int


@dataclass(frozen=True)
class StageEnded:
    """A picture's stage has ended."""

    id: int
    stage: int
    outcome: StageOutcome


@dataclass(frozen=True)
class Stepped:
    """A picture took a step; `fraction` of its work is done."""

    id: int
    stage: int
    step: int
    steps: int
    fraction: float


@dataclass(frozen=True, eq=False)
class Previewed:
    """A rough look (3, h, w) in [0, 1] at a picture on its way."""

    id: int
    stage: int
    step: int
    pixels: Tensor


@dataclass(frozen=True, eq=False)
class PreviewFailed:
    """A picture goes on without previews."""

    id: int
    error: LimnerError


@dataclass(frozen=True)
class Noted:
    """Words of the prompt that the checkpoint does not know."""

    id: int
    unknown: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Painted:
    """A picture is finished: pixels (3, H, W) in [-1, 1] on the CPU, and the latent (C, h, w) that they came from.

    `tiled` says that it was decoded in tiles because memory ran out.
    """

    id: int
    pixels: Tensor
    latent: Tensor
    outcomes: tuple[StageOutcome, ...]
    tiled: bool = False


@dataclass(frozen=True, eq=False)
class Broke:
    """A picture failed; the others go on."""

    id: int
    error: LimnerError


Happening = StageBegan | StageEnded | Stepped | Previewed | PreviewFailed | Noted | Painted | Broke


class Engine:
    """Step-level continuous batching over any number of families.

    Args:
        token_budget: tokens that one forward may hold over all its rows.
        max_running: pictures under way at once.
        clock: seconds, only used to space out previews.
    """

    def __init__(
        self,
        *,
        token_budget: int = 4096,
        max_running: int = 64,
        runner: Runner | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = Scheduler(token_budget, max_running)
        self._runner = runner or Runner()
        self._clock = clock
        self._ids = itertools.count()
        self._paintings: dict[int, Painting] = {}
        self._trajectories: dict[int, Trajectory] = {}
        self._previewed: dict[int, float] = {}

    @property
    def busy(self) -> bool:
        """Whether any picture is unfinished."""
        return bool(self._paintings)

    def add(self, painting: Painting) -> int:
        """Put a picture in line; it joins at the next step. Answers the id that its happenings carry."""
        id = next(self._ids)
        self._paintings[id] = painting
        self._scheduler.add(id)
        return id

    def abort(self, id: int) -> None:
        """Drop a picture between two steps; unknown and finished ids are ignored."""
        self._scheduler.remove(id)
        self._paintings.pop(id, None)
        self._trajectories.pop(id, None)
        self._previewed.pop(id, None)

    def step(self) -> list[Happening]:
        """Move some pictures by one evaluation of their network; answers what happened."""
        happenings: list[Happening] = []
        self._admit(happenings)
        candidates: list[Candidate] = []
        for id in self._scheduler.running:
            trajectory = self._trajectories[id]
            before, run = trajectory.stage, trajectory.run
            try:
                settled = guarded(trajectory.settle_from_cache, "taking a step")
            except LimnerError as error:
                self._break(id, error, happenings)
                continue
            if settled:
                self._report(id, trajectory, before, run, happenings)
            else:
                key = (trajectory.family, trajectory.family.batch_key(trajectory.shape, trajectory.context))
                candidates.append(Candidate(id, key, trajectory.tokens))
        if batch := self._scheduler.plan(candidates):
            self._evaluate(batch, happenings)
        return happenings

    def _admit(self, happenings: list[Happening]) -> None:
        for id in self._scheduler.admit():
            try:
                trajectory = self._runner.prepare(self._paintings[id])
            except LimnerError as error:
                self._break(id, error, happenings)
                continue
            self._trajectories[id] = trajectory
            unknown = dict.fromkeys(word for e in trajectory.conditioning.encodings.values() for word in e.unknown)
            if unknown:
                happenings.append(Noted(id, tuple(unknown)))
            happenings.append(StageBegan(id, 0))

    def _evaluate(self, batch: list[int], happenings: list[Happening]) -> None:
        members = [self._trajectories[id] for id in batch]
        answers = self._runner.evaluate(members[0].family, [member.rows() for member in members])
        for id, trajectory, answer in zip(batch, members, answers, strict=True):
            if isinstance(answer, LimnerError):
                self._break(id, answer, happenings)
                continue
            before, run = trajectory.stage, trajectory.run
            try:
                guarded(partial(trajectory.accept, answer), "taking a step")
            except LimnerError as error:
                self._break(id, error, happenings)
                continue
            self._report(id, trajectory, before, run, happenings)

    def _report(self, id: int, trajectory: Trajectory, before: int, run: StageRun, happenings: list[Happening]) -> None:
        ended = trajectory.stage > before
        step = run.steps if ended else run.step
        happenings.append(Stepped(id, before, step, run.steps, trajectory.fraction))
        try:
            guarded(lambda: self._preview(id, trajectory, before, step, happenings), "making a preview")
        except LimnerError as error:
            self._previewed[id] = float("inf")
            happenings.append(PreviewFailed(id, error))
        try:
            if not ended:
                return
            happenings.append(StageEnded(id, before, trajectory.outcomes[before]))
            if trajectory.done:
                pixels, latent, tiled = self._runner.decode(trajectory, self._paintings[id].inpainting)
                happenings.append(Painted(id, pixels, latent, tuple(trajectory.outcomes), tiled))
                self.abort(id)
            else:
                assert trajectory.latent is not None
                require_finite(trajectory.latent, "latent")
                happenings.append(StageBegan(id, trajectory.stage))
        except LimnerError as error:
            self._break(id, error, happenings)

    def _preview(self, id: int, trajectory: Trajectory, stage: int, step: int, happenings: list[Happening]) -> None:
        if not self._paintings[id].previews or trajectory.denoised is None:
            return
        now = self._clock()
        if now - self._previewed.get(id, float("-inf")) >= PREVIEW_EVERY_S:
            self._previewed[id] = now
            happenings.append(Previewed(id, stage, step, trajectory.family.preview(trajectory.denoised)))

    def _break(self, id: int, error: LimnerError, happenings: list[Happening]) -> None:
        self.abort(id)
        happenings.append(Broke(id, error))


__all__ = [
    "Broke",
    "Engine",
    "Happening",
    "Noted",
    "Painted",
    "Painting",
    "PreviewFailed",
    "Previewed",
    "StageBegan",
    "StageEnded",
    "Stepped",
]
