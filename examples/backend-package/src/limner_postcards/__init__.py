"""A backend for limner: postcards of two colours, which follow from prompt and seed.

Everything that a backend has to do is here: say what it can, check an order before the first picture, tell what
happens, end with `Done`, and stop when it is closed. Where it talks to a server of its own, `limner.backends.remote`
brings patience, and `limner.backends.remote_pictures` several pictures at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator
from importlib.metadata import version

from PIL import Image

from limner.config import Settings
from limner.domain import SAMPLERS, SCHEDULES, Plan, Recipe
from limner.errors import NotFound
from limner.events import Done, Event, ImageGenerated, Info, Progress, Warned
from limner.ports import Backend, Capabilities, Order

MODEL = "two-colours"


class PostcardBackend:
    """Postcards. It has no connection and no secrets: there is nothing to hand to it."""

    name = "postcards"

    def capabilities(self) -> Capabilities:
        """Samplers and schedules are accepted, since every preset names some, and have no effect."""
        return Capabilities(
            models=(MODEL,),
            samplers=SAMPLERS,
            schedules=SCHEDULES,
            previews=False,
            adapters=False,
            references=False,
            negative_prompts=False,
            guidance=False,
        )

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """One picture after the other. Raises `NotFound` for another model than its own."""
        started = time.monotonic()
        request = order.request
        if request.model not in (None, MODEL):
            raise NotFound(f"There is no checkpoint `{request.model}`. Name `{MODEL}`, or none.", name=request.model)
        if not request.prompt.strip():
            yield Info(message="The prompt is empty: the picture is whatever comes.", code="empty_prompt")
        warnings: tuple[str, ...] = ()
        if request.negative_prompt.strip():
            warnings = ("Postcards know no negative prompt, which was left out.",)
            yield Warned(message=warnings[0], code="postcards")
        for index, plan in enumerate(order.plans):
            # Whatever takes long belongs behind an await: closing the generator cancels there.
            image = await asyncio.to_thread(postcard, plan)
            yield _progress(order, index)
            recipe = Recipe(
                request=request,
                plan=plan,
                index=index,
                checkpoint=MODEL,
                checkpoint_sha256="",
                family="",
                device="cpu",
                precision={},
                warnings=warnings,
                versions={"limner": version("limner"), "limner-postcards": "0.1.0"},
            )
            yield ImageGenerated(
                index=index, width=image.width, height=image.height, rgb=image.tobytes(), recipe=recipe
            )
        duration_s = round(time.monotonic() - started, 3)
        yield Done(status="completed", images=len(order.plans), failed=0, duration_s=duration_s)

    async def aclose(self) -> None:
        """Nothing to give back."""


def postcard(plan: Plan) -> Image.Image:
    """Sky, sea and a horizon; the same plan gives the same picture."""
    digest = hashlib.sha256(f"{plan.prompt}\n{plan.seed}".encode()).digest()
    sky, sea = (digest[0], digest[1], digest[2]), (digest[3], digest[4], digest[5])
    image = Image.new("RGB", (plan.width, plan.height), sky)
    horizon = plan.height // 3 + digest[6] * plan.height // 3 // 255
    image.paste(sea, (0, horizon, plan.width, plan.height))
    image.paste((255, 255, 255), (0, horizon, plan.width, horizon + 1))
    return image


def make(settings: Settings) -> Backend:
    """What limner calls once, when the backend is first asked for. Its own settings are read here, if it has any."""
    return PostcardBackend()


def _progress(order: Order, index: int) -> Progress:
    """A picture is painted at once: all of its steps are done."""
    steps = [sum(stage.steps for stage in plan.stages) for plan in order.plans]
    stages = order.plans[index].stages
    return Progress(
        current=sum(steps[: index + 1]),
        total=sum(steps),
        index=index,
        stage=len(stages) - 1,
        stages=len(stages),
        step=stages[-1].steps,
        steps=stages[-1].steps,
    )
