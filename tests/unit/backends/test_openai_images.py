"""The OpenAI backend against a provider that says what it was told to."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from limner.backends.openai_images import OpenAIBackend
from limner.backends.remote import Patience
from limner.backends.remote_pictures import png
from limner.backends.settings import OpenAISettings
from limner.domain import GenerationRequest
from limner.errors import AdapterMismatch, ConfigError, NotFound
from limner.events import Done, Event, Failed, Warned
from limner.ports import Order
from tests.contract.backend_contract import images, order, order_of, run
from tests.support.records import gradient
from tests.support.scripted_server import Reply, ScriptedServer


def content(width: int = 64, height: int = 96) -> bytes:
    return png(gradient(width, height))


def pictures(count: int = 1, **more: Any) -> Reply:
    """An answer with so many pictures."""
    item = {"b64_json": base64.b64encode(content()).decode()}
    return Reply(body={"created": 1, "data": [item] * count} | more)


def fault(status: int, code: str, message: str = "No.", **headers: str) -> Reply:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Reply(status, {"error": error}, headers)


@asynccontextmanager
async def provider(*replies: Reply, **settings: Any) -> AsyncGenerator[tuple[OpenAIBackend, ScriptedServer]]:
    """A backend, and the provider that it asks."""
    async with ScriptedServer(list(replies)).listening() as server:
        given: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": "key-1", "model": "painter"} | settings
        patience = Patience(tries=3, first_pause_s=0.001, longest_wait_s=1)
        backend = OpenAIBackend(OpenAISettings(**given), patience=patience)
        yield backend, server
        await backend.aclose()


def warned(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Warned)]


def failures(events: list[Event]) -> list[Failed]:
    return [event for event in events if isinstance(event, Failed)]


async def outcome(wanted: Order, *replies: Reply, **settings: Any) -> tuple[list[Event], ScriptedServer]:
    async with provider(*replies, **settings) as (backend, server):
        return await run(backend, wanted), server


# --- what is asked


async def test_a_call_has_key_model_prompt_size_and_count() -> None:
    events, server = await outcome(order(count=2), pictures(2))
    (asked,) = server.asked
    assert (asked.path, asked.headers["authorization"]) == ("/v1/images/generations", "Bearer key-1")
    assert asked.json() == {"model": "painter", "prompt": "a red boat", "n": 2, "size": "64x96"}
    assert [image.recipe.checkpoint for image in images(events)] == ["painter"] * 2
    assert "seed" in warned(events)[0]


async def test_a_provider_that_knows_seeds_is_asked_for_each_picture_by_its_own() -> None:
    wanted = order(count=2, steps=3, cfg=2.5, negative_prompt="rain", sampler="heun")
    fields = ("seed", "negative_prompt", "num_inference_steps", "guidance_scale")
    events, server = await outcome(wanted, pictures(), fields=fields, at_a_time=1)
    assert [asked.json()["seed"] for asked in server.asked] == [7, 8]
    body = server.asked[0].json()
    assert (body["n"], body["negative_prompt"], body["num_inference_steps"], body["guidance_scale"]) == (
        1,
        "rain",
        3,
        2.5,
    )
    assert warned(events) == ["The provider decides itself about `sampler`, which was left out."]


async def test_more_pictures_than_a_call_may_have_become_several_calls() -> None:
    events, server = await outcome(order(count=5), pictures(2), pictures(2), pictures(1), per_call=2, at_a_time=1)
    assert [asked.json()["n"] for asked in server.asked] == [2, 2, 1]
    assert len(images(events)) == 5


async def test_pictures_that_an_answer_lacks_are_asked_for_again() -> None:
    events, server = await outcome(order(count=3), pictures(2), pictures(5))
    assert [asked.json()["n"] for asked in server.asked] == [3, 1]
    assert [image.index for image in images(events)] == [0, 1, 2]


async def test_references_go_to_the_edits() -> None:
    wanted = order(gradient(), references=[{"path": "a.png"}], denoise=0.5)
    events, server = await outcome(wanted, pictures())
    (asked,) = server.asked
    assert asked.path == "/v1/images/edits"
    assert b'name="image"; filename="0.png"' in asked.body and png(gradient()) in asked.body
    assert "`denoise`" in warned(events)[-1]
    several = replace(order(), context=(gradient(), gradient(32, 32)))
    _, server = await outcome(several, pictures())
    assert server.asked[0].body.count(b'name="image[]"') == 2


async def test_a_mask_is_transparent_where_it_is_painted_anew() -> None:
    shape = Image.new("L", (64, 96))
    shape.paste(255, (32, 0, 64, 96))
    events, server = await outcome(order(gradient(64, 64), shape, references=[{"path": "a.png"}]), pictures())
    (asked,) = server.asked
    start = asked.body.index(b"\x89PNG", asked.body.index(b'name="mask"'))
    sent = Image.open(io.BytesIO(asked.body[start:]))
    assert [sent.getchannel("A").getpixel((x, 5)) for x in (0, 63)] == [255, 0]
    (image,) = images(events)
    kept = gradient(64, 64).resize((64, 96))
    assert image.rgb[:3] == kept.tobytes()[:3]


# --- sizes


def sized(width: int, height: int) -> Order:
    return order_of(GenerationRequest.model_validate({"prompt": "a boat", "width": width, "height": height}))


@pytest.mark.parametrize(
    ("size", "model", "nearest"),
    [
        ((672, 864), "gpt-image-1", "1024x1536"),
        ((1024, 1024), "gpt-image-1", "1024x1024"),
        ((256, 256), "dall-e-2", "256x256"),
        ((640, 640), "dall-e-2", "512x512"),
        ((1600, 900), "dall-e-3", "1792x1024"),
        ((1600, 912), "somebody-elses", "1600x912"),
    ],
)
async def test_a_size_that_is_not_painted_becomes_the_nearest_and_is_told(
    size: tuple[int, int], model: str, nearest: str
) -> None:
    size = size[0] // 16 * 16, size[1] // 16 * 16
    events, server = await outcome(sized(*size), pictures(), model=model)
    assert server.asked[0].json()["size"] == nearest
    told = [message for message in warned(events) if "does not paint" in message]
    assert bool(told) == (nearest != f"{size[0]}x{size[1]}")
    assert all(nearest in message for message in told)


async def test_sizes_may_be_set() -> None:
    _, server = await outcome(sized(672, 864), pictures(), sizes="512x512,768x1024")
    assert server.asked[0].json()["size"] == "768x1024"


async def test_a_provider_of_ratios_is_told_ratio_and_resolution() -> None:
    events, server = await outcome(
        sized(2560, 1440), pictures(), size_as="ratio", model="jimeng-4.0", api_key="session-id"
    )
    body = server.asked[0].json()
    assert (body["ratio"], body["resolution"], "size" in body) == ("16:9", "4k", False)
    assert server.asked[0].headers["authorization"] == "Bearer session-id"
    assert warned(events) == []
    events, server = await outcome(sized(672, 864), pictures(), size_as="ratio")
    assert server.asked[0].json()["ratio"] == "3:4"
    assert "knows no shape like 672x864: 3:4 was asked for" in warned(events)[0]


async def test_a_picture_has_its_own_size_whatever_was_asked_for() -> None:
    events, _ = await outcome(sized(640, 640), pictures())
    (image,) = images(events)
    assert (image.width, image.height, len(image.rgb)) == (64, 96, 64 * 96 * 3)
    assert warned(events) == ["The picture is 64x96 where the provider was asked for 640x640."]
    assert image.recipe.warnings == tuple(warned(events))


# --- answers


async def test_a_picture_may_come_as_an_address_of_the_provider_or_of_the_internet() -> None:
    async with provider(Reply()) as (backend, server):
        server.replies = [
            Reply(body={"data": [{"url": f"{server.url}/files/1.png"}]}),
            Reply(body=content(), headers={"Content-Type": "image/png"}),
            Reply(body={"data": [{"url": "http://10.0.0.1/secret.png"}]}),
        ]
        (image,) = images(await run(backend, order()))
        assert (image.width, image.height) == (64, 96)
        (failed,) = failures(await run(backend, order()))
        assert (failed.code, "10.0.0.1, which is not public" in failed.message) == ("rejected", True)


async def test_other_words_and_the_providers_own_warnings_are_told() -> None:
    item = {"b64_json": base64.b64encode(content()).decode(), "revised_prompt": "a crimson vessel"}
    events, _ = await outcome(order(seed=None), Reply(body={"data": [item], "warnings": ["`n` is odd."]}))
    assert warned(events) == ["The provider says: `n` is odd.", "The provider painted other words: a crimson vessel"]


@pytest.mark.parametrize(
    ("reply", "code", "told", "times"),
    [
        (fault(400, "content_policy_violation", "Not this."), "rejected", "refuses to paint this: Not this.", 1),
        (fault(429, "insufficient_quota", "Pay."), "rejected", "paints no more for this key: Pay.", 1),
        (fault(429, "rate_limit_exceeded", "", **{"Retry-After": "0"}), "capacity", "no room for more requests", 3),
        (fault(429, "rate_limit_exceeded", "", **{"Retry-After": "99"}), "capacity", "Try again in 99 s", 1),
        (fault(401, "invalid_api_key", "Who?"), "rejected", "LIMNER_OPENAI__API_KEY", 1),
        (fault(400, "invalid_value", "Bad size."), "rejected", "answered 400: Bad size.", 1),
        (fault(500, "server_error", "Oops."), "unreachable", "answered 500: Oops.", 1),
        (fault(503, "overloaded", "Later."), "unreachable", "answered 503", 3),
        (fault(503, "engine_fault", "Broken.", **{"x-should-retry": "false"}), "rejected", "Broken.", 1),
        (Reply(422, {"detail": [{"loc": ["n"]}]}), "rejected", '[{"loc": ["n"]}]', 1),
        (Reply(body={"code": -2001, "message": "session expired", "data": None}), "rejected", "session expired", 1),
        (Reply(body={"data": []}), "garbled", "answered without pictures", 1),
        (Reply(body={"data": [{}]}), "garbled", "neither b64_json nor url", 1),
        (Reply(body={"data": [{"b64_json": "@@"}]}), "garbled", "no base64", 1),
        (Reply(body={"data": [{"b64_json": "aGVsbG8="}]}), "garbled", "in place of a picture", 1),
        (Reply(body=b"<html>", headers={"Content-Type": "text/html"}), "garbled", "no JSON object", 1),
        (Reply(404, b"<html>not here"), "garbled", "Check `openai.base_url`", 1),
        (Reply(stalls_s=1), "timeout", "did not answer in time", 1),
    ],
)
async def test_a_failure_says_what_the_provider_said_and_is_not_paid_for_twice(
    reply: Reply, code: str, told: str, times: int
) -> None:
    events, server = await outcome(order(), reply, timeout_s=0.2 if reply.stalls_s else 10)
    (failed,) = failures(events)
    assert (failed.code, told in failed.message) == (code, True), failed.message
    assert failed.retryable == (code in ("capacity", "unreachable", "timeout"))
    assert len(server.asked) == times
    assert "key-1" not in failed.message


async def test_a_busy_provider_is_waited_for() -> None:
    busy = fault(429, "rate_limit_exceeded", **{"Retry-After": "0.01"})
    events, server = await outcome(order(), busy, pictures())
    assert (len(images(events)), len(server.asked)) == (1, 2)


async def test_an_unknown_model_is_refused_before_any_picture() -> None:
    async with provider(fault(404, "model_not_found", "No such model.")) as (backend, _):
        with pytest.raises(NotFound, match="does not know `nobody`: No such model"):
            await run(backend, order(model="nobody"))


async def test_what_came_before_a_failure_is_kept() -> None:
    events, _ = await outcome(order(count=3), pictures(2), fault(400, "content_policy_violation"))
    assert ([image.index for image in images(events)], [f.index for f in failures(events)]) == ([0, 1], [2])
    last = events[-1]
    assert isinstance(last, Done) and last.status == "partial"


# --- attempts


async def test_another_attempt_names_its_call_as_the_first_one_did_until_it_was_refused() -> None:
    wanted = replace(order(), token="job_1")
    async with provider(Reply(stalls_s=1), timeout_s=0.1) as (backend, server):
        await run(backend, wanted)
        server.replies = [fault(400, "invalid_value"), pictures()]
        backend_again = OpenAIBackend(OpenAISettings(base_url=f"{server.url}/v1", model="painter"))
        for _ in range(2):
            await run(backend_again, wanted)
        await run(backend_again, replace(wanted, token="job_2"))
        await run(backend_again, order())
        await backend_again.aclose()
    keys = [asked.headers.get("idempotency-key") for asked in server.asked]
    assert keys[0] == keys[1]
    assert len(set(keys[1:])) == 4
    assert keys[-1] is None


# --- what cannot be had


async def test_loras_are_skipped_with_the_reason_or_refused() -> None:
    events, _ = await outcome(order(adapters=[{"name": "ink"}]), pictures())
    (image,) = images(events)
    assert [(o.status, o.reason) for o in image.recipe.adapters] == [("skipped", "the provider takes no LoRAs")]
    with pytest.raises(AdapterMismatch):
        await outcome(order(adapters=[{"name": "ink"}], on_adapter_mismatch="fail"), pictures())


async def test_an_unset_address_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"openai\.base_url"):
        OpenAIBackend(OpenAISettings())


def test_capabilities_follow_the_fields_of_the_provider() -> None:
    plain = OpenAIBackend(OpenAISettings(base_url="https://images.example/v1")).capabilities()
    assert (plain.models, plain.adapters, plain.negative_prompts, plain.guidance) == (
        ("gpt-image-1",),
        False,
        False,
        False,
    )
    able = OpenAISettings(base_url="https://images.example/v1", fields=("negative_prompt", "guidance_scale"))
    assert (OpenAIBackend(able).capabilities().negative_prompts, OpenAIBackend(able).capabilities().guidance) == (
        True,
        True,
    )


async def test_a_server_that_is_gone_is_worth_another_try() -> None:
    async with ScriptedServer([pictures()]).listening() as server:
        url = server.url
    backend = OpenAIBackend(OpenAISettings(base_url=url), patience=Patience(tries=2, first_pause_s=0.001))
    (failed,) = failures(await run(backend, order()))
    assert (failed.code, failed.retryable) == ("unreachable", True)
    await backend.aclose()
