"""Pictures, uploads and saved requests: rows and bytes that stay together, on both kinds of database."""

from __future__ import annotations

import asyncio
import hashlib
import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import update

from limner.domain import GenerationRequest, ImageRecord, Reference
from limner.errors import Conflict, InvalidRequest, NotFound, StorageError, TooLarge
from limner.jobs.database import Database
from limner.jobs.gallery import THUMBNAIL_PX, Gallery, ImageFilter
from limner.jobs.store import JobStore
from limner.jobs.tables import NOW, images, uploads
from limner.storage.local import LocalStorage
from tests.contract.storage_contract import keys
from tests.support.jobs import begun, new_job, painted, stored_picture
from tests.support.records import gradient, recipe

MEGABYTE = 2**20


def picture_file(kind: str = "PNG", width: int = 40, height: int = 30, **more: Any) -> bytes:
    stream = io.BytesIO()
    gradient(width, height).save(stream, kind, **more)
    return stream.getvalue()


async def send(gallery: Gallery, content: bytes, name: str = "cat.png", owner: str = "local") -> Any:
    return await gallery.add_upload(owner, name, content, MEGABYTE)


async def age(database: Database, table: Any, column: str, seconds: float) -> None:
    async with database.begin() as connection:
        known = table.c[column].is_not(None)
        await connection.execute(update(table).where(known).values(**{column: NOW - seconds}))


class Refusing(LocalStorage):
    """A folder that refuses to write or to remove what ends like this."""

    refused: tuple[str, ...] = ()

    async def put(self, key: str, content: bytes, media_type: str) -> None:
        if key.endswith(self.refused):
            raise StorageError("No.")
        await super().put(key, content, media_type)

    async def delete(self, key: str) -> None:
        if key.endswith(self.refused):
            raise StorageError("No.")
        await super().delete(key)


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "suffix"), [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
async def test_a_painted_picture_is_kept_with_its_recipe_and_a_thumbnail(
    store: JobStore, gallery: Gallery, kind: str, suffix: str
) -> None:
    claim, job = await begun(store)
    made = recipe("single", prompt="a cat", output={"format": kind})
    image = await gallery.keep(claim, 0, painted(made, 800, 400))
    await store.add_image(claim, image)
    found = await gallery.get(image.id, "local")
    content = await gallery.storage.get(found.key)
    assert found.key == f"images/{job.id}/0-1{suffix}"
    assert (found.size_bytes, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (found.width, found.height, found.format, found.recipe) == (800, 400, kind, made)
    thumbnail = Image.open(io.BytesIO(await gallery.storage.get(found.thumbnail_key)))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (THUMBNAIL_PX, THUMBNAIL_PX // 2))


async def test_a_picture_that_cannot_be_stored_leaves_nothing(store: JobStore, gallery: Gallery) -> None:
    storage = Refusing(gallery.storage._folder)  # pyright: ignore
    storage.refused = (".thumb.webp",)
    claim, _ = await begun(store)
    with pytest.raises(StorageError):
        await Gallery(store.database, storage).keep(claim, 0, painted(recipe("single")))
    assert await keys(storage) == {}


async def test_pictures_are_listed_newest_first_page_by_page(store: JobStore, gallery: Gallery) -> None:
    ids = [(await stored_picture(store, gallery)).id for _ in range(5)]
    first = await gallery.list(ImageFilter(), limit=2)
    second = await gallery.list(ImageFilter(), 2, first.next_cursor)
    third = await gallery.list(ImageFilter(), 2, second.next_cursor)
    assert [image.id for page in (first, second, third) for image in page.items] == ids[::-1]
    assert third.next_cursor is None
    exactly = await gallery.list(ImageFilter(), limit=5)
    assert len(exactly.items) == 5 and exactly.next_cursor is None
    with pytest.raises(InvalidRequest, match="cursor"):
        await gallery.list(ImageFilter(), cursor="1 OR 1")


async def test_pictures_are_listed_oldest_first_page_by_page(store: JobStore, gallery: Gallery) -> None:
    ids = [(await stored_picture(store, gallery)).id for _ in range(3)]
    first = await gallery.list(ImageFilter(), 2, oldest_first=True)
    second = await gallery.list(ImageFilter(), 2, first.next_cursor, oldest_first=True)
    assert [image.id for page in (first, second) for image in page.items] == ids
    assert second.next_cursor is None


async def test_pictures_are_found_by_what_was_painted_with_and_by_shape_and_time(
    store: JobStore, gallery: Gallery
) -> None:
    both = await stored_picture(store, gallery, adapters=[{"name": "ink"}, {"name": "wash"}], size=(64, 64))
    ink = await stored_picture(store, gallery, adapters=[{"name": "ink"}], size=(48, 64), owner="ann")
    plain = await stored_picture(store, gallery, size=(64, 48))
    skipped = await stored_picture(store, gallery, adapters=[{"name": "wash"}], size=(64, 48), fits=False)

    async def found(**wanted: Any) -> list[str]:
        page = await gallery.list(ImageFilter(**wanted), oldest_first=True)
        assert await gallery.count(ImageFilter(**wanted)) == len(page.items)
        return [image.id for image in page.items]

    assert await found(adapter="ink") == [both.id, ink.id]
    assert await found(adapter="ink", owner="local") == [both.id]
    assert await found(adapter="wash") == [both.id] and await found(adapter="in") == []
    assert await found(shape="square") == [both.id] and await found(shape="portrait") == [ink.id]
    assert await found(shape="landscape") == [plain.id, skipped.id]
    assert await found(created_after=ink.created_at, created_before=skipped.created_at) == [ink.id, plain.id]
    await gallery.delete([both.id])
    assert await found(adapter="wash") == []
    first = await gallery.list(ImageFilter(adapter="ink"), 1)
    assert [image.id for image in first.items] == [ink.id] and first.next_cursor is None


async def test_deleting_while_listing_neither_skips_nor_repeats(store: JobStore, gallery: Gallery) -> None:
    ids = [(await stored_picture(store, gallery)).id for _ in range(6)]
    seen: list[str] = []
    cursor = None
    while True:
        page = await gallery.list(ImageFilter(), 2, cursor)
        seen += [image.id for image in page.items]
        await gallery.delete([image.id for image in page.items])
        await stored_picture(store, gallery)  # a newer one does not move the pages
        if (cursor := page.next_cursor) is None:
            break
    assert seen == ids[::-1]


async def test_filters_narrow_the_list(store: JobStore, gallery: Gallery) -> None:
    cat = await stored_picture(store, gallery, prompt="a RED cat, 100% fluffy_ok")
    boat = await stored_picture(store, gallery, prompt="一艘红色的船", owner="ann")

    async def found(**wanted: Any) -> list[str]:
        return [image.id for image in (await gallery.list(ImageFilter(**wanted))).items]

    assert await found(text="red") == [cat.id]
    assert await found(text="红色") == [boat.id]
    assert await found(text="100%") == [cat.id]
    assert await found(text="1_0") == [] and await found(text="%boat%") == []
    assert await found(text="'; DROP TABLE images; --") == []
    assert await found(owner="ann") == [boat.id]
    assert await found(model="sketchbook") == [boat.id, cat.id] and await found(model="other") == []
    assert await found(job_id=cat.job_id) == [cat.id]
    assert await found(favourite=True) == []
    await gallery.mark(cat.id, True, "local")
    assert await found(favourite=True) == [cat.id] and await found(favourite=False) == [boat.id]


async def test_a_text_that_the_database_cannot_hold_is_the_callers_fault(database: Database, gallery: Gallery) -> None:
    wanted = ImageFilter(text="a\0b")
    if database.is_sqlite:
        assert (await gallery.list(wanted)).items == []
    else:
        with pytest.raises(InvalidRequest, match="cannot be stored"):
            await gallery.list(wanted)


async def test_what_is_somebody_elses_is_not_there(store: JobStore, gallery: Gallery) -> None:
    image = await stored_picture(store, gallery, owner="ann")
    for attempt in (
        gallery.get(image.id, "bob"),
        gallery.mark(image.id, True, "bob"),
        gallery.get_all([image.id], "bob"),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await gallery.delete([image.id], "bob") == 0
    assert (await gallery.get(image.id, "ann")).id == image.id


async def test_many_are_given_in_the_order_asked_for(store: JobStore, gallery: Gallery) -> None:
    ids = [(await stored_picture(store, gallery)).id for _ in range(3)]
    wanted = [ids[1], ids[2], ids[0]]
    assert [image.id for image in await gallery.get_all(wanted, "local")] == wanted
    await gallery.delete([ids[2]])
    with pytest.raises(NotFound, match=ids[2]):
        await gallery.get_all(wanted, "local")


async def test_a_deleted_picture_can_be_brought_back_until_it_is_purged(
    database: Database, store: JobStore, gallery: Gallery
) -> None:
    image = await stored_picture(store, gallery)
    assert await gallery.delete([image.id, image.id, "img_unknown"]) == 1
    assert await gallery.delete([image.id]) == 0
    with pytest.raises(NotFound, match="may have been deleted"):
        await gallery.get(image.id)
    assert await gallery.purge(60) == 0
    assert await gallery.restore([image.id]) == 1
    assert (await gallery.get(image.id)).sha256 == image.sha256
    await gallery.delete([image.id])
    await age(database, images, "deleted_at", 120)
    assert await gallery.purge(60) == 1
    assert await gallery.restore([image.id]) == 0
    assert await keys(gallery.storage) == {}


async def cached_pair(store: JobStore, gallery: Gallery) -> tuple[ImageRecord, ImageRecord]:
    """A picture, and the copy with which the cache has answered the same request."""
    first = await stored_picture(store, gallery, recipe_key="same")
    job, _ = await store.create(new_job(recipe_key="same"))
    assert job.cached and job.pictures[0].image_id
    return first, await gallery.get(job.pictures[0].image_id)


@pytest.mark.parametrize("gone", [0, 1])
async def test_purging_keeps_bytes_that_a_copy_still_names(
    database: Database, store: JobStore, gallery: Gallery, gone: int
) -> None:
    pair = await cached_pair(store, gallery)
    assert pair[0].key == pair[1].key
    await gallery.delete([pair[gone].id])
    await age(database, images, "deleted_at", 120)
    assert await gallery.purge(60) == 1
    left = await gallery.get(pair[1 - gone].id)
    assert hashlib.sha256(await gallery.storage.get(left.key)).hexdigest() == left.sha256
    assert await gallery.storage.size(left.thumbnail_key)
    await gallery.delete([left.id])
    await age(database, images, "deleted_at", 120)
    assert await gallery.purge(60) == 1
    assert await keys(gallery.storage) == {}


async def test_a_copy_that_is_deleted_and_not_purged_still_keeps_the_bytes(
    database: Database, store: JobStore, gallery: Gallery
) -> None:
    first, copy = await cached_pair(store, gallery)
    await gallery.delete([first.id])
    await age(database, images, "deleted_at", 120)
    await gallery.delete([copy.id])
    await gallery.purge(60)
    await gallery.restore([copy.id])
    assert await gallery.storage.get((await gallery.get(copy.id)).key)


async def test_one_file_that_cannot_be_removed_does_not_keep_the_others(store: JobStore, gallery: Gallery) -> None:
    storage = Refusing(gallery.storage._folder)  # pyright: ignore
    storage.refused = ("b.png",)
    for key in ("images/a.png", "images/c.png", "images/b.png"):
        await LocalStorage.put(storage, key, b"x", "")
    with pytest.raises(StorageError):
        await Gallery(store.database, storage).remove_unused({"images/a.png", "images/b.png", "images/c.png"})
    assert await keys(storage) == {"images/b.png": 1}


# --- uploads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
async def test_an_upload_is_written_anew_as_png(gallery: Gallery, kind: str) -> None:
    content = picture_file(kind)
    upload = await send(gallery, content, "cat.exe")
    stored = await gallery.storage.get(upload.key)
    opened = Image.open(io.BytesIO(stored))
    assert (opened.format, opened.size) == ("PNG", (40, 30))
    assert (upload.width, upload.height, upload.size_bytes) == (40, 30, len(stored))
    assert upload.sha256 == hashlib.sha256(stored).hexdigest()
    assert (await gallery.get_upload(upload.id, "local")).name == "cat.exe"


async def test_what_hides_in_a_picture_is_not_kept(gallery: Gallery) -> None:
    upload = await send(gallery, picture_file("JPEG", exif=b"Exif\0\0secret-place") + b"<?php evil(); ?>")
    stored = await gallery.storage.get(upload.key)
    assert b"secret-place" not in stored and b"php" not in stored


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


NO_PICTURES = {
    "empty": (b"", "is not a picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
    "pdf": (b"%PDF-1.7 " + bytes(500), "is not a picture"),
    "zip": (b"PK\x03\x04" + bytes(500), "is not a picture"),
    "cut png": (picture_file()[:-40], "is damaged"),
    "cut jpeg": (picture_file("JPEG", 400, 300)[:2000], "is damaged"),
    "only a head": (picture_file()[:8] + bytes(300), "picture"),
    "bomb": (bomb(), "Give one of at most 64,000,000 pixels"),
}


async def test_what_is_no_sound_picture_is_refused(gallery: Gallery) -> None:
    for name, (content, told) in NO_PICTURES.items():
        with pytest.raises(InvalidRequest) as caught:
            await send(gallery, content, name)
        assert told in caught.value.message
        assert f"`{name}`" in caught.value.message and "/tmp" not in caught.value.message
    assert await keys(gallery.storage) == {}


async def test_an_upload_with_too_many_bytes_is_refused(gallery: Gallery) -> None:
    with pytest.raises(TooLarge, match="accepted are 1,048,576"):
        await send(gallery, bytes(MEGABYTE + 1))


NAMES = {
    "../../etc/passwd": "passwd",
    "..\\..\\boot.ini": "boot.ini",
    "/abs/olute.png": "olute.png",
    "..": "picture",
    "": "picture",
    "a\0b\x1b[31m\n.png": "ab[31m.png",
    "\ud800.png": "png",
    "猫.png": "猫.png",
    "x" * 500: "x" * 200,
}


async def test_a_name_is_only_a_name(gallery: Gallery) -> None:
    for number, (name, kept) in enumerate(NAMES.items()):
        upload = await send(gallery, picture_file("PNG", 20 + number), name)
        assert (upload.name, upload.key) == (kept, f"uploads/{upload.id}.png")
    assert len(await keys(gallery.storage, "uploads/upl_")) == len(NAMES) == len(await keys(gallery.storage))


async def test_the_same_picture_twice_is_one_upload_for_each_owner(gallery: Gallery) -> None:
    first = await send(gallery, picture_file("PNG"), "a.png")
    again = await send(gallery, picture_file("BMP"), "b.bmp")  # the same pixels
    other = await send(gallery, picture_file("PNG"), "a.png", owner="ann")
    assert again.id == first.id != other.id
    assert len(await keys(gallery.storage)) == 2
    with pytest.raises(NotFound):
        await gallery.get_upload(first.id, "ann")


async def test_an_upload_whose_file_is_lost_can_be_sent_again(gallery: Gallery) -> None:
    first = await send(gallery, picture_file())
    await gallery.storage.delete(first.key)
    again = await send(gallery, picture_file())
    assert again.id != first.id
    assert await gallery.storage.size(again.key) == again.size_bytes


async def test_many_uploads_at_a_time_are_all_kept(gallery: Gallery) -> None:
    sent = await asyncio.gather(*(send(gallery, picture_file("PNG", 20 + n)) for n in range(8)))
    assert {upload.width for upload in sent} == set(range(20, 28))
    assert len(await keys(gallery.storage)) == 8


async def test_a_request_starts_from_an_upload_or_a_picture(store: JobStore, gallery: Gallery) -> None:
    upload = await send(gallery, picture_file())
    image = await stored_picture(store, gallery)

    async def start(**reference: str) -> Image.Image:
        found = await gallery.references(GenerationRequest(references=(Reference(**reference),)), "local")
        return found[0]

    from_upload, from_image = await start(upload=upload.id), await start(image=image.id)
    assert from_upload.tobytes() == gradient(40, 30).tobytes()
    assert from_image.tobytes() == gradient(64, 48).tobytes()
    assert await gallery.references(GenerationRequest()) == ()
    with pytest.raises(NotFound, match="Send the picture again"):
        await start(upload="upl_gone")
    await gallery.storage.put(upload.key, picture_file("PNG", 41), "image/png")
    with pytest.raises(StorageError, match="is damaged"):
        await start(upload=upload.id)
    await gallery.delete([image.id])
    with pytest.raises(NotFound):
        await start(image=image.id)


async def test_an_upload_keeps_its_transparency_for_masks(gallery: Gallery) -> None:
    hole = Image.new("RGBA", (40, 30), "red")
    hole.paste((0, 0, 0, 0), (20, 0, 40, 30))
    stream = io.BytesIO()
    hole.save(stream, "PNG")
    upload = await send(gallery, stream.getvalue())
    request = GenerationRequest(references=(Reference(upload=upload.id),), mask=Reference(upload=upload.id))
    (start,), mask = await gallery.references(request, "local"), await gallery.mask(request, "local")
    assert [start.getpixel((x, 0)) for x in (0, 39)] == [(255, 0, 0), (255, 255, 255)]
    assert mask and [mask.getpixel((x, 0)) for x in (0, 39)] == [0, 255]


async def test_a_small_file_may_become_a_large_upload_and_still_be_used(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO()
    Image.effect_noise((400, 400), 100).convert("RGB").save(stream, "JPEG", quality=20)
    monkeypatch.setattr("limner.jobs.gallery.MAX_REFERENCE_BYTES", len(stream.getvalue()))
    upload = await send(gallery, stream.getvalue())
    assert upload.size_bytes > 2 * len(stream.getvalue())
    (start,) = await gallery.references(GenerationRequest(references=(Reference(upload=upload.id),)), "local")
    assert start.size == (400, 400)


async def test_only_uploads_that_nobody_needs_any_more_are_removed(
    database: Database, store: JobStore, gallery: Gallery
) -> None:
    names = ("unused", "of a job", "of a template", "used again", "sent again", "new")
    sent = {name: await send(gallery, picture_file("PNG", 20 + n), name) for n, name in enumerate(names)}
    await store.create(new_job(references=[{"upload": sent["of a job"].id}]))
    request = GenerationRequest(references=(Reference(upload=sent["of a template"].id),))
    await gallery.add_template("local", "mine", request)
    await age(database, uploads, "used_at", 3600)
    await gallery.use_upload(sent["used again"].id, "local")
    await send(gallery, picture_file("PNG", 24))
    async with database.begin() as connection:
        await connection.execute(update(uploads).where(uploads.c.id == sent["new"].id).values(used_at=NOW))
    assert await gallery.remove_old_uploads(60) == 1
    with pytest.raises(NotFound):
        await gallery.get_upload(sent["unused"].id)
    assert set(await keys(gallery.storage)) == {upload.key for name, upload in sent.items() if name != "unused"}
    assert await gallery.remove_old_uploads(60) == 0


# --- saved requests --------------------------------------------------------------------------------------------------


async def test_templates_are_saved_listed_and_deleted_for_their_owner(gallery: Gallery) -> None:
    request = GenerationRequest.model_validate({"prompt": "a cat", "steps": 5})
    saved = await gallery.add_template("local", "b", request)
    assert saved.request == request and saved.request.model_fields_set == {"prompt", "steps"}
    await gallery.add_template("local", "A", request)
    await gallery.add_template("ann", "b", request)
    assert [template.name for template in await gallery.list_templates("local")] == ["A", "b"]
    with pytest.raises(Conflict, match="template `b`"):
        await gallery.add_template("local", "b", request)
    with pytest.raises(NotFound):
        await gallery.delete_template(saved.id, "ann")
    await gallery.delete_template(saved.id, "local")
    with pytest.raises(NotFound):
        await gallery.delete_template(saved.id, "local")
    assert [template.name for template in await gallery.list_templates("ann")] == ["b"]


async def test_a_template_cannot_start_from_what_is_not_there(gallery: Gallery) -> None:
    request = GenerationRequest(references=(Reference(upload="upl_gone"),))
    with pytest.raises(NotFound, match="Send the picture again"):
        await gallery.add_template("local", "mine", request)
    assert await gallery.list_templates("local") == []
