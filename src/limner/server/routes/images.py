"""`/api/images` and `/api/uploads`: what was painted, and what was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Query, Request, Response, UploadFile
from fastapi.responses import RedirectResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from limner.domain import ImageRecord
from limner.errors import NotFound, TooLarge
from limner.jobs.gallery import MEDIA_TYPES, ImageFilter, plain_name
from limner.media.saving import SUFFIXES
from limner.server.archive import Entry, zipped
from limner.server.inspection import InspectionView, inspection
from limner.server.state import Owner, Parts, State
from limner.server.views import (
    ImageDetail,
    ImagePage,
    ImageView,
    UploadView,
    View,
    image_detail,
    image_path,
    image_view,
)

router = APIRouter(prefix="/api", tags=["pictures"])
IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"description": "the bytes", "content": {kind: {} for kind in MEDIA_TYPES.values()}},
    304: {"description": "what `If-None-Match` names is still the picture"},
}
ZIP: dict[int | str, dict[str, Any]] = {200: {"description": "the file", "content": {"application/zip": {}}}}
ELSEWHERE: dict[int | str, dict[str, Any]] = {307: {"description": "where the storage gives the bytes itself"}}


class Ids(BaseModel):
    """Pictures by id."""

    model_config = ConfigDict(extra="forbid")
    ids: list[str] = Field(min_length=1, max_length=1000)


class Mark(BaseModel):
    """What one thinks of a picture."""

    model_config = ConfigDict(extra="forbid")
    favourite: bool


class Deleted(View):
    """How many pictures were deleted."""

    deleted: int = Field(description="those that were there, and one's own")


class Restored(View):
    """How many pictures are back."""

    restored: int = Field(description="those that were deleted, not yet purged, and one's own")


class Counted(View):
    """How many pictures there are."""

    count: int = Field(description="those that the filters let through")


async def wanted_images(
    owner: Owner,
    search: Annotated[str, Query(max_length=500, description="words of the prompt")] = "",
    model: Annotated[str, Query(max_length=500, description="the checkpoint")] = "",
    job_id: Annotated[str, Query(max_length=64)] = "",
    favourite: bool | None = None,
    adapter: Annotated[str, Query(max_length=1000, description="name of a LoRA that took effect")] = "",
    shape: Annotated[Literal["portrait", "landscape", "square"] | None, Query()] = None,
    created_after: Annotated[
        float | None, Query(allow_inf_nan=False, description="from this moment on; seconds since 1970, UTC")
    ] = None,
    created_before: Annotated[
        float | None, Query(allow_inf_nan=False, description="before this moment; seconds since 1970, UTC")
    ] = None,
) -> ImageFilter:
    """The filters that the gallery understands."""
    return ImageFilter(owner, search, model, job_id, favourite, adapter, shape, created_after, created_before)


Wanted = Annotated[ImageFilter, Depends(wanted_images)]


@router.get("/images", operation_id="images_list", summary="List pictures, newest first")
async def list_images(
    parts: Parts,
    wanted: Wanted,
    order: Annotated[Literal["newest", "oldest"], Query(description="which come first")] = "newest",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
) -> ImagePage:
    """A page of pictures, and the cursor of the next one."""
    page = await parts.service.gallery.list(wanted, limit, cursor, oldest_first=order == "oldest")
    images = tuple(image_view(parts.links, image) for image in page.items)
    return ImagePage(images=images, next_cursor=page.next_cursor)


@router.get("/images/count", operation_id="images_count", summary="Count pictures")
async def count_images(parts: Parts, wanted: Wanted) -> Counted:
    """Those that the list would show with the same filters, on all its pages."""
    return Counted(count=await parts.service.gallery.count(wanted))


@router.post(
    "/images/zip",
    operation_id="images_zip",
    summary="Many pictures in one file",
    response_class=Response,
    responses=ZIP,
)
async def zip_images(body: Ids, parts: Parts, owner: Owner) -> Response:
    """A zip that is made while it is sent. Of files that are gone, its entry `missing.txt` tells."""
    gallery = parts.service.gallery
    images = await gallery.get_all(list(dict.fromkeys(body.ids)), owner)
    entries = (Entry(_file_name(image), image.size_bytes, gallery.storage.stream(image.key)) for image in images)
    headers = {"Content-Disposition": 'attachment; filename="limner.zip"'}
    return StreamingResponse(zipped(entries), media_type="application/zip", headers=headers)


@router.post("/images/inspect", operation_id="images_inspect", summary="How a picture from outside was made")
async def inspect(file: Annotated[UploadFile, File()], parts: Parts, owner: Owner) -> InspectionView:
    """Of a picture that limner, AUTOMATIC1111's web UI or ComfyUI wrote; it is not kept."""
    content = await _received(parts, file)
    with TemporaryDirectory(prefix="limner-") as folder:
        path = Path(folder) / "picture"
        path.write_bytes(content)
        return await inspection(parts, owner, path, plain_name(file.filename or ""))


@router.post("/images/delete", operation_id="images_delete_many", summary="Delete pictures")
async def delete_images(body: Ids, parts: Parts, owner: Owner) -> Deleted:
    """They can be restored for a day."""
    return Deleted(deleted=await parts.service.gallery.delete(body.ids, owner))


@router.post("/images/restore", operation_id="images_restore", summary="Bring deleted pictures back")
async def restore_images(body: Ids, parts: Parts, owner: Owner) -> Restored:
    """What was purged already stays gone."""
    return Restored(restored=await parts.service.gallery.restore(body.ids, owner))


@router.head("/images/{image_id}", include_in_schema=False)
@router.get(
    "/images/{image_id}",
    operation_id="images_get",
    summary="A picture",
    response_class=Response,
    responses=PICTURE | ELSEWHERE,
)
async def get_image(
    request: Request,
    image_id: str,
    parts: Parts,
    owner: Owner,
    expires: int | None = None,
    signature: str | None = None,
    redirect: Annotated[bool, Query(description="let a bucket give the bytes itself, where there is one")] = False,
) -> Response:
    """The picture's bytes, with its recipe inside."""
    image = await _allowed(parts, owner, image_id, image_path(image_id), expires, signature)
    storage = parts.service.gallery.storage
    headers = IMMUTABLE | {"ETag": f'"{image.sha256}"', "Content-Length": str(image.size_bytes)}
    headers["Content-Disposition"] = "inline"  # without a name, so that a page's link may give one
    media_type = MEDIA_TYPES[image.format]
    if _has(request, headers["ETag"]):
        return Response(status_code=304, headers=IMMUTABLE | {"ETag": headers["ETag"]})
    if request.method == "HEAD":
        if await storage.size(image.key) is None:
            raise _gone(image_id)
        return Response(headers=headers, media_type=media_type)
    ttl_s = parts.service.settings.server.link_ttl_s
    if redirect and (elsewhere := await storage.link(image.key, ttl_s)):
        return RedirectResponse(elsewhere, 307, {"Cache-Control": "no-store"})
    try:
        pieces = await _begun(storage.stream(image.key))
    except NotFound as error:
        raise _gone(image_id) from error
    return StreamingResponse(pieces, media_type=media_type, headers=headers)


@router.head("/images/{image_id}/thumbnail", include_in_schema=False)
@router.get(
    "/images/{image_id}/thumbnail",
    operation_id="images_thumbnail",
    summary="A small version",
    response_class=Response,
    responses=PICTURE,
)
async def get_thumbnail(
    request: Request,
    image_id: str,
    parts: Parts,
    owner: Owner,
    expires: int | None = None,
    signature: str | None = None,
) -> Response:
    """WebP, at most 384 px wide and high."""
    image = await _allowed(parts, owner, image_id, f"{image_path(image_id)}/thumbnail", expires, signature)
    headers = IMMUTABLE | {"ETag": f'"{image.sha256}-thumbnail"'}
    if _has(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    try:
        content = await parts.service.gallery.storage.get(image.thumbnail_key)
    except NotFound as error:
        raise _gone(image_id) from error
    return Response(content, media_type=MEDIA_TYPES["webp"], headers=headers)


@router.get("/images/{image_id}/metadata", operation_id="images_metadata", summary="How a picture was made")
async def get_metadata(image_id: str, parts: Parts, owner: Owner) -> ImageDetail:
    """The picture with its full recipe."""
    return image_detail(parts.links, await parts.service.gallery.get(image_id, owner))


@router.patch("/images/{image_id}", operation_id="images_mark", summary="Make a picture a favourite")
async def mark_image(image_id: str, body: Mark, parts: Parts, owner: Owner) -> ImageView:
    """Or no longer one."""
    return image_view(parts.links, await parts.service.gallery.mark(image_id, body.favourite, owner))


@router.delete("/images/{image_id}", operation_id="images_delete", summary="Delete a picture", status_code=204)
async def delete_image(image_id: str, parts: Parts, owner: Owner) -> None:
    """It can be restored for a day."""
    if not await parts.service.gallery.delete([image_id], owner):
        raise NotFound(f"There is no picture `{image_id}`. It may have been deleted.")


@router.post(
    "/uploads", operation_id="uploads_add", status_code=201, summary="Send a picture to start from", tags=["uploads"]
)
async def upload(file: Annotated[UploadFile, File()], parts: Parts, owner: Owner) -> UploadView:
    """Checked, written anew as PNG, and kept; name it in `references` as `{"upload": id}`."""
    limit = parts.service.settings.server.max_upload_bytes
    content = await _received(parts, file)
    kept = await parts.service.gallery.add_upload(owner, file.filename or "picture", content, limit)
    return UploadView.model_validate(vars(kept))


@router.get(
    "/uploads/{upload_id}",
    operation_id="uploads_get",
    summary="A picture that was sent",
    response_class=Response,
    responses={200: {"description": "the bytes", "content": {MEDIA_TYPES["png"]: {}}}},
    tags=["uploads"],
)
async def get_upload(upload_id: str, parts: Parts, owner: Owner) -> Response:
    """As it is stored: PNG."""
    kept = await parts.service.gallery.get_upload(upload_id, owner)
    content = await parts.service.gallery.storage.get(kept.key)
    return Response(content, media_type=MEDIA_TYPES["png"], headers=IMMUTABLE)


async def _received(parts: State, file: UploadFile) -> bytes:
    limit = parts.service.settings.server.max_upload_bytes
    if file.size is not None and file.size > limit:
        raise TooLarge(f"The upload has {file.size:,} bytes, accepted are {limit:,}. Send a smaller one.")
    return await file.read()


async def _allowed(
    parts: State, owner: str, image_id: str, path: str, expires: int | None, signature: str | None
) -> ImageRecord:
    """The picture, for its owner or for whoever has a link."""
    if signature is not None and expires is not None:
        parts.links.check(path, expires, signature)
        return await parts.service.gallery.get(image_id)
    return await parts.service.gallery.get(image_id, owner)


def _file_name(image: ImageRecord) -> str:
    return f"{image.job_id}-{image.index}{SUFFIXES[image.format]}"


def _has(request: Request, tag: str) -> bool:
    """Whether the caller holds the bytes of this tag already."""
    told = request.headers.get("if-none-match", "")
    return told.strip() == "*" or tag in {one.strip().removeprefix("W/") for one in told.split(",")}


async def _begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, the first of them read: what fails before that is an answer with a status of its own."""
    first = await anext(pieces, b"")

    async def every() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return every()


def _gone(image_id: str) -> NotFound:
    return NotFound(f"The file of picture `{image_id}` is gone. `limner doctor --repair` sorts that out.")
