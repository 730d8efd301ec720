"""Webhooks: tell the addresses that jobs name how they ended, signed as in Standard Webhooks.

The messages are rows, written with the job's end. A server claims one by raising its number of tries, so that no two
deliver it at a time; what does not arrive is tried again with growing pauses, for a little more than a day. A name is
resolved here and the connection goes to the very address that was checked, so that it cannot lead into a private
network. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqlalchemy import select, update
from standardwebhooks import Webhook

from limner.addresses import Resolve, is_public, resolved
from limner.errors import DatabaseError, InvalidRequest
from limner.jobs.database import Database
from limner.jobs.tables import NOW, deliveries
from limner.server.links import Links, kept_secret
from limner.server.views import linked

if TYPE_CHECKING:
    import httpx

PAUSES_S = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
CLAIM_S = 60.0
TIMEOUT_S = 10.0
LOOK_EVERY_S = 1.0
AT_A_TIME = 16

log = logging.getLogger("limner.server")


class Undeliverable(Exception):
    """Trying again would not help."""


@dataclass(frozen=True)
class Delivery:
    """A message that this server has claimed."""

    id: str
    url: str
    payload: str
    tries: int


def check_url(url: str, allow_private: bool) -> None:
    """Refuse at once what could never be delivered. Raises `InvalidRequest`."""
    try:
        parts = urlsplit(url)
        name, _ = parts.hostname, parts.port
    except ValueError:
        name = None
    if not name or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequest("`webhook` is not an address. Give one such as https://example.com/hook.")
    private = name == "localhost" or name.endswith(".localhost")
    with suppress(ValueError):  # a name: where it leads is seen when it is resolved
        private = private or not is_public(name)
    if private and not allow_private:
        raise InvalidRequest(
            f"`webhook` leads to {name[:100]}, which is not public. Choose a public address, "
            "or let the operator set `webhooks.allow_private`."
        )


def webhook_secret(folder: Path, given: str | None) -> str:
    """The secret that signs: the one of the settings, else this installation's own. Raises `StorageError`."""
    if given is not None:
        return given
    make: Callable[[], bytes] = lambda: b"whsec_" + base64.b64encode(secrets.token_bytes(32))  # noqa: E731
    return kept_secret(folder / "webhook.key", make).decode("ascii")


class Webhooks:
    """Delivers what is due.

    Args:
        database: where the messages are.
        links: makes the links in them.
        secret: signs them.
        base: stands in front of the links.
        allow_private: whether they may go into private networks.
        resolve: finds the addresses of names.
    """

    def __init__(
        self,
        database: Database,
        links: Links,
        secret: str,
        *,
        base: str = "",
        allow_private: bool = False,
        resolve: Resolve = resolved,
    ) -> None:
        self._database, self._links, self._signer = database, links, Webhook(secret)
        self._base, self.allow_private, self._resolve = base, allow_private, resolve
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; what is under way is then broken off and tried again later."""
        client: httpx.AsyncClient | None = None
        try:
            while not stop.is_set():
                try:
                    claimed = await self._claim(AT_A_TIME - len(self._running))
                except DatabaseError as error:
                    log.warning("webhooks wait: %s", error.message)
                    claimed = []
                if claimed and client is None:
                    client = _client()
                for delivery in claimed:
                    assert client is not None
                    task = asyncio.create_task(self._deliver(client, delivery))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await stop.wait()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            if client is not None:
                await client.aclose()

    async def of_job(self, job_id: str) -> list[dict[str, Any]]:
        """How the messages about a job are doing, oldest first."""
        columns = (deliveries.c.tries, deliveries.c.due_at, deliveries.c.delivered_at, deliveries.c.last_error)
        query = select(deliveries.c.id, *columns).where(deliveries.c.job_id == job_id).order_by(deliveries.c.id)
        async with self._database.read() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def _claim(self, room: int) -> list[Delivery]:
        due = select(deliveries).where(deliveries.c.due_at <= NOW).order_by(deliveries.c.due_at).limit(max(0, room))
        async with self._database.glance() as connection:
            rows = (await connection.execute(due)).all()
        claimed: list[Delivery] = []
        for row in rows:
            which = (deliveries.c.id == row.id) & (deliveries.c.tries == row.tries) & (deliveries.c.due_at <= NOW)
            mine = update(deliveries).where(which).values(tries=row.tries + 1, due_at=NOW + CLAIM_S, last_error=None)
            async with self._database.begin() as connection:
                if (await connection.execute(mine)).rowcount:
                    claimed.append(Delivery(row.id, row.url, row.payload, row.tries + 1))
        return claimed

    async def _deliver(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        reason, again = "", True
        try:
            status = await self._post(client, delivery)
            if not 200 <= status < 300:
                reason, again = f"the receiver answered {status}", status != 410
        except Undeliverable as error:
            reason, again = str(error), False
        except TimeoutError:
            reason = f"the receiver did not answer within {TIMEOUT_S:g} s"
        except Exception as error:  # noqa: BLE001  # whatever a foreign server makes of it, others must not suffer
            reason = f"{type(error).__name__}: {error}"
        try:
            await self._settle(delivery, reason, again)
        except DatabaseError as error:
            log.warning("what became of webhook %s could not be written: %s", delivery.id, error.message)

    async def _settle(self, delivery: Delivery, reason: str, again: bool) -> None:
        changes: dict[str, Any] = {"due_at": None, "last_error": reason[:500] or None}
        if not reason:
            changes["delivered_at"] = NOW
        elif again and delivery.tries <= len(PAUSES_S):
            changes["due_at"] = NOW + PAUSES_S[delivery.tries - 1]
        else:
            log.warning("webhook %s to %s is given up: %s", delivery.id, delivery.url, reason)
        which = (deliveries.c.id == delivery.id) & (deliveries.c.tries == delivery.tries)
        async with self._database.begin() as connection:
            await connection.execute(update(deliveries).where(which).values(**changes))

    async def _post(self, client: httpx.AsyncClient, delivery: Delivery) -> int:
        import httpx

        try:
            url = httpx.URL(delivery.url)
            name = url.raw_host.decode("ascii")
        except (httpx.InvalidURL, UnicodeError) as error:
            raise Undeliverable(f"the address is not valid: {error}") from error
        now = datetime.now(UTC)
        body = json.dumps(self._message(delivery), ensure_ascii=False)
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": "limner",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(delivery.id, now, body),
        }
        async with asyncio.timeout(TIMEOUT_S):
            address = await self._address(name, url.port or (443 if url.scheme == "https" else 80))
            # The certificate is still checked against the name.
            request = client.stream(
                "POST",
                url.copy_with(host=address),
                content=body.encode(),
                headers=headers,
                extensions={"sni_hostname": name},
            )
            async with request as response:
                return response.status_code

    async def _address(self, name: str, port: int) -> str:
        addresses = await self._resolve(name, port)
        allowed = [address for address in addresses if self.allow_private or is_public(address)]
        if allowed:
            return allowed[0]
        if not addresses:
            raise OSError(f"{name} has no address")
        raise Undeliverable(f"{name} leads to {addresses[0]}, which is not public")

    def _message(self, delivery: Delivery) -> dict[str, Any]:
        job: dict[str, Any] = json.loads(delivery.payload)
        moment = datetime.fromtimestamp(job["finished_at"], UTC).isoformat().replace("+00:00", "Z")
        return {
            "type": f"job.{job['status']}",
            "timestamp": moment,
            "data": linked(self._links, job, self._base),
        }


def _client() -> httpx.AsyncClient:
    import httpx

    # A connection is never used twice: it belongs to the name that it was opened for. No proxy: it would resolve names.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False, limits=limits)


def base_url(url: str | None, host: str, port: int) -> str:
    """The address under which others reach the server, without a slash at its end."""
    if url is not None:
        return url.rstrip("/")
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
