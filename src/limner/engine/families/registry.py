"""From a family's name to the module that loads it.

A family's module is imported when a checkpoint of it is first looked at: each brings libraries that take seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol, TypeVar, cast

import torch
from torch import nn

from limner.engine.adapters import AdapterTargets
from limner.engine.checkpoints import CheckpointFiles
from limner.engine.families.port import LoadedFamily
from limner.engine.precision import Precision, PrecisionPolicy

Network = TypeVar("Network", bound=nn.Module)

_MODULES = {
    "zimage": "limner.engine.families.zimage_weights",
    "flux": "limner.engine.families.flux_weights",
    "sdxl": "limner.engine.families.unet_weights",
    "sd15": "limner.engine.families.unet_weights",
    # What is asked of headers only; residency loads a pipeline itself.
    "generic": "limner.engine.families.generic_weights",
}


class SharedNetworks(Protocol):
    """Networks that several checkpoints may use; each is loaded once."""

    def get(
        self, kind: str, path: Path, dtype: torch.dtype, device: torch.device, load: Callable[[], Network]
    ) -> Network:
        """The network of this kind that lies at `path`, loaded by `load` unless it is in memory like that already."""
        ...


class OwnNetworks:
    """Networks of one checkpoint alone: every one is loaded."""

    def get(
        self, kind: str, path: Path, dtype: torch.dtype, device: torch.device, load: Callable[[], Network]
    ) -> Network:
        """What `load` answers."""
        return load()


class FamilyModule(Protocol):
    """What a family's module offers."""

    LAYERS_ARE_CALLED: bool
    """Whether its denoiser is computed by calling its modules, so that these can be brought to the device singly."""

    def precision_policy(self, files: CheckpointFiles) -> PrecisionPolicy:
        """What `choose_precision` needs to know of the checkpoint, from its headers alone."""
        ...

    def header_targets(self, files: CheckpointFiles) -> AdapterTargets:
        """What adapters may change in the checkpoint, from its headers alone."""
        ...

    def load_family(
        self, files: CheckpointFiles, device: torch.device, precision: Precision, shared: SharedNetworks
    ) -> LoadedFamily:
        """The family with its weights. Raises `BrokenCheckpoint` and `Unsupported`; then nothing is kept."""
        ...


def family_module(name: str) -> FamilyModule:
    """The module of the family that `recognise` calls `name`; one of `needs.FAMILIES`."""
    return cast(FamilyModule, import_module(_MODULES[name]))
