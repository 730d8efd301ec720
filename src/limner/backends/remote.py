"""How to talk to a server over HTTP that may be slow, busy, half dead or behind something that answers in its place.

A connection tries again where that is safe, waits as long as the server asks for, rests a server that keeps failing,
and reads no more than it was told to. It knows no protocol: what an answer means is its caller's to say. Invariant:
whatever httpx or a socket raises leaves here as one of limner's errors.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import httpx

from limner.errors import CapacityError, Garbled, LimnerError, Timeout, Unreachable

MAX_ANSWER_BYTES = 64 * 2**20
BUSY = (429, 502, 503, 504)
UNDONE = (429, 503)
"""Statuses that say that nothing was done."""

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

Again = Literal["always", "unless_done"]
"""When a request may be sent again: whenever that may help, or only where the server surely did nothing with it."""

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    """What a server answered, read to its end."""

    url: str
    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> dict[str, Any]:
        """The JSON object in it. Raises `Garbled`."""
        try:
            found: object = json.loads(self.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Garbled(f"{self.url} answered {self.status} with {self.shown()!r}, which is no JSON object.{_REMEDY}")
        return cast(dict[str, Any], found)

    def shown(self) -> str:
        """The beginning of it, for people."""
        return self.content[:120].decode("utf-8", "replace")


_REMEDY = " Check the address, and what stands in front of the server."


@dataclass(frozen=True)
class Patience:
    """How often a request is sent, and how long is waited in between.

    Args:
        tries: times that a request is sent at most.
        first_pause_s: before the second time; it doubles with every further one.
        longest_pause_s: the pauses grow no longer than this.
        longest_wait_s: a server that asks for more than this is not waited for.
    """

    tries: int = 4
    first_pause_s: float = 0.25
    longest_pause_s: float = 8.0
    longest_wait_s: float = 60.0

    def pause_s(self, tried: int) -> float:
        """Before the next time, after so many; some are shorter, so that many callers do not come at once."""
        pause_s = min(self.longest_pause_s, self.first_pause_s * 2 ** (tried - 1))
        return pause_s * random.uniform(0.7, 1.0)


class Breaker:
    """Rests a server that failed several times in a row; then one request finds out whether it is well again.

    Args:
        failures: in a row, after which it rests.
        rest_s: how long.
    """

    def __init__(self, failures: int = 8, rest_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._rest_s, self._clock = failures, rest_s, clock
        self._failures = 0
        self._until = 0.0

    def resting_s(self) -> float:
        """Seconds for which nothing shall be sent; 0 lets one request through, and rests again until it is over."""
        if self._failures < self._limit:
            return 0.0
        left_s = self._until - self._clock()
        if left_s > 0:
            return left_s
        self._until = self._clock() + self._rest_s
        return 0.0

    def failed(self) -> None:
        """The server did not answer, or only with an apology."""
        self._failures += 1
        if self._failures >= self._limit:
            self._until = self._clock() + self._rest_s

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0


class Connection:
    """The way to one server.

    Args:
        url: in front of every path.
        title: what the server is called in messages.
        headers: sent with every request.
        timeout_s: seconds after which a request that was sent once is given up.
        proxied: whether the environment's proxy is asked for the way there.
    """

    def __init__(
        self,
        url: str,
        title: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        proxied: bool = False,
        patience: Patience | None = None,
        breaker: Breaker | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.url, self.title = url.rstrip("/"), title
        self._headers = {"User-Agent": "limner"} | dict(headers or {})
        self._timeout_s, self._proxied = timeout_s, proxied
        self._timeout = httpx.Timeout(timeout_s, connect=min(10.0, timeout_s), pool=None)
        self._patience, self._breaker, self._sleep = patience or Patience(), breaker or Breaker(), sleep
        self._client: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        """Close what is open. May be called twice; a later request opens it again."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        again: Again = "always",
        settled: Callable[[Answer], bool] = lambda answer: False,
        max_bytes: int = MAX_ANSWER_BYTES,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Answer:
        """Ask, more than once where that may help; the answer, unless it only says that the server is busy.

        Args:
            again: when the request may be sent a second time.
            settled: whether an answer is final although its status says that the server is busy.
            max_bytes: of the answer.
            more: body and query, as httpx takes them.

        Raises `Unreachable` when the server does not answer or only with an apology, `Timeout` when it took a request
        and did not answer in time, `CapacityError` when it asks for a later time, and `Garbled` for an endless answer.
        """
        if (rest_s := self._breaker.resting_s()) > 0:
            raise Unreachable(f"{self.title} at {self.url} failed several times. It is asked again in {rest_s:.0f} s.")
        tried = 0
        while True:
            tried += 1
            last = tried >= self._patience.tries
            try:
                answer = await self._ask(method, path, max_bytes, {**self._headers, **(headers or {})}, more)
            except httpx.HTTPError as error:
                self._breaker.failed()
                if last or not (again == "always" or isinstance(error, NOT_SENT)):
                    raise self._translated(error) from error
                await self._sleep(self._patience.pause_s(tried))
                continue
            if answer.status < 500 and answer.status != 429:
                self._breaker.succeeded()
                return answer
            if answer.status != 429:  # who asks for patience is well
                self._breaker.failed()
            wait_s = retry_after_s(answer.headers)
            if answer.status not in BUSY or answer.headers.get("x-should-retry") == "false" or settled(answer):
                return answer
            undone = again == "always" or answer.status in UNDONE
            if last or not undone or (wait_s or 0) > self._patience.longest_wait_s:
                raise self._busy(answer, wait_s)
            await self._sleep(self._patience.pause_s(tried) if wait_s is None else wait_s)

    def _busy(self, answer: Answer, wait_s: float | None) -> LimnerError:
        if answer.status == 429:
            when = f"in {wait_s:.0f} s" if wait_s is not None else "later"
            return CapacityError(f"{self.title} at {self.url} has no room for more requests now. Try again {when}.")
        return Unreachable(
            f"{self.title} at {self.url} answered {answer.status}. Look into its log, or try again later."
        )

    async def _ask(
        self, method: str, path: str, max_bytes: int, headers: Mapping[str, str], more: Mapping[str, Any]
    ) -> Answer:
        url = path if "://" in path else self.url + path
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._opened().stream(method, url, headers=headers, **more) as response,
            ):
                content = await read(response, max_bytes, self.title)
                return Answer(url, response.status_code, response.headers, content)
        except TimeoutError as error:  # it sends, but too slowly
            raise httpx.ReadTimeout(f"{self._timeout_s:g} s are over") from error

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=16)
            self._client = httpx.AsyncClient(timeout=self._timeout, limits=limits, trust_env=self._proxied)
        return self._client

    def _translated(self, error: httpx.HTTPError) -> LimnerError:
        told = str(error) or type(error).__name__
        if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
            return Timeout(f"{self.title} at {self.url} did not answer in time. Try again, or give it more time.")
        return Unreachable(
            f"{self.title} at {self.url} cannot be reached ({told}). Check its address and that it runs."
        )


async def read(response: httpx.Response, max_bytes: int, title: str) -> bytes:
    """The bytes of an answer that is still open. Raises `Garbled` when there are more, as soon as that is known."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > max_bytes:
            raise Garbled(f"{title} sends more than {max_bytes:,} bytes. Ask for something smaller.")
        pieces.append(piece)
    return b"".join(pieces)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a server asks to be left alone: `Retry-After` in seconds or as a date; None where it says nothing."""
    said = headers.get("retry-after", "").strip()
    if not said:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None
