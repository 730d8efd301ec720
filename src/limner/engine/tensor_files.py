"""Read tensors from safetensors and GGUF files, and refuse everything else with a reason.

This module knows files, headers and hashes; it knows no architecture, never touches the network, and needs torch only
to load. Headers are read and checked before any weight is, so that a truncated or foreign file is named at once.
Quantised weights come out as the numbers that they stand for. Invariant: nothing here ever unpickles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from limner.engine import gguf_files
from limner.engine.gguf_files import GgufTensor, count_of
from limner.engine.scaled_fp8 import BY_BLOCKS, FP8, find_scales, unscaled
from limner.errors import BrokenCheckpoint

if TYPE_CHECKING:
    import torch
    from torch import Tensor

INDEX_PATTERN = "*.safetensors.index*.json"
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
MAX_HEADER_BYTES = 100_000_000
PLAIN = ("F64", "F32", "F16", "BF16")
"""Dtypes that need no more than a cast."""

READABLE = frozenset((*PLAIN, *FP8, *gguf_files.QUANTISED))
"""Dtypes in which weights can be read."""

_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
_BYTES = {**_FLOAT_BYTES, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
_AS_SAFETENSORS = (
    "Unpickling can run any program, so limner reads safetensors and GGUF only. "
    "Fetch the safetensors version of this file, or convert it with a tool that you trust."
)


@dataclass(frozen=True)
class TensorFacts:
    """What a header says of one tensor: its shape, its dtype in safetensors' or GGUF's spelling (`BF16`, `Q4_K`), its
    place; `scale` is the file and the name of what it has to be multiplied by."""

    shape: tuple[int, ...]
    dtype: str
    file: Path
    stored: str
    scale: tuple[Path, str] | None = None
    gguf: GgufTensor | None = None


@dataclass(frozen=True, eq=False)
class TensorSource:
    """The tensors of one safetensors or GGUF file or of several shards; nothing is read until `load`.

    Names may be shorter than those stored, see `under`; those of a GGUF text encoder are transformers' already.
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
        return sum(count_of(facts.shape) for facts in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The dtype in which most numbers are stored, in safetensors' or GGUF's spelling."""
        held: dict[str, int] = {}
        for facts in self.tensors.values():
            held[facts.dtype] = held.get(facts.dtype, 0) + count_of(facts.shape)
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
        Quantised and scaled ones come in float32 where `dtype` is absent.

        Raises:
            BrokenCheckpoint: a file changed or vanished since its header was read.
            Unsupported: the file is GGUF and the package for it is not installed.
        """
        wanted: dict[Path, dict[str, TensorFacts]] = {}
        for name in self.tensors if names is None else names:
            facts = self.tensors[name]
            wanted.setdefault(facts.file, {})[name] = facts
        loaded: dict[str, Tensor] = {}
        for file, inside in wanted.items():
            places = {name: facts.gguf for name, facts in inside.items() if facts.gguf is not None}
            if places:
                loaded |= gguf_files.load_gguf(file, places, dtype, device)
            else:
                loaded |= _load_safetensors(file, inside, dtype, device)
        return loaded


def _load_safetensors(
    file: Path, wanted: Mapping[str, TensorFacts], dtype: torch.dtype | None, device: torch.device | str
) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    loaded: dict[str, Tensor] = {}
    try:
        with cast(Any, safe_open(str(file), framework="pt", device="cpu")) as opened:
            for name, facts in wanted.items():
                tensor = cast("Tensor", opened.get_tensor(facts.stored))
                if facts.scale is not None:
                    tensor = unscaled(tensor, _scale(opened, file, facts.scale), dtype)
                loaded[name] = tensor.to(device, dtype if tensor.is_floating_point() else None)
    except (SafetensorError, OSError) as error:
        raise BrokenCheckpoint(f"`{file}` cannot be read: {error}. Fetch it again.", file=str(file)) from error
    return loaded


def _scale(opened: Any, file: Path, place: tuple[Path, str]) -> Tensor:
    from safetensors import safe_open

    if place[0] == file:
        return opened.get_tensor(place[1])
    with cast(Any, safe_open(str(place[0]), framework="pt", device="cpu")) as other:
        return other.get_tensor(place[1])


def open_tensors(path: Path) -> TensorSource:
    """The tensors at `path`: a safetensors or GGUF file, an index of shards, or a folder that holds one of these.

    Raises:
        BrokenCheckpoint: the file is missing, truncated, foreign or pickled, or a shard is missing.
        Unsupported: a GGUF file of a version or with numbers that are not read.
    """
    path = weights_file(path)
    if path.name.endswith(".json"):
        return _open_shards(path)
    tensors, metadata = read_header(path)
    return TensorSource(path, (path,), _with_scales(tensors), metadata)


def weights_file(path: Path) -> Path:
    """The file (or index of shards) that `open_tensors` reads at `path`, which may be a folder; raises likewise."""
    return _weights_in(path) if path.is_dir() else path


def quantisation(tensors: Mapping[str, TensorFacts]) -> str:
    """What makes weights unreadable, in words that name the dtypes and the first tensors; empty when all can be read.

    Integers that are no weights, such as positions, are no hindrance.
    """
    names = " ".join(tensors)
    unread = {
        name: facts
        for name, facts in tensors.items()
        if facts.dtype not in READABLE and facts.dtype not in _COUNTS and len(facts.shape) > 1
    }
    # bitsandbytes flattens what it packs, so that four-bit weights may look like columns.
    packed = ".quant_state.bitsandbytes" in names
    if not unread and not packed:
        return ""
    kinds = sorted({facts.dtype for facts in unread.values()})
    how = "bitsandbytes NF4 or FP4" if packed else "bitsandbytes int8" if ".SCB" in names else ", ".join(kinds)
    return f"{how}: {some(unread)}" if unread else how


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal, remembered as long as its size and time of change stay the same."""
    stat = path.stat()
    return _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


def files_sha256(files: Iterable[Path], hash_of: Callable[[Path], str] = file_sha256) -> str:
    """One SHA-256 for several files: that of the only file, or of the hashes of all in their order.

    `hash_of` answers that of one file.
    """
    hashes = [hash_of(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


_COUNTS = ("I64", "I32", "I16", "U64", "U32", "U16", "BOOL")


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few names for a message: "`a`, `b`, `c` and 9 more"."""
    known = list(names)
    shown = ", ".join(f"`{name}`" for name in known[:limit])
    return shown if len(known) <= limit else f"{shown} and {len(known) - limit} more"


def _weights_in(folder: Path) -> Path:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise BrokenCheckpoint(
            f"`{folder}` cannot be read: {error}. Check its permissions.", file=str(folder)
        ) from error
    indexes = sorted(folder.glob(INDEX_PATTERN))
    files = sorted(folder.glob("*.safetensors"))
    # Beside the plain file there may be variants (`model.fp16.safetensors`); the shortest name is the plain one.
    for found in (indexes, files, sorted(folder.glob("*.gguf"))):
        if found:
            return min(found, key=lambda file: len(file.name))
    if pickles := [file.name for file in inside if file.suffix in PICKLE_SUFFIXES]:
        raise BrokenCheckpoint(
            f"`{folder}` holds its weights as pickles ({some(pickles)}). {_AS_SAFETENSORS}", file=str(folder)
        )
    raise BrokenCheckpoint(
        f"`{folder}` holds no weights. Expected a .safetensors or .gguf file, or shards with an index.",
        file=str(folder),
    )


def _open_shards(index: Path) -> TensorSource:
    try:
        content: Any = json.loads(index.read_text("utf-8"))
        places: dict[str, str] = {str(k): str(v) for k, v in content["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
        inside, notes = read_header(file)
        tensors.update(inside)
        metadata.update(notes)
    if absent := [name for name in places if name not in tensors]:
        raise BrokenCheckpoint(
            f"`{index.parent}` lacks {len(absent)} of {len(places)} tensors that its index promises: {some(absent)}. "
            "Fetch the shards again.",
            file=str(index),
            missing=absent,
        )
    return TensorSource(index, tuple(files), _with_scales(tensors), metadata)


def read_header(path: Path) -> tuple[dict[str, TensorFacts], dict[str, str]]:
    """The tensors and the notes of one file, scales among them; raises as `open_tensors`."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(64)
            if not size:
                raise BrokenCheckpoint(f"`{path}` is empty. Fetch it again.", file=str(path))
            if gguf_files.is_gguf(start):
                return _read_gguf(path)
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


def _read_gguf(path: Path) -> tuple[dict[str, TensorFacts], dict[str, str]]:
    places, metadata = gguf_files.read_gguf(path)
    names = gguf_files.network_names(path, places, metadata)
    return {
        new: TensorFacts(places[name].shape, places[name].dtype, path, name, gguf=places[name])
        for name, new in names.items()
    }, metadata


def _with_scales(tensors: dict[str, TensorFacts]) -> dict[str, TensorFacts]:
    """Hide the scales of 8-bit weights, and give every weight its own."""
    found = find_scales({name: (facts.dtype, facts.shape) for name, facts in tensors.items()})
    if not found.hidden and not found.by_blocks:
        return tensors
    shown: dict[str, TensorFacts] = {}
    for name, facts in tensors.items():
        if name in found.by_blocks:
            facts = replace(facts, dtype=BY_BLOCKS)
        elif (scale := tensors.get(found.of.get(name, ""))) is not None:
            facts = replace(facts, scale=(scale.file, scale.stored))
        if name not in found.hidden:
            shown[name] = facts
    return shown


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
        if (
            min(shape, default=0) < 0
            or begin < 0
            or (dtype in _BYTES and end - begin != count_of(shape) * _BYTES[dtype])
        ):
            raise _broken(path, f"tensor `{name}` {shape} {dtype} does not fit its {end - begin} bytes")


def _refuse_foreign(path: Path, start: bytes) -> None:
    name, suffix = f"`{path}`", path.suffix.lower()
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
    if suffix == ".gguf":
        raise BrokenCheckpoint(f"{name} is not GGUF, whatever its name says. Fetch it again.", file=str(path))


def _broken(path: Path, why: str) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"`{path}` is not a sound safetensors file: {why}. It may be truncated or of another format. Fetch it again.",
        file=str(path),
    )
