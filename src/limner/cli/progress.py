"""The moving display: one line a request, with its stage, steps and time left. Silent where there is no terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from limner.cli.application import Application
from limner.domain import GenerationRequest
from limner.events import Event, StageUpdate
from limner.events import Progress as Progressed

MAX_LABEL = 32


class Display:
    """Shows how far requests are.

    Args:
        application: owns the terminal.
        console: where to draw; stderr when absent.
    """

    def __init__(self, application: Application, console: Console | None = None) -> None:
        self._application = application
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

    def add(self, request: GenerationRequest) -> TaskID:
        """A line for a request that begins now."""
        words = " ".join(request.prompt.split())
        label = words if len(words) <= MAX_LABEL else words[: MAX_LABEL - 1] + "…"
        return self._progress.add_task(label or "(no prompt)", total=None, stage="loading", left="")

    def tell(self, task: TaskID, event: Event) -> None:
        """Move a request's line."""
        if isinstance(event, StageUpdate):
            self._sizes[task, event.index, event.stage] = f"{event.width}x{event.height}"
        elif isinstance(event, Progressed):
            size = self._sizes.get((task, event.index, event.stage), "")
            stage = f"stage {event.stage + 1}/{event.stages} {size} · step {event.step}/{event.steps}"
            left = "" if event.eta_s is None else f"{event.eta_s:.0f} s left"
            self._progress.update(task, completed=event.current, total=event.total, stage=stage, left=left)

    def remove(self, task: TaskID) -> None:
        """Take away the line of a request that has ended."""
        self._progress.remove_task(task)
