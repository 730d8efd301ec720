"""What this machine offers: threads, memory, and the precision that pictures would be painted in."""

from __future__ import annotations

import ctypes
import gc
import platform
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from limner.engine.checkpoints import find_checkpoint
from limner.engine.families.registry import family_module
from limner.engine.offload import memory_of
from limner.engine.precision import choose_device, choose_precision
from limner.engine.threads import allowed_cores
from limner.errors import LimnerError

if TYPE_CHECKING:
    from limner.engine.residency import Places


@dataclass(frozen=True)
class DeviceReport:
    """Facts for people who ask what their pictures are painted on; `problems` are sentences."""

    device: str
    name: str
    precision: dict[str, str]
    memory_total_bytes: int
    memory_free_bytes: int
    threads: int
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def cuda_memory_bytes() -> dict[str, int]:
    """What this process holds of its CUDA devices now and held at most; empty where it uses none."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    devices = range(torch.cuda.device_count())
    return {
        "device": sum(torch.cuda.memory_reserved(device) for device in devices),
        "device_peak": sum(torch.cuda.max_memory_reserved(device) for device in devices),
    }


def give_back_memory(collect: bool = True) -> None:
    """Return to device and system what this process holds free, after something large was dropped.

    `collect` says whether it may be in a cycle.
    """
    if collect:
        gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    # glibc keeps freed blocks for itself, also large ones once such were freed before.
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def report(places: Places, threads: int | None) -> DeviceReport:
    """What pictures of the default checkpoint would be painted with, and what is in the way."""
    notes: list[str] = []
    problems: list[str] = []
    device, precision = torch.device("cpu"), dict[str, str]()
    try:
        device = choose_device(places.device)
        files = find_checkpoint(
            places.default_model, places.models_dir, places.builtin_dir, places.given, places.elsewhere
        )
        chosen = choose_precision(device, places.precision, family_module(files.family).precision_policy(files))
        precision = chosen.names()
        notes += chosen.notes
    except LimnerError as error:
        problems.append(error.message)
    on_card = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_card else platform.processor() or platform.machine()
    free, total = memory_of(device)
    return DeviceReport(
        device=str(device),
        name=name,
        precision=precision,
        memory_total_bytes=total,
        memory_free_bytes=free,
        threads=threads or min(torch.get_num_threads(), allowed_cores()),
        notes=tuple(notes),
        problems=tuple(problems),
    )
