"""The ComfyUI backend keeps the contract, against a server of our own or a real one.

LIMNER_TEST_COMFYUI_URL=http://127.0.0.1:8188 takes that server; it needs the files of Z-Image-Turbo, see docs/12.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from limner.backends.comfyui import ComfyUIBackend
from limner.backends.remote import Patience
from limner.backends.settings import ComfyUISettings
from limner.ports import Backend
from tests.contract.backend_contract import BackendContract, Trouble
from tests.support.comfyui_server import ComfyUIServer

REAL = os.environ.get("LIMNER_TEST_COMFYUI_URL")
TEMPLATES = Path(__file__).parents[1] / "support" / "comfyui_templates"


@pytest.fixture
async def address() -> AsyncGenerator[str]:
    if REAL:
        yield REAL
        return
    async with ComfyUIServer().running_on() as server:
        yield server.url


class TestComfyUIBackend(BackendContract):
    remote = True
    tolerance = 2 if REAL else 0
    lacks = frozenset({"trouble"} if REAL else ())

    @pytest.fixture
    async def backend(self, address: str) -> AsyncGenerator[Backend, None]:
        settings = ComfyUISettings(url=(address,), template="two-stages", templates_dir=TEMPLATES, poll_s=0.05)
        backend = ComfyUIBackend(settings)
        yield backend
        await backend.aclose()

    @pytest.fixture(params=["node", "memory", "slow", "gone"])
    async def trouble(self, request: pytest.FixtureRequest) -> AsyncGenerator[Trouble]:
        server, code, retryable = {
            "node": (ComfyUIServer(fails="VAEDecode"), "rejected", False),
            "memory": (ComfyUIServer(fails="VAEDecode", out_of_memory=True), "out_of_memory", True),
            "slow": (ComfyUIServer(step_s=1), "timeout", True),
            "gone": (ComfyUIServer(dies_at_step=2), "unreachable", True),
        }[str(request.param)]
        async with server.running_on():
            timeout_s = 0.1 if request.param == "slow" else 30.0
            known = ComfyUISettings(
                url=(server.url,), template="two-stages", templates_dir=TEMPLATES, poll_s=0.02, timeout_s=timeout_s
            )
            backend = ComfyUIBackend(known, patience=Patience(tries=2, first_pause_s=0.01), lost_s=0.3)
            yield Trouble(backend, code, retryable)
            await backend.aclose()
