"""How many CPU threads torch uses.

Threads that share a core with other work wait for one another at every operation, which is slower than fewer threads
with a core each. So torch gets the cores that others leave free. Who is busy when a worker starts, its own server for
one, which starts as well, is not so for the weeks that it lives: it is looked at again while it paints. What others do
while nothing is painted says nothing of the time when something is: clients connect, or the other engine is at work.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

FIRST_LOOK_S = 0.1
SOONEST_S, LATEST_S = 1.0, 10.0
"""Between two looks: short at first and after a pause, then longer."""
DECIDED = 0.6
"""Cores by which what is free must differ from what is used, so that the number does not flicker."""


@dataclass(frozen=True)
class Reading:
    """Seconds: the clock, what all processes have spent on all cores, and what this one has."""

    at_s: float
    spent_s: float
    own_s: float

    @classmethod
    def now(cls) -> Reading:
        """Ask the system; takes a fifth of a millisecond."""
        times, own = psutil.cpu_times(), psutil.Process().cpu_times()
        kinds = ("user", "nice", "system", "irq", "softirq", "steal")
        spent_s = sum(float(getattr(times, kind, 0.0)) for kind in kinds)
        return cls(time.monotonic(), spent_s, own.user + own.system)

    def __sub__(self, other: Reading) -> Reading:
        return Reading(self.at_s - other.at_s, self.spent_s - other.spent_s, self.own_s - other.own_s)


class Threads:
    """The number of CPU threads of the thread that paints; to be used from there alone.

    Args:
        wish: this many, whatever others do. Without one it is decided here, unless OMP_NUM_THREADS has decided it.
        read: asks the system.
        cores: cores of the machine, and how many of them this process may use.
    """

    def __init__(
        self,
        wish: int | None = None,
        read: Callable[[], Reading] = Reading.now,
        cores: tuple[int, int] | None = None,
    ) -> None:
        self._read = read
        self._all, self._allowed = cores or (os.cpu_count() or 1, allowed_cores())
        self._fixed = wish is not None or "OMP_NUM_THREADS" in os.environ
        self._pause_s = SOONEST_S
        self._rested: Reading | None = None
        self.count = wish or torch.get_num_threads()
        self.changes = 0
        """How often the number has changed since the start."""
        if not self._fixed:
            self._last = read()
            time.sleep(FIRST_LOOK_S)
            self.count = self._fitting(self._free())
        self._apply()

    def rest(self) -> None:
        """Leave the time from now on out, until the next look: nothing is painted."""
        if not self._fixed and self._rested is None:
            self._rested = self._read()

    def look(self) -> None:
        """Adjust the number to what others leave; before every step."""
        if self._fixed:
            return
        if self._rested is not None:
            self._last, self._rested = self._read() - (self._rested - self._last), None
            self._pause_s = SOONEST_S
        if time.monotonic() - self._last.at_s < self._pause_s:
            return
        self._pause_s = min(LATEST_S, 2 * self._pause_s)
        free = self._free()
        if abs(free - self.count) > DECIDED and (count := self._fitting(free)) != self.count:
            self.count = count
            self.changes += 1
            self._apply()

    def _free(self) -> float:
        """Cores that others have left since the last reading."""
        former, self._last = self._last, self._read()
        passed_s = max(1e-3, self._last.at_s - former.at_s)
        others_s = self._last.spent_s - former.spent_s - (self._last.own_s - former.own_s)
        return self._all - max(0.0, others_s) / passed_s

    def _fitting(self, free: float) -> int:
        return max(1, min(self._allowed, math.floor(free + 0.5)))

    def _apply(self) -> None:
        if self.count != torch.get_num_threads():
            torch.set_num_threads(self.count)


def allowed_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use: its affinity, and the share of a container that was given fewer."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        most, period = quota.read_text(encoding="ascii").split()
        if most != "max":
            allowed = min(allowed, math.ceil(int(most) / int(period)))
    return max(1, allowed)
