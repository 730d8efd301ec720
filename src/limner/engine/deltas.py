"""The changes that adapters make to layers: low-rank, LoHa, LoKr, full differences, biases, and DoRA around them.

Every kind answers two questions: what is added to a layer's output for an input, and what the change is as a weight.
Kinds that are no product of small matrices are multiplied out anew at every call: that costs little beside the layer
itself, and keeping the products would cost as much memory as the network. This module knows one layer at a time, and
neither files nor networks. Invariant: nothing here writes to a layer, to its input or to its output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Take = Callable[[Tensor], Tensor]
"""Chooses rows of a tensor whose first dimension is a layer's output."""


def product(x: Tensor, weight: Tensor, layer: nn.Module) -> Tensor:
    """What `layer` would answer to `x` with another weight and without bias.

    Args:
        x: (…, in) for a linear layer, (B, in, h, w) for a convolution.
        weight: (out, in), or (out, in, kh, kw).
        layer: an `nn.Linear`, or an `nn.Conv2d` that gives stride, padding, dilation and groups.
    """
    if isinstance(layer, nn.Conv2d):
        padding: Any = layer.padding
        return F.conv2d(x, weight, None, layer.stride, padding, layer.dilation, layer.groups)
    return F.linear(x, weight)


@dataclass(frozen=True, eq=False)
class Delta(ABC):
    """One change of one layer. Two deltas are never equal."""

    _moved: dict[tuple[torch.device, torch.dtype], Any] = field(
        default_factory=dict[tuple[torch.device, torch.dtype], Any], init=False, repr=False
    )

    @abstractmethod
    def matrix(self) -> Tensor:
        """The change as a weight, (out, in) or (out, in, kh, kw)."""

    @abstractmethod
    def rows(self, take: Take) -> Self:
        """The change of some of the layer's outputs."""

    def change(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        """What is added to the layer's output.

        Args:
            x: the layer's input, on the device and in the dtype of this delta.
            y: the layer's own output, which DoRA starts from.
            layer: the layer.

        Returns:
            A tensor that broadcasts against `y`.
        """
        return product(x, self.matrix(), layer)

    def like(self, x: Tensor) -> Self:
        """This delta on the device and in the dtype of `x`; a copy is made once and kept."""
        key = (x.device, x.dtype)
        if (known := self._moved.get(key)) is None:
            known = self._moved[key] = self.to(*key)
        return known

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """A copy on a device and in a dtype; tensors that are there already are shared."""
        changes: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Tensor | Delta | Factors):
                changes[each.name] = value.to(device, dtype)
        return replace(self, **changes)


@dataclass(frozen=True, eq=False)
class LowRank(Delta):
    """LoRA (Hu et al. 2021): scale * up @ down; scale is alpha / rank.

    For a convolution `down` has the layer's kernel and `up` is a 1x1 kernel (LoCon). With `mid` the kernel lies there
    and `down` is a matrix: up · mid · down, a Tucker decomposition (LyCORIS).
    """

    down: Tensor  # (r, in) or (r, in, kh, kw)
    up: Tensor  # (out, r)
    scale: float
    mid: Tensor | None = None  # (r, r, kh, kw)

    def matrix(self) -> Tensor:
        if self.mid is not None:
            return self.scale * torch.einsum("or,rskl,si->oikl", self.up, self.mid, self.down)
        return self.scale * (self.up @ self.down.flatten(1)).view(-1, *self.down.shape[1:])

    def rows(self, take: Take) -> Self:
        return replace(self, up=take(self.up))

    def change(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        if not isinstance(layer, nn.Conv2d):
            return F.linear(F.linear(x, self.down) * self.scale, self.up)
        if self.mid is None:
            hidden = product(x, self.down, layer)
        else:
            hidden = product(F.conv2d(x, self.down[:, :, None, None]), self.mid, layer)
        return F.conv2d(hidden * self.scale, self.up[:, :, None, None])


@dataclass(frozen=True, eq=False)
class Factors:
    """A matrix or kernel, whole or as a product of small ones.

    Without `b` it is `a`. With `b` it is a @ b, and with `core` the kernel sum_ij core[i, j] a[:, i] b[j, :]: the
    Tucker decomposition of LyCORIS, whose files keep its `a` the other way round.
    """

    a: Tensor  # (rows, columns[, kh, kw]) or (rows, r)
    b: Tensor | None = None  # (r, columns)
    core: Tensor | None = None  # (r, r, kh, kw)

    def whole(self) -> Tensor:
        """The product."""
        if self.b is None:
            return self.a
        if self.core is None:
            return self.a @ self.b
        return torch.einsum("ijkl,jr,pi->prkl", self.core, self.b, self.a)

    def rows(self, take: Take) -> Factors:
        """Some rows of it."""
        return replace(self, a=take(self.a))

    def to(self, device: torch.device, dtype: torch.dtype) -> Factors:
        """The same on a device and in a dtype."""
        b, core = (None if t is None else t.to(device, dtype) for t in (self.b, self.core))
        return Factors(self.a.to(device, dtype), b, core)


@dataclass(frozen=True, eq=False)
class Hadamard(Delta):
    """LoHa (Hyeon-Woo et al. 2022, FedPara): scale * (w1a @ w1b) ⊙ (w2a @ w2b); scale is alpha / rank."""

    one: Factors
    two: Factors
    scale: float
    shape: tuple[int, ...]  # of the columns: (in,) or (in, kh, kw)

    def matrix(self) -> Tensor:
        return self.scale * (self.one.whole() * self.two.whole()).reshape(-1, *self.shape)

    def rows(self, take: Take) -> Self:
        return replace(self, one=self.one.rows(take), two=self.two.rows(take))


@dataclass(frozen=True, eq=False)
class Kronecker(Delta):
    """LoKr (Yeh et al. 2023, LyCORIS): scale * w1 ⊗ w2.

    The scale is alpha / rank of the factor that is a product (of the second one where both are), and 1 where both are
    whole: LyCORIS sets alpha to the rank then. peft divides by its configuration's rank always.
    """

    one: Factors
    two: Factors
    scale: float
    shape: tuple[int, ...]  # of the columns: (in,) or (in, kh, kw)
    taken: Take | None = None

    def matrix(self) -> Tensor:
        one, two = self.one.whole(), self.two.whole()
        one = one.view(*one.shape, *[1] * (two.ndim - one.ndim))
        whole = self.scale * torch.kron(one, two.contiguous()).reshape(-1, *self.shape)
        return whole if self.taken is None else self.taken(whole)

    def rows(self, take: Take) -> Self:
        return replace(self, taken=take)


@dataclass(frozen=True, eq=False)
class Full(Delta):
    """A difference of the whole weight."""

    weight: Tensor  # (out, in) or (out, in, kh, kw)

    def matrix(self) -> Tensor:
        return self.weight

    def rows(self, take: Take) -> Self:
        return replace(self, weight=take(self.weight))


@dataclass(frozen=True, eq=False)
class Bias(Delta):
    """A difference of the bias alone, scale * bias."""

    bias: Tensor  # (out,)
    scale: float = 1.0

    def matrix(self) -> Tensor:
        raise RuntimeError("A difference of a bias is no weight.")

    def rows(self, take: Take) -> Self:
        return replace(self, bias=take(self.bias))

    def change(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        return _along_outputs(self.scale * self.bias, layer)


@dataclass(frozen=True, eq=False)
class Decomposed(Delta):
    """DoRA (Liu et al. 2024) around another change V: the weight becomes magnitude * (W + V) / ‖W + V‖.

    The norm is over each output's row, as in the paper's code and in peft, or over each input's column (`by_rows`
    False), which LyCORIS writes by default. What is added is the difference to W, so that a strength between 0 and 1
    goes straight from the one to the other, as in ComfyUI.
    """

    inner: Delta
    magnitude: Tensor  # (out,), or (in,) by columns; float32
    by_rows: bool = True
    _excesses: WeakKeyDictionary[nn.Module, Tensor] = field(
        default_factory=WeakKeyDictionary[nn.Module, Tensor], init=False, repr=False
    )

    def matrix(self) -> Tensor:
        raise RuntimeError("DoRA's change depends on the layer's weight.")

    def rows(self, take: Take) -> Self:
        if not self.by_rows:
            raise RuntimeError("The columns' norms of a part are not those of the whole.")
        return replace(self, inner=self.inner.rows(take), magnitude=take(self.magnitude))

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        # Magnitudes all but equal the norms: of their difference half precision would leave nothing but noise.
        return replace(self, inner=self.inner.to(device, dtype), magnitude=self.magnitude.to(device))

    def change(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        excess = self._excess(layer).to(x.dtype)
        if not self.by_rows:
            more = x * (excess.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else excess)
            weight = cast(Tensor, layer.weight).to(x.device, x.dtype)
            return product(more, weight, layer) + self.inner.change(x + more, y, layer)
        bias = cast("Tensor | None", layer.bias)
        own = y if bias is None else y - _along_outputs(bias.to(y.device, y.dtype), layer)
        inner = self.inner.change(x, y, layer)
        return inner + _along_outputs(excess, layer) * (own + inner)

    def _excess(self, layer: nn.Module) -> Tensor:
        # magnitude / norm - 1
        if (known := self._excesses.get(layer)) is None:
            device = self.magnitude.device
            change = self.inner.to(device, torch.float32).matrix()
            whole = cast(Tensor, layer.weight).to(device, torch.float32) + change
            lines = whole.flatten(1) if self.by_rows else whole.transpose(0, 1).flatten(1)
            norms = cast(Tensor, cast(Any, torch.linalg).vector_norm(lines, dim=1))
            known = self._excesses[layer] = self.magnitude / (norms + torch.finfo(torch.float32).eps) - 1
        return known


def _along_outputs(values: Tensor, layer: nn.Module) -> Tensor:
    return values.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else values


def add_changes(y: Tensor, x: Tensor, changes: Iterable[tuple[Sequence[Delta], float]], layer: nn.Module) -> Tensor:
    """A layer's output with what adapters add to it.

    Args:
        y: the layer's own output, (…, out) or (B, out, h, w).
        x: the layer's input; the arithmetic runs in its dtype and on its device.
        changes: the deltas of every adapter, and its strength.
        layer: an `nn.Linear` or `nn.Conv2d`.

    Returns:
        A new tensor like `y`, or the very `y` where nothing is added; `y` itself is never written to.
    """
    answer = y
    for deltas, weight in changes:
        for delta in deltas if weight else ():
            change = delta.like(x).change(x, y, layer)
            answer = torch.add(answer, change.to(y.dtype), alpha=weight)
    return answer
