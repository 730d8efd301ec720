"""`limner runpod`: a worker of a serverless endpoint at RunPod."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib import import_module
from typing import Any

import click

from limner.cli.application import Application, log_option


@click.command(name="runpod")
@click.option("--device", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--serve-api", is_flag=True, help="Serve RunPod's API on this machine, for trying things out.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address for --serve-api.")
@click.option("--port", type=int, default=8000, show_default=True, help="Port for --serve-api.")
@log_option
@click.pass_context
def command(ctx: click.Context, /, **flags: Any) -> None:
    """Paint the jobs of a serverless endpoint at RunPod, as the main thing of its container.

    As many jobs as `jobs.slots` says are painted at a time, batched. Where `storage.url` is set pictures go there and
    links are answered.

    \b
    limner runpod
    limner runpod --serve-api --port 8000
    """
    from limner.errors import ConfigError

    application: Application = ctx.obj
    settings = application.settings({"native": {"device": flags["device"]}})
    if settings.backend == "runpod":
        raise ConfigError(
            "Setting `backend` is `runpod`: a worker there would ask itself. Choose another one, such as `native`.",
            setting="backend",
        )
    # What it logs of every message would be whole pictures.
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")
    try:
        sdk: Any = import_module("runpod.serverless")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`limner runpod` needs RunPod's SDK, of which {error.name} is missing. Install it with: "
            "pip install 'limner[runpod]'"
        ) from error
    from limner.runpod_handler import Handler
    from limner.service import storage_of

    studio = application.studio(settings)
    # Made here, so that importing the engine belongs to the container's start and not to the first job.
    backend = studio.backend(settings.backend)
    storage = storage_of(settings) if settings.storage.url else None
    handler = Handler(studio, backend, storage, settings.server.link_ttl_s)
    serving = ["--rp_serve_api", "--rp_api_host", flags["host"], "--rp_api_port", str(flags["port"])]
    sys.argv = [sys.argv[0], *(serving if flags["serve_api"] else ())]  # the SDK reads it

    def slots(_: int) -> int:
        return settings.jobs.slots

    try:
        sdk.start({"handler": handler.run, "return_aggregate_stream": True, "concurrency_modifier": slots})
    finally:
        asyncio.run(_closed(studio, storage))


async def _closed(studio: Any, storage: Any) -> None:
    await studio.aclose()
    if storage is not None:
        await storage.aclose()
