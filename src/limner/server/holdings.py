"""What the workers hold of a checkpoint in memory, and what became of the wishes to load and unload it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from limner.domain import WorkerRecord
from limner.jobs.wishes import Wish


def holding(name: str, workers: Sequence[WorkerRecord], wishes: Sequence[Wish]) -> dict[str, Any]:
    """The fields of a model's view that tell of memory.

    Args:
        name: the checkpoint.
        workers: those that are alive.
        wishes: of all checkpoints and workers, also of those that have died.
    """
    held = [worker.held[name] for worker in workers if name in worker.held]
    components: dict[str, int] = {}
    for entry in held:
        for component, size in entry["memory_bytes"].items():
            components[component] = components.get(component, 0) + size
    idle = [entry["idle_since"] for entry in held]
    alive = {worker.id for worker in workers}
    ours = [wish for wish in wishes if wish.model == name]
    under_way = {wish.wanted for wish in ours if wish.worker in alive and not wish.problem}
    loaded = any(name in worker.loaded for worker in workers)
    return {
        "loaded": loaded,
        "loading": "load" in under_way,
        "unloading": "unload" in under_way,
        "load_problem": "" if loaded or under_way else next(filter(None, (_problem(wish, alive) for wish in ours)), ""),
        "memory_bytes": sum(components.values()),
        "memory_by_component": components,
        "idle_since": max(idle) if idle and None not in idle else None,
    }


def _problem(wish: Wish, alive: set[str]) -> str:
    if wish.problem or wish.wanted == "unload" or wish.worker in alive:
        return wish.problem
    return (
        f"The worker {wish.worker} ended before it had loaded `{wish.model}`. "
        "Look into its log; there may be too little memory."
    )
