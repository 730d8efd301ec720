"""Who is let in, and how long links work."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from limner.errors import Refused, StorageError
from limner.server.access import Gate, is_loopback
from limner.server.app import build
from limner.server.links import Links, kept_secret, link_key
from tests.support.services import client_of, fake_service, settings_for


async def _everybody(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


async def asked(peer: str = "127.0.0.1", open_to_all: bool = False, **headers: str) -> httpx.Response:
    gate = Gate(_everybody, open_to_all, ["https://studio.example"])
    transport = httpx.ASGITransport(gate, client=(peer, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:9000") as client:
        return await client.get("/health", headers=headers)


@pytest.mark.parametrize(
    ("request_", "allowed"),
    [
        ({}, True),
        ({"peer": "::1", "host": "[::1]:9000"}, True),
        ({"peer": "::ffff:127.0.0.1", "host": "127.0.0.1:9000"}, True),
        ({"peer": "192.168.1.7"}, False),
        ({"peer": "not an address"}, False),
        ({"host": "evil.example"}, False),  # a name that was bound to 127.0.0.1 afterwards
        ({"host": "localhost.evil.example"}, False),
        ({"host": "[broken"}, False),
        ({"origin": "http://localhost:5173"}, True),
        ({"origin": "https://studio.example"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "http://[broken"}, False),
        ({"origin": "null"}, False),
        ({"peer": "192.168.1.7", "host": "192.168.1.2:9000", "open_to_all": True}, True),
        ({"peer": "192.168.1.7", "origin": "https://evil.example", "open_to_all": True}, False),
    ],
)
async def test_only_this_machine_and_welcome_pages_come_in(request_: dict[str, object], allowed: bool) -> None:
    answer = await asked(**request_)  # pyright: ignore[reportArgumentType]
    assert answer.status_code == (200 if allowed else 403)
    if not allowed:
        assert answer.json()["code"] == "refused"


def test_loopback_has_many_spellings() -> None:
    assert all(map(is_loopback, ("localhost", "LOCALHOST.", "127.0.0.1", "127.8.8.8", "::1", "[::1]")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "localhost.evil.example", "10.0.0.1")))


async def test_a_welcome_page_may_read_and_others_get_no_permission(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, server={"workers": 0, "cors_origins": ["https://studio.example"]})
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}
    async with client_of(build(fake_service(settings))) as client:
        welcome = await client.options("/api/jobs", headers=ask | {"Origin": "https://studio.example"})
        assert welcome.headers["access-control-allow-origin"] == "https://studio.example"
        read = await client.get("/health", headers={"Origin": "https://studio.example"})
        assert "Location" in read.headers["access-control-expose-headers"]
        foreign = await client.options("/api/jobs", headers=ask | {"Origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert "access-control-allow-origin" not in foreign.headers


@pytest.fixture
def link() -> tuple[Links, str, int, str]:
    links = Links(b"k" * 32, 60)
    query = parse_qs(links.query("/api/images/img_1"))
    return links, "/api/images/img_1", int(query["expires"][0]), query["signature"][0]


def test_a_link_is_good_for_its_own_path_and_time(link: tuple[Links, str, int, str]) -> None:
    links, path, expires, signature = link
    links.check(path, expires, signature)
    for wrong in (
        (path + "x", expires, signature),
        (path, expires + 1, signature),
        (path, expires, "é"),
        (path, expires, ""),
    ):
        with pytest.raises(Refused):
            links.check(*wrong)
    with pytest.raises(Refused):
        Links(b"x" * 32, 60).check(path, expires, signature)


def test_a_link_expires() -> None:
    links = Links(b"k" * 32, -1)
    query = parse_qs(links.query("/p"))
    with pytest.raises(Refused, match="has expired"):
        links.check("/p", int(query["expires"][0]), query["signature"][0])


@pytest.mark.usefixtures("worker")
async def test_a_changed_link_is_refused_by_the_server(client: httpx.AsyncClient) -> None:
    body = {"prompt": "a cat", "width": 64, "height": 64, "preset": "single", "steps": 1}
    job = (await client.post("/api/jobs?wait=30", json=body)).json()
    url = job["pictures"][0]["url"]
    assert (await client.get(url)).status_code == 200
    assert (await client.get(url.replace("signature=", "signature=0"))).status_code == 403
    path, _, query = url.partition("?")
    given = parse_qs(query)
    late = {"expires": int(given["expires"][0]) - 7200, "signature": given["signature"][0]}
    assert (await client.get(path, params=late)).status_code == 403


def test_the_secret_is_made_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    path = tmp_path / "home" / "link.key"
    made = kept_secret(path, lambda: b"first")
    assert kept_secret(path, lambda: b"second") == made == b"first"
    assert path.stat().st_mode & 0o077 == 0
    assert [file.name for file in path.parent.iterdir()] == ["link.key"]


def test_an_empty_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.key").touch()
    with pytest.raises(StorageError, match=r"link\.key is empty.*Remove it"):
        link_key(tmp_path)


def test_servers_with_the_same_setting_have_the_same_links(tmp_path: Path) -> None:
    assert link_key(tmp_path / "a", "s" * 32) == link_key(tmp_path / "b", "s" * 32)
    assert link_key(tmp_path / "a") != link_key(tmp_path / "b")
