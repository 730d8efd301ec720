"""The page is at every address of its own, its files are kept by browsers, and the API's answers stay the API's."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from limner.server.app import build
from limner.server.studio import StudioPage
from limner.service import Service
from tests.support.services import client_of

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tmp_path / "static"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text("<title>the studio</title>", "utf-8")
    (built / "assets" / "index-abc.js").write_text("let x = 1;\n" * 400, "utf-8")
    (built / "favicon.svg").write_text("<svg/>", "utf-8")
    (tmp_path / "secret.txt").write_text("secret", "utf-8")
    return built


@pytest.fixture
async def client(folder: Path) -> AsyncGenerator[httpx.AsyncClient]:
    app = StudioPage(PlainTextResponse("the API"), frozenset({"api", "docs"}), folder)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/gallery", "/library/models", "/gallery?image=img_1", "/nonsense"])
async def test_browsers_get_the_page_at_every_address_of_its_own(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.text) == (200, "<title>the studio</title>")
    assert answer.headers["cache-control"] == "no-cache"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/jobs"), ("GET", "/docs"), ("POST", "/"), ("GET", "/assets/gone.js")]
)
async def test_what_is_the_apis_is_answered_by_the_api(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await client.request(method, path, headers=BROWSER)).text == "the API"


async def test_programs_are_not_given_a_page_where_nothing_is(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nonsense")).text == "the API"


async def test_built_files_are_compressed_and_kept_for_ever(client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/index-abc.js")
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert "immutable" not in (await client.get("/favicon.svg")).headers["cache-control"]


@pytest.mark.parametrize("path", ["/../secret.txt", "/assets/../../secret.txt", "/%2e%2e/secret.txt"])
async def test_nothing_outside_the_folder_is_given_away(client: httpx.AsyncClient, path: str) -> None:
    assert "secret" not in (await client.get(path)).text


async def test_a_checkout_without_the_page_says_how_to_build_it(tmp_path: Path) -> None:
    app = StudioPage(PlainTextResponse("the API"), frozenset({"api"}), tmp_path / "nothing")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.get("/", headers=BROWSER)
    assert answer.status_code == 200
    assert "make web" in answer.text


async def test_every_route_of_the_api_is_known_to_the_page(service: Service) -> None:
    app = build(service)
    async with client_of(app) as client:
        for path in {f"/{path.split('/')[1]}/nothing" for path in app.openapi()["paths"]}:
            assert "<title>" not in (await client.get(path, headers=BROWSER)).text, path
        assert (await client.get("/nothing")).json()["code"] == "not_found"
