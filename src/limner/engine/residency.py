"""Which checkpoints are in memory, and the adapters that were attached to them.

A checkpoint is loaded when a request first names it, or somebody asks for it, and kept while it is among the last used
and until it is dropped. Nothing is loaded twice.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import torch
from torch import nn

from limner.engine.adapters import AdapterStore, LoadedAdapter
from limner.engine.checkpoints import CheckpointFiles, Given, find_checkpoint
from limner.engine.families.port import LoadedFamily
from limner.engine.families.registry import family_module
from limner.engine.precision import choose_device, choose_precision
from limner.engine.runner import guarded

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Places:
    """Where checkpoints are looked for, and how they are to be loaded.

    `precision` maps components to what was wished (`auto`, `float32`, …); `given` names parts that lie elsewhere.
    """

    models_dir: Path
    builtin_dir: Path
    default_model: str
    device: str = "auto"
    precision: Mapping[str, str] = field(default_factory=dict[str, str])
    given: Given | None = None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded checkpoint: its family, and the facts that recipes record."""

    name: str
    family: LoadedFamily
    device: str
    precision: dict[str, str]
    notes: tuple[str, ...]
    memory_bytes: Mapping[str, int]
    """What its weights hold, by component, as measured from its tensors."""

    @cached_property
    def sha256(self) -> str:
        """The hash of the denoiser's weights, computed when it is first asked for: large files take seconds."""
        return self.family.files.sha256()

    @property
    def known_sha256(self) -> str:
        """The same where it was computed already, else empty: asking costs nothing."""
        return str(vars(self).get("sha256", ""))


class Networks:
    """Networks in memory, each of them once: checkpoints that lie on the same files share them.

    An entry lives as long as some checkpoint uses it.
    """

    def __init__(self) -> None:
        self._kept: WeakValueDictionary[tuple[object, ...], nn.Module] = WeakValueDictionary()

    def get(
        self, kind: str, path: Path, dtype: torch.dtype, device: torch.device, load: Callable[[], Network]
    ) -> Network:
        """As `SharedNetworks` says; a file that has changed since is another one."""
        stat = path.stat()
        key = (kind, path.resolve(), stat.st_mtime_ns, stat.st_size, dtype, str(device))
        known = self._kept.get(key)
        if known is None:
            known = load()
            self._kept[key] = known
        return known  # pyright: ignore[reportReturnType]


class Residency:
    """Loads checkpoints by name and keeps the last `limit` of them."""

    def __init__(self, places: Places, limit: int = 2) -> None:
        self._places = places
        self._limit = limit
        self._loaded: OrderedDict[str, Checkpoint] = OrderedDict()
        self._used: dict[str, float] = {}
        self._adapters = AdapterStore()
        self._networks = Networks()

    def get(self, name: str | None = None) -> Checkpoint:
        """The checkpoint of that name (the default one for None), loaded now if it is not in memory.

        Raises:
            NotFound, BrokenCheckpoint, Unsupported: as `find_checkpoint` and `load_components` say.
            OutOfMemory: it does not fit; what was loaded before is kept.
        """
        key = name or self._places.default_model
        if (known := self._loaded.get(key)) is not None:
            self._loaded.move_to_end(key)
            self.touch(known)
            return known
        # The parts named in the settings belong to the default checkpoint only.
        given = self._places.given if key == self._places.default_model else None
        files = find_checkpoint(key, self._places.models_dir, self._places.builtin_dir, given)
        checkpoint = guarded(lambda: self._load(files), f"loading checkpoint `{files.name}`")
        self._loaded[key] = checkpoint
        self.touch(checkpoint)
        for oldest in [*self._loaded.values()][: -self._limit]:
            self.drop(oldest)
        return checkpoint

    def load(self, name: str) -> Checkpoint:
        """As `get`, for the name of a checkpoint: the one that the settings give by a path is known by its name too."""
        default = self._places.default_model
        named = next((key for key, known in self._loaded.items() if known.name == name), None)
        if named is None and name != default:
            files = find_checkpoint(name, self._places.models_dir, self._places.builtin_dir)
            named = default if files.path == Path(default).expanduser() else name
        return self.get(named)

    def drop(self, checkpoint: Checkpoint) -> None:
        """Forget a checkpoint; its memory is free when those who paint with it let go of it as well."""
        for key in [key for key, known in self._loaded.items() if known is checkpoint]:
            del self._loaded[key]
        self._used.pop(checkpoint.name, None)
        self._adapters.forget(checkpoint.family)

    def touch(self, checkpoint: Checkpoint) -> None:
        """Note that a checkpoint is used now."""
        self._used[checkpoint.name] = time.time()

    def used_at(self, checkpoint: Checkpoint) -> float:
        """When a checkpoint was last noted to be used, in seconds since 1970."""
        return self._used.get(checkpoint.name, 0.0)

    def loaded(self) -> tuple[Checkpoint, ...]:
        """What is in memory, least recently used first; may be asked from any thread."""
        return tuple(self._loaded.copy().values())

    def adapter(self, file: Path, checkpoint: Checkpoint) -> LoadedAdapter:
        """What became of attaching a LoRA file to a checkpoint; read once."""
        family = checkpoint.family
        return self._adapters.load(
            file,
            family.adapter_targets(),
            family.name,
            identity=family,
            checkpoint=checkpoint.name,
            device=family.device,
            dtype=family.dtype,
        )

    def _load(self, files: CheckpointFiles) -> Checkpoint:
        device = choose_device(self._places.device)
        module = family_module(files.family)
        precision = choose_precision(device, self._places.precision, module.precision_policy(files))
        if device.type == "cuda":
            # Reductions in half precision differ with the batch; the law batched = alone needs them exact.
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        family = module.load_family(files, device, precision, self._networks)
        held = {name: tensor_bytes(network) for name, network in family.networks().items()}
        return Checkpoint(files.name, family, str(device), precision.names(), precision.notes, held)


def tensor_bytes(network: nn.Module) -> int:
    """Bytes of a network's parameters and buffers; those that are shared count once."""
    return sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()])
