"""The front: answers `/health` from the first moment, lets the rest wait for the application, and ends its streams.

Importing and starting the application takes a second or more. Whoever looks after this process need not wait for that
to learn that it lives; whoever sends a request meanwhile is answered when the application can. Streams of events end
with their jobs only; when the server stops they are ended here, in good form, and their readers come back later.
"""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Front:
    """Stands before an application that is still being made."""

    def __init__(self) -> None:
        self._opened, self._closing = asyncio.Event(), asyncio.Event()
        self._app: ASGIApp | None = None

    def open(self, app: ASGIApp) -> None:
        """From now on everything is the application's."""
        self._app = app
        self._opened.set()

    def close(self) -> None:
        """From now on streams of events end."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or wait and pass on."""
        if self._app is None and scope["type"] == "http" and scope["path"] == "/health":
            body = json.dumps({"status": "ok", "version": version("limner")}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await self._opened.wait()
        assert self._app is not None
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self._closing)
        await self._app(scope, exchange.receive, exchange.send)
        await exchange.end()


class _Exchange:
    """One request and its response; a stream of events is told that its reader has left when the server stops."""

    def __init__(self, receive: Receive, send: Send, closing: asyncio.Event) -> None:
        self._receive, self._send, self._closing = receive, send, closing
        self._is_stream = asyncio.Event()
        self._unfinished = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            content_type = Headers(raw=message.get("headers", [])).get("content-type", "")
            if content_type.startswith("text/event-stream"):
                self._is_stream.set()
        elif message["type"] == "http.response.body":
            self._unfinished = message.get("more_body", False)
        await self._send(message)

    async def receive(self) -> Message:
        receiving = asyncio.ensure_future(self._receive())
        stopping = asyncio.create_task(self._stops())
        try:
            done, _ = await asyncio.wait((receiving, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not receiving.done():
                receiving.cancel()
        return receiving.result() if receiving in done else {"type": "http.disconnect"}

    async def end(self) -> None:
        if self._unfinished and self._is_stream.is_set():
            await self._send({"type": "http.response.body", "body": b""})

    async def _stops(self) -> None:
        await self._is_stream.wait()
        await self._closing.wait()
