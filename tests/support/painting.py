"""Paint with an engine until all is done, each picture joining at a step of its own."""

from __future__ import annotations

from limner.engine.engine import Broke, Engine, Painted, Painting

MOST_STEPS = 3000


def paint(engine: Engine, paintings: list[tuple[int, Painting]]) -> list[Painted]:
    """The finished pictures in the order given; each painting is added before the step of its number."""
    ids: dict[int, int] = {}
    painted: dict[int, Painted] = {}
    for step in range(MOST_STEPS):
        for place, (when, painting) in enumerate(paintings):
            if when == step:
                ids[engine.add(painting)] = place
        for happening in engine.step():
            assert not isinstance(happening, Broke), happening.error.message
            if isinstance(happening, Painted):
                painted[ids[happening.id]] = happening
        if len(painted) == len(paintings):
            return [painted[place] for place in range(len(paintings))]
    raise AssertionError("the engine does not come to an end")
