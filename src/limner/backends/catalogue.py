"""The checkpoints that the settings lead to: list them, look at one, add and remove.

Nothing here imports torch. Invariant: files are deleted only below folders that limner itself fetched, and only those
files that it fetched there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from limner.backends.settings import NativeSettings
from limner.engine import checkpoints
from limner.engine.checkpoint_folders import (
    Found,
    Root,
    checkpoints_in,
    loose_files,
    lora_folders_in,
    parts_in,
    roots_of,
)
from limner.engine.checkpoint_index import CheckpointIndex, Fetched
from limner.engine.checkpoint_judge import facts_of
from limner.engine.checkpoints import WHOLE_PREFIX, CheckpointEntry, CheckpointFiles, Elsewhere, Given
from limner.engine.needs import TEXT_FOLDERS, VAE_FOLDERS
from limner.engine.shelves import Shelves
from limner.engine.tensor_files import file_sha256, files_sha256, open_tensors
from limner.errors import BrokenCheckpoint, ConfigError, InvalidRequest, LimnerError, NotFound, Refused


@dataclass(frozen=True)
class PartFacts:
    """One part of a checkpoint: its file or folder, how its numbers are stored, and its hash where that is wanted."""

    part: str
    path: Path
    dtype: str
    parameters: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Added:
    """What a folder or file that was added holds; `known` says that it is looked through without that."""

    entries: tuple[CheckpointEntry, ...]
    parts: tuple[Path, ...]
    known: bool


@dataclass(frozen=True)
class Removal:
    """What removing a name comes to: a path to forget, or files to delete, in `folder`."""

    forget: Path | None = None
    fetched: Fetched | None = None
    files: tuple[Path, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What the files take on the disk."""
        return sum(file.stat().st_size for file in self.files)


class Catalogue:
    """The checkpoints of these settings.

    Args:
        settings: the folders and the index.
        builtin_dir: what comes with limner.
    """

    def __init__(self, settings: NativeSettings, builtin_dir: Path) -> None:
        self.models_dir = settings.models_dir or Path("models")
        self.elsewhere = Elsewhere(settings.models_dirs, settings.index_path)
        self.given: Given | None = None
        if settings.text_encoder_path or settings.vae_path:
            self.given = Given(text_encoder=settings.text_encoder_path, vae=settings.vae_path)
        self._builtin_dir = builtin_dir

    @property
    def index(self) -> CheckpointIndex:
        """The index; raises `ConfigError` where the settings have none."""
        if self.elsewhere.index is None:
            raise ConfigError("There is no index of checkpoints. Set native.index_path.", setting="native.index_path")
        return CheckpointIndex(self.elsewhere.index)

    def shelves(self) -> Shelves:
        """All places, as they are now."""
        return Shelves(self.models_dir, self._builtin_dir, self.elsewhere)

    def entries(self) -> list[CheckpointEntry]:
        """Every checkpoint, broken ones with their problem."""
        return self.shelves().entries(self.given or Given())

    def notes(self) -> list[str]:
        """What is wrong with the index, if anything."""
        return self.index.notes if self.elsewhere.index else []

    def watched(self) -> list[Path]:
        """Every file that the list depends on."""
        shelves = self.shelves()
        watched = shelves.watched(self.given or Given())
        shelves.save()
        return watched

    def find(self, name: str) -> CheckpointFiles:
        """The files of a checkpoint; raises as `checkpoints.find_checkpoint`."""
        return checkpoints.find_checkpoint(name, self.models_dir, self._builtin_dir, self.given, self.elsewhere)

    def entry(self, name: str) -> CheckpointEntry:
        """One checkpoint, with its problem if it has one; raises `NotFound` with the nearest names."""
        shelves = self.shelves()
        found = shelves.entry(shelves.find(name), self.given or Given())
        shelves.save()
        return found

    def family_of(self, name: str) -> str | None:
        """The family of a checkpoint by its name or path, or None; cheap."""
        return checkpoints.family_of(name, self.models_dir, self._builtin_dir, self.elsewhere)

    def duplicates(self, entries: list[CheckpointEntry]) -> dict[str, list[str]]:
        """Names to those with the very same denoiser; large files are hashed where their sizes agree."""
        return checkpoints.duplicates(entries, self.index if self.elsewhere.index else None)

    def unhashed_bytes(self, entries: list[CheckpointEntry]) -> int:
        """How much `duplicates` would have to read."""
        return checkpoints.unhashed_bytes(entries, self.index if self.elsewhere.index else None)

    def parts(self, name: str, hashed: bool = True) -> list[PartFacts]:
        """Every part that can be found of a checkpoint; hashes that are not known are computed where `hashed`."""
        entry = self.entry(name)
        try:
            parts: Mapping[str, Path] = self.find(name).parts
        except LimnerError:
            parts = (
                {"transformer": entry.weights[0] if len(entry.weights) == 1 else entry.path} if entry.weights else {}
            )
        index = self.index if self.elsewhere.index else None
        found = [self._part(part, path, parts["transformer"], index, hashed) for part, path in parts.items()]
        if index is not None:
            index.save()
        return found

    def add(self, path: Path) -> Added:
        """Remember a folder or file from now on, and say what it holds.

        Raises:
            NotFound: there is nothing at that path.
            InvalidRequest: there is no checkpoint and no part of one in it.
            BrokenCheckpoint: the file cannot be read.
        """
        path = path.expanduser().absolute()
        if not path.exists():
            raise NotFound(f"There is nothing at `{path}`. Check the path.", path=str(path))
        known = path.resolve() in self._looked_through()
        parts = tuple(_parts(path))
        if not parts and not any(_candidates(path)):
            raise InvalidRequest(
                f"`{path}` holds no checkpoint. Name a safetensors or GGUF file, a diffusers folder, or a models "
                "folder of ComfyUI, A1111 or Forge, or a Hugging Face cache.",
                path=str(path),
            )
        if not known:
            self.index.add(path)
        return Added(tuple(entry for entry in self.entries() if _within(entry.path, path)), parts, known)

    def removal(self, name: str) -> Removal:
        """What removing that name, path or repository would come to.

        Raises:
            NotFound: it is unknown; the message lists the nearest names.
            Refused: limner neither added nor fetched it.
        """
        index, path = self.index, Path(name).expanduser().absolute()
        shelves = self.shelves()
        if path in index.added:
            return Removal(forget=path)
        fetched = next((known for known in index.fetched if known.repository == name), None)
        place: Found | None = None
        if fetched is None:
            place = shelves.find(name)
            if place.path.absolute() in index.added:
                return Removal(forget=place.path.absolute())
            fetched = next((known for known in index.fetched if _within(place.path, Path(known.folder))), None)
        if fetched is not None:
            folder = Path(fetched.folder)
            files = [folder / file for file in fetched.files]
            return Removal(
                fetched=fetched, files=tuple(file for file in files if _lies_in(file, folder) and file.is_file())
            )
        assert place is not None
        if place.root.builtin:
            raise Refused(f"Checkpoint `{place.name}` comes with limner and stays.")
        if folder := next((added for added in index.added if _within(place.path, added)), None):
            raise Refused(
                f"`{place.name}` lies in `{folder}`, which was added as a whole. Run `limner models remove {folder}` "
                "to forget the folder, or delete the file yourself."
            )
        raise Refused(
            f"`{place.path}` was not fetched by limner, which never deletes other files. Delete it yourself, or take "
            "its folder out of the settings."
        )

    def remove(self, removal: Removal) -> None:
        """Do what `removal` said."""
        if removal.forget is not None:
            self.index.forget(removal.forget)
        if (fetched := removal.fetched) is None:
            return
        folder = Path(fetched.folder)
        for file in removal.files:
            if _lies_in(file, folder):
                file.unlink(missing_ok=True)
        for inside in sorted(folder.rglob("*.partial")):
            inside.unlink(missing_ok=True)
        for inside in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            _remove_if_empty(inside)
        _remove_if_empty(folder)
        _remove_if_empty(folder.parent)
        self.index.forget_fetched(fetched.folder)

    def _looked_through(self) -> set[Path]:
        shelves = self.shelves()
        files = {file for root in shelves.roots for file in (root.path, *parts_in(root, (*TEXT_FOLDERS, *VAE_FOLDERS)))}
        return {path.resolve() for path in (*files, *(place.path for place in shelves.places.values()))}

    @staticmethod
    def _part(part: str, path: Path, denoiser: Path, index: CheckpointIndex | None, hashed: bool) -> PartFacts:
        if part.startswith("tokenizer"):
            size = sum(file.stat().st_size for file in path.iterdir() if file.is_file()) if path.is_dir() else 0
            return PartFacts(part, path, "", 0, size, "")
        source = open_tensors(path)
        if part != "transformer" and path == denoiser:
            return PartFacts(part, path, "", 0, 0, "")
        inside = source.under(WHOLE_PREFIX) if part == "transformer" else source
        sha256 = ""
        if hashed:
            sha256 = files_sha256(source.files, index.sha256 if index else file_sha256)
        elif index and all(index.known_sha256(file) for file in source.files):
            sha256 = files_sha256(source.files, index.known_sha256)
        return PartFacts(part, path, inside.dtype, inside.parameters, source.size_bytes, sha256)


def lora_folders(settings: NativeSettings) -> list[Path]:
    """The folders of LoRAs inside the further models folders, those that were added too, and repositories of LoRAs."""
    added = CheckpointIndex(settings.index_path).added if settings.index_path else ()
    folders = [*settings.models_dirs, *(path for path in added if path.is_dir())]
    named = [found for folder in folders for found in lora_folders_in(folder)]
    own = [settings.models_dir] if settings.models_dir else []
    return named + [root.path for folder in (*own, *folders) for root in roots_of(folder) if _is_of_loras(root)]


def _is_of_loras(root: Root) -> bool:
    files = loose_files(root) if root.anywhere else []
    return bool(files) and all(facts_of(file).kind == "adapter" for file in files)


def _within(path: Path, folder: Path) -> bool:
    """Whether the path leads into the folder, by its name or to where links take it."""
    named = ".." not in path.parts and path.absolute().is_relative_to(folder.absolute())
    return named or path.resolve().is_relative_to(folder.resolve())


def _lies_in(file: Path, folder: Path) -> bool:
    """Whether deleting the file changes nothing outside the folder; the file itself may be a link that leads out."""
    return file.parent.resolve().is_relative_to(folder.resolve())


def _roots(path: Path) -> list[Root]:
    return list(roots_of(path))


def _candidates(path: Path) -> Iterator[Path]:
    """What may be a checkpoint at the path, or below it."""
    if path.is_file():
        yield path
    for root in _roots(path):
        for found in checkpoints_in(root):
            if not found.loose or facts_of(found.path).kind in ("denoiser", "broken"):
                yield found.path
        yield from lora_folders_in(root.path)


def _parts(path: Path) -> Iterator[Path]:
    """Files that may serve as parts of checkpoints; raises where a single file cannot serve as anything."""
    if path.is_file():
        facts = facts_of(path)
        if facts.kind == "broken":
            raise BrokenCheckpoint(facts.problem, file=str(path))
        if facts.kind == "adapter":
            raise InvalidRequest(f"`{path}` is a LoRA, not a checkpoint. Put it into the folder of adapters.")
        if facts.kind == "part":
            yield path
        return
    for root in _roots(path):
        loose = set(loose_files(root))
        for file in parts_in(root, (*TEXT_FOLDERS, *VAE_FOLDERS)):
            if file not in loose or facts_of(file).kind == "part":
                yield file


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
