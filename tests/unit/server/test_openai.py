"""OpenAI's own client against the server."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from limner.backends.fake import FakeBackend
from limner.errors import EngineFault, Unsupported
from limner.server.app import build
from tests.support.jobs import until
from tests.support.services import fake_service, listening, settings_for, worker_of


@asynccontextmanager
async def serving(home: Path, backend: FakeBackend | None = None) -> AsyncGenerator[openai.AsyncOpenAI]:
    """OpenAI's client of a server that paints."""
    service = fake_service(settings_for(home), backend)
    async with (
        listening(build(service)) as url,
        worker_of(service),
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=30) as client,
    ):
        yield client


def opened(b64_json: str | None) -> Image.Image:
    assert b64_json
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


def png(colour: str = "teal", mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, "PNG")
    return stream.getvalue()


async def test_pictures_come_inside_the_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        answer = await client.images.generate(
            prompt="a red cat", model="gpt-image-1", n=2, size="128x64", output_format="jpeg", output_compression=40
        )
        images = [opened(item.b64_json) for item in answer.data or []]
        assert [(image.format, image.size) for image in images] == [("JPEG", (128, 64))] * 2
        assert (answer.output_format, answer.size, answer.background) == ("jpeg", "128x64", "opaque")
        assert answer.usage and answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0
        assert "warnings" in (answer.model_extra or {})


async def test_a_link_works_without_a_header(tmp_path: Path) -> None:
    async with serving(tmp_path) as client, httpx.AsyncClient() as browser:
        answer = await client.images.generate(prompt="a cat", response_format="url", output_format="webp")
        assert answer.data and answer.data[0].url
        fetched = await browser.get(answer.data[0].url)
        assert (fetched.status_code, fetched.headers["content-type"]) == (200, "image/webp")


async def test_the_same_seed_gives_the_same_picture_and_extras_arrive(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with serving(tmp_path, backend) as client:
        extras = {"seed": 7, "steps": 3, "negative_prompt": "rain", "guidance_scale": 2.5, "wings": True}
        answers = [await client.images.generate(prompt="a cat", size="64x64", extra_body=extras) for _ in range(2)]
        assert len({answer.data[0].b64_json for answer in answers if answer.data}) == 1
        stage = backend.orders[0].plans[0].stages[0]
        assert (backend.orders[0].plans[0].seed, stage.steps, stage.cfg) == (7, 3, 2.5)
        assert backend.orders[0].request.negative_prompt == "rain"
        assert (answers[0].model_extra or {})["warnings"] == ["`wings` is unknown here and was ignored."]


async def test_a_bad_request_says_what_to_change(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str | None, str]] = [
        ({"size": "65x64"}, None, "multiple of 16"),
        ({"size": "huge"}, None, "is not of the form 1024x1024"),
        ({"n": 11}, "n", "Give at most 10"),
        ({"output_format": "gif"}, "output_format", "`output_format` is 'gif'"),
        ({"prompt": "a\x07"}, None, "control character U+0007"),
        ({"extra_body": {"steps": 1000}}, None, "Give at most 200"),
    ]
    async with serving(tmp_path) as client:
        call: Any = client.images.generate
        for fields, param, told in cases:
            with pytest.raises(openai.BadRequestError) as caught:
                await call(**{"prompt": "a cat"} | fields)
            assert told in caught.value.message
            assert caught.value.param == param
            assert (caught.value.type, caught.value.code) == ("invalid_request_error", "invalid_request")


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (EngineFault("The latent is not finite."), openai.InternalServerError),
        (Unsupported("It cannot."), openai.BadRequestError),
    ],
)
async def test_a_failed_job_is_an_error_and_not_painted_again(
    tmp_path: Path, failure: EngineFault | Unsupported, kind: type[openai.APIStatusError]
) -> None:
    backend = FakeBackend(failures={0: failure})
    async with serving(tmp_path, backend) as client:
        with pytest.raises(kind) as caught:
            await client.images.generate(prompt="a cat")
        assert failure.message in caught.value.message
        assert len(backend.orders) == 1


async def test_an_edit_starts_from_the_picture(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with serving(tmp_path, backend) as client:
        first = await client.images.edit(image=("cat.png", png()), prompt="in winter", size="64x64", n=2)
        assert len(first.data or []) == 2
        await client.images.edit(image=[("cat.png", png("navy"))], prompt="in winter", extra_body={"seed": 1})
        assert [order.reference is not None for order in backend.orders] == [True, True]
        assert backend.orders[1].plans[0].seed == 1
        url = "data:image/png;base64," + base64.b64encode(png("olive")).decode()
        body = {"prompt": "in spring", "images": [{"image_url": url}]}
        answer = await client.post("/images/edits", body=body, cast_to=httpx.Response)
        assert answer.status_code == 200 and len(backend.orders) == 3


async def test_an_edit_paints_anew_what_its_mask_has_transparent(tmp_path: Path) -> None:
    hole = Image.new("RGBA", (96, 64), "white")
    hole.paste((0, 0, 0, 0), (48, 0, 96, 64))
    stream = io.BytesIO()
    hole.save(stream, "PNG")
    backend = FakeBackend()
    async with serving(tmp_path, backend) as client:
        answer = await client.images.edit(
            image=("cat.png", png()), mask=("mask.png", stream.getvalue()), prompt="in winter", size="96x64"
        )
        (item,) = answer.data or []
        picture = opened(item.b64_json).convert("RGB")
        assert picture.getpixel((10, 30)) == (0, 128, 128) != picture.getpixel((80, 30))
        url = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
        body = {"prompt": "in spring", "images": [{"image_url": url}], "mask": {"image_url": url}, "size": "96x64"}
        assert (await client.post("/images/edits", body=body, cast_to=httpx.Response)).status_code == 200
    assert [order.mask and order.mask.getpixel((80, 30)) for order in backend.orders] == [255, 255]
    assert [order.plans[0].stages[0].denoise for order in backend.orders] == [1, 1]


async def test_an_edit_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"image": ("a.png", png()), "mask": ("m.png", png(size=(64, 64)))}, "their shapes differ"),
            ({"image": ("a.png", png()), "extra_body": {"mask": "m.png"}}, "`mask` is a text"),
            ({"image": [("a.png", png()), ("b.png", png())]}, "starts from one reference picture"),
            ({"image": ("a.png", b"no picture")}, "a.png"),
        ]
        call: Any = client.images.edit
        for fields, told in cases:
            with pytest.raises(openai.BadRequestError, match=told):
                await call(prompt="in winter", **fields)


async def test_a_stream_shows_the_picture_on_its_way(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeBackend(step_s=0.04)) as client:
        stream = await client.images.generate(
            prompt="a cat", stream=True, partial_images=3, size="96x128", extra_body={"seed": 5}
        )
        events = [event async for event in stream]
        partial, final = events[:-1], events[-1]
        assert [event.type for event in partial] == ["image_generation.partial_image"] * len(partial)
        assert [event.partial_image_index for event in partial] == list(range(len(partial)))  # pyright: ignore
        assert 1 <= len(partial) <= 3
        assert all(opened(event.b64_json).size == (96, 128) for event in events)
        assert final.type == "image_generation.completed"
        assert final.usage.total_tokens > 0 and final.size == "96x128"


async def test_a_streamed_edit_and_a_streamed_failure(tmp_path: Path) -> None:
    backend = FakeBackend(failures={1: EngineFault("The latent is not finite.")})
    async with serving(tmp_path, backend) as client:
        stream = await client.images.edit(image=("a.png", png()), prompt="in winter", stream=True)
        assert [event.type async for event in stream] == ["image_edit.completed"]
        backend._failures[0] = EngineFault("The latent is not finite.")  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(openai.APIError, match="not finite"):
            async for _ in await client.images.generate(prompt="a cat", stream=True):
                pass


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_hangs_up_loses_nothing(tmp_path: Path, streamed: bool) -> None:
    async with serving(tmp_path, FakeBackend(step_s=0.03)) as client:
        call: Any = client.images.generate
        asking = asyncio.create_task(call(prompt="a cat", stream=streamed, partial_images=1, extra_body={"steps": 20}))
        async with httpx.AsyncClient(base_url=str(client.base_url).removesuffix("v1/")) as other:

            async def statuses() -> list[str]:
                return [job["status"] for job in (await other.get("/api/jobs")).json()["jobs"]]

            async def begun() -> bool:
                return await statuses() == ["processing"]

            async def done() -> bool:
                return await statuses() == ["completed"]

            await until(begun)
            if streamed:
                stream = await asking
                await stream.close()
            asking.cancel()
            await until(done)


async def test_models_are_listed_and_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert [model.id async for model in client.models.list()] == ["sketchbook"]
        assert (await client.models.retrieve("sketchbook")).owned_by == "limner"
        with pytest.raises(openai.NotFoundError, match="Known: sketchbook"):
            await client.models.retrieve("dall-e-9")


async def test_the_same_idempotency_key_paints_once(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with serving(tmp_path, backend) as client:
        key = {"Idempotency-Key": "k1"}
        answers = [await client.images.generate(prompt="a cat", extra_headers=key) for _ in range(2)]
        assert len({answer.data[0].b64_json for answer in answers if answer.data}) == 1
        assert len(backend.orders) == 1
