"""The Kontext service of the older interface, painted by the engine with a small FLUX.1 Kontext."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from limner.domain import Recipe
from limner.media.metadata import read_recipe
from limner.server.app import build
from limner.service import Service
from tests.support.jobs import until
from tests.support.services import client_of, settings_for, worker_of
from tests.support.small_flux import save_folder, small_flux


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (90, 60), colour).save(stream, "PNG")
    return stream.getvalue()


async def test_a_reference_picture_is_changed_by_kontext(tmp_path: Path) -> None:
    save_folder(small_flux(), tmp_path / "models" / "flux1-kontext-small")
    service = Service(settings_for(tmp_path, native={"device": "cpu", "threads": 1}))
    async with client_of(build(service)) as client, worker_of(service):

        async def painted(colour: str) -> tuple[bytes, Recipe]:
            form = {"description": "a red boat", "count": "1", "size": "128x96", "steps": "2", "seed": "5"}
            sent = {"referenceImage": ("boat.png", png(colour), "image/png")}
            task = (await client.post("/generate-image", data=form, files=sent)).json()["task_id"]

            async def status() -> dict[str, object]:
                told = (await client.get(f"/api/task-status/{task}")).json()
                return told if told["status"] in ("completed", "failed") else {}

            told = await until(status, 120)
            assert (told["status"], told["error_message"]) == ("completed", None)
            content = (await client.get(f"/api/image/{task}?index=0")).content
            (tmp_path / "painted.png").write_bytes(content)
            return content, read_recipe(tmp_path / "painted.png")

        teal, recipe = await painted("teal")
        assert Image.open(io.BytesIO(teal)).size == (128, 96)
        assert (recipe.checkpoint, recipe.family) == ("flux1-kontext-small", "flux")
        assert recipe.request.references_as == "context"
        assert (recipe.plan.stages[0].guidance, recipe.plan.stages[0].denoise) == (2.5, 1.0)
        again, _ = await painted("orange")
        assert Image.open(io.BytesIO(teal)).tobytes() != Image.open(io.BytesIO(again)).tobytes()
