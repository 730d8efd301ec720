"""A backend that paints gradients at once, tells everything a real one tells, and fails when asked to.

It is shipped so that whoever builds on limner can test against it. The same order gives the same pictures, another plan
or reference gives others.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping
from importlib.metadata import version

from PIL import Image, ImageChops, ImageOps

from limner.domain import SAMPLERS, SCHEDULES, AdapterOutcome, AdapterStatus, Plan, Recipe, StageOutcome
from limner.errors import AdapterMismatch, LimnerError, NotFound
from limner.events import Done, Event, Failed, ImageGenerated, Info, Preview, Progress, StageUpdate, Warned
from limner.ports import Capabilities, HeldModel, Order


class FakeBackend:
    """Gradients in place of pictures.

    Args:
        models: names of checkpoints that it pretends to have; the first is the default.
        failures: which pictures of an order fail, and with what.
        misfits: names of adapters that do not fit.
        step_s: how long a step takes.
    """

    name = "fake"

    def __init__(
        self,
        *,
        models: tuple[str, ...] = ("fake",),
        failures: Mapping[int, LimnerError] | None = None,
        misfits: Collection[str] = (),
        step_s: float = 0.0,
    ) -> None:
        self._models = models
        self._failures = dict(failures or {})
        self._misfits = frozenset(misfits)
        self._step_s = step_s
        self.orders: list[Order] = []
        """Every order that it was given, for tests."""
        self.cancelled = 0
        """How many orders were closed before their end."""
        self._held: dict[str, float] = {}
        self._running: Counter[str] = Counter()

    def capabilities(self) -> Capabilities:
        """Everything that a request can ask for."""
        return Capabilities(
            self._models, SAMPLERS, SCHEDULES, previews=True, adapters=True, references=True, masks=True
        )

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Paint an order, one picture after the other."""
        self.orders.append(order)
        started = time.monotonic()
        checkpoint = self._checkpoint(order)
        adapters = self._adapters(order)
        done = failed = 0
        ended = False
        self._running[checkpoint] += 1
        self._held[checkpoint] = time.time()
        try:
            for event in _remarks(order, adapters):
                yield event
            for index, plan in enumerate(order.plans):
                async for event in self._steps(order, index):
                    yield event
                failure = self._failures.get(index)
                if failure:
                    failed += 1
                    yield Failed(message=failure.message, code=failure.code, retryable=failure.retryable, index=index)
                    continue
                done += 1
                recipe = _recipe(order, plan, index, checkpoint, adapters)
                rgb = _gradient(order, plan, checkpoint).tobytes()
                yield ImageGenerated(index=index, width=plan.width, height=plan.height, rgb=rgb, recipe=recipe)
            ended = True
            status = "completed" if not failed else "partial" if done else "failed"
            yield Done(status=status, images=done, failed=failed, duration_s=round(time.monotonic() - started, 3))
        finally:
            self.cancelled += not ended
            self._running[checkpoint] -= 1
            self._held[checkpoint] = time.time()

    def loaded(self) -> dict[str, HeldModel]:
        """The checkpoints that it was given orders for, or told to load; each pretends to hold a kilobyte."""
        return {
            name: HeldModel({"transformer": 1024}, idle_since=None if self._running[name] else used_at)
            for name, used_at in self._held.items()
        }

    async def load(self, name: str) -> None:
        """Pretend to have a checkpoint in memory."""
        self._require(name)
        self._held[name] = time.time()

    async def unload(self, name: str) -> None:
        """Pretend no longer to have it, when its orders have ended."""
        while self._running[name]:  # noqa: ASYNC110  # nobody waits for long where nothing is painted
            await asyncio.sleep(self._step_s or 0.001)
        self._held.pop(name, None)

    async def aclose(self) -> None:
        """Nothing to give back."""

    def _checkpoint(self, order: Order) -> str:
        name = order.request.model or self._models[0]
        self._require(name)
        return name

    def _require(self, name: str) -> None:
        if name not in self._models:
            raise NotFound(f"There is no checkpoint `{name}`. Known: {', '.join(self._models)}.", name=name)

    def _adapters(self, order: Order) -> tuple[AdapterOutcome, ...]:
        outcomes: list[AdapterOutcome] = []
        for adapter in order.request.adapters:
            fits = adapter.name not in self._misfits
            outcome = AdapterOutcome(
                name=adapter.name,
                requested_weight=adapter.weight,
                status=AdapterStatus.APPLIED if fits else AdapterStatus.SKIPPED,
                matched=8 if fits else 0,
                total=8,
                reason="" if fits else "it belongs to another architecture",
            )
            if not fits and order.request.on_adapter_mismatch == "fail":
                raise AdapterMismatch(_misfit(outcome), outcome=outcome.model_dump(mode="json"))
            outcomes.append(outcome)
        return tuple(outcomes)

    async def _steps(self, order: Order, index: int) -> AsyncGenerator[Event, None]:
        stages = order.plans[index].stages
        per_picture = sum(stage.steps for stage in stages)
        current, total = index * per_picture, len(order.plans) * per_picture
        for number, stage in enumerate(stages):
            update = StageUpdate(
                index=index,
                stage=number,
                stages=len(stages),
                status="processing",
                width=stage.width,
                height=stage.height,
            )
            yield update
            for step in range(1, stage.steps + 1):
                await asyncio.sleep(self._step_s)
                current += 1
                yield Progress(
                    current=current,
                    total=total,
                    index=index,
                    stage=number,
                    stages=len(stages),
                    step=step,
                    steps=stage.steps,
                    eta_s=(total - current) * self._step_s,
                )
            yield Preview(index=index, stage=number, step=stage.steps, png=_PREVIEW)
            yield update.model_copy(update={"status": "completed"})


def _remarks(order: Order, adapters: tuple[AdapterOutcome, ...]) -> list[Event]:
    remarks: list[Event] = []
    if not order.request.prompt.strip():
        remarks.append(Info(message="The prompt is empty: the picture is whatever comes.", code="empty_prompt"))
    remarks += [Warned(message=_misfit(a), code="adapter_mismatch") for a in adapters if a.reason]
    return remarks


def _misfit(outcome: AdapterOutcome) -> str:
    return f"LoRA `{outcome.name}` was {outcome.status}: {outcome.reason}. Choose one of the same family."


def _recipe(order: Order, plan: Plan, index: int, checkpoint: str, adapters: tuple[AdapterOutcome, ...]) -> Recipe:
    return Recipe(
        request=order.request,
        plan=plan,
        index=index,
        checkpoint=checkpoint,
        checkpoint_sha256=hashlib.sha256(checkpoint.encode()).hexdigest(),
        family="fake",
        device="cpu",
        precision={"transformer": "float32"},
        adapters=adapters,
        outcome=tuple(StageOutcome(evaluations=stage.steps) for stage in plan.stages),
        warnings=tuple(_misfit(outcome) for outcome in adapters if outcome.reason),
        versions={"limner": version("limner")},
    )


def _gradient(order: Order, plan: Plan, checkpoint: str) -> Image.Image:
    identity = hashlib.sha256(plan.model_dump_json().encode() + checkpoint.encode())
    for adapter in order.request.adapters:
        identity.update(f"{adapter.name} {adapter.weight}".encode())
    if order.reference is not None:
        identity.update(order.reference.tobytes())
    for picture in order.context:
        identity.update(picture.tobytes())
    dark, light = identity.digest()[:3], identity.digest()[3:6]
    size = (plan.width, plan.height)
    down = Image.linear_gradient("L")
    grey = ImageChops.add(down, down.rotate(90), scale=2).resize(size)
    painted = ImageOps.colorize(grey, (dark[0], dark[1], dark[2]), (light[0], light[1], light[2]))
    return Image.composite(painted, order.kept, order.mask) if order.kept and order.mask else painted


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


_PREVIEW = _png(Image.linear_gradient("L").resize((8, 8)).convert("RGB"))
