"""An HTTP server that answers what it was told to, one answer a request, and notes what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An answer.

    Args:
        body: bytes as they are, anything else as JSON.
        stalls_s: so long before anything is sent.
        cut: so many bytes of the body are kept back, and the connection is closed.
    """

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stalls_s: float = 0.0
    cut: int = 0


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


@dataclass
class ScriptedServer:
    """Answers in their order; the last one again and again."""

    replies: list[Reply] = field(default_factory=list[Reply])
    asked: list[Asked] = field(default_factory=list[Asked])
    url: str = ""
    _serving: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[ScriptedServer]:
        """On this machine."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            async with server:
                yield self
        finally:
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._answer(reader, writer)
        finally:
            self._serving.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            self.asked.append(
                Asked(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))
            )
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            await asyncio.sleep(reply.stalls_s)
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            sent = {"Content-Type": "application/json", "Connection": "close"} | dict(reply.headers)
            lines = [
                f"HTTP/1.1 {reply.status} x",
                f"Content-Length: {len(body)}",
                *(f"{k}: {v}" for k, v in sent.items()),
            ]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body[: len(body) - reply.cut])
            await writer.drain()
