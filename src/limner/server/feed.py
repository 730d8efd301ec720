"""The feed: what subscribers of one job, or of all jobs of an owner, are told.

One task looks into the database a few times a second while anybody listens. What is new is kept for a while, made into
messages once for all subscribers, and those whom it concerns are woken; each then reads on from where it was. A
subscriber that is slow, or away for longer than the past is kept, reads the log in the database instead: it loses
nothing and slows nobody. Progress and previews are worth only their newest, and with many subscribers they are told
less often.
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
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from limner.errors import DatabaseError
from limner.jobs.store import JobStore, LiveState, StoredEvent

LOOK_EVERY_S, LOOK_PER_S, LOOK_LATEST_S = 0.1, 1000, 1.0
"""Between two looks. With so many subscribers that this would be more than so many wake-ups in a second, it is longer:
what is sent together costs as much as one message."""
SILENCE_S = 10.0
"""After so long without news a subscriber gets nothing, so that its connection can show life."""
KEPT_EVENTS = 5000
PAGE = 1000
LIVE_EVERY_S = 0.2
LIVE_PER_S = 1000
"""Messages of progress and previews to all subscribers together in a second, roughly; above that each is told less
often."""

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


class Feed:
    """Tells subscribers what is new.

    Args:
        store: where events are.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._wakers: dict[_Scope, set[asyncio.Event]] = {}
        self._listeners = 0
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
        with self._listening(scope) as waker:
            await self._start()
            told: dict[tuple[str, int], tuple[int, Message | None]] = {}
            seen, behind, live_due, ended = self._last, True, 0.0, False
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
                now = time.monotonic()
                if now >= live_due and (news := self._live_news(scope, told)):
                    live_due, quiet = now + max(LIVE_EVERY_S, self._listeners * len(news) / LIVE_PER_S), False
                    yield news
                waits_for_live = live_due > now and self._has_live_news(scope, told)
                try:
                    async with asyncio.timeout(live_due - now if waits_for_live else SILENCE_S):
                        await waker.wait()
                except TimeoutError:
                    if quiet and not waits_for_live:
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

    def _has_live_news(self, scope: _Scope, told: dict[tuple[str, int], tuple[int, Message | None]]) -> bool:
        return any(live.version > told.get(place, (0, None))[0] for place, live in self._states(scope))

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
    def _listening(self, scope: _Scope) -> Generator[asyncio.Event]:
        waker = asyncio.Event()
        self._wakers.setdefault(scope, set()).add(waker)
        self._listeners += 1
        try:
            yield waker
        finally:
            self._listeners -= 1
            self._wakers[scope].discard(waker)
            if not self._wakers[scope]:
                del self._wakers[scope]

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
                touched: set[_Scope] = set()
                if version != self._version:
                    touched |= await self._take_live()
                if event > self._last:
                    touched |= await self._take_events()
            except DatabaseError as error:
                log.debug("the feed waits: %s", error.message)
                continue
            except Exception:  # nobody else wakes the subscribers
                log.exception("the feed failed in a way that nobody foresaw")
                continue
            for scope in touched:
                for waker in self._wakers.get(scope, ()):
                    waker.set()

    async def _somebody_listens(self) -> bool:
        pause_s = min(LOOK_LATEST_S, max(LOOK_EVERY_S, self._listeners / LOOK_PER_S))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._closed.wait()
        return bool(self._listeners) and not self._closed.is_set()

    async def _take_events(self) -> set[_Scope]:
        touched: set[_Scope] = set()
        for event in await self._store.feed(None, self._last, PAGE):
            self._entries.append(_Entry(event))
            self._last = event.id
            touched |= {_Scope(event.job_id, None), _Scope(None, event.owner)}
            if event.type == "done" or event.data.get("scope") == "job":
                self._live.pop(event.job_id, None)
        if len(self._entries) > 2 * KEPT_EVENTS:
            self._floor = self._entries[-KEPT_EVENTS - 1].event.id
            del self._entries[:-KEPT_EVENTS]
        return touched

    async def _take_live(self) -> set[_Scope]:
        touched: set[_Scope] = set()
        for state in await self._store.shown(self._version):
            pictures = self._live.setdefault(state.job_id, {})
            pictures[state.picture] = _Live(state, pictures.get(state.picture))
            self._version = max(self._version, state.version)
            touched |= {_Scope(state.job_id, None), _Scope(None, state.owner)}
        return touched


def _place(scope: _Scope, event: StoredEvent) -> int:
    return event.number if scope.job_id is not None else event.id
