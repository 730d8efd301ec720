"""Where jobs are looked at and changed: the database of this machine's home, or a server.

Both give jobs in the form of the HTTP interface, so that `limner jobs` need not know which one it talks to.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from limner.cli.wire import Told
from limner.errors import NotFound

if TYPE_CHECKING:
    from limner.config import Settings
    from limner.domain import Job
    from limner.service import Service

LOOK_EVERY_S = 0.25

View = dict[str, Any]


class Desk(Protocol):
    """Jobs, wherever they are. Every method raises `NotFound` for a job that is not there."""

    async def list(self, statuses: Sequence[str], search: str, limit: int, cursor: str | None) -> View:
        """A page: `{"jobs": [...], "next_cursor": ...}`."""
        ...

    async def get(self, job_id: str) -> View:
        """One job."""
        ...

    async def cancel(self, job_id: str) -> View:
        """Ask for a job's end."""
        ...

    async def retry(self, job_id: str) -> View:
        """Run again what failed. Raises `Conflict`."""
        ...

    async def file(self, image_id: str) -> View:
        """What is known of a picture's file: `{"there": bool, "where": str}`."""
        ...

    async def log(self, job_id: str) -> list[Told]:
        """The durable events so far."""
        ...

    def follow(self, job_id: str, after: int = 0) -> AsyncGenerator[Told]:
        """Durable events behind number `after`, and the newest progress, until the job is done."""
        ...

    async def advice(self) -> str:
        """Why a job that waits may wait for long; empty when nothing speaks for that."""
        ...


@asynccontextmanager
async def here(settings: Settings) -> AsyncGenerator[LocalDesk]:
    """The jobs of this machine's home. Where there is no database, none is made."""
    kind, _, path = settings.database_url.partition(":///")
    if kind.startswith("sqlite") and not os.path.exists(path):  # noqa: ASYNC240, PTH110
        yield LocalDesk(None, path)
        return
    from limner.service import Service

    async with Service(settings) as service:
        yield LocalDesk(service, path)


class LocalDesk:
    """Jobs in the database.

    Args:
        service: reads and changes them; None where there is no database.
        place: what the database is called in messages.
    """

    def __init__(self, service: Service | None, place: str) -> None:
        self._service, self._place = service, place

    def _found(self, job_id: str) -> Service:
        if self._service is None:
            raise NotFound(f"There is no job `{job_id}`: there is no database at {self._place}. Check LIMNER_HOME.")
        return self._service

    async def list(self, statuses: Sequence[str], search: str, limit: int, cursor: str | None) -> View:
        """A page of jobs, newest first."""
        if self._service is None:
            return {"jobs": [], "next_cursor": None}
        from limner.domain import JobStatus
        from limner.jobs.records import JobFilter

        wanted = JobFilter(statuses=tuple(JobStatus(status) for status in statuses), text=search)
        page = await self._service.store.list(wanted, limit, cursor)
        return {"jobs": [_view(job) for job in page.items], "next_cursor": page.next_cursor}

    async def get(self, job_id: str) -> View:
        """One job, with the newest progress of each picture under way."""
        service = self._found(job_id)
        view = _view(await service.store.get(job_id))
        live = await service.store.shown(job_id=job_id)
        view["progress"] = [{"index": state.picture} | state.progress for state in live if state.progress]
        return view

    async def cancel(self, job_id: str) -> View:
        """Ask for its end; whoever runs it looks at the flag several times a second."""
        return _view(await self._found(job_id).store.cancel(job_id))

    async def retry(self, job_id: str) -> View:
        """Run again what failed."""
        return _view(await self._found(job_id).store.retry(job_id))

    async def file(self, image_id: str) -> View:
        """Whether the storage has the bytes."""
        assert self._service is not None
        gallery = self._service.gallery
        try:
            image = await gallery.get(image_id)
        except NotFound:
            return {"there": False, "where": "deleted"}
        there = await gallery.storage.size(image.key) is not None
        path = self._service.settings.pictures_dir / image.key
        return {"there": there, "where": str(path) if path.exists() or not there else image.key}

    async def log(self, job_id: str) -> list[Told]:
        """The durable events so far."""
        service = self._found(job_id)
        await service.store.get(job_id)
        told: list[Told] = []
        while page := await service.store.events(job_id, after=len(told)):
            told += [Told(event.type, event.body(), event.number) for event in page]
        return told

    async def follow(self, job_id: str, after: int = 0) -> AsyncGenerator[Told]:
        """Looks into the database a few times a second."""
        store = self._found(job_id).store
        version = 0
        await store.get(job_id)
        while True:
            live = await store.shown(version, job_id=job_id)
            events = await store.events(job_id, after)
            for event in events:
                after = event.number
                yield Told(event.type, event.body(), event.number)
            if events and events[-1].type == "done":
                return
            for state in live:
                version = max(version, state.version)
                if state.progress:
                    yield Told("progress", {"index": state.picture} | state.progress)
            if not events:
                await asyncio.sleep(LOOK_EVERY_S)

    async def advice(self) -> str:
        """Nobody begins a job while no worker is alive."""
        if self._service is None or await self._service.living_workers():
            return ""
        return "No worker is alive. Start one with `limner serve` or `limner worker`."


def _view(job: Job) -> View:
    view = job.model_dump(mode="json", exclude={"request", "pictures"})
    view["request"] = job.request.model_dump(mode="json", exclude_unset=True)
    view["pictures"] = [picture.model_dump(mode="json") | {"seed": str(picture.seed)} for picture in job.pictures]
    return view
