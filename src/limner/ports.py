"""The seams: what the rest of limner may expect of a backend, of a storage and of a queue.

A backend has a name, capabilities, and one verb. It knows nothing of files, users or presets: it receives a request
whose plans are already made, and tells in events what becomes of it. A storage keeps bytes under keys. A queue hands
jobs to workers; the truth about a job is in the jobs table, whatever the queue says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from PIL import Image

from limner.domain import GenerationRequest, Plan
from limner.events import Event

if TYPE_CHECKING:
    from sqlalchemy import CursorResult, Executable, ScalarResult


@dataclass(frozen=True)
class Order:
    """A request made ready: one plan a picture, the reference picture decoded, adapters resolved to files.

    `reference` is what the picture starts from, `context` are those that the network looks at while it paints. Where
    the request has a mask that keeps anything, `mask` (L, white is painted anew) and `kept`, the picture that stays
    where it is black, are both of the last stage's size.

    `token` is the same in every attempt at a job and empty where there is one attempt only: with a plan's seed it names
    a picture, so that a remote backend finds again what an earlier attempt began there.
    """

    request: GenerationRequest
    plans: tuple[Plan, ...]
    reference: Image.Image | None = None
    context: tuple[Image.Image, ...] = ()
    adapter_files: tuple[str, ...] = field(default=())
    mask: Image.Image | None = None
    kept: Image.Image | None = None
    token: str = ""


@dataclass(frozen=True)
class Capabilities:
    """Facts on what a backend can do now."""

    models: tuple[str, ...]
    samplers: tuple[str, ...]
    schedules: tuple[str, ...]
    previews: bool
    adapters: bool
    references: bool
    masks: bool = False
    negative_prompts: bool = True
    guidance: bool = True


class Backend(Protocol):
    """A place where pictures are made."""

    name: str

    def capabilities(self) -> Capabilities:
        """What can be asked of it."""
        ...

    def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Paint. Yields events, the last of them `Done`; closing the generator cancels.

        Raises `RequestError` before the first picture when the order cannot be fulfilled at all; failures of single
        pictures are `Failed` events.
        """
        ...

    async def aclose(self) -> None:
        """Give back devices and threads."""
        ...


@dataclass(frozen=True)
class HeldModel:
    """A checkpoint in memory: bytes of its weights by component, and since when nothing is painted with it.

    `idle_since` is in seconds since 1970, None while something is. `sha256` is empty until somebody computed it.
    """

    memory_bytes: Mapping[str, int]
    idle_since: float | None = None
    sha256: str = ""


@runtime_checkable
class ModelKeeper(Protocol):
    """A backend whose checkpoints can be put into memory and taken out of it."""

    def loaded(self) -> Mapping[str, HeldModel]:
        """What is in memory, by name."""
        ...

    async def load(self, name: str) -> None:
        """Read a checkpoint's weights; nothing to do where they are in memory. Raises what a request for it would."""
        ...

    async def unload(self, name: str) -> None:
        """Free a checkpoint's memory as soon as nothing is painted with it; returns then."""
        ...


class Storage(Protocol):
    """Bytes under keys such as `images/job_019ab3/0-1.png`.

    A key has parts of letters, digits, `.`, `_` and `-` only; no part begins with a dot. What is there under a key is
    whole: a failed or killed `put` leaves nothing under it.
    """

    async def put(self, key: str, content: bytes, media_type: str) -> None:
        """Store; replaces what was there. Raises `StorageFull` when there is no room, and `StorageError`."""
        ...

    async def get(self, key: str) -> bytes:
        """All bytes. Raises `NotFound` and `StorageError`."""
        ...

    def stream(self, key: str) -> AsyncIterator[bytes]:
        """The bytes in pieces. Raises `NotFound` and `StorageError`, at the latest when iterated."""
        ...

    async def delete(self, key: str) -> None:
        """Remove; no error when there is nothing. Raises `StorageError`."""
        ...

    async def size(self, key: str) -> int | None:
        """Bytes stored under the key; None when there are none."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """Every key that begins with `prefix`, with its size in bytes."""
        ...

    async def link(self, key: str, ttl_s: float) -> str | None:
        """An address where the bytes can be fetched directly for a while; None where the storage has none."""
        ...

    async def aclose(self) -> None:
        """Give back connections."""
        ...


Run = Callable[[str], Awaitable[None]]
"""Begins and runs the job of that id; returns when the attempt has ended, however it did."""


class Connection(Protocol):
    """What a transaction of the database can be asked for; SQLAlchemy's `AsyncConnection` is one."""

    async def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[*tuple[Any, ...]]:
        """Run a statement."""
        ...

    async def scalar(self, statement: Executable, parameters: Any = None, /) -> Any:
        """The first column of its first row; None without one."""
        ...

    async def scalars(self, statement: Executable, parameters: Any = None, /) -> ScalarResult[Any]:
        """The first column of its rows."""
        ...

    def stream_scalars(self, statement: Executable, /) -> Awaitable[AsyncIterable[Any]]:
        """The first column of its rows, of which there may be very many."""
        ...


class Queue(Protocol):
    """Delivers ids of pending jobs to workers, at least once; the fence in the jobs table makes the effect single."""

    async def prepare(self) -> None:
        """Make in the database what the queue needs there; several processes may do so at once."""
        ...

    async def put(self, connection: Connection, job_id: str) -> None:
        """Announce a job inside the transaction that wrote its row."""
        ...

    async def cancel(self, job_id: str) -> None:
        """Say that a job's cancel flag is set, so that whoever runs it looks at once."""
        ...

    async def work(self, lane: str, loaded: Collection[str], slots: int, run: Run, stop: asyncio.Event) -> None:
        """Run jobs, at most `slots` at a time, until `stop` is set and the running ones have returned.

        `loaded` is a live set of checkpoint names; a worker prefers jobs for what it has loaded.
        """
        ...
