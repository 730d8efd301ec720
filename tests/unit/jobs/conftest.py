"""A store on each kind of database."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from limner.jobs.database import Database
from limner.jobs.gallery import Gallery
from limner.jobs.queue import TableQueue
from limner.jobs.store import JobStore
from limner.storage.local import LocalStorage


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    database = Database(database_url)
    await database.upgrade()
    yield database
    await database.aclose()


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database, TableQueue(database))


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "pictures")


@pytest.fixture
def gallery(database: Database, storage: LocalStorage) -> Gallery:
    return Gallery(database, storage)
