"""The studio: the built page and its files, at every address that is not a route of the API.

The page is built from `web/` into `static/`, which a wheel brings along. Its own addresses, such as `/gallery`, are all
answered with the same document, and the page finds out what to show. A checkout in which it has not been built answers
with a page that says so.
"""

from __future__ import annotations

import stat
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATIC = Path(__file__).parent / "static"
FOLDERS = ("assets", "presets")
"""Folders of files; what is not there is missing, and not an address of the page."""

FOREVER, FOR_A_WHILE = "public, max-age=31536000, immutable", "public, max-age=3600"

POLICY = (
    "default-src 'self'; img-src 'self' data: blob: http: https:; style-src 'self' 'unsafe-inline'; font-src 'self' "
    "data:; connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""The page loads code from here only; pictures may lie in a bucket, which a redirect names."""

HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}

NOT_BUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>limner</title>
<style>body { font: 16px/1.6 system-ui; max-width: 38em; margin: 12vh auto; padding: 0 1.5em; color: #221f1b;
background: #faf7f2 } code { background: #efe8dc; padding: 2px 6px; border-radius: 4px } a { color: #b93a20 }</style>
<h1>limner is running</h1>
<p>The studio, its web page, has not been built in this checkout. Building it needs Node 20.19 or newer:
run <code>make web</code>, then load this page again. An installed package brings the studio along.</p>
<p>Everything else works: the API is described at <a href="/docs">/docs</a>, and <code>limner generate --server</code>
paints from the command line.</p>
</html>
"""


class StudioPage:
    """Stands before the API's routes and answers what is not theirs.

    Args:
        app: the routes.
        routes: the first parts of their paths, such as `api`.
        folder: where the built page is.
    """

    def __init__(self, app: ASGIApp, routes: frozenset[str], folder: Path = STATIC) -> None:
        self._app, self._routes, self._folder = app, routes, folder
        files = StaticFiles(directory=folder, check_dir=False)
        self._lookup = files.lookup_path  # keeps to the folder
        self._files = GZipMiddleware(files, minimum_size=1000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a file or the page, or pass on."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        first = path.strip("/").partition("/")[0]
        wants_page = path == "/" or "text/html" in Headers(scope=scope).get("accept", "")
        if first in self._routes:
            await self._app(scope, receive, send)
        elif self._is_file(path):
            # The names of what the build makes hold a hash of it.
            await self._file(scope, receive, send, FOREVER if first == "assets" else FOR_A_WHILE)
        elif wants_page and first not in FOLDERS:
            await self._page()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_file(self, path: str) -> bool:
        found, status = self._lookup(path.lstrip("/"))
        return status is not None and stat.S_ISREG(status.st_mode) and not found.endswith("index.html")

    async def _file(self, scope: Scope, receive: Receive, send: Send, age: str) -> None:
        async def with_age(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Cache-Control"] = age
            await send(message)

        await self._files(scope, receive, with_age)

    def _page(self) -> Response:
        page = self._folder / "index.html"
        if not page.is_file():
            return HTMLResponse(NOT_BUILT, headers=HEADERS)
        return FileResponse(page, headers=HEADERS, media_type="text/html")
