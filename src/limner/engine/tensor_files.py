"""Read tensors from safetensors files, and refuse everything else with a reason.

This module knows files, headers and hashes; it knows no architecture, never touches the network, and needs torch only
to load. Headers are read
and checked before any weight is, so that a truncated or foreign file is named at once. Invariant: nothing here ever
unpickles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from limner.errors import BrokenCheckpoint, Unsupported

if TYPE_CHECKING:
    import torch
    from torch import Tensor

INDEX_SUFFIX = ".safetensors.index.json"
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
MAX_HEADER_BYTES = 100_000_000
_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_BYTES = {**_FLOAT_BYTES, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
_AS_SAFETENSORS = (
    "Unpickling can run any program, so limner reads safetensors only. "
    "Fetch the safetensors version of this file, or convert it with a tool that you trust."
)


@dataclass(frozen=True)
class TensorFacts:
    """What a header says of one tensor: its shape, its dtype in safetensors' spelling (`BF16`), its place."""

    shape: tuple[int, ...]
    dtype: str
    file: Path
    stored: str


@dataclass(frozen=True, eq=False)
class TensorSource:
    """The tensors of one safetensors file or of several shards; nothing is read until `load`.

    Names may be shorter than those stored, see `under`.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorFacts]
    metadata: Mapping[str, str]

    @property
    def size_bytes(self) -> int:
        """The size of all files on disk."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape."""
        return {name: facts.shape for name, facts in self.tensors.items()}

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(_count(facts.shape) for facts in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The dtype in which most numbers are stored, in safetensors' spelling."""
        held: dict[str, int] = {}
        for facts in self.tensors.values():
            held[facts.dtype] = held.get(facts.dtype, 0) + _count(facts.shape)
        return max(held, key=lambda name: held[name], default="F32")

    def under(self, *prefixes: str) -> TensorSource:
        """The tensors below the first prefix that any name has, called by the rest of their names; all, if none has."""
        for prefix in prefixes:
            inside = {n.removeprefix(prefix): facts for n, facts in self.tensors.items() if n.startswith(prefix)}
            if inside:
                return replace(self, tensors=inside)
        return self

    def load(
        self,
        names: Iterable[str] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> dict[str, Tensor]:
        """The tensors called `names` (all when absent), floating ones in `dtype`.

        A tensor whose dtype and device need no change stays memory-mapped: it costs no memory until it is used.

        Raises:
            BrokenCheckpoint: a file changed or vanished since its header was read.
        """
        from safetensors import SafetensorError, safe_open

        wanted: dict[Path, list[str]] = {}
        for name in self.tensors if names is None else names:
            wanted.setdefault(self.tensors[name].file, []).append(name)
        loaded: dict[str, Tensor] = {}
        for file, inside in wanted.items():
            try:
                with cast(Any, safe_open(str(file), framework="pt", device="cpu")) as opened:
                    for name in inside:
                        tensor = cast("Tensor", opened.get_tensor(self.tensors[name].stored))
                        loaded[name] = tensor.to(device, dtype if tensor.is_floating_point() else None)
            except (SafetensorError, OSError) as error:
                raise BrokenCheckpoint(f"`{file}` cannot be read: {error}. Fetch it again.", file=str(file)) from error
        return loaded


def open_tensors(path: Path) -> TensorSource:
    """The tensors at `path`: a safetensors file, an index of shards, or a folder that holds one of these.

    Raises:
        BrokenCheckpoint: the file is missing, truncated, foreign or pickled, or a shard is missing.
        Unsupported: a format that limner understands but does not read, such as GGUF.
    """
    if path.is_dir():
        path = _weights_in(path)
    if path.name.endswith(".index.json"):
        return _open_shards(path)
    tensors, metadata = _read_header(path)
    return TensorSource(path, (path,), tensors, metadata)


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal, remembered as long as its size and time of change stay the same."""
    stat = path.stat()
    return _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


def files_sha256(files: Iterable[Path]) -> str:
    """One SHA-256 for several files: that of the only file, or of the hashes of all in their order."""
    hashes = [file_sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few names for a message: "`a`, `b`, `c` and 9 more"."""
    known = list(names)
    shown = ", ".join(f"`{name}`" for name in known[:limit])
    return shown if len(known) <= limit else f"{shown} and {len(known) - limit} more"


def _count(shape: tuple[int, ...]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def _weights_in(folder: Path) -> Path:
    indexes = sorted(folder.glob("*" + INDEX_SUFFIX))
    files = sorted(folder.glob("*.safetensors"))
    # Beside the plain file there may be variants (`model.fp16.safetensors`); the shortest name is the plain one.
    for found in (indexes, files):
        if found:
            return min(found, key=lambda file: len(file.name))
    if pickles := sorted(file.name for file in folder.iterdir() if file.suffix in PICKLE_SUFFIXES):
        raise BrokenCheckpoint(
            f"`{folder}` holds its weights as pickles ({some(pickles)}). {_AS_SAFETENSORS}", file=str(folder)
        )
    raise BrokenCheckpoint(
        f"`{folder}` holds no weights. Expected a .safetensors file, or shards with an index.", file=str(folder)
    )


def _open_shards(index: Path) -> TensorSource:
    try:
        content: Any = json.loads(index.read_text("utf-8"))
        places: dict[str, str] = {str(k): str(v) for k, v in content["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenCheckpoint(
            f"`{index}` is not an index of shards: {error}. Fetch it again.", file=str(index)
        ) from error
    # An index may name files of its own folder only, so that it cannot point anywhere else on the disk.
    if foreign := sorted({shard for shard in places.values() if Path(shard).name != shard}):
        raise BrokenCheckpoint(f"`{index}` points outside its folder ({some(foreign)}).", file=str(index))
    files = [index.parent / shard for shard in dict.fromkeys(places.values())]
    if missing := [file.name for file in files if not file.is_file()]:
        raise BrokenCheckpoint(
            f"`{index.parent}` lacks {len(missing)} of {len(files)} shards: {some(missing)}. Fetch them again.",
            file=str(index),
            missing=missing,
        )
    tensors: dict[str, TensorFacts] = {}
    metadata: dict[str, str] = {}
    for file in files:
        inside, notes = _read_header(file)
        tensors.update(inside)
        metadata.update(notes)
    if absent := [name for name in places if name not in tensors]:
        raise BrokenCheckpoint(
            f"`{index.parent}` lacks {len(absent)} of {len(places)} tensors that its index promises: {some(absent)}. "
            "Fetch the shards again.",
            file=str(index),
            missing=absent,
        )
    return TensorSource(index, tuple(files), tensors, metadata)


def _read_header(path: Path) -> tuple[dict[str, TensorFacts], dict[str, str]]:
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(64)
            _refuse_foreign(path, start)
            length = int.from_bytes(start[:8], "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise _broken(path, f"its header should be {length} bytes long, but the file has {size}")
            stream.seek(8)
            raw = stream.read(length)
    except FileNotFoundError as error:
        raise BrokenCheckpoint(f"There is no file `{path}`. Check the path.", file=str(path)) from error
    except OSError as error:
        raise BrokenCheckpoint(f"`{path}` cannot be read: {error}. Check its permissions.", file=str(path)) from error
    try:
        header: Any = json.loads(raw)
        notes = {str(k): str(v) for k, v in header.pop("__metadata__", {}).items()}
        tensors = {
            str(name): (tuple(int(n) for n in facts["shape"]), str(facts["dtype"]), _extent(facts["data_offsets"]))
            for name, facts in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _broken(path, f"its header is not readable ({error})") from error
    _check_extent(path, tensors, size - 8 - length)
    return {name: TensorFacts(shape, dtype, path, name) for name, (shape, dtype, _) in tensors.items()}, notes


def _extent(offsets: Any) -> tuple[int, int]:
    begin, end = offsets
    return int(begin), int(end)


def _check_extent(path: Path, tensors: dict[str, tuple[tuple[int, ...], str, tuple[int, int]]], held: int) -> None:
    promised = max((offsets[1] for _, _, offsets in tensors.values()), default=0)
    if held < promised:
        late = [name for name, (_, _, offsets) in tensors.items() if offsets[1] > held]
        raise BrokenCheckpoint(
            f"`{path}` is truncated: it holds {held:,} of {promised:,} bytes of weights; {len(late)} of {len(tensors)} "
            f"tensors are incomplete: {some(late)}. Fetch it again.",
            file=str(path),
            missing=late,
        )
    for name, (shape, dtype, (begin, end)) in tensors.items():
        if min(shape, default=0) < 0 or begin < 0 or (dtype in _BYTES and end - begin != _count(shape) * _BYTES[dtype]):
            raise _broken(path, f"tensor `{name}` {shape} {dtype} does not fit its {end - begin} bytes")


def _refuse_foreign(path: Path, start: bytes) -> None:
    name, suffix = f"`{path}`", path.suffix.lower()
    if suffix == ".gguf" or start.startswith(b"GGUF"):
        message = f"{name} is GGUF, which this version does not read. Choose a safetensors file."
        raise Unsupported(message, file=str(path))
    # A safetensors header opens with a brace after its eight length bytes, which alone could look like anything.
    headed = start[8:9] == b"{"
    pickled = not headed and start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"
    if suffix in PICKLE_SUFFIXES or start.startswith(b"PK\x03\x04") or pickled:
        renamed = " (whatever its name says)" if suffix == ".safetensors" else ""
        raise BrokenCheckpoint(f"{name} is a pickle{renamed}. {_AS_SAFETENSORS}", file=str(path))
    if start.startswith(b"version https://git-lfs"):
        raise BrokenCheckpoint(f"{name} is a Git LFS pointer, not the weights. Run `git lfs pull`.", file=str(path))
    if not headed and start.lstrip()[:1] == b"<":
        raise BrokenCheckpoint(f"{name} is a web page, not weights. Fetch the file itself.", file=str(path))


def _broken(path: Path, why: str) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"`{path}` is not a sound safetensors file: {why}. It may be truncated or of another format. Fetch it again.",
        file=str(path),
    )
