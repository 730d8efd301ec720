"""Zip files on their way: small in memory, honest about what is missing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from limner.errors import NotFound, StorageError
from limner.server.archive import Entry, zipped
from limner.storage.local import LocalStorage
from tests.support.buckets import Bucket


async def pieces(*content: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece
    if then is not None:
        raise then


async def archive_of(*entries: Entry) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join([piece async for piece in zipped(entries)])))


async def test_every_file_is_there_whole() -> None:
    contents = {"a.png": [b"one", b"two", b""], "b.png": [os.urandom(300_000)] * 3, "猫.png": [b"x"], "empty.png": []}
    archive = await archive_of(
        *(Entry(name, sum(map(len, content)), pieces(*content)) for name, content in contents.items())
    )
    assert archive.testzip() is None
    assert {name: archive.read(name) for name in archive.namelist()} == {
        name: b"".join(content) for name, content in contents.items()
    }


async def test_no_files_are_an_archive_too() -> None:
    assert (await archive_of()).namelist() == []


async def test_a_missing_file_does_not_break_the_others_and_is_told_of() -> None:
    archive = await archive_of(
        Entry("a.png", 1, pieces(b"a")),
        Entry("b.png", 1, pieces(then=NotFound("There is nothing stored. It may have been removed."))),
        Entry("c.png", 1, pieces(b"c")),
        Entry("d.png", 9, pieces(b"d")),
    )
    assert archive.testzip() is None
    assert archive.namelist() == ["a.png", "c.png", "d.png", "missing.txt"]
    assert archive.read("missing.txt").decode() == (
        "b.png is missing. There is nothing stored. It may have been removed.\n"
        "d.png is damaged: it has 1 bytes and had 9.\n"
    )


async def test_a_file_that_ends_in_its_middle_fails_the_download() -> None:
    with pytest.raises(StorageError, match="gone"):
        await archive_of(Entry("a.png", 4, pieces(b"ab", then=StorageError("The service is gone."))))


async def peak_of(entries: list[Entry]) -> tuple[int, int]:
    """Bytes of the archive, and the most that Python held while it was made."""
    sent = 0
    tracemalloc.start()
    async for piece in zipped(entries):
        sent += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return sent, peak


async def test_large_pictures_are_never_whole_in_memory(tmp_path: Path, bucket: Bucket) -> None:
    for storage in (LocalStorage(tmp_path), bucket.storage()):
        await storage.put("big.png", bytes(50_000_000), "image/png")
        entries = [Entry(f"{n}.png", 50_000_000, storage.stream("big.png")) for n in range(2)]
        sent, peak = await peak_of(entries)
        assert 100_000_000 < sent < 100_010_000
        assert peak < 12_000_000


WHOLE_PROCESS = """
import asyncio, resource, sys
from pathlib import Path
from limner.server.archive import Entry, zipped
from limner.storage.s3 import S3Storage
from tests.support.buckets import ACCESS, SECRET

async def main():
    keys = {"access_key_id": ACCESS, "secret_access_key": SECRET}
    storage = S3Storage(sys.argv[2], endpoint=sys.argv[1], allow_http=True, **keys)
    await anext(storage.stream("big.png"))  # what the client itself needs is not counted
    before, sent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    async for piece in zipped([Entry(f"{n}.png", 50_000_000, storage.stream("big.png")) for n in range(4)]):
        sent += len(piece)
    print(sent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    await storage.aclose()

asyncio.run(main())
"""


async def test_a_process_that_zips_from_a_bucket_stays_small(bucket: Bucket) -> None:
    await bucket.storage().put("big.png", bytes(50_000_000), "image/png")
    told = run_alone(bucket.endpoint, bucket.name)
    sent, grown_kib = map(int, told.split())
    assert sent > 200_000_000
    assert grown_kib < 30 * 1024


def run_alone(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WHOLE_PROCESS, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    return done.stdout
