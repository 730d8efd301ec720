"""Webhooks reach a real receiver, are tried again, and go nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from standardwebhooks import Webhook, WebhookVerificationError

from limner.addresses import is_public, resolved
from limner.config import load_settings
from limner.errors import ConfigError, InvalidRequest
from limner.jobs.database import Database
from limner.jobs.store import JobStore
from limner.jobs.tables import NOW, deliveries
from limner.server.app import build
from limner.server.links import Links
from limner.server.webhooks import PAUSES_S, Webhooks, base_url, check_url, webhook_secret
from tests.support.jobs import new_job, until
from tests.support.services import client_of, fake_service, settings_for, worker_of

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Receiver:
    """A server that notes what it is told, and answers what it was told to."""

    answers: list[bytes] = field(default_factory=list[bytes])
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list[tuple[dict[str, str], bytes]])
    url: str = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.got.append((headers, body))
        answer = self.answers.pop(0) if self.answers else b"204 No Content"
        writer.write(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(*answers: bytes) -> AsyncGenerator[Receiver]:
    receiver = Receiver(list(answers))
    server = await asyncio.start_server(receiver.take, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield receiver


@asynccontextmanager
async def sending(database: Database, **options: Any) -> AsyncGenerator[Webhooks]:
    """A server's loop that delivers."""
    webhooks = Webhooks(database, Links(b"k" * 32, 60), SECRET, base="https://limner.example", **options)
    stop = asyncio.Event()
    task = asyncio.create_task(webhooks.run(stop))
    try:
        yield webhooks
    finally:
        stop.set()
        await task


async def message_about_a_job(database: Database, url: str) -> str:
    """A job that ended and wants to tell `url`."""
    store = JobStore(database)
    job, _ = await store.create(new_job(webhook=url))
    await store.cancel(job.id)
    return job.id


async def state(webhooks: Webhooks, job_id: str) -> dict[str, Any]:
    (row,) = await webhooks.of_job(job_id)
    return row


async def settled(webhooks: Webhooks, job_id: str, tries: int = 1) -> dict[str, Any]:
    async def look() -> dict[str, Any]:
        row = await state(webhooks, job_id)
        return row if row["tries"] >= tries and (row["delivered_at"] or row["last_error"]) else {}

    return await until(look)


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    database = Database(database_url)
    await database.upgrade()
    yield database
    await database.aclose()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncGenerator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'limner.db'}")
    await database.upgrade()
    yield database
    await database.aclose()


async def test_a_job_tells_of_its_end_with_links(tmp_path: Path) -> None:
    settings = settings_for(
        tmp_path,
        webhooks={"secret": SECRET, "allow_private": True},
        server={"workers": 0, "url": "https://limner.example/"},
    )
    service = fake_service(settings)
    async with receiving() as receiver, client_of(build(service)) as client, worker_of(service):
        body = {"prompt": "a cat", "width": 64, "height": 64, "webhook": receiver.url, "count": 2}
        job = (await client.post("/api/jobs?wait=30", json=body)).json()

        async def delivered() -> bool:
            found = (await client.get(f"/api/jobs/{job['id']}")).json()["deliveries"]
            return bool(found[0]["delivered_at"])

        await until(delivered)
        ((headers, content),) = receiver.got
        message = Webhook(SECRET).verify(content, headers)
        assert message["type"] == "job.completed" and message["timestamp"].endswith("Z")
        data = message["data"]
        assert (data["id"], data["status"], len(data["pictures"])) == (job["id"], "completed", 2)
        assert data["links"]["self"] == f"https://limner.example/api/jobs/{job['id']}"
        url = data["pictures"][0]["url"]
        assert url.startswith("https://limner.example/api/images/")
        assert (await client.get(url.removeprefix("https://limner.example"))).status_code == 200
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_" + "A" * 32).verify(content, headers)


async def test_what_fails_is_tried_again_with_the_same_id(database: Database) -> None:
    async with receiving(b"500 Oops", b"302 Found\r\nLocation: /elsewhere") as receiver:
        job_id = await message_about_a_job(database, receiver.url)
        for tries, told in ((1, "the receiver answered 500"), (2, "the receiver answered 302")):
            async with sending(database, allow_private=True) as webhooks:
                row = await settled(webhooks, job_id, tries)
                assert (row["tries"], row["last_error"]) == (tries, told)
                await hurry(database, PAUSES_S[tries - 1])
        async with sending(database, allow_private=True) as webhooks:
            row = await settled(webhooks, job_id, 3)
            assert (row["due_at"], row["last_error"]) == (None, None)
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1 and len(receiver.got) == 3


async def hurry(database: Database, pause_s: float) -> None:
    """Let so much time pass."""
    async with database.begin() as connection:
        waiting = deliveries.c.due_at > NOW
        done = await connection.execute(update(deliveries).where(waiting).values(due_at=deliveries.c.due_at - pause_s))
        assert done.rowcount == 1


async def test_several_servers_deliver_a_message_once(database: Database) -> None:
    async with receiving() as receiver:
        ids = [await message_about_a_job(database, receiver.url) for _ in range(5)]
        async with (
            sending(database, allow_private=True) as first,
            sending(database, allow_private=True),
            sending(database, allow_private=True),
        ):
            for job_id in ids:
                await settled(first, job_id)
        assert len(receiver.got) == 5


async def test_a_receiver_that_is_gone_is_not_asked_again(sqlite: Database) -> None:
    async with receiving(b"410 Gone") as receiver, sending(sqlite, allow_private=True) as webhooks:
        row = await settled(webhooks, await message_about_a_job(sqlite, receiver.url))
        assert (row["due_at"], row["last_error"]) == (None, "the receiver answered 410")


async def test_it_gives_up_after_about_a_day(sqlite: Database) -> None:
    assert 24 * 3600 < sum(PAUSES_S) < 36 * 3600
    async with receiving(b"500 Oops") as receiver:
        job_id = await message_about_a_job(sqlite, receiver.url)
        async with sqlite.begin() as connection:
            await connection.execute(update(deliveries).values(tries=len(PAUSES_S)))
        async with sending(sqlite, allow_private=True) as webhooks:
            row = await settled(webhooks, job_id, len(PAUSES_S) + 1)
            assert row["due_at"] is None


async def test_a_private_address_behind_a_name_is_not_told(sqlite: Database) -> None:
    async with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", "receiver.example")

        async def inwards(name: str, port: int) -> list[str]:
            assert name == "receiver.example"
            return ["127.0.0.1"]

        async with sending(sqlite, resolve=inwards) as webhooks:
            row = await settled(webhooks, await message_about_a_job(sqlite, url))
            assert (row["due_at"], row["tries"]) == (None, 1)
            assert row["last_error"] == "receiver.example leads to 127.0.0.1, which is not public"
        assert receiver.got == []


async def test_the_connection_goes_to_the_address_that_was_checked(sqlite: Database) -> None:
    asked: list[str] = []

    async def once(name: str, port: int) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"]

    async with receiving() as receiver, sending(sqlite, resolve=once, allow_private=True) as webhooks:
        url = receiver.url.replace("127.0.0.1", "receiver.invalid")
        assert (await settled(webhooks, await message_about_a_job(sqlite, url)))["delivered_at"]
        assert asked == ["receiver.invalid"]
        assert receiver.got[0][0]["host"] == url.split("/")[2]


async def test_a_silent_receiver_is_not_waited_for(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.server.webhooks.TIMEOUT_S", 0.2)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other side hangs up
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, sending(sqlite, allow_private=True) as webhooks:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        row = await settled(webhooks, await message_about_a_job(sqlite, url))
        assert row["last_error"] == "the receiver did not answer within 0.2 s"
        assert row["due_at"] is not None


def test_private_addresses_have_many_spellings() -> None:
    private = ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1")
    tricky = (
        "::ffff:127.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "fe80::1",
        "fd00::1",
        "fec0::1",
        "::",
        "224.0.0.1",
        "ff02::1",
    )
    assert not any(map(is_public, (*private, *tricky)))
    assert all(map(is_public, ("8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808")))


@pytest.mark.parametrize(
    "url",
    [
        *("http://localhost/", "http://x.localhost:80/", "http://[::1]/"),
        *("http://[bad/", "http:///x", "http://a b/", "http://a.example/\x1b[2J"),
    ],
)
def test_what_can_never_be_delivered_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidRequest):
        check_url(url, allow_private=False)


async def test_names_are_resolved() -> None:
    assert "127.0.0.1" in await resolved("localhost", 80) or "::1" in await resolved("localhost", 80)


def test_the_secret_is_kept_or_comes_from_the_environment(tmp_path: Path) -> None:
    made = webhook_secret(tmp_path, None)
    assert made.startswith("whsec_") and webhook_secret(tmp_path, None) == made
    environ = {"LIMNER_WEBHOOKS__SECRET": SECRET}
    settings = load_settings({"home": str(tmp_path)}, environ=environ, folder=tmp_path)
    assert settings.webhooks.secret is not None and SECRET not in repr(settings)
    with pytest.raises(ConfigError, match="whsec_"):
        load_settings(environ={"LIMNER_WEBHOOKS__SECRET": "whsec_short"}, folder=tmp_path)


def test_links_begin_with_the_address_that_others_know() -> None:
    assert base_url("https://limner.example/", "0.0.0.0", 9000) == "https://limner.example"
    assert base_url(None, "::1", 9000) == "http://[::1]:9000"
