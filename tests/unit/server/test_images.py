"""Pictures and uploads over HTTP."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from limner.domain import ImageRecord
from limner.server.app import build
from limner.service import Service
from tests.support.buckets import Bucket
from tests.support.jobs import stored_picture
from tests.support.services import client_of, fake_service, settings_for
from tests.unit.jobs.test_gallery import picture_file


@pytest.fixture
async def image(client: httpx.AsyncClient, service: Service) -> ImageRecord:
    return await stored_picture(service.store, service.gallery)


@pytest.fixture
async def in_bucket(tmp_path: Path, bucket: Bucket) -> AsyncGenerator[tuple[httpx.AsyncClient, Service]]:
    """A client of a service that keeps its pictures in a bucket."""
    service = fake_service(settings_for(tmp_path, storage=bucket.settings("studio")))
    async with client_of(build(service)) as client:
        yield client, service


async def test_a_picture_and_its_thumbnail_are_given(client: httpx.AsyncClient, image: ImageRecord) -> None:
    answer = await client.get(f"/api/images/{image.id}")
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == image.sha256
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(image.size_bytes)
    assert answer.headers["content-disposition"] == "inline"
    assert "immutable" in answer.headers["cache-control"]
    small = await client.get(f"/api/images/{image.id}/thumbnail")
    assert Image.open(io.BytesIO(small.content)).format == "WEBP"


async def test_head_says_what_get_would(client: httpx.AsyncClient, service: Service, image: ImageRecord) -> None:
    for path in (f"/api/images/{image.id}", f"/api/images/{image.id}/thumbnail"):
        got, asked = await client.get(path), await client.head(path)
        assert asked.status_code == 200 and asked.content == b""
        for name in ("content-length", "content-type", "etag", "cache-control"):
            assert asked.headers[name] == got.headers[name]
    await service.gallery.storage.delete(image.key)
    assert (await client.head(f"/api/images/{image.id}")).status_code == 404


async def test_what_the_caller_holds_is_not_sent_again(client: httpx.AsyncClient, image: ImageRecord) -> None:
    for path in (f"/api/images/{image.id}", f"/api/images/{image.id}/thumbnail"):
        tag = (await client.get(path)).headers["etag"]
        for told in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            answer = await client.get(path, headers={"If-None-Match": told})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert (await client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
    tags = [(await client.get(f"/api/images/{image.id}{end}")).headers["etag"] for end in ("", "/thumbnail")]
    assert tags[0] != tags[1]


async def test_a_file_that_is_gone_is_said_before_anything_is_sent(
    client: httpx.AsyncClient, service: Service, image: ImageRecord
) -> None:
    await service.gallery.storage.delete(image.key)
    await service.gallery.storage.delete(image.thumbnail_key)
    for path in (f"/api/images/{image.id}", f"/api/images/{image.id}/thumbnail"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert "limner doctor --repair" in answer.json()["detail"]


async def test_a_folder_gives_the_bytes_itself_also_when_a_redirect_is_asked_for(
    client: httpx.AsyncClient, image: ImageRecord
) -> None:
    assert (await client.get(f"/api/images/{image.id}?redirect=1")).status_code == 200


async def test_pictures_are_zipped_and_what_is_gone_is_told_of(
    client: httpx.AsyncClient, service: Service, image: ImageRecord
) -> None:
    other = await stored_picture(service.store, service.gallery)
    gone = await stored_picture(service.store, service.gallery)
    await service.gallery.storage.delete(gone.key)
    answer = await client.post("/api/images/zip", json={"ids": [other.id, gone.id, image.id, other.id]})
    assert answer.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert archive.namelist() == [f"{other.job_id}-0.png", f"{image.job_id}-0.png", "missing.txt"]
    assert hashlib.sha256(archive.read(f"{image.job_id}-0.png")).hexdigest() == image.sha256
    assert f"{gone.job_id}-0.png is missing" in archive.read("missing.txt").decode()
    unknown = await client.post("/api/images/zip", json={"ids": [image.id, "img_unknown"]})
    assert unknown.status_code == 404 and "img_unknown" in unknown.json()["detail"]


async def test_the_gallery_lists_deletes_and_restores(
    client: httpx.AsyncClient, service: Service, image: ImageRecord
) -> None:
    other = await stored_picture(service.store, service.gallery, prompt="a boat")

    async def listed(**query: Any) -> list[str]:
        return [item["id"] for item in (await client.get("/api/images", params=query)).json()["images"]]

    assert await listed() == [other.id, image.id]
    assert await listed(search="BOAT") == [other.id]
    marked = await client.patch(f"/api/images/{image.id}", json={"favourite": True})
    assert marked.json()["favourite"] is True and await listed(favourite=True) == [image.id]
    assert (await client.delete(f"/api/images/{image.id}")).status_code == 204
    assert (await client.delete(f"/api/images/{image.id}")).status_code == 404
    assert (await client.get(f"/api/images/{image.id}")).status_code == 404
    assert await listed() == [other.id]
    assert (await client.post("/api/images/restore", json={"ids": [image.id]})).json() == {"restored": 1}
    deleted = await client.post("/api/images/delete", json={"ids": [image.id, other.id]})
    assert deleted.json() == {"deleted": 2} and await listed() == []


async def test_the_gallery_is_filtered_and_counted(
    client: httpx.AsyncClient, service: Service, image: ImageRecord
) -> None:
    inked = await stored_picture(service.store, service.gallery, size=(48, 64), adapters=[{"name": "ink"}])

    async def found(**query: Any) -> list[str]:
        counted = (await client.get("/api/images/count", params=query)).json()["count"]
        images = (await client.get("/api/images", params=query)).json()["images"]
        assert counted == len(images)
        return [item["id"] for item in images]

    assert await found(order="oldest") == [image.id, inked.id]
    assert await found(adapter="ink") == await found(shape="portrait") == [inked.id]
    assert await found(shape="landscape") == await found(created_before=inked.created_at) == [image.id]
    assert await found(created_after=inked.created_at) == [inked.id]
    page = (await client.get("/api/images", params={"order": "oldest", "limit": 1})).json()
    query = {"order": "oldest", "limit": 1, "cursor": page["next_cursor"]}
    assert [item["id"] for item in (await client.get("/api/images", params=query)).json()["images"]] == [inked.id]
    for wrong in ({"shape": "round"}, {"order": "best"}, {"created_after": "nan"}, {"created_before": "soon"}):
        assert (await client.get("/api/images", params=wrong)).status_code == 422


@pytest.mark.parametrize("image_id", ["..%2F..%2Fetc%2Fpasswd", "%00", "%2e%2e", "a" * 5000, "img_%F0%9F%98%80"])
async def test_an_id_that_is_a_trick_names_nothing(client: httpx.AsyncClient, image_id: str) -> None:
    for method, end in (("GET", ""), ("HEAD", ""), ("GET", "/thumbnail"), ("GET", "/metadata"), ("DELETE", "")):
        assert (await client.request(method, f"/api/images/{image_id}{end}")).status_code in (400, 404, 422)


async def test_uploads_are_checked_before_they_are_kept(client: httpx.AsyncClient, service: Service) -> None:
    async def sent(content: bytes, name: str = "cat.png", kind: str = "image/png") -> httpx.Response:
        return await client.post("/api/uploads", files={"file": (name, content, kind)})

    good = await sent(picture_file("JPEG"), "../../cat.jpg", "text/html")
    assert good.status_code == 201
    assert (good.json()["name"], good.json()["width"]) == ("cat.jpg", 40) and "key" not in good.json()
    for content in (b"", b"<svg/>", picture_file()[:60]):
        refused = await sent(content)
        assert refused.status_code == 422 and "Give a" in refused.json()["detail"]
    large = await sent(bytes(service.settings.server.max_upload_bytes + 1))
    assert large.status_code == 413 and "Send a smaller one" in large.json()["detail"]
    assert (await client.post("/api/uploads", files={"other": picture_file()})).status_code == 422


async def test_an_upload_is_given_back_as_it_is_stored(client: httpx.AsyncClient) -> None:
    kept = (await client.post("/api/uploads", files={"file": ("cat.jpg", picture_file("JPEG"))})).json()
    answer = await client.get(f"/api/uploads/{kept['id']}")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    assert hashlib.sha256(answer.content).hexdigest() == kept["sha256"]
    assert (await client.get("/api/uploads/upl_x")).status_code == 404


async def test_a_bucket_serves_pictures_zips_and_redirects(in_bucket: tuple[httpx.AsyncClient, Service]) -> None:
    client, service = in_bucket
    image = await stored_picture(service.store, service.gallery)
    answer = await client.get(f"/api/images/{image.id}")
    assert hashlib.sha256(answer.content).hexdigest() == image.sha256
    assert (await client.get(f"/api/images/{image.id}/thumbnail")).status_code == 200
    assert (await client.head(f"/api/images/{image.id}")).headers["content-length"] == str(image.size_bytes)
    zipped = await client.post("/api/images/zip", json={"ids": [image.id]})
    assert zipfile.ZipFile(io.BytesIO(zipped.content)).namelist() == [f"{image.job_id}-0.png"]
    elsewhere = await client.get(f"/api/images/{image.id}?redirect=1")
    assert (elsewhere.status_code, elsewhere.headers["cache-control"]) == (307, "no-store")
    async with httpx.AsyncClient() as outside:
        direct = await outside.get(elsewhere.headers["location"])
    assert hashlib.sha256(direct.content).hexdigest() == image.sha256
    await service.gallery.storage.delete(image.key)
    assert (await client.get(f"/api/images/{image.id}")).status_code == 404
