"""Find the files behind adapter names, and the trigger words that they ask for.

Reads the head of a safetensors file and never its weights: whether an adapter fits a checkpoint is the backend's to
say.
"""

from __future__ import annotations

import difflib
import json
import struct
from collections import Counter
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

from limner.domain import AdapterRequest
from limner.errors import NotFound

SUFFIX = ".safetensors"
TRIGGER_KEYS = ("limner.trigger", "modelspec.trigger_phrase")

MOST_SUGGESTED = 12

_MAX_HEADER_BYTES = 100 * 2**20
_LONGEST_WORD = 60
_PACKED = ("adapter_model", "pytorch_lora_weights")


def shipped_adapters() -> Path:
    """The folder of the adapters that come with limner; absent in a build without weights."""
    with as_file(files("limner") / "weights" / "loras") as folder:
        return folder


def resolve_adapters(
    adapters: Sequence[AdapterRequest], folders: Sequence[Path]
) -> tuple[tuple[AdapterRequest, ...], tuple[str, ...]]:
    """The adapters with their trigger words filled in, and the file of each.

    A trigger that the request gives is kept, an empty one too. Without one, the words that the file itself names are
    used.

    Raises `NotFound` for a name that is in none of the folders and is no path either.
    """
    found = [find_adapter(adapter.name, folders) for adapter in adapters]
    complete = [
        adapter if "trigger" in adapter.model_fields_set else adapter.model_copy(update={"trigger": trigger_of(path)})
        for adapter, path in zip(adapters, found, strict=True)
    ]
    return tuple(complete), tuple(str(path) for path in found)


def find_adapter(name_or_path: str, folders: Sequence[Path]) -> Path:
    """The file that a request means: a path, or a name (with or without `.safetensors`) inside one of the folders.

    Raises `NotFound`, which tells the nearest names.
    """
    names = list_adapters(folders)
    if name_or_path in names:
        return names[name_or_path]
    path = Path(name_or_path).expanduser()
    # A file that is there goes before a known name with a suffix: `ink.safetensors` here is not the shipped `ink`.
    if path.exists():
        return path
    if (name := name_or_path.removesuffix(SUFFIX)) in names:
        return names[name]
    near = difflib.get_close_matches(name_or_path, names, n=3, cutoff=0.4) or sorted(names)[:10]
    known = f"Known: {', '.join(near)}." if near else "None are known yet."
    place = f" Put the file into {folders[0]} or give its path." if folders else " Give its path."
    raise NotFound(f"There is no adapter `{name_or_path}`. {known}{place}", name=name_or_path, near=near)


def list_adapters(folders: Sequence[Path]) -> dict[str, Path]:
    """Name to file of every adapter in the folders and below them.

    The first folder that has a name wins; the others' files are called after the folder above theirs as well.
    """
    names: dict[str, Path] = {}
    for folder in folders:
        for file in sorted(folder.rglob(f"*{SUFFIX}")) if folder.is_dir() else ():
            plain = file.parent if file.stem in _PACKED and file.parent != folder else file.with_suffix("")
            name = plain.relative_to(folder).as_posix()
            if names.setdefault(name, file) != file:
                names.setdefault(f"{folder.parent.name}/{name}", file)
    return names


def trigger_of(path: Path) -> str:
    """The trigger words in the file's metadata; empty where there are none or the file is of another kind."""
    metadata = _metadata(path)
    plain = (_plain(metadata.get(key)) for key in TRIGGER_KEYS)
    return next((word for word in plain if word), "")


def suggested_words(path: Path) -> tuple[str, ...]:
    """What the adapter's training pictures were described with, most frequent first, at most `MOST_SUGGESTED`.

    Comes from what kohya's trainer writes: its count of tags (`ss_tag_frequency`), or the words in the names of the
    folders (`10_ink style`) where the pictures had no tags. Words that are of interest, not words that are needed: they
    are offered to people, never put into a prompt. The trigger words are not repeated. The file's name at training
    (`ss_output_name`) is none of these, since nothing was taught by it.
    """
    metadata = _metadata(path)
    counts: Counter[str] = Counter()
    for tags in _mapping(metadata.get("ss_tag_frequency")).values():
        for tag, count in _mapping(tags).items():
            if isinstance(count, int) and count > 0 and 0 < len(word := _plain(tag)) <= _LONGEST_WORD:
                counts[word] += count
    if not counts:
        folders = _mapping(metadata.get("ss_dataset_dirs"))
        counts.update(word for folder in folders if 0 < len(word := _named_words(folder)) <= _LONGEST_WORD)
    known = {word.strip().casefold() for word in trigger_of(path).split(",")}
    return tuple(word for word, _ in counts.most_common() if word.casefold() not in known)[:MOST_SUGGESTED]


def _metadata(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_MAX_HEADER_BYTES, path.stat().st_size):
                return {}
            header: object = json.loads(file.read(length))
    except (OSError, struct.error, ValueError, RecursionError):
        return {}
    return _mapping(_mapping(header).get("__metadata__"))


def _mapping(value: object) -> dict[str, Any]:
    # Inside the metadata everything is text, JSON too.
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _plain(value: object) -> str:
    return "".join(c for c in value if c.isprintable()).strip() if isinstance(value, str) else ""


def _named_words(folder: str) -> str:
    repeats, _, words = _plain(folder).partition("_")
    return words.strip() if repeats.isdigit() else ""
