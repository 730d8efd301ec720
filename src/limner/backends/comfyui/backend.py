"""Paint on ComfyUI servers: each picture is a prompt made from a workflow template.

The pictures of an order are spread over the servers, the least busy one first. A prompt's id follows from the job and
the plan, so that a later attempt finds what an earlier one began. Invariant: a prompt of ours that nobody waits for any
longer is taken from its server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any, cast

from PIL import Image

from limner.backends.comfyui.choosing import Arrangement, Place, arrange
from limner.backends.comfyui.client import Hint, Instance
from limner.backends.comfyui.following import CANCEL_S, Pace, follow, stop
from limner.backends.comfyui.graphs import Wanted, fill, stage_of_nodes
from limner.backends.comfyui.templates import Graph, Templates
from limner.backends.remote import Patience
from limner.backends.remote_pictures import (
    Errand,
    Meter,
    Tell,
    kept_where_black,
    picture,
    preview_png,
    together,
    without_idle_mask,
)
from limner.backends.settings import ComfyUISettings
from limner.domain import SAMPLERS, SCHEDULES, Plan, Recipe
from limner.errors import ConfigError, Garbled, Unreachable
from limner.events import Done, Event, Failed, ImageGenerated, Info, Preview, StageUpdate, Warned
from limner.ports import Capabilities, Order

NAMESPACE = uuid.UUID("6c1f0b51-5b0e-5bb9-9a6d-6f1f5c8f5d1a")
log = logging.getLogger("limner")


class ComfyUIBackend:
    """Pictures from ComfyUI.

    Args:
        settings: its group of the settings.
        patience: how often a server is asked.
        lost_s: after which a prompt that its server does not know is lost.

    Raises `ConfigError` where no address is set.
    """

    name = "comfyui"

    def __init__(self, settings: ComfyUISettings, *, patience: Patience | None = None, lost_s: float = 3.0) -> None:
        if not settings.url:
            raise ConfigError("Backend `comfyui` needs an address. Set `comfyui.url`, or the variable COMFYUI_URL.")
        self._settings = settings
        self._templates = Templates(settings.templates_dir)
        self._instances = [Instance(url, patience) for url in settings.url]
        self._pace = Pace(settings.poll_s, settings.timeout_s, lost_s)
        self._choosing = asyncio.Lock()

    def capabilities(self) -> Capabilities:
        """What the templates can do; as models their names, and the checkpoints that were last seen on the servers."""
        known = self._templates.sound()
        names = [template.name for template in known]
        first = [self._settings.template] if self._settings.template in names else []
        files: dict[str, None] = {}
        for template in known:
            files[template.checkpoint] = None
            for target in template.fields.model:
                node, _, name = target.partition(".")
                for instance in self._instances:
                    files |= dict.fromkeys(instance.known_choices(template.graph[node]["class_type"], name))
        fields = [template.fields for template in known]
        return Capabilities(
            models=tuple(dict.fromkeys([*first, *names, *files])),
            samplers=SAMPLERS,
            schedules=SCHEDULES,
            previews=self._settings.previews,
            adapters=any(each.adapters for each in fields),
            references=any(each.start or each.context for each in fields),
            masks=any(each.start and each.mask for each in fields),
            negative_prompts=any(each.negative_prompt for each in fields),
            guidance=any(stage.cfg for each in fields for stage in each.stages),
        )

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Paint an order; as many pictures at a time as there are servers."""
        started = time.monotonic()
        order = without_idle_mask(order)
        arrangement = await arrange(order, self._templates, self._settings.template, self._instances)
        if not order.request.prompt.strip():
            yield Info(message="The prompt is empty: the picture is whatever comes.", code="empty_prompt")
        for warning in arrangement.warnings:
            yield Warned(message=warning, code="comfyui")
        work = _Work(order, arrangement, Meter(order.plans))
        errands = [Errand((index,), partial(self._paint, work, index)) for index in range(len(order.plans))]
        painted = failed = 0
        async with contextlib.aclosing(together(errands, len(arrangement.places))) as events:
            async for event in events:
                painted += isinstance(event, ImageGenerated)
                failed += isinstance(event, Failed)
                yield event
        status = "completed" if not failed else "partial" if painted else "failed"
        duration_s = round(time.monotonic() - started, 3)
        yield Done(status=status, images=painted, failed=failed, duration_s=duration_s)

    async def aclose(self) -> None:
        """Close the connections."""
        for instance in self._instances:
            await instance.aclose()

    # --- one picture -------------------------------------------------------------------------------------------------

    async def _paint(self, work: _Work, index: int, tell: Tell) -> None:
        plan, token = work.order.plans[index], work.order.token
        number = 0
        while True:
            prompt_id = prompt_id_of(token, plan, number)
            place, has_failed = await _found(work.arrangement.places, prompt_id) if token else (None, False)
            number += 1
            if has_failed:  # in an earlier attempt: its id is used up
                continue
            if place is not None:
                tell(Info(message=f"The picture was found again on ComfyUI at {place.instance.url}.", code="resumed"))
                if await self._resumed(work, index, place, prompt_id, tell):
                    return
                continue
            await self._sent(work, index, prompt_id, tell)
            return

    async def _resumed(self, work: _Work, index: int, place: Place, prompt_id: str, tell: Tell) -> bool:
        """Whether the picture that an earlier attempt began could be had; not where its file is gone."""
        follower = _Follower(work, index, tell)
        graph = work.arrangement.template.graph
        ended = await follow(
            place.instance, prompt_id, graph, None, self._pace, follower.hear, partial(follower.waits, place)
        )
        if ended.error is not None:
            raise ended.error
        image = await self._fetched(work, place, ended.outputs)
        if image is None:
            return False
        follower.end(image, place)
        return True

    async def _sent(self, work: _Work, index: int, prompt_id: str, tell: Tell) -> None:
        follower = _Follower(work, index, tell)
        client_id = uuid.uuid4().hex
        place = await self._least_busy(work.arrangement.places)
        instance = place.instance
        try:
            graph = await self._graph(work, index, place, prompt_id)
            # Connected before the prompt is sent, so that nothing is missed.
            socket = contextlib.AsyncExitStack()
            opened = await socket.enter_async_context(instance.socket(client_id))
        except BaseException:
            instance.sending -= 1
            raise
        async with socket:
            sending = asyncio.create_task(
                instance.submit(graph, prompt_id, client_id, previews=self._settings.previews)
            )
            try:
                await asyncio.shield(sending)
            except asyncio.CancelledError:
                # What has left may arrive after it was taken back: it must have arrived first.
                await asyncio.wait((sending,), timeout=CANCEL_S)
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                await stop(instance, prompt_id)
                raise
            finally:
                instance.sending -= 1
            ended = await follow(
                instance, prompt_id, graph, opened, self._pace, follower.hear, partial(follower.waits, place)
            )
        if ended.error is not None:
            raise ended.error
        image = await self._fetched(work, place, ended.outputs)
        if image is None:
            raise Garbled(f"ComfyUI at {instance.url} saved the picture and has it no longer. Look into its log.")
        follower.end(image, place)

    async def _graph(self, work: _Work, index: int, place: Place, prompt_id: str) -> Graph:
        order = work.order
        start = await work.uploaded(place.instance, order.reference) if order.reference else None
        mask = await work.uploaded(place.instance, order.mask) if order.mask else None
        context = [await work.uploaded(place.instance, image) for image in order.context]
        # The id in the name: a graph that is like an earlier one is answered with the earlier one's file.
        prefix = f"limner/{prompt_id}"
        wanted = Wanted(prefix, place.model, place.adapters, start, mask, context)
        return fill(work.arrangement.template, order.plans[index], wanted)

    async def _least_busy(self, places: Sequence[Place]) -> Place:
        """The server with the fewest prompts, then with the most free memory; it counts as busier from then on."""
        async with self._choosing:
            found = await asyncio.gather(*(place.instance.queue() for place in places), return_exceptions=True)
            loads: list[tuple[int, int, int]] = []
            for number, (place, standing) in enumerate(zip(places, found, strict=True)):
                if not isinstance(standing, BaseException):
                    loads.append((len(standing) + place.instance.sending, -place.free_bytes, number))
            if not loads:
                raise next(error for error in found if isinstance(error, BaseException))
            place = places[min(loads)[2]]
            place.instance.sending += 1
            return place

    async def _fetched(self, work: _Work, place: Place, outputs: Mapping[str, Any]) -> Image.Image | None:
        """The finished picture; None where its file is gone."""
        template = work.arrangement.template
        node = template.fields.output
        found = cast(dict[str, Any], outputs.get(node) or {})
        saved = cast(list[dict[str, Any]], found.get("images") or [])
        if not saved:
            told = f"ComfyUI at {place.instance.url} ended without a picture from node {node}"
            raise Garbled(f"{told} ({template.title_of(node)}). Check the field `output` of `{template.name}`.")
        content = await place.instance.view(saved[0])
        if content is None:
            return None
        image = await asyncio.to_thread(picture, content, f"ComfyUI at {place.instance.url}")
        return kept_where_black(image, work.order)


def prompt_id_of(token: str, plan: Plan, number: int) -> str:
    """The id of a picture's prompt: the same for the same token, plan and number; without a token new every time."""
    if not token:
        return str(uuid.uuid4())
    return str(uuid.uuid5(NAMESPACE, f"{token} {number} {plan.model_dump_json()}"))


async def _found(places: Sequence[Place], prompt_id: str) -> tuple[Place | None, bool]:
    """Where a prompt is or has been painted, and whether it failed there instead."""

    async def look(place: Place) -> bool | None:
        try:
            standing = await place.instance.queue()
            ended = await place.instance.ended(prompt_id)
        except Unreachable:
            return None
        if ended is not None:
            return ended.error is None
        return True if prompt_id in (*standing.running, *standing.pending) else None

    found = await asyncio.gather(*(look(place) for place in places))
    there = next((place for place, state in zip(places, found, strict=True) if state), None)
    return there, there is None and False in found


@dataclass
class _Work:
    """An order on its way."""

    order: Order
    arrangement: Arrangement
    meter: Meter
    _uploads: dict[tuple[str, int], asyncio.Task[str]] = field(default_factory=dict[tuple[str, int], asyncio.Task[str]])

    async def uploaded(self, instance: Instance, image: Image.Image) -> str:
        """The name of a picture on a server; it is sent once."""
        key = instance.url, id(image)
        if key not in self._uploads or self._uploads[key].cancelled():
            self._uploads[key] = asyncio.create_task(instance.upload(image))
        return await asyncio.shield(self._uploads[key])


class _Follower:
    """Tells what becomes of one picture."""

    def __init__(self, work: _Work, index: int, tell: Tell) -> None:
        self._work, self._index, self._tell = work, index, tell
        self._plan = work.order.plans[index]
        self._nodes = stage_of_nodes(work.arrangement.template)
        self._stage, self._step = -1, 0

    def waits(self, place: Place, before: int) -> None:
        if before:
            others = "1 other picture is" if before == 1 else f"{before} other pictures are"
            told = f"{others} painted first on ComfyUI at {place.instance.url}."
            self._tell(Info(message=told, code="waiting"))

    def hear(self, hint: Hint) -> None:
        stage = self._nodes.get(hint.node)
        if stage is not None:
            self._enter(stage)
        match hint.kind:
            case "step" if stage is not None:
                steps = self._plan.stages[stage].steps
                self._step = max(1, min(steps, math.ceil(hint.step * steps / max(1, hint.steps))))
                if told := self._work.meter.at(self._index, stage, self._step):
                    self._tell(told)
            case "preview" if self._stage >= 0:
                try:
                    shown = preview_png(hint.picture, "ComfyUI")
                except Garbled as error:
                    log.debug(error.message)
                    return
                self._tell(Preview(index=self._index, stage=self._stage, step=max(1, self._step), png=shown))
            case _:
                pass

    def end(self, image: Image.Image, place: Place) -> None:
        self._enter(len(self._plan.stages))
        if told := self._work.meter.finished(self._index):
            self._tell(told)
        warnings = self._work.arrangement.warnings
        if image.size != (self._plan.width, self._plan.height):
            wanted = f"{self._plan.width}x{self._plan.height}"
            told = f"The picture is {image.width}x{image.height} where {wanted} was asked for. Check the template."
            self._tell(Warned(message=told, code="size"))
            warnings = (*warnings, told)
        self._tell(
            ImageGenerated(
                index=self._index,
                width=image.width,
                height=image.height,
                rgb=image.tobytes(),
                recipe=self._recipe(place, warnings),
            )
        )

    def _enter(self, stage: int) -> None:
        """Go on to a stage; those before it have ended, also where nobody said so."""
        stages = self._plan.stages
        while self._stage < stage:
            if self._stage >= 0:
                self._tell(self._update("completed"))
            self._stage, self._step = self._stage + 1, 0
            if self._stage < len(stages):
                self._tell(self._update("processing"))

    def _update(self, status: Any) -> StageUpdate:
        stages = self._plan.stages
        here = stages[self._stage]
        return StageUpdate(
            index=self._index,
            stage=self._stage,
            stages=len(stages),
            status=status,
            width=here.width,
            height=here.height,
        )

    def _recipe(self, place: Place, warnings: tuple[str, ...]) -> Recipe:
        template = self._work.arrangement.template
        return Recipe(
            request=self._work.order.request,
            plan=self._plan,
            index=self._index,
            checkpoint=place.model or template.checkpoint,
            checkpoint_sha256="",
            family="",
            device=f"ComfyUI, {place.device}",
            precision={},
            adapters=self._work.arrangement.adapters,
            warnings=warnings,
            versions={"limner": version("limner"), "comfyui": place.version, "template": template.name},
        )
