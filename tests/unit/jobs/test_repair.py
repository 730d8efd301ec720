"""What an end at the wrong moment leaves behind is found, told from what is under way, and put right."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from limner.domain import GenerationRequest, JobStatus, Reference
from limner.errors import NotFound, StorageError
from limner.jobs.database import Database
from limner.jobs.gallery import Gallery, ImageFilter
from limner.jobs.records import new_id
from limner.jobs.repair import Findings, Repair
from limner.jobs.store import JobStore
from limner.jobs.tables import NOW, events, images, jobs
from limner.storage.local import LocalStorage
from tests.contract.storage_contract import keys
from tests.support.buckets import Bucket
from tests.support.jobs import begun, new_job, painted, stored_picture
from tests.support.records import recipe
from tests.unit.jobs.test_gallery import picture_file, send


@pytest.fixture
def repair(store: JobStore, gallery: Gallery, tmp_path: Path) -> Repair:
    return Repair(store, gallery, tmp_path / "lost+found")


async def test_nothing_is_wrong_with_what_is_whole(store: JobStore, gallery: Gallery, repair: Repair) -> None:
    await stored_picture(store, gallery)
    await send(gallery, picture_file())
    await store.create(new_job())
    deleted = await stored_picture(store, gallery)
    await gallery.delete([deleted.id])
    found = await repair.look()
    assert found.counts() == dict.fromkeys(found.counts(), 0)
    assert (found.known_files, found.unrelated) == (5, False)


async def test_an_empty_database_and_storage_are_in_order(repair: Repair) -> None:
    assert await repair.look() == Findings()
    assert not (await repair.look()).unrelated


async def test_files_without_a_row_are_moved_and_can_be_read_there(
    store: JobStore, gallery: Gallery, repair: Repair
) -> None:
    kept, lost = await stored_picture(store, gallery), await stored_picture(store, gallery)
    content = await gallery.storage.get(lost.key)
    async with store.database.begin() as connection:
        await connection.execute(delete(jobs).where(jobs.c.id == lost.job_id))
    found = await repair.look()
    assert found.lost_files == {lost.key: len(content), lost.thumbnail_key: found.lost_files[lost.thumbnail_key]}
    assert (await repair.put_right(found))["lost_files"] == 2
    assert set(await keys(gallery.storage)) == {kept.key, kept.thumbnail_key}
    assert (repair.lost_folder / lost.key).read_bytes() == content
    assert (await repair.look()).counts()["lost_files"] == 0


async def test_what_an_attempt_is_storing_is_not_lost(store: JobStore, gallery: Gallery, repair: Repair) -> None:
    claim, _ = await begun(store)
    image = await gallery.keep(claim, 0, painted(recipe("single")))
    assert not (await repair.look()).lost_files  # the row comes in a moment
    await store.release(claim)
    again = await store.begin(claim.job_id, "w2", 30)
    assert again
    found = await repair.look()
    assert set(found.lost_files) == {image.key, image.thumbnail_key}  # of an attempt that is over
    second = await gallery.keep(again[0], 0, painted(recipe("single")))
    await store.add_image(again[0], second)
    await store.finish(again[0])
    await repair.put_right(found)
    assert set(await keys(gallery.storage)) == {second.key, second.thumbnail_key}


async def test_a_row_that_appears_between_looking_and_repairing_keeps_its_file(
    store: JobStore, gallery: Gallery, repair: Repair
) -> None:
    image = await stored_picture(store, gallery)
    done = await repair.put_right(Findings(lost_files={image.key: 1, "images/gone/0-1.png": 1}))
    assert done["lost_files"] == 0
    assert await gallery.storage.size(image.key) == image.size_bytes


async def test_files_that_are_not_ours_are_left_alone(gallery: Gallery, repair: Repair) -> None:
    for key in ("images/mine.png", "images/job_1/notes.txt", "holiday/0-1.png", "uploads/own.png"):
        await gallery.storage.put(key, b"x", "")
    assert (await repair.look()).lost_files == {}


async def test_an_upload_without_a_row_counts_as_lost_after_a_while(gallery: Gallery, repair: Repair) -> None:
    old = f"uploads/upl_{int((time.time() - 7200) * 1000):012x}{'0' * 16}.png"
    for key in (old, f"uploads/{new_id('upl')}.png"):
        await gallery.storage.put(key, b"x", "")
    assert set((await repair.look()).lost_files) == {old}


async def test_a_picture_whose_file_is_gone_is_said_to_be_and_can_be_painted_again(
    store: JobStore, gallery: Gallery, repair: Repair
) -> None:
    await stored_picture(store, gallery)
    gone = await stored_picture(store, gallery)
    await gallery.storage.delete(gone.key)
    found = await repair.look()
    assert list(found.missing_pictures) == [gone.id] and not found.unrelated
    assert (await repair.put_right(found))["missing_pictures"] == 1
    job = await store.get(gone.job_id)
    assert job.status is JobStatus.FAILED
    assert job.pictures[0].image_id is None
    assert job.pictures[0].error and job.pictures[0].error.retryable
    assert "Retry the job" in job.pictures[0].error.message
    told = await store.events(gone.job_id)
    assert [event.type for event in told][-2:] == ["error", "done"]
    assert [event.number for event in told] == list(range(1, len(told) + 1))
    with pytest.raises(NotFound):
        await gallery.get(gone.id)
    assert (await store.retry(gone.job_id)).status is JobStatus.PENDING
    again = await store.begin(gone.job_id, "w", 30)
    assert again and [picture.index for picture in again[1].pictures if picture.image_id is None] == [0]
    assert (repair.lost_folder / gone.thumbnail_key).is_file()  # all that is left of it
    assert (await repair.look()).counts() == dict.fromkeys(found.counts(), 0)


async def test_one_lost_picture_of_many_makes_the_job_partial(
    store: JobStore, gallery: Gallery, repair: Repair
) -> None:
    claim, _ = await begun(store, count=2)
    kept = [await gallery.keep(claim, number, painted(recipe("single"))) for number in range(2)]
    for image in kept:
        await store.add_image(claim, image)
    assert (await store.finish(claim)).status is JobStatus.COMPLETED
    await gallery.storage.delete(kept[1].key)
    await repair.put_right(await repair.look())
    job = await store.get(claim.job_id)
    assert job.status is JobStatus.PARTIAL
    assert [picture.image_id for picture in job.pictures] == [kept[0].id, None]


async def test_a_picture_lost_under_a_running_job_does_not_end_it(
    store: JobStore, gallery: Gallery, repair: Repair
) -> None:
    claim, _ = await begun(store, count=2)
    image = await gallery.keep(claim, 0, painted(recipe("single")))
    await store.add_image(claim, image)
    await gallery.storage.delete(image.key)
    await repair.put_right(await repair.look())
    assert (await store.get(claim.job_id)).status is JobStatus.PROCESSING
    await store.add_image(claim, await gallery.keep(claim, 1, painted(recipe("single"))))
    assert (await store.finish(claim)).status is JobStatus.PARTIAL


async def test_a_thumbnail_that_is_gone_is_drawn_anew(store: JobStore, gallery: Gallery, repair: Repair) -> None:
    image = await stored_picture(store, gallery)
    former = await gallery.storage.get(image.thumbnail_key)
    await gallery.storage.delete(image.thumbnail_key)
    found = await repair.look()
    assert (found.missing_thumbnails, found.missing_pictures) == ([image.id], {})
    await repair.put_right(found)
    assert await gallery.storage.get(image.thumbnail_key) == former


async def test_an_upload_whose_file_is_gone_is_forgotten(gallery: Gallery, repair: Repair) -> None:
    upload = await send(gallery, picture_file())
    await gallery.storage.delete(upload.key)
    found = await repair.look()
    assert found.missing_uploads == [upload.id]
    await repair.put_right(found)
    request = GenerationRequest(references=(Reference(upload=upload.id),))
    with pytest.raises(NotFound, match="Send the picture again"):
        await gallery.references(request, "local")


async def test_a_job_whose_worker_is_gone_is_run_again(database: Database, store: JobStore, repair: Repair) -> None:
    _, running = await begun(store)
    claim, _ = await begun(store)
    async with database.begin() as connection:
        await connection.execute(update(jobs).where(jobs.c.id == claim.job_id).values(lease_until=NOW - 60))
    found = await repair.look()
    assert found.abandoned_jobs == [claim.job_id]
    assert (await repair.put_right(found))["abandoned_jobs"] == 1
    assert (await store.get(claim.job_id)).status is JobStatus.PENDING
    assert (await store.get(running.id)).status is JobStatus.PROCESSING


async def test_an_end_that_the_log_does_not_tell_is_written(
    database: Database, store: JobStore, gallery: Gallery, repair: Repair
) -> None:
    whole, image = await stored_picture(store, gallery), await stored_picture(store, gallery)
    async with database.begin() as connection:
        await connection.execute(delete(events).where(events.c.job_id == image.job_id, events.c.type == "done"))
    found = await repair.look()
    assert found.unended_jobs == [image.job_id]
    assert (await repair.put_right(found))["unended_jobs"] == 1
    last = (await store.events(image.job_id))[-1]
    assert (last.type, last.data) == ("done", {"status": "completed", "images": 1, "failed": 0})
    found.unended_jobs.append(whole.job_id)
    assert (await repair.put_right(found))["unended_jobs"] == 0


async def test_unfinished_files_are_removed_when_they_are_old(
    gallery: Gallery, storage: LocalStorage, repair: Repair, tmp_path: Path
) -> None:
    await storage.put("images/job/0-1.png", b"x", "")
    for name in (".0123.part", ".4567.part"):
        (tmp_path / "pictures/images/job" / name).write_bytes(b"half")
    os.utime(tmp_path / "pictures/images/job/.0123.part", (0, 0))
    found = await repair.look()
    assert [path.name for path in found.leftovers] == [".0123.part"]
    await repair.put_right(found)
    assert [path.name for path in (tmp_path / "pictures/images/job").iterdir()] == [".4567.part"]


async def test_the_wrong_folder_is_told_from_lost_pictures(
    store: JobStore, gallery: Gallery, repair: Repair, tmp_path: Path
) -> None:
    await stored_picture(store, gallery)
    elsewhere = Gallery(store.database, LocalStorage(tmp_path / "another disk"))
    assert (await Repair(store, elsewhere, tmp_path / "lost").look()).unrelated
    async with store.database.begin() as connection:
        await connection.execute(delete(images))
    assert (await repair.look()).unrelated  # as a fresh database beside an old folder
    assert (await gallery.list(ImageFilter())).items == []


async def test_a_storage_that_cannot_be_read_loses_nothing(store: JobStore, gallery: Gallery, tmp_path: Path) -> None:
    image = await stored_picture(store, gallery)
    (tmp_path / "a file").write_bytes(b"")
    broken = Gallery(store.database, LocalStorage(tmp_path / "a file"))
    with pytest.raises(StorageError):
        await Repair(store, broken, tmp_path / "lost").look()
    assert (await gallery.get(image.id)).id == image.id


async def test_a_bucket_is_repaired_like_a_folder(store: JobStore, bucket: Bucket, tmp_path: Path) -> None:
    gallery = Gallery(store.database, bucket.storage("limner"))
    repair = Repair(store, gallery, tmp_path / "lost")
    lost, gone, whole = [await stored_picture(store, gallery) for _ in range(3)]
    async with store.database.begin() as connection:
        await connection.execute(delete(jobs).where(jobs.c.id == lost.job_id))
    await gallery.storage.delete(gone.key)
    done = await repair.put_right(await repair.look())
    assert (done["lost_files"], done["missing_pictures"]) == (2, 1)
    assert set(await keys(gallery.storage)) == {whole.key, whole.thumbnail_key}
    assert (tmp_path / "lost" / lost.key).stat().st_size == lost.size_bytes
