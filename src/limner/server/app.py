"""The application: routes, gate, problems, and what runs beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from limner.config import Settings
from limner.jobs.worker import worker_name
from limner.server import contract, openai, problems
from limner.server.access import Gate
from limner.server.chores import keep_house
from limner.server.feed import Feed
from limner.server.limits import MAX_JSON_BYTES, Limits
from limner.server.links import Links, link_key
from limner.server.routes import catalog, images, jobs, models, operations, seeds, workflows
from limner.server.state import State
from limner.server.studio import StudioPage
from limner.server.supervisor import WORKER_COMMAND, Supervisor
from limner.server.webhooks import Webhooks, base_url, webhook_secret
from limner.service import REMOTE_LANE, Service

DESCRIPTION = "Pictures from text. Submit a job, follow its events, fetch its pictures."
EXPOSED = ("Location", "Retry-After", "ETag", "Content-Disposition")

ROUTERS = tuple(module.router for module in (jobs, images, catalog, models, operations, seeds, workflows))
STOP_S = 1.0


def build(
    service: Service, worker_command: Sequence[str] = WORKER_COMMAND, supervisor: Supervisor | None = None
) -> FastAPI:
    """The application for a service. Starting it brings the database up to date and starts the workers.

    Args:
        service: what it serves; opened and closed with the application.
        worker_command: starts a worker process.
        supervisor: looks after the workers, where they have been started already; closed with the application.
    """
    settings = service.settings.server

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with service:
            state = app.state.limner = _state(service)
            stop = asyncio.Event()
            workers = supervisor or Supervisor(settings.workers, worker_command)
            workers.service = service
            workers.start()
            remote = service.worker(f"{worker_name()}-remote", REMOTE_LANE)
            tasks = [
                asyncio.create_task(work)
                for work in (
                    remote.run(stop),
                    keep_house(service, stop),
                    state.webhooks.run(stop),
                )
            ]
            try:
                yield
            finally:
                stop.set()
                await workers.aclose()
                await state.feed.aclose()
                await asyncio.wait(tasks, timeout=STOP_S)  # idle ones end by themselves, between two transactions
                for task in tasks:
                    task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.gather(*tasks, return_exceptions=True)

    app = FastAPI(
        title="limner",
        version=version("limner"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    for router in ROUTERS:
        app.include_router(router, responses=_otherwise(problems.MEDIA_TYPE, problems.PROBLEM))
    app.include_router(openai.router, responses=_otherwise("application/json", problems.OPENAI_ERROR))
    problems.install(app)
    contract.install(app)
    app.add_middleware(StudioPage, routes=frozenset(_first_parts()))
    app.add_middleware(Limits, larger=_larger_bodies(service.settings))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    app.add_middleware(Gate, open_to_all=settings.open, origins=settings.cors_origins)
    return app


def _first_parts() -> Iterator[str]:
    """Of the paths of all routes: `api`, `v1`, `health` and so on."""
    yield "openapi.json"
    for router in (*ROUTERS, openai.router):
        for route in router.routes:
            yield str(getattr(route, "path", "")).strip("/").partition("/")[0]


def _state(service: Service) -> State:
    settings = service.settings
    server, secret = settings.server, settings.webhooks.secret
    links = Links(
        link_key(settings.home, server.secret.get_secret_value() if server.secret else None), server.link_ttl_s
    )
    webhooks = Webhooks(
        service.database,
        links,
        webhook_secret(settings.home, secret.get_secret_value() if secret else None),
        base=base_url(server.url, server.host, server.port),
        allow_private=settings.webhooks.allow_private,
    )
    return State(service, Feed(service.store), links, webhooks)


def _larger_bodies(settings: Settings) -> dict[str, int]:
    """Bytes that requests with pictures may have: the picture, base64 where it is inside JSON, and the rest."""
    file = settings.server.max_upload_bytes + MAX_JSON_BYTES
    in_json = settings.server.max_upload_bytes * 4 // 3 + MAX_JSON_BYTES
    return {
        "/api/uploads": file,
        "/api/images/inspect": file,
        "/generate-image": file,
        "/api/generate": in_json,
        "/v1/images/edits": 2 * in_json,
    }


def _otherwise(media_type: str, schema: dict[str, str]) -> dict[int | str, dict[str, object]]:
    return {"default": {"description": "what went wrong, and what to do", "content": {media_type: {"schema": schema}}}}
