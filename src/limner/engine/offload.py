"""How much memory there is for weights, and where they rest when not all of them fit.

The rules know sizes and wishes, no networks. Invariant: a wish that the device gives no meaning to is replaced, and a
note says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

Mode = Literal["none", "model", "group"]
Wish = Literal["auto", "none", "model", "group"]

BUDGET_SHARE = 0.8
"""Of the memory that is free at the start, what weights may fill; the rest is for what is computed with them."""
TILE_BELOW_BYTES = 4 << 30
"""Decoding a picture of a megapixel at once wants about this much beside the weights of denoiser and VAE."""
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class OffloadPlan:
    """Where weights rest.

    Args:
        mode: `none` keeps all on the device; `model` keeps the denoiser there, and either text encoders or VAE;
            `group` keeps all in system memory and brings the denoiser's layers one after another.
        tiles: whether pictures are always decoded in tiles.
        notes: sentences for people.
    """

    mode: Mode = "none"
    tiles: bool = False
    notes: tuple[str, ...] = ()


def choose_offload(
    device: str,
    room_bytes: int,
    sizes: Mapping[str, int],
    *,
    wish: Wish = "auto",
    vae_tiling: bool | None = None,
    groups: bool = True,
) -> OffloadPlan:
    """Where a checkpoint's weights rest.

    Args:
        device: its kind: `cpu`, `cuda`, `mps`.
        room_bytes: what weights may fill on the device.
        sizes: component to the bytes of its weights; the denoiser is `transformer`.
        wish: `auto` takes the first mode of `none`, `model`, `group` that fits.
        vae_tiling: True for always, False for only where memory ran out, None for also where little is left.
        groups: whether the denoiser's layers can be brought singly.
    """
    if device != "cuda":
        notes = ()
        if wish in ("model", "group"):
            notes = (f"offload = `{wish}` has no meaning on `{device}`: weights and work share one memory already.",)
        return OffloadPlan("none", bool(vae_tiling), notes)
    denoiser = sizes.get("transformer", 0)
    readers = sum(size for name, size in sizes.items() if name.startswith("text_encoder"))
    others = [readers, sum(sizes.values()) - denoiser - readers]
    notes = ()
    if wish != "auto":
        mode: Mode = wish
    elif denoiser + sum(others) <= room_bytes:
        mode = "none"
    else:
        mode = "model" if denoiser + max(others) <= room_bytes else "group"
        if mode == "model" or groups:
            whole, room = spoken_bytes(denoiser + sum(others)), spoken_bytes(room_bytes)
            notes = (f"The weights ({whole}) exceed the budget of {room}: {_DOES[mode]}.",)
    if mode == "group" and not groups:
        notes = (f"The layers of this family cannot be brought singly, as offload = `group` would: {_DOES['model']}.",)
        mode = "model"
    beside = {"none": denoiser + sum(others), "model": denoiser + max(others), "group": max(others)}[mode]
    tiles = room_bytes - beside < TILE_BELOW_BYTES if vae_tiling is None else vae_tiling
    return OffloadPlan(mode, tiles, notes)


_DOES = {
    "model": "text encoders and VAE are on the device only while they are used",
    "group": "all of them rest in system memory, and layers come to the device one after another",
}


def memory_of(device: torch.device) -> tuple[int, int]:
    """Free and total bytes of a device's memory; the system's for those that share it, within the container's limit."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(free), int(total)
    system = psutil.virtual_memory()
    free, total = int(system.available), int(system.total)
    for limit_file, used_file, stat_file, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        with suppress(OSError, ValueError):
            limit = int((_CGROUP / limit_file).read_text())
            used = int((_CGROUP / used_file).read_text())
            facts = dict(line.split() for line in (_CGROUP / stat_file).read_text().splitlines())
            # Mapped files count as used, but the system takes their memory back when it is wanted.
            free = min(free, limit - used + int(facts.get(cache, 0)))
            total = min(total, limit)
    return max(free, 0), total


def spoken_bytes(size: int) -> str:
    """A number of bytes for messages."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"
