"""Which checkpoints are in memory, what of them, and the adapters that were attached to them.

A checkpoint is loaded when a request first names it, or somebody asks for it, and kept until it is dropped or the
memory budget wants its place. What was used longest ago goes first: text encoders and VAEs singly, coming back when
they are wanted; denoisers with their checkpoint. Invariant: nothing is loaded twice, nothing goes that a picture under
way still needs, and files that were replaced are never taken for what was loaded from them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar, cast
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn

from limner.engine.adapters import AdapterStore, LoadedAdapter
from limner.engine.checkpoint_index import stamp
from limner.engine.checkpoints import CheckpointFiles, Elsewhere, Given, find_checkpoint
from limner.engine.components import Networks
from limner.engine.device import give_back_memory
from limner.engine.families.generic import GenericPipeline
from limner.engine.families.port import LoadedFamily
from limner.engine.families.registry import family_module
from limner.engine.families.resident import ResidentFamily
from limner.engine.layers import bring_layers_singly
from limner.engine.offload import BUDGET_SHARE, OffloadPlan, Wish, choose_offload, memory_of, spoken_bytes
from limner.engine.pipeline_folders import GENERIC
from limner.engine.precision import Precision, choose_device, choose_precision
from limner.engine.runner import guarded
from limner.engine.tensor_files import open_tensors
from limner.errors import OutOfMemory, Unsupported

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Places:
    """Where checkpoints are looked for, and how they are to be loaded.

    `precision` maps components to what was wished (`auto`, `float32`, …); `given` names parts of the default
    checkpoint; `elsewhere` are further folders, and the index. `memory_budget_bytes` is what weights may fill, a share
    of what is free at the start where it is None; `offload` and `vae_tiling` are as `choose_offload` says.
    """

    models_dir: Path
    builtin_dir: Path
    default_model: str
    device: str = "auto"
    precision: Mapping[str, str] = field(default_factory=dict[str, str])
    given: Given | None = None
    elsewhere: Elsewhere | None = None
    memory_budget_bytes: int | None = None
    offload: Wish = "auto"
    vae_tiling: bool | Literal["auto"] = "auto"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded checkpoint: what paints with its weights, and the facts that recipes record.

    `stamps` tell the size and time of change of every file of weights as it was when it was loaded.
    """

    name: str
    loaded: LoadedFamily | GenericPipeline
    device: str
    precision: dict[str, str]
    notes: tuple[str, ...]
    held: Networks
    stamps: Mapping[Path, list[int]]

    @property
    def family(self) -> LoadedFamily:
        """The family that paints with it, step by step; raises `Unsupported` where a pipeline does."""
        if isinstance(self.loaded, GenericPipeline):
            raise Unsupported(f"`{self.name}` is painted by its own pipeline ({self.loaded.title}) as a whole.")
        return self.loaded

    @property
    def pipeline(self) -> GenericPipeline | None:
        """The pipeline that paints with it as a whole, where no family does."""
        return self.loaded if isinstance(self.loaded, GenericPipeline) else None

    @property
    def memory_bytes(self) -> Mapping[str, int]:
        """What its weights hold now, by component, as measured from its tensors; 0 for what is out of memory."""
        return {name: self.held.bytes_of(network) for name, network in self.loaded.networks().items()}

    @cached_property
    def sha256(self) -> str:
        """The hash of the denoiser's weights, computed when it is first asked for: large files take seconds.

        Empty where a file has changed since: nobody knows the hash of what was loaded any more.
        """
        if not self.is_current:
            return ""
        found = self.loaded.files.sha256()
        return found if self.is_current else ""

    @property
    def is_current(self) -> bool:
        """Whether its files are still those that it was loaded from."""
        return all(stamp(file) == known for file, known in self.stamps.items())

    @property
    def known_sha256(self) -> str:
        """The same where it was computed already, else empty: asking costs nothing."""
        return str(vars(self).get("sha256", ""))


class Residency:
    """Loads checkpoints by name and keeps what fits the memory budget.

    Args:
        places: where checkpoints lie and how they are loaded.
        busy: the checkpoints that pictures under way are painted with.
    """

    def __init__(self, places: Places, busy: Callable[[], Collection[Checkpoint | None]] = tuple) -> None:
        self._places = places
        self._busy = busy
        self._loaded: OrderedDict[str, Checkpoint] = OrderedDict()
        self._used: WeakKeyDictionary[Checkpoint, float] = WeakKeyDictionary()
        self._adapters = AdapterStore()
        self._networks = Networks(self._make_room)

    def get(self, name: str | None = None) -> Checkpoint:
        """The checkpoint of that name (the default one for None), loaded now if it is not in memory.

        One whose files have changed since is dropped and loaded anew.

        Raises:
            NotFound, BrokenCheckpoint, Unsupported: as `find_checkpoint` and `load_components` say; what was loaded
                before is kept.
            OutOfMemory: it does not fit, even without all that no picture needs.
        """
        key = name or self._places.default_model
        known = self._loaded.get(key)
        if known is not None and known.is_current:
            self._loaded.move_to_end(key)
            self.touch(known)
            return known
        del known  # while another is loaded, nothing of what it replaces may be held
        # The parts named in the settings belong to the default checkpoint only.
        given = self._places.given if key == self._places.default_model else None
        files = self._find(key, given)
        names = len(self._loaded)
        if (same := self._same(key, files)) is not None:
            self._loaded[key] = same
            self._loaded.move_to_end(key)
            self.touch(same)
            return same
        if len(self._loaded) < names:
            give_back_memory()
        doing = f"loading checkpoint `{files.name}`"
        try:
            checkpoint = guarded(lambda: self._load(files), doing)
        except OutOfMemory:
            checkpoint = None
        if checkpoint is None:  # outside the handler, so that the tensors of the failed attempt are free by now
            self._make_room(self._budget)
            checkpoint = guarded(lambda: self._load(files), doing)
        self._loaded[key] = checkpoint
        self.touch(checkpoint)
        self._make_room(0, checkpoint.loaded.networks().values())
        return checkpoint

    def load(self, name: str) -> Checkpoint:
        """As `get`, for the name of a checkpoint: the one that the settings give by a path is known by its name too."""
        default = self._places.default_model
        named = next((key for key, known in self._loaded.items() if known.name == name), None)
        if named is None and name != default:
            files = self._find(name)
            named = default if files.path == Path(default).expanduser() else name
        return self.get(named)

    def drop(self, checkpoint: Checkpoint) -> None:
        """Forget a checkpoint; its memory is free when those who paint with it let go of it as well."""
        for key in [key for key, known in self._loaded.items() if known is checkpoint]:
            del self._loaded[key]
        self._used.pop(checkpoint, None)
        self._adapters.forget(checkpoint.loaded)

    def touch(self, checkpoint: Checkpoint) -> None:
        """Note that a checkpoint is used now."""
        self._used[checkpoint] = time.time()

    def used_at(self, checkpoint: Checkpoint) -> float:
        """When a checkpoint was last noted to be used, in seconds since 1970."""
        return self._used.get(checkpoint, 0.0)

    def loaded(self) -> tuple[Checkpoint, ...]:
        """What is in memory, least recently used first; may be asked from any thread."""
        latest_first = dict.fromkeys(reversed(self._loaded.copy().values()))  # one may have several names
        return tuple(reversed(latest_first))

    def adapter(self, file: Path, checkpoint: Checkpoint) -> LoadedAdapter:
        """What became of attaching a LoRA file to a checkpoint; read once."""
        family = checkpoint.loaded
        return self._adapters.load(
            file,
            family.adapter_targets(),
            family.name,
            identity=family,
            checkpoint=checkpoint.name,
            device=family.device,
            dtype=family.dtype,
        )

    def _same(self, key: str, files: CheckpointFiles) -> Checkpoint | None:
        """What was loaded from these files under another name; drops what was loaded before they changed."""
        if (stale := self._loaded.get(key)) is not None:
            self.drop(stale)
        for entry in self.loaded():
            if _are_same(entry.loaded.files, files):
                if entry.is_current:
                    return entry
                self.drop(entry)
        return None

    def _find(self, name: str, given: Given | None = None) -> CheckpointFiles:
        places = self._places
        return find_checkpoint(name, places.models_dir, places.builtin_dir, given, places.elsewhere)

    @cached_property
    def _budget(self) -> int:
        if (wished := self._places.memory_budget_bytes) is not None:
            return wished
        return int(memory_of(choose_device(self._places.device))[0] * BUDGET_SHARE)

    def _load(self, files: CheckpointFiles) -> Checkpoint:
        device = choose_device(self._places.device)
        precision = choose_precision(
            device, self._places.precision, family_module(files.family).precision_policy(files)
        )
        if device.type == "cuda":
            # Reductions in half precision differ with the batch; the law batched = alone needs them exact.
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        stamps = {file: stamp(file) for file in _weights(files)}  # before they are read
        load = self._load_pipeline if files.family == GENERIC else self._load_family
        loaded, precision, notes = load(files, device, precision)
        notes = (*precision.notes, *notes)
        return Checkpoint(files.name, loaded, str(device), precision.names(), notes, self._networks, stamps)

    def _load_family(
        self, files: CheckpointFiles, device: torch.device, precision: Precision
    ) -> tuple[LoadedFamily, Precision, tuple[str, ...]]:
        module = family_module(files.family)
        plan = self._plan(files, device, precision, module.LAYERS_ARE_CALLED)
        one_at_a_time = plan.mode != "none"
        shared = _OneAtATime(self._networks, device) if one_at_a_time else self._networks
        resting = torch.device("cpu") if plan.mode == "group" else device
        family = module.load_family(files, resting, precision, shared)
        networks = family.networks()
        for name, network in networks.items():
            self._networks.adopt(network, elsewhere=plan.mode == "group" and name == "transformer")
        if plan.mode == "group":
            bring_layers_singly(networks["transformer"], device)

        def bring(names: Collection[str]) -> None:
            if one_at_a_time:
                for name, network in networks.items():
                    if name not in names and "transformer" not in names:
                        self._networks.evict(network)
            beside = [network for name, network in networks.items() if name in names or name == "transformer"]
            self._networks.bring([networks[name] for name in names], beside)

        return ResidentFamily(family, bring, plan.tiles), precision, plan.notes

    def _load_pipeline(
        self, files: CheckpointFiles, device: torch.device, precision: Precision
    ) -> tuple[GenericPipeline, Precision, tuple[str, ...]]:
        # It brings every pipeline that diffusers has, which takes seconds.
        from limner.engine.families.generic_weights import common_precision, load_pipeline

        precision = common_precision(precision)
        plan = self._plan(files, device, precision, layers_are_called=True)
        pipeline, notes = load_pipeline(files, device, precision, plan)
        for network in pipeline.networks().values():
            self._networks.adopt(network, elsewhere=plan.mode != "none")
        return pipeline, precision, (*plan.notes, *notes)

    def _plan(
        self, files: CheckpointFiles, device: torch.device, precision: Precision, layers_are_called: bool
    ) -> OffloadPlan:
        """Where the weights shall rest; makes room for them."""
        sizes = expected_bytes(files, precision)
        tiling = None if self._places.vae_tiling == "auto" else self._places.vae_tiling
        plan = choose_offload(
            device.type,
            self._budget,
            sizes,
            wish=self._places.offload,
            vae_tiling=tiling,
            groups=layers_are_called,
        )
        whole = sum(sizes.values()) - (sizes.get("transformer", 0) if plan.mode == "group" else 0)
        self._make_room(max(0, whole - sum(self._networks.held_at(files.parts.values()).values())))
        if whole <= self._budget or plan.mode != "none":
            return plan
        note = (
            f"The weights of `{files.name}` hold {spoken_bytes(whole)}, more than the memory budget of "
            f"{spoken_bytes(self._budget)}: what can leave it does so while it is not used."
        )
        return replace(plan, notes=(*plan.notes, note))

    def _make_room(self, wanted_bytes: int, but: Collection[nn.Module] = ()) -> None:
        """Take out of memory what was used longest ago until so much fits, or nothing is left that may go."""
        if self._networks.held_bytes() + wanted_bytes > self._budget:
            dropped = self._leave(wanted_bytes, but)
            # Looking for garbage takes long, and seldom is anything of a checkpoint in a cycle.
            give_back_memory(collect=any(family() is not None for family in dropped))

    def _leave(self, wanted_bytes: int, but: Collection[nn.Module]) -> list[ref[LoadedFamily | GenericPipeline]]:
        busy = [entry for entry in self._busy() if entry is not None]
        # A picture's text encoders have done their work when it is under way.
        kept = [n for entry in busy for name, n in entry.loaded.networks().items() if not name.startswith("text_")]
        dropped: list[ref[LoadedFamily | GenericPipeline]] = []
        excess = self._networks.held_bytes() + wanted_bytes - self._budget
        for network in self._networks.idle_longest(but=[*kept, *but]):
            if excess <= 0:
                break
            if self._networks.can_return(network):
                excess -= self._networks.bytes_of(network)
                self._networks.evict(network)
                continue
            for entry in self.loaded():
                if entry not in busy and any(network is own for own in entry.loaded.networks().values()):
                    dropped.append(ref(entry.loaded))
                    self.drop(entry)
                    excess -= self._networks.bytes_of(network)
        return dropped


class _OneAtATime:
    """Networks on one device, of which a checkpoint that is being loaded keeps only the last one in memory."""

    def __init__(self, networks: Networks, device: torch.device) -> None:
        self._networks = networks
        self._device = device
        self._last: nn.Module | None = None

    def get(
        self, kind: str, path: Path, dtype: torch.dtype, device: torch.device, load: Callable[[], Network]
    ) -> Network:
        place = self._device
        network = self._networks.get(kind, path, dtype, place, lambda: cast(Network, nn.Module.to(load(), place)))
        if self._last is not None and self._last is not network:
            self._networks.evict(self._last)
        self._last = network
        return network


def _weights(files: CheckpointFiles) -> set[Path]:
    parts = {path for name, path in files.parts.items() if not name.startswith("tokenizer")}
    return {file for path in parts for file in open_tensors(path).files}


def _are_same(one: CheckpointFiles, other: CheckpointFiles) -> bool:
    places = [
        {"": each.path.resolve()} | {k: path.resolve() for k, path in each.parts.items()} for each in (one, other)
    ]
    return one.name == other.name and places[0] == places[1]


def expected_bytes(files: CheckpointFiles, precision: Precision) -> dict[str, int]:
    """Component to the bytes that its weights will hold, from headers alone; a file that holds several counts once."""
    sizes: dict[str, int] = {}
    seen: set[Path] = set()
    for name, path in files.parts.items():
        if not name.startswith("tokenizer") and path not in seen:
            seen.add(path)
            sizes[name] = open_tensors(path).parameters * precision.of(name).itemsize
    return sizes
