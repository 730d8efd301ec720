"""The database's form, and what happens when it does not answer."""

from __future__ import annotations

import asyncio
import sqlite3
from importlib import import_module
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, delete, text

from limner.errors import ConfigError, DatabaseError
from limner.jobs import database as database_module
from limner.jobs.database import Database
from limner.jobs.gallery import Gallery, ImageFilter
from limner.jobs.records import JobFilter
from limner.jobs.store import JobStore
from limner.jobs.tables import image_adapters, jobs, metadata
from tests.support.jobs import new_job, stored_picture


async def test_migrations_make_what_the_tables_say(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        ours = {table.name for table in metadata.tables.values()} | {"alembic_version"}

        def is_ours(name: str | None, kind: str, parents: object) -> bool:
            return kind != "table" or name in ours

        context = MigrationContext.configure(connection, opts={"include_name": is_ours})
        return list(compare_metadata(context, metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_pictures_that_an_older_release_stored_are_found_by_their_adapters(
    database: Database, store: JobStore, gallery: Gallery
) -> None:
    kept = await stored_picture(store, gallery, adapters=[{"name": "ink"}, {"name": "ink"}, {"name": "wash"}])
    await stored_picture(store, gallery, adapters=[{"name": "ink"}], fits=False)
    await stored_picture(store, gallery)
    migration = import_module("limner.jobs.migrations.versions.0004_filters")
    async with database.begin() as connection:
        await connection.execute(delete(image_adapters))
        await connection.execute(text(migration.KNOWN["sqlite" if database.is_sqlite else "postgresql"]))
    for name in ("ink", "wash"):
        assert [image.id for image in (await gallery.list(ImageFilter(adapter=name))).items] == [kept.id]


async def test_several_processes_may_upgrade_at_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    await asyncio.gather(*(database.upgrade() for database in databases))
    await databases[0].check()
    for database in databases:
        await database.aclose()


async def test_an_upgrade_waits_longer_than_a_write_for_another_process_that_upgrades(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 50)
    other = sqlite3.connect(tmp_path / "limner.db", isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    asyncio.get_running_loop().call_later(0.5, other.execute, "COMMIT")
    database = Database(f"sqlite:///{tmp_path / 'limner.db'}")
    await database.upgrade()
    await database.check()
    await database.aclose()
    other.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "nonsense", "", "sqlite:///"])
def test_a_wrong_address_is_a_clear_error_without_a_password(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///path"):
        Database(url)
    with pytest.raises(ConfigError) as caught:
        Database("oracle://user:secret@host/name")
    assert "secret" not in str(caught.value)


async def test_what_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "limner.db"
    path.write_bytes(b"this is not a database" * 100)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(DatabaseError, match="not a database"):
        await database.upgrade()
    await database.aclose()
    assert path.read_bytes().startswith(b"this is not"), "nothing was written into it"


async def test_a_database_that_is_full_loses_only_the_write(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'limner.db'}")
    await database.upgrade()
    store = JobStore(database)
    kept, _ = await store.create(new_job())

    async def allow(pages: int) -> None:
        async with database.begin() as connection:
            await connection.execute(text(f"PRAGMA max_page_count={pages}"))

    await allow(1)  # SQLite takes the number of pages that there are
    made = await asyncio.gather(*(store.create(new_job(prompt="x" * 5000)) for _ in range(20)), return_exceptions=True)
    refused = [error for error in made if isinstance(error, BaseException)]
    assert refused
    for error in refused:
        assert isinstance(error, DatabaseError)
        assert "full" in error.message and "disk has space" in error.message
    await allow(2**30)
    await store.create(new_job())
    found = (await store.list(JobFilter(), limit=200)).items
    assert kept.id in [job.id for job in found]
    for job in found:
        assert len(job.pictures) == 1
        assert [event.number for event in await store.events(job.id)] == [1]
    await database.aclose()


async def test_writers_of_a_process_take_turns_in_the_order_in_which_they_came(database: Database) -> None:
    if not database.is_sqlite:
        return
    turns: list[int] = []

    async def write(number: int) -> None:
        async with database.begin() as connection:
            await connection.execute(text("SELECT 1"))
            await asyncio.sleep(0)
            turns.append(number)

    await asyncio.gather(*map(write, range(20)))
    assert turns == list(range(20))


async def test_a_writer_that_takes_too_long_makes_others_fail_and_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limner.jobs.database.BUSY_TIMEOUT_MS", 100)
    database = Database(f"sqlite:///{tmp_path / 'limner.db'}")
    await database.upgrade()
    async with database.begin():
        with pytest.raises(DatabaseError, match="locked by this process"):
            await JobStore(database).create(new_job())
    await JobStore(database).create(new_job())
    await database.aclose()


@pytest.mark.parametrize("when", ["beginning", "writing"])
async def test_a_writer_that_is_cancelled_leaves_nothing_and_holds_up_nobody(tmp_path: Path, when: str) -> None:
    url = f"sqlite:///{tmp_path / 'limner.db'}"
    here, elsewhere = Database(url), Database(url)
    await here.upgrade()
    inside = asyncio.Event()

    async def write() -> None:
        async with here.begin() as connection:
            await connection.execute(delete(jobs))
            inside.set()
            await asyncio.sleep(60)

    kept, _ = await JobStore(elsewhere).create(new_job())
    if when == "beginning":
        async with elsewhere.begin():
            writing = asyncio.create_task(write())
            await asyncio.sleep(0.1)
            writing.cancel()
            await asyncio.sleep(0.1)
            assert not writing.done(), "its thread waits for the file"
    else:
        writing = asyncio.create_task(write())
        await inside.wait()
        writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    async with asyncio.timeout(2):
        await JobStore(elsewhere).create(new_job())
        await JobStore(here).create(new_job())
    assert (await JobStore(here).get(kept.id)).id == kept.id
    await here.aclose()
    await elsewhere.aclose()


async def test_reading_never_waits_for_a_writer(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'limner.db'}")
    await database.upgrade()
    store = JobStore(database)
    job, _ = await store.create(new_job())
    async with database.begin():
        async with asyncio.timeout(2):
            assert (await store.get(job.id)).id == job.id
    await database.aclose()
