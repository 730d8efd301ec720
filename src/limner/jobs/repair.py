"""Find what an end at the wrong moment has left behind, and put it right.

Rows and bytes are changed one after the other, so a process that dies in between leaves files that no row names; disks
lose files that rows name. Looking changes nothing. Putting right destroys nothing: files that belong to no row are
moved to a folder, not removed. Both may be done while servers and workers run: what an attempt has stored and not yet
written down is told from what is lost by the attempt's number.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import ColumnElement, and_, delete, exists, func, select

from limner.domain import Fault, JobStatus
from limner.errors import NotFound, StorageError
from limner.jobs.gallery import ROWS_AT_ONCE, Gallery
from limner.jobs.store import JobStore
from limner.jobs.tables import NOW, events, images, jobs, uploads
from limner.ports import Connection
from limner.storage.local import LocalStorage

LEFTOVER_AGE_S = 3600.0
"""How old a file must be that was begun and not finished, and an upload without a row, before it counts as lost."""

SILENT_S = 10.0
"""How long the lease of a job must have run out: servers and workers notice sooner, where any runs."""

GONE = Fault(
    code=StorageError.code,
    message="The picture's file is gone from the storage. Retry the job to paint it again.",
    retryable=True,
)

_PICTURE = re.compile(r"images/([^/]+)/\d+-(\d+)(\.thumb)?\.[a-z]+")
_UPLOAD = re.compile(r"uploads/upl_([0-9a-f]{12})[0-9a-f]*\.png")


@dataclass
class Findings:
    """What is not as it should be."""

    lost_files: dict[str, int] = field(default_factory=dict[str, int])
    """Keys that no row names, with their bytes."""
    missing_pictures: dict[str, str] = field(default_factory=dict[str, str])
    """Ids of pictures whose file is gone, with the keys of their thumbnails."""
    missing_thumbnails: list[str] = field(default_factory=list[str])
    """Ids of pictures of which only the small version is gone."""
    missing_uploads: list[str] = field(default_factory=list[str])
    """Ids of uploads whose file is gone."""
    abandoned_jobs: list[str] = field(default_factory=list[str])
    """Ids of jobs that nobody runs, though they were begun."""
    unended_jobs: list[str] = field(default_factory=list[str])
    """Ids of jobs that are final and whose log does not say so."""
    leftovers: list[Path] = field(default_factory=list[Path])
    """Files that were begun and never finished."""
    known_files: int = 0
    """Files that rows name."""

    @property
    def unrelated(self) -> bool:
        """Whether storage and database have nothing in common: probably one of them is the wrong one."""
        return not self.known_files and bool(self.lost_files or self.missing_pictures or self.missing_uploads)

    def counts(self) -> dict[str, int]:
        """How much there is of everything that is wrong."""
        return {name: len(value) for name, value in vars(self).items() if name != "known_files"}


class Repair:
    """Looks through a database and its storage.

    Args:
        store: the jobs.
        gallery: the pictures, their rows and their storage.
        lost_folder: where files go that belong to no row.
    """

    def __init__(self, store: JobStore, gallery: Gallery, lost_folder: Path) -> None:
        self._store, self._gallery = store, gallery
        self._database, self._storage = store.database, gallery.storage
        self.lost_folder = lost_folder

    async def look(self) -> Findings:
        """Everything that is wrong. Raises `DatabaseError` and `StorageError` when one of them cannot be read."""
        found = Findings()
        stored = await self._look_at_files(found)
        await self._look_at_rows(found, stored)
        await self._look_at_jobs(found)
        if isinstance(self._storage, LocalStorage):
            found.leftovers = await self._storage.leftovers(LEFTOVER_AGE_S)
        return found

    async def put_right(self, found: Findings) -> dict[str, int]:
        """Repair what was found, unless it has changed meanwhile; how much of each was done.

        Raises `StorageError` and `DatabaseError` half-way; what was done until then is done, and the rest is found
        again.
        """
        done = dict.fromkeys(found.counts(), 0)
        for path in found.leftovers:
            path.unlink(missing_ok=True)
            done["leftovers"] += 1
        for key in found.lost_files:
            done["lost_files"] += await self._move(key)
        for image_id, thumbnail_key in found.missing_pictures.items():
            done["missing_pictures"] += await self._store.lose_image(image_id, GONE)
            await self._move(thumbnail_key)  # all that is left of it
        for image_id in found.missing_thumbnails:
            done["missing_thumbnails"] += await self._gallery.redraw_thumbnail(image_id)
        async with self._database.begin() as connection:
            for upload_id in found.missing_uploads:
                done["missing_uploads"] += (
                    await connection.execute(delete(uploads).where(uploads.c.id == upload_id))
                ).rowcount
        if found.abandoned_jobs:
            done["abandoned_jobs"] = await self._store.reap()
        for job_id in found.unended_jobs:
            with suppress(NotFound):
                done["unended_jobs"] += await self._store.tell_end(job_id)
        return done

    # --- looking -----------------------------------------------------------------------------------------------------

    async def _look_at_files(self, found: Findings) -> set[str]:
        stored: set[str] = set()
        some: dict[str, int] = {}
        for prefix in ("images/", "uploads/"):
            async for key, size in self._storage.list(prefix):
                stored.add(key)
                some[key] = size
                if len(some) == ROWS_AT_ONCE:
                    await self._judge(found, some)
                    some = {}
        await self._judge(found, some)
        return stored

    async def _judge(self, found: Findings, some: dict[str, int]) -> None:
        # In this order: an attempt that is over has written its rows before.
        over = await self._over(some)
        named = await self._gallery.named(some)
        found.known_files += len(named)
        found.lost_files |= {key: size for key, size in some.items() if key in over and key not in named}

    async def _over(self, keys: dict[str, int]) -> set[str]:
        """Those of the keys for which nobody will write a row any more."""
        attempts = {key: (match[1], int(match[2])) for key in keys if (match := _PICTURE.fullmatch(key))}
        query = select(jobs.c.id, jobs.c.attempt).where(
            jobs.c.id.in_({job_id for job_id, _ in attempts.values()}), jobs.c.status == JobStatus.PROCESSING
        )
        async with self._database.read() as connection:
            running = {(row.id, row.attempt) for row in await connection.execute(query)}
        newest = (time.time() - LEFTOVER_AGE_S) * 1000
        sent = {key for key in keys if (match := _UPLOAD.fullmatch(key)) and int(match[1], 16) < newest}
        return sent | {key for key, attempt in attempts.items() if attempt not in running}

    async def _look_at_rows(self, found: Findings, stored: set[str]) -> None:
        after = 0
        while True:
            query = (
                select(images.c.seq, images.c.id, images.c.key, images.c.thumbnail_key)
                .where(images.c.seq > after, images.c.deleted_at.is_(None))
                .order_by(images.c.seq)
                .limit(ROWS_AT_ONCE)
            )
            async with self._database.read() as connection:
                rows = (await connection.execute(query)).all()
            if not rows:
                break
            after = rows[-1].seq
            for row in rows:
                if await self._is_missing(row.key, stored):
                    found.missing_pictures[row.id] = row.thumbnail_key
                elif await self._is_missing(row.thumbnail_key, stored):
                    found.missing_thumbnails.append(row.id)
        async with self._database.read() as connection:
            sent = (await connection.execute(select(uploads.c.id, uploads.c.key))).all()
        found.missing_uploads = [row.id for row in sent if await self._is_missing(row.key, stored)]

    async def _is_missing(self, key: str, stored: set[str]) -> bool:
        # What is not in the list may have been stored after it was made.
        return key not in stored and await self._storage.size(key) is None

    async def _look_at_jobs(self, found: Findings) -> None:
        async with self._database.read() as connection:
            found.abandoned_jobs = await _ids(
                connection, and_(jobs.c.status == JobStatus.PROCESSING, jobs.c.lease_until < NOW - SILENT_S)
            )
            every = events.alias()
            last = select(func.max(every.c.number)).where(every.c.job_id == jobs.c.id).correlate(jobs).scalar_subquery()
            told = exists().where(events.c.job_id == jobs.c.id, events.c.number == last, events.c.type == "done")
            final = [status for status in JobStatus if status.final]
            found.unended_jobs = await _ids(connection, and_(jobs.c.status.in_(final), ~told))

    # --- putting right -----------------------------------------------------------------------------------------------

    async def _move(self, key: str) -> bool:
        if key in await self._gallery.named({key}):
            return False
        try:
            content = await self._storage.get(key)
        except NotFound:
            return False
        await LocalStorage(self.lost_folder).put(key, content, "")
        await self._storage.delete(key)
        return True


async def _ids(connection: Connection, which: ColumnElement[bool]) -> list[str]:
    return list(await connection.scalars(select(jobs.c.id).where(which).order_by(jobs.c.seq)))
