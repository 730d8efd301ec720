"""How far requests are: one moving line each, with stage, steps and time left.

Where there is no terminal nothing can move; a plain line now and then shows that the work goes on.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from limner.cli.application import Application
from limner.events import Event, StageUpdate
from limner.events import Progress as Progressed

MAX_LABEL = 32
EVERY_S = 5.0


class Display:
    """Shows how far requests are.

    Args:
        application: owns the terminal.
        console: where to draw; stderr when absent.
        every_s: how often a plain line is printed where nothing can move.
    """

    def __init__(self, application: Application, console: Console | None = None, every_s: float = EVERY_S) -> None:
        self._application = application
        self._every_s = every_s
        self._told = time.monotonic()
        self._labels: dict[TaskID, str] = {}
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[stage]}", markup=False),
            TextColumn("{task.fields[left]}", markup=False),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._console.is_terminal,
        )
        self._sizes: dict[tuple[TaskID, int, int], str] = {}

    def __enter__(self) -> Self:
        if not self._progress.disable:
            self._application.go_live(self._progress.console)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._application.go_live(None)

    def add(self, prompt: str) -> TaskID:
        """A line for a request that begins now."""
        words = " ".join(prompt.split())
        label = words if len(words) <= MAX_LABEL else words[: MAX_LABEL - 1] + "…"
        task = self._progress.add_task(label or "(no prompt)", total=None, stage="loading", left="")
        self._labels[task] = label or "(no prompt)"
        return task

    def tell(self, task: TaskID, event: Event) -> None:
        """Move a request's line."""
        if isinstance(event, StageUpdate):
            self._sizes[task, event.index, event.stage] = f"{event.width}x{event.height}"
        elif isinstance(event, Progressed):
            size = self._sizes.get((task, event.index, event.stage), "")
            stage = f"stage {event.stage + 1}/{event.stages} {size} · step {event.step}/{event.steps}"
            left = "" if event.eta_s is None else f"{event.eta_s:.0f} s left"
            self._progress.update(task, completed=event.current, total=event.total, stage=stage, left=left)
            if self._progress.disable and time.monotonic() - self._told >= self._every_s:
                self._told = time.monotonic()
                self._application.say(f"{self._labels[task]}: {stage}, {left}".removesuffix(", "))

    def tell_place(self, task: TaskID, place: str) -> None:
        """Say where a request is that has no steps yet, such as `waiting`."""
        self._progress.update(task, stage=place, left="")

    def remove(self, task: TaskID) -> None:
        """Take away the line of a request that has ended."""
        self._progress.remove_task(task)
