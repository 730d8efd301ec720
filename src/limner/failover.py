"""Paint an order on the first backend that can: the one that a request names, then those that it falls back to.

What a backend has painted is kept; only what is still missing goes to the next. Everything that was tried is told in a
warning, so that the job and the pictures say it. This module knows no backend and no job. Invariant: of each picture
there is one `ImageGenerated` or one `Failed`, whichever backends were tried.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from limner.errors import BackendError, CapacityError, ConfigError, LimnerError, NotFound, Unsupported
from limner.events import Done, Event, Failed, ImageGenerated, Preview, Progress, StageUpdate, Warned
from limner.ports import Backend, Order

PASSED_ON = (BackendError, CapacityError, ConfigError, NotFound, Unsupported)
"""What another backend may do better; whatever else is wrong with a request is wrong everywhere."""

MakeOrder = Callable[[str, Sequence[int]], Awaitable[tuple[Backend, Order]]]
"""The backend of a name, and the order for the pictures of these numbers there."""


@dataclass
class _Tally:
    """What has become of the pictures so far."""

    missing: list[int]
    painted: int = 0
    failures: dict[int, Failed] = field(default_factory=dict[int, Failed])
    told: set[int] = field(default_factory=set[int])  # failures that are final

    def take(self, event: ImageGenerated) -> None:
        self.missing.remove(event.index)
        self.failures.pop(event.index, None)
        self.painted += 1


async def paint(names: Sequence[str], make: MakeOrder, count: int) -> AsyncGenerator[Event, None]:
    """The events of painting `count` pictures; the last one is `Done`. Closing it cancels.

    Args:
        names: of the backends to try, in their order; at least one.
        make: gives a backend and what it is handed.
        count: pictures of the request.

    Raises whatever the last backend raised when nothing is painted; an error that no other backend could help with is
    raised at once.
    """
    tally = _Tally(list(range(count)))
    started = time.monotonic()
    for place, name in enumerate(names):
        following = names[place + 1] if place + 1 < len(names) else None
        asked = list(tally.missing)
        reason = ""
        try:
            backend, order = await make(name, asked)
            async with aclosing(_renumbered(backend, order, asked)) as events:
                async for event in events:
                    match event:
                        case Done(status="cancelled"):
                            yield event
                            return
                        case Done():
                            pass
                        case ImageGenerated():
                            tally.take(event)
                            yield event
                        case Failed(index=int() as index) if following is not None:
                            # Told at the end, unless another backend paints it.
                            tally.failures[index] = event
                            reason = event.message
                        case Failed(index=int() as index):
                            tally.told.add(index)
                            yield event
                        case _:
                            yield event
        except PASSED_ON as error:
            if following is None and not tally.painted and not tally.told:
                raise
            reason = error.message
            tally.failures |= {
                index: Failed(message=error.message, code=error.code, retryable=error.retryable, index=index)
                for index in tally.missing
            }
        if not tally.missing:
            break
        if following is not None:
            yield Warned(
                message=f"Backend `{name}` did not paint {_pictures(tally.missing, count)} ({reason}) "
                f"Backend `{following}` was tried next.",
                code="backend_changed",
            )
    for index in tally.missing:
        if index not in tally.told:
            yield tally.failures.get(index) or _unpainted(index)
    status = "completed" if not tally.missing else "partial" if tally.painted else "failed"
    duration_s = round(time.monotonic() - started, 3)
    yield Done(status=status, images=tally.painted, failed=len(tally.missing), duration_s=duration_s)


async def _renumbered(backend: Backend, order: Order, numbers: Sequence[int]) -> AsyncGenerator[Event, None]:
    as_they_are = list(numbers) == list(range(len(numbers)))
    async with aclosing(backend.run(order)) as events:
        async for event in events:
            match event:
                case _ if as_they_are:
                    yield event
                case StageUpdate() | Progress() | Preview() | ImageGenerated():
                    yield event.model_copy(update={"index": numbers[event.index]})
                case Failed(index=int() as index):
                    yield event.model_copy(update={"index": numbers[index]})
                case _:
                    yield event


def _pictures(missing: Sequence[int], count: int) -> str:
    if len(missing) == count:
        return "the picture" if count == 1 else "the pictures"
    return f"{len(missing)} of {count} pictures"


def _unpainted(index: int) -> Failed:
    error: LimnerError = BackendError("The backend ended without this picture. Run the request again.")
    return Failed(message=error.message, code=error.code, retryable=True, index=index)
