"""Find checkpoints on the disk; never over a network.

A checkpoint is a diffusers folder, ComfyUI's split files, or one file that holds all parts, as safetensors or GGUF. It
is recognised by its tensors, never by its name. Its parts are looked for beside it first, then in every other folder
that is known. Invariant: headers alone are read, and torch is not needed for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limner.engine.checkpoint_files import WHOLE_PREFIX, CheckpointEntry, CheckpointFiles, Elsewhere, Given, Layout
from limner.engine.checkpoint_index import CheckpointIndex
from limner.engine.checkpoint_judge import require_family, require_plain_numbers
from limner.engine.shelves import Shelves
from limner.engine.tensor_files import file_sha256, files_sha256
from limner.errors import LimnerError

__all__ = [
    "WHOLE_PREFIX",
    "CheckpointEntry",
    "CheckpointFiles",
    "Elsewhere",
    "Given",
    "Layout",
    "duplicates",
    "family_of",
    "find_checkpoint",
    "list_checkpoints",
    "require_family",
    "require_plain_numbers",
    "unhashed_bytes",
]


def find_checkpoint(
    name_or_path: str,
    models_dir: Path,
    builtin_dir: Path,
    given: Given | None = None,
    elsewhere: Elsewhere | None = None,
) -> CheckpointFiles:
    """The files of a checkpoint.

    Args:
        name_or_path: a name from `list_checkpoints`, a diffusers folder, or a denoiser's safetensors or GGUF file.
        models_dir: ComfyUI's kind of folder: diffusers folders, `diffusion_models/`, `text_encoders/`, `vae/`.
        builtin_dir: the folder that holds the built-in checkpoints.
        given: parts to use instead of those found beside it.
        elsewhere: further folders, and the index.

    Raises:
        NotFound: there is nothing of that name; the message lists the nearest ones.
        BrokenCheckpoint: a part is missing; the message says which and where it belongs.
        Unsupported: it belongs to an architecture that this version does not paint.
    """
    shelves = Shelves(models_dir, builtin_dir, elsewhere)
    return shelves.files(shelves.find(name_or_path), given or Given())


def list_checkpoints(
    models_dir: Path, builtin_dir: Path, given: Given | None = None, elsewhere: Elsewhere | None = None
) -> list[CheckpointEntry]:
    """Every checkpoint that is known, the built-in ones first; broken ones with their problem."""
    return Shelves(models_dir, builtin_dir, elsewhere).entries(given or Given())


def family_of(name_or_path: str, models_dir: Path, builtin_dir: Path, elsewhere: Elsewhere | None = None) -> str | None:
    """The family of a checkpoint, as `recognise` calls it; None where there is none of that name or it is unknown.

    Cheap: of an unchanged file the answer is remembered, of any other the header is read.
    """
    shelves = Shelves(models_dir, builtin_dir, elsewhere)
    try:
        return shelves.facts(shelves.find(name_or_path).path).family or None
    except LimnerError:
        return None
    finally:
        shelves.save()


def unhashed_bytes(entries: Sequence[CheckpointEntry], index: CheckpointIndex | None = None) -> int:
    """How much `duplicates` would have to read of these."""
    files = [file for group in _of_one_size(entries) for entry in group for file in entry.weights]
    return sum(file.stat().st_size for file in files if index is None or not index.known_sha256(file))


def duplicates(entries: Sequence[CheckpointEntry], index: CheckpointIndex | None = None) -> dict[str, list[str]]:
    """Names of checkpoints to those with the very same denoiser. Files are hashed only where their sizes agree."""
    same: dict[str, list[str]] = {}
    for group in _of_one_size(entries):
        by_hash: dict[str, list[str]] = {}
        for entry in group:
            hashed = files_sha256(entry.weights, index.sha256 if index else file_sha256)
            by_hash.setdefault(hashed, []).append(entry.name)
        for names in by_hash.values():
            same |= {name: [other for other in names if other != name] for name in names if len(names) > 1}
    if index is not None:
        index.save()
    return same


def _of_one_size(entries: Sequence[CheckpointEntry]) -> list[list[CheckpointEntry]]:
    by_size: dict[tuple[int, ...], list[CheckpointEntry]] = {}
    for entry in entries:
        if entry.weights:
            by_size.setdefault(tuple(file.stat().st_size for file in entry.weights), []).append(entry)
    return [group for group in by_size.values() if len(group) > 1]
