"""What a worker says of itself: what it can paint with, on which device, and how it is doing."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limner.backends.native import NativeBackend
from limner.backends.settings import NativeSettings
from limner.config import Settings
from limner.domain import AdapterOutcome
from limner.errors import LimnerError
from limner.ports import HeldModel, ModelKeeper
from limner.studio import Studio

LOOK_EVERY_S = 20.0
HASHED_AT_ONCE_BYTES = 256 * 2**20
"""Smaller checkpoints are hashed when they are found, larger ones when they have painted their first picture."""

log = logging.getLogger("limner.worker")


class WorkerReport:
    """Called for every sign of life, and cheap: what takes longer is looked up now and then by `look`.

    Args:
        settings: the settings.
        studio: paints for this worker; asked for its figures.
    """

    def __init__(self, settings: Settings, studio: Studio) -> None:
        self._settings, self._studio = settings, studio
        self._models: list[dict[str, Any]] = []
        self._adapters: list[dict[str, Any]] = []
        self._device: dict[str, object] = {}
        self._seen: object = None
        self.loaded: set[str] = set()
        """Names of the checkpoints in memory, as of the last report."""

    async def keep_looking(self) -> None:
        """Look now and then, until it is cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except (LimnerError, OSError) as error:
                log.warning("checkpoints and adapters could not be looked at: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Find checkpoints, adapters and device.

        The first time it imports the engine and takes seconds; later it does nothing unless a file has changed.
        """
        from limner.backends import native

        native.import_engine()
        settings = self._settings.native
        adapters = self._studio.adapter_files()
        catalogue = native.Catalogue(settings, native.BUILTIN_DIR)
        seen = _marks([*_files_below(settings.models_dir), *catalogue.watched(), *adapters.values()])
        if seen == self._seen:
            return
        entries = native.list_checkpoints(settings)
        self._models = [
            {
                "name": entry.name,
                "family": entry.family,
                "size_bytes": entry.size_bytes,
                "builtin": entry.builtin,
                "problem": entry.problem,
            }
            for entry in entries
        ]
        self._device = native.device_report(settings)
        judged = native.judge_adapters(settings, adapters)
        self._adapters = [
            {"name": name, "fits": {model: _fit(outcome) for model, outcome in outcomes.items()}}
            for name, outcomes in judged.items()
        ]
        for model in self._models:
            if not model["problem"]:
                model["marks"] = _fingerprint(catalogue.find(model["name"]).parts, settings)
                if model["size_bytes"] <= HASHED_AT_ONCE_BYTES:
                    model["sha256"] = native.checkpoint_sha256(settings, model["name"])
        self._seen = seen

    def __call__(self) -> dict[str, Any]:
        """The report."""
        backend = self._studio.made("native")
        loaded = backend.loaded() if isinstance(backend, ModelKeeper) else dict[str, HeldModel]()
        sha256 = {name: held.sha256 for name, held in loaded.items()}
        self.loaded.intersection_update(loaded)
        self.loaded.update(loaded)
        models = [model | ({"sha256": sha} if (sha := sha256.get(model["name"])) else {}) for model in self._models]
        native = backend if isinstance(backend, NativeBackend) else None
        figures = native.statistics() if native else {}
        device = self._device | ({"threads": native.threads} if native and native.threads else {})
        return {
            "models": models,
            "adapters": self._adapters,
            "device": device,
            "loaded": list(loaded),
            "held": {name: asdict(held) for name, held in loaded.items()},
            "statistics": figures | self._memory(),
        }

    def _memory(self) -> dict[str, float]:
        from limner.backends import native

        held = resident_bytes() | native.device_memory_bytes(self._settings.native)
        return {f"memory_{kind}_bytes": float(size) for kind, size in held.items()}


def _fingerprint(parts: Mapping[str, Path], settings: NativeSettings) -> str:
    """Changes when a part of a checkpoint does, or what it is computed in: then its pictures are others."""
    found = {name: _marks([path, *_files_below(path)]) for name, path in parts.items()}
    wished = [settings.device, settings.dtype, settings.transformer_dtype, settings.text_encoder_dtype]
    return hashlib.sha256(repr([sorted(found.items()), *wished, settings.vae_dtype]).encode()).hexdigest()


def _fit(outcome: AdapterOutcome) -> dict[str, Any]:
    return outcome.model_dump(mode="json", include={"status", "matched", "total", "reason"})


def _files_below(folder: Path | None) -> Iterable[Path]:
    return sorted(folder.rglob("*")) if folder is not None and folder.is_dir() else ()


def _marks(files: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    marks: list[tuple[str, int, int]] = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue
        marks.append((str(file), stat.st_size, stat.st_mtime_ns))
    return tuple(marks)


def resident_bytes() -> dict[str, int]:
    """Memory of this process: now, where the platform tells, and at most."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = {"peak": peak if sys.platform == "darwin" else peak * 1024}
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return held
    return {"resident": pages * resource.getpagesize()} | held
