"""`limner serve`: the HTTP server with its workers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from limner.cli.application import Application, log_option
from limner.server.supervisor import WORKER_COMMAND, Supervisor

if TYPE_CHECKING:
    from fastapi import FastAPI

    from limner.config import Settings

GRACE_S = 3
"""Seconds that open requests have when the server stops."""


@click.command(name="serve")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 9000]")
@click.option("--device", help="auto, cpu, cuda, cuda:N or mps; where the worker paints.")
@click.option("--workers", type=int, help="Worker processes to start and look after.  [default: 1]")
@click.option("--open", "open_to_all", is_flag=True, default=None, help="Let other machines in; there are no accounts.")
@log_option
@click.pass_context
def command(ctx: click.Context, /, **flags: Any) -> None:
    """Serve the API on http://127.0.0.1:9000 and paint what is asked for.

    Ctrl+C and SIGTERM let running jobs end for a while and give the rest back; a second one ends at once.

    \b
    limner serve
    limner serve --port 0 --device cpu --workers 2
    """
    from limner.addresses import is_loopback
    from limner.errors import ConfigError

    application: Application = ctx.obj
    server = {"host": flags["host"], "port": flags["port"], "workers": flags["workers"], "open": flags["open_to_all"]}
    settings = application.settings({"native": {"device": flags["device"]}, "server": server})
    host, port = settings.server.host, settings.server.port
    if settings.server.open:
        application.warn(
            f"everybody who reaches {host}:{port} can use this server and see every picture: there are no accounts; "
            "and by which name a request has found it (Host) is not checked"
        )
    elif not is_loopback(host):
        raise ConfigError(
            f"Setting `server.host` is {host}: everybody who reaches that could use this server, which has no accounts "
            "yet. If that is meant, add --open or set LIMNER_SERVER__OPEN=true; else leave the host out "
            "(--host, LIMNER_SERVER__HOST, HOST) or make it 127.0.0.1.",
            setting="server.host",
        )
    _check_home(settings)
    if flags["device"]:
        os.environ["LIMNER_NATIVE__DEVICE"] = flags["device"]  # the worker processes read it
    with bound(host, port) as listening:
        asyncio.run(serve(application, settings, listening, _app))


def _check_home(settings: Settings) -> None:
    from limner.errors import StorageError

    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        writable = os.access(settings.home, os.W_OK | os.X_OK)
        reason = "" if writable else "Permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise StorageError(
            f"The home folder {settings.home} cannot be used ({reason}). Choose another one with LIMNER_HOME."
        )


def bound(host: str, port: int) -> socket.socket:
    """A socket of this address. Raises `ConfigError` when it cannot be had."""
    from limner.errors import ConfigError

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"limner cannot listen on {host}:{port} ({error.strerror or error}). "
            "Choose another --port or --host, or end what uses this one."
        ) from error
    return listening


async def serve(
    application: Application,
    settings: Settings,
    listening: socket.socket,
    make: Callable[[Settings, Supervisor], FastAPI],
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> None:
    """Serve until SIGTERM or SIGINT. What takes longest is begun first: workers, then `/health`, then all the rest.

    Args:
        application: where it is told.
        settings: the settings.
        listening: where to listen.
        make: makes the application; called on a thread.
        worker_command: starts a worker process.
    """
    supervisor = Supervisor(settings.server.workers, worker_command)
    supervisor.start()
    try:
        await asyncio.sleep(0)  # the processes are started here, before the imports below
        await _listen(application, listening, lambda: make(settings, supervisor))
    finally:
        await supervisor.aclose()


async def _listen(application: Application, listening: socket.socket, make: Callable[[], FastAPI]) -> None:
    import uvicorn

    from limner.server.front import Front

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Generator[None]:
            yield  # they are ours: the workers have to be stopped as well

    front = Front()
    config = uvicorn.Config(
        front, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_S, ws_max_size=2**20
    )
    server = Server(config)

    def stop() -> None:
        if server.should_exit:
            os._exit(1)  # the workers notice and give their jobs back
        server.should_exit = True
        front.close()
        application.say("Stopping; press Ctrl+C again to end at once.")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    host, port = listening.getsockname()[:2]
    serving = asyncio.create_task(server.serve([listening]))
    try:
        while not (server.started or serving.done()):  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.005)  # importing on a thread would hold up the first answers
        making = asyncio.create_task(asyncio.to_thread(make))
        await asyncio.wait((making, serving), return_when=asyncio.FIRST_COMPLETED)
        if server.should_exit:  # nobody waits for the application any more
            making.cancel()
            return
        app = await making
        async with app.router.lifespan_context(app):
            front.open(app)
            shown = f"[{host}]" if ":" in host else host
            application.say(f"limner listens on http://{shown}:{port}, its API is described at /docs. Ctrl+C ends it.")
            await serving
    finally:
        server.should_exit = True
        server.force_exit = not serving.done()
        await serving


def _app(settings: Settings, supervisor: Supervisor) -> FastAPI:
    from limner.server.app import build
    from limner.service import Service

    return build(Service(settings), supervisor=supervisor)
