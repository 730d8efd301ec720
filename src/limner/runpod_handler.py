"""A worker at RunPod: takes jobs from RunPod's SDK, paints them with one backend, and yields what happens.

A job's input is an order of our own backend `runpod`, or the fields of a request. Jobs that run at the same time share
the backend, which batches them. What is yielded goes to the job's stream and, all together, into its output; RunPod
bounds both. Invariant: a job ends well only with at least one picture, and stops painting as soon as nobody reads it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, cast

from PIL import Image

from limner.backends.remote_pictures import png
from limner.backends.runpod_wire import (
    ORDER,
    RUN_LIMIT_BYTES,
    SYNC_LIMIT_BYTES,
    Chunk,
    chunk_of,
    fault_chunk,
    picture_chunks,
    require_names,
    unpacked,
)
from limner.domain import OutputSettings
from limner.errors import BackendError, InvalidRequest, LimnerError, NotFound, TooLarge, Unsupported
from limner.events import Done, Event, Failed, ImageGenerated, Preview, Progress
from limner.media.metadata import encoded
from limner.ports import Backend, Order, Storage
from limner.runpod_inputs import Asked, asked_for
from limner.studio import Studio

PROGRESS_EVERY_S = 0.5
PREVIEW_EVERY_S = 2.0
PREVIEWS_BYTES = 1_000_000
"""What all previews of a job may take of its answer."""

RESERVE_BYTES = 200_000
"""What of an answer is kept free for the events that follow a picture."""

SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp"}

log = logging.getLogger("limner")


class Handler:
    """Paints RunPod's jobs; `run` is what the SDK calls a generator handler.

    Args:
        studio: plans requests and knows the worker's files.
        backend: paints all jobs.
        storage: a bucket for pictures, whose links are answered in place of their bytes.
        link_ttl_s: seconds that such a link works.
    """

    def __init__(
        self, studio: Studio, backend: Backend, storage: Storage | None = None, link_ttl_s: float = 3600.0
    ) -> None:
        self._studio, self._backend, self._storage, self._link_ttl_s = studio, backend, storage, link_ttl_s

    async def run(self, job: Chunk) -> AsyncGenerator[Chunk, None]:
        """What happens to a job, as JSON; the last one is `done`, or `{"error": ...}` where there is no picture."""
        box = _Outbox()
        painting = asyncio.create_task(self._painted(job, box))
        # The SDK drops a generator of a job that was stopped without closing it, and its task stays in memory until
        # another one ends: the task's own end is what tells that nobody reads any more.
        if (reader := asyncio.current_task()) is not None:
            reader.add_done_callback(lambda _: painting.cancel())
        try:
            while (chunk := await box.take()) is not None:
                yield chunk
            await painting
        finally:
            painting.cancel()
            await asyncio.wait((painting,))

    async def _painted(self, job: Chunk, box: _Outbox) -> None:
        began = time.monotonic()
        try:
            asked = await self._asked(job)
            sending = _Sending(self, str(job.get("id", "")), asked, box)
            async with aclosing(self._backend.run(asked.order)) as events:
                async for event in events:
                    await sending.send(event)
            box.put(sending.end(time.monotonic() - began))
        except LimnerError as error:
            box.put(fault_chunk(error))
        except Exception as error:
            log.exception("a job broke down")
            fault = BackendError(f"The worker broke down ({type(error).__name__}). Look into the endpoint's log.")
            box.put(fault_chunk(fault))
        finally:
            box.close()

    async def _asked(self, job: Chunk) -> Asked:
        given = job.get("input")
        if not isinstance(given, dict):
            raise InvalidRequest('A job has no input. Send {"input": {"prompt": "..."}}.')
        fields = cast(dict[str, Any], given)
        if fields.keys() == {ORDER}:
            order, previews = await asyncio.to_thread(unpacked, fields[ORDER])
            require_names(order.request)
            order = await asyncio.to_thread(self._completed, order)
            return Asked(order, OutputSettings(format="png"), previews=previews, plain=True)
        return await asyncio.to_thread(asked_for, fields, self._studio, self._backend)

    def _completed(self, order: Order) -> Order:
        """An order of another machine with the files of this one."""
        able = self._backend.capabilities()
        starts = order.reference is not None or bool(order.context)
        if (starts and not able.references) or (order.mask is not None and not able.masks):
            raise Unsupported("The endpoint's workers cannot start from a picture. Leave it out or choose another one.")
        request = order.request.model_copy(update={"backend": self._backend.name})
        # Its pictures are of the stages' sizes already, so the studio is not shown them.
        found = self._studio.order(request, order.plans, self._backend)
        return Order(
            request=request,
            plans=order.plans,
            reference=order.reference,
            context=order.context,
            adapter_files=found.adapter_files,
            mask=order.mask,
            kept=order.kept,
        )

    async def chunks(self, job_id: str, event: ImageGenerated, asked: Asked) -> list[Chunk]:
        """A finished picture as it is sent. Raises `StorageError` when the bucket does not take it."""
        form = asked.output.format
        content = await asyncio.to_thread(_encoded, event, asked)
        if self._storage is None:
            return await asyncio.to_thread(picture_chunks, event, content, form)
        key = f"runpod/{re.sub('[^A-Za-z0-9_-]', '-', job_id)[:100] or 'job'}/{event.index}.{SUFFIXES[form]}"
        await self._storage.put(key, content, f"image/{form}")
        url = await self._storage.link(key, self._link_ttl_s)
        if url is None:
            raise NotFound("The storage of the workers gives no links. Set `storage.url` to a bucket.")
        return picture_chunks(event, content, form, url)


class _Sending:
    """What of a job's events is sent, and within which bounds."""

    def __init__(self, handler: Handler, job_id: str, asked: Asked, box: _Outbox) -> None:
        self._handler, self._job_id, self._asked, self._box = handler, job_id, asked, box
        # RunPod marks the ids of jobs that somebody waits for.
        limit = SYNC_LIMIT_BYTES if job_id.startswith("sync-") else RUN_LIMIT_BYTES
        self._left, self._previews_left = limit - RESERVE_BYTES, PREVIEWS_BYTES
        self._next_progress = self._next_preview = 0.0
        self._images = 0
        self._failures: list[Failed] = []

    async def send(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case ImageGenerated():
                await self._picture(event)
            case Failed():
                self._fail(event)
            case Progress() if now >= self._next_progress or event.current == event.total:
                self._next_progress = now + PROGRESS_EVERY_S
                self._put([chunk_of(event)])
            case Preview() if self._asked.previews and now >= self._next_preview:
                chunk = chunk_of(event)
                if (size := _size([chunk])) <= self._previews_left:
                    self._previews_left -= size
                    self._next_preview = now + PREVIEW_EVERY_S
                    self._put([chunk])
            case Progress() | Preview() | Done():
                pass
            case _:
                self._put([chunk_of(event)])

    def end(self, duration_s: float) -> Chunk:
        """The last chunk: how it ended, or why there is no picture."""
        if not self._images:
            reason = BackendError("The backend ended without a picture. Run the request again.")
            return fault_chunk(self._failures[0] if self._failures else reason)
        failed = len(self._failures)
        status = "partial" if failed else "completed"
        return chunk_of(Done(status=status, images=self._images, failed=failed, duration_s=round(duration_s, 3)))

    async def _picture(self, event: ImageGenerated) -> None:
        try:
            chunks = await self._handler.chunks(self._job_id, event, self._asked)
            if (size := _size(chunks)) > self._left:
                raise TooLarge(
                    f"The picture has {size:,} bytes as base64; RunPod's answer has room for {max(self._left, 0):,}. "
                    "Give the workers a bucket with `storage.url`, or ask for fewer or smaller pictures, or JPEG."
                )
        except LimnerError as error:
            failure = Failed(message=error.message, code=error.code, retryable=error.retryable, index=event.index)
            self._fail(failure)
            return
        self._images += 1
        self._put(chunks)

    def _fail(self, failure: Failed) -> None:
        self._failures.append(failure)
        self._put([chunk_of(failure)])

    def _put(self, chunks: list[Chunk]) -> None:
        self._left -= _size(chunks)
        for chunk in chunks:
            self._box.put(chunk)


class _Outbox:
    """Chunks that wait to be read. Of progress and previews that follow each other only the newest waits."""

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._ready = asyncio.Event()
        self._closed = False

    def put(self, chunk: Chunk) -> None:
        kind = chunk.get("type")
        if kind in ("progress", "preview") and self._chunks and self._chunks[-1].get("type") == kind:
            self._chunks.pop()
        self._chunks.append(chunk)
        self._ready.set()

    def close(self) -> None:
        self._closed = True
        self._ready.set()

    async def take(self) -> Chunk | None:
        """The next one; None when there will be none."""
        while not self._chunks:
            if self._closed:
                return None
            self._ready.clear()
            await self._ready.wait()
        return self._chunks.popleft()


def _encoded(event: ImageGenerated, asked: Asked) -> bytes:
    image = Image.frombytes("RGB", (event.width, event.height), event.rgb)
    # Whoever sent an order writes the recipe into the picture itself.
    return png(image) if asked.plain else encoded(image, event.recipe, asked.output)


def _size(chunks: Iterable[Chunk]) -> int:
    """Bytes as JSON, in the envelope in which the SDK sends them."""
    return sum(len(json.dumps(chunk)) + len('{"output": }, ') for chunk in chunks)
