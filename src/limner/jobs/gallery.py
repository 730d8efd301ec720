"""Stored pictures, uploaded pictures and saved requests: their rows and their bytes.

Rows and bytes are changed in an order that leaves nothing pointing to nothing: bytes first when something is added,
rows first when something is removed. What an end in between leaves behind is found by the repair. Deleted pictures can
be brought back until they are purged. Copies of a picture, which the cache answers with, share its bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import ValidationError
from sqlalchemy import ColumnElement, Select, Text, cast, delete, func, insert, select, union, update
from sqlalchemy.exc import IntegrityError

from limner.domain import GenerationRequest, ImageRecord, Plan, Recipe, Reference, Template, Upload
from limner.errors import Conflict, InvalidRequest, NotFound, StorageError, TooLarge
from limner.events import ImageGenerated
from limner.jobs.database import Database
from limner.jobs.records import Claim, NewImage, Page, known, new_id, serial
from limner.jobs.tables import NAME_CHARACTERS, NOW, image_adapters, images, jobs, templates, uploads
from limner.media.metadata import encoded
from limner.media.pictures import MAX_REFERENCE_BYTES, open_mask, open_reference, open_whole
from limner.media.saving import SUFFIXES
from limner.ports import Connection, Storage

THUMBNAIL_PX = 384
DECODED_AT_ONCE = 2
"""Uploads that are decoded at a time: a small file may unfold to hundreds of megabytes."""
ROWS_AT_ONCE = 200
log = logging.getLogger("limner.jobs")
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True)
class ImageFilter:
    """Which pictures are listed; absent fields do not restrict."""

    owner: str | None = None
    text: str = ""
    model: str = ""
    job_id: str = ""
    favourite: bool | None = None
    adapter: str = ""
    """One that took effect."""
    shape: Literal["portrait", "landscape", "square"] | None = None
    created_after: float | None = None
    created_before: float | None = None
    """Seconds since 1970: from the one moment on, and before the other."""


class Gallery:
    """Everything that has bytes, and the saved requests.

    Args:
        database: where the rows are.
        storage: where the bytes are.
    """

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self.storage = storage
        self._decoding = asyncio.Semaphore(DECODED_AT_ONCE)

    # --- pictures that were painted ----------------------------------------------------------------------------------

    async def keep(self, claim: Claim, number: int, event: ImageGenerated) -> NewImage:
        """Store a painted picture with its recipe inside, and its thumbnail. Raises `StorageError`."""
        content, sha256, thumbnail = await asyncio.to_thread(_files_of, event)
        output = event.recipe.request.output
        # The attempt is part of the name: a late one can never replace what another has stored.
        stem = f"images/{claim.job_id}/{number}-{claim.attempt}"
        image = NewImage(
            id=new_id("img"),
            number=number,
            width=event.width,
            height=event.height,
            format=output.format,
            size_bytes=len(content),
            sha256=sha256,
            key=stem + SUFFIXES[output.format],
            thumbnail_key=f"{stem}.thumb.webp",
            recipe=event.recipe,
        )
        try:
            await self.storage.put(image.key, content, MEDIA_TYPES[output.format])
            await self.storage.put(image.thumbnail_key, thumbnail, MEDIA_TYPES["webp"])
        except StorageError:
            for key in (image.key, image.thumbnail_key):
                with suppress(StorageError):
                    await self.storage.delete(key)
            raise
        return image

    async def redraw_thumbnail(self, image_id: str) -> bool:
        """Make a picture's small version anew; False when the picture is deleted, gone or damaged."""
        try:
            image = await self.get(image_id)
            content = await self.storage.get(image.key)
            picture = await asyncio.to_thread(_opened, image_id, content, len(content))
        except (NotFound, InvalidRequest):
            return False
        await self.storage.put(image.thumbnail_key, await asyncio.to_thread(_thumbnail, picture), MEDIA_TYPES["webp"])
        return True

    async def discard(self, image: NewImage) -> None:
        """Remove the bytes of a picture that got no row, as it seems: the answer to who wrote the row may be lost."""
        await self.remove_unused({image.key, image.thumbnail_key})

    async def get(self, image_id: str, owner: str | None = None) -> ImageRecord:
        """The picture of that id. Raises `NotFound`, also when it is deleted or somebody else's."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(images).where(images.c.id == image_id))).first()
        if row is None or row.deleted_at is not None or (owner is not None and row.owner != owner):
            raise NotFound(f"There is no picture `{image_id}`. It may have been deleted.")
        return _image(row)

    async def get_all(self, ids: Sequence[str], owner: str | None = None) -> list[ImageRecord]:
        """The pictures of these ids, in that order. Raises `NotFound` as `get` does."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(images).where(images.c.id.in_(ids)))).all()
        found = {row.id: row for row in rows if row.deleted_at is None and owner in (None, row.owner)}
        if missing := [image_id for image_id in ids if image_id not in found]:
            raise NotFound(f"There is no picture `{missing[0]}`. It may have been deleted.")
        return [_image(found[image_id]) for image_id in ids]

    async def list(
        self, wanted: ImageFilter, limit: int = 50, cursor: str | None = None, oldest_first: bool = False
    ) -> Page:
        """Pictures, newest first unless told otherwise. `cursor` is what the page before said."""
        place = image_adapters.c.image if wanted.adapter else images.c.seq
        found = _found(wanted, place)
        if cursor is not None:
            found = found.where(place > serial(cursor) if oldest_first else place < serial(cursor))
        found = found.order_by(place.asc() if oldest_first else place.desc()).limit(limit + 1)
        # Two steps, so that recipes are read only for the page: what is filtered by is in an index.
        query = select(images).where(images.c.seq.in_(found.scalar_subquery()))
        query = query.order_by(images.c.seq.asc() if oldest_first else images.c.seq.desc())
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        more = str(rows[limit - 1].seq) if len(rows) > limit else None
        return Page([_image(row) for row in rows[:limit]], more)

    async def count(self, wanted: ImageFilter) -> int:
        """How many pictures there are."""
        async with self._database.read() as connection:
            every = _found(wanted, images.c.seq).subquery()
            return await connection.scalar(select(func.count()).select_from(every)) or 0

    async def mark(self, image_id: str, favourite: bool, owner: str | None = None) -> ImageRecord:
        """Make a picture a favourite, or no longer one."""
        image = await self.get(image_id, owner)
        async with self._database.begin() as connection:
            await connection.execute(update(images).where(images.c.id == image_id).values(favourite=favourite))
        return image.model_copy(update={"favourite": favourite})

    async def delete(self, ids: Sequence[str], owner: str | None = None) -> int:
        """Delete pictures, so that `restore` can bring them back until they are purged; how many."""
        return await self._set_deleted(ids, owner, NOW, images.c.deleted_at.is_(None))

    async def restore(self, ids: Sequence[str], owner: str | None = None) -> int:
        """Bring deleted pictures back; how many."""
        return await self._set_deleted(ids, owner, None, images.c.deleted_at.is_not(None))

    async def _set_deleted(self, ids: Sequence[str], owner: str | None, value: Any, which: Any) -> int:
        query = update(images).where(images.c.id.in_(ids), which)
        if owner is not None:
            query = query.where(images.c.owner == owner)
        async with self._database.begin() as connection:
            return (await connection.execute(query.values(deleted_at=value))).rowcount

    async def purge(self, older_than_s: float) -> int:
        """Remove rows and bytes of pictures that were deleted so long ago; how many."""
        async with self._database.begin() as connection:
            gone = (
                await connection.execute(
                    delete(images)
                    .where(images.c.deleted_at < NOW - older_than_s)
                    .returning(images.c.key, images.c.thumbnail_key)
                )
            ).all()
        await self.remove_unused({key for row in gone for key in row})
        return len(gone)

    async def remove_unused(self, keys: Collection[str]) -> None:
        """Remove bytes that no row names any more. Raises `StorageError` at the end when some could not be removed."""
        refused: StorageError | None = None
        for key in sorted(set(keys) - await self.named(keys)):
            try:
                await self.storage.delete(key)
            except StorageError as error:
                refused = error
        if refused is not None:
            raise refused

    async def named(self, keys: Collection[str]) -> set[str]:
        """Those of the keys that a row of a picture names, be it deleted or not, or that of an upload."""
        named: set[str] = set()
        every = list(keys)
        columns = (images.c.key, images.c.thumbnail_key, uploads.c.key)
        for begin in range(0, len(every), ROWS_AT_ONCE):
            some = every[begin : begin + ROWS_AT_ONCE]
            async with self._database.read() as connection:
                named |= set(await connection.scalars(union(*(select(c).where(c.in_(some)) for c in columns))))
        return named

    # --- pictures that were sent -------------------------------------------------------------------------------------

    async def add_upload(self, owner: str, name: str, content: bytes, max_bytes: int) -> Upload:
        """Check a picture, write it anew as PNG and store it; the same picture twice is one upload.

        Raises `TooLarge`, and `InvalidRequest` for what is no picture, damaged, or a decompression bomb.
        """
        if len(content) > max_bytes:
            raise TooLarge(f"The upload has {len(content):,} bytes, accepted are {max_bytes:,}. Send a smaller one.")
        name = plain_name(name)
        async with self._decoding:
            clean, size = await asyncio.to_thread(_cleaned, name, content)
        sha256 = await asyncio.to_thread(_sha256, clean)
        query = select(uploads.c.id, uploads.c.key).where(uploads.c.owner == owner, uploads.c.sha256 == sha256)
        async with self._database.read() as connection:
            known = (await connection.execute(query.order_by(uploads.c.created_at.desc()))).first()
        if known is not None and await self.storage.size(known.key) is not None:
            # It may have been removed since, as one that nobody uses.
            with suppress(NotFound):
                return await self.use_upload(known.id, owner)
        upload_id = new_id("upl")
        key = f"uploads/{upload_id}.png"
        await self.storage.put(key, clean, "image/png")
        values = {"id": upload_id, "owner": owner, "name": name, "width": size[0], "height": size[1]}
        values |= {"size_bytes": len(clean), "sha256": sha256, "key": key, "created_at": NOW, "used_at": NOW}
        async with self._database.begin() as connection:
            await connection.execute(insert(uploads).values(**values))
        return await self.get_upload(upload_id, owner)

    async def use_upload(self, upload_id: str, owner: str | None = None) -> Upload:
        """As `get_upload`, and note that it is in use, so that it is kept."""
        query = update(uploads).where(uploads.c.id == upload_id).values(used_at=NOW)
        if owner is not None:
            query = query.where(uploads.c.owner == owner)
        async with self._database.begin() as connection:
            await connection.execute(query)
        return await self.get_upload(upload_id, owner)

    async def remove_old_uploads(self, unused_for_s: float) -> int:
        """Remove uploads that were not used for so long and that no job and no template names; how many."""
        unused = uploads.c.used_at < NOW - unused_for_s
        async with self._database.read() as connection:
            old = list(await connection.scalars(select(uploads.c.id).where(unused)))
            old = sorted(set(old) - await self._named_uploads(connection)) if old else []
        removed = 0
        for begin in range(0, len(old), ROWS_AT_ONCE):
            some = old[begin : begin + ROWS_AT_ONCE]
            async with self._database.begin() as connection:
                # What has come into use since we looked is noted in the row.
                gone = await connection.scalars(
                    delete(uploads).where(uploads.c.id.in_(some), unused).returning(uploads.c.key)
                )
                keys = set(gone)
            removed += len(keys)
            await self.remove_unused(keys)
        return removed

    async def _named_uploads(self, connection: Connection) -> set[str]:
        named: set[str] = set()
        for column in (jobs.c.request, templates.c.request):
            # Most requests name none; those are not parsed.
            query = select(column).where(cast(column, Text).contains('"upload"'))
            async for request in await connection.stream_scalars(query):
                references: list[dict[str, Any]] = [*request.get("references", ()), request.get("mask") or {}]
                named |= {reference["upload"] for reference in references if reference.get("upload")}
        return named

    async def get_upload(self, upload_id: str, owner: str | None = None) -> Upload:
        """The upload of that id. Raises `NotFound`, also when it is somebody else's."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(uploads).where(uploads.c.id == upload_id))).first()
        if row is None or (owner is not None and row.owner != owner):
            raise NotFound(f"There is no upload `{upload_id}`. Send the picture again.")
        return _upload(row)

    async def references(self, request: GenerationRequest, owner: str | None = None) -> tuple[Image.Image, ...]:
        """The request's pictures in their order, all of which lie in the storage; none where they are files elsewhere.

        Raises `NotFound` when it is there no more, `StorageError` when its bytes are not those that were stored.
        """
        found = [await self._given(reference, owner, open_reference) for reference in request.references]
        return tuple(picture for picture in found if picture is not None)

    async def mask(self, request: GenerationRequest, owner: str | None = None) -> Image.Image | None:
        """The request's mask as `open_mask` reads it, when it lies in the storage. Raises as `references` does."""
        return await self._given(request.mask, owner, open_mask) if request.mask else None

    async def _given(
        self, reference: Reference, owner: str | None, read: Callable[..., Image.Image]
    ) -> Image.Image | None:
        if reference.upload is not None:
            record: Upload | ImageRecord = await self.get_upload(reference.upload, owner)
        elif reference.image is not None:
            record = await self.get(reference.image, owner)
        else:
            return None
        content = await self.storage.get(record.key)
        if await asyncio.to_thread(_sha256, content) != record.sha256:
            raise StorageError(f"The file of picture `{record.id}` is damaged. Send or choose another picture.")
        return await asyncio.to_thread(_opened, record.id, content, len(content), read)

    # --- saved requests ----------------------------------------------------------------------------------------------

    async def add_template(self, owner: str, name: str, request: GenerationRequest) -> Template:
        """Save a request. Raises `Conflict` when the name is taken, `NotFound` for uploads that are not there."""
        for reference in (*request.references, request.mask):
            if reference is not None and reference.upload is not None:
                await self.use_upload(reference.upload, owner)
        template_id = new_id("tpl")
        values: dict[str, Any] = {"id": template_id, "owner": owner, "name": name, "created_at": NOW}
        values["request"] = request.model_dump(mode="json", exclude_unset=True)
        try:
            async with self._database.begin() as connection:
                await connection.execute(insert(templates).values(**values))
                row = (await connection.execute(select(templates).where(templates.c.id == template_id))).one()
        except IntegrityError as error:
            raise Conflict(f"There is a template `{name}` already. Choose another name, or delete it first.") from error
        return _template(row)

    async def list_templates(self, owner: str) -> list[Template]:
        """An owner's saved requests by name, without those that only another release can read."""
        query = select(templates).where(templates.c.owner == owner).order_by(func.lower(templates.c.name))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        found: list[Template] = []
        for row in rows:
            try:
                found.append(_template(row))
            except ValidationError:
                log.warning("template %s was written by another release and is left out", row.id)
        return found

    async def delete_template(self, template_id: str, owner: str) -> None:
        """Forget a saved request. Raises `NotFound`."""
        async with self._database.begin() as connection:
            done = await connection.execute(
                delete(templates).where(templates.c.id == template_id, templates.c.owner == owner)
            )
        if not done.rowcount:
            raise NotFound(f"There is no template `{template_id}`. It may have been deleted.")


def _found(wanted: ImageFilter, place: ColumnElement[int]) -> Select[int]:
    """`place`, which is the number of a picture, for those that are wanted."""
    # Where the adapter is given, its table leads: it is in the order of the pictures.
    query = select(place).where(images.c.deleted_at.is_(None))
    if wanted.adapter:
        query = query.join_from(image_adapters, images, image_adapters.c.image == images.c.seq)
        query = query.where(image_adapters.c.name == wanted.adapter[:NAME_CHARACTERS])
    if wanted.owner is not None:
        query = query.where(images.c.owner == wanted.owner)
    if wanted.text:
        query = query.where(images.c.prompt.icontains(wanted.text, autoescape=True))
    if wanted.model:
        query = query.where(images.c.model == wanted.model)
    if wanted.job_id:
        query = query.where(images.c.job_id == wanted.job_id)
    if wanted.favourite is not None:
        query = query.where(images.c.favourite.is_(wanted.favourite))
    if wanted.created_after is not None:
        query = query.where(images.c.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        query = query.where(images.c.created_at < wanted.created_before)
    width, height = images.c.width, images.c.height
    match wanted.shape:
        case "portrait":
            return query.where(width < height)
        case "landscape":
            return query.where(width > height)
        case "square":
            return query.where(width == height)
        case None:
            return query


def _files_of(event: ImageGenerated) -> tuple[bytes, str, bytes]:
    """A painted picture's file, the SHA-256 of that, and its thumbnail."""
    image = Image.frombytes("RGB", (event.width, event.height), event.rgb)
    content = encoded(image, event.recipe, event.recipe.request.output)
    return content, _sha256(content), _thumbnail(image)


def _thumbnail(image: Image.Image) -> bytes:
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=82, method=2)  # more than twice as fast, for 5 % more bytes
    return stream.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def plain_name(name: str) -> str:
    """The last part of a file's name as somebody sent it, without what could do harm in a message or a header."""
    name = "".join(letter for letter in name if letter.isprintable())
    return Path(name.replace("\\", "/")).name.strip(". ")[:200] or "picture"


def _cleaned(name: str, content: bytes) -> tuple[bytes, tuple[int, int]]:
    # With its transparency: it may be meant as a mask.
    image = _opened(name, content, MAX_REFERENCE_BYTES, open_whole)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue(), image.size


def _opened(
    name: str, content: bytes, max_bytes: int, read: Callable[..., Image.Image] = open_reference
) -> Image.Image:
    with tempfile.TemporaryDirectory(prefix="limner-") as folder:
        path = Path(folder) / "picture"
        path.write_bytes(content)
        try:
            return read(path, max_bytes=max_bytes)
        except InvalidRequest as error:
            raise InvalidRequest(error.message.replace(str(path), name)) from error


def _image(row: Any) -> ImageRecord:
    values = dict(row._mapping) | {"index": row.number, "seed": int(row.seed)}
    try:
        return known(ImageRecord, values)
    except ValidationError:
        return known(ImageRecord, values | {"recipe": _foreign_recipe(row)})


def _foreign_recipe(row: Any) -> Recipe:
    """What the columns say of a recipe that only another release can read."""
    prompt, seed = row.prompt, int(row.seed)
    return Recipe.model_construct(
        request=GenerationRequest.model_construct(prompt=prompt, seed=seed),
        plan=Plan.model_construct(prompt=prompt, negative_prompt="", seed=seed, stages=()),
        checkpoint=row.model,
        checkpoint_sha256="",
        family="",
        device="",
        precision={},
        warnings=("Another release of limner wrote this recipe. The file holds it whole.",),
    )


def _upload(row: Any) -> Upload:
    return known(Upload, dict(row._mapping))


def _template(row: Any) -> Template:
    return Template.model_validate(dict(row._mapping))
