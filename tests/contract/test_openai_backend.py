"""The OpenAI backend keeps the contract, with limner's own server as the provider."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future

import pytest

from limner.backends.fake import FakeBackend
from limner.backends.openai_images import OpenAIBackend
from limner.backends.remote import Patience
from limner.backends.settings import OpenAISettings
from limner.ports import Backend
from limner.server.app import build
from tests.contract.backend_contract import BackendContract, Trouble
from tests.support.scripted_server import Reply, ScriptedServer
from tests.support.services import fake_service, listening, settings_for, worker_of


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of a server that paints gradients, on a thread of its own, since it serves all tests here."""
    started: Future[tuple[str, Callable[[], object]]] = Future()

    async def serve() -> None:
        service = fake_service(settings_for(tmp_path_factory.mktemp("provider")), FakeBackend())
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        async with listening(build(service)) as url, worker_of(service):
            started.set_result((url, lambda: loop.call_soon_threadsafe(stop.set)))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    url, stop = started.result(30)
    yield url
    stop()
    thread.join()


class TestOpenAIBackend(BackendContract):
    remote = True
    stages = False
    tolerance = 0

    @pytest.fixture
    async def backend(self, provider: str) -> AsyncGenerator[Backend, None]:
        known = ("seed", "negative_prompt")
        settings = OpenAISettings(base_url=f"{provider}/v1", model="fake", fields=known, at_a_time=4)
        backend = OpenAIBackend(settings)
        yield backend
        await backend.aclose()

    @pytest.fixture(params=["refused", "full", "slow", "gone"])
    async def trouble(self, request: pytest.FixtureRequest) -> AsyncGenerator[Trouble]:
        refusal = {"error": {"message": "Not this", "type": "user_error", "param": None, "code": "moderation_blocked"}}
        reply, code, retryable = {
            "refused": (Reply(400, refusal), "rejected", False),
            "full": (Reply(429, headers={"Retry-After": "600"}), "capacity", True),
            "slow": (Reply(stalls_s=5), "timeout", True),
            "gone": (Reply(503), "unreachable", True),
        }[str(request.param)]
        async with ScriptedServer([reply]).listening() as server:
            settings = OpenAISettings(base_url=server.url, timeout_s=0.2 if reply.stalls_s else 10)
            backend = OpenAIBackend(settings, patience=Patience(tries=2, first_pause_s=0.01))
            yield Trouble(backend, code, retryable)
            await backend.aclose()
