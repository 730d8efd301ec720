"""Follow one prompt to its end: the socket says when to look, queue and history say what is true.

It knows no template and decides nothing about the picture. Invariant: a prompt that neither queue nor history knows is
lost, never done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from limner.backends.comfyui.client import Ended, Hint, Instance, Socket
from limner.backends.comfyui.templates import Graph
from limner.errors import LimnerError, Timeout, Unreachable

log = logging.getLogger("limner")

CANCEL_S = 5.0
SOON_S = 0.05
"""Until the next look when the socket said that the prompt has ended: the history may be a moment behind."""


@dataclass(frozen=True)
class Pace:
    """How often is looked, and how long is waited.

    Args:
        poll_s: between two looks at queue and history.
        timeout_s: that a picture may take from when the server begins it; its wait in the queue does not count.
        lost_s: after which a prompt that nobody knows is lost; the history may be that far behind.
    """

    poll_s: float = 1.0
    timeout_s: float = 300.0
    lost_s: float = 3.0


async def follow(
    instance: Instance,
    prompt_id: str,
    graph: Graph,
    socket: Socket | None,
    pace: Pace,
    hear: Callable[[Hint], None],
    waits: Callable[[int], None],
) -> Ended:
    """How a prompt of ours ended.

    Args:
        graph: names the nodes in errors.
        socket: hints come from it; without one it is only polled.
        hear: told every hint.
        waits: told once how many prompts are before ours.

    Raises `Timeout` after having stopped it, and `Unreachable` when the server has gone or forgotten it. Cancelling
    stops the prompt as well.
    """
    hints: asyncio.Queue[Hint] = asyncio.Queue()
    reader = asyncio.create_task(_read(socket, prompt_id, hints)) if socket else None
    try:
        return await _look(instance, prompt_id, graph, pace, hints, hear, waits)
    except (asyncio.CancelledError, Timeout):
        await stop(instance, prompt_id)
        raise
    finally:
        if reader:
            reader.cancel()
            await asyncio.wait((reader,))


async def stop(instance: Instance, prompt_id: str) -> None:
    """Take a prompt of ours from its server, as far as that answers within a few seconds."""
    try:
        async with asyncio.timeout(CANCEL_S):
            await instance.cancel(prompt_id)
    except (LimnerError, TimeoutError) as error:
        log.warning("prompt %s could not be taken from ComfyUI at %s: %s", prompt_id, instance.url, error)


async def _look(
    instance: Instance,
    prompt_id: str,
    graph: Graph,
    pace: Pace,
    hints: asyncio.Queue[Hint],
    hear: Callable[[Hint], None],
    waits: Callable[[int], None],
) -> Ended:
    began: float | None = None
    unknown_since: float | None = None
    waiting_told = False
    while True:
        # The queue first: what leaves it in between is in the history then, the other way round it would be in neither.
        standing = await instance.queue()
        ended = await instance.ended(prompt_id, graph)
        while not hints.empty():
            hear(hints.get_nowait())
        if ended is not None:
            return ended
        now = time.monotonic()
        if prompt_id in (*standing.running, *standing.pending):
            unknown_since = None
        else:
            unknown_since = now if unknown_since is None else unknown_since
            if now - unknown_since >= pace.lost_s:
                raise Unreachable(
                    f"ComfyUI at {instance.url} knows the picture no longer: it was restarted, or somebody removed it. "
                    "Try again."
                )
        if prompt_id in standing.running:
            began = now if began is None else began
        elif prompt_id in standing.pending and not waiting_told:
            waiting_told = True
            waits(len(standing.running) + standing.pending.index(prompt_id))
        if began is not None and now - began > pace.timeout_s:
            raise Timeout(
                f"The picture took longer than {pace.timeout_s:g} s on ComfyUI at {instance.url} and was stopped. "
                "Ask for less, or raise `comfyui.timeout_s`."
            )
        await _until_next(hints, hear, SOON_S if unknown_since is not None else pace.poll_s)


async def _until_next(hints: asyncio.Queue[Hint], hear: Callable[[Hint], None], pause_s: float) -> None:
    """Hear hints until it is time for another look, or one says that the prompt has ended."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            while True:
                hint = await hints.get()
                hear(hint)
                if hint.kind == "ended":
                    return


async def _read(socket: Socket, prompt_id: str, hints: asyncio.Queue[Hint]) -> None:
    async for hint in socket.hints(prompt_id):
        hints.put_nowait(hint)
