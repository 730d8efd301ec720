"""The number of CPU threads: what others leave free, looked at again while painting."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from limner.engine import threads as module
from limner.engine.threads import Reading, Threads, allowed_cores


class System:
    """A machine of four cores whose clock and load a test sets."""

    def __init__(self) -> None:
        self.now_s = self.spent_s = self.own_s = 0.0

    def pass_time(self, seconds: float, others: float = 0.0, own: float = 0.0) -> None:
        """Let time pass while `others` and `own` cores are busy."""
        self.now_s += seconds
        self.own_s += own * seconds
        self.spent_s += (others + own) * seconds

    def read(self) -> Reading:
        return Reading(self.now_s, self.spent_s, self.own_s)


def sixteen(_: int) -> set[int]:
    return set(range(16))


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    system = System()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module.time, "monotonic", lambda: system.now_s)
    monkeypatch.setattr(module.time, "sleep", system.pass_time)
    before = torch.get_num_threads()
    yield system
    torch.set_num_threads(before)


def test_an_idle_machine_gives_all_that_is_allowed(system: System) -> None:
    assert Threads(read=system.read, cores=(4, 4)).count == 4
    assert torch.get_num_threads() == 4
    assert Threads(read=system.read, cores=(64, 3)).count == 3


def test_who_is_busy_at_the_start_is_not_so_for_ever(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", partial(system.pass_time, others=3))
    threads = Threads(read=system.read, cores=(4, 4))
    assert threads.count == 1
    system.pass_time(0.5)
    threads.look()
    assert threads.count == 1, "looked at too soon"
    system.pass_time(0.6, others=2, own=1)
    threads.look()
    assert (threads.count, torch.get_num_threads(), threads.changes) == (3, 3, 1)
    system.pass_time(2.1, own=3)
    threads.look()
    assert threads.count == 4


def test_own_work_is_not_taken_for_that_of_others(system: System) -> None:
    threads = Threads(read=system.read, cores=(4, 4))
    system.pass_time(1.5, own=4)
    threads.look()
    assert (threads.count, threads.changes) == (4, 0)


def test_threads_make_room_and_come_back(system: System) -> None:
    threads = Threads(read=system.read, cores=(4, 4))
    system.pass_time(1.5, others=2, own=2)
    threads.look()
    assert threads.count == 2
    system.pass_time(3, own=2)
    threads.look()
    assert threads.count == 4


def test_half_a_core_more_or_less_changes_nothing(system: System) -> None:
    threads = Threads(read=system.read, cores=(4, 4))
    for others in (0.55, 0.45, 0.59, 0.0):
        system.pass_time(11, others=others, own=3.4)
        threads.look()
    assert (threads.count, threads.changes) == (4, 0)


def test_it_is_looked_at_less_often_until_there_was_a_pause(system: System) -> None:
    threads = Threads(read=system.read, cores=(4, 4))
    for _ in range(6):
        system.pass_time(11)
        threads.look()
    system.pass_time(5, others=2)
    threads.look()
    assert threads.count == 4
    threads.rest()
    threads.look()
    assert threads.count == 2


def test_what_others_do_in_a_pause_does_not_count(system: System) -> None:
    threads = Threads(read=system.read, cores=(4, 4))
    for _ in range(3):
        threads.rest()
        system.pass_time(5, others=4)
        threads.look()
        assert threads.count == 4
        system.pass_time(0.7, own=4)
        threads.look()
    assert (threads.count, threads.changes) == (4, 0)


def test_short_work_between_pauses_adds_up(system: System) -> None:
    threads = Threads(read=system.read, cores=(4, 4))
    for _ in range(2):
        threads.look()
        system.pass_time(0.7, others=2, own=2)
        threads.look()
        threads.rest()
        threads.rest()
        system.pass_time(20)
    threads.look()
    assert threads.count == 2


def test_a_wish_and_openmp_decide_alone(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    wished = Threads(3, read=system.read, cores=(4, 4))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    told = Threads(read=system.read, cores=(4, 4))
    system.pass_time(20, others=4)
    wished.look()
    told.look()
    assert (wished.count, told.count) == (3, 2)


def test_the_system_can_be_read() -> None:
    first, second = Reading.now(), Reading.now()
    assert second.at_s >= first.at_s
    assert second.spent_s >= first.spent_s > 0
    assert second.own_s >= first.own_s > 0


@pytest.mark.parametrize(("told", "most"), [("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1)])
def test_a_container_that_was_given_fewer_cores_counts(
    told: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", sixteen)
    quota = tmp_path / "cpu.max"
    quota.write_text(told)
    assert allowed_cores(quota) == most


def test_without_a_quota_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", sixteen)
    quota = tmp_path / "cpu.max"
    for told in ("max 100000", "", "nonsense here"):
        quota.write_text(told)
        assert allowed_cores(quota) == 16
    assert allowed_cores(tmp_path / "absent") == 16
