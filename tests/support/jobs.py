"""Jobs, claims and pictures for tests of the store and of what builds on it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

from limner.backends.fake import FakeBackend
from limner.domain import AdapterStatus, GenerationRequest, ImageRecord, Job, Recipe
from limner.events import Event, ImageGenerated
from limner.jobs.gallery import Gallery
from limner.jobs.records import Claim, NewImage, NewJob, new_id
from limner.jobs.store import JobStore
from limner.ports import Order
from limner.workflows.plans import make_plans
from limner.workflows.presets import Presets
from tests.support.records import gradient, recipe

T = TypeVar("T")


def new_job(owner: str = "local", lane: str = "native", recipe_key: str | None = None, **fields: Any) -> NewJob:
    """A job of small pictures; `fields` are the request's, or the job's own (`priority`, `idempotency_key` …)."""
    own = {name: fields.pop(name) for name in list(fields) if name in NewJob.__dataclass_fields__}
    request = GenerationRequest.model_validate({"prompt": "a cat", "width": 64, "height": 64} | fields)
    plans = make_plans(request, Presets().get("single"), default_seed_source=lambda: 7)
    keys = tuple(recipe_key and f"{recipe_key}-{plan.seed}" for plan in plans)
    fingerprint = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
    return NewJob(owner, request, plans, lane, fingerprint, keys, **own)


def new_image(claim: Claim, number: int = 0) -> NewImage:
    """A picture as if it were stored already."""
    stem = f"images/{claim.job_id}/{number}-{claim.attempt}"
    made = recipe("single", prompt="a cat")
    return NewImage(new_id("img"), number, 64, 64, "png", 100, "0" * 64, f"{stem}.png", f"{stem}.webp", made)


async def begun(store: JobStore, worker: str = "w", lease_s: float = 30.0, **fields: Any) -> tuple[Claim, Job]:
    """A fresh job that `worker` has begun."""
    job, _ = await store.create(new_job(**fields))
    found = await store.begin(job.id, worker, lease_s)
    assert found is not None
    return found


class Painter:
    """Stands where a worker expects `paint`, `keep` and `discard`: a fake backend and a shelf in memory."""

    def __init__(self, backend: FakeBackend | None = None) -> None:
        self.backend = backend or FakeBackend()
        self.kept: list[NewImage] = []
        self.discarded: list[NewImage] = []

    async def paint(self, job: Job, missing: tuple[int, ...]) -> AsyncGenerator[Event, None]:
        order = Order(request=job.request, plans=tuple(job.plans[number] for number in missing))
        async for event in self.backend.run(order):
            yield event

    async def keep(self, claim: Claim, number: int, event: ImageGenerated) -> NewImage:
        image = new_image(claim, number)
        self.kept.append(image)
        return image

    async def discard(self, image: NewImage) -> None:
        self.discarded.append(image)


async def until(look: Callable[[], Awaitable[T]], timeout_s: float = 20.0) -> T:
    """What `look` answers when that is true for the first time."""
    deadline = time.monotonic() + timeout_s
    while not (found := await look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)
    return found


def painted(recipe: Recipe, width: int = 64, height: int = 48) -> ImageGenerated:
    """The event that a backend tells of a finished picture."""
    return ImageGenerated(index=0, width=width, height=height, rgb=gradient(width, height).tobytes(), recipe=recipe)


async def stored_picture(
    store: JobStore, gallery: Gallery, size: tuple[int, int] = (64, 48), fits: bool = True, **fields: Any
) -> ImageRecord:
    """The first picture of a fresh job, painted and stored; the job is ended. Its adapters fit or were skipped."""
    claim, job = await begun(store, **fields)
    made = recipe("single", prompt=job.request.prompt, adapters=job.request.adapters)
    if not fits:
        skipped = tuple(a.model_copy(update={"status": AdapterStatus.SKIPPED}) for a in made.adapters)
        made = made.model_copy(update={"adapters": skipped})
    image = await gallery.keep(claim, 0, painted(made, *size))
    await store.add_image(claim, image)
    await store.finish(claim)
    return await gallery.get(image.id)
