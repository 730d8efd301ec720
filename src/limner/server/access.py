"""Who may use the server while there are no accounts: this machine, or everybody when the operator says so.

A web page from elsewhere can make a browser on this machine send requests here. Browsers say where a request comes
from (`Origin`), and by which name they found us (`Host`): both must be ours or allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from limner.addresses import is_loopback
from limner.errors import Refused
from limner.server.problems import of_error


class Gate:
    """Refuses what does not come from this machine, or from a foreign web page.

    Args:
        app: what is behind the gate.
        open_to_all: whether other machines may come in.
        origins: foreign origins that are welcome.
    """

    def __init__(self, app: ASGIApp, open_to_all: bool, origins: Sequence[str]) -> None:
        self._app, self._open, self._origins = app, open_to_all, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer 403."""
        if scope["type"] in ("http", "websocket") and (reason := self._objection(scope)):
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})
            else:
                await of_error(Refused(reason), scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _objection(self, scope: Scope) -> str:
        headers = Headers(scope=scope)
        client = scope.get("client")
        host = _name(f"//{headers.get('host', '')}")
        if not self._open:
            if client is not None and not is_loopback(client[0]):
                return (
                    "This server answers its own machine only. Start it with --open (`server.open`) to let others in."
                )
            if host and not is_loopback(host):
                return f"This server is not known as {host!r}. Use localhost, or start it with --open (`server.open`)."
        origin = headers.get("origin")
        if origin and origin not in self._origins and "*" not in self._origins:
            # Sandboxed frames and files have the origin "null": anybody can make one, so it is foreign as well.
            own = _name(origin)
            if own != host and not (is_loopback(own) and is_loopback(host)):
                return f"Web pages of {origin} may not use this server. Add it to `server.cors_origins`."
        return ""


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return "?"
