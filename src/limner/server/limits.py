"""What is refused before any route sees it: bodies that are too large, and NUL in an address.

A body that says its length is refused without being read; one that does not is refused as soon as it has become too
large.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner.errors import TooLarge
from limner.server.problems import answer

MAX_JSON_BYTES = 2 * 2**20
"""More than any request of texts and numbers: two prompts of 32,000 characters, escaped, are 0.8 MB."""

CLOSE = {"Connection": "close"}


class Limits:
    """Refuses what is too large.

    Args:
        app: what is behind it.
        larger: paths whose bodies may be larger, with how many bytes.
    """

    def __init__(self, app: ASGIApp, larger: Mapping[str, int]) -> None:
        self._app, self._larger = app, dict(larger)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer 400 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if "\x00" in path or b"%00" in scope["query_string"] or b"\x00" in scope["query_string"]:
            message = "The address holds the character NUL. Take it out."
            await answer(path, 400, "invalid_request", message)(scope, receive, send)
            return
        limit = self._larger.get(path, MAX_JSON_BYTES)
        refusal = f"The body is larger than {limit:,} bytes, which is the most that is accepted here. Send less."
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and (len(length) > 15 or int(length) > limit):
            response = answer(path, 413, TooLarge.code, refusal)
            response.headers.update(CLOSE)
            await response(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, refusal, CLOSE)
            return message

        await self._app(scope, counted, send)
