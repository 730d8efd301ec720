"""`limner worker`: runs jobs."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

import click

from limner.cli.application import Application, log_option
from limner.cli.exit_codes import OK


@click.command(name="worker")
@click.option("--name", help="Its id; made up when absent.")
@click.option(
    "--lane", type=click.Choice(["native", "remote"]), default="native", show_default=True, help="Which jobs it takes."
)
@click.option("--device", help="auto, cpu, cuda, cuda:N or mps.")
@log_option
@click.option("--parent", type=int, hidden=True, help="Stop when that process ends.")
@click.pass_context
def command(ctx: click.Context, /, **flags: Any) -> None:
    """Take jobs from the database and paint them, until it is told to stop.

    SIGTERM lets the running jobs end for 15 seconds; what is not done by then is given back. A second one ends at once.
    """
    application: Application = ctx.obj
    settings = application.settings({"native": {"device": flags["device"]}})
    from limner.service import NATIVE_LANE, Service
    from limner.worker_process import run_worker

    looks = flags["lane"] == NATIVE_LANE

    async def work() -> None:
        await run_worker(Service(settings), flags["name"], flags["lane"], flags["parent"], looks)
        # Everything is written and closed. What a thread may still be importing, and the engine's many objects to be
        # taken apart, would only take seconds.
        logging.shutdown()
        sys.stderr.flush()
        os._exit(OK)

    asyncio.run(work())
