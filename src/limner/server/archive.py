"""Zip files that are made while they are sent, one piece of one file at a time.

Pictures are compressed already, so they are stored as they are: what goes in comes out, and no file is ever whole in
memory. A file that is not there does not break the rest; the archive says so in an entry of its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from zipstream import ZipStream  # pyright: ignore[reportMissingTypeStubs]

from limner.errors import NotFound, StorageError

REPORT_NAME = "missing.txt"


@dataclass(frozen=True)
class Entry:
    """A file of the archive: its name there, its expected size, and where its bytes come from."""

    name: str
    size_bytes: int
    pieces: AsyncIterator[bytes]


class _Archive(Protocol):
    def add(self, data: Iterable[bytes] | bytes, arcname: str, *, size: int | None = None) -> None: ...
    def file(self) -> Iterator[bytes]: ...
    def finalize(self) -> Iterator[bytes]: ...


async def zipped(entries: Iterable[Entry]) -> AsyncGenerator[bytes]:
    """The archive in pieces.

    Raises `StorageError` when a file ends in its middle, since half of it has been sent then: the download fails, and
    is not taken for whole.
    """
    archive = cast("Callable[[], _Archive]", ZipStream)()
    report: list[str] = []
    for entry in entries:
        try:
            piece = await anext(entry.pieces, None)
        except (NotFound, StorageError) as error:
            report.append(f"{entry.name} is missing. {error.message}")
            continue
        waiting: list[bytes] = []
        archive.add(_taken(waiting), entry.name, size=entry.size_bytes)
        made, sent = archive.file(), 0
        yield next(made)
        while piece is not None:
            # Nothing is compressed, so what is put in comes out with the next step.
            waiting.append(piece)
            sent += len(piece)
            yield next(made)
            piece = await anext(entry.pieces, None)
        for rest in made:
            yield rest
        if sent != entry.size_bytes:
            report.append(f"{entry.name} is damaged: it has {sent:,} bytes and had {entry.size_bytes:,}.")
    if report:
        archive.add("\n".join([*report, ""]).encode(), REPORT_NAME)
    for rest in archive.finalize():
        yield rest


def _taken(waiting: list[bytes]) -> Iterator[bytes]:
    while waiting:
        yield waiting.pop()
