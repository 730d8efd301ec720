"""Whose turn it is: the order in which waiting jobs are begun, in SQL.

By priority first. Among equals an owner's n-th waiting job behind r running ones has rank n + r, and smaller ranks go
first, so that nobody waits for the end of somebody else's long list. Where one job runs at a time ranks say nothing:
there an owner of whom nothing was begun for a while goes first. Then a job for a checkpoint that is loaded goes before
one that is not, then the owner of whom nothing was begun for longer, then age decides.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    Select,
    String,
    Subquery,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
)

from limner.domain import JobStatus
from limner.jobs.tables import NOW, jobs
from limner.ports import Connection

TURN_S = 60.0
"""How long an owner whose job was begun counts as served, before whom others go although nothing is loaded for them."""


def ranked_jobs(
    lane: str | None = None, loaded: Collection[str] = (), owner_cap: int | None = None, admitted: bool | None = None
) -> Select[*tuple[Any, ...]]:
    """Waiting jobs as (id, seq, priority, is_loaded, rank, served, is_served).

    `served` is when a job of the owner was begun for the last time, 0 for never; `is_served` whether that was lately.

    Args:
        lane: only jobs of this lane.
        loaded: checkpoints whose jobs count as loaded.
        owner_cap: leaves out what would give an owner more than this many running jobs.
        admitted: only jobs whose `admitted` is this.
    """
    return _ranked(lane, frozenset(loaded), owner_cap, admitted)


@lru_cache(maxsize=256)  # making the statement costs more than running it
def _ranked(
    lane: str | BindParameter[str] | None, loaded: frozenset[str], owner_cap: int | None, admitted: bool | None
) -> Select[*tuple[Any, ...]]:
    running = (
        select(jobs.c.owner, func.count().label("n"))
        .where(or_(jobs.c.status == JobStatus.PROCESSING, _waits_admitted(lane, admitted)))
        .group_by(jobs.c.owner)
        .subquery()
    )
    place = func.row_number().over(partition_by=jobs.c.owner, order_by=(jobs.c.priority.desc(), jobs.c.seq))
    where: list[ColumnElement[bool]] = [jobs.c.status == JobStatus.PENDING, jobs.c.cancel_requested.is_(False)]
    if lane is not None:
        where.append(jobs.c.lane == lane)
    if admitted is not None:
        where.append(jobs.c.admitted.is_(admitted))
    is_loaded = jobs.c.model.in_(sorted(loaded)) if loaded else literal(False)
    waiting = (
        select(jobs.c.id, jobs.c.seq, jobs.c.owner, jobs.c.priority, is_loaded.label("is_loaded"), place.label("place"))
        .where(*where)
        .subquery()
    )
    rank = (waiting.c.place + func.coalesce(running.c.n, 0)).label("rank")
    turns = _turns()
    served = func.coalesce(turns.c.served, 0.0)
    query = select(
        waiting.c.id, waiting.c.seq, waiting.c.priority, waiting.c.is_loaded, rank,
        served.label("served"), (served > NOW - TURN_S).label("is_served"),
    ).select_from(
        waiting
        .outerjoin(running, running.c.owner == waiting.c.owner)
        .outerjoin(turns, turns.c.owner == waiting.c.owner)
    )  # fmt: skip
    return query if owner_cap is None else query.where(rank <= owner_cap)


def _waits_admitted(lane: str | BindParameter[str] | None, admitted: bool | None) -> ColumnElement[bool]:
    # To whoever admits, what is admitted already counts as running; but in its own lane only, since another lane may
    # have no worker at all.
    if admitted is not False:
        return literal(False)
    here = literal(True) if lane is None else jobs.c.lane == lane
    return and_(jobs.c.status == JobStatus.PENDING, jobs.c.admitted.is_(True), here)


def _turns() -> Subquery:
    owners = select(jobs.c.owner).where(jobs.c.status == JobStatus.PENDING).distinct().subquery()
    others = jobs.alias()
    served = select(func.max(others.c.started_at)).where(others.c.owner == owners.c.owner).scalar_subquery()
    return select(owners.c.owner, served.label("served")).subquery()


def in_turn(ranked: Any) -> tuple[ColumnElement[Any], ...]:
    """What the columns of a `ranked_jobs` query are ordered by."""
    return (
        ranked.priority.desc(), ranked.rank, ranked.is_served, ranked.is_loaded.desc(), ranked.served, ranked.seq,
    )  # fmt: skip


async def next_ids(
    connection: Connection, lane: str, loaded: Collection[str], owner_cap: int | None, limit: int
) -> list[str]:
    """Ids of the `limit` jobs of a lane that are next; `loaded` and `owner_cap` as for `ranked_jobs`."""
    rows = await connection.execute(_ordered(lane, frozenset(loaded), owner_cap), {"number": limit})
    return [row.id for row in rows]


async def any_waits(connection: Connection, lane: str) -> bool:
    """Whether a lane has a waiting job; much cheaper than `next_ids`."""
    return await connection.scalar(_waiting(), {"its_lane": lane}) is not None


@cache
def _waiting() -> Select[Any]:
    its_lane = jobs.c.lane == bindparam("its_lane", type_=String)
    return select(jobs.c.id).where(jobs.c.status == JobStatus.PENDING, its_lane).limit(1)


@lru_cache(maxsize=256)
def _ordered(lane: str, loaded: frozenset[str], owner_cap: int | None) -> Select[*tuple[Any, ...]]:
    ranked = _ranked(lane, loaded, owner_cap, None).subquery()
    return select(ranked.c.id).order_by(*in_turn(ranked.c)).limit(bindparam("number", type_=Integer))


async def place_of(connection: Connection, job_id: str, lane: str) -> int:
    """How many waiting jobs of its lane will be begun before a job, whatever is loaded."""
    return int(await connection.scalar(_before(), {"job_id": job_id, "its_lane": lane}) or 0)


@cache
def _before() -> Select[int]:
    ranked: Any = _ranked(bindparam("its_lane", type_=String), frozenset[str](), None, None).subquery()
    mine: Any = select(ranked).where(ranked.c.id == bindparam("job_id", type_=String)).subquery()
    return select(func.count()).select_from(ranked, mine).where(_comes_before(ranked.c, mine.c))


def _comes_before(a: Any, b: Any) -> ColumnElement[bool]:
    before, equal = literal(False), literal(True)
    for mine, other in ((b.priority, a.priority), (a.rank, b.rank), (a.served, b.served), (a.seq, b.seq)):
        before = or_(before, and_(equal, mine < other))
        equal = and_(equal, mine == other)
    return before
