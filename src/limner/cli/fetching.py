"""How far a download is: one moving line; where there is no terminal, a plain line now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from limner.cli.application import Application

EVERY_S = 10.0


class Fetching:
    """Shows how much has arrived of everything.

    Args:
        application: owns the terminal.
        total: all bytes.
        console: where to draw; stderr when absent.
        every_s: how often a plain line is printed where nothing can move.
    """

    def __init__(
        self, application: Application, total: int, console: Console | None = None, every_s: float = EVERY_S
    ) -> None:
        self._application = application
        self._every_s = every_s
        self._told = time.monotonic()
        self._arrived: dict[str, int] = {}
        self._total = total
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        if not self._progress.disable:
            self._application.go_live(self._console)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._application.go_live(None)

    def tell(self, name: str, done: int, size: int) -> None:
        """Note how much of a file is here, in bytes."""
        self._arrived[name] = done
        arrived = sum(self._arrived.values())
        self._progress.update(self._task, description=name.rpartition("/")[2], completed=arrived)
        if self._progress.disable and time.monotonic() - self._told >= self._every_s:
            self._told = time.monotonic()
            share = 100 * arrived // max(self._total, 1)
            self._application.say(f"{name}: {done / 2**20:,.0f} of {size / 2**20:,.0f} MB; {share} % of everything")
