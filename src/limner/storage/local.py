"""Bytes in a folder of this machine.

A file appears under its name only when every byte is on the disk: it is written beside its place, synced, and moved
there. Names that begin with a dot are files on their way; `list` leaves them out. A process that is killed on the way
leaves such a file behind, which `leftovers` finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from limner.errors import NotFound, StorageError, StorageFull
from limner.storage.keys import checked_key, is_key

PIECE_BYTES = 256 * 1024
PART_SUFFIX = ".part"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LISTED_AT_ONCE = 1000
T = TypeVar("T")


class LocalStorage:
    """A folder as storage.

    Args:
        folder: made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, key: str, content: bytes, media_type: str) -> None:
        """Store whole or not at all. Raises `StorageFull`, and `StorageError` when the disk refuses."""
        path = self._folder / checked_key(key)
        try:
            await asyncio.to_thread(_write, path, content)
        except OSError as error:
            raise _refused(path, "written", error) from error

    async def get(self, key: str) -> bytes:
        """All bytes under a key."""
        return await self._do(Path.read_bytes, key, "read")

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """The bytes in pieces of 256 KiB."""
        file = await self._do(lambda path: path.open("rb"), key, "read")
        with file:
            while piece := await self._do(lambda _: file.read(PIECE_BYTES), key, "read"):
                yield piece

    async def delete(self, key: str) -> None:
        """Remove the file, and folders that it leaves empty."""

        def remove(path: Path) -> None:
            path.unlink(missing_ok=True)
            for parent in list(path.parents)[: key.count("/")]:
                try:
                    parent.rmdir()
                except OSError:
                    return

        with contextlib.suppress(NotFound):
            await self._do(remove, key, "removed")

    async def size(self, key: str) -> int | None:
        """Bytes of the file; None when there is none."""
        try:
            found = await self._do(Path.stat, key, "looked at")
        except NotFound:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """Every key with its size, folder by folder. Raises `StorageError` when a folder cannot be read."""
        walk = self._walk(prefix)
        while some := await asyncio.to_thread(lambda: list(islice(walk, _LISTED_AT_ONCE))):
            for found in some:
                yield found

    async def leftovers(self, older_than_s: float) -> list[Path]:
        """Files that were begun so long ago and never finished, since their process was killed."""

        def find() -> list[Path]:
            newest = time.time() - older_than_s
            found: list[Path] = []
            for path in self._files(self._folder):
                if path.name.startswith(".") and path.suffix == PART_SUFFIX:
                    with contextlib.suppress(FileNotFoundError):
                        if path.stat().st_mtime < newest:
                            found.append(path)
            return found

        return await asyncio.to_thread(find)

    async def link(self, key: str, ttl_s: float) -> str | None:
        """None: whoever wants the bytes asks the server."""
        return None

    async def aclose(self) -> None:
        """Nothing to give back."""

    def _walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        place = prefix.rpartition("/")[0]
        if place and not is_key(place):
            return
        for path in self._files(self._folder / place):
            key = path.relative_to(self._folder).as_posix()
            if key.startswith(prefix) and is_key(key):
                with contextlib.suppress(FileNotFoundError):
                    yield key, path.stat().st_size

    def _files(self, folder: Path) -> Iterator[Path]:
        # What cannot be read must not look as if it were empty: files would be taken for lost.
        def raised(error: OSError) -> None:
            gone = isinstance(error, FileNotFoundError)
            if not gone and not (isinstance(error, NotADirectoryError) and folder != self._folder):
                raise _refused(Path(str(error.filename)), "listed", error) from error

        for place, _, names in os.walk(folder, onerror=raised):
            for name in sorted(names):
                yield Path(place, name)

    async def _do(self, work: Callable[[Path], T], key: str, verb: str) -> T:
        path = self._folder / checked_key(key)
        try:
            return await asyncio.to_thread(work, path)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound(f"There is nothing stored under {key!r}. It may have been removed.") from error
        except OSError as error:
            raise _refused(path, verb, error) from error


def _refused(path: Path, verb: str, error: OSError) -> StorageError:
    kind = StorageFull if error.errno in _FULL else StorageError
    return kind(
        f"{path} could not be {verb} ({error.strerror or error}). Check the disk's space and the folder's permissions.",
        path=str(path),
    )


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{secrets.token_hex(8)}{PART_SUFFIX}")
    fresh = _made(path.parent)
    try:
        try:
            file = temporary.open("xb")
        except FileNotFoundError:
            # Somebody removed the folder, empty then, between the two lines.
            fresh = _made(path.parent)
            file = temporary.open("xb")
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    for folder in (path.parent, *(made.parent for made in fresh)):
        _sync(folder)


def _made(folder: Path) -> list[Path]:
    """Make a folder where it is missing; which ones are new, the innermost first."""
    fresh = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return fresh


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
