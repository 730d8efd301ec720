"""Bytes in a bucket of an S3-compatible service: Amazon S3, Cloudflare R2, MinIO and others.

A picture is one object that is put with one request: it is there whole or not at all, and nothing half-sent is left in
the bucket. Every request is bounded in time and repeated a few times; what the service says becomes `NotFound`,
`StorageFull` or `StorageError`, once, here. Credentials that are not given come from where the AWS tools look for them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from limner.errors import ConfigError, NotFound, StorageError, StorageFull
from limner.storage.keys import checked_key, is_key

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

PIECE_BYTES = 256 * 1024
RETRIES = 3
LET_GO_S = 0.1
LONGEST_LINK_S = 7 * 24 * 3600.0
"""How long a signed address may work at most, by the protocol."""

_REFUSALS = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken")
_FULL = ("XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded")
"""How MinIO and Ceph say that there is no room; others answer 507."""


class S3Storage:
    """A bucket, or the part of it below a prefix, as storage.

    Args:
        bucket: its name.
        prefix: what every key begins with in the bucket; such as `limner/pictures`.
        endpoint: address of the service; Amazon's own when absent.
        region: where the bucket is.
        access_key_id: who asks; looked for as the AWS tools do when absent.
        secret_access_key: belongs to it.
        allow_http: whether the endpoint may be without TLS.
        timeout_s: for one request; a download may take longer as long as bytes arrive.

    Raises `ConfigError` for an endpoint that cannot be used.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        allow_http: bool = False,
        timeout_s: float = 60.0,
    ) -> None:
        if endpoint is not None:
            _check_endpoint(endpoint, allow_http)
        self._bucket, self._where = bucket, f"{endpoint or 'Amazon S3'}, bucket `{bucket}`"
        config: S3Config = {"disable_bulk_delete": True}
        if endpoint is not None:
            config |= {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
        if region is not None:
            config["region"] = region
        if access_key_id is not None and secret_access_key is not None:
            config |= {"access_key_id": access_key_id, "secret_access_key": secret_access_key}
        once = timedelta(seconds=timeout_s)
        retries: RetryConfig = {"max_retries": RETRIES, "retry_timeout": once}

        def store(timeouts: ClientConfig) -> S3Store:
            client: ClientConfig = {"allow_http": allow_http, "connect_timeout": timedelta(seconds=min(5.0, timeout_s))}
            return S3Store(
                bucket, prefix=prefix or None, client_options=client | timeouts, retry_config=retries, config=config
            )

        try:
            self._store = store({"timeout": once})
            # Whoever reads slowly must not lose the rest: what is bounded here is the wait for the next bytes.
            self._source = store({"timeout": timedelta(days=1), "read_timeout": once})
        except (BaseError, ValueError) as error:
            raise ConfigError(f"The storage at {self._where} cannot be used ({_reason(error)}). Correct it.") from error

    async def put(self, key: str, content: bytes, media_type: str) -> None:
        """Store in one request. Raises `StorageFull` and `StorageError`."""
        with self._translated(key, "stored"):
            await obstore.put_async(
                self._store, checked_key(key), content, attributes={"Content-Type": media_type}, use_multipart=False
            )

    async def get(self, key: str) -> bytes:
        """All bytes under a key. Raises `NotFound` and `StorageError`."""
        with self._translated(key, "read"):
            found = await obstore.get_async(self._store, checked_key(key))
            return bytes(await found.bytes_async())

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """The bytes in pieces of 256 KiB and somewhat more. Raises `NotFound` and `StorageError`."""
        with self._translated(key, "read"):
            found = await obstore.get_async(self._source, checked_key(key))
            pieces = found.stream(min_chunk_size=PIECE_BYTES)
        while True:
            with self._translated(key, "read"):
                try:
                    piece = bytes(await anext(pieces))
                except StopAsyncIteration:
                    return
            yield piece

    async def delete(self, key: str) -> None:
        """Remove the object; no error when there is none. Raises `StorageError`."""
        with suppress(NotFound), self._translated(key, "removed"):
            await obstore.delete_async(self._store, checked_key(key))

    async def size(self, key: str) -> int | None:
        """Bytes of the object; None when there is none. Raises `StorageError`."""
        try:
            with self._translated(key, "looked at"):
                return (await obstore.head_async(self._store, checked_key(key)))["size"]
        except NotFound:
            return None

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """Every key with its size, in the service's order. Raises `StorageError`."""
        place = prefix.rpartition("/")[0]
        if place and not is_key(place):
            return
        # The store understands whole folders only.
        pages = obstore.list(self._store, place or None, chunk_size=1000)  # pyright: ignore[reportUnknownMemberType]
        while True:
            with self._translated(prefix, "listed"):
                try:
                    page = await anext(pages)
                except StopAsyncIteration:
                    return
            for found in page:
                if found["path"].startswith(prefix) and is_key(found["path"]):
                    yield found["path"], found["size"]

    async def link(self, key: str, ttl_s: float) -> str | None:
        """A signed address of the object that works for `ttl_s`, at most a week. Raises `StorageError`."""
        expires = timedelta(seconds=max(1.0, min(ttl_s, LONGEST_LINK_S)))
        with self._translated(key, "signed for"):
            return await obstore.sign_async(self._store, "GET", checked_key(key), expires)

    async def aclose(self) -> None:
        """Give the client's threads the time to let go of what they last returned.

        Connections close when they are idle. A thread that still holds an object when the interpreter ends aborts the
        process (PyO3/pyo3-async-runtimes#40), and there is nothing to join.
        """
        await asyncio.sleep(LET_GO_S)

    @contextmanager
    def _translated(self, key: str, verb: str) -> Generator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            reason = _reason(error)
            kind: type[StorageError] = StorageError
            if reason == "NoSuchBucket":
                remedy = f"Make the bucket `{self._bucket}`, or correct `storage.url`."
            elif isinstance(error, FileNotFoundError):
                raise NotFound(f"There is nothing stored under {key!r}. It may have been removed.") from error
            elif reason in _FULL or " 507 Insufficient Storage" in str(error):
                kind, remedy = StorageFull, f"Make room in the bucket `{self._bucket}`, or raise its quota."
            elif reason in _REFUSALS or isinstance(error, PermissionDeniedError | UnauthenticatedError):
                remedy = (
                    "Check `storage.access_key_id` and `storage.secret_access_key`, and that they may read, write, "
                    "list and delete in this bucket."
                )
            else:
                remedy = (
                    "Check `storage.endpoint`, `storage.region`, the credentials, and that the service can be reached."
                )
            raise kind(f"{key!r} could not be {verb} ({self._where}; {reason}). {remedy}") from error


def _check_endpoint(endpoint: str, allow_http: bool) -> None:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"Setting `storage.endpoint` is {endpoint!r}. Write an address such as https://s3.example.com."
        )
    if endpoint.startswith("http://") and not allow_http:
        raise ConfigError(
            f"Setting `storage.endpoint` is {endpoint}, which is not encrypted. "
            "Use https, or set `storage.allow_http` to true."
        )


def _reason(error: Exception) -> str:
    """The service's own code, else the first line of what the client says."""
    told = str(error)
    if code := re.search(r"<Code>([^<]{1,80})</Code>", told):
        return code[1]
    return told.partition("\n")[0].rpartition(" - ")[2].strip()[:200] or type(error).__name__
