"""One latent on its way through the stages of its plan.

A trajectory holds its sampler, its noise, its conditioning and its cache, and nothing of anybody else. It says which
rows it needs evaluated (`rows`), takes the answers (`accept`), and is `done` when its last stage has ended.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.domain import Plan, Stage, StageOutcome
from limner.engine.cache import EasyCache, EasyCacheState
from limner.engine.families.port import AppliedAdapters, Encoding, Family, Row
from limner.engine.inpainting import KeptArea
from limner.engine.noise import Noise
from limner.engine.parameterization import Parameterization
from limner.engine.samplers import SAMPLERS, evaluations
from limner.engine.schedules import sigmas_for
from limner.errors import InvalidRequest

POSITIVE, NEGATIVE = "positive", "negative"


@dataclass
class StageRun:
    """A stage while it runs: what its sampler waits for, and what has been done."""

    stage: Stage
    sampler: Generator[tuple[Tensor, float], Tensor, Tensor]
    sigmas: Tensor
    conditions: tuple[str, ...]
    cache: EasyCacheState | None
    expected: int
    x: Tensor  # as the network sees it, where a part is kept
    sigma: float
    kept: KeptArea | None = None
    noise: Tensor | None = None  # that the stage began with, where a part is kept
    evaluations: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def step(self) -> int:
        """The step that the last evaluation belonged to, from 1."""
        return min(self.steps, -(-self.evaluations * self.steps // max(1, self.expected)))


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What a stage paints by: adapters, and encoded texts ("positive"; "negative" where any stage has guidance)."""

    encodings: Mapping[str, Encoding]
    adapters: AppliedAdapters = ()


class Trajectory:
    """A picture being painted.

    Args:
        plan: its stages, with every seed fixed.
        family: the architecture with its weights.
        conditionings: one a stage.
        start: the latent (C, h, w) of a reference picture at the first stage's size, if there is one.
        kept: what each stage keeps of that picture; nothing when empty.
        context: latents (C, h, w) of the pictures that the network looks at.
    """

    def __init__(
        self,
        plan: Plan,
        family: Family,
        conditionings: Sequence[Conditioning],
        start: Tensor | None = None,
        kept: tuple[KeptArea, ...] = (),
        context: tuple[Tensor, ...] = (),
    ) -> None:
        self.plan = plan
        self.family = family
        self._conditionings = tuple(conditionings)
        self.context = context
        self.outcomes: list[StageOutcome] = []
        self.latent: Tensor | None = start
        self.denoised: Tensor | None = None
        self._kept = kept
        self._costs = [self._cost(*each) for each in zip(plan.stages, self._conditionings, strict=True)]
        self.run = self._begin(plan.stages[0])

    @property
    def stage(self) -> int:
        """Index of the stage that runs (the number of stages when done)."""
        return len(self.outcomes)

    @property
    def conditioning(self) -> Conditioning:
        """That of the stage that runs (of the last one when done)."""
        return self._conditionings[min(self.stage, len(self._conditionings) - 1)]

    @property
    def done(self) -> bool:
        """Whether the last stage has ended; `latent` is then the finished one."""
        return len(self.outcomes) == len(self.plan.stages)

    @property
    def fraction(self) -> float:
        """How much of the work is done, weighted by what each stage costs."""
        before = sum(self._costs[: self.stage])
        now = 0.0 if self.done else self._costs[self.stage] * self.run.evaluations / max(1, self.run.expected)
        return min(1.0, (before + now) / sum(self._costs))

    @property
    def tokens(self) -> int:
        """What the next evaluation costs, over all its rows."""
        return self._row_tokens(self.shape, self.run.conditions, self.conditioning)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the latent in this stage."""
        c, h, w = self.run.x.shape
        return (c, h, w)

    def rows(self) -> list[Row]:
        """The rows whose answers `accept` expects, in this order."""
        run = self.run
        parameterization = self._parameterization(run.stage)
        x = parameterization.model_input(run.x, run.sigma)
        timestep = parameterization.timestep(run.sigma)
        encodings, adapters = self.conditioning.encodings, self.conditioning.adapters
        return [Row(x, timestep, encodings[c], adapters, run.stage.guidance, self.context) for c in run.conditions]

    def settle_from_cache(self) -> bool:
        """Answer the sampler from EasyCache if it may skip this evaluation; whether it did."""
        run = self.run
        if run.cache is None:
            return False
        answers = run.cache.consider(run.x, run.sigma)
        if answers is None:
            return False
        self._advance([answers[c] for c in run.conditions])
        return True

    def accept(self, outputs: list[Tensor]) -> None:
        """Take the network's raw outputs for `rows()` and move to the next evaluation, stage, or the end."""
        run = self.run
        if run.cache is not None:
            run.cache.observe(run.x, run.sigma, dict(zip(run.conditions, outputs, strict=True)))
        self._advance(outputs)

    def _advance(self, outputs: list[Tensor]) -> None:
        run = self.run
        parameterization = self._parameterization(run.stage)
        predictions = [parameterization.denoised(run.x, run.sigma, output) for output in outputs]
        denoised = predictions[0]
        if len(predictions) == 2:
            denoised = predictions[1] + run.stage.cfg * (predictions[0] - predictions[1])
        if run.kept is not None:
            denoised = run.kept.over(denoised)
        run.evaluations += 1
        self.denoised = denoised
        try:
            run.x, run.sigma = self._seen(run, *run.sampler.send(denoised))
        except StopIteration as finished:
            self._finish(parameterization.finish(finished.value, float(run.sigmas[-1])))

    def _seen(self, run: StageRun, x: Tensor, sigma: float) -> tuple[Tensor, float]:
        """What the network is shown for what the sampler asks."""
        if run.kept is None or run.noise is None:
            return x, sigma
        return run.kept.noised_over(x, sigma, run.noise, self._parameterization(run.stage)), sigma

    def _finish(self, latent: Tensor) -> None:
        run = self.run
        self.latent = latent
        self.outcomes.append(
            StageOutcome(
                evaluations=run.evaluations,
                skipped=run.cache.skipped if run.cache else 0,
                duration_s=round(time.monotonic() - run.started, 4),
            )
        )
        # The next stage begins only if this one left something to work on; the engine reports what is not finite.
        if not self.done and bool(torch.isfinite(latent).all()):
            self.run = self._begin(self.plan.stages[self.stage])

    def _begin(self, stage: Stage) -> StageRun:
        family = self.family
        parameterization = self._parameterization(stage)
        shape = family.latent_shape(stage.width, stage.height)
        sigmas = self._sigmas(stage)
        assert stage.noise_seed is not None, "a plan's stages carry their seeds"
        noise = Noise(
            stage.noise_seed,
            shape,
            float(sigmas[sigmas > 0].min()),
            float(sigmas.max()),
            stream_seed=stage.stream_seed,
        )
        device = self.conditioning.encodings[POSITIVE].features.device
        latent = torch.zeros(shape, device=device) if self.latent is None else self.latent.to(device)
        if latent.shape != shape:
            latent = F.interpolate(latent[None], size=shape[1:], mode="nearest-exact")[0]
        kept = self._kept[self.stage].to(device) if self._kept else None
        latent = kept.over(latent) if kept else latent
        initial = noise.initial().to(device)
        x = parameterization.begin(initial, float(sigmas[0]), latent)
        sampler = SAMPLERS[stage.sampler](x, sigmas, noise, parameterization)
        x, sigma = next(sampler)
        cache = None
        if stage.cache:
            settings = EasyCache(
                reuse_threshold=stage.cache.reuse_threshold,
                start_percent=stage.cache.start_percent,
                end_percent=stage.cache.end_percent,
            )
            cache = EasyCacheState(settings, parameterization)
        run = StageRun(
            stage=stage,
            sampler=sampler,
            sigmas=sigmas,
            conditions=(POSITIVE,) if stage.cfg == 1 else (POSITIVE, NEGATIVE),
            cache=cache,
            expected=evaluations(stage.sampler, sigmas),
            x=x,
            sigma=sigma,
            kept=kept,
            noise=initial if kept else None,
        )
        run.x, run.sigma = self._seen(run, x, sigma)
        return run

    def _parameterization(self, stage: Stage) -> Parameterization:
        return self.family.parameterization(stage.shift, stage.width, stage.height)

    def _row_tokens(self, shape: tuple[int, int, int], conditions: Sequence[str], by: Conditioning) -> int:
        return sum(self.family.row_tokens(shape, by.encodings[c], self.context) for c in conditions)

    def _cost(self, stage: Stage, by: Conditioning) -> float:
        shape = self.family.latent_shape(stage.width, stage.height)
        conditions = (POSITIVE,) if stage.cfg == 1 else (POSITIVE, NEGATIVE)
        tokens = self._row_tokens(shape, conditions, by)
        return float(tokens * max(1, evaluations(stage.sampler, self._sigmas(stage))))

    def _sigmas(self, stage: Stage) -> Tensor:
        parameterization = self._parameterization(stage)
        try:
            return sigmas_for(parameterization, stage.schedule, stage.steps, stage.denoise, sampler=stage.sampler)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
