"""The networks in memory: each of them once, what it holds, when it was last used, and how it comes back.

A network that is shared came from `get` with a way to load it: its weights can be taken out while the module stays
where it is, so that the families that hold it notice nothing, and put back before it is used. All others live as long
as somebody holds them. Nothing here keeps a network alive. Invariant: a network whose weights are out is never
computed with.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, nn

from limner.engine.tensor_files import open_tensors, some
from limner.errors import BrokenCheckpoint

Network = TypeVar("Network", bound=nn.Module)


@dataclass(eq=False)
class Component:
    """What is known of a network in memory; `memory_bytes` is 0 while its weights are out.

    Those of one that is `elsewhere` rest in the system's memory while others are on a device of their own.
    """

    memory_bytes: int
    full_bytes: int
    used: int
    path: Path | None = None
    marks: Hashable = None
    load: Callable[[], nn.Module] | None = None
    elsewhere: bool = False


class Networks:
    """Networks in memory, each of them once: checkpoints that lie on the same files share them.

    An entry lives as long as some checkpoint uses it. `make_room` is called with a number of bytes and some
    networks before weights of that size are read for these.
    """

    def __init__(self, make_room: Callable[[int, Collection[nn.Module]], None] | None = None) -> None:
        self._shared: WeakValueDictionary[Hashable, nn.Module] = WeakValueDictionary()
        self._known: WeakKeyDictionary[nn.Module, Component] = WeakKeyDictionary()
        self._make_room = make_room
        self._clock = itertools.count(1)

    def get(
        self, kind: str, path: Path, dtype: torch.dtype, device: torch.device, load: Callable[[], Network]
    ) -> Network:
        """As `SharedNetworks` says; a file that has changed since is another one.

        Who holds it may change the layout of its weights in memory, nothing else, and keeps none of its tensors.
        """
        marks = _marks(path)
        # Folders of links to the same files are one: a hub's cache has a folder for each revision.
        place = (path / "config.json" if path.is_dir() else path).resolve()
        key = (kind, place, marks, dtype, str(device))
        known = self._shared.get(key)
        if known is None:
            known = self._shared[key] = load()
            self.adopt(known)
            entry = self._known[known]
            entry.path, entry.marks, entry.load = path, marks, load
        self.bring((known,), (known,))
        return cast(Network, known)

    def adopt(self, network: nn.Module, elsewhere: bool = False) -> None:
        """Know a network that was not loaded here; it counts unless it rests elsewhere."""
        if network not in self._known:
            held = tensor_bytes(network)
            self._known[network] = Component(held, held, next(self._clock), elsewhere=elsewhere)

    def bring(self, networks: Collection[nn.Module], beside: Collection[nn.Module]) -> None:
        """Note that networks are used now, all together, and read the weights of those again that are out.

        No room is made at the cost of those in `beside`.

        Raises:
            BrokenCheckpoint: a file was replaced since, or cannot be read any more.
        """
        for network in networks:
            self._known[network].used = next(self._clock)
        for network in networks:
            if not (entry := self._known[network]).memory_bytes:
                self._return(network, entry, beside)

    def _return(self, network: nn.Module, entry: Component, beside: Collection[nn.Module]) -> None:
        if entry.load is None or entry.path is None:
            return
        if _marks(entry.path) != entry.marks:
            raise BrokenCheckpoint(
                f"`{entry.path}` was replaced while a checkpoint that uses it was loaded. Unload it and try again.",
                file=str(entry.path),
            )
        if self._make_room is not None:
            self._make_room(entry.full_bytes, beside)
        with torch.inference_mode(False):
            _take_weights(network, entry.load())
        entry.memory_bytes = entry.full_bytes

    def evict(self, network: nn.Module) -> None:
        """Take the weights of a shared network out of memory; others are left alone."""
        entry = self._known[network]
        if entry.load is not None and entry.memory_bytes:
            with torch.inference_mode(False):
                network.to_empty(device="meta")
            entry.memory_bytes = 0

    def can_return(self, network: nn.Module) -> bool:
        """Whether its weights can be taken out and put back."""
        return self._known[network].load is not None

    def bytes_of(self, network: nn.Module) -> int:
        """What the weights of a known network hold now; may be asked from any thread."""
        return self._known[network].memory_bytes

    def held_bytes(self) -> int:
        """What all networks that are alive hold together."""
        return sum(entry.memory_bytes for entry in self._known.values() if not entry.elsewhere)

    def held_at(self, paths: Iterable[Path]) -> dict[Path, int]:
        """Of these paths, those whose networks are in memory, with their bytes; they count as used now."""
        held: dict[Path, int] = {}
        for entry in self._known.values():
            if entry.path is not None and entry.memory_bytes and (found := entry.path) in set(paths):
                entry.used = next(self._clock)
                held[found] = held.get(found, 0) + entry.memory_bytes
        return held

    def idle_longest(self, *, but: Iterable[nn.Module] = ()) -> list[nn.Module]:
        """All networks that hold memory, least recently used first, without those of `but`."""
        kept = {id(network) for network in but}
        found = [
            (entry.used, network)
            for network, entry in self._known.items()
            if entry.memory_bytes and not entry.elsewhere
        ]
        return [network for _, network in sorted(found, key=lambda pair: pair[0]) if id(network) not in kept]


def tensor_bytes(network: nn.Module) -> int:
    """Bytes of a network's parameters and buffers; those that are shared count once."""
    return sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()] if not tensor.is_meta)


def _marks(path: Path) -> Hashable:
    stats = [(file.resolve(), file.stat()) for file in open_tensors(path).files]
    return tuple((file, stat.st_mtime_ns, stat.st_size) for file, stat in stats)


def _take_weights(network: nn.Module, fresh: nn.Module) -> None:
    modules = dict(cast("Iterable[tuple[str, nn.Module]]", network.named_modules()))
    others = dict(cast("Iterable[tuple[str, nn.Module]]", fresh.named_modules()))
    if foreign := modules.keys() ^ others.keys():
        raise RuntimeError(f"{type(network).__name__} has changed since it was loaded: {some(sorted(foreign))}")
    taken: dict[int, Tensor] = {}  # what is one tensor in two places stays one
    for path, module in modules.items():
        for tensors, loaded in zip(_tensors(module), _tensors(others[path]), strict=True):
            for name, tensor in tensors.items():
                found = loaded[name]
                if tensor is not None and found is not None:
                    tensors[name] = taken.setdefault(id(found), _laid_out(found, tensor))


def _tensors(module: nn.Module) -> tuple[dict[str, Tensor | None], ...]:
    # Setting attributes would register every tensor anew.
    return vars(module)["_parameters"], vars(module)["_buffers"]


def _laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    if tensor.stride() == like.stride():
        return tensor
    placed = torch.empty_strided(tensor.shape, like.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)
    return nn.Parameter(placed, False) if isinstance(tensor, nn.Parameter) else placed
