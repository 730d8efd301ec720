"""Jobs on ComfyUI survive the death of their worker: the next attempt finds the picture where the last one left it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from limner.backends.comfyui.client import Instance
from limner.domain import GenerationRequest, JobStatus
from limner.service import REMOTE_LANE, Service
from tests.support.comfyui_server import ComfyUIServer
from tests.support.jobs import until
from tests.support.services import settings_for, worker_of


async def test_a_job_that_lost_its_worker_is_not_painted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgotten(self: Instance, prompt_id: str) -> None:
        """A worker that is killed takes nothing back."""

    server = ComfyUIServer(holds=True)
    async with server.running_on():
        settings = settings_for(tmp_path, comfyui={"url": server.url, "poll_s": 0.02})
        async with Service(settings) as service:
            wanted = {"prompt": "a boat", "backend": "comfyui", "width": 192, "height": 256, "seed": 7}
            job, _ = await service.submit(GenerationRequest.model_validate(wanted), "local")
            dying = asyncio.create_task(service.worker("w1", REMOTE_LANE).run(asyncio.Event()))

            async def sent() -> bool:
                return bool(server.pending)

            await until(sent)
            with monkeypatch.context() as patched:
                patched.setattr(Instance, "cancel", forgotten)
                dying.cancel()
                await asyncio.wait((dying,))
            server.holds = False

            async def ended() -> bool:
                return (await service.store.get(job.id)).status.final

            async with worker_of(service, "w2", REMOTE_LANE):
                await until(ended)
            job = await service.store.get(job.id)
            assert (job.status, job.error, job.attempt) == (JobStatus.COMPLETED, None, 2)
            assert len(server.graphs) == 1
            image = await service.gallery.get(job.pictures[0].image_id or "")
            assert (image.width, image.height, image.recipe.request.backend) == (192, 256, "comfyui")
