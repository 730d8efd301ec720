"""A limner server as the command line sees it: requests that wait for a server that restarts, and resumed events.

Whatever goes wrong becomes one of our errors: problems keep their code and detail, the rest is `Unreachable`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

import httpx

from limner.cli.desks import View
from limner.cli.wire import Told
from limner.errors import InvalidRequest, LimnerError, NotFound, Unreachable
from limner.events import Failed
from limner.studio import raised

ANSWER_S = 30.0
CONNECT_S = 5.0
SILENCE_S = 35.0
"""A stream of events is never silent for longer than ten seconds while its server is well."""
PATIENCE_S = 300.0
LONGEST_PAUSE_S = 5.0
LOG_PAUSE_S = 1.0
BUSY = (429, 502, 503, 504)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Patience:
    """Waits for a server that does not answer, longer each time, until it has been away for too long.

    Args:
        total_s: how long is too long.
        say: told once when the waiting begins, and once when it is over.
        where: the server's address.
    """

    def __init__(self, total_s: float, say: Callable[[str], None], where: str) -> None:
        self._total_s, self._say, self._where = total_s, say, where
        self._since: float | None = None
        self._pause_s = 0.25

    async def wait(self, error: LimnerError) -> None:
        """Pause. Raises `error` when the server has been away for too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            if self._total_s:
                self._say(f"{self._where} does not answer; waiting for it.")
        if now - self._since >= self._total_s:
            raise error
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 1.6)

    def over(self) -> None:
        """It answers again."""
        if self._since is not None:
            self._say(f"{self._where} answers again.")
        self._since, self._pause_s = None, 0.25


class Remote:
    """The jobs of a server, and its other routes.

    Args:
        url: its address; `http://` may be left out.
        say: told when the server is away and when it is back.
        patience_s: how long a server may be away that has answered before.
    """

    def __init__(self, url: str, say: Callable[[str], None], patience_s: float = PATIENCE_S) -> None:
        self.url = _checked(url)
        self._say, self._patience_s = say, patience_s
        # A proxy of the environment knows no way to this machine.
        proxied = (urlsplit(self.url).hostname or "") not in LOOPBACK
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        # Streams of events hold a connection each for as long as their jobs run.
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.AsyncClient(base_url=self.url, timeout=timeout, limits=limits, trust_env=proxied)

    async def __aenter__(self) -> Self:
        """Raises `Unreachable` unless a limner server answers."""
        try:
            response = await self._client.get("/health")
        except (httpx.TransportError, httpx.InvalidURL) as error:
            await self._client.aclose()
            raise self._unreachable(error) from error
        if response.status_code == 403:
            await self._client.aclose()
            raise self._error(response)
        if response.status_code != 200 or "version" not in _object(response):
            await self._client.aclose()
            raise Unreachable(f"What answers at {self.url} is no limner server. Check the address and the port.")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    # --- a desk ------------------------------------------------------------------------------------------------------

    async def list(self, statuses: Sequence[str], search: str, limit: int, cursor: str | None) -> View:
        """A page of jobs, newest first."""
        query = {"status": list(statuses), "search": search, "limit": limit} | ({"cursor": cursor} if cursor else {})
        return await self.call("GET", "/api/jobs", params=query)

    async def get(self, job_id: str) -> View:
        """One job."""
        return await self.call("GET", _job(job_id))

    async def cancel(self, job_id: str) -> View:
        """Ask for its end."""
        return await self.call("POST", f"{_job(job_id)}/cancel")

    async def retry(self, job_id: str) -> View:
        """Run again what failed."""
        return await self.call("POST", f"{_job(job_id)}/retry")

    async def file(self, image_id: str) -> View:
        """Whether the server can send the picture."""
        path = f"/api/images/{image_id}"
        async with self._client.stream("GET", path) as response:
            return {"there": response.status_code == 200, "where": self.url + path}

    async def log(self, job_id: str) -> list[Told]:
        """The durable events so far: what the stream holds before it pauses."""
        told: list[Told] = []
        async with aclosing(self.follow(job_id)) as events:
            while True:
                try:
                    async with asyncio.timeout(LOG_PAUSE_S if told else ANSWER_S):
                        event = await anext(events)
                except (TimeoutError, StopAsyncIteration):
                    return told
                if event.number is None:
                    return told
                told.append(event)

    async def follow(self, job_id: str, after: int = 0) -> AsyncGenerator[Told]:
        """Goes on exactly behind the last event whenever the connection is lost."""
        patience = Patience(self._patience_s, self._say, self.url)
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        done = False
        while not done:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
            try:
                async with self._client.stream(
                    "GET", f"{_job(job_id)}/events", headers=headers, timeout=timeout
                ) as got:
                    if got.status_code == 200:
                        patience.over()
                        async for told in _events(got.aiter_bytes()):
                            if told.number is not None:
                                after, done = told.number, told.type == "done"
                            yield told
                        # It ends with the job, or because the server is stopping.
                        failure: LimnerError = self._unreachable(None)
                    else:
                        await got.aread()
                        failure = self._error(got)
                        if got.status_code not in BUSY:
                            raise failure
            except httpx.TransportError as error:
                failure = self._unreachable(error)
            if not done:
                await patience.wait(failure)

    async def advice(self) -> str:
        """What `/ready` objects."""
        response = await self._client.get("/ready")
        return "" if response.status_code == 200 else str(_object(response).get("detail", ""))

    # --- requests ----------------------------------------------------------------------------------------------------

    async def call(self, method: str, path: str, **more: Any) -> View:
        """The answer's JSON object. Raises what the server objects, as one of our errors."""
        return _object(await self._answered(method, path, **more))

    async def content(self, path: str) -> bytes:
        """The answer's bytes."""
        return (await self._answered("GET", path)).content

    async def _answered(self, method: str, path: str, **more: Any) -> httpx.Response:
        patience = Patience(self._patience_s, self._say, self.url)
        while True:
            try:
                response = await self._client.request(method, path, **more)
            except httpx.TransportError as error:
                await patience.wait(self._unreachable(error))
                continue
            if response.is_success:
                patience.over()
                return response
            if response.status_code not in BUSY:
                raise self._error(response)
            await patience.wait(self._error(response))

    def _error(self, response: httpx.Response) -> LimnerError:
        body = _object(response)
        if "code" in body and "detail" in body:
            retryable = bool(body.get("retryable"))
            return raised(Failed(message=str(body["detail"]), code=str(body["code"]), retryable=retryable))
        if response.status_code == 404:
            return NotFound(f"{self.url} knows no {response.request.url.path}. Check the address, and its version.")
        return Unreachable(f"{self.url} answered with status {response.status_code}. Look into its log.")

    def _unreachable(self, error: Exception | None) -> Unreachable:
        told = f" ({str(error) or type(error).__name__})" if error else ""
        return Unreachable(f"No server answers at {self.url}{told}. Check the address, or start `limner serve` there.")


def _checked(url: str) -> str:
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise InvalidRequest(f"The server's address {url!r} is not valid. Give one such as http://127.0.0.1:9000.")
    return url


def _job(job_id: str) -> str:
    if not job_id.replace("_", "").replace("-", "").isalnum():
        raise NotFound(f"There is no job `{job_id}`. Check the id; `limner jobs list` shows them.")
    return f"/api/jobs/{job_id}"


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        body: Any = response.json()
    except ValueError:
        return {}
    return cast(dict[str, Any], body) if isinstance(body, dict) else {}


async def _events(pieces: AsyncIterable[bytes]) -> AsyncIterator[Told]:
    fields: dict[str, str] = {}
    async for line in _lines(pieces):
        if not line:
            if "data" in fields:
                number = int(fields["id"]) if fields.get("id", "").isdigit() else None
                yield Told(fields.get("event", "message"), json.loads(fields["data"]), number)
            fields = {}
        else:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


async def _lines(pieces: AsyncIterable[bytes]) -> AsyncIterator[str]:
    # Texts may hold what Python also takes for the end of a line: only \n ends one here.
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r").decode()
