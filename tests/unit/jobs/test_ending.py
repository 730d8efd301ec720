"""A cancellation is heeded whenever it comes, also while what was waited for happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from limner.jobs.procrastinate_queue import ProcrastinateQueue


class Nowhere:
    """A database in which there is nothing to do."""

    url = "postgresql://nowhere/none"

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[None]:
        yield


@pytest.mark.parametrize("turns", range(4))
async def test_the_window_is_kept_no_longer_than_its_worker_works(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(ProcrastinateQueue, "_admit", nothing)
    monkeypatch.setattr(ProcrastinateQueue, "_sweep", nothing)
    queue: Any = ProcrastinateQueue(cast(Any, Nowhere()))
    changed = asyncio.Event()
    keeping = asyncio.create_task(queue._keep_window("native", changed))
    await asyncio.sleep(0.01)
    # A delivery ends as the worker does; how many turns of the loop lie between them is chance.
    changed.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    keeping.cancel()
    await asyncio.wait((keeping,), timeout=2)
    assert keeping.cancelled()
