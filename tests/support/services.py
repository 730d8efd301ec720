"""Servers and services whose pictures the fake backend paints; also as processes of their own.

python -m tests.support.services serve --port 9000
python -m tests.support.services worker --name w1
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.backends.fake import FakeBackend
from limner.cli.application import Application
from limner.cli.serve import bound, serve
from limner.config import Settings, load_settings
from limner.events import Event, Progress
from limner.ports import Order

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from limner.server.supervisor import Supervisor
    from limner.service import Service


def settings_for(home: Path, **groups: Any) -> Settings:
    """Settings with a home of their own; no worker processes unless asked for."""
    flags: dict[str, Any] = {"home": str(home), "server": {"workers": 0}} | groups
    return load_settings(flags, environ={}, folder=home)


def fake_service(settings: Settings, backend: FakeBackend | None = None) -> Service:
    """A service in which every request goes to a fake backend, in the lane that it would have anyway."""
    from limner.service import Service
    from limner.studio import Studio

    return Service(settings, Studio(settings, backend or FakeBackend()))


@contextlib.asynccontextmanager
async def worker_of(service: Service, name: str = "test-worker", lane: str = "native") -> AsyncGenerator[None]:
    """A worker of the service, inside this process."""
    stop = asyncio.Event()
    task = asyncio.create_task(service.worker(name, lane).run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


@contextlib.asynccontextmanager
async def client_of(app: FastAPI, **more: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of an application in this process, which is started and stopped around it."""
    import httpx

    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60, **more) as client:
            yield client


@contextlib.asynccontextmanager
async def listening(app: FastAPI) -> AsyncGenerator[str]:
    """The application on a real socket; its address. For streams, sockets and foreign clients."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


class _Poisonable(FakeBackend):
    """Ends its process when somebody asks for poison."""

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        async for event in super().run(order):
            if isinstance(event, Progress) and "poison" in order.request.prompt:
                os.kill(os.getpid(), signal.SIGKILL)
            yield event


def _main(arguments: list[str]) -> None:
    """`serve` and `worker` with a fake backend; settings come from the environment, as for `limner`.

    They import what `limner serve` and `limner worker` import, when those do, and so start as fast.
    """
    command, *rest = arguments
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    settings = load_settings()
    step_s = float(os.environ.get("FAKE_STEP_S", "0.01"))
    backend = _Poisonable(step_s=step_s)
    if command == "worker":
        from limner.worker_process import run_worker

        service = fake_service(settings, backend)
        asyncio.run(run_worker(service, options["--name"], "native", int(options["--parent"]), looks=False))
        return

    def make(settings: Settings, supervisor: Supervisor) -> FastAPI:
        from limner.server.app import build

        return build(fake_service(settings, backend), supervisor=supervisor)

    logging.basicConfig(level=logging.WARNING)
    worker = (sys.executable, "-m", "tests.support.services", "worker")
    with bound("127.0.0.1", int(options["--port"])) as listening:
        asyncio.run(serve(Application(), settings, listening, make, worker))


if __name__ == "__main__":
    _main(sys.argv[1:])
