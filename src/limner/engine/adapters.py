"""LoRA adapters: load them, say how well they fit, and add them to a layer's output.

An adapter is never merged into weights: its low-rank products are added to the outputs of single rows, so that requests
with different adapters share a forward and the checkpoint stays as it was to the last bit. This module knows a network
only as a table of module paths and sizes. Invariant: every module of a file is either matched or named in the reason.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.domain import AdapterOutcome, AdapterStatus
from limner.engine.adapter_files import (
    LoraModule,
    PeftScales,
    adapter_file,
    modules_of,
    peft_scales,
    place_names,
)
from limner.engine.signatures import recognise, title
from limner.engine.tensor_files import TensorSource, files_sha256, open_tensors, some
from limner.errors import LimnerError

Targets = Mapping[str, tuple[int, int]]
_serials = itertools.count()


@dataclass(frozen=True)
class AdapterTargets:
    """What an adapter may change in a checkpoint: module paths to the shapes of their weights.

    Args:
        denoiser: of the denoising network.
        texts: of each text encoder, by component (`text_encoder`, `text_encoder_2`).
    """

    denoiser: Targets
    texts: Mapping[str, Targets]


@dataclass(frozen=True, eq=False)
class LowRank:
    """A change of a linear layer, scale * up @ down."""

    down: Tensor  # (r, in)
    up: Tensor  # (out, r)
    scale: float


@dataclass(frozen=True, eq=False)
class Adapter:
    """A loaded LoRA; two loads are never equal.

    `deltas` and `text_deltas` map module paths of the denoiser and of the text encoder to what is added there. `serial`
    is never used twice in a process, so that what was computed with an adapter can be remembered after it is gone.
    """

    name: str
    sha256: str
    deltas: Mapping[str, tuple[LowRank, ...]]
    text_deltas: Mapping[str, tuple[LowRank, ...]] = field(default_factory=dict[str, tuple[LowRank, ...]])
    serial: int = field(default_factory=_serials.__next__, init=False, repr=False)


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """What became of a file: how many of its modules found their place, and the adapter.

    There is none when the file was skipped or only judged.
    """

    name: str
    adapter: Adapter | None
    matched: int
    total: int
    status: AdapterStatus
    reason: str = ""

    def outcome(self, requested_weight: float) -> AdapterOutcome:
        """The record for the job and the picture."""
        return AdapterOutcome(
            name=self.name,
            requested_weight=requested_weight,
            status=self.status,
            matched=self.matched,
            total=self.total,
            reason=self.reason,
            sha256=self.adapter.sha256 if self.adapter else "",
        )


def apply_low_rank(y: Tensor, x: Tensor, deltas: Sequence[LowRank], weight: float) -> Tensor:
    """A linear layer's output with adapters: y + weight * scale * up @ (down @ x), for each of `deltas`.

    Args:
        y: the layer's output, (…, out).
        x: the layer's input, (…, in); the arithmetic runs in its dtype and on its device.
        deltas: what one adapter adds to this layer.
        weight: the adapter's strength; at 0 the very `y` comes back.

    Returns:
        A new tensor like `y`; `y` itself is never written to.
    """
    if weight == 0.0:
        return y
    for delta in deltas:
        hidden = F.linear(x, delta.down.to(x.device, x.dtype))  # (…, r)
        y = torch.add(y, F.linear(hidden, delta.up.to(x.device, x.dtype)), alpha=weight * delta.scale)
    return y


def load_adapter(
    path: Path,
    targets: AdapterTargets,
    family: str = "",
    *,
    checkpoint: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LoadedAdapter:
    """Read a LoRA file and place its modules.

    Args:
        path: a safetensors file in the PEFT/diffusers, kohya or original (ComfyUI) layout, or PEFT's folder.
        targets: what may be changed.
        family: the checkpoint's family, for messages.
        checkpoint: the checkpoint's name, for messages.
        device: where the matrices shall lie.
        dtype: what they are kept in.

    Returns:
        Always an outcome, never an error: what cannot be read or does not fit is `skipped` with its reason.
    """
    return _load(path, targets, family, checkpoint, device, dtype, weights=True)


def judge_adapter(path: Path, targets: AdapterTargets, family: str = "", *, checkpoint: str = "") -> LoadedAdapter:
    """As `load_adapter`, from the file's header alone: whether it would fit. The adapter itself is always None."""
    return _load(path, targets, family, checkpoint, "cpu", torch.float32, weights=False)


def _load(
    path: Path,
    targets: AdapterTargets,
    family: str,
    checkpoint: str,
    device: torch.device | str,
    dtype: torch.dtype,
    weights: bool,
) -> LoadedAdapter:
    path = adapter_file(path)
    name = path.parent.name if path.stem in ("adapter_model", "pytorch_lora_weights") else path.stem
    try:
        source = open_tensors(path)
        sha256 = files_sha256(source.files) if weights else ""
    except LimnerError as error:
        return LoadedAdapter(name, None, 0, 0, AdapterStatus.SKIPPED, error.message)
    placement = _Placement(source, peft_scales(source), device, dtype, weights)
    modules = modules_of(source)
    try:
        for text in (False, True):
            nothing: Targets = {}
            known = next(iter(targets.texts.values()), nothing) if text else targets.denoiser
            placement.place([m for m in modules if m.text is text], known, text)
    except LimnerError as error:
        return LoadedAdapter(name, None, 0, len(modules), AdapterStatus.SKIPPED, error.message)
    matched, total = placement.matched, len(modules) - placement.repeated
    if not matched:
        reason = _why_nothing(name, source, placement, family, checkpoint)
        return LoadedAdapter(name, None, 0, total, AdapterStatus.SKIPPED, reason)
    adapter = None
    if weights:
        adapter = Adapter(
            name,
            sha256,
            {path: tuple(deltas) for path, deltas in placement.deltas[False].items()},
            {path: tuple(deltas) for path, deltas in placement.deltas[True].items()},
        )
    if matched == total:
        return LoadedAdapter(name, adapter, matched, total, AdapterStatus.APPLIED)
    reason = f"{total - matched} of {total} modules of LoRA `{name}` were left out: {placement.complaints()}."
    return LoadedAdapter(name, adapter, matched, total, AdapterStatus.PARTIAL, reason)


@dataclass
class _Placement:
    source: TensorSource
    scales: PeftScales
    device: torch.device | str
    dtype: torch.dtype
    weights: bool = True
    deltas: dict[bool, dict[str, list[LowRank]]] = field(default_factory=lambda: {False: {}, True: {}})
    left_out: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    matched: int = 0
    repeated: int = 0

    def place(self, modules: Iterable[LoraModule], targets: Targets, text: bool) -> None:
        find = place_names(dict(targets))
        # Some trainers write a fused `qkv` beside its parts: the parts are placed first, a repetition is not counted.
        for module in sorted(modules, key=lambda m: len(find(m.path))):
            places = find(module.path)
            taken = self.deltas[text]
            if len(places) > 1 and all(place in taken for place in places):
                self.repeated += 1
            elif complaint := self._attach(module, places, targets, taken):
                self.left_out.setdefault(complaint[0], []).append(complaint[1])
            else:
                self.matched += 1

    def _attach(
        self, module: LoraModule, places: tuple[str, ...], targets: Targets, taken: dict[str, list[LowRank]]
    ) -> tuple[str, str] | None:
        """Add the module's matrices to `taken`, or answer (what is wrong, where)."""
        if module.kind:
            return f"{module.kind}, not supported yet", module.path
        if not places:
            where = "text encoder layers without a counterpart" if module.text else "without a counterpart"
            return where, module.path
        if not module.down or not module.up:
            return "half of the pair missing", module.path
        numbers = {self.source.tensors[key].dtype for key in (module.down, module.up)}
        if whole := sorted(number for number in numbers if not number.startswith(("F", "BF"))):
            return f"stored as {whole[0]}, not supported yet", module.path
        down_shape, up_shape = (_matrix(self.source.tensors[key].shape) for key in (module.down, module.up))
        outs, into = [targets[place][0] for place in places], targets[places[0]][1]
        if down_shape is None or up_shape is None or down_shape[0] != up_shape[1] or not down_shape[0]:
            shapes = f"{self.source.tensors[module.down].shape} and {self.source.tensors[module.up].shape}"
            return "ranks that contradict each other", f"{module.path} {shapes}"
        if down_shape[1] != into or up_shape[0] != sum(outs):
            return "of other sizes", f"{module.path} ({down_shape[1]} to {up_shape[0]}, here {into} to {sum(outs)})"
        if not self.weights:
            for place in places:
                taken.setdefault(place, [])
            return None
        keys = [key for key in (module.down, module.up, module.alpha) if key]
        tensors = self.source.load(keys, self.dtype)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            return "with numbers that are not finite", module.path
        down = tensors[module.down].flatten(1).to(self.device)
        up = tensors[module.up].flatten(1).to(self.device)
        if module.alpha:
            alpha = self.source.load([module.alpha], torch.float32)[module.alpha]
            scale = float(alpha.flatten()[0]) / down_shape[0] if alpha.numel() else math.nan
        else:
            scale = self.scales.scale(module.path, down_shape[0])
        if not math.isfinite(scale):
            return "with numbers that are not finite", module.path
        start = 0
        for place, rows in zip(places, outs, strict=True):
            taken.setdefault(place, []).append(LowRank(down, up[start : start + rows], scale))
            start += rows
        return None

    def complaints(self) -> str:
        """What was left out and why, shortest names first."""
        return "; ".join(f"{len(paths)} {what}: {some(paths)}" for what, paths in self.left_out.items())


def _matrix(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(rows, columns) of a matrix, or of a 1x1 convolution, which is one."""
    return (shape[0], shape[1]) if len(shape) == 2 or shape[2:] == (1, 1) else None


def _why_nothing(name: str, source: TensorSource, placement: _Placement, family: str, checkpoint: str) -> str:
    here = f"checkpoint `{checkpoint}`" if checkpoint else "this checkpoint"
    origin = recognise(source.shapes)
    if not placement.left_out:
        return f"LoRA `{name}` is empty: the file holds no tensors. Fetch it again."
    if origin and family and origin != family:
        return f"LoRA `{name}` is for {title(origin)}; {here} is {title(family)}. Choose an adapter of the same family."
    kinds = [what for what in placement.left_out if what.endswith("not supported yet")]
    if kinds and len(kinds) == len(placement.left_out):
        return f"LoRA `{name}` holds {placement.complaints()}. Choose a plain LoRA."
    sizes = placement.left_out.get("of other sizes", [])
    if sizes and len(sizes) * 2 >= sum(map(len, placement.left_out.values())):
        return (
            f"LoRA `{name}` was made for a {title(family) if family else 'checkpoint'} of other sizes than {here}: "
            f"{some(sizes, 2)}. Choose one that was trained on this checkpoint."
        )
    complaints = placement.complaints()
    return f"LoRA `{name}` has nothing that fits {here}: {complaints}. Choose an adapter of the same family."


class AdapterStore:
    """Keeps the adapters that were used last, so that a file is read once.

    An entry belongs to a file as it was (path, time of change, size) and to one loaded checkpoint.
    """

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple[Hashable, ...], LoadedAdapter] = OrderedDict()
        self._lock = Lock()

    def load(
        self,
        path: Path,
        targets: AdapterTargets,
        family: str = "",
        *,
        identity: Hashable = None,
        checkpoint: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> LoadedAdapter:
        """What `load_adapter` answers, remembered; `identity` tells loaded checkpoints apart (the family object)."""
        path = adapter_file(path)
        try:
            stat = path.stat()
        except OSError:
            stat = None
        mark = (stat.st_mtime_ns, stat.st_size) if stat else None
        key: tuple[Hashable, ...] = (identity, str(path.resolve()), mark, family, checkpoint, str(device), dtype)
        with self._lock:
            if (known := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return known
        loaded = load_adapter(path, targets, family, checkpoint=checkpoint, device=device, dtype=dtype)
        with self._lock:
            if mark is not None:
                self._kept[key] = loaded
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return loaded

    def forget(self, identity: Hashable) -> None:
        """Drop the entries of a checkpoint that is no longer loaded."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == identity]:
                del self._kept[key]
