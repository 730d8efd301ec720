"""A real S3-compatible service for tests: nanio, which checks signatures, in a process of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import obstore
from obstore.store import S3Store

from limner.storage.s3 import S3Storage

ACCESS, SECRET = "limner-test", "not-a-real-secret"


@dataclass(frozen=True)
class Bucket:
    """A fresh bucket.

    Args:
        endpoint: the service's address.
        name: the bucket's name.
        folder: where the service keeps the bucket's objects, as files.
    """

    endpoint: str
    name: str
    folder: Path

    def storage(self, prefix: str = "", **changes: Any) -> S3Storage:
        """The storage that the bucket is, or what `changes` make of its arguments."""
        arguments: dict[str, Any] = {"endpoint": self.endpoint, "allow_http": True, "timeout_s": 20.0}
        arguments |= {"access_key_id": ACCESS, "secret_access_key": SECRET}
        return S3Storage(changes.pop("bucket", self.name), prefix, **arguments | changes)

    def settings(self, prefix: str = "") -> dict[str, Any]:
        """The group `storage` of the settings that name this bucket."""
        keys = {"access_key_id": ACCESS, "secret_access_key": SECRET}
        return {"url": f"s3://{self.name}/{prefix}", "endpoint": self.endpoint, "allow_http": True} | keys


@contextmanager
def bucket_server() -> Generator[tuple[str, Path]]:
    """The service's address, and the folder in which it keeps its buckets."""
    folder = Path(tempfile.mkdtemp(prefix="limner-s3-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder)]
    environ = os.environ | {"NANIO_ACCESS_KEY": ACCESS, "NANIO_SECRET_KEY": SECRET}
    process = subprocess.Popen(
        [sys.executable, "-m", "nanio", "serve", *arguments, "--log-level", "error", "--no-access-log"], env=environ
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None and time.monotonic() < deadline, "the S3 service did not start"
            try:
                httpx.get(f"http://127.0.0.1:{port}/")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", folder
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def fresh_bucket(endpoint: str, folder: Path) -> Bucket:
    """A bucket that nobody has used."""
    name = f"pictures-{uuid.uuid4().hex[:12]}"
    store = S3Store(
        name,
        config={"endpoint": endpoint, "access_key_id": ACCESS, "secret_access_key": SECRET},
        client_options={"allow_http": True},
    )
    httpx.put(obstore.sign(store, "PUT", "", timedelta(seconds=60))).raise_for_status()
    return Bucket(endpoint, name, folder / name)
