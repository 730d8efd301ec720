"""What every route gets: the service, the feed, the caller."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from limner.domain import LOCAL_OWNER, Job
from limner.server.feed import Feed
from limner.server.links import Links
from limner.server.webhooks import Webhooks
from limner.service import Service


@dataclass(frozen=True)
class State:
    """One server's parts."""

    service: Service
    feed: Feed
    links: Links
    webhooks: Webhooks

    async def ended(self, job: Job, caller: Request, timeout_s: float | None = None) -> Job:
        """The job when it has ended; as it is when so much time has passed, or when the caller has hung up."""
        if not job.status.final:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s), aclosing(self.feed.of_job(job.id, 0)) as messages:
                    async for _ in messages:
                        if await caller.is_disconnected():
                            break
        return await self.service.store.get(job.id)


async def _state(request: Request) -> State:  # what is not async would go to a thread
    return cast(State, request.app.state.limner)


async def _owner() -> str:
    # There are no accounts yet: everything belongs to whoever sits at this machine.
    return LOCAL_OWNER


Parts = Annotated[State, Depends(_state)]
Owner = Annotated[str, Depends(_owner)]
