"""The engine over a small epsilon family: joining, leaving, failing, and the law batched = alone."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.domain import SAMPLERS, CacheSettings, Plan, Stage
from limner.engine.engine import (
    Broke,
    Engine,
    Happening,
    Painted,
    Painting,
    Previewed,
    PreviewFailed,
    StageBegan,
    StageEnded,
    Stepped,
)
from limner.engine.families.port import Row
from limner.engine.inpainting import Inpainting
from limner.engine.runner import guarded
from limner.errors import EngineFault, InvalidRequest, OutOfMemory
from tests.support.tiny_family import TinyFamily

FAMILY = TinyFamily()


def plan_of(*stages: Stage, prompt: str = "a cat", seed: int = 1) -> Plan:
    seeded = tuple(
        stage.model_copy(update={"noise_seed": seed + 100 * index, "stream_seed": seed + 100 * index + 50})
        for index, stage in enumerate(stages)
    )
    return Plan(prompt=prompt, negative_prompt="", seed=seed, stages=seeded)


def paint_all(engine: Engine) -> tuple[dict[int, Tensor], list[Happening]]:
    painted: dict[int, Tensor] = {}
    happenings: list[Happening] = []
    for _ in range(5000):
        if not engine.busy:
            return painted, happenings
        for happening in engine.step():
            happenings.append(happening)
            if isinstance(happening, Painted):
                painted[happening.id] = happening.pixels
    raise AssertionError("the engine does not come to an end")


def masked(plan: Plan) -> Painting:
    """The plan from a grey picture, of which the left half is kept."""
    first, last = plan.stages[0], plan.stages[-1]
    mask = torch.zeros(1, last.height, last.width)
    mask[..., last.width // 2 :] = 1
    reference = torch.full((3, first.height, first.width), 0.25)
    return Painting(plan, FAMILY, (), reference, Inpainting(torch.full((3, last.height, last.width), 0.25), mask))


def paint_alone(plan: Plan) -> Tensor:
    return paint_one(Painting(plan, FAMILY))


def paint_one(painting: Painting) -> Tensor:
    engine = Engine()
    id = engine.add(painting)
    painted, happenings = paint_all(engine)
    assert id in painted, happenings
    return painted[id]


def test_a_stage_is_reported_from_begin_to_end() -> None:
    engine = Engine()
    id = engine.add(
        Painting(
            plan_of(Stage(width=64, height=64, steps=3), Stage(width=128, height=64, steps=2, denoise=0.5)), FAMILY
        )
    )
    _, happenings = paint_all(engine)
    kinds = [(type(h).__name__, getattr(h, "stage", None)) for h in happenings]
    assert kinds == [
        ("StageBegan", 0), ("Stepped", 0), ("Stepped", 0), ("Stepped", 0), ("StageEnded", 0),
        ("StageBegan", 1), ("Stepped", 1), ("Stepped", 1), ("StageEnded", 1), ("Painted", None),
    ]  # fmt: skip
    fractions = [h.fraction for h in happenings if isinstance(h, Stepped)]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert all(h.id == id for h in happenings)


def test_every_step_is_counted_by_its_own_stage() -> None:
    engine = Engine()
    engine.add(
        Painting(plan_of(Stage(width=64, height=64, steps=3), Stage(width=64, height=64, steps=7, denoise=0.5)), FAMILY)
    )
    _, happenings = paint_all(engine)
    steps = [(h.stage, h.step, h.steps) for h in happenings if isinstance(h, Stepped)]
    assert steps == [(0, step, 3) for step in (1, 2, 3)] + [(1, step, 7) for step in range(1, 8)]


def test_pictures_of_one_size_share_forwards() -> None:
    family = TinyFamily()
    engine = Engine()
    for seed in range(4):
        engine.add(Painting(plan_of(Stage(width=64, height=64, steps=5), seed=seed), family))
    paint_all(engine)
    assert family.forwards == [4] * 5


def test_pictures_of_different_sizes_do_not_share_when_the_family_cannot() -> None:
    family = TinyFamily()
    engine = Engine()
    engine.add(Painting(plan_of(Stage(width=64, height=64, steps=3)), family))
    engine.add(Painting(plan_of(Stage(width=128, height=64, steps=3)), family))
    painted, _ = paint_all(engine)
    assert family.forwards == [1] * 6
    assert sorted(tuple(pixels.shape) for pixels in painted.values()) == [(3, 64, 64), (3, 64, 128)]


def test_guidance_evaluates_two_rows_and_cfg_one_a_single_one() -> None:
    family = TinyFamily()
    engine = Engine()
    engine.add(Painting(plan_of(Stage(width=64, height=64, steps=2, cfg=3.0)), family))
    paint_all(engine)
    assert family.forwards == [2, 2]


def test_an_aborted_picture_leaves_the_others_alone() -> None:
    alone = paint_alone(plan_of(Stage(width=64, height=64, steps=6)))
    engine = Engine()
    kept = engine.add(Painting(plan_of(Stage(width=64, height=64, steps=6)), FAMILY))
    dropped = engine.add(Painting(plan_of(Stage(width=64, height=64, steps=6), seed=9), FAMILY))
    engine.step()
    engine.abort(dropped)
    engine.abort(12345)
    painted, _ = paint_all(engine)
    assert list(painted) == [kept]
    assert torch.allclose(painted[kept], alone, atol=1e-5)


def test_a_picture_waiting_in_line_can_be_aborted() -> None:
    engine = Engine(max_running=1)
    first = engine.add(Painting(plan_of(Stage(width=64, height=64, steps=2)), FAMILY))
    second = engine.add(Painting(plan_of(Stage(width=64, height=64, steps=2)), FAMILY))
    engine.step()
    engine.abort(second)
    painted, _ = paint_all(engine)
    assert list(painted) == [first]


def test_out_of_memory_splits_the_batch_and_goes_on() -> None:
    family = TinyFamily()
    family.fail_above_rows = 2
    engine = Engine()
    for seed in range(5):
        engine.add(Painting(plan_of(Stage(width=64, height=64, steps=2, cfg=2.0), seed=seed), family))
    painted, _ = paint_all(engine)
    assert len(painted) == 5
    assert max(family.forwards) == 2


def test_out_of_memory_for_a_single_row_is_an_error_that_says_what_to_do() -> None:
    family = TinyFamily()
    family.fail_above_rows = 0
    engine = Engine()
    engine.add(Painting(plan_of(Stage(width=64, height=64, steps=2)), family))
    _, happenings = paint_all(engine)
    broke = [h for h in happenings if isinstance(h, Broke)]
    assert len(broke) == 1
    assert isinstance(broke[0].error, OutOfMemory)
    assert "smaller size" in broke[0].error.message


def test_a_fault_of_the_network_is_an_engine_fault_and_not_a_crash() -> None:
    family = TinyFamily()
    family.fail = ValueError("shapes do not agree")
    engine = Engine()
    engine.add(Painting(plan_of(Stage(width=64, height=64, steps=2)), family))
    _, happenings = paint_all(engine)
    (broke,) = [h for h in happenings if isinstance(h, Broke)]
    assert isinstance(broke.error, EngineFault)
    assert "shapes do not agree" in broke.error.message


def test_out_of_memory_of_one_picture_leaves_the_others_and_their_memory() -> None:
    held: list[weakref.ref[Tensor]] = []

    class Heavy(TinyFamily):
        def batch_key(self, shape: tuple[int, int, int], references: tuple[Tensor, ...] = ()) -> str:
            return "any"

        def predict(self, rows: Sequence[Row]) -> list[Tensor]:
            assert all(reference() is None for reference in held), "a failed forward still holds its tensors"
            activations = torch.zeros(len(rows), 8)
            held.append(weakref.ref(activations))
            if any(row.x.shape[-1] > 8 for row in rows):
                raise torch.OutOfMemoryError(f"CUDA out of memory (pretended) at {activations.shape}")
            held.clear()
            return super().predict(rows)

    family = Heavy()
    engine = Engine()
    large = engine.add(Painting(plan_of(Stage(width=128, height=64, steps=2, cfg=2.0)), family))
    small = [engine.add(Painting(plan_of(Stage(width=64, height=64, steps=2), seed=s), family)) for s in range(3)]
    painted, happenings = paint_all(engine)
    assert sorted(painted) == small
    assert [(h.id, type(h.error)) for h in happenings if isinstance(h, Broke)] == [(large, OutOfMemory)]


@pytest.mark.parametrize("tiles_fit", [True, False])
def test_a_picture_too_large_to_decode_at_once_is_decoded_in_tiles(tiles_fit: bool) -> None:
    class Cramped(TinyFamily):
        def decode(self, latent: Tensor, tiled: bool = False) -> Tensor:
            if not (tiled and tiles_fit):
                raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
            return super().decode(latent)

    engine = Engine()
    id = engine.add(Painting(plan_of(Stage(width=64, height=64, steps=2)), Cramped()))
    painted, happenings = paint_all(engine)
    assert list(painted) == [id] * tiles_fit
    broke = [h.error for h in happenings if isinstance(h, Broke)]
    assert [type(error) for error in broke] == [OutOfMemory] * (not tiles_fit)
    assert all("in tiles" in error.message for error in broke)
    assert [h.tiled for h in happenings if isinstance(h, Painted)] == [True] * tiles_fit


@pytest.mark.parametrize("words", ["MPS backend out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory"])
def test_every_device_s_words_for_it_are_out_of_memory(words: str) -> None:
    def run() -> None:
        raise RuntimeError(words)

    with pytest.raises(OutOfMemory):
        guarded(run, "trying")


def test_a_preview_that_fails_is_said_once_and_the_picture_is_painted() -> None:
    class Blind(TinyFamily):
        def preview(self, latent: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")

    ticks = itertools.count()
    engine = Engine(clock=lambda: float(next(ticks)))
    plan = plan_of(Stage(width=64, height=64, steps=4))
    id = engine.add(Painting(plan, Blind(), previews=True))
    painted, happenings = paint_all(engine)
    assert torch.equal(painted[id], paint_alone(plan))
    assert [type(h.error) for h in happenings if isinstance(h, PreviewFailed)] == [OutOfMemory]
    assert not [h for h in happenings if isinstance(h, Previewed | Broke)]
    assert not [h for h in happenings if isinstance(h, Painted) and h.tiled]


def test_a_fault_outside_the_network_breaks_one_picture_only() -> None:
    class Faulty(TinyFamily):
        def __getattribute__(self, name: str) -> Any:
            if name == "parameterization" and self.forwards:
                raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
            return super().__getattribute__(name)

    engine = Engine()
    stage = Stage(width=64, height=64, steps=3)
    bad = engine.add(Painting(plan_of(stage), Faulty(), previews=True))
    good = engine.add(Painting(plan_of(stage), FAMILY))
    painted, happenings = paint_all(engine)
    assert list(painted) == [good]
    assert [(h.id, type(h.error)) for h in happenings if isinstance(h, Broke)] == [(bad, OutOfMemory)]


def test_a_denoise_too_small_to_schedule_is_the_request_s_fault() -> None:
    engine = Engine()
    engine.add(Painting(plan_of(Stage(width=64, height=64), Stage(width=64, height=64, denoise=1e-6)), FAMILY))
    (broke,) = engine.step()
    assert isinstance(broke, Broke)
    assert isinstance(broke.error, InvalidRequest)
    assert "larger denoise" in broke.error.message


@pytest.mark.parametrize("stages", [1, 2])
def test_latents_that_are_not_finite_fail_the_picture_and_nobody_else(stages: int) -> None:
    class Poisoned(TinyFamily):
        def predict(self, rows: object) -> list[Tensor]:
            answers = super().predict(rows)  # type: ignore[arg-type]
            answers[0] = answers[0] * float("nan")
            return answers

    engine = Engine()
    stage = Stage(width=64, height=64, steps=2)
    bad = engine.add(Painting(plan_of(*[stage] * stages), Poisoned()))
    good = engine.add(Painting(plan_of(stage), FAMILY))
    painted, happenings = paint_all(engine)
    assert list(painted) == [good]
    (broke,) = [h for h in happenings if isinstance(h, Broke)]
    assert broke.id == bad
    assert "not finite" in broke.error.message


def test_previews_come_at_intervals_of_the_clock() -> None:
    ticks = itertools.count()
    engine = Engine(clock=lambda: next(ticks) * 0.1)
    engine.add(Painting(plan_of(Stage(width=64, height=64, steps=9)), FAMILY, previews=True))
    _, happenings = paint_all(engine)
    previews = [h for h in happenings if isinstance(h, Previewed)]
    assert [h.step for h in previews] == [1, 5, 9]
    assert previews[0].pixels.shape == (3, 8, 8)


def test_a_reference_picture_shapes_the_result() -> None:
    stage = Stage(width=64, height=64, steps=8, denoise=0.3)
    white, black = torch.ones(3, 64, 64), -torch.ones(3, 64, 64)
    engine = Engine()
    first = engine.add(Painting(plan_of(stage), FAMILY, reference=white))
    second = engine.add(Painting(plan_of(stage), FAMILY, reference=black))
    painted, _ = paint_all(engine)
    assert painted[first].mean() > painted[second].mean()


def test_pictures_that_pictures_share_are_encoded_once_for_each_family_and_not_kept() -> None:
    class Counting(TinyFamily):
        encoded = 0

        def encode_picture(self, pixels: Tensor) -> Tensor:
            self.encoded += 1
            return super().encode_picture(pixels)

    stage = Stage(width=64, height=64, steps=2, denoise=0.5)
    families = [Counting(), Counting(seed=1)]
    white, black = torch.ones(3, 64, 64), -torch.ones(3, 64, 64)
    engine = Engine()
    ids = [
        engine.add(Painting(plan_of(stage, seed=seed), family, reference=white, context=(white, black)))
        for family in families
        for seed in range(4)
    ]
    painted, _ = paint_all(engine)
    assert [family.encoded for family in families] == [2, 2]
    alone = paint_one(Painting(plan_of(stage, seed=3), TinyFamily(), reference=white, context=(white, black)))
    assert torch.allclose(painted[ids[3]], alone, atol=1e-5)
    gone = weakref.ref(black)
    del black
    assert gone() is None


def test_a_stage_with_cache_reports_what_it_skipped() -> None:
    stage = Stage(
        width=64, height=64, steps=12, cache=CacheSettings(reuse_threshold=3.0, start_percent=0.0, end_percent=1.0)
    )
    engine = Engine()
    engine.add(Painting(plan_of(stage), FAMILY))
    _, happenings = paint_all(engine)
    (ended,) = [h for h in happenings if isinstance(h, StageEnded)]
    assert ended.outcome.evaluations == 12
    assert 0 < ended.outcome.skipped < 12


def test_an_engine_without_pictures_does_nothing() -> None:
    engine = Engine()
    assert not engine.busy
    assert engine.step() == []


stages = st.builds(
    Stage,
    width=st.sampled_from([64, 96]),
    height=st.sampled_from([64, 96]),
    steps=st.integers(1, 5),
    cfg=st.sampled_from([1.0, 2.5]),
    sampler=st.sampled_from(SAMPLERS),
    schedule=st.sampled_from(["simple", "karras", "normal"]),
    denoise=st.sampled_from([1.0, 0.6]),
    cache=st.one_of(st.none(), st.just(CacheSettings(reuse_threshold=0.5, start_percent=0.1, end_percent=0.9))),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    parts = draw(st.lists(stages, min_size=1, max_size=2))
    return plan_of(
        *parts, prompt=draw(st.sampled_from(["a cat", "two red boats", ""])), seed=draw(st.integers(0, 2**32))
    )


paintings = st.one_of(plans().map(lambda plan: Painting(plan, FAMILY)), plans().map(masked))


# Shrinking a failing mix of pictures takes minutes and tells little more than the mix itself.
@settings(max_examples=20, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.lists(st.tuples(st.integers(0, 6), paintings), min_size=2, max_size=5), st.integers(64, 400))
def test_batched_equals_alone(arrivals: list[tuple[int, Painting]], budget: int) -> None:
    engine = Engine(token_budget=budget, max_running=4)
    painted: dict[int, Tensor] = {}
    ids: dict[int, Painting] = {}
    for step in range(2000):
        for when, painting in arrivals:
            if when == step:
                ids[engine.add(painting)] = painting
        for happening in engine.step():
            assert not isinstance(happening, Broke), happening
            if isinstance(happening, Painted):
                painted[happening.id] = happening.pixels
        if step > 6 and not engine.busy:
            break
    assert len(painted) == len(arrivals)
    for id, painting in ids.items():
        # The tiny network is unstable at single points of a latent: there rounding, which depends on the batch, grows a
        # thousandfold within a few steps, about once in a thousand pictures. All else is the same.
        apart = (painted[id] - paint_one(painting)).abs()
        assert apart.max() < 0.01
        assert (apart > 1e-4).float().mean() < 0.02


def test_stage_began_names_the_picture() -> None:
    engine = Engine()
    id = engine.add(Painting(plan_of(Stage(width=64, height=64, steps=1)), FAMILY))
    assert engine.step()[0] == StageBegan(id, 0)
