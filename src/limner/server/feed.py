"""The feed: what subscribers of one job, or of all jobs of an owner, are told.

One task looks into the database a few times a second while anybody listens. What is new is kept for a while, made into
messages once for all subscribers, and those whom it concerns are woken; each then reads on from where it was. Where
very many follow the same, they are woken less often, and told more at a time. A subscriber that is slow, or away for
longer than the past is kept, reads the log in the database instead: it loses nothing and slows nobody. Progress and
previews are worth only their newest, and with many subscribers they are told much less often.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from limner.errors import DatabaseError
from limner.jobs.records import LiveState, StoredEvent
from limner.jobs.store import JobStore

LOOK_EVERY_S = 0.1
"""Between two looks; longer where nobody would be told of what is found."""
WAKE_PER_S, WAKE_LATEST_S = 500, 1.0
"""How many of those who follow the same are woken in a second; more of them wait longer, but no longer than this. What
is sent together costs as much as one message."""
SILENCE_S = 10.0
"""After so long without news a subscriber gets nothing, so that its connection can show life."""
KEPT_EVENTS = 5000
PAGE = 1000
LIVE_EVERY_S = 0.2
LIVE_PER_S = 1000
"""Messages of progress and previews in a second, roughly, to all together who follow the same; above that each of them
is told less often."""

log = logging.getLogger("limner.server")


@dataclass(frozen=True)
class Message:
    """One thing to tell a subscriber; only what is in the log has an id."""

    type: str
    data: dict[str, Any]
    id: int | None = None

    @cached_property
    def sse(self) -> bytes:
        """The message as a server-sent event, made once for all who get it."""
        head = f"id: {self.id}\n" if self.id is not None else ""
        return f"{head}event: {self.type}\ndata: {json.dumps(self.data, ensure_ascii=False)}\n\n".encode()


class _Entry:
    """An event of the log with its two forms: numbered within its job, and within everything of its owner."""

    def __init__(self, event: StoredEvent) -> None:
        self.event = event
        body = event.body()
        self.of_job = Message(event.type, body, event.number)
        self.of_owner = Message(event.type, body, event.id)


class _Live:
    """Progress and preview of a picture as messages."""

    def __init__(self, state: LiveState, former: _Live | None) -> None:
        self.version, self.owner, self.preview_at = state.version, state.owner, state.preview_at
        about = {"job_id": state.job_id, "index": state.picture}
        self.progress = Message("progress", {"type": "progress"} | about | state.progress) if state.progress else None
        self.preview = former.preview if former else None
        if state.preview is not None and (former is None or former.preview_at != state.preview_at):
            shown = {"png": base64.b64encode(state.preview).decode()} | (state.preview_at or {})
            self.preview = Message("preview", {"type": "preview"} | about | shown)


@dataclass(frozen=True)
class _Scope:
    """What a subscriber follows: one job, or all jobs of one owner."""

    job_id: str | None
    owner: str | None

    def holds(self, event: StoredEvent) -> bool:
        return event.job_id == self.job_id if self.job_id is not None else event.owner == self.owner

    def message(self, entry: _Entry) -> Message:
        return entry.of_job if self.job_id is not None else entry.of_owner


@dataclass
class _Audience:
    """Those who follow the same, and what they have not been woken for."""

    wakers: set[asyncio.Event] = field(default_factory=set[asyncio.Event])
    has_news: bool = False
    has_live_news: bool = False
    due: float = 0.0
    live_due: float = 0.0
    live_turn: int = 0
    """Rises whenever progress and previews are to be told."""

    @property
    def wait_s(self) -> float:
        """Between two wake-ups."""
        return min(WAKE_LATEST_S, max(LOOK_EVERY_S, len(self.wakers) / WAKE_PER_S))


class Feed:
    """Tells subscribers what is new.

    Args:
        store: where events are.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._audiences: dict[_Scope, _Audience] = {}
        self._waiting: set[_Scope] = set()
        self._starting = asyncio.Lock()
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._entries: list[_Entry] = []
        self._floor = self._last = self._version = 0
        self._live: dict[str, dict[int, _Live]] = {}

    def of_job(self, job_id: str, after: int) -> AsyncGenerator[Sequence[Message]]:
        """Everything about one job after event number `after`, until it has ended.

        Messages come as many at a time as there are; none at all when it has been silent for a while.
        """
        return self._follow(_Scope(job_id, None), after)

    def of_owner(self, owner: str, after: int) -> AsyncGenerator[Sequence[Message]]:
        """Everything about all jobs of an owner after event id `after`; never ends."""
        return self._follow(_Scope(None, owner), after)

    async def aclose(self) -> None:
        """Stop looking; whoever still listens hears nothing more."""
        self._closed.set()
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _follow(self, scope: _Scope, after: int) -> AsyncGenerator[Sequence[Message]]:
        with self._listening(scope) as (audience, waker):
            await self._start()
            told: dict[tuple[str, int], tuple[int, Message | None]] = {}
            seen, behind, live_turn, ended = self._last, True, -1, False
            if scope.job_id is None and after >= self._floor:
                seen, behind = after, False  # what came since then is still here
            while True:
                waker.clear()
                quiet = True
                if behind or seen < self._floor:
                    seen, behind = self._last, False
                    async for page in self._past(scope, after):
                        after, ended, quiet = _place(scope, page[-1]), page[-1].type == "done", False
                        yield [scope.message(_Entry(event)) for event in page]
                    if quiet and scope.job_id is not None and (await self._store.get(scope.job_id)).status.final:
                        return
                    if seen < self._floor:
                        continue  # it was told so slowly that it fell behind again
                if entries := self._since(seen):
                    seen = entries[-1].event.id
                    fresh = [e for e in entries if scope.holds(e.event) and _place(scope, e.event) > after]
                    if fresh:
                        newest = fresh[-1].event
                        after, ended, quiet = _place(scope, newest), newest.type == "done", False
                        yield [scope.message(entry) for entry in fresh]
                if ended and scope.job_id is not None and seen >= self._last:
                    return
                if live_turn != audience.live_turn:
                    live_turn = audience.live_turn
                    if news := self._live_news(scope, told):
                        quiet = False
                        yield news
                try:
                    async with asyncio.timeout(SILENCE_S):
                        await waker.wait()
                except TimeoutError:
                    if quiet:
                        yield ()

    async def _past(self, scope: _Scope, after: int) -> AsyncIterator[Sequence[StoredEvent]]:
        while True:
            if scope.job_id is not None:
                page = await self._store.events(scope.job_id, after, PAGE)
            else:
                page = await self._store.feed(scope.owner, after, PAGE)
            if page:
                yield page
            if len(page) < PAGE:
                return
            after = _place(scope, page[-1])

    def _since(self, seen: int) -> Sequence[_Entry]:
        return self._entries[bisect_right(self._entries, seen, key=lambda entry: entry.event.id) :]

    # --- progress and previews ---------------------------------------------------------------------------------------

    def _states(self, scope: _Scope) -> Generator[tuple[tuple[str, int], _Live]]:
        jobs = [scope.job_id] if scope.job_id is not None else list(self._live)
        for job_id in jobs:
            for picture, live in self._live.get(job_id, {}).items():
                if scope.job_id is not None or live.owner == scope.owner:
                    yield (job_id, picture), live

    def _live_news(self, scope: _Scope, told: dict[tuple[str, int], tuple[int, Message | None]]) -> list[Message]:
        news: list[Message] = []
        for place, live in self._states(scope):
            version, preview = told.get(place, (0, None))
            if live.version <= version:
                continue
            told[place] = (live.version, live.preview)
            news += [live.progress] if live.progress else []
            news += [live.preview] if live.preview and live.preview is not preview else []
        for place in [place for place in told if place[0] not in self._live]:
            del told[place]
        return news

    # --- the one who looks -------------------------------------------------------------------------------------------

    @contextmanager
    def _listening(self, scope: _Scope) -> Generator[tuple[_Audience, asyncio.Event]]:
        waker = asyncio.Event()
        audience = self._audiences.setdefault(scope, _Audience())
        audience.wakers.add(waker)
        try:
            yield audience, waker
        finally:
            audience.wakers.discard(waker)
            if not audience.wakers:
                del self._audiences[scope]

    async def _start(self) -> None:
        async with self._starting:
            if self._task is not None and not self._task.done():
                return
            newest, _ = await self._store.newest()
            self._entries, self._live, self._version = [], {}, 0
            self._floor = self._last = newest
            await self._take_live()
            self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while await self._somebody_listens():
            try:
                event, version = await self._store.newest()
                if version != self._version:
                    await self._take_live()
                if event > self._last:
                    await self._take_events()
            except DatabaseError as error:
                log.debug("the feed waits: %s", error.message)
                continue
            except Exception:  # nobody else wakes the subscribers
                log.exception("the feed failed in a way that nobody foresaw")
                continue
            self._wake()

    async def _somebody_listens(self) -> bool:
        pause_s = min((audience.wait_s for audience in self._audiences.values()), default=LOOK_EVERY_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._closed.wait()
        return bool(self._audiences) and not self._closed.is_set()

    def _wake(self) -> None:
        """Wake those whose turn it is."""
        now = time.monotonic()
        soon = now + LOOK_EVERY_S / 2  # a look that comes a moment too early counts, as the next one is far
        for scope in list(self._waiting):
            audience = self._audiences.get(scope, _Audience())
            turns = audience.has_live_news and soon >= audience.live_due
            if turns:
                audience.has_live_news = False
                audience.live_turn += 1
                messages = len(audience.wakers) * sum(1 for _ in self._states(scope))
                audience.live_due = now + max(LIVE_EVERY_S, messages / LIVE_PER_S)
            if turns or (audience.has_news and soon >= audience.due):
                audience.has_news = False
                audience.due = now + audience.wait_s
                for waker in audience.wakers:
                    waker.set()
            if not (audience.has_news or audience.has_live_news):
                self._waiting.discard(scope)

    def _concerned(self, job_id: str, owner: str) -> Generator[_Audience]:
        """Those who follow a job, or everything of its owner, from now on waiting to be woken."""
        for scope in (_Scope(job_id, None), _Scope(None, owner)):
            if (audience := self._audiences.get(scope)) is not None:
                self._waiting.add(scope)
                yield audience

    async def _take_events(self) -> None:
        for event in await self._store.feed(None, self._last, PAGE):
            self._entries.append(_Entry(event))
            self._last = event.id
            for audience in self._concerned(event.job_id, event.owner):
                audience.has_news = True
            if event.type == "done" or event.data.get("scope") == "job":
                self._live.pop(event.job_id, None)
        if len(self._entries) > 2 * KEPT_EVENTS:
            self._floor = self._entries[-KEPT_EVENTS - 1].event.id
            del self._entries[:-KEPT_EVENTS]

    async def _take_live(self) -> None:
        for state in await self._store.shown(self._version):
            pictures = self._live.setdefault(state.job_id, {})
            pictures[state.picture] = _Live(state, pictures.get(state.picture))
            self._version = max(self._version, state.version)
            for audience in self._concerned(state.job_id, state.owner):
                audience.has_live_news = True


def _place(scope: _Scope, event: StoredEvent) -> int:
    return event.number if scope.job_id is not None else event.id
