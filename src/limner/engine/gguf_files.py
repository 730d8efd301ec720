"""Read GGUF files: the header without any library, the weights by the formulas of the `gguf` package.

Denoisers are stored under the names of their original code. Text encoders come from llama.cpp, which has names of its
own; they are given those of transformers here. This module knows the format's layout (version 2 and 3, little-endian),
no networks. Invariant: a header is checked against the file's length before anything is loaded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from limner.errors import BrokenCheckpoint, Unsupported

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAGIC = b"GGUF"
PLAIN = {"F32": (0, 4), "F16": (1, 2), "BF16": (30, 2), "F64": (28, 8)}
INTEGERS = {"I8": (24, 1), "I16": (25, 2), "I32": (26, 4), "I64": (27, 8)}
# Number of the type, weights in a block, bytes of a block.
QUANTISED = {
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "Q2_K": (10, 256, 84),
    "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "IQ2_XXS": (16, 256, 66),
    "IQ2_XS": (17, 256, 74),
    "IQ3_XXS": (18, 256, 98),
    "IQ1_S": (19, 256, 50),
    "IQ4_NL": (20, 32, 18),
    "IQ3_S": (21, 256, 110),
    "IQ2_S": (22, 256, 82),
    "IQ4_XS": (23, 256, 136),
    "IQ1_M": (29, 256, 56),
    "TQ1_0": (34, 256, 54),
    "TQ2_0": (35, 256, 66),
    "MXFP4": (39, 32, 17),
}
TYPES: Mapping[int, tuple[str, int, int]] = {
    **{number: (name, 1, size) for name, (number, size) in (PLAIN | INTEGERS).items()},
    **{number: (name, block, size) for name, (number, block, size) in QUANTISED.items()},
}
_ROW_WEIGHTS = 8192
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_TENSORS, _MOST_DIMENSIONS, _LONGEST_NAME, _LONGEST_TEXT = 100_000, 8, 1024, 16 * 2**20

# llama.cpp's names, the longest first where one begins another.
_QWEN3 = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_T5 = {
    "token_embd": "shared",
    "output_norm": "final_layer_norm",
    "attn_norm": "layer.0.layer_norm",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "ffn_norm": "layer.1.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
}


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of a file: its shape as torch has it, the name of its type (`Q4_K`), and where its bytes lie."""

    shape: tuple[int, ...]
    dtype: str
    begin: int
    size_bytes: int


class _Short(Exception):
    """The file ends within its header."""


def count_of(shape: tuple[int, ...]) -> int:
    """How many numbers a tensor of this shape holds."""
    product = 1
    for side in shape:
        product *= side
    return product


def is_gguf(start: bytes) -> bool:
    """Whether a file that begins like this is GGUF."""
    return start.startswith(MAGIC)


def read_gguf(path: Path) -> tuple[dict[str, GgufTensor], dict[str, str]]:
    """The tensors of a file by their stored names, and its single values as text.

    Raises:
        BrokenCheckpoint: the file is truncated or makes no sense.
        Unsupported: another version or byte order, or a type of numbers that is not known.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.read(len(MAGIC))
        try:
            version = _number(stream, "I")
            if version not in (2, 3):
                raise Unsupported(
                    f"`{path}` is GGUF of version {version if version < 1000 else 'big-endian'}; limner reads "
                    "versions 2 and 3. Convert it anew, or choose a safetensors file.",
                    file=str(path),
                )
            count, values = _number(stream, "Q"), _number(stream, "Q")
            if count > _MOST_TENSORS or values > _MOST_TENSORS:
                raise _senseless(path, f"it claims {count} tensors and {values} values")
            metadata, shapes = _read_values(stream, values, size)
            entries = [_read_entry(stream) for _ in range(count)]
            alignment = int(metadata.get("general.alignment", "32"))
        except (_Short, struct.error) as error:
            raise BrokenCheckpoint(
                f"`{path}` is truncated: its {size:,} bytes end within the header. Fetch it again.", file=str(path)
            ) from error
        except (ValueError, KeyError, OverflowError) as error:
            raise _senseless(path, str(error)) from error
        start = stream.tell()
    if alignment < 1 or alignment & (alignment - 1):
        raise _senseless(path, f"its alignment is {alignment}")
    start += -start % alignment
    tensors = {name: _place(path, name, shape, kind, start + offset) for name, shape, kind, offset in entries}
    _check_length(path, tensors, size, start)
    for name, shape in shapes.items():
        # Convolutions may be stored as rows of 256 numbers, since blocks do not fit their own rows.
        if (stored := tensors.get(name)) is not None:
            if count_of(shape) != count_of(stored.shape):
                raise _senseless(path, f"tensor `{name}` {stored.shape} is said to be {shape}")
            tensors[name] = GgufTensor(shape, stored.dtype, stored.begin, stored.size_bytes)
    return tensors, metadata


def network_names(path: Path, names: Iterable[str], metadata: Mapping[str, str]) -> dict[str, str]:
    """The name under which a network knows each stored tensor; tensors that none has are left out.

    Raises:
        Unsupported: a language model whose rows llama.cpp stores in another order.
    """
    known = list(names)
    if any(name.startswith("enc.blk.") for name in known):
        return {name: new for name in known if (new := _renamed(name, _T5, "encoder.block.", "encoder.")) is not None}
    if not any(name.startswith("blk.") for name in known):
        return {name: name for name in known}
    if metadata.get("general.architecture") == "llama":
        raise Unsupported(
            f"`{path}` is a language model of the llama kind, which no checkpoint of limner reads. "
            "Choose the text encoder that the checkpoint was published with.",
            file=str(path),
        )
    return {name: new for name in known if (new := _renamed(name, _QWEN3, "model.layers.", "model.")) is not None}


def load_gguf(
    path: Path, wanted: Mapping[str, GgufTensor], dtype: torch.dtype | None, device: torch.device | str
) -> dict[str, Tensor]:
    """The tensors of one file as floating numbers in `dtype`; quantised ones in float32 when that is absent.

    Raises:
        BrokenCheckpoint: the file changed since its header was read.
        Unsupported: the package `gguf` is not installed.
    """
    import numpy as np
    import torch

    from_numpy: Callable[[Any], Tensor] = cast(Any, torch).from_numpy
    loaded: dict[str, Tensor] = {}
    try:
        for name, place in wanted.items():
            raw = np.fromfile(path, np.uint8, place.size_bytes, offset=place.begin)
            if raw.size != place.size_bytes:
                raise BrokenCheckpoint(
                    f"`{path}` ended early while it was read. Fetch it again.", file=str(path), tensor=name
                )
            if place.dtype in QUANTISED:
                tensor = from_numpy(_numbers(path, raw, place.dtype))
            else:
                tensor = from_numpy(raw).view(getattr(torch, _TORCH[place.dtype]))
            tensor = tensor.reshape(place.shape)
            loaded[name] = tensor.to(device, dtype if tensor.is_floating_point() else None)
    except OSError as error:
        raise BrokenCheckpoint(f"`{path}` cannot be read: {error}. Fetch it again.", file=str(path)) from error
    return loaded


def _numbers(path: Path, raw: Any, dtype: str) -> Any:
    """What quantised bytes stand for: a float32 array of one dimension."""
    import numpy as np

    try:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize
    except ModuleNotFoundError as error:
        raise Unsupported(
            f"`{path}` is GGUF, and the package `gguf` is not installed. Install it with: pip install 'limner[native]'",
            file=str(path),
        ) from error
    number, block, size = QUANTISED[dtype]
    # The package works through a few rows at a time: short rows cost ten times as long, very long ones leave the cache.
    width = max(1, _ROW_WEIGHTS // block) * size
    even = raw.size - raw.size % width
    rows = [
        part.reshape(-1, length) for part, length in ((raw[:even], width), (raw[even:], raw.size - even)) if part.size
    ]
    decoded: list[Any] = [cast(Any, dequantize)(part, GGMLQuantizationType(number)).reshape(-1) for part in rows]
    return decoded[0] if len(decoded) == 1 else np.concatenate(decoded)


_TORCH = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F64": "float64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
}


def _renamed(name: str, table: Mapping[str, str], layers: str, prefix: str) -> str | None:
    if match := re.match(r"(?:enc\.)?blk\.(\d+)\.(\w+)\.(weight|bias)$", name):
        inner = table.get(match[2])
        return None if inner is None else f"{layers}{match[1]}.{inner}.{match[3]}"
    stem, _, leaf = name.removeprefix("enc.").rpartition(".")
    if stem == "output":
        return f"lm_head.{leaf}"
    if stem == "token_embd" and table is _T5:
        return f"shared.{leaf}"
    return f"{prefix}{table[stem]}.{leaf}" if stem in table else None


def _read_values(stream: BinaryIO, count: int, size: int) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    single: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(count):
        key, kind = _text(stream, _LONGEST_NAME), _number(stream, "I")
        if kind == _ARRAY:
            of, length = _number(stream, "I"), _number(stream, "Q")
            if length > size:
                raise ValueError(f"an array of {length} numbers")
            if key.startswith(ORIGINAL_SHAPE) and of in _SCALARS and length <= _MOST_DIMENSIONS:
                numbers = tuple(int(_number(stream, _SCALARS[of])) for _ in range(length))
                shapes[key.removeprefix(ORIGINAL_SHAPE)] = numbers
            elif of == _STRING:
                for _ in range(length):  # of a tokenizer, which limner takes from elsewhere
                    stream.seek(_number(stream, "Q"), 1)
            elif of in _SCALARS:
                stream.seek(length * struct.calcsize("<" + _SCALARS[of]), 1)
            else:
                raise ValueError(f"an array of type {of}")
        elif kind == _STRING:
            single[key] = _text(stream, _LONGEST_TEXT)
        else:
            single[key] = str(_number(stream, _SCALARS[kind]))
    return single, shapes


def _read_entry(stream: BinaryIO) -> tuple[str, tuple[int, ...], int, int]:
    name, dimensions = _text(stream, _LONGEST_NAME), _number(stream, "I")
    if dimensions > _MOST_DIMENSIONS:
        raise ValueError(f"tensor `{name}` has {dimensions} dimensions")
    sides = [_number(stream, "Q") for _ in range(dimensions)]
    return name, tuple(reversed(sides)), _number(stream, "I"), _number(stream, "Q")


def _place(path: Path, name: str, shape: tuple[int, ...], kind: int, begin: int) -> GgufTensor:
    if kind not in TYPES:
        raise Unsupported(
            f"`{path}` holds tensors of GGUF type {kind} (`{name}`), which this version does not read. "
            "Choose a file in Q8_0, Q6_K, Q5_K_M or Q4_K_M, or a safetensors file.",
            file=str(path),
        )
    dtype, block, size = TYPES[kind]
    if shape and shape[-1] % block:
        raise _senseless(path, f"tensor `{name}` {shape} does not divide into blocks of {block}")
    return GgufTensor(shape, dtype, begin, count_of(shape) // block * size)


def _check_length(path: Path, tensors: Mapping[str, GgufTensor], size: int, start: int) -> None:
    late = [name for name, place in tensors.items() if place.begin + place.size_bytes > size]
    if late:
        promised = max(place.begin + place.size_bytes for place in tensors.values()) - start
        named = ", ".join(f"`{name}`" for name in late[:3])
        raise BrokenCheckpoint(
            f"`{path}` is truncated: it holds {max(size - start, 0):,} of {promised:,} bytes of weights; {len(late)} "
            f"of {len(tensors)} tensors are incomplete: {named}. Fetch it again.",
            file=str(path),
            missing=late,
        )


def _text(stream: BinaryIO, longest: int) -> str:
    length = _number(stream, "Q")
    if length > longest:
        raise ValueError(f"a text of {length} bytes")
    raw = stream.read(length)
    if len(raw) < length:
        raise _Short
    return raw.decode("utf-8")


def _number(stream: BinaryIO, kind: str) -> Any:
    width = struct.calcsize("<" + kind)
    raw = stream.read(width)
    if len(raw) < width:
        raise _Short
    return struct.unpack("<" + kind, raw)[0]


def _senseless(path: Path, why: str) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"`{path}` is not a sound GGUF file: {why}. It may be truncated or of another format. Fetch it again.",
        file=str(path),
    )
