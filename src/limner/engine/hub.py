"""Fetch checkpoints from the Hugging Face hub into limner's models folder.

Files go into `fetched/OWNER/NAME` below the models folder, as the repository has them, and not into the hub's cache:
other programs clear that, on disks without links it holds every file twice, and a folder can be copied to another
machine. The bytes are fetched here and not by `hf_hub_download`, which throws away what it has of a file when it is
interrupted: one of 12 GB would begin anew. Names, lists of files, checksums and tokens are `huggingface_hub`'s, and
HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to it.

Invariant: a file gets its name when all of it is there and its checksum is right, never before.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

import httpx

from limner.engine.checkpoint_folders import FETCHED_FOLDER
from limner.engine.hub_errors import offline, translated
from limner.engine.hub_files import RemoteFile, choose
from limner.engine.tensor_files import file_sha256
from limner.errors import BrokenCheckpoint, Conflict, InvalidRequest, StorageError, StorageFull, Unreachable

if TYPE_CHECKING:
    from huggingface_hub import HfApi, HfFileMetadata

PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""How long to wait before trying again after a connection broke; every byte that arrives begins the row anew."""

TIMEOUT = httpx.Timeout(30.0, connect=15.0)
PARTIAL = ".partial"
HUB_ID = re.compile(r"^[\w.-]{1,96}/[\w.-]{1,96}$")

Progress = Callable[[str, int, int], None]
"""Told the file's name, how much of it is there and its size, in bytes."""


@dataclass(frozen=True)
class FetchPlan:
    """What is going to be fetched: files of one commit of a repository, and what is left out, with the reason."""

    repository: str
    revision: str
    folder: Path
    files: tuple[RemoteFile, ...]
    left_out: tuple[tuple[str, str], ...]

    @property
    def size_bytes(self) -> int:
        """The size of all files, those that are here already too."""
        return sum(file.size_bytes for file in self.files)


def looks_like_hub_id(text: str) -> bool:
    """Whether this may be the name of a repository on the hub, `owner/name`."""
    return bool(HUB_ID.match(text)) and ".." not in text


def plan_fetch(
    repository: str,
    models_dir: Path,
    *,
    revision: str | None = None,
    files: Sequence[str] = (),
    include: Sequence[str] = (),
) -> FetchPlan:
    """Ask the hub what there is and choose what to fetch.

    Args:
        repository: `owner/name`.
        models_dir: limner's own models folder.
        revision: a branch, tag or commit; `main` when absent.
        files: only these files.
        include: patterns such as `*Q8_0.gguf` or `text_encoder/*`; only what matches one.

    Raises:
        NotFound: no such repository, revision or file; the message lists the nearest ones.
        Refused: its licence has to be accepted first, or the token is wrong.
        InvalidRequest: that is no name of a repository, or there are several files to choose from.
        Unreachable: the hub does not answer, or HF_HUB_OFFLINE is set.
    """
    if not looks_like_hub_id(repository):
        raise InvalidRequest(f"`{repository}` is not the name of a repository. Write it as `owner/name`.")
    if offline():
        raise Unreachable(
            f"`{repository}` cannot be fetched: HF_HUB_OFFLINE is set. Unset it, or add files that are here already "
            "with `limner models add`."
        )
    api = _api()
    with translated(api, repository, revision):
        found = api.model_info(repository, revision=revision, files_metadata=True, timeout=30.0)
    there = [
        RemoteFile(
            sibling.rfilename, sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else "", sibling.blob_id or ""
        )
        for sibling in found.siblings or ()
    ]
    chosen, left_out = choose(repository, there, files, include)
    owner, name = repository.split("/")
    return FetchPlan(repository, str(found.sha), models_dir / FETCHED_FOLDER / owner / name, chosen, left_out)


def fetch(
    plan: FetchPlan, progress: Progress | None = None, hash_of: Callable[[Path], str] = file_sha256
) -> list[Path]:
    """Fetch the files of a plan; those that are here already and whole are left as they are.

    When it ends early, by an error or by being killed, all that had arrived is kept, and doing it again goes on there.

    Args:
        plan: what to fetch.
        progress: told how far it is.
        hash_of: the SHA-256 of a file that is here already.

    Returns:
        The files, in the plan's order.

    Raises:
        BrokenCheckpoint: what arrived is not what the hub promised; it was removed.
        StorageFull, StorageError: it cannot be written.
        Unreachable: the connection broke and could not be made again.
        Refused, NotFound: as in `plan_fetch`.
        Conflict: another process fetches the same file.
    """
    api, tell = _api(), progress or _unheard
    missing = [file for file in plan.files if not _is_here(plan.folder / file.name, file, hash_of)]
    _require_room(plan, missing)
    for file in plan.files:
        path = plan.folder / file.name
        if file in missing:
            _fetch_file(api, plan, file, path, tell)
        tell(file.name, path.stat().st_size, path.stat().st_size)
    return [plan.folder / file.name for file in plan.files]


def _unheard(name: str, done: int, size: int) -> None:
    del name, done, size


def _api() -> HfApi:
    from huggingface_hub import HfApi

    # Read now: huggingface_hub reads it once, when it is imported.
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="limner")


def _is_here(path: Path, file: RemoteFile, hash_of: Callable[[Path], str]) -> bool:
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    # Another revision may well have the same size.
    return hash_of(path) == file.sha256 if file.sha256 else _is_right(path, file, "", file.size_bytes)


def _require_room(plan: FetchPlan, missing: Sequence[RemoteFile]) -> None:
    kept = sum(part.stat().st_size for part in plan.folder.rglob("*" + PARTIAL)) if plan.folder.is_dir() else 0
    needed = sum(file.size_bytes for file in missing) - kept
    place = next(folder for folder in (plan.folder, *plan.folder.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StorageFull(
            f"`{plan.repository}` needs {_size(needed)} more, and `{place}` has {_size(free)} free. Make room, or "
            "choose fewer files with --file or --include.",
            needed_bytes=needed,
            free_bytes=free,
        )


def _fetch_file(api: HfApi, plan: FetchPlan, file: RemoteFile, path: Path, tell: Progress) -> None:
    import huggingface_hub

    metadata: Callable[..., HfFileMetadata] = cast(Any, huggingface_hub).get_hf_file_metadata
    url = huggingface_hub.hf_hub_url(plan.repository, file.name, revision=plan.revision, endpoint=api.endpoint)
    with translated(api, plan.repository, plan.revision, file.name):
        about = metadata(url, endpoint=api.endpoint, timeout=30.0)
    etag, size = about.etag or "", about.size if about.size is not None else file.size_bytes
    if file.sha256 and etag and re.fullmatch(r"[0-9a-f]{64}", etag) and etag != file.sha256:
        raise BrokenCheckpoint(
            f"The hub names two checksums for `{file.name}` of `{plan.repository}`. Try again later.", file=file.name
        )
    partial = path.with_name(f"{path.name}.{(etag or plan.revision)[:12]}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(partial, file) as stream:
            _receive(url, stream, size, lambda done: tell(file.name, done, size), plan)
            stream.flush()
            os.fsync(stream.fileno())
            if not _is_right(partial, file, etag, size):
                partial.unlink(missing_ok=True)
                raise BrokenCheckpoint(
                    f"`{file.name}` of `{plan.repository}` arrived damaged: its checksum is wrong. It was removed; run "
                    "the command again to fetch it anew.",
                    file=str(path),
                )
            partial.replace(path)
    except OSError as error:
        _unwritable(error, path)


@contextmanager
def _alone(partial: Path, file: RemoteFile) -> Generator[IO[bytes]]:
    with partial.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"`{file.name}` is being fetched by another process. Wait until it is done.") from error
        yield stream


def _receive(url: str, stream: IO[bytes], size: int, tell: Callable[[int], None], plan: FetchPlan) -> None:
    """Append to the stream what is missing of `size` bytes, through as many connections as it takes."""
    from huggingface_hub import utils

    made: dict[str, str] = cast(Any, utils).build_hf_headers(library_name="limner")
    headers = {**made, "Accept-Encoding": "identity"}
    tried = 0
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
        while True:
            done = stream.seek(0, os.SEEK_END)
            if done > size:  # of another file; begin anew
                stream.truncate(0)
                done = 0
            tell(done)
            if done == size:
                return
            ranged = {"Range": f"bytes={done}-"} if done else {}
            try:
                with client.stream("GET", url, headers=headers | ranged) as response:
                    if response.status_code == 416:
                        stream.truncate(0)
                        continue
                    response.raise_for_status()
                    if done and response.status_code != 206:
                        stream.truncate(0)
                        done = 0
                    for chunk in response.iter_bytes():
                        stream.write(chunk)
                        done += len(chunk)
                        tried = 0
                        tell(done)
                    if done != size:
                        raise httpx.RemoteProtocolError(f"{done} of {size} bytes arrived")
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status not in (408, 429) and status < 500:
                    raise Unreachable(
                        f"The hub refused a file of `{plan.repository}` with status {status}. What has arrived is "
                        "kept; run the command again."
                    ) from error
                tried = _pause(tried, plan, error)
            except httpx.TransportError as error:
                tried = _pause(tried, plan, error)


def _pause(tried: int, plan: FetchPlan, error: Exception) -> int:
    if tried >= len(PAUSES_S):
        raise Unreachable(
            f"The connection broke while `{plan.repository}` was fetched ({error or type(error).__name__}). What has "
            f"arrived is kept in `{plan.folder}`; run the command again to go on there."
        ) from error
    time.sleep(PAUSES_S[tried])
    return tried + 1


def _is_right(path: Path, file: RemoteFile, etag: str, size: int) -> bool:
    if path.stat().st_size != size:
        return False
    expected = file.sha256 or (etag if len(etag) == 64 else "")
    if expected:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == expected
    if expected := file.blob_id or (etag if len(etag) == 40 else ""):
        content = path.read_bytes()  # small: large files are in LFS and have a SHA-256
        named = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return named.hexdigest() == expected
    return True


def _unwritable(error: OSError, path: Path) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise StorageFull(
            f"The disk is full: `{path}` could not be written whole. What has arrived is kept; make room and run the "
            "command again."
        ) from error
    raise StorageError(f"`{path}` cannot be written ({error}). Check the folder's permissions.") from error


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:,.1f} GB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:,.1f} MB"
