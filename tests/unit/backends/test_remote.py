"""Talking to servers that are slow, busy or gone, and fetching pictures from addresses that others name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from email.utils import formatdate

import pytest
from PIL import Image

from limner.backends.remote import Again, Breaker, Connection, Patience, retry_after_s
from limner.backends.remote_pictures import Downloads, Errand, Tell, picture, png, together
from limner.errors import CapacityError, Garbled, LimnerError, NotFound, Rejected, Timeout, Unreachable
from limner.events import Event, Failed, Info
from tests.support.scripted_server import Reply, ScriptedServer

PNG = png(Image.linear_gradient("L").resize((16, 16)).convert("RGB"))
AS_PNG = {"Content-Type": "image/png"}


class Waiting:
    """Notes how long somebody wanted to sleep, and does not."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def __call__(self, pause_s: float) -> None:
        self.pauses.append(pause_s)


def connection(server: ScriptedServer, sleep: Waiting | None = None, timeout_s: float = 5.0) -> Connection:
    return Connection(
        server.url, "It", timeout_s=timeout_s, patience=Patience(tries=3, first_pause_s=1), sleep=sleep or Waiting()
    )


async def asked(server: ScriptedServer, again: Again = "always", sleep: Waiting | None = None) -> int:
    """The status of an answer to one request."""
    to = connection(server, sleep)
    try:
        return (await to.request("POST", "/x", again=again)).status
    finally:
        await to.aclose()


# --- connections


async def test_a_busy_server_is_asked_again_when_it_says_so() -> None:
    sleep = Waiting()
    async with ScriptedServer([Reply(429, headers={"Retry-After": "7"}), Reply(503), Reply(200)]).listening() as server:
        assert await asked(server, "unless_done", sleep) == 200
    assert sleep.pauses[0] == 7
    assert 1.4 <= sleep.pauses[1] <= 2


async def test_a_server_that_wants_to_be_left_alone_for_long_is() -> None:
    sleep = Waiting()
    async with ScriptedServer([Reply(429, headers={"Retry-After": "3600"})]).listening() as server:
        with pytest.raises(CapacityError, match="Try again in 3600 s"):
            await asked(server, "always", sleep)
    assert (sleep.pauses, len(server.asked)) == ([], 1)


@pytest.mark.parametrize(
    ("status", "again", "times"), [(502, "always", 3), (502, "unless_done", 1), (503, "unless_done", 3)]
)
async def test_what_may_have_been_done_is_not_asked_for_twice(status: int, again: Again, times: int) -> None:
    async with ScriptedServer([Reply(status)]).listening() as server:
        with pytest.raises(Unreachable, match=f"answered {status}"):
            await asked(server, again)
    assert len(server.asked) == times


async def test_a_server_that_says_not_to_try_again_is_believed() -> None:
    async with ScriptedServer([Reply(503, headers={"x-should-retry": "false"})]).listening() as server:
        assert await asked(server) == 503
    assert len(server.asked) == 1


async def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    async with ScriptedServer([Reply(body=b"whole", cut=2), Reply(body=b"whole")]).listening() as server:
        to = connection(server)
        assert (await to.request("GET", "/x")).content == b"whole"
        await to.aclose()


async def test_a_server_that_takes_too_long_is_given_up_and_not_asked_twice() -> None:
    async with ScriptedServer([Reply(stalls_s=1)]).listening() as server:
        to = connection(server, timeout_s=0.2)
        with pytest.raises(Timeout, match="did not answer in time"):
            await to.request("POST", "/x", again="unless_done")
        await to.aclose()
    assert len(server.asked) == 1


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    async with ScriptedServer([Reply(body=b"x" * 2000)]).listening() as server:
        to = connection(server)
        with pytest.raises(Garbled, match="more than 1,000 bytes"):
            await to.request("GET", "/x", max_bytes=1000)
        await to.aclose()


async def test_what_is_no_json_is_quoted() -> None:
    async with ScriptedServer([Reply(body=b"<html>hello")]).listening() as server:
        to = connection(server)
        with pytest.raises(Garbled, match="'<html>hello', which is no JSON object"):
            (await to.request("GET", "/x")).json()
        await to.aclose()


async def test_a_server_that_keeps_failing_is_rested() -> None:
    now = [0.0]
    breaker = Breaker(2, rest_s=10, clock=lambda: now[0])
    async with ScriptedServer([Reply(502)]).listening() as server:
        to = Connection(server.url, "It", patience=Patience(tries=1), breaker=breaker)
        for _ in range(2):
            with pytest.raises(Unreachable, match="answered 502"):
                await to.request("GET", "/x")
        with pytest.raises(Unreachable, match=r"failed several times\. It is asked again in 10 s"):
            await to.request("GET", "/x")
        now[0] = 10.5
        server.replies = [Reply(200)]
        assert [(await to.request("GET", "/x")).status for _ in range(2)] == [200, 200]
        await to.aclose()
    assert len(server.asked) == 4


def test_one_request_finds_out_whether_a_rested_server_is_well() -> None:
    now = [0.0]
    breaker = Breaker(1, rest_s=10, clock=lambda: now[0])
    breaker.failed()
    now[0] = 11.0
    assert [breaker.resting_s(), breaker.resting_s()] == [0.0, 10.0]
    breaker.succeeded()
    assert breaker.resting_s() == 0.0


def test_a_wish_to_wait_may_be_a_number_or_a_date() -> None:
    assert retry_after_s({}) is None
    assert retry_after_s({"retry-after": "2.5"}) == 2.5
    assert 25 < (retry_after_s({"retry-after": formatdate(time.time() + 30, usegmt=True)}) or 0) <= 30
    assert retry_after_s({"retry-after": formatdate(time.time() - 30, usegmt=True)}) == 0
    assert retry_after_s({"retry-after": "soon"}) is None


# --- pictures


async def elsewhere(name: str, port: int) -> list[str]:
    """Every name leads to this machine, which no foreign answer may name."""
    return ["127.0.0.1"]


async def fetched(url: str, *, trusted: str = "", allow_private: bool = False, timeout_s: float = 5.0) -> bytes:
    downloads = Downloads(
        trusted,
        allow_private=allow_private,
        setting="mine.allow_private",
        timeout_s=timeout_s,
        max_bytes=10_000,
        resolve=elsewhere,
    )
    return await downloads.fetch(url)


async def test_a_picture_is_fetched_from_the_providers_own_host_and_from_where_it_is_allowed() -> None:
    async with ScriptedServer([Reply(body=PNG, headers=AS_PNG)]).listening() as server:
        assert await fetched(f"{server.url}/a.png?sig=1", trusted=f"{server.url}/v1") == PNG
        named = server.url.replace("127.0.0.1", "pictures.example")
        assert await fetched(f"{named}/a.png", allow_private=True) == PNG
        assert server.asked[1].headers["host"] == named.removeprefix("http://")


async def test_nothing_is_fetched_from_private_networks_by_name_or_by_redirect() -> None:
    async with ScriptedServer([Reply(302, headers={"Location": "http://inner.example/a.png"})]).listening() as server:
        for url, trusted in ((f"{server.url}/a", ""), ("http://inner.example/a", ""), (f"{server.url}/a", server.url)):
            with pytest.raises(Rejected, match=r"which is not public\. Nothing was fetched.*`mine\.allow_private`"):
                await fetched(url, trusted=trusted)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (Reply(404, headers=AS_PNG), Garbled, "answered 404 in place of a picture"),
        (Reply(500, headers=AS_PNG), Unreachable, "answered 500"),
        (Reply(body=b"x", headers={"Content-Type": "text/html"}), Garbled, "is text/html, not a PNG"),
        (Reply(body=b"x" * 20_000, headers=AS_PNG), Garbled, "more than 10,000 bytes"),
        (Reply(302, headers={"Location": "/again"}), Garbled, "more than 3 redirects"),
        (Reply(302, headers={"Location": "file:///etc/passwd"}), Garbled, "is none of HTTP"),
        (Reply(body=PNG, headers=AS_PNG, cut=4), Unreachable, "cannot be fetched"),
        (Reply(body=PNG, headers=AS_PNG, stalls_s=0.5), Timeout, "did not come within 0.1 s"),
    ],
)
async def test_what_is_no_picture_is_refused(reply: Reply, kind: type[LimnerError], told: str) -> None:
    async with ScriptedServer([reply]).listening() as server:
        with pytest.raises(kind, match=told):
            await fetched(f"{server.url}/a.png", trusted=server.url, timeout_s=0.1 if reply.stalls_s else 5.0)


def test_pictures_become_rgb_and_what_is_transparent_white() -> None:
    assert picture(png(Image.new("RGBA", (4, 4))), "It").getpixel((0, 0)) == (255, 255, 255)
    for content in (b"", PNG[:60], b"GIF89a" + bytes(40)):
        with pytest.raises(Garbled, match="It sent"):
            picture(content, "It")


# --- several at a time


async def test_failures_are_told_for_every_picture_of_their_errand() -> None:
    async def fine(tell: Tell) -> None:
        tell(Info(message="fine"))

    async def broken(tell: Tell) -> None:
        raise Unreachable("It is gone. Wait.")

    events = [event async for event in together([Errand((0,), fine), Errand((1, 2), broken)], 1)]
    assert [event.type for event in events] == ["info", "error", "error"]
    assert [(e.index, e.code, e.retryable) for e in events if isinstance(e, Failed)] == [
        (1, "unreachable", True),
        (2, "unreachable", True),
    ]


async def test_what_would_meet_all_pictures_is_raised_and_ends_the_others() -> None:
    ended: list[bool] = []

    async def waits(tell: Tell) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def refused(tell: Tell) -> None:
        raise NotFound("There is none. Look.")

    with pytest.raises(NotFound):
        [event async for event in together([Errand((0,), waits), Errand((1,), refused)], 2)]
    assert ended == [True]


async def test_closing_waits_until_errands_have_cleaned_up() -> None:
    """Whoever is done first must not cut short what the others do."""
    cleaned: list[float] = []

    def slow(needed_s: float) -> Callable[[Tell], Awaitable[None]]:
        async def paint(tell: Tell) -> None:
            tell(Info(message="begun"))
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(needed_s)
                cleaned.append(needed_s)

        return paint

    told: list[Event] = []
    errands = [Errand((number,), slow(needed_s)) for number, needed_s in enumerate((0.01, 0.1, 0.05))]
    async with aclosing(together(errands, 3)) as events:
        async for event in events:
            told.append(event)
            if len(told) == 3:
                break
    assert cleaned == [0.01, 0.05, 0.1]
