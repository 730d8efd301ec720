"""What limner remembers of checkpoints: folders that were added, what was fetched, and what files turned out to be.

One JSON file, written whole and atomically under a lock. What it remembers of a file counts as long as size, time of
change and the rules by which files are judged stay the same, so that it never has to be cleared. A damaged index is set
aside and begun anew. This module knows no architecture and opens no weights, except to hash them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from limner.engine.tensor_files import file_sha256
from limner.errors import StorageError

_RULES = (
    *("needs.py", "signatures.py", "shelves.py", "checkpoint_judge.py", "checkpoint_folders.py"),
    *("tensor_files.py", "gguf_files.py", "scaled_fp8.py", "pipeline_folders.py"),
)
_VERSION = 1


@dataclass(frozen=True)
class Fetched:
    """A repository that was fetched: its name on the hub, the commit, the folder, and the files below that."""

    repository: str
    revision: str
    folder: str
    files: tuple[str, ...]


@dataclass
class _Content:
    added: list[str] = field(default_factory=list[str])
    fetched: list[Fetched] = field(default_factory=list[Fetched])
    files: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])


class CheckpointIndex:
    """The index at one path; reads it when made.

    Args:
        path: the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        """Sentences about what was wrong with the file."""
        self._content = self._read()
        self._learned: dict[str, dict[str, Any]] = {}

    @property
    def added(self) -> tuple[Path, ...]:
        """Folders and files that were added, in that order."""
        return tuple(Path(path) for path in self._content.added)

    @property
    def fetched(self) -> tuple[Fetched, ...]:
        """What was fetched."""
        return tuple(self._content.fetched)

    def add(self, path: Path) -> None:
        """Remember a folder or a file; raises `StorageError` where the index cannot be written, as all changes do."""
        with self._changing() as content:
            if str(path) not in content.added:
                content.added.append(str(path))

    def forget(self, path: Path) -> None:
        """Forget a folder or a file that was added; nothing happens to it."""
        with self._changing() as content:
            content.added = [added for added in content.added if added != str(path)]

    def record(self, fetched: Fetched) -> None:
        """Remember what was fetched, together with what was fetched of the same repository before."""
        with self._changing() as content:
            before = [known for known in content.fetched if known.folder == fetched.folder]
            files = {file for known in (*before, fetched) for file in known.files}
            kept = [known for known in content.fetched if known.folder != fetched.folder]
            content.fetched = [
                *kept,
                Fetched(fetched.repository, fetched.revision, fetched.folder, tuple(sorted(files))),
            ]

    def forget_fetched(self, folder: str) -> None:
        """Forget what was fetched into a folder."""
        with self._changing() as content:
            content.fetched = [known for known in content.fetched if known.folder != folder]

    def recall(self, path: Path) -> Mapping[str, Any]:
        """What was learned of a file, if it is still the same; else nothing."""
        known = self._learned.get(str(path)) or self._content.files.get(str(path), {})
        return known if known and known.get("stamp") == stamp(path) else {}

    def learn(self, path: Path, **facts: Any) -> None:
        """Remember facts of a file until `save`, beside what is known of it already."""
        self._learned[str(path)] = {**self.recall(path), **facts, "stamp": stamp(path)}

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file, read anew only if the file has changed."""
        known = self.recall(path).get("sha256")
        if isinstance(known, str) and known:
            return known
        found = file_sha256(path)
        self.learn(path, sha256=found)
        return found

    def known_sha256(self, path: Path) -> str:
        """The same where it is known, else empty."""
        return str(self.recall(path).get("sha256", ""))

    def save(self) -> None:
        """Write what was learned. An index that cannot be written is no hindrance: it only saves time."""
        if not self._learned:
            return
        try:
            with self._changing() as content:
                content.files |= self._learned
                for gone in [path for path in content.files if not Path(path).exists()]:
                    del content.files[gone]
        except StorageError:
            return
        self._learned = {}

    @contextmanager
    def _changing(self) -> Generator[_Content]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._content = content = self._read()
                yield content
                self._write(content)
        except OSError as error:
            raise StorageError(
                f"The index of checkpoints `{self.path}` cannot be written: {error}. Check the permissions of its "
                "folder and the room on its disk, or set native.index_path to another place.",
                file=str(self.path),
            ) from error

    def _write(self, content: _Content) -> None:
        written = {"version": _VERSION, "rules": rules()} | asdict(content)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            partial.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", "utf-8")
            partial.replace(self.path)
        finally:
            with suppress(OSError):  # nothing was made where nothing can be
                partial.unlink()

    def _read(self) -> _Content:
        try:
            raw = self.path.read_text("utf-8")
        except FileNotFoundError:
            return _Content()
        except (OSError, UnicodeDecodeError) as error:
            return self._set_aside(str(error))
        try:
            return _parsed(json.loads(raw))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return self._set_aside(str(error) or type(error).__name__)

    def _set_aside(self, why: str) -> _Content:
        aside = self.path.with_name(self.path.name + ".damaged")
        try:
            self.path.replace(aside)
            where = f"It was set aside as `{aside}`"
        except OSError:
            where = "It could not be set aside"
        self.notes.append(
            f"The index of checkpoints `{self.path}` is damaged ({why}). {where} and is begun anew; files in the "
            "models folders are found as before. Add other folders again with `limner models add`."
        )
        return _Content()


def stamp(path: Path) -> list[int]:
    """Size and time of change; empty where there is no such file."""
    try:
        known = path.stat()
    except OSError:
        return []
    return [known.st_size, known.st_mtime_ns]


def stamp_of(paths: Sequence[Path]) -> str:
    """One short text for the state of many files."""
    marks = [(str(path), *stamp(path)) for path in paths]
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()[:16]


@cache
def rules() -> str:
    """Changes whenever the code does that judges files, so that no verdict outlives its rules."""
    digest = hashlib.sha256()
    for name in _RULES:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:16]


def _parsed(raw: Any) -> _Content:
    version = raw["version"]
    if version != _VERSION:
        raise ValueError(f"version {version} is not {_VERSION}")
    files = {str(path): dict(cast("Mapping[str, Any]", facts)) for path, facts in raw["files"].items()}
    if raw["rules"] != rules():  # hashes stay true whatever the rules are
        files = {
            path: {"sha256": facts["sha256"], "stamp": facts["stamp"]}
            for path, facts in files.items()
            if "sha256" in facts
        }
    fetched = [
        Fetched(str(f["repository"]), str(f["revision"]), str(f["folder"]), tuple(str(file) for file in f["files"]))
        for f in raw["fetched"]
    ]
    return _Content([str(path) for path in raw["added"]], fetched, files)
