"""Paint at RunPod: a serverless endpoint whose workers run `limner runpod`.

Every picture of an order is a job of its own there, so that the endpoint's workers share an order and a worker paints
several together. A job's stream tells how far it is and brings the picture; it gives each message once, to whoever asks
first. The job's output has all of them once it has ended, so the stream may be lost and the picture is not. Painting is
paid for: a job's id is written down, and its job found again by the next attempt. Invariant: a job whose picture nobody
waits for any more is cancelled.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from limner.addresses import Resolve, resolved
from limner.backends.remote import Patience
from limner.backends.remote_pictures import Downloads, Errand, Meter, Tell, preview_png, together
from limner.backends.runpod_endpoint import (
    CANCELLED,
    COMPLETED,
    ENDED,
    FAILED,
    TIMED_OUT,
    TITLE,
    WAITING,
    Endpoint,
    JobState,
)
from limner.backends.runpod_ids import JobIds
from limner.backends.runpod_wire import (
    RUN_LIMIT_BYTES,
    Delivery,
    Reading,
    error_of,
    packed,
    pictures_of,
    require_names,
)
from limner.backends.settings import RunpodSettings
from limner.domain import SAMPLERS, SCHEDULES, Plan
from limner.errors import (
    CapacityError,
    Garbled,
    LimnerError,
    NotFound,
    Rejected,
    Timeout,
    Unreachable,
    Unsupported,
)
from limner.events import Done, Event, Failed, ImageGenerated, Info, Preview, Progress, StageUpdate, Warned
from limner.ports import Capabilities, Order

PATIENCE = Patience(tries=8)
"""What is asked for goes on meanwhile, and is paid for: half a minute without RunPod is borne."""

CLOSING_S = 5.0
"""How long is spent on cancelling a job whose picture nobody waits for any more."""

COLD_AFTER_S = 5.0
"""How long a picture waits for a worker before that is told."""

MISSES = 3
"""How often a job that was just sent may be unknown: not every machine of RunPod learns of it at once."""


@dataclass(frozen=True)
class _Wanted:
    """A picture of an order, and how its events are told."""

    order: Order
    number: int
    pictures: dict[str, Any]
    meter: Meter
    tell: Tell

    @property
    def plan(self) -> Plan:
        return self.order.plans[self.number]


class RunpodBackend:
    """Pictures from limner's workers at RunPod.

    Args:
        settings: its group of the settings.
        patience: how often RunPod is asked.
        answer_timeout_s: seconds without a sign of life, after which a request is given up; 30 at RunPod when absent.
        resolve: finds the addresses of the names that pictures are fetched from.

    Raises `ConfigError` where endpoint or key are missing.
    """

    name = "runpod"

    def __init__(
        self,
        settings: RunpodSettings,
        *,
        patience: Patience = PATIENCE,
        answer_timeout_s: float | None = None,
        resolve: Resolve = resolved,
    ) -> None:
        self._settings = settings
        self._endpoint = Endpoint(settings, patience, answer_timeout_s)
        self._downloads = Downloads(
            allow_private=settings.allow_private, setting="runpod.allow_private", resolve=resolve
        )
        self._ids = JobIds(settings.jobs_dir or Path("runpod"), self._endpoint.url)

    def capabilities(self) -> Capabilities:
        """What limner's own engine can do: it paints there."""
        return Capabilities(
            models=self._settings.models,
            samplers=SAMPLERS,
            schedules=SCHEDULES,
            previews=self._settings.previews,
            adapters=True,
            references=True,
            masks=True,
        )

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Paint an order; each picture is a job at RunPod, and closing cancels those that run.

        Raises `Unsupported` where the order is more than RunPod takes, and what a worker says of it.
        """
        started = time.monotonic()
        self._require_known(order)
        pictures = await asyncio.to_thread(pictures_of, order)
        await asyncio.to_thread(self._body, order, 0, pictures)
        meter = Meter(order.plans)
        errands = [
            Errand((number,), partial(self._paint, order, number, pictures, meter))
            for number in range(len(order.plans))
        ]
        images = failed = 0
        told: set[tuple[str, str]] = set()
        async with aclosing(together(errands, self._settings.at_a_time)) as events:
            async for event in events:
                match event:
                    case Info() | Warned():
                        if (event.code, event.message) in told:
                            continue
                        told.add((event.code, event.message))
                    case ImageGenerated():
                        images += 1
                    case Failed():
                        failed += 1
                    case _:
                        pass
                yield event
        status = "completed" if not failed else "partial" if images else "failed"
        yield Done(status=status, images=images, failed=failed, duration_s=round(time.monotonic() - started, 3))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._endpoint.aclose()

    def _require_known(self, order: Order) -> None:
        require_names(order.request)
        models, model = self._settings.models, order.request.model
        if models and model is not None and model not in models:
            raise NotFound(
                f"The endpoint at RunPod has no checkpoint `{model}`. Choose one of: {', '.join(models)}; or add it to "
                "`runpod.models`.",
                name=model,
            )

    def _body(self, order: Order, number: int, pictures: dict[str, Any]) -> bytes:
        limit_ms = int(self._settings.timeout_s * 1000)
        body = json.dumps(
            {
                "input": packed(order, number, pictures, self._settings.previews),
                "policy": {"executionTimeout": limit_ms, "ttl": limit_ms},
            }
        ).encode()
        if len(body) > RUN_LIMIT_BYTES:
            raise Unsupported(
                f"The request has {len(body):,} bytes with its pictures, and RunPod takes at most {RUN_LIMIT_BYTES:,}. "
                "Give smaller pictures, or fewer."
            )
        return body

    async def _paint(self, order: Order, number: int, pictures: dict[str, Any], meter: Meter, tell: Tell) -> None:
        wanted = _Wanted(order, number, pictures, meter, tell)
        key = self._ids.key(order.token, wanted.plan) if order.token else ""
        job_id = await self._earlier(key, tell) if key else None
        if job_id is None:
            job_id = await self._sent(key, wanted)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                delivery = await self._followed(job_id, wanted)
                await self._deliver(delivery, wanted)
        except (TimeoutError, asyncio.CancelledError) as error:
            await self._abandon(job_id, key)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise Timeout(
                f"The picture did not come from RunPod within {self._settings.timeout_s:g} s; its job was cancelled. "
                "Give it more time with `runpod.timeout_s`, or the endpoint more workers."
            ) from error
        except (Unreachable, CapacityError):
            raise  # the job may go on: the next attempt looks for it
        except Garbled:
            await self._abandon(job_id, key)
            raise
        except LimnerError:
            await self._forget(key)
            raise

    async def _earlier(self, key: str, tell: Tell) -> str | None:
        """The job of an earlier attempt, where it still is good for something."""
        job_id = await self._ids.find(key)
        if job_id == "":
            tell(
                Info(
                    message="An earlier attempt sent a picture to RunPod and did not learn its job's id. It is sent "
                    "again, and may be painted and paid for twice.",
                    code="sent_again",
                )
            )
        if not job_id:
            return None
        try:
            state = await self._endpoint.status(job_id)
        except asyncio.CancelledError:
            await self._abandon(job_id, key)
            raise
        if state is None or state.status in (FAILED, CANCELLED, TIMED_OUT):
            return None
        tell(Info(message="An earlier attempt's job was found again at RunPod.", code="found_again"))
        return job_id

    async def _sent(self, key: str, wanted: _Wanted) -> str:
        body = await asyncio.to_thread(self._body, wanted.order, wanted.number, wanted.pictures)
        sending = asyncio.create_task(self._send(key, body))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            # It cannot be cancelled before its id is known.
            await asyncio.wait((sending,), timeout=CLOSING_S)
            if sending.done() and not sending.exception():
                await self._abandon(sending.result(), key)
            sending.cancel()
            raise

    async def _send(self, key: str, body: bytes) -> str:
        if key:
            await self._ids.keep(key)
        try:
            job_id = await self._endpoint.run(body)
        except (Rejected, CapacityError):
            await self._forget(key)  # nothing was begun
            raise
        if key:
            await self._ids.keep(key, job_id)
        return job_id

    async def _followed(self, job_id: str, wanted: _Wanted) -> Delivery:
        reading = Reading(wanted.plan)
        began, misses, told_cold = time.monotonic(), 0, False
        while True:
            state = await self._endpoint.stream(job_id)
            if state is None:
                misses += 1
                if misses > MISSES:
                    raise _lost(job_id)
                await asyncio.sleep(self._settings.poll_s)
                continue
            for message in state.messages:
                self._take(reading, message, wanted)
            if reading.delivery is not None:
                return reading.delivery
            if state.status in ENDED:
                if reading.fault is not None:
                    raise reading.fault
                return await self._result(job_id, wanted)
            if state.status == WAITING and not told_cold and time.monotonic() - began > COLD_AFTER_S:
                told_cold = True
                wanted.tell(
                    Info(
                        message="RunPod's workers are starting or busy: the picture waits for one.",
                        code="waiting_for_worker",
                    )
                )
            await asyncio.sleep(self._settings.poll_s)

    async def _result(self, job_id: str, wanted: _Wanted) -> Delivery:
        """What has become of a job that has ended, from its output."""
        state = await self._endpoint.status(job_id)
        if state is None:
            raise _lost(job_id)
        if state.status != COMPLETED:
            raise _ended_badly(job_id, state)
        outputs: object = state.output
        if not isinstance(outputs, list):
            raise Garbled(
                f"RunPod's job {job_id} ended with {str(outputs)[:120]!r}, not with limner's events. Check that "
                "the endpoint runs `limner runpod`."
            )
        whole = Reading(wanted.plan)
        for output in cast(list[object], outputs):
            self._take(whole, output, wanted, only_remarks=True)
        if whole.delivery is not None:
            return whole.delivery
        raise (
            whole.fault
            or Garbled(f"RunPod's job {job_id} ended well and without its picture. Look into the endpoint's log.")
        )

    def _take(self, reading: Reading, output: object, wanted: _Wanted, *, only_remarks: bool = False) -> None:
        event = reading.take(output)
        if only_remarks and not isinstance(event, Info | Warned):
            return
        match event:
            case Progress(stage=stage, step=step):
                if progress := wanted.meter.at(wanted.number, stage, step):
                    wanted.tell(progress)
            case Preview():
                png = preview_png(event.png, TITLE)
                wanted.tell(event.model_copy(update={"index": wanted.number, "png": png}))
            case StageUpdate():
                wanted.tell(event.model_copy(update={"index": wanted.number}))
            case Info() | Warned():
                wanted.tell(event)
            case _:
                pass

    async def _deliver(self, delivery: Delivery, wanted: _Wanted) -> None:
        content = delivery.content if delivery.url is None else await self._downloads.fetch(delivery.url)
        image = await asyncio.to_thread(delivery.rgb, content, wanted.plan)
        if progress := wanted.meter.finished(wanted.number):
            wanted.tell(progress)
        # The worker knows the request without what concerns this machine alone.
        recipe = delivery.recipe.model_copy(update={"request": wanted.order.request, "index": wanted.number})
        wanted.tell(
            ImageGenerated(
                index=wanted.number, width=image.width, height=image.height, rgb=image.tobytes(), recipe=recipe
            )
        )

    async def _abandon(self, job_id: str, key: str) -> None:
        """Cancel a job. Nothing more can be done where that fails; RunPod ends it by its own limit."""
        try:
            async with asyncio.timeout(CLOSING_S):
                await self._endpoint.cancel(job_id)
        except (LimnerError, TimeoutError):
            pass
        finally:
            await self._forget(key)

    async def _forget(self, key: str) -> None:
        if key:
            await self._ids.forget(key)


def _ended_badly(job_id: str, state: JobState) -> LimnerError:
    match state.status:
        case "FAILED":
            return error_of(state.error or "no reason was given")
        case "TIMED_OUT":
            return Timeout(
                "RunPod ended the job, which took too long. Give it more time with `runpod.timeout_s`, or the endpoint "
                "more workers."
            )
        case "CANCELLED":
            return Rejected("The job was cancelled at RunPod. Run the request again if that was not meant.")
        case status:
            return Garbled(f"RunPod first says that job {job_id} has ended, then that it is {status}.")


def _lost(job_id: str) -> Unreachable:
    return Unreachable(
        f"RunPod does not know job {job_id} any more; it keeps results for 30 minutes. Run the request again."
    )
