"""The scheduler decides without tensors, keeps its budget and starves nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.engine.scheduler import Candidate, Scheduler


def running(ids: range | list[int], budget: int = 100, room: int = 64) -> Scheduler:
    scheduler = Scheduler(budget, room)
    for id in ids:
        scheduler.add(id)
    scheduler.admit()
    return scheduler


def test_candidates_of_one_key_share_a_forward() -> None:
    scheduler = running(range(3))
    assert sorted(scheduler.plan([Candidate(0, "a", 10), Candidate(1, "a", 10), Candidate(2, "a", 10)])) == [0, 1, 2]


def test_candidates_of_another_key_wait_and_come_next() -> None:
    scheduler = running(range(2))
    candidates = [Candidate(0, "a", 10), Candidate(1, "b", 10)]
    assert scheduler.plan(candidates) != scheduler.plan(candidates)


def test_one_candidate_above_the_budget_runs_alone() -> None:
    scheduler = running(range(2), budget=5)
    batches = [scheduler.plan([Candidate(0, "a", 10), Candidate(1, "a", 1)]) for _ in range(2)]
    assert [0] in batches


def test_the_line_is_served_first_come_first_served() -> None:
    scheduler = Scheduler(100, max_running=2)
    for id in range(5):
        scheduler.add(id)
    assert scheduler.admit() == [0, 1]
    assert scheduler.admit() == []
    scheduler.remove(0)
    assert scheduler.admit() == [2]
    assert scheduler.waiting == (3, 4)


def test_removing_someone_unknown_changes_nothing() -> None:
    scheduler = running(range(2))
    scheduler.remove(99)
    assert sorted(scheduler.running) == [0, 1]


def test_nothing_ready_means_an_empty_batch() -> None:
    assert running(range(2)).plan([]) == []


@pytest.mark.parametrize(("budget", "room"), [(0, 1), (1, 0)])
def test_limits_below_one_are_refused(budget: int, room: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Scheduler(budget, room)


candidate_sets = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), min_size=1, max_size=20).map(
    lambda pairs: [Candidate(id, key, tokens) for id, (key, tokens) in enumerate(pairs)]
)


@given(candidate_sets, st.integers(1, 100))
def test_a_batch_has_one_key_and_keeps_the_budget(candidates: list[Candidate], budget: int) -> None:
    scheduler = running(range(len(candidates)), budget)
    by_id = {candidate.id: candidate for candidate in candidates}
    for _ in range(5):
        batch = [by_id[id] for id in scheduler.plan(candidates)]
        assert batch
        assert len({candidate.key for candidate in batch}) == 1
        assert len(batch) == 1 or sum(candidate.tokens for candidate in batch) <= budget


@given(candidate_sets, st.integers(1, 100))
def test_nobody_starves(candidates: list[Candidate], budget: int) -> None:
    scheduler = running(range(len(candidates)), budget)
    served: set[int] = set()
    for _ in candidates:
        served.update(scheduler.plan(candidates))
    assert served == {candidate.id for candidate in candidates}


@given(candidate_sets, st.integers(1, 5), st.booleans())
def test_nobody_waits_for_those_who_joined_later(candidates: list[Candidate], olds: int, short: bool) -> None:
    scheduler = running(range(olds), room=1000)
    present = {id: Candidate(id, f"old {id}", 50) for id in range(olds)}
    patience = dict.fromkeys(present, olds)  # plans until it must be served: as many as were running when it last was
    for id, candidate in enumerate(candidates, start=olds):
        scheduler.add(id)
        scheduler.admit()
        present[id] = Candidate(id, candidate.key, candidate.tokens)
        patience[id] = len(present)
        batch = scheduler.plan(list(present.values()))
        patience = {id: len(present) if id in batch else left - 1 for id, left in patience.items()}
        assert min(patience.values()) > 0
        for gone in (id for id in batch if short and id >= olds):  # it ends after one step; another takes its place
            scheduler.remove(gone)
            del present[gone], patience[gone]


def test_a_stream_of_short_pictures_does_not_stop_a_long_one() -> None:
    scheduler = running([0])
    served = 0
    for id in range(1, 41):
        scheduler.add(id)
        scheduler.admit()
        batch = scheduler.plan([Candidate(0, "old", 50), Candidate(id, "new", 50)])
        served += 0 in batch
        scheduler.remove(id)
    assert served >= 20


@given(candidate_sets, st.integers(1, 100))
def test_the_same_calls_give_the_same_plans(candidates: list[Candidate], budget: int) -> None:
    first, second = running(range(len(candidates)), budget), running(range(len(candidates)), budget)
    assert [first.plan(candidates) for _ in range(4)] == [second.plan(candidates) for _ in range(4)]
