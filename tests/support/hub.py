"""A small hub over HTTP: repositories as dictionaries, with what `huggingface_hub` asks of the real one.

Knows `/api/models/NAME[/revision/REV]`, `/api/models?search=`, `/api/models/NAME/refs`, and `/NAME/resolve/REV/FILE`
with HEAD, GET and ranges. It can break off in the middle, serve damaged bytes, and ask for a licence.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the hub serves, how it misbehaves, and what it was asked."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    url: str = ""
    gated: set[str] = field(default_factory=set[str])
    token: str = ""
    """Who asks with it may read gated repositories."""
    break_after: int | None = None
    """How many bytes of a file are sent before the connection breaks."""
    damaged: set[str] = field(default_factory=set[str])
    """Files of which other bytes are sent than promised."""
    asked: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """Method, path, and the range that was asked for."""

    def ranges(self) -> list[str]:
        """The ranges of all files that were fetched, empty for whole ones."""
        return [ranged for method, path, ranged in self.asked if method == "GET" and "/resolve/" in path]


def is_large(name: str) -> bool:
    """Whether the hub keeps such a file in LFS."""
    return name.endswith((".safetensors", ".gguf", ".bin"))


def blob_id(content: bytes) -> str:
    """Git's name of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def serving(hub: Hub) -> Generator[Hub]:
    """Serve the hub on a free port of this machine, at `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

        def do_HEAD(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            hub.asked.append((self.command, path, self.headers.get("Range", "")))
            if path == "/api/models":
                words = parse_qs(parts.query).get("search", [""])[0].lower()
                self._json([{"id": name} for name in hub.repositories if words[:5] in name.lower()])
            elif path.startswith("/api/models/"):
                self._model(path.removeprefix("/api/models/"))
            else:
                self._file(path.lstrip("/"))

        def _model(self, rest: str) -> None:
            name, _, revision = rest.partition("/revision/")
            name, refs, _ = name.partition("/refs")
            if name not in hub.repositories:
                self._refuse(401 if not self.headers.get("Authorization") else 404, "RepoNotFound")
            elif refs:
                main = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
                self._json({"branches": [main], "tags": [], "converts": []})
            elif revision not in ("", "main", COMMIT):
                self._refuse(404, "RevisionNotFound")
            else:
                siblings = [self._sibling(file, content) for file, content in hub.repositories[name].items()]
                self._json({"id": name, "sha": COMMIT, "siblings": siblings})

        @staticmethod
        def _sibling(name: str, content: bytes) -> dict[str, Any]:
            facts: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob_id(content)}
            if is_large(name):
                sha256 = hashlib.sha256(content).hexdigest()
                facts["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
            return facts

        def _file(self, rest: str) -> None:
            name, _, place = rest.partition("/resolve/")
            _, _, file = place.partition("/")
            if name in hub.gated and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._refuse(401 if not self.headers.get("Authorization") else 403, "GatedRepo")
                return
            if file not in hub.repositories.get(name, {}):
                self._refuse(404, "EntryNotFound")
                return
            content = hub.repositories[name][file]
            etag = hashlib.sha256(content).hexdigest() if is_large(file) else blob_id(content)
            start, status = 0, 200
            if ranged := self.headers.get("Range", ""):
                start, status = int(ranged.removeprefix("bytes=").rstrip("-")), 206
            sent = bytes(byte ^ 1 for byte in content) if file in hub.damaged else content
            sent = sent[start:]
            self.send_response(status)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("Content-Length", str(len(sent)))
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "GET":
                limit = hub.break_after
                self.wfile.write(sent if limit is None else sent[:limit])
                self.close_connection = self.close_connection or (limit is not None and limit < len(sent))

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", "refused")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _json(self, content: object) -> None:
            raw = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(raw)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
