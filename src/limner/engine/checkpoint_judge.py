"""Say of a file what it is: a denoiser of some family, a part of a checkpoint, an adapter, or nothing that can be used.

Only headers are read, and each of them once as long as the file stays the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from limner.engine.checkpoint_files import WHOLE_PREFIX
from limner.engine.checkpoint_index import stamp
from limner.engine.needs import FAMILIES, Need
from limner.engine.signatures import recognise, title
from limner.engine.tensor_files import PLAIN, TensorSource, open_tensors, quantisation, some
from limner.errors import BrokenCheckpoint, LimnerError, Unsupported

_LORA = re.compile(r"lora_|\.lora\.|hada_|lokr_|dora_scale|oft_blocks")
# An autoencoder alone: its blocks are called like those of some denoisers.
_AUTOENCODER = re.compile(r"(first_stage_model\.|vae\.)?(encoder|decoder|quant_conv|post_quant_conv|bn)\b")


@dataclass(frozen=True)
class Facts:
    """What the header of a file says; `kind` is `denoiser`, `adapter`, `part` of something else, or `broken`."""

    kind: str
    family: str = ""
    dtype: str = ""
    parameters: int = 0
    problem: str = ""


def facts_of(weights: Path) -> Facts:
    """What the header of a file (or of shards, by their index) says; never fails."""
    return _facts(str(weights), tuple(stamp(weights)))


_ANSWERS: dict[tuple[str, tuple[int, ...], str], bool | None] = {}
_MOST_ANSWERS = 20_000


def holds(file: Path, need: Need) -> bool | None:
    """Whether the file holds the part in plain numbers; None where it does not hold it. Asked once of a file."""
    key = (str(file), tuple(stamp(file)), need.what)
    if key not in _ANSWERS:
        if len(_ANSWERS) >= _MOST_ANSWERS:
            _ANSWERS.clear()
        try:
            source = open_tensors(file)
            _ANSWERS[key] = source.dtype in PLAIN if need.fits(source.shapes) else None
        except LimnerError:
            _ANSWERS[key] = None
    return _ANSWERS[key]


def require_family(source: TensorSource) -> str:
    """The family of a transformer's tensors.

    Raises:
        Unsupported: an architecture that this version knows but does not paint, or numbers that it does not read.
        BrokenCheckpoint: nothing that looks like a denoiser.
    """
    family = recognise(source.shapes)
    if family is None:
        raise BrokenCheckpoint(
            f"`{source.path}` is of no architecture that limner knows (its first tensors: {some(source.tensors)}). "
            f"Choose a {_painted()} checkpoint.",
            file=str(source.path),
        )
    if family not in FAMILIES:
        raise Unsupported(
            f"`{source.path}` is {title(family)}; this version paints {_painted()}. Choose a {_painted()} checkpoint.",
            file=str(source.path),
            family=family,
        )
    require_plain_numbers(source)
    return family


def require_plain_numbers(source: TensorSource) -> None:
    """Refuse weights that cannot be turned into plain numbers; GGUF and 8-bit floating ones can.

    Raises:
        Unsupported: the file holds integers or packed numbers with scales that are not read.
    """
    if how := quantisation(source.tensors):
        raise Unsupported(
            f"`{source.path}` holds quantised weights ({how}), which this version does not read. "
            "Choose the bf16, fp16, fp8 or GGUF file of the same checkpoint.",
            file=str(source.path),
        )


def _painted() -> str:
    return " and ".join(title(family) for family in FAMILIES)


@lru_cache(maxsize=4096)
def _facts(path: str, _: tuple[int, ...]) -> Facts:
    try:
        source = open_tensors(Path(path))
    except LimnerError as error:
        return Facts("broken", problem=error.message)
    names = source.tensors
    if any(_LORA.search(name) for name in names):
        kind = "adapter"
    elif all(_AUTOENCODER.match(name) for name in names) or recognise(source.shapes) is None:
        kind = "part"
    else:
        kind = "denoiser"
    family = recognise(source.shapes) if kind != "part" else None
    denoiser = source.under(WHOLE_PREFIX)
    return Facts(kind, family or "", denoiser.dtype, denoiser.parameters)
