"""One backend after the other, until every picture is painted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

import pytest

from limner.backends.fake import FakeBackend
from limner.domain import GenerationRequest
from limner.errors import EngineFault, InvalidRequest, LimnerError, Unreachable, Unsupported
from limner.events import Done, Event, Failed, ImageGenerated, Progress, Warned
from limner.failover import paint
from limner.ports import Backend, Order
from limner.workflows.plans import make_plans
from limner.workflows.presets import Preset

STAGES = {"name": "small", "stages": [{"width": 64, "height": 64, "steps": 2}]}
FAULT = EngineFault("It went black. Report this.")


class Places:
    """Backends by name, some of which cannot even be asked."""

    def __init__(self, places: Mapping[str, FakeBackend | LimnerError], count: int = 2) -> None:
        self.places, self.count = places, count
        request = GenerationRequest(prompt="a boat", count=count)
        self.plans = make_plans(request, Preset.model_validate(STAGES), default_seed_source=lambda: 5)
        self.request = request

    async def make(self, name: str, numbers: Sequence[int]) -> tuple[Backend, Order]:
        place = self.places[name]
        if isinstance(place, LimnerError):
            raise place
        return place, Order(request=self.request, plans=tuple(self.plans[number] for number in numbers))

    async def events(self) -> list[Event]:
        return [event async for event in paint(tuple(self.places), self.make, self.count)]


E = TypeVar("E", Done, Failed, ImageGenerated, Progress, Warned)


def of(kind: type[E], events: list[Event]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def end(events: list[Event]) -> tuple[str, int, int]:
    """Status, pictures and failures of the only end, which comes last."""
    (done,) = of(Done, events)
    assert events[-1] is done
    return done.status, done.images, done.failed


async def test_one_backend_that_can_is_all_there_is_to_it() -> None:
    events = await Places({"one": FakeBackend()}).events()
    assert [image.index for image in of(ImageGenerated, events)] == [0, 1]
    assert not of(Warned, events)
    assert end(events) == ("completed", 2, 0)


async def test_only_what_is_missing_goes_on_and_keeps_its_number_and_seed() -> None:
    second = FakeBackend()
    events = await Places({"one": FakeBackend(failures={1: FAULT}), "two": second}, count=3).events()
    assert sorted(image.index for image in of(ImageGenerated, events)) == [0, 1, 2]
    assert [plan.seed for plan in second.orders[0].plans] == [6]
    assert {event.index for event in of(Progress, events)} == {0, 1, 2}
    (warning,) = of(Warned, events)
    assert warning.message == (
        "Backend `one` did not paint 1 of 3 pictures (It went black. Report this.) Backend `two` was tried next."
    )
    assert not of(Failed, events)
    assert end(events) == ("completed", 3, 0)


@pytest.mark.parametrize("error", [Unreachable("It is dark there."), Unsupported("No such sampler.")])
async def test_a_backend_that_cannot_even_be_asked_is_passed_over(error: LimnerError) -> None:
    events = await Places({"one": error, "two": FakeBackend()}).events()
    assert len(of(ImageGenerated, events)) == 2
    assert [event.code for event in of(Warned, events)] == ["backend_changed"]


async def test_when_none_can_the_last_reason_is_the_error() -> None:
    places = Places({"one": Unreachable("It is dark there."), "two": Unreachable("There too.")})
    with pytest.raises(Unreachable, match="There too"):
        await places.events()


async def test_what_is_wrong_everywhere_is_not_tried_elsewhere() -> None:
    second = FakeBackend()
    with pytest.raises(InvalidRequest):
        await Places({"one": InvalidRequest("No."), "two": second}).events()
    assert not second.orders


async def test_a_picture_that_nobody_paints_fails_once_and_the_others_stay() -> None:
    places = {"one": FakeBackend(failures={0: FAULT}), "two": FakeBackend(failures={0: FAULT})}
    events = await Places(places).events()
    assert [(event.index, event.code) for event in of(Failed, events)] == [(0, FAULT.code)]
    assert [image.index for image in of(ImageGenerated, events)] == [1]
    assert end(events) == ("partial", 1, 1)


async def test_what_was_painted_before_the_last_backend_broke_is_kept() -> None:
    events = await Places({"one": FakeBackend(failures={1: FAULT}), "two": Unreachable("Dark.")}).events()
    assert [image.index for image in of(ImageGenerated, events)] == [0]
    assert [(event.index, event.message) for event in of(Failed, events)] == [(1, "Dark.")]
    assert end(events) == ("partial", 1, 1)


async def test_closing_it_cancels_the_backend_that_runs() -> None:
    slow = FakeBackend(step_s=0.05)
    places = Places({"one": slow})
    async with aclosing(paint(("one",), places.make, 2)) as events:
        async for event in events:
            if isinstance(event, Progress):
                break
    assert slow.cancelled == 1
