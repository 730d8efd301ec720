"""What all commands share: the settings, the studio, and everything that is printed."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from limner.config import Settings
    from limner.errors import LimnerError
    from limner.ports import Backend
    from limner.studio import Studio


class Application:
    """One run of the command line.

    Args:
        backend: paints in place of the configured one; for tests.
    """

    def __init__(self, backend: Backend | None = None) -> None:
        self.as_json = False
        """Whether the answer is one JSON object; set by the command's `--json`."""
        self._backend = backend
        self._live: Console | None = None

    def settings(self, flags: Mapping[str, Any] | None = None) -> Settings:
        """The settings with these flags on top."""
        from limner.config import load_settings

        return load_settings(flags)

    def studio(self, settings: Settings) -> Studio:
        """A studio for these settings."""
        from limner.studio import Studio

        return Studio(settings, self._backend)

    def go_live(self, console: Console | None) -> None:
        """Say that a moving display owns the terminal, so that lines are put above it; `None` ends that."""
        self._live = console

    def answer(self, line: str) -> None:
        """One line of the answer."""
        if self._live is not None and sys.stdout.isatty():
            self._live.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line)

    def answer_json(self, answer: Mapping[str, Any]) -> None:
        """The whole answer as one JSON object."""
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2))

    def show(self, *parts: RenderableType) -> None:
        """Tables and the like, as the answer."""
        from rich.console import Console

        console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        for part in parts:
            console.print(part)

    def say(self, line: str, style: str = "") -> None:
        """A remark, to stderr."""
        if self._live is not None:
            self._live.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
        else:
            click.secho(line, err=True, fg=style or None)

    def warn(self, message: str) -> None:
        """Something is not quite as asked for."""
        self.say(f"warning: {message}", "yellow")

    def fail(self, error: LimnerError) -> None:
        """Why the command ends; also as JSON where the answer is JSON."""
        self.say(f"error ({error.code}): {error.message}", "red")
        if self.as_json:
            self.answer_json({"status": "failed", "error": error_record(error)})


def error_record(error: LimnerError) -> dict[str, Any]:
    """An error for programs."""
    return {"code": error.code, "message": error.message, "retryable": error.retryable}


def _turn_on_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.ensure_object(Application).as_json = value
    return value


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    expose_value=False,
    callback=_turn_on_json,
    help="Print the answer as one JSON object.",
)


def _start_logging(ctx: click.Context, _: click.Parameter, level: str) -> None:
    """Our own remarks from this level on, those of libraries from warnings on; one line each."""
    os.environ["LIMNER_LOG_LEVEL"] = level  # processes that this one starts read it
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    logging.getLogger("limner").setLevel(level.upper())


server_option = click.option(
    "--server",
    metavar="URL",
    envvar="LIMNER_REMOTE",
    help="Do it on the server at this address; LIMNER_REMOTE when absent.",
)

log_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    envvar="LIMNER_LOG_LEVEL",
    expose_value=False,
    callback=_start_logging,
    help="How much is told on stderr; info is a line for every job that ends. Also LIMNER_LOG_LEVEL.",
)
