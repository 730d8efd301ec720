"""Put checkpoints into the workers' memory, and take them out of it.

A name may hold slashes: they are part of the path as they are, or written as `%2F`.
"""

from __future__ import annotations

import difflib
from typing import Annotated

from fastapi import APIRouter, Path

from limner.errors import Conflict, NotFound
from limner.jobs.wishes import Wanted
from limner.server.routes.catalog import ModelView, list_models
from limner.server.state import Parts, State
from limner.service import NATIVE_LANE

router = APIRouter(prefix="/api/models", tags=["catalog"])

Name = Annotated[str, Path(max_length=500, description="a checkpoint's name, as in `GET /api/models`")]


@router.post("/{name:path}/load", operation_id="models_load", status_code=202, summary="Load a checkpoint")
async def load_model(name: Name, parts: Parts) -> ModelView:
    """Ask every worker that has the checkpoint to read its weights into memory.

    They begin within a second; `loading` is true until they are done. What goes wrong is told in `load_problem`.
    """
    return await _wished(name, "load", parts)


@router.post("/{name:path}/unload", operation_id="models_unload", status_code=202, summary="Unload a checkpoint")
async def unload_model(name: Name, parts: Parts) -> ModelView:
    """Ask every worker to free the checkpoint's memory when the pictures under way with it are finished.

    `unloading` is true until then. The next job that names the checkpoint loads it again.
    """
    return await _wished(name, "unload", parts)


async def _wished(name: str, wanted: Wanted, parts: State) -> ModelView:
    workers = [worker for worker in await parts.service.living_workers() if worker.lane == NATIVE_LANE]
    if not workers:
        raise Conflict(f"No worker is alive that could {wanted} a checkpoint. Start one with `limner worker`.")
    known = {model["name"]: None for worker in workers for model in worker.models}
    if not known:
        raise Conflict("The workers are still looking for checkpoints. Try again in some seconds.")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)[:10]
        raise NotFound(f"There is no checkpoint `{name[:80]}`. Known: {', '.join(near)}.", near=near)
    able = [worker.id for worker in workers if any(model["name"] == name for model in worker.models)]
    await parts.service.wishes.wish(name, wanted, able)
    models = (await list_models(parts)).models
    if (view := next((model for model in models if model.name == name), None)) is None:
        raise Conflict(f"The worker that has `{name[:80]}` has ended meanwhile. Try again when another one is there.")
    return view
