"""The ComfyUI backend against a server with all the surprises of the real one, and some more."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from limner.backends.comfyui import ComfyUIBackend
from limner.backends.comfyui.client import Instance, Socket
from limner.backends.comfyui.templates import Graph
from limner.backends.remote import Patience
from limner.backends.settings import ComfyUISettings
from limner.domain import MAX_SEED
from limner.errors import AdapterMismatch, ConfigError, LimnerError, NotFound, Rejected, Unreachable, Unsupported
from limner.events import Done, Event, Failed, ImageGenerated, Info, Preview, Progress, Warned
from limner.ports import Order
from tests.contract.backend_contract import images, order, run
from tests.support.comfyui_server import JPEG, ComfyUIServer
from tests.support.jobs import until

TEMPLATES = Path(__file__).parents[2] / "support" / "comfyui_templates"
QUICK = Patience(tries=3, first_pause_s=0.01, longest_wait_s=0.5)


def backend_for(*servers: ComfyUIServer, **settings: Any) -> ComfyUIBackend:
    given: dict[str, Any] = {"template": "two-stages", "templates_dir": TEMPLATES, "poll_s": 0.02} | settings
    chosen = ComfyUISettings(url=tuple(server.url for server in servers), **given)
    return ComfyUIBackend(chosen, patience=QUICK, lost_s=0.3)


@asynccontextmanager
async def painting(server: ComfyUIServer, **settings: Any) -> AsyncGenerator[ComfyUIBackend]:
    """A backend of a server that runs."""
    async with server.running_on():
        backend = backend_for(server, **settings)
        yield backend
        await backend.aclose()


@asynccontextmanager
async def asking(server: ComfyUIServer) -> AsyncGenerator[Instance]:
    """The routes of a server."""
    instance = Instance(server.url, QUICK)
    yield instance
    await instance.aclose()


def failures(events: list[Event]) -> list[Failed]:
    return [event for event in events if isinstance(event, Failed)]


async def gone_without_a_word(backend: ComfyUIBackend, wanted: Order, when: Callable[[], bool]) -> None:
    """Begin an order and let its process die: nobody takes anything back."""

    async def forget(self: Instance, prompt_id: str) -> None:
        pass

    task = asyncio.create_task(run(backend, wanted))

    async def reached() -> bool:
        return when()

    await until(reached)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Instance, "cancel", forget)
        task.cancel()
        await asyncio.wait((task,))
    await backend.aclose()


# --- the nine surprises


async def test_1_a_history_that_is_behind_is_waited_for() -> None:
    async with painting(ComfyUIServer(history_lag_s=0.15)) as backend:
        assert len(images(await run(backend, order()))) == 1


async def test_2_a_prompt_that_nobody_knows_is_lost_and_never_done() -> None:
    server = ComfyUIServer(step_s=0.05)
    async with painting(server) as backend, aclosing(backend.run(order())) as events:
        told: list[Event] = []
        async for event in events:
            told.append(event)
            if isinstance(event, Progress) and event.current == 1:
                server.forget()
    (failed,) = failures(told)
    assert (failed.code, failed.retryable) == ("unreachable", True)
    assert "knows the picture no longer" in failed.message
    last = told[-1]
    assert isinstance(last, Done) and (last.status, last.images, last.failed) == ("failed", 0, 1)


async def test_2_a_picture_that_somebody_stopped_is_told_from_one_that_failed() -> None:
    server = ComfyUIServer(step_s=0.05)
    async with painting(server) as backend, aclosing(backend.run(order())) as events:
        told: list[Event] = []
        async for event in events:
            told.append(event)
            if isinstance(event, Progress) and event.current == 1:
                assert server.running
                server._stop_running = True  # pyright: ignore[reportPrivateUsage]
    (failed,) = failures(told)
    assert (failed.code, "Somebody stopped the picture" in failed.message) == ("rejected", True)


@pytest.mark.parametrize("old", [False, True])
async def test_3_only_our_own_prompt_is_ever_stopped(old: bool) -> None:
    server = ComfyUIServer(step_s=0.02, old_interrupt=old)
    async with painting(server) as backend:
        foreign = asyncio.create_task(run(backend, order(seed=1)))
        await until(running(server))
        assert server.running
        other = server.running.id
        async with aclosing(backend.run(order(seed=2))) as events:
            async for event in events:
                if isinstance(event, Info) and event.code == "waiting":
                    assert event.message.startswith("1 other picture is painted first")
                    break
        assert (server.pending, server.interrupted) == ([], [])
        assert len(images(await foreign)) == 1
        async with aclosing(backend.run(order(seed=3))) as events:
            async for event in events:
                if isinstance(event, Progress):
                    break
        assert len(server.interrupted) == 1
        assert server.interrupted[0] != other


async def test_4_a_refused_graph_is_told_by_node_and_title() -> None:
    server = ComfyUIServer()
    async with painting(server) as backend:
        server.files["KSampler", "sampler_name"] = ["euler"]
        events = await run(backend, order())
    (failed,) = failures(events)
    assert failed.code == "rejected"
    assert "node 10 (Stage 1): Value not in list: sampler_name: 'euler_ancestral'" in failed.message


async def test_4_a_graph_that_lost_a_branch_in_silence_is_an_error_and_taken_back(tmp_path: Path) -> None:
    graph = json.loads((TEMPLATES / "two-stages.json").read_text())
    graph["90"] = {"class_type": "LoadImage", "inputs": {"image": "gone.png"}, "_meta": {"title": "Old picture"}}
    graph["91"] = {"class_type": "PreviewImage", "inputs": {"images": ["90", 0]}}
    (tmp_path / "two-stages.json").write_text(json.dumps(graph))
    (tmp_path / "two-stages.toml").write_text((TEMPLATES / "two-stages.toml").read_text())
    server = ComfyUIServer(holds=True)
    async with painting(server, templates_dir=tmp_path) as backend:
        (failed,) = failures(await run(backend, order()))
        assert "drops a part of the graph: node 90 (Old picture)" in failed.message
        assert server.pending == []


async def test_4_a_graph_in_the_wrong_format_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "two-stages.json").write_text('{"nodes": [], "links": []}')
    (tmp_path / "two-stages.toml").write_text((TEMPLATES / "two-stages.toml").read_text())
    async with painting(ComfyUIServer(), templates_dir=tmp_path) as backend:
        with pytest.raises(ConfigError, match="not in ComfyUI's API format"):
            await run(backend, order(model="two-stages"))


async def test_5_a_prompt_that_was_answered_with_500_is_looked_for_before_it_is_sent_again() -> None:
    server = ComfyUIServer(holds=True)
    async with server.running_on(), asking(server) as instance:
        graph = {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "twice"}}}
        for _ in range(2):
            await instance.submit(graph, "one-id", "client", previews=False)
        assert (server.count("POST /prompt"), len(server.pending)) == (2, 2)
        server.apologies = [(500, {})]
        with pytest.raises(Rejected, match="answered 500: sorry"):
            await instance.submit(graph, "other-id", "client", previews=False)


async def test_6_the_same_graph_again_is_saved_again_even_when_the_old_file_is_gone() -> None:
    server = ComfyUIServer()
    async with painting(server) as backend:
        (first,) = images(await run(backend, order()))
        server.saved.clear()
        steps = server.steps_made
        (second,) = images(await run(backend, order()))
        assert first.rgb == second.rgb
        assert server.steps_made == steps  # it was not painted again, only saved


async def test_7_every_socket_has_a_client_id_of_its_own_and_others_messages_are_passed_over() -> None:
    server = ComfyUIServer()
    async with painting(server) as backend:
        stray = {"prompt": {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "a"}}}, "prompt_id": "stray"}
        async with asking(server) as instance:
            await instance.connection.request("POST", "/prompt", json=stray)  # told to everybody
        events = await run(backend, order(count=3))
    assert len(images(events)) == 3
    assert len(server.clients) == len(set(server.clients)) == 3


class Frames:
    """A socket that has these messages."""

    def __init__(self, *messages: bytes | str) -> None:
        self._messages = messages

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        for message in self._messages:
            yield message


async def test_8_previews_are_ours_or_nobodys() -> None:
    def marked(prompt_id: str) -> bytes:
        about = json.dumps({"prompt_id": prompt_id, "node_id": "10"}).encode()
        return struct.pack(">II", 4, len(about)) + about + JPEG

    plain = struct.pack(">II", 1, 1) + JPEG
    start = json.dumps({"type": "execution_start", "data": {"prompt_id": "ours"}})
    end = json.dumps({"type": "executing", "data": {"prompt_id": "ours", "node": None}})
    frames = Frames(plain, marked("theirs"), marked("ours"), b"\0\0", start, plain, "no json", end, plain)
    hints = [hint async for hint in Socket(frames).hints("ours")]
    assert [hint.kind for hint in hints] == ["preview", "began", "preview", "ended"]
    assert [hint.picture for hint in hints if hint.kind == "preview"] == [JPEG, JPEG]


async def test_8_previews_can_be_turned_off() -> None:
    async with painting(ComfyUIServer(), previews=False) as backend:
        assert not backend.capabilities().previews
        assert not [event for event in await run(backend, order()) if isinstance(event, Preview)]


async def test_9_a_picture_that_was_renamed_at_its_upload_is_found() -> None:
    server = ComfyUIServer(renames=True)
    async with painting(server) as backend:
        wanted = order(Image.new("RGB", (64, 64), "red"), references=[{"path": "a.png"}], denoise=0.5, count=2)
        events = await run(backend, wanted)
    assert len(images(events)) == 2
    assert [graph["50"]["inputs"]["image"] for graph in server.graphs] == ["renamed (0).png"] * 2


async def test_9_the_largest_seed_arrives() -> None:
    server = ComfyUIServer()
    async with painting(server) as backend:
        assert len(images(await run(backend, order(seed=MAX_SEED)))) == 1
    assert server.graphs[0]["10"]["inputs"]["seed"] == 2**64 - 1


# --- servers that die, dawdle and lie


async def test_a_server_that_dies_in_the_middle_is_unreachable_and_worth_another_try() -> None:
    server = ComfyUIServer(step_s=0.05)
    async with painting(server) as backend, aclosing(backend.run(order(count=2))) as events:
        told: list[Event] = []
        async for event in events:
            told.append(event)
            if isinstance(event, Progress) and event.current == 1:
                await server.die()
    assert [(failed.code, failed.retryable) for failed in failures(told)] == [("unreachable", True)] * 2


async def test_a_server_that_is_not_there_is_told_before_any_picture() -> None:
    server = ComfyUIServer()
    async with painting(server):
        pass
    with pytest.raises(Unreachable, match="cannot be reached"):
        await run(backend_for(server), order())


async def test_a_picture_that_takes_too_long_is_stopped() -> None:
    server = ComfyUIServer(step_s=0.3)
    async with painting(server, timeout_s=0.1) as backend:
        (failed,) = failures(await run(backend, order()))
    assert (failed.code, failed.retryable) == ("timeout", True)
    assert len(server.interrupted) == 1


@pytest.mark.parametrize("trouble", [{"mute": True}, {"drops_socket": True}])
async def test_without_the_socket_polling_finds_the_picture(trouble: dict[str, Any]) -> None:
    async with painting(ComfyUIServer(**trouble)) as backend:
        events = await run(backend, order())
    assert len(images(events)) == 1
    assert [event.type for event in events].count("stage_update") == 4
    assert [event.current for event in events if isinstance(event, Progress)][-1] == 4


async def test_a_server_that_asks_for_patience_gets_it() -> None:
    server = ComfyUIServer()
    async with painting(server) as backend:
        server.apologies = [(503, {"Retry-After": "0"}), (429, {"Retry-After": "0"})]
        assert len(images(await run(backend, order()))) == 1


@pytest.mark.parametrize(("memory", "code"), [(False, "rejected"), (True, "out_of_memory")])
async def test_a_node_that_fails_is_named_with_its_title(memory: bool, code: str) -> None:
    async with painting(ComfyUIServer(fails="VAEDecode", out_of_memory=memory)) as backend:
        (failed,) = failures(await run(backend, order()))
    assert failed.code == code
    assert "node 40 (Decode)" in failed.message


async def test_what_is_no_picture_is_not_taken_for_one() -> None:
    async with painting(ComfyUIServer(garbage=b"<html>")) as backend:
        (failed,) = failures(await run(backend, order()))
    assert (failed.code, "in place of a picture" in failed.message) == ("garbled", True)


# --- several servers, several attempts


async def test_the_least_busy_server_is_asked_first() -> None:
    busy, idle, dead = ComfyUIServer(holds=True), ComfyUIServer(), ComfyUIServer()
    async with dead.running_on():
        pass
    async with busy.running_on(), idle.running_on():
        async with asking(busy) as instance:
            for name in ("first", "second"):
                graph: Graph = {"1": {"class_type": "SaveImage", "inputs": {}}}
                await instance.submit(graph, name, "other", previews=False)
        backend = backend_for(busy, idle, dead)
        assert len(images(await run(backend, order(count=2)))) == 2
        await backend.aclose()
    assert (len(busy.graphs), len(idle.graphs)) == (2, 2)


async def test_pictures_of_one_order_are_spread_over_the_servers() -> None:
    servers = ComfyUIServer(step_s=0.05), ComfyUIServer(step_s=0.05)
    async with servers[0].running_on(), servers[1].running_on():
        backend = backend_for(*servers)
        assert len(images(await run(backend, order(count=4)))) == 4
        await backend.aclose()
    assert all(len(server.graphs) >= 1 for server in servers)


async def test_a_second_attempt_finds_what_the_first_one_began() -> None:
    server = ComfyUIServer(holds=True)
    async with server.running_on():
        wanted = replace(order(count=2), token="job_1")
        await gone_without_a_word(backend_for(server), wanted, lambda: len(server.pending) == 1)
        server.holds = False
        backend = backend_for(server)
        events = await run(backend, wanted)
        assert len(images(events)) == 2
        assert [event.code for event in events if isinstance(event, Info)] == ["resumed"]
        assert len(server.graphs) == 2  # one for each picture
        again = await run(backend, wanted)
        assert [image.rgb for image in images(again)] == [image.rgb for image in images(events)]
        assert len(server.graphs) == 2
        await run(backend, replace(wanted, token="job_2"))
        assert len(server.graphs) == 4
        await backend.aclose()


async def test_what_failed_or_was_thrown_away_is_painted_anew_by_the_next_attempt() -> None:
    server = ComfyUIServer(fails="VAEDecode")
    wanted = replace(order(), token="job_1")
    async with painting(server) as backend:
        assert len(failures(await run(backend, wanted))) == 1
        server.fails = ""
        assert len(images(await run(backend, wanted))) == 1
        server.saved.clear()
        assert len(images(await run(backend, wanted))) == 1
        assert len(server.graphs) == 3


# --- what an order becomes


async def test_a_lora_is_put_between_the_model_and_whoever_takes_it() -> None:
    server = ComfyUIServer()
    async with painting(server) as backend:
        (plain,) = images(await run(backend, order()))
        wanted = order(adapters=[{"name": "ink", "weight": 0.5}, {"name": "pen"}, {"name": "unknown"}])
        events = await run(backend, wanted)
    (image,) = images(events)
    assert image.rgb != plain.rgb
    assert [(o.name, o.status) for o in image.recipe.adapters] == [
        ("ink", "applied"),
        ("pen", "applied"),
        ("unknown", "skipped"),
    ]
    assert [event.message for event in events if isinstance(event, Warned)] == list(image.recipe.warnings)
    assert "LoRA `unknown` was skipped: ComfyUI has no such file" in image.recipe.warnings[0]
    without, chained = server.graphs
    assert "4" not in without and without["5"]["inputs"]["model"] == ["1", 0]
    assert chained["5"]["inputs"]["model"] == ["4_1", 0]
    assert chained["4_1"]["inputs"] == {"model": ["4", 0], "lora_name": "pen.safetensors", "strength_model": 1.0}
    assert chained["4"]["inputs"]["lora_name"] == "styles/ink.safetensors"


async def test_a_lora_that_is_not_there_fails_where_the_request_says_so() -> None:
    async with painting(ComfyUIServer()) as backend:
        with pytest.raises(AdapterMismatch, match="no such file"):
            await run(backend, order(adapters=[{"name": "unknown"}], on_adapter_mismatch="fail"))


async def test_a_checkpoint_is_named_without_its_folder_and_ending() -> None:
    server = ComfyUIServer()
    server.files["UNETLoader", "unet_name"] = ["z_image_turbo_bf16.safetensors", "mine/painter.safetensors"]
    async with painting(server) as backend:
        (image,) = images(await run(backend, order(model="painter")))
        assert image.recipe.checkpoint == "mine/painter.safetensors"
        assert "mine/painter.safetensors" in backend.capabilities().models
        server.files["UNETLoader", "unet_name"] = []
        with pytest.raises(NotFound, match=r"no checkpoint `z_image_turbo_bf16\.safetensors` on ComfyUI"):
            await run(backend, order())


async def test_a_request_that_fits_no_template_says_why() -> None:
    stages = [{"width": 64, "height": 64, "steps": 1}] * 5
    async with painting(ComfyUIServer()) as backend:
        with pytest.raises(Unsupported, match="`flux-kontext` has 1 stage and the request 5"):
            await run(backend, order(stages=stages))
        with pytest.raises(Unsupported, match="Template `flux-kontext` has 1 stage and the request 2"):
            await run(backend, order(model="flux-kontext"))


async def test_an_unset_address_says_which_variable_to_set() -> None:
    with pytest.raises(ConfigError, match="COMFYUI_URL"):
        ComfyUIBackend(ComfyUISettings())


async def test_errors_never_leave_the_tree() -> None:
    server = ComfyUIServer()
    async with painting(server) as backend:
        server.apologies = [(302, {"Location": "/login"})]
        with pytest.raises(LimnerError, match="answered 302"):
            await run(backend, order())


def running(server: ComfyUIServer) -> Callable[[], Any]:
    async def look() -> bool:
        return server.running is not None

    return look


def test_the_recipe_names_server_and_template() -> None:
    async def paint() -> ImageGenerated:
        async with painting(ComfyUIServer()) as backend:
            return images(await run(backend, order()))[0]

    recipe = asyncio.run(paint()).recipe
    assert recipe.device == "ComfyUI, cuda:0 Painted"
    assert (recipe.versions["comfyui"], recipe.versions["template"]) == ("0.18.1", "two-stages")
    assert (recipe.family, recipe.precision, recipe.checkpoint_sha256) == ("", {}, "")
