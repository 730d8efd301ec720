"""`limner workflow`: run, explain, and what each says."""

from __future__ import annotations

import asyncio
import importlib
import json
import queue
import re
import shlex
import threading
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image, PngImagePlugin

from limner.backends.fake import FakeBackend
from limner.cli.application import Application
from limner.server.app import build
from tests.support.graphs import EXAMPLES, changed, drawn, example, node, plain
from tests.support.records import gradient
from tests.support.services import fake_service, listening, settings_for, worker_of
from tests.unit.cli.conftest import Terminal

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path, FakeBackend(models=("dream", "kontext")))


def saved(workflow: dict[str, Any], name: str = "boat.json") -> str:
    Path(name).write_text(json.dumps(workflow), encoding="utf-8")
    return name


def _timeless(text: str) -> str:
    return re.sub(r"\d+\.\d s$", "0.0 s", text, flags=re.M)


def test_a_workflow_is_painted(terminal: Terminal) -> None:
    terminal.run("workflow", "run", saved(plain()))
    assert (terminal.code, terminal.out, _timeless(terminal.err)) == (0, "a-red-boat-7.png\n", "1 picture in 0.0 s\n")
    (plan,) = terminal.backend.orders[0].plans
    assert [(stage.width, stage.height, stage.steps) for stage in plan.stages] == [(64, 96, 4)]
    assert terminal.backend.orders[0].request.model == "dream"


def test_what_the_editor_saves_is_painted_too(terminal: Terminal) -> None:
    terminal.run("workflow", "run", saved(drawn(plain())), "--out", "pictures/boat.webp")
    assert (terminal.code, terminal.out) == (0, "pictures/boat.webp\n")
    with Image.open("pictures/boat.webp") as image:
        assert image.format == "WEBP"


def test_what_is_set_changes_the_picture(terminal: Terminal) -> None:
    terminal.run(
        *("workflow", "run", saved(plain()), "--set", "prompt=a cat = two", "--set", "seed=5", "--set", "count=2"),
        *("--set", "5.steps=2", "--out", "out"),
    )
    assert (terminal.code, terminal.out) == (0, "out/a-cat-two-5.png\nout/a-cat-two-6.png\n")
    assert [plan.stages[0].steps for plan in terminal.backend.orders[0].plans] == [2, 2]


def test_names_are_mapped_to_ones_own(terminal: Terminal) -> None:
    terminal.run("workflow", "run", str(EXAMPLES / "zimage-three-stage.json"))
    assert terminal.code == 2
    assert "Node 1 loads `z_image_turbo_bf16.safetensors`, and there is no checkpoint of that name." in terminal.err
    assert "Node 4 loads `hollyjai.safetensors`, and there is no LoRA of that name." in terminal.err
    terminal.run(
        *("workflow", "run", str(EXAMPLES / "zimage-three-stage.json"), "--json"),
        *("--map", "z_image_turbo_bf16=dream", "--map", "hollyjai=ink"),
    )
    assert terminal.code == 0
    assert [note for note in terminal.json["notes"] if "node 10" in note] == [
        "node 10: samples with euler_ancestral: its noise comes from the CPU, as ComfyUI's does on a CPU."
    ]
    assert [adapter.name for adapter in terminal.backend.orders[0].request.adapters] == ["ink"]


def test_nothing_is_painted_where_a_node_stands_in_the_way(terminal: Terminal) -> None:
    workflow = plain(n6=node("SomethingNew", samples=["5", 0]))
    terminal.run("workflow", "run", saved(workflow), "--json")
    assert (terminal.code, [file for file in terminal.files if file.endswith(".png")]) == (2, [])
    assert terminal.backend.orders == []
    assert terminal.json["error"]["code"] == "unsupported"
    assert terminal.err == (
        "error (unsupported): This workflow cannot be run natively. Node 6 (`SomethingNew`) is of a class that limner "
        "does not know. Change these nodes, or run it in ComfyUI.\n"
    )


def test_a_workflow_is_explained(terminal: Terminal) -> None:
    terminal.run("workflow", "explain", saved(plain()))
    assert (terminal.code, terminal.err, terminal.backend.orders) == (0, "", [])
    assert terminal.out == (
        "Runs natively: 64x96 with checkpoint `dream`.\n"
        "  stage 1 (node 5): 64x96 · 4 steps · cfg 5 · euler, normal · seed 7\n"
        "  prompt: a red boat\n"
        "  negative: fog\n"
        "Without effect:\n"
        "  node 7: has a `filename_prefix`; where files go is for the caller to say.\n"
    )
    terminal.run("workflow", "explain", saved(plain(n5=changed(plain()["5"], scheduler="x"))), "--json")
    assert (terminal.json["runs"], terminal.json["request"]) == (False, None)
    assert [(trouble["node"], trouble["kind"]) for trouble in terminal.json["unsupported"]] == [("5", "KSampler")]


def test_pictures_are_given_or_found_beside_the_workflow(terminal: Terminal) -> None:
    workflow = example("flux-kontext-basic")
    workflow["37"]["inputs"]["unet_name"] = "kontext.safetensors"
    saved(workflow, "kontext.json")
    terminal.run("workflow", "run", "kontext.json")
    assert terminal.code == 2
    assert "Node 142 loads the picture `reference.webp [output]`, which was not given. Give it" in terminal.err
    gradient(800, 600).save("garden.png")
    for flags in (["--image", "garden.png"], ["--image", "142=garden.png"], ["--set", "142.image=garden.png"]):
        terminal.run("workflow", "run", "kontext.json", *flags)
        assert terminal.code == 0, terminal.err
    gradient(600, 800).save("reference.webp")
    terminal.run("workflow", "run", "kontext.json")
    sizes = [(order.plans[0].width, order.plans[0].height) for order in terminal.backend.orders]
    assert sizes == [(1184, 880), (1184, 880), (1184, 880), (880, 1184)]
    assert [picture.size for picture in terminal.backend.orders[-1].context] == [(880, 1184)]
    terminal.run("workflow", "run", "kontext.json", "--image", "garden.png", "--image", "reference.webp")
    assert (terminal.code, "no node of the workflow loads it" in terminal.err) == (2, True)


def test_the_workflow_inside_a_picture_is_run(terminal: Terminal) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("prompt", json.dumps(plain()))
    gradient().save("comfy.png", pnginfo=chunks)
    terminal.run("workflow", "run", "comfy.png")
    assert (terminal.code, terminal.out) == (0, "a-red-boat-7.png\n")
    gradient().save("bare.png")
    terminal.run("workflow", "run", "bare.png")
    assert (terminal.code, terminal.err) == (
        2,
        "error (invalid_request): Picture `bare.png` holds no workflow. Give one that ComfyUI made, or a JSON file.\n",
    )


def test_a_workflow_is_painted_on_a_server(terminal: Terminal) -> None:
    """Names are the server's, a picture of this machine is sent there."""
    backend = FakeBackend(models=("kontext",))
    told: queue.Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        service, stop = fake_service(settings_for(terminal.folder / "server"), backend), asyncio.Event()
        async with listening(build(service)) as url, worker_of(service):
            models = {"models": [{"name": "kontext", "family": "flux"}]}
            await service.workers.register("knows-names", "native", 1, models)
            told.put((url, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    url, loop, stop = told.get(timeout=30)
    gradient(800, 600).save("reference.webp")
    workflow = saved(example("flux-kontext-basic"), "kontext.json")
    names = ("--map", "flux1-dev-kontext_fp8_scaled=kontext", "--server", url)
    try:
        terminal.run("workflow", "explain", workflow, *names)
        assert terminal.out.startswith("Runs natively: 1184x880 with checkpoint `kontext`.\n")
        terminal.run("workflow", "run", workflow, *names)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
    assert (terminal.code, terminal.out) == (0, "make-it-a-winter-evening-keep-the-784381637916598.png\n")
    assert [picture.size for picture in backend.orders[0].context] == [(1184, 880)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"1": ', "Workflow `bad.json` is not valid JSON"),
        ("no picture", "Picture `bad.json` is not a picture that can be read"),
        ("{}", "The workflow has no nodes"),
    ],
)
def test_a_file_that_holds_no_workflow_is_refused(terminal: Terminal, content: str, told: str) -> None:
    Path("bad.json").write_text(content)
    terminal.run("workflow", "run", "bad.json")
    assert terminal.code == 2 and told in terminal.err


def test_a_missing_file_and_a_broken_flag_are_said(terminal: Terminal) -> None:
    terminal.run("workflow", "explain", "gone.json")
    assert "Workflow `gone.json` cannot be read (No such file or directory). Check the path." in terminal.err
    terminal.run("workflow", "explain", saved(plain()), "--set", "prompt")
    assert "'prompt' is not of the form NAME=VALUE." in terminal.err


def test_the_commands_of_the_page_on_workflows_are_understood(terminal: Terminal) -> None:
    page = (DOCS / "11-workflows.md").read_text(encoding="utf-8")
    lines = [
        line.partition("  #")[0]
        for block in re.findall(r"^```sh\n(.*?)^```", page, re.S | re.M)
        for line in block.splitlines()
    ]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("limner ")]
    assert len(commands) > 4
    for name, *arguments in commands:
        command: click.Command = importlib.import_module(f"limner.cli.{name}").command
        if isinstance(command, click.Group):
            command, *arguments = command.commands[arguments[0]], *arguments[1:]
        with command.make_context(name, arguments, obj=Application()):
            pass
