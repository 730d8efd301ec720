"""Adapters: load them, say how well they fit, and keep the ones that were used last.

An adapter is never merged into weights: its changes are added to the outputs of single rows, so that requests with
different adapters share a forward and the checkpoint stays as it was to the last bit. This module knows a network only
as a table of module paths and sizes. Invariant: every module of a file is either matched or named in the reason.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import torch

from limner.domain import AdapterOutcome, AdapterStatus
from limner.engine.adapter_files import AdapterModule, PeftScales, adapter_file, modules_of, peft_scales
from limner.engine.adapter_kinds import EXACT, Fit, Unfit, build, dense_shape, fit
from limner.engine.adapter_targets import AdapterTargets, Place, Targets, place_names, whole_shape
from limner.engine.deltas import Delta
from limner.engine.signatures import recognise, title
from limner.engine.tensor_files import TensorSource, files_sha256, open_tensors, some
from limner.errors import LimnerError

DENOISER = "transformer"
"""The component that a denoiser is, beside the text encoders' names."""

Deltas = Mapping[str, tuple[Delta, ...]]
"""Module path to what is added there."""

_serials = itertools.count()


@dataclass(frozen=True, eq=False)
class Adapter:
    """A loaded adapter; two loads are never equal.

    `deltas` maps module paths of the denoiser to what is added there, `text_deltas` does so for each text encoder, by
    component. `serial` is never used twice in a process, so that what was computed with an adapter can be remembered
    after it is gone.
    """

    name: str
    sha256: str
    deltas: Deltas
    text_deltas: Mapping[str, Deltas] = field(default_factory=dict[str, Deltas])
    serial: int = field(default_factory=_serials.__next__, init=False, repr=False)

    def of(self, component: str) -> Deltas:
        """What it changes in one component: `transformer` for the denoiser, else a text encoder's name."""
        return self.deltas if component == DENOISER else self.text_deltas.get(component, {})


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


def load_adapter(
    path: Path,
    targets: AdapterTargets,
    family: str = "",
    *,
    checkpoint: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LoadedAdapter:
    """Read an adapter and place its modules.

    Args:
        path: a safetensors file in the PEFT, diffusers, kohya, LyCORIS or original (ComfyUI) layout, or a folder that
            PEFT or diffusers wrote.
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


def adapter_family(source: TensorSource) -> str | None:
    """The family that an adapter is for, by its own names and sizes, or None when nothing is recognised."""
    shapes = source.shapes
    meant = {
        # Widths tell some families apart, and factors do not always show them.
        f"{module.path}.weight": dense_shape({factor: shapes[key] for factor, key in module.factors.items()})
        for module in modules_of(source)
        if not module.text
    }
    return recognise({name: shape for name, shape in meant.items() if shape} | shapes)


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
    placement = _Placement(source, peft_scales(source), targets, device, dtype, weights)
    modules = modules_of(source)
    try:
        placement.place(modules)
    except LimnerError as error:
        return LoadedAdapter(name, None, 0, len(modules), AdapterStatus.SKIPPED, error.message)
    matched, total = placement.matched, len(modules) - placement.repeated
    origin = adapter_family(source) or family
    foreign = bool(family) and origin != family
    # Families share layers of equal names and sizes (a text encoder, say): few that fit do not make it an adapter.
    if not matched or (foreign and matched * 2 < total):
        reason = _why_nothing(name, placement, family, origin, checkpoint)
        return LoadedAdapter(name, None, 0, total, AdapterStatus.SKIPPED, reason)
    adapter = Adapter(name, sha256, *placement.deltas()) if weights else None
    if matched == total:
        return LoadedAdapter(name, adapter, matched, total, AdapterStatus.APPLIED)
    reason = f"{total - matched} of {total} modules of LoRA `{name}` were left out: {placement.complaints()}."
    return LoadedAdapter(name, adapter, matched, total, AdapterStatus.PARTIAL, reason)


@dataclass
class _Placement:
    source: TensorSource
    scales: Callable[[str], PeftScales]
    targets: AdapterTargets
    device: torch.device | str
    dtype: torch.dtype
    weights: bool = True
    taken: dict[str, dict[str, list[Delta]]] = field(default_factory=dict[str, dict[str, list[Delta]]])
    left_out: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    matched: int = 0
    repeated: int = 0

    def __post_init__(self) -> None:
        self._parts: dict[str, Targets] = {DENOISER: self.targets.denoiser, **self.targets.texts}
        originals = {DENOISER: self.targets.originals, **self.targets.text_originals}
        self._find = {part: place_names(known, originals.get(part, {})) for part, known in self._parts.items()}

    def place(self, modules: Sequence[AdapterModule]) -> None:
        found = [(module, *self._places(module)) for module in modules]
        # Some trainers write a fused `qkv` beside its parts: the parts are placed first, a repetition is not counted.
        for module, component, places in sorted(found, key=lambda each: len(each[2])):
            taken = self.taken.setdefault(component, {})
            if len(places) > 1 and all(place.path in taken for place in places):
                self.repeated += 1
                continue
            try:
                self._attach(module, component, places, taken)
                self.matched += 1
            except Unfit as unfit:
                self.left_out.setdefault(unfit.what, []).append(f"{module.path} {unfit.detail}".strip())

    def _places(self, module: AdapterModule) -> tuple[str, tuple[Place, ...]]:
        if not module.text:
            return DENOISER, self._find[DENOISER](module.path)
        texts = tuple(self.targets.texts)
        candidates = [part for part in module.components or texts if part in texts]
        found = ((part, self._find[part](module.path)) for part in candidates)
        return next(((part, places) for part, places in found if places), ("", ()))

    def _attach(
        self, module: AdapterModule, component: str, places: tuple[Place, ...], taken: dict[str, list[Delta]]
    ) -> None:
        if module.unsupported:
            raise Unfit(module.unsupported)
        if not places:
            raise Unfit("text encoder layers without a counterpart" if module.text else "without a counterpart")
        if any(place.path in taken for place in places):
            raise Unfit("named more than once")
        facts = {factor: self.source.tensors[key] for factor, key in module.factors.items()}
        stored = {facts[factor].dtype for factor in facts if factor != "alpha"}
        if whole := sorted(number for number in stored if not number.startswith(("F", "BF"))):
            raise Unfit(f"stored as {whole[0]}, not supported yet")
        shape = whole_shape(places, self._parts[component])
        found = fit({factor: each.shape for factor, each in facts.items()}, shape)
        if found.by_rows is False and len(places) > 1:
            raise Unfit("DoRA over the columns of a fused layer, not supported yet")
        deltas = self._load(module, component, found, shape) if self.weights else ()
        for place in places:
            split = len(places) > 1 or place.rows is not None or place.swapped
            taken[place.path] = [delta.rows(place.take) if split else delta for delta in deltas]

    def _load(self, module: AdapterModule, component: str, found: Fit, shape: tuple[int, ...]) -> tuple[Delta, ...]:
        keys = {factor: key for factor, key in module.factors.items() if factor != "alpha"}
        exact = [key for factor, key in keys.items() if factor in EXACT]
        stored = self.source.load((key for key in keys.values() if key not in exact), self.dtype)
        stored |= self.source.load(exact, torch.float32)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in stored.values()):
            raise Unfit("with numbers that are not finite")
        scale = self._scale(module, component, found)
        if not math.isfinite(scale):
            raise Unfit("with numbers that are not finite")
        return build(found, {factor: stored[key].to(self.device) for factor, key in keys.items()}, scale, shape)

    def _scale(self, module: AdapterModule, component: str, found: Fit) -> float:
        if (key := module.factors.get("alpha")) is None:
            return self.scales(component).scale(module.path, found.rank)
        alpha = self.source.load([key], torch.float32)[key]
        if not alpha.numel():
            return math.nan
        return float(alpha.flatten()[0]) / found.rank if found.rank else 1.0

    def deltas(self) -> tuple[Deltas, Mapping[str, Deltas]]:
        """What was placed: in the denoiser, and in the text encoders by component."""
        placed = {
            component: {path: tuple(deltas) for path, deltas in taken.items()}
            for component, taken in self.taken.items()
            if taken
        }
        return placed.pop(DENOISER, {}), placed

    def complaints(self) -> str:
        """What was left out and why."""
        return "; ".join(f"{len(paths)} {what}: {some(paths)}" for what, paths in self.left_out.items())


def _why_nothing(name: str, placement: _Placement, family: str, origin: str, checkpoint: str) -> str:
    here = f"checkpoint `{checkpoint}`" if checkpoint else "this checkpoint"
    if not placement.left_out:
        return f"LoRA `{name}` is empty: the file holds no tensors. Fetch it again."
    if family and origin != family:
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
