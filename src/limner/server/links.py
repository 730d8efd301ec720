"""Links to pictures that work in an `<img>` without a header, for a while: the address carries its own signature."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from limner.errors import Refused, StorageError


class Links:
    """Signs and checks links.

    Args:
        key: the secret.
        ttl_s: how long a link works.
    """

    def __init__(self, key: bytes, ttl_s: float) -> None:
        self._key, self._ttl_s = key, ttl_s

    def query(self, path: str) -> str:
        """The query that makes `path` a link, to be put behind a question mark."""
        expires = int(time.time() + self._ttl_s)
        return f"expires={expires}&signature={self._signature(path, expires)}"

    def check(self, path: str, expires: int, signature: str) -> None:
        """Raises `Refused` unless the signature is ours for this path and still valid."""
        if not hmac.compare_digest(self._signature(path, expires).encode(), signature.encode()):
            raise Refused("The link's signature is not valid. Ask for a new link.")
        if expires < time.time():
            raise Refused("The link has expired. Ask for a new one.")

    def _signature(self, path: str, expires: int) -> str:
        return hmac.new(self._key, f"{path}\n{expires}".encode(), sha256).hexdigest()


def link_key(folder: Path, given: str | None = None) -> bytes:
    """The secret of links: from the one that the settings give, else this installation's own."""
    if given is not None:
        return sha256(given.encode()).digest()
    return kept_secret(folder / "link.key", lambda: secrets.token_bytes(32))


def kept_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """The secret in a file, made when there is none yet; processes that start together agree on one.

    Raises `StorageError`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(make())
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileExistsError):
                    os.link(name, path)
            finally:
                Path(name).unlink()
        secret = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be used ({error.strerror}). Check the folder's permissions.") from error
    if not secret:
        raise StorageError(f"{path} is empty, and everybody knows an empty secret. Remove it: a new one is made.")
    return secret
