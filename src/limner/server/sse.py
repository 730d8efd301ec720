"""Server-sent events: the wire form of the feed's messages."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from fastapi.responses import StreamingResponse

from limner.errors import DatabaseError, InvalidRequest
from limner.server.feed import Message

HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


def last_event_id(header: str | None) -> int:
    """Where a subscriber wants to go on; 0 means from the beginning. Raises `InvalidRequest`."""
    if not header:
        return 0
    if not re.fullmatch(r"[0-9]{1,18}", header):
        raise InvalidRequest(f"Last-Event-ID {header[:40]!r} is not one of ours. Leave it out to get everything.")
    return int(header)


def stream(messages: AsyncGenerator[Sequence[Message]]) -> StreamingResponse:
    """The messages as a response; silence is filled with comments, so that proxies keep the connection."""

    async def body() -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n"
        async with aclosing(messages):
            try:
                async for some in messages:
                    yield b"".join(message.sse for message in some) or b": still here\n\n"
            except DatabaseError:
                return  # the client comes back with its Last-Event-ID

    return StreamingResponse(body(), media_type="text/event-stream", headers=HEADERS)
