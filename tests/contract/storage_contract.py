"""What every storage must keep to. Inherit from `StorageContract` and give it an empty storage.

class TestMine(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage: ...
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import tracemalloc

import pytest

from limner.errors import NotFound
from limner.ports import Storage

TRICKS = (
    "../x",
    "a/../../x",
    "/etc/passwd",
    "a//b",
    "a/",
    ".hidden",
    "a/.hidden",
    "a/./b",
    "a\0b",
    "a\\b",
    "a\nb",
    "a\n",
    "~",
    "a b",
    "ä",
    "%2e%2e/x",
    "C:x",
    "",
    "a" * 129,
    "/".join("a" * 9),
    "/".join(["a" * 120] * 5),
)
BIG_BYTES = 50_000_000


async def keys(storage: Storage, prefix: str = "") -> dict[str, int]:
    """Everything that is stored, with its size."""
    return {key: size async for key, size in storage.list(prefix)}


class StorageContract:
    """The suite."""

    async def test_what_was_put_is_read_again(self, storage: Storage) -> None:
        content = random.Random(1).randbytes(300_000)
        await storage.put("images/job_1/0-1.png", content, "image/png")
        assert await storage.get("images/job_1/0-1.png") == content
        assert await storage.size("images/job_1/0-1.png") == len(content)
        assert b"".join([piece async for piece in storage.stream("images/job_1/0-1.png")]) == content

    async def test_nothing_is_a_content_too(self, storage: Storage) -> None:
        await storage.put("empty", b"", "image/png")
        assert (await storage.get("empty"), await storage.size("empty")) == (b"", 0)
        assert b"".join([piece async for piece in storage.stream("empty")]) == b""
        assert await keys(storage) == {"empty": 0}

    async def test_a_second_put_replaces_the_first(self, storage: Storage) -> None:
        await storage.put("a/b.png", b"first, and longer", "image/png")
        await storage.put("a/b.png", b"second", "image/png")
        assert await storage.get("a/b.png") == b"second"
        assert await keys(storage) == {"a/b.png": 6}

    async def test_what_is_missing_is_not_found(self, storage: Storage) -> None:
        await storage.put("a/b.png", b"1", "image/png")
        for missing in ("a", "a/c.png", "a/b.png/c", "b"):
            with pytest.raises(NotFound, match="nothing stored under"):
                await storage.get(missing)
            with pytest.raises(NotFound):
                assert [piece async for piece in storage.stream(missing)] == []
            assert await storage.size(missing) is None

    async def test_deleting_twice_is_no_error(self, storage: Storage) -> None:
        await storage.put("a/b.png", b"1", "image/png")
        for key in ("a/b.png", "a/b.png", "a", "a/b.png/c", "never/was"):
            await storage.delete(key)
        assert await keys(storage) == {}
        await storage.put("a/b.png", b"2", "image/png")
        assert await storage.get("a/b.png") == b"2"

    async def test_list_knows_any_beginning_of_a_key(self, storage: Storage) -> None:
        stored = ("images/a/0.png", "images/a/1.png", "images/ab/0.png", "uploads/a.png", "top.png")
        for number, key in enumerate(stored):
            await storage.put(key, b"x" * number, "image/png")
        assert await keys(storage) == {key: number for number, key in enumerate(stored)}
        assert set(await keys(storage, "images/a")) == set(stored[:3])
        assert set(await keys(storage, "images/a/")) == set(stored[:2])
        assert set(await keys(storage, "images/a/1")) == {"images/a/1.png"}
        assert set(await keys(storage, "to")) == {"top.png"}
        for nothing in ("nothing/", "images/a/1.png/", "../", "/", "a//", ".", "images/../"):
            assert await keys(storage, nothing) == {}

    async def test_list_pages_through_more_than_a_thousand(self, storage: Storage) -> None:
        names = [f"images/{number}.png" for number in range(1100)]
        for begin in range(0, len(names), 50):
            await asyncio.gather(*(storage.put(name, b"", "image/png") for name in names[begin : begin + 50]))
        found = [key async for key, _ in storage.list("images/")]
        assert sorted(found) == sorted(names)

    @pytest.mark.parametrize("key", TRICKS, ids=ascii)
    async def test_path_tricks_lead_nowhere(self, storage: Storage, key: str) -> None:
        for attempt in (
            storage.put(key, b"x", "image/png"),
            storage.get(key),
            storage.size(key),
            storage.delete(key),
            storage.link(key, 60),
        ):
            try:
                assert await attempt is None
            except NotFound:
                continue
        with pytest.raises(NotFound):
            await storage.put(key, b"x", "image/png")
        with pytest.raises(NotFound):
            assert [piece async for piece in storage.stream(key)] == []
        assert await keys(storage) == {}

    async def test_a_large_picture_is_streamed_in_pieces(self, storage: Storage) -> None:
        content = random.Random(2).randbytes(BIG_BYTES // 50) * 50
        await storage.put("big.png", content, "image/png")
        wanted = hashlib.sha256(content).digest()
        del content
        digest, count, largest = hashlib.sha256(), 0, 0
        tracemalloc.start()
        async for piece in storage.stream("big.png"):
            digest.update(piece)
            count, largest = count + 1, max(largest, len(piece))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert digest.digest() == wanted
        assert count > 5
        assert largest < 9_000_000
        assert peak < 20_000_000

    async def test_a_stream_may_be_left_early(self, storage: Storage) -> None:
        await storage.put("a.png", b"x" * 3_000_000, "image/png")
        async for piece in storage.stream("a.png"):
            assert piece
            break
        await storage.delete("a.png")
        assert await keys(storage) == {}

    async def test_puts_at_the_same_time_do_not_mix(self, storage: Storage) -> None:
        contents = [bytes([number]) * 200_000 for number in range(16)]
        await asyncio.gather(*(storage.put("same.png", content, "image/png") for content in contents))
        await asyncio.gather(*(storage.put(f"own/{n}.png", content, "") for n, content in enumerate(contents)))
        assert await storage.get("same.png") in contents
        assert [await storage.get(f"own/{n}.png") for n in range(16)] == contents
        assert len(await keys(storage)) == 17

    async def test_putting_and_deleting_side_by_side_loses_nothing(self, storage: Storage) -> None:
        async def come_and_go(number: int) -> None:
            for _ in range(10):
                await storage.put(f"folder/{number}.png", b"x", "image/png")
                await storage.delete(f"folder/{number}.png")
            await storage.put(f"folder/{number}.png", b"stays", "image/png")

        await asyncio.gather(*(come_and_go(number) for number in range(8)))
        assert await keys(storage) == {f"folder/{number}.png": 5 for number in range(8)}
