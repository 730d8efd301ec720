"""What every backend must keep to. Inherit from `BackendContract` and give it a backend.

    class TestMine(BackendContract):
        @pytest.fixture
        async def backend(self) -> AsyncGenerator[Backend, None]: ...

The pictures that it asks for are as small as pictures can be.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import pytest
from PIL import Image

from limner.domain import GenerationRequest, Recipe
from limner.errors import NotFound
from limner.events import Done, Event, Failed, ImageGenerated, Preview, Progress, StageUpdate
from limner.ports import Backend, Order
from limner.workflows.plans import make_plans, replayed
from limner.workflows.presets import Preset
from tests.support.records import gradient

TWO_STAGES = {
    "name": "contract",
    "stages": [
        {"width": 64, "height": 64, "steps": 2, "cfg": 2.0, "sampler": "euler_ancestral"},
        {"width": 64, "height": 96, "steps": 2, "denoise": 0.6},
    ],
}


def order(reference: Image.Image | None = None, shape: Image.Image | None = None, **fields: Any) -> Order:
    """An order for one small picture in two stages; `shape` is its mask, over the reference at the second's size."""
    request = GenerationRequest.model_validate({"prompt": "a red boat", "seed": 7} | fields)
    wanted = order_of(request, reference)
    return replace(wanted, mask=shape, kept=reference.resize((64, 96))) if reference and shape else wanted


def order_of(request: GenerationRequest, reference: Image.Image | None = None) -> Order:
    """The order that such a request becomes."""
    plans = make_plans(request, Preset.model_validate(TWO_STAGES), default_seed_source=lambda: 7)
    return Order(request=request, plans=plans, reference=reference)


async def run(backend: Backend, wanted: Order) -> list[Event]:
    """All events of an order."""
    return [event async for event in backend.run(wanted)]


def images(events: list[Event]) -> list[ImageGenerated]:
    """The finished pictures of an order, in the request's order."""
    found = [event for event in events if isinstance(event, ImageGenerated)]
    return sorted(found, key=lambda event: event.index)


@dataclass(frozen=True)
class Trouble:
    """A backend whose pictures cannot be painted, and what is to be told of each."""

    backend: Backend
    code: str
    retryable: bool


TESTS_OF = {
    "references": "test_a_reference_picture_changes_the_result",
    "masks": "test_a_mask_keeps_what_is_black_and_white_is_painted_as_without_it",
    "trouble": "test_a_failure_is_told_for_each_picture_with_its_code_and_whether_to_try_again",
}


class BackendContract:
    """The suite.

    Args:
        tolerance: how far two pictures of one plan may differ in any byte when batched differently.
        remote: whether another program paints, of which not everything is known that a recipe has room for.
        stages: whether it is told when stages begin and end.
        lacks: what it says that it cannot do: `references`, `masks`; and `trouble`, where none can be made.
    """

    tolerance = 1
    remote = False
    stages = True
    lacks: frozenset[str] = frozenset()

    def __init_subclass__(cls) -> None:
        """What a backend lacks is asked of its capabilities, and the tests of that are not its own."""
        for thing in cls.lacks:
            setattr(cls, TESTS_OF[thing], None)

    async def test_the_last_event_is_done_and_there_is_only_one(self, backend: Backend) -> None:
        events = await run(backend, order(count=2))
        assert [event.type for event in events].count("done") == 1
        last = events[-1]
        assert isinstance(last, Done)
        assert (last.status, last.images, last.failed) == ("completed", 2, 0)
        assert last.duration_s >= 0

    async def test_every_picture_has_its_plans_size_and_all_its_bytes(self, backend: Backend) -> None:
        wanted = order(count=2)
        found = images(await run(backend, wanted))
        assert [image.index for image in found] == [0, 1]
        for image, plan in zip(found, wanted.plans, strict=True):
            assert (image.width, image.height) == (plan.width, plan.height) == (64, 96)
            assert len(image.rgb) == image.width * image.height * 3

    async def test_a_picture_is_not_one_flat_colour(self, backend: Backend) -> None:
        (image,) = images(await run(backend, order()))
        assert len(set(image.rgb)) > 2

    async def test_the_recipe_is_that_of_the_order(self, backend: Backend) -> None:
        wanted = order(count=2)
        for image in images(await run(backend, wanted)):
            recipe = image.recipe
            assert (recipe.request, recipe.plan) == (wanted.request, wanted.plans[image.index])
            assert recipe.index == image.index
            assert recipe.checkpoint and recipe.device
            if not self.remote:
                assert len(recipe.outcome) == len(recipe.plan.stages)
                assert all(stage.evaluations > 0 for stage in recipe.outcome)
                assert all((recipe.checkpoint_sha256, recipe.family, recipe.precision))
            assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe

    async def test_stages_begin_and_end_in_their_order(self, backend: Backend) -> None:
        events = await run(backend, order())
        told = [(e.stage, e.status, e.width, e.height) for e in events if isinstance(e, StageUpdate)]
        assert bool(told) == self.stages
        assert not told or told == [
            (0, "processing", 64, 64),
            (0, "completed", 64, 64),
            (1, "processing", 64, 96),
            (1, "completed", 64, 96),
        ]

    async def test_progress_never_goes_back_and_stays_within_its_bounds(self, backend: Backend) -> None:
        told = [event for event in await run(backend, order(count=2)) if isinstance(event, Progress)]
        assert told
        assert [event.current for event in told] == sorted(event.current for event in told)
        for event in told:
            assert 0 <= event.current <= event.total == 8
            assert 1 <= event.step <= event.steps == 2
            assert 0 <= event.stage < event.stages == 2
            assert event.eta_s is None or event.eta_s >= 0
        assert told[-1].current == told[-1].total

    async def test_previews_are_small_pngs(self, backend: Backend) -> None:
        told = [event for event in await run(backend, order()) if isinstance(event, Preview)]
        assert bool(told) == backend.capabilities().previews
        assert all(event.png.startswith(b"\x89PNG") and len(event.png) < 100_000 for event in told)

    async def test_the_same_order_gives_the_same_picture(self, backend: Backend) -> None:
        (first,), (second,) = images(await run(backend, order())), images(await run(backend, order()))
        assert first.rgb == second.rgb

    async def test_another_seed_gives_another_picture(self, backend: Backend) -> None:
        first, second = images(await run(backend, order(count=2)))
        assert first.rgb != second.rgb

    async def test_a_picture_of_several_is_the_picture_of_its_own_seed(self, backend: Backend) -> None:
        together = images(await run(backend, order(count=3)))
        (alone,) = images(await run(backend, order(seed=8)))
        self.assert_alike(together[1].rgb, alone.rgb)

    async def test_orders_that_run_together_do_not_disturb_each_other(self, backend: Backend) -> None:
        wanted = [order(seed=seed, prompt=f"boat {seed}") for seed in range(3)]
        alone = [images(await run(backend, each))[0] for each in wanted]
        together = await asyncio.gather(*(run(backend, each) for each in wanted))
        for expected, events in zip(alone, together, strict=True):
            self.assert_alike(images(events)[0].rgb, expected.rgb)

    async def test_a_recipe_makes_the_same_picture_again(self, backend: Backend) -> None:
        (first,) = images(await run(backend, order()))
        (again,) = images(await run(backend, order_of(replayed(first.recipe))))
        assert again.rgb == first.rgb

    async def test_closing_early_cancels_and_the_backend_goes_on(self, backend: Backend) -> None:
        async with aclosing(backend.run(order(count=4))) as events:
            async for event in events:
                if isinstance(event, Progress):
                    break
        assert len(images(await run(backend, order()))) == 1

    async def test_a_cancelled_task_leaves_the_backend_usable(self, backend: Backend) -> None:
        task = asyncio.create_task(run(backend, order(count=8)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(images(await run(backend, order()))) == 1

    async def test_an_unknown_checkpoint_is_refused_before_any_picture(self, backend: Backend) -> None:
        with pytest.raises(NotFound, match="no-such-checkpoint"):
            await run(backend, order(model="no-such-checkpoint"))

    async def test_an_empty_prompt_still_gives_a_picture(self, backend: Backend) -> None:
        events = await run(backend, order(prompt="", negative_prompt=None))
        assert len(images(events)) == 1
        assert "info" in [event.type for event in events]

    async def test_a_reference_picture_changes_the_result(self, backend: Backend) -> None:
        fields: dict[str, Any] = {"references": [{"path": "any.png"}], "denoise": 0.5}
        red = Image.new("RGB", (64, 64), "red")
        blue = Image.new("RGB", (64, 64), "blue")
        pictures = [images(await run(backend, order(reference, **fields)))[0].rgb for reference in (red, blue)]
        assert pictures[0] != pictures[1]

    async def test_a_mask_keeps_what_is_black_and_white_is_painted_as_without_it(self, backend: Backend) -> None:
        fields: dict[str, Any] = {"references": [{"path": "any.png"}], "denoise": 0.5}
        reference = gradient(64, 64)
        plain = images(await run(backend, order(reference, **fields)))[0].rgb
        masked = fields | {"mask": {"path": "mask.png"}}
        white, black, right = (Image.new("L", (64, 96), shade) for shade in (255, 0, 0))
        right.paste(255, (48, 0, 64, 96))
        orders = [order(reference, shape, **masked) for shape in (white, black, right)]
        found = [images(await run(backend, wanted))[0].rgb for wanted in orders]
        kept = reference.resize((64, 96))
        assert found[:2] == [plain, kept.tobytes()]
        mixed = Image.frombytes("RGB", (64, 96), found[2])
        assert mixed.crop((0, 0, 32, 96)).tobytes() == kept.crop((0, 0, 32, 96)).tobytes()
        assert mixed.crop((48, 0, 64, 96)).tobytes() != kept.crop((48, 0, 64, 96)).tobytes()

    @pytest.fixture
    def trouble(self) -> Trouble:
        """Give it a value for each way in which pictures can fail: failures, time-outs, the end of a server."""
        raise NotImplementedError

    async def test_a_failure_is_told_for_each_picture_with_its_code_and_whether_to_try_again(
        self, trouble: Trouble
    ) -> None:
        events = await run(trouble.backend, order(count=2))
        failed = [event for event in events if isinstance(event, Failed)]
        assert sorted(str(event.index) for event in failed) == ["0", "1"]
        assert {(event.code, event.retryable) for event in failed} == {(trouble.code, trouble.retryable)}
        assert all(". " in event.message for event in failed), "what happened, and what to do"
        last = events[-1]
        assert isinstance(last, Done)
        assert (last.status, last.images, last.failed) == ("failed", 0, 2)

    def test_capabilities_name_what_there_is(self, backend: Backend) -> None:
        able = backend.capabilities()
        assert able.models
        assert "euler" in able.samplers
        assert "simple" in able.schedules
        assert (able.references, able.masks) == ("references" not in self.lacks, "masks" not in self.lacks)

    async def test_closing_twice_is_harmless(self, backend: Backend) -> None:
        await backend.aclose()
        await backend.aclose()

    def assert_alike(self, first: bytes, second: bytes) -> None:
        """Two pictures that may differ by rounding only."""
        assert len(first) == len(second)
        assert max(abs(a - b) for a, b in zip(first, second, strict=True)) <= self.tolerance
