"""What is old goes, rows and files together; what an end in between leaves is not lost track of."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from sqlalchemy import update

from limner.domain import ImageRecord
from limner.errors import NotFound, StorageError
from limner.jobs.gallery import ImageFilter
from limner.jobs.records import JobFilter
from limner.jobs.repair import Repair
from limner.jobs.tables import NOW, images, jobs, uploads
from limner.server.chores import DAY_S, clean, keep_house
from limner.service import Service
from limner.storage.local import LocalStorage
from tests.contract.storage_contract import keys
from tests.support.jobs import begun, new_job, stored_picture, until
from tests.support.services import fake_service, settings_for
from tests.unit.jobs.test_gallery import picture_file


@pytest.fixture
async def service(tmp_path: Path) -> AsyncGenerator[Service]:
    async with fake_service(settings_for(tmp_path, jobs={"cleanup_days": 7})) as service:
        yield service


async def end_days_ago(service: Service, days: float, *pictures: ImageRecord) -> None:
    async with service.database.begin() as connection:
        ids = [picture.job_id for picture in pictures]
        await connection.execute(
            update(jobs).where(jobs.c.id.in_(ids)).values(finished_at=NOW - days * DAY_S, created_at=NOW - days * DAY_S)
        )


async def left(service: Service) -> set[str]:
    return {image.id for image in (await service.gallery.list(ImageFilter())).items}


async def test_old_jobs_go_with_their_files_and_the_others_stay(service: Service) -> None:
    old, young = [await stored_picture(service.store, service.gallery) for _ in range(2)]
    waiting, _ = await service.store.create(new_job())
    _, running = await begun(service.store, "w2")
    await end_days_ago(service, 8, old)
    await end_days_ago(service, 6, young)
    await clean(service)
    assert {job.id for job in (await service.store.list(JobFilter())).items} == {young.job_id, waiting.id, running.id}
    assert await left(service) == {young.id}
    assert set(await keys(service.gallery.storage)) == {young.key, young.thumbnail_key}
    with pytest.raises(NotFound):
        await service.store.get(old.job_id)


async def test_many_old_jobs_are_removed_in_one_cleaning(service: Service) -> None:
    old = [await stored_picture(service.store, service.gallery) for _ in range(7)]
    await end_days_ago(service, 8, *old)
    remove_some = service.store.remove_old
    counts: list[int] = []

    async def two_at_a_time(older_than_s: float) -> tuple[int, set[str]]:
        some, found = await remove_some(older_than_s, limit=2)
        counts.append(some)
        return some, found

    service.store.remove_old = two_at_a_time  # pyright: ignore[reportAttributeAccessIssue]
    assert await service.remove_old(7 * DAY_S) == 7
    assert counts == [2, 2, 2, 1, 0]
    assert await keys(service.gallery.storage) == {}


async def test_without_a_limit_nothing_is_removed(tmp_path: Path) -> None:
    async with fake_service(settings_for(tmp_path)) as service:
        old = await stored_picture(service.store, service.gallery)
        await end_days_ago(service, 4000, old)
        await clean(service)
        assert await left(service) == {old.id}


async def test_a_job_that_was_retried_is_not_old(service: Service) -> None:
    claim, job = await begun(service.store)
    await service.store.finish(claim)
    async with service.database.begin() as connection:
        await connection.execute(update(jobs).values(finished_at=NOW - 30 * DAY_S))
    await service.store.retry(job.id)
    await clean(service)
    assert (await service.store.get(job.id)).id == job.id


async def test_bytes_that_a_younger_copy_names_stay(service: Service) -> None:
    old = await stored_picture(service.store, service.gallery, recipe_key="same")
    copied, _ = await service.store.create(new_job(recipe_key="same"))
    assert copied.cached and copied.pictures[0].image_id
    await end_days_ago(service, 8, old)
    await clean(service)
    copy = await service.gallery.get(copied.pictures[0].image_id)
    assert await service.gallery.storage.size(copy.key) == copy.size_bytes
    assert await service.gallery.storage.size(copy.thumbnail_key)


async def test_uploads_that_nobody_uses_go_too(service: Service) -> None:
    upload = await service.gallery.add_upload("local", "a.png", picture_file(), 10**6)
    async with service.database.begin() as connection:
        await connection.execute(update(uploads).values(used_at=NOW - 8 * DAY_S))
    await clean(service)
    with pytest.raises(NotFound):
        await service.gallery.get_upload(upload.id)
    assert await keys(service.gallery.storage) == {}


async def test_pictures_that_were_deleted_a_day_ago_are_purged(service: Service) -> None:
    kept, gone = [await stored_picture(service.store, service.gallery) for _ in range(2)]
    await service.gallery.delete([kept.id, gone.id])
    async with service.database.begin() as connection:
        await connection.execute(update(images).where(images.c.id == gone.id).values(deleted_at=NOW - 1.01 * DAY_S))
    await clean(service)
    assert await service.gallery.restore([kept.id, gone.id]) == 1
    assert set(await keys(service.gallery.storage)) == {kept.key, kept.thumbnail_key}


class Refusing(LocalStorage):
    """A folder from which nothing can be removed."""

    async def delete(self, key: str) -> None:
        raise StorageError("The disk is read-only.")


async def test_files_that_could_not_be_removed_are_found_by_the_repair(service: Service, tmp_path: Path) -> None:
    old, young = [await stored_picture(service.store, service.gallery) for _ in range(2)]
    await end_days_ago(service, 8, old)
    whole, service.gallery.storage = service.gallery.storage, Refusing(service.settings.pictures_dir)
    await clean(service)  # goes on, and says so in the log
    assert await left(service) == {young.id}
    service.gallery.storage = whole
    repair = Repair(service.store, service.gallery, tmp_path / "lost")
    found = await repair.look()
    assert set(found.lost_files) == {old.key, old.thumbnail_key}
    await repair.put_right(found)
    assert set(await keys(whole)) == {young.key, young.thumbnail_key}


KILLED_WHILE_CLEANING = """
import asyncio, os, sys
from pathlib import Path
from unittest.mock import patch
from limner.server.chores import clean
from limner.storage.local import LocalStorage
from tests.support.services import fake_service, settings_for

class Slow(LocalStorage):
    async def delete(self, key):
        await super().delete(key)
        print("removed one", flush=True)
        await asyncio.sleep(60)

async def main():
    async with fake_service(settings_for(Path(sys.argv[1]), jobs={"cleanup_days": 7})) as service:
        service.gallery.storage = Slow(service.settings.pictures_dir)
        await clean(service)

asyncio.run(main())
"""


def kill_while_cleaning(home: Path) -> None:
    """Kill a process that has removed rows and the first of their files."""
    arguments = [sys.executable, "-c", KILLED_WHILE_CLEANING, str(home)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=root, env=os.environ) as process:
        assert process.stdout and process.stdout.readline() == b"removed one\n"
        process.send_signal(signal.SIGKILL)


async def test_a_kill_between_rows_and_files_loses_track_of_nothing(service: Service, tmp_path: Path) -> None:
    old = [await stored_picture(service.store, service.gallery) for _ in range(3)]
    young = await stored_picture(service.store, service.gallery)
    await end_days_ago(service, 8, *old)
    kill_while_cleaning(tmp_path)
    begun_at = time.monotonic()
    assert await left(service) == {young.id}
    assert len(await keys(service.gallery.storage)) == 7
    repair = Repair(service.store, service.gallery, tmp_path / "lost")
    assert (await repair.put_right(await repair.look()))["lost_files"] == 5
    assert set(await keys(service.gallery.storage)) == {young.key, young.thumbnail_key}
    assert (await repair.look()).counts() == dict.fromkeys((await repair.look()).counts(), 0)
    assert time.monotonic() - begun_at < 10


async def test_a_chore_that_fails_unforeseen_does_not_end_the_others(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reap, stop, calls = service.reap, asyncio.Event(), 0

    async def failing_once() -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("unforeseen")
        stop.set()
        return await reap()

    monkeypatch.setattr("limner.server.chores.REAP_EVERY_S", 0.01)
    monkeypatch.setattr(service, "reap", failing_once)
    await keep_house(service, stop)
    assert calls == 2


@pytest.fixture
def zombie() -> Iterator[int]:
    """A process that has ended, but whose id is not free yet, since nobody has asked for its end."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    yield pid
    os.waitpid(pid, 0)


async def test_the_jobs_of_a_process_that_is_gone_are_given_back_before_their_leases_end(
    service: Service, zombie: int
) -> None:
    for pid in (zombie, os.getpid()):
        with patch("os.getpid", return_value=pid):
            await service.workers.register(f"worker-{pid}", "native", 1, {})
        await begun(service.store, f"worker-{pid}", lease_s=600)

    async def is_gone() -> bool:
        return bool(await service.reap())

    await until(is_gone)
    assert [worker.pid for worker in await service.workers.list()] == [os.getpid()]
    statuses = [job.status for job in (await service.store.list(JobFilter(), 10)).items]
    assert sorted(statuses) == ["pending", "processing"]
