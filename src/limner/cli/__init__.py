"""The command `limner`. One file a command; a command's module is imported when it is asked for.

Answers go to stdout, everything else to stderr. Exit codes are in `limner.cli.exit_codes`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, cast

import click

from limner.cli.application import Application
from limner.cli.exit_codes import INTERRUPTED, exit_code_of
from limner.errors import LimnerError

COMMANDS = (
    "generate",
    "serve",
    "worker",
    "runpod",
    "jobs",
    "inspect",
    "workflow",
    "models",
    "loras",
    "presets",
    "doctor",
)


class Commands(click.Group):
    """Knows the commands by name and turns errors into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return import_module(f"limner.cli.{cmd_name}").command if cmd_name in COMMANDS else None

    def invoke(self, ctx: click.Context) -> Any:
        application = ctx.ensure_object(Application)
        try:
            return super().invoke(ctx)
        except LimnerError as error:
            application.fail(error)
            ctx.exit(exit_code_of(error))
        except KeyboardInterrupt:
            application.say("Interrupted.")
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="limner", message="%(prog)s %(version)s")
def cli() -> None:
    """Paint pictures from text, on this machine."""


def main() -> None:
    """Run the command line of this process."""
    # Diffusers and transformers import peft where it is installed, which takes a while; our LoRAs do without it.
    cast("dict[str, Any]", sys.modules).setdefault("peft", None)
    cli(prog_name="limner")
