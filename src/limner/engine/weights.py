"""Put weights into networks: on the meta device first, then tensor by tensor from files.

This module knows files and networks, no architecture. Invariant: a network is built on the meta device and every one of
its tensors comes from a file; nothing is ever drawn at random.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from limner.engine.tensor_files import TensorSource, some
from limner.errors import BrokenCheckpoint

ALIGNMENT = 64
Network = TypeVar("Network", bound=nn.Module)


def read_config(folder: Path) -> dict[str, Any] | None:
    """The `config.json` of a component's folder; None where the component is a single file.

    Raises:
        BrokenCheckpoint: the file is missing or is not JSON.
    """
    if not folder.is_dir():
        return None
    file = folder / "config.json"
    try:
        content: Any = json.loads(file.read_text("utf-8"))
        return dict(content)
    except FileNotFoundError as error:
        raise BrokenCheckpoint(f"`{folder}` lacks its config.json. Fetch it again.", file=str(file)) from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BrokenCheckpoint(f"`{file}` is not readable: {error}. Fetch it again.", file=str(file)) from error


@dataclass(frozen=True)
class Part:
    """Where one tensor of a network comes from.

    Args:
        name: the tensor of the file.
        rows: the rows that are taken of it, all when absent.
        flat: whether a 1x1 kernel is taken as a matrix.
        transposed: whether the file keeps the matrix the other way round; `rows` count after turning it.
        swapped: whether the second half of the rows comes first.
    """

    name: str
    rows: slice | None = None
    flat: bool = False
    transposed: bool = False
    swapped: bool = False

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that this part has, given that of the stored tensor."""
        stored = stored[::-1] if self.transposed else stored
        if self.flat and stored[2:] == (1, 1):
            stored = stored[:2]
        if self.rows is not None and stored:
            stored = (len(range(*self.rows.indices(stored[0]))), *stored[1:])
        return stored

    def take(self, stored: Tensor) -> Tensor:
        """This part of the stored tensor, at an address of the alignment that torch itself gives."""
        stored = stored.T if self.transposed else stored
        if self.flat and tuple(stored.shape[2:]) == (1, 1):
            stored = stored[:, :, 0, 0]
        stored = stored if self.rows is None else stored[self.rows]
        if self.swapped:
            stored = stored.roll(stored.shape[0] // 2, 0)
        taken = stored.contiguous()
        # Kernels round differently over memory that is not aligned, and a mapped file seldom is: the same weights
        # shall give the same picture whichever layout they come in.
        return taken if taken.data_ptr() % ALIGNMENT == 0 else taken.clone()


def build_network(build: Callable[[], Network], config: Mapping[str, Any], path: Path) -> Network:
    """Build a network on the meta device, where it costs no memory and no time.

    Raises:
        BrokenCheckpoint: the configuration contradicts itself.
    """
    try:
        with torch.device("meta"):
            network = build()
    except Exception as error:  # libraries check configurations with errors of many kinds
        shown = ", ".join(f"{name}={value!r}" for name, value in list(config.items())[:12])
        raise BrokenCheckpoint(
            f"`{path}` has a configuration that makes no network ({error or type(error).__name__}; {shown}). "
            "Fetch its config.json again.",
            file=str(path),
        ) from error
    return network.eval().requires_grad_(False)


def fill_network(
    network: Network,
    source: TensorSource,
    parts: Mapping[str, Part],
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Network:
    """Put tensors into a network that was built on the meta device.

    Args:
        network: its parameters and buffers are replaced.
        source: where the tensors are stored.
        parts: for every tensor of the file that is wanted, under the network's own name.
        dtype: what floating tensors become; those that are stored in it and lie aligned stay memory-mapped.
        device: where they shall lie.

    Raises:
        BrokenCheckpoint: tensors are missing, unexpected or of wrong shapes; the message names the first few.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    kind = type(network).__name__
    offered = {name: part.shape(source.tensors[part.name].shape) for name, part in parts.items()}
    if missing := [name for name in expected if name not in offered]:
        raise _misfit(source, f"lacks {len(missing)} of {len(expected)} tensors of {kind}: {some(missing)}", missing)
    if unexpected := [part.name for name, part in parts.items() if name not in expected]:
        what = f"holds {len(unexpected)} tensors that {kind} does not have: {some(unexpected)}"
        raise _misfit(source, what, unexpected)
    if wrong := [name for name, shape in expected.items() if offered[name] != shape]:
        first = ", ".join(f"`{name}` is {offered[name]}, expected {expected[name]}" for name in wrong[:3])
        raise _misfit(source, f"holds {len(wrong)} tensors of other shapes than {kind} has: {first}", wrong)
    stored = source.load({part.name: None for part in parts.values()}, dtype, device)
    network.load_state_dict({name: part.take(stored[part.name]) for name, part in parts.items()}, assign=True)
    return network.requires_grad_(False)


def require_real(network: nn.Module) -> None:
    """Make sure that nothing was left on the meta device (tables that are computed, not stored).

    Raises:
        RuntimeError: a defect of the loader, not of the file.
    """
    named: list[tuple[str, Tensor]] = [*network.named_parameters(), *network.named_buffers()]
    if left := [name for name, tensor in named if tensor.is_meta]:
        raise RuntimeError(f"{type(network).__name__} was left without {some(left)}")


def _misfit(source: TensorSource, what: str, names: list[str]) -> BrokenCheckpoint:
    message = f"`{source.path}` {what}. The file is damaged or belongs to another checkpoint; fetch it again."
    return BrokenCheckpoint(message, file=str(source.path), tensors=names[:20], count=len(names))
