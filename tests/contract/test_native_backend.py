"""The native backend keeps the contract, with a checkpoint of a few thousand parameters."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from limner.backends.native import NativeBackend
from limner.backends.settings import NativeSettings
from limner.ports import Backend
from tests.contract.backend_contract import BackendContract
from tests.support.checkpoints import save_folder, tiny_components


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_components(), tmp_path_factory.mktemp("checkpoint") / "tiny")


class TestNativeBackend(BackendContract):
    @pytest.fixture
    async def backend(self, checkpoint: Path) -> AsyncGenerator[Backend, None]:
        backend = NativeBackend(NativeSettings(model=str(checkpoint), device="cpu", models_dir=checkpoint.parent))
        yield backend
        await backend.aclose()
