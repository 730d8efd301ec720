"""Statements that every job needs, made once: making one takes longer than running it.

What differs comes as parameters when they are run. Of an update those named after columns are what is written; those
that begin with `its_` say where.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    Delete,
    Executable,
    Float,
    Insert,
    Select,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from limner.domain import JobStatus
from limner.jobs.tables import NOW, events, images, jobs, live, pictures

Rows = Select[*tuple[Any, ...]]

# --- jobs ------------------------------------------------------------------------------------------------------------


@cache
def new_job() -> Insert:
    """Writes a job; answers with its row."""
    return insert(jobs).values(status=JobStatus.PENDING, created_at=NOW).returning(jobs)


@cache
def job() -> Rows:
    """The row of the job `its_id`."""
    return select(jobs).where(jobs.c.id == bindparam("its_id"))


@cache
def same_key() -> Rows:
    """Id and fingerprint of `its_owner`'s job with the idempotency key `its_key`."""
    mine = and_(jobs.c.owner == bindparam("its_owner"), jobs.c.idempotency_key == bindparam("its_key"))
    return select(jobs.c.id, jobs.c.fingerprint).where(mine)


@cache
def waiting() -> Rows:
    """How many jobs of `its_owner` wait."""
    mine = and_(jobs.c.owner == bindparam("its_owner"), jobs.c.status == JobStatus.PENDING)
    return select(func.count()).select_from(jobs).where(mine)


@cache
def attempts() -> Rows:
    """Attempts of `its_id`, and how many it may have."""
    return select(jobs.c.attempt, jobs.c.max_attempts).where(jobs.c.id == bindparam("its_id"))


@cache
def begin() -> Update:
    """Begins an attempt at `its_id` for `worker` and `its_lease` seconds, where one may begin; answers with the row."""
    return (
        update(jobs)
        .where(
            jobs.c.id == bindparam("its_id"),
            jobs.c.status == JobStatus.PENDING,
            jobs.c.cancel_requested.is_(False),
            jobs.c.attempt < jobs.c.max_attempts,
        )
        .values(
            status=JobStatus.PROCESSING,
            attempt=jobs.c.attempt + 1,
            lease_until=NOW + bindparam("its_lease"),
            started_at=func.coalesce(jobs.c.started_at, NOW),
        )
        .returning(jobs)
    )


@cache
def fence() -> Update:
    """Locks the row of a job, if it belongs to the attempt `its_attempt`."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("its_id"), jobs.c.attempt == bindparam("its_attempt"))
        .where(jobs.c.status == JobStatus.PROCESSING)
        .values(worker=jobs.c.worker)
    )


@cache
def held() -> Rows:
    """Attempt, status and cancel flag of the jobs `ids`."""
    query = select(jobs.c.id, jobs.c.attempt, jobs.c.cancel_requested, jobs.c.status)
    return query.where(jobs.c.id.in_(bindparam("ids", expanding=True)))


@cache
def under_way() -> Rows:
    """Attempts of those of the jobs `ids` that run. Their rows stay so; those that others change are missing."""
    running = and_(jobs.c.id.in_(bindparam("ids", expanding=True)), jobs.c.status == JobStatus.PROCESSING)
    return select(jobs.c.id, jobs.c.attempt).where(running).with_for_update(read=True, skip_locked=True)


@cache
def change() -> Update:
    """Writes columns of the job `its_id`."""
    return update(jobs).where(jobs.c.id == bindparam("its_id"))


@cache
def close() -> Update:
    """Ends the job `its_id` with `status` and `error`."""
    return change().values(finished_at=NOW, lease_until=None)


# --- pictures --------------------------------------------------------------------------------------------------------


@cache
def pictures_of() -> Rows:
    """The pictures of the jobs `ids`."""
    query = select(pictures).where(pictures.c.job_id.in_(bindparam("ids", expanding=True)))
    return query.order_by(pictures.c.job_id, pictures.c.number)


@cache
def change_picture() -> Update:
    """Writes columns of picture `its_number` of the job `its_id`."""
    mine = and_(pictures.c.job_id == bindparam("its_id"), pictures.c.number == bindparam("its_number"))
    return update(pictures).where(mine)


@cache
def image() -> Rows:
    """The serial number of the stored picture `its_id`."""
    return select(images.c.seq).where(images.c.id == bindparam("its_id"))


@cache
def new_image() -> Insert:
    """Writes a stored picture; answers with its serial number."""
    return insert(images).values(created_at=NOW).returning(images.c.seq)


# --- events ----------------------------------------------------------------------------------------------------------


@cache
def numbered_event() -> Insert:
    """Writes an event whose number is known, and which came about `its_age` seconds ago."""
    return insert(events).values(created_at=NOW - bindparam("its_age", type_=Float))


@cache
def next_event() -> Insert:
    """Writes an event behind those that the job `its_job` has."""
    former = events.alias()
    newest = select(func.coalesce(func.max(former.c.number), 0)).where(former.c.job_id == bindparam("its_job"))
    return numbered_event().values(number=newest.scalar_subquery() + 1)


@cache
def newest() -> Rows:
    """The newest event's id, and the newest version in `live`."""
    event, version = (select(func.max(column)).scalar_subquery() for column in (events.c.id, live.c.version))
    return select(event, version)


# --- progress and previews -------------------------------------------------------------------------------------------


@cache
def version() -> Rows:
    """The newest version in `live`, and the time."""
    return select(func.max(live.c.version), NOW)


@cache
def show(is_sqlite: bool) -> Executable:
    """Puts a row into `live`, or in the place of the former one, whose preview stays when there is no newer one."""
    row = (sqlite.insert if is_sqlite else postgresql.insert)(live)
    newer = row.excluded
    has_preview = newer.preview.is_not(None)
    return row.on_conflict_do_update(
        index_elements=[live.c.job_id, live.c.picture],
        set_={
            "version": newer.version,
            "progress": newer.progress,
            "preview": case((has_preview, newer.preview), else_=live.c.preview),
            "preview_at": case((has_preview, newer.preview_at), else_=live.c.preview_at),
        },
    )


@cache
def forget() -> Delete:
    """Removes what was shown of the job `its_id`."""
    return delete(live).where(live.c.job_id == bindparam("its_id"))


@cache
def forget_picture() -> Delete:
    """Removes what was shown of picture `its_number` of the job `its_id`."""
    return forget().where(live.c.picture == bindparam("its_number"))
