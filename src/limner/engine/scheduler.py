"""Decide what the device does next.

The scheduler owns two queues and no tensors. It never imports torch, never sleeps and never reads the clock: the same
calls always give the same plans. Invariants: a batch holds trajectories of one key only; it exceeds the token budget
only when its first member does so alone; a candidate that is always ready is served at least once in as many plans as
there were running when it last was, whoever joins meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A trajectory that wants its next evaluation: `tokens` counts all rows that it needs for it."""

    id: int
    key: Hashable
    tokens: int


class Scheduler:
    """Admits trajectories first come, first served, and picks the members of the next forward.

    Args:
        token_budget: tokens that one forward may hold. More rows than fit wait for the next one.
        max_running: trajectories that may be under way at once; the others wait in line.
    """

    def __init__(self, token_budget: int = 4096, max_running: int = 64) -> None:
        if token_budget < 1 or max_running < 1:
            raise ValueError("token_budget and max_running must be at least 1")
        self.token_budget = token_budget
        self.max_running = max_running
        self._waiting: deque[int] = deque()
        self._served: OrderedDict[int, None] = OrderedDict()  # running, least recently served first

    @property
    def running(self) -> tuple[int, ...]:
        """Admitted trajectories, least recently served first."""
        return tuple(self._served)

    @property
    def waiting(self) -> tuple[int, ...]:
        """Trajectories in line, oldest first."""
        return tuple(self._waiting)

    def add(self, id: int) -> None:
        """Put a trajectory in line."""
        self._waiting.append(id)

    def remove(self, id: int) -> None:
        """Forget a trajectory, wherever it is; unknown ids are ignored."""
        self._served.pop(id, None)
        if id in self._waiting:
            self._waiting.remove(id)

    def admit(self) -> list[int]:
        """Move trajectories from the line to the running ones while there is room; answers the newly admitted."""
        admitted: list[int] = []
        while self._waiting and len(self._served) < self.max_running:
            id = self._waiting.popleft()
            # Behind those who have waited longer: in front of them, a stream of short pictures would starve the others.
            self._served[id] = None
            admitted.append(id)
        return admitted

    def plan(self, candidates: Sequence[Candidate]) -> list[int]:
        """The members of the next forward: the least recently served candidate and all of its key that still fit."""
        ready = {candidate.id: candidate for candidate in candidates}
        batch: list[int] = []
        key: Hashable = None
        room = self.token_budget
        for id in self._served:
            candidate = ready.get(id)
            if candidate is None:
                continue
            if not batch:
                key = candidate.key
            elif candidate.key != key or candidate.tokens > room:
                continue
            batch.append(id)
            room -= candidate.tokens
        for id in batch:
            self._served.move_to_end(id)
        return batch
