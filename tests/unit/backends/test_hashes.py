"""The hash of a checkpoint is read beside the engine: nothing waits for it but the recipe that names it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from limner.backends.native import NativeBackend
from limner.backends.settings import NativeSettings
from limner.engine.checkpoint_files import CheckpointFiles
from limner.events import Done, Warned
from tests.contract.backend_contract import images, order, run
from tests.support.checkpoints import save_folder, tiny_components


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("tiny", "other")):
        save_folder(tiny_components(seed), folder / name)
    return folder


@pytest.fixture
async def backend(models: Path) -> AsyncGenerator[NativeBackend]:
    backend = NativeBackend(NativeSettings(model="tiny", device="cpu", models_dir=models))
    yield backend
    await backend.aclose()


async def test_a_long_hash_holds_up_its_own_picture_only(
    backend: NativeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, hashed = threading.Event(), CheckpointFiles.sha256

    def slow(files: CheckpointFiles) -> str:
        if files.name == "tiny":
            assert go_on.wait(30)
        return hashed(files)

    monkeypatch.setattr(CheckpointFiles, "sha256", slow)
    first = asyncio.create_task(run(backend, order(model="tiny")))
    try:
        (other,) = images(await asyncio.wait_for(run(backend, order(model="other")), 20))
        assert not first.done()
    finally:
        go_on.set()
    (image,) = images(await first)
    assert len(image.recipe.checkpoint_sha256) == len(other.recipe.checkpoint_sha256) == 64
    assert backend.loaded()["tiny"].sha256 == image.recipe.checkpoint_sha256 != other.recipe.checkpoint_sha256


async def test_a_painted_picture_arrives_without_a_hash_where_the_files_cannot_be_read(
    backend: NativeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(files: CheckpointFiles) -> str:
        raise OSError(5, "Input/output error", str(files.path))

    monkeypatch.setattr(CheckpointFiles, "sha256", unread)
    events = await run(backend, order())
    (image,), (warned,) = images(events), [event for event in events if isinstance(event, Warned)]
    assert image.recipe.checkpoint_sha256 == ""
    assert "cannot be read any more ([Errno 5] Input/output error" in warned.message
    assert image.recipe.warnings == (warned.message,)
    assert isinstance(events[-1], Done)
    assert events[-1].status == "completed"
