"""A service whose pictures a fake backend paints, and a client of its server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from limner.backends.fake import FakeBackend
from limner.server.app import build
from limner.service import Service
from tests.support.services import client_of, fake_service, settings_for, worker_of


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def service(tmp_path: Path, backend: FakeBackend) -> Service:
    return fake_service(settings_for(tmp_path), backend)


@pytest.fixture
async def client(service: Service) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(build(service)) as client:
        yield client


@pytest.fixture
async def worker(client: httpx.AsyncClient, service: Service) -> AsyncGenerator[None]:
    """A worker of the service; without it jobs wait."""
    async with worker_of(service):
        yield
