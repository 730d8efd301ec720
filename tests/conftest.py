"""Fixtures of every kind of test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.buckets import Bucket, bucket_server, fresh_bucket
from tests.support.databases import postgres_database, postgres_server

# How long an example takes says more of the machine, which may be busy, than of the code. What decides whether a change
# lands is asked the same examples every time; new ones are looked for wherever else the tests run.
settings.register_profile(
    "limner", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("limner")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server, started when the first test needs it."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def bucket_service() -> Iterator[tuple[str, Path]]:
    """An S3-compatible service, started when the first test needs it."""
    with bucket_server() as found:
        yield found


@pytest.fixture
def bucket(bucket_service: tuple[str, Path]) -> Bucket:
    """A fresh bucket of a real service."""
    return fresh_bucket(*bucket_service)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'limner.db'}"
    else:
        with postgres_database(request.getfixturevalue("postgres")) as url:
            yield url
