"""Both storages keep the contract; and what each does when its disk or its service refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from limner.errors import ConfigError, NotFound, StorageError, StorageFull
from limner.ports import Storage
from limner.storage.local import LocalStorage
from limner.storage.s3 import S3Storage
from tests.contract.storage_contract import StorageContract, keys
from tests.support.buckets import Bucket
from tests.support.jobs import until

PUT_ONE = """
import asyncio, resource, signal, sys
from pathlib import Path
from limner.errors import StorageError
from limner.storage.local import LocalStorage

if limit := int(sys.argv[3]):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print("ready", flush=True)
try:
    asyncio.run(LocalStorage(Path(sys.argv[1])).put("a/b.png", b"x" * int(sys.argv[2]), "image/png"))
except StorageError as error:
    print(error.message)
"""


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage(tmp_path / "pictures")


class TestS3Storage(StorageContract):
    @pytest.fixture
    def storage(self, bucket: Bucket) -> Storage:
        return bucket.storage("limner/pictures")


# --- the local folder ------------------------------------------------------------------------------------------------


def killed_put(folder: Path) -> bool:
    """Kill a process while it writes `a/b.png`; whether that came in time."""
    arguments = [sys.executable, "-c", PUT_ONE, str(folder), "150000000", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 30
        while not (begun := list(folder.rglob("*.part"))) and process.poll() is None:
            assert time.monotonic() < deadline
        process.kill()
    if begun and not (folder / "a/b.png").exists():
        return True
    (folder / "a/b.png").unlink(missing_ok=True)
    return False


async def test_a_put_that_is_killed_leaves_nothing_under_its_key(tmp_path: Path) -> None:
    assert any(killed_put(tmp_path) for _ in range(20))
    storage = LocalStorage(tmp_path)
    assert await keys(storage) == {}
    assert await storage.size("a/b.png") is None
    assert await storage.leftovers(older_than_s=3600) == []
    assert [path.suffix for path in await storage.leftovers(older_than_s=-60)] == [".part"]
    await storage.put("a/b.png", b"whole", "image/png")
    assert await storage.get("a/b.png") == b"whole"


def limited_put(folder: Path) -> str:
    """What is said when 600 kB are put where files may have 300 kB."""
    arguments = [sys.executable, "-c", PUT_ONE, str(folder), "600000", "300000"]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Generator[bool]:
    """A file system of this size at `folder`; False where we may not mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(folder)], capture_output=True, check=False
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2**20) as mounted:
        storage = LocalStorage(tmp_path / "disk")
        if mounted:
            await storage.put("small.png", b"x" * 600_000, "image/png")
            with pytest.raises(StorageFull) as caught:
                await storage.put("a/b.png", b"x" * 600_000, "image/png")
            told = caught.value.message
            assert "No space left on device" in told
            assert len(await storage.get("small.png")) == 600_000
            await storage.delete("small.png")
            await storage.put("a/c.png", b"x" * 600_000, "image/png")  # there is room again
            await storage.delete("a/c.png")
        else:
            # Without the right to mount, a limit on the size of files refuses in the same place.
            told = limited_put(tmp_path / "disk")
        assert "a/b.png could not be written" in told
        assert "Check the disk's space and the folder's permissions." in told
        assert await keys(storage) == {}
        assert await storage.leftovers(older_than_s=-60) == []


async def test_a_file_that_may_not_grow_leaves_nothing(tmp_path: Path) -> None:
    assert "a/b.png could not be written (File too large). Check the disk's space" in limited_put(tmp_path)
    assert await keys(LocalStorage(tmp_path)) == {}
    assert await LocalStorage(tmp_path).leftovers(older_than_s=-60) == []


@contextmanager
def read_only(folder: Path) -> Generator[None]:
    # Root may write anywhere that is not marked as immutable; a read-only mount stops it, too.
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(folder)], check=True, capture_output=True)
        yield
        subprocess.run(["umount", str(folder)], check=True)
    else:
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)


async def test_a_folder_that_is_read_only_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with read_only(folder):
        with pytest.raises(StorageError, match=r"(Read-only|Permission).*Check the disk's space and the folder's perm"):
            await LocalStorage(folder).put("a/b.png", b"x", "image/png")
        assert await keys(LocalStorage(folder)) == {}


async def test_a_file_in_the_way_is_an_error_of_the_storage(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    await storage.put("a", b"x", "image/png")
    await storage.put("c/d", b"x", "image/png")
    for key in ("a/b", "c"):
        with pytest.raises(StorageError, match="could not be written"):
            await storage.put(key, b"x", "image/png")
    assert await keys(storage) == {"a": 1, "c/d": 1}
    assert await storage.leftovers(older_than_s=-60) == []


async def test_files_that_are_not_ours_are_not_listed(tmp_path: Path) -> None:
    for name in ("My picture.png", ".DS_Store", "Ünï.png"):
        (tmp_path / name).write_bytes(b"x")
    await LocalStorage(tmp_path).put("ours.png", b"x", "image/png")
    assert await keys(LocalStorage(tmp_path)) == {"ours.png": 1}


async def test_a_folder_that_cannot_be_read_is_not_taken_for_empty(tmp_path: Path) -> None:
    (tmp_path / "pictures").write_bytes(b"a file, and no folder")
    with pytest.raises(StorageError, match="could not be listed"):
        await keys(LocalStorage(tmp_path / "pictures"))


async def test_a_folder_has_no_direct_links(tmp_path: Path) -> None:
    await LocalStorage(tmp_path).put("a.png", b"x", "image/png")
    assert await LocalStorage(tmp_path).link("a.png", 60) is None


# --- the bucket ------------------------------------------------------------------------------------------------------


async def test_a_signed_link_gives_the_bytes_for_a_while_and_only_those(bucket: Bucket) -> None:
    storage = bucket.storage("below")
    await storage.put("a/b.png", b"the bytes", "image/png")
    link = await storage.link("a/b.png", 3)
    assert link is not None
    async with httpx.AsyncClient() as client:
        answer = await client.get(link)
        assert (answer.status_code, answer.content) == (200, b"the bytes")
        assert answer.headers["content-type"] == "image/png"
        for other in (link.replace("b.png", "c.png"), link.partition("?")[0]):
            assert (await client.get(other)).status_code == 403

        async def expired() -> bool:
            return (await client.get(link)).status_code == 403

        await until(expired, 10)


async def test_prefixes_of_one_bucket_do_not_see_each_other(bucket: Bucket) -> None:
    await bucket.storage().put("a.png", b"0", "image/png")
    await bucket.storage("one").put("a.png", b"1", "image/png")
    await bucket.storage("one-more").put("a.png", b"2", "image/png")
    assert await keys(bucket.storage("one")) == {"a.png": 1}
    assert await keys(bucket.storage()) == {"a.png": 1, "one/a.png": 1, "one-more/a.png": 1}
    assert (bucket.folder / "one" / "a.png").read_bytes() == b"1"


@pytest.mark.parametrize("changes", [{"secret_access_key": "wrong"}, {"access_key_id": "nobody"}], ids=str)
async def test_wrong_credentials_are_said_without_being_shown(bucket: Bucket, changes: dict[str, str]) -> None:
    storage = bucket.storage(**changes)
    for attempt in (storage.put("a", b"", ""), storage.get("a"), storage.size("a"), storage.delete("a"), keys(storage)):
        with pytest.raises(StorageError, match=r"Check `storage.access_key_id` and `storage.secret_access_key`") as e:
            await attempt
        assert "not-a-real-secret" not in str(e.value)
        assert bucket.endpoint in e.value.message


async def test_a_bucket_that_is_not_there_is_not_a_missing_picture(bucket: Bucket) -> None:
    storage = bucket.storage(bucket="no-such-bucket")
    for attempt in (storage.put("a", b"", ""), storage.get("a"), storage.delete("a"), keys(storage)):
        with pytest.raises(StorageError, match=r"Make the bucket `no-such-bucket`, or correct `storage.url`"):
            await attempt


async def test_a_service_whose_disk_fails_is_said(bucket: Bucket) -> None:
    (bucket.folder / "a").write_bytes(b"in the way")
    storage = bucket.storage(timeout_s=2.0)
    with pytest.raises(StorageError, match=r"'a/b.png' could not be stored .* 500 Internal Server Error|InternalError"):
        await storage.put("a/b.png", b"x", "image/png")


@contextmanager
def refusing_service(status: int, code: str) -> Generator[str]:
    """The address of a service that answers every upload with this error."""

    class Refusal(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = f"<Error><Code>{code}</Code></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "full"),
    [(507, "XMinioStorageFull", True), (403, "QuotaExceeded", True), (507, "x", True), (403, "AccessDenied", False)],
)
async def test_a_bucket_without_room_is_told_from_one_that_refuses(status: int, code: str, full: bool) -> None:
    with refusing_service(status, code) as endpoint:
        storage = S3Storage(
            "b", endpoint=endpoint, allow_http=True, access_key_id="a", secret_access_key="s", timeout_s=2.0
        )
        with pytest.raises(StorageError) as caught:
            await storage.put("a.png", b"x", "image/png")
    assert isinstance(caught.value, StorageFull) == full
    assert ("Make room in the bucket `b`" in caught.value.message) == full


async def test_a_service_that_does_not_answer_is_given_up_in_time(bucket: Bucket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        storage = bucket.storage(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=1.0)
        begun = time.monotonic()
        for attempt in (storage.put("a", b"x", ""), storage.get("a"), anext(aiter(storage.stream("a")))):
            with pytest.raises(StorageError, match=r"Check `storage.endpoint`.*can be reached"):
                await attempt
        assert time.monotonic() - begun < 15


async def test_a_service_that_is_gone_is_an_error_that_passes(bucket: Bucket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(StorageError) as caught:
        await bucket.storage(endpoint=f"http://127.0.0.1:{port}", timeout_s=2.0).put("a", b"x", "")
    assert caught.value.retryable


@pytest.mark.parametrize("endpoint", ["foo", "ftp://x", "https://", "http://[::1", "http://x:port"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"`storage.endpoint`.*Write an address such as"):
        S3Storage("bucket", endpoint=endpoint)


def test_an_endpoint_without_encryption_must_be_allowed() -> None:
    with pytest.raises(ConfigError, match=r"set `storage.allow_http` to true"):
        S3Storage("bucket", endpoint="http://minio.internal:9000")


async def test_the_endpoint_of_the_settings_goes_before_that_of_the_environment(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    with pytest.raises(NotFound):
        await bucket.storage().get("a")
