"""Choose which files of a published repository are worth fetching.

Weights that limner reads, configurations and tokenizers; never pickles, never a second copy of the same weights in
another format or precision unless it is asked for. This module knows names and sizes, no network.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from limner.engine.tensor_files import some
from limner.errors import InvalidRequest, NotFound

WEIGHTS = (".safetensors", ".gguf")
BESIDE = (".json", ".txt", ".model", ".jinja")
UNUSED_FOLDERS = ("safety_checker", "assets", "onnx", "flax", "openvino")
# `model.fp16.safetensors`, `model.fp16-00001-of-00002.safetensors`, `model.safetensors.index.fp16.json`.
_HALF = re.compile(r"\.(fp16|bf16)(?=[-.])")
_SHARD = re.compile(r"-\d{5}-of-\d{5}(?=\.)")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository: its path there, its size, and its checksums as far as the hub names them."""

    name: str
    size_bytes: int
    sha256: str = ""
    blob_id: str = ""


def choose(
    repository: str, there: Sequence[RemoteFile], files: Sequence[str] = (), include: Sequence[str] = ()
) -> tuple[tuple[RemoteFile, ...], tuple[tuple[str, str], ...]]:
    """The files to fetch, and the weights that are left out with the reason.

    Args:
        repository: for messages.
        there: everything in it.
        files: only these, each of which must be there.
        include: only what matches one of these patterns.

    Raises:
        NotFound: a file is not there, or nothing matches; the message lists the nearest.
        InvalidRequest: a pickle is asked for, or several GGUF files are there and none is chosen.
    """
    by_name = {file.name: file for file in there if _is_safe(file.name)}
    if files:
        for name in files:
            if name not in by_name:
                near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.3) or _weights(by_name)
                raise NotFound(f"`{repository}` has no file `{name}`. Near: {some(near)}.", name=name, near=near[:3])
        for name in files:
            if not _is_readable(name):
                raise InvalidRequest(f"`{name}` is neither safetensors nor GGUF nor text. {_ASK_FOR}")
        return tuple(by_name[name] for name in dict.fromkeys(files)), ()
    readable = {name: file for name, file in by_name.items() if _is_readable(name)}
    if include:
        chosen = [file for name, file in readable.items() if matches(name, include)]
        if not chosen:
            raise NotFound(
                f"Nothing in `{repository}` that limner reads matches {some(include)}. "
                f"There are {some(_weights(by_name) or list(by_name), 8)}."
            )
        return tuple(chosen), ()
    if not _weights(by_name):
        pickled = [name for name in by_name if PurePosixPath(name).suffix in (".bin", ".ckpt", ".pt", ".pth")]
        why = f"its weights are pickles ({some(pickled)})" if pickled else "it has no safetensors or GGUF files"
        raise InvalidRequest(f"`{repository}` cannot be used: {why}. {_ASK_FOR}")
    left_out = dict(_left_out(repository, readable))
    kept = tuple(file for name, file in readable.items() if name not in left_out)
    return kept, tuple((name, why) for name, why in left_out.items() if name.endswith(WEIGHTS))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file's path, or its last part, matches one of the patterns."""
    return any(fnmatch.fnmatch(name, p) or fnmatch.fnmatch(PurePosixPath(name).name, p) for p in patterns)


_ASK_FOR = "Choose a repository with safetensors or GGUF files."


def _left_out(repository: str, readable: dict[str, RemoteFile]) -> list[tuple[str, str]]:
    left: list[tuple[str, str]] = []
    whole = "model_index.json" in readable
    halves: dict[str, set[str]] = {}
    for name in _weights(readable):
        if half := _HALF.search(name):
            halves.setdefault(_plain(name), set()).add(half[1])
    for name in readable:
        path = PurePosixPath(name)
        if path.parts[0] in UNUSED_FOLDERS:
            left.append((name, "no part that limner uses"))
        elif whole and len(path.parts) == 1 and name.endswith(WEIGHTS):
            left.append((name, "the same weights as in the folders"))
        elif there := halves.get(_plain(name)):
            half = _HALF.search(name)
            if half is None:
                left.append((name, "the half-precision file holds the same weights"))
            elif half[1] == "bf16" and "fp16" in there:  # which rounds every weight more coarsely
                left.append((name, "the fp16 file holds the same weights"))
    quantised = [name for name in readable if name.endswith(".gguf")]
    if len(quantised) > 1:
        listed = ", ".join(f"`{name}` ({readable[name].size_bytes / 2**30:.1f} GB)" for name in quantised)
        raise InvalidRequest(
            f"`{repository}` has {len(quantised)} GGUF files: {listed}. Choose one with --file.", files=quantised
        )
    return left


def _plain(name: str) -> str:
    """What weights, or an index of their shards, would be called in one file of full precision."""
    return _HALF.sub("", _SHARD.sub("", name)).replace(".safetensors.index.json", ".safetensors")


def _weights(names: dict[str, RemoteFile]) -> list[str]:
    return [name for name in names if name.endswith(WEIGHTS)]


def _is_readable(name: str) -> bool:
    return name.endswith(WEIGHTS) or (name.endswith(BESIDE) and not PurePosixPath(name).name.startswith("."))


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and not path.parts[0].startswith(".")
