"""Tell whether an adapter's tensors fit a layer, from their shapes alone, and make the change out of them.

A module of a file is known here as factors: short names (`down`, `hada_w1_a`, `lokr_w2`, `dora`) of its tensors,
whatever its layout calls them. Invariant: `fit` and `build` take the same decisions, so that what is judged from a
header is what happens at a load.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from limner.engine.deltas import Bias, Decomposed, Delta, Factors, Full, Hadamard, Kronecker, LowRank

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_LORA = {"down", "up", "mid"}
_LOHA = {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}
_BESIDE = {"alpha", "dora", "magnitude", "bias", "diff_b"}
"""What may lie beside the factors of any kind."""

EXACT = ("dora", "magnitude")
"""Factors that are kept in float32 whatever the others are."""


class Unfit(Exception):
    """A module cannot be used: `what` is wrong in words that fit many modules, `detail` tells of this one."""

    def __init__(self, what: str, detail: str = "") -> None:
        super().__init__(what, detail)
        self.what = what
        self.detail = detail


@dataclass(frozen=True)
class Fit:
    """How a module fits: its kind, its rank (None where nothing is a product), and what DoRA's norms run over."""

    kind: str
    rank: int | None
    by_rows: bool | None = None


def fit(shapes: Shapes, whole: Shape) -> Fit:
    """Whether factors of these shapes make a change of a weight of shape `whole`, (out, in[, kh, kw]).

    Raises:
        Unfit: factors are missing, contradict each other, or are of other sizes.
    """
    kind = _kind(shapes)
    rank = {"lora": _fit_lora, "loha": _fit_loha, "lokr": _fit_lokr, "full": _fit_full}[kind](shapes, whole)
    for name in ("bias", "diff_b"):
        if name in shapes and shapes[name] != whole[:1]:
            raise Unfit("of other sizes", f"(bias {_words(shapes[name])}, here {whole[0]})")
    return Fit(kind, rank, _norms(shapes, whole))


def build(found: Fit, tensors: Mapping[str, Tensor], scale: float, whole: Shape) -> tuple[Delta, ...]:
    """The changes that factors make, after `fit` has said that they do."""
    match found.kind:
        case "lora":
            delta: Delta | None = _build_lora(tensors, scale, whole)
        case "loha":
            one, two = (_factors(tensors, f"hada_w{i}", f"hada_t{i}") for i in "12")
            delta = Hadamard(one, two, scale, whole[1:])
        case "lokr":
            one, two = (_factors(tensors, f"lokr_w{i}", f"lokr_t{i}") for i in "12")
            delta = Kronecker(one, two, scale, whole[1:])
        case _:
            delta = Full(tensors["diff"].reshape(whole)) if "diff" in tensors else None
    if delta is not None and found.by_rows is not None:
        magnitude = tensors["magnitude" if "magnitude" in tensors else "dora"]
        delta = Decomposed(delta, magnitude.flatten(), found.by_rows)
    made: list[Delta] = [] if delta is None else [delta]
    if "bias" in tensors:
        made.append(Bias(tensors["bias"], scale))
    if "diff_b" in tensors:
        made.append(Bias(tensors["diff_b"]))
    return tuple(made)


def dense_shape(shapes: Shapes) -> Shape | None:
    """The shape of the weight that factors are meant for, as far as they tell: (out, columns), or None."""
    try:
        match _kind(shapes):
            case "lora":
                return shapes["up"][0], math.prod(shapes["down"][1:])
            case "loha":
                tucker = "hada_t1" in shapes
                return shapes["hada_w1_a"][1 if tucker else 0], shapes["hada_w1_b"][1]
            case "lokr":
                one, two, _ = _lokr_sides(shapes)
                return one[0] * two[0], one[1] * two[1]
            case _:
                return shapes.get("diff")
    except (Unfit, IndexError):
        return None


def _kind(names: Collection[str]) -> str:
    factors = {name for name in names if name not in _BESIDE}
    lokr = {name for name in factors if name.startswith("lokr_")}
    if factors and factors <= _LORA:
        if not {"down", "up"} <= factors:
            raise Unfit("half of the pair missing")
        return "lora"
    if factors and factors <= _LOHA | {"hada_t1", "hada_t2"}:
        if not factors >= _LOHA or ("hada_t1" in factors) != ("hada_t2" in factors):
            raise Unfit("factors of LoHa missing")
        return "loha"
    if factors and factors == lokr:
        return "lokr"
    if factors == {"diff"} or (not factors and "diff_b" in names):
        return "full"
    raise Unfit("several kinds at once, not supported yet" if factors else "half of the pair missing")


def _fit_lora(shapes: Shapes, whole: Shape) -> int:
    down, up, mid = shapes["down"], shapes["up"], shapes.get("mid")
    inner, outer = (mid[1:2], mid[:1]) if mid else (up[1:2], up[1:2])
    if min(len(down), len(up)) < 2 or down[:1] != inner or up[1:2] != outer or 0 in (down[0], up[1]):
        raise Unfit("ranks that contradict each other", f"{down} and {up}")
    columns = whole[1:2] if mid else whole[1:]
    reads = down[1:]
    if up[0] != whole[0] or not _alike(up[2:], ()) or not _alike(reads, columns) or (mid and mid[2:] != whole[2:]):
        raise Unfit("of other sizes", f"({_words(reads)} to {up[0]}, here {_words(columns)} to {whole[0]})")
    return down[0]


def _fit_loha(shapes: Shapes, whole: Shape) -> int:
    ranks: list[int] = []
    for i in "12":
        a, b, core = shapes[f"hada_w{i}_a"], shapes[f"hada_w{i}_b"], shapes.get(f"hada_t{i}")
        rows, columns, rank = _side(a, b, core)
        if rows != whole[0] or (columns != whole[1:] if core else columns != (math.prod(whole[1:]),)):
            here = f"here {_words(whole[1:])} to {whole[0]}"
            raise Unfit("of other sizes", f"({_words(columns)} to {rows}, {here})")
        ranks.append(rank)
    return ranks[0]


def _fit_lokr(shapes: Shapes, whole: Shape) -> int | None:
    one, two, rank = _lokr_sides(shapes)
    columns = one[1] * math.prod(two[1:])
    if one[0] * two[0] != whole[0] or columns != math.prod(whole[1:]) or (len(two) > 2 and two[2:] != whole[2:]):
        made = f"{one[0]}x{one[1]} by {_words(two)}"
        raise Unfit("of other sizes", f"({made}, here {_words(whole[1:])} to {whole[0]})")
    return rank


def _lokr_sides(shapes: Shapes) -> tuple[Shape, Shape, int | None]:
    sides: list[Shape] = []
    rank: int | None = None
    for i in "12":
        if (side := shapes.get(f"lokr_w{i}")) is not None:
            if len(side) < 2:
                raise Unfit("factors of LoKr that contradict each other", _words(side))
        else:
            a, b = shapes.get(f"lokr_w{i}_a"), shapes.get(f"lokr_w{i}_b")
            if a is None or b is None:
                raise Unfit("factors of LoKr missing")
            rows, columns, rank = _side(a, b, shapes.get(f"lokr_t{i}"))
            side = (rows, *columns)
        sides.append(side)
    return sides[0], sides[1], rank


def _side(a: Shape, b: Shape, core: Shape | None) -> tuple[int, Shape, int]:
    # (rows, columns, rank) of a product of two matrices, or of two matrices around a kernel.
    if len(a) != 2 or len(b) != 2 or 0 in (*a, *b):
        raise Unfit("ranks that contradict each other", f"{a} and {b}")
    if core is None:
        if a[1] != b[0]:
            raise Unfit("ranks that contradict each other", f"{a} and {b}")
        return a[0], b[1:], b[0]
    if len(core) != 4 or core[0] != a[0] or core[1] != b[0]:
        raise Unfit("ranks that contradict each other", f"{a}, {core} and {b}")
    return a[1], (b[1], *core[2:]), b[0]


def _fit_full(shapes: Shapes, whole: Shape) -> None:
    stored = shapes.get("diff", whole)
    if stored[:1] != whole[:1] or not _alike(stored[1:], whole[1:]):
        raise Unfit("of other sizes", f"({_words(stored)}, here {_words(whole)})")


def _norms(shapes: Shapes, whole: Shape) -> bool | None:
    if "magnitude" in shapes:  # peft's, which always has one number an output
        by_rows, stored = True, shapes["magnitude"]
    elif "dora" in shapes:
        stored = shapes["dora"]
        by_rows = stored[:1] == whole[:1]
    else:
        return None
    if math.prod(stored) != (whole[0] if by_rows else whole[1]):
        raise Unfit("of other sizes", f"(magnitudes {_words(stored)}, here {_words(whole)})")
    return by_rows


def _build_lora(tensors: Mapping[str, Tensor], scale: float, whole: Shape) -> LowRank:
    down, up, mid = tensors["down"], tensors["up"], tensors.get("mid")
    columns = whole[1:2] if mid is not None else whole[1:]
    return LowRank(down.reshape(down.shape[0], *columns), up.flatten(1), scale, mid)


def _factors(tensors: Mapping[str, Tensor], side: str, core_name: str) -> Factors:
    if side in tensors:
        return Factors(tensors[side])
    a, b, core = tensors[f"{side}_a"], tensors[f"{side}_b"], tensors.get(core_name)
    return Factors(a if core is None else a.T.contiguous(), b, core)


def _alike(stored: Shape, wanted: Shape) -> bool:
    # A kernel of 1x1 may be written or not, and a larger one may be laid out flat.
    flat = len(stored) == 1 and stored[0] == math.prod(wanted)
    return stored == wanted or flat or _bare(stored) == _bare(wanted)


def _bare(shape: Shape) -> Shape:
    return shape[:-2] if shape[-2:] == (1, 1) else shape


def _words(shape: Shape) -> str:
    return "x".join(map(str, shape)) if shape else "one number"
