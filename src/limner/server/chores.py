"""What a server does now and then: find lost jobs, purge deleted pictures, remove what is old."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress

from limner.errors import DatabaseError, StorageError
from limner.service import Service

REAP_EVERY_S = 2.0
CLEAN_EVERY_S = 600.0
RESTORABLE_S = 24 * 3600.0
DAY_S = 24 * 3600.0

log = logging.getLogger("limner.server")


async def keep_house(service: Service, stop: asyncio.Event) -> None:
    """Until `stop` is set. What fails is tried again the next time."""
    next_cleaning = 0.0
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        await _tried(service.reap())
        if loop.time() >= next_cleaning:
            next_cleaning = loop.time() + CLEAN_EVERY_S
            await clean(service)
        with suppress(TimeoutError):
            async with asyncio.timeout(REAP_EVERY_S):
                await stop.wait()


async def clean(service: Service) -> None:
    """Purge pictures that were deleted a day ago, and remove what is older than the settings keep."""
    await _tried(service.workers.forget(DAY_S))
    await _tried(service.wishes.forget(DAY_S))
    await _tried(service.gallery.purge(RESTORABLE_S))
    if days := service.settings.jobs.cleanup_days:
        removed = await _tried(service.remove_old(days * DAY_S))
        if removed:
            log.info("removed %d jobs older than %g days", removed, days)


async def _tried(work: Awaitable[int]) -> int:
    try:
        return await work
    except (DatabaseError, StorageError) as error:
        log.warning("%s", error.message)
    except Exception:  # one chore that fails must not end the others
        log.exception("a chore failed in a way that nobody foresaw")
    return 0
