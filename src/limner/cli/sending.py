"""Paints for `limner generate --server`: requests become jobs of a server, whose pictures are fetched as they come.

A request is sent under an idempotency key of its own: one that is sent twice, because the connection was lost, is one
job. The server may restart in the middle; a job that was sent is never sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from contextlib import aclosing
from pathlib import Path
from typing import Any

from rich.progress import TaskID

from limner.cli.application import Application
from limner.cli.desks import View
from limner.cli.like import Original
from limner.cli.progress import Display
from limner.cli.remote import Remote
from limner.cli.running import AT_ONCE, Place, Run
from limner.cli.wire import Told
from limner.domain import GenerationRequest, Recipe, Reference
from limner.errors import BackendError, InvalidRequest, LimnerError, StorageError, Unreachable
from limner.events import Failed, Info, Warned
from limner.media.pictures import open_reference, sha256_of
from limner.media.saving import SUFFIXES, save_content
from limner.studio import raised

CANCEL_S = 10.0


class Sending(Run):
    """One run of `limner generate` on a server.

    Args:
        application: prints.
        url: the server's address.
        original: the picture to be made again, if any.
        place: where pictures go.
    """

    def __init__(self, application: Application, url: str, original: Original | None, place: Place) -> None:
        super().__init__(application, original, place)
        self._url = url
        self._running: set[str] = set()

    async def _paint_all(self, requests: list[GenerationRequest]) -> None:
        for request in requests:
            _check_names(request)
        gate = asyncio.Semaphore(AT_ONCE)
        async with Remote(self._url, self._application.say) as server:
            try:
                with Display(self._application) as display:
                    async with asyncio.TaskGroup() as group:  # when it is cancelled it waits for all
                        for request in requests:
                            group.create_task(self._paint(server, display, gate, request))
            except (asyncio.CancelledError, KeyboardInterrupt):
                await self._cancel(server)
                raise

    async def _paint(
        self, server: Remote, display: Display, gate: asyncio.Semaphore, request: GenerationRequest
    ) -> None:
        async with gate:
            task = display.add(request.prompt)
            display.tell_place(task, "sending")
            try:
                body = await self._body(server, request)
                job = await server.call("POST", "/api/jobs", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
                self._running.add(job["id"])
                await self._follow(server, display, task, request, job["id"])
                self._running.discard(job["id"])
            except LimnerError as error:
                self._failures.append((request, None, error))
            finally:
                display.remove(task)

    async def _body(self, server: Remote, request: GenerationRequest) -> View:
        if self._original:
            known = (await server.call("GET", "/api/models"))["models"]
            request = self._original.pinned(request, tuple(model["name"] for model in known))
        references: list[Reference] = []
        for reference in request.references:
            references.append(await self._sent(server, reference) if reference.path else reference)
        body = request.model_dump(mode="json", exclude_unset=True, exclude={"references", "mask"})
        if (mask := request.mask) is not None:
            mask = await self._sent(server, mask) if mask.path else mask
            body["mask"] = mask.model_dump(exclude_none=True)
        if references:
            body["references"] = [reference.model_dump(exclude_none=True) for reference in references]
        return body

    async def _sent(self, server: Remote, reference: Reference) -> Reference:
        assert reference.path is not None
        path = Path(reference.path)
        await asyncio.to_thread(open_reference, path)
        if reference.sha256 and await asyncio.to_thread(sha256_of, path) != reference.sha256.lower():
            raise InvalidRequest(f"Picture `{path}` is not the one that the recipe means. Give the original file.")
        content = await asyncio.to_thread(path.read_bytes)
        upload = await server.call("POST", "/api/uploads", files={"file": (path.name, content)})
        return Reference(upload=upload["id"])

    async def _follow(
        self, server: Remote, display: Display, task: TaskID, request: GenerationRequest, job_id: str
    ) -> None:
        fetched: dict[int, str] = {}
        try:
            async with aclosing(server.follow(job_id)) as events:
                async for told in events:
                    self._tell(display, task, told)
                    if told.type == "image_generated":
                        await self._fetch(server, fetched, told.data["index"], told.data["image_id"], job_id)
            job = await server.get(job_id)
            for picture in job["pictures"]:
                if picture["image_id"]:
                    await self._fetch(server, fetched, picture["index"], picture["image_id"], job_id)
        except Unreachable as error:
            told = f"{error.message} The job goes on there: limner jobs watch {job_id} --server {server.url}"
            raise Unreachable(told) from error
        self._note_failures(request, job)

    def _tell(self, display: Display, task: TaskID, told: Told) -> None:
        if told.place:
            display.tell_place(task, told.place)
        if (event := told.event) is None:
            return
        display.tell(task, event)
        if isinstance(event, Info):
            self._note(event.message)
        elif isinstance(event, Warned):
            self._warn(event.message)

    async def _fetch(self, server: Remote, fetched: dict[int, str], index: int, image_id: str, job_id: str) -> None:
        if fetched.get(index) == image_id:
            return
        facts = await server.call("GET", f"/api/images/{image_id}/metadata")
        content = await server.content(f"/api/images/{image_id}")
        if hashlib.sha256(content).hexdigest() != facts["sha256"]:
            raise StorageError(f"Picture {image_id} did not arrive as it was stored. Fetch it again from {server.url}.")
        recipe, place = Recipe.model_validate(facts["recipe"]), self._place
        suffix = place.suffix or SUFFIXES[recipe.request.output.format]
        path = await asyncio.to_thread(save_content, content, place.folder, place.stem_of(recipe), suffix)
        fetched[index] = image_id
        self._add(path, recipe, facts["width"], facts["height"], job_id=job_id, image_id=image_id)

    def _note_failures(self, request: GenerationRequest, job: View) -> None:
        faults: list[tuple[int | None, Any]] = [
            (picture["index"], picture["error"]) for picture in job["pictures"] if picture["error"]
        ]
        if not faults and job["error"]:
            faults = [(None, job["error"])]
        for index, fault in faults:
            self._failures.append((request, index, raised(Failed.model_validate(fault))))
        if job["status"] == "cancelled":
            self._failures.append((request, None, BackendError("The job was cancelled on the server. Send it again.")))

    async def _cancel(self, server: Remote) -> None:
        """Ctrl+C ends here what it would have ended in this process; a second one does not wait for the server."""
        for job_id in sorted(self._running):
            try:
                async with asyncio.timeout(CANCEL_S):
                    await server.cancel(job_id)
                self._application.say(f"Job {job_id} is cancelled on the server; what it has painted is kept there.")
            except (LimnerError, TimeoutError):
                self._application.warn(
                    f"job {job_id} could not be cancelled: limner jobs cancel {job_id} --server {server.url}"
                )


def _check_names(request: GenerationRequest) -> None:
    for flag, name in (("--model", request.model), *(("--lora", adapter.name) for adapter in request.adapters)):
        if name and _is_path(name):
            raise InvalidRequest(
                f"{flag} {name} is a file of this machine, and files of weights are not sent. "
                "Put it into the server's folder and give its name there (see GET /api/models and /api/adapters)."
            )


def _is_path(name: str) -> bool:
    if name.startswith(("/", "~", ".")) or "\\" in name:
        return True
    return ("/" in name or name.endswith((".safetensors", ".gguf"))) and Path(name).exists()
