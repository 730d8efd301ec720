"""`limner generate`: what it paints, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from limner.backends.fake import FakeBackend
from limner.errors import EngineFault, OutOfMemory
from limner.events import Event
from limner.media.metadata import read_recipe
from limner.media.pictures import sha256_of
from limner.ports import Order
from tests.support.records import gradient
from tests.unit.cli.conftest import Terminal

TINY = ("--preset", "sketch", "--size", "64x64", "--seed", "7")


def _timeless(text: str) -> str:
    return re.sub(r"\d+\.\d s$", "0.0 s", text, flags=re.M)


def test_a_prompt_becomes_a_file(terminal: Terminal) -> None:
    terminal.run("generate", "A red boat, on the sea!", *TINY)
    assert terminal.code == 0
    assert terminal.out == "a-red-boat-on-the-sea-7.png\n"
    assert _timeless(terminal.err) == "1 picture in 0.0 s\n"
    assert terminal.files == ["a-red-boat-on-the-sea-7.png"]
    assert read_recipe("a-red-boat-on-the-sea-7.png").request.prompt == "A red boat, on the sea!"


def test_without_flags_the_default_preset_paints(terminal: Terminal) -> None:
    terminal.run("generate", "a boat")
    (plan,) = terminal.backend.orders[0].plans
    assert [(stage.width, stage.height) for stage in plan.stages] == [(176, 224), (336, 432), (672, 864)]


def test_an_empty_prompt_is_painted_with_a_note(terminal: Terminal) -> None:
    terminal.run("generate", *TINY)
    assert (terminal.code, terminal.out) == (0, "picture-7.png\n")
    assert _timeless(terminal.err) == "note: The prompt is empty: the picture is whatever comes.\n1 picture in 0.0 s\n"


def test_every_flag_reaches_the_order(terminal: Terminal) -> None:
    gradient().save("cat.png")
    Path("home/adapters").mkdir(parents=True)
    Path("home/adapters/pen.safetensors").write_bytes(b"")
    terminal.run(
        *("generate", "a boat", "--negative", "fog", "--count", "2", "--preset", "single", "--size", "96x64"),
        *("--seed", "5", "--steps", "3", "--cfg", "4.5", "--sampler", "heun", "--schedule", "karras"),
        *("--lora", "pen:0.5", "--lora", "pen", "--on-adapter-mismatch", "fail", "--image", "cat.png"),
        *("--denoise", "0.4", "--model", "fake", "--format", "webp", "--quality", "50", "--out", "new/folder"),
    )
    assert terminal.code == 0, terminal.err
    (order,) = terminal.backend.orders
    request, stage = order.request, order.plans[0].stages[0]
    assert (request.negative_prompt, request.count, request.preset, request.model) == ("fog", 2, "single", "fake")
    assert (stage.width, stage.height, stage.steps, stage.cfg) == (96, 64, 3, 4.5)
    assert (stage.sampler, stage.schedule, stage.denoise) == ("heun", "karras", 0.4)
    assert [(adapter.name, adapter.weight) for adapter in request.adapters] == [("pen", 0.5), ("pen", 0.8)]
    assert (request.on_adapter_mismatch, request.references[0].path) == ("fail", "cat.png")
    assert terminal.out == "new/folder/a-boat-5.webp\nnew/folder/a-boat-6.webp\n"


def test_a_mask_goes_with_the_picture_and_is_found_again(terminal: Terminal) -> None:
    Path("album").mkdir()
    gradient(64, 64).save("album/cat.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    mask.save("album/mask.png")
    terminal.run("generate", "a boat", *TINY, "--reference", "album/cat.png", "--mask", "album/mask.png")
    assert terminal.code == 0, terminal.err
    picture = Image.open("a-boat-7.png")
    assert picture.crop((0, 0, 32, 64)).tobytes() == gradient(64, 64).crop((0, 0, 32, 64)).tobytes()
    recorded = read_recipe("a-boat-7.png").request.mask
    assert recorded and recorded.sha256 == sha256_of("album/mask.png")
    terminal.run("generate", "--like", "a-boat-7.png", "--out", "again.png")
    assert _same_pixels("a-boat-7.png", "again.png")
    terminal.run("generate", "a boat", *TINY, "--mask", "album/mask.png")
    assert (terminal.code, terminal.err.count("there is no picture")) == (2, 1)


def test_the_device_goes_into_the_settings(terminal: Terminal) -> None:
    terminal.run("generate", "a boat", *TINY, "--device", "gpu")
    assert terminal.code == 2
    assert terminal.err.startswith("error (config): Setting `native.device` (given directly) is 'gpu'. ")


def test_an_aspect_keeps_the_area(terminal: Terminal) -> None:
    terminal.run("generate", "a boat", "--preset", "sketch", "--aspect", "1:1")
    plan = terminal.backend.orders[0].plans[0]
    assert (plan.width, plan.height) == (384, 384)


def test_a_file_of_prompts_is_painted_together(terminal: Terminal) -> None:
    Path("prompts.txt").write_text("# two boats\n\na red boat\n  一艘蓝色的船  \n", encoding="utf-8")
    terminal.run("generate", "--prompts", "prompts.txt", *TINY)
    assert terminal.code == 0
    assert sorted(terminal.out.splitlines()) == ["a-red-boat-7.png", "一艘蓝色的船-7.png"]
    assert _timeless(terminal.err) == "2 pictures in 0.0 s\n"


def test_a_file_of_prompts_may_begin_with_a_byte_order_mark(terminal: Terminal) -> None:
    Path("prompts.txt").write_text("# boats\na red boat\n", encoding="utf-8-sig")
    terminal.run("generate", "--prompts", "prompts.txt", *TINY)
    assert terminal.out == "a-red-boat-7.png\n"


def test_prompts_come_from_stdin_too(terminal: Terminal) -> None:
    terminal.run("generate", "--prompts", "-", *TINY, stdin="a cat\na dog\n")
    assert len(terminal.out.splitlines()) == 2


def test_nothing_is_overwritten(terminal: Terminal) -> None:
    terminal.run("generate", "a boat", *TINY)
    terminal.run("generate", "a boat", *TINY)
    assert terminal.out == "a-boat-7-2.png\n"


@pytest.mark.parametrize(
    ("name", "format"), [("b.jpg", "JPEG"), ("b.jpeg", "JPEG"), ("b.webp", "WEBP"), ("b.PNG", "PNG")]
)
def test_the_name_of_the_file_chooses_the_format_and_is_kept(terminal: Terminal, name: str, format: str) -> None:
    terminal.run("generate", "a boat", *TINY, "--out", f"some/{name}")
    assert terminal.out == f"some/{name}\n"
    with Image.open(terminal.out.strip()) as image:
        assert image.format == format


def test_json_is_one_object(terminal: Terminal) -> None:
    terminal.run("generate", "a boat", *TINY, "--count", "2", "--json")
    answer = terminal.json
    assert (answer["status"], answer["failures"], answer["warnings"], answer["notes"]) == ("completed", [], [], [])
    first, second = answer["pictures"]
    assert len(first.pop("sha256")) == 64
    assert first == {
        "path": "a-boat-7.png",
        "format": "png",
        "width": 64,
        "height": 64,
        "prompt": "a boat",
        "negative_prompt": "",
        "seed": 7,
        "index": 0,
        "model": "fake",
        "device": "cpu",
        "adapters": [],
        "warnings": [],
    }
    assert second["seed"] == 8
    assert terminal.err == ""


# --- what goes wrong


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--size", "100x64"], "error (invalid_request): `width` is 100. Give a multiple of 16 from 64 to 4096.\n"),
        (
            ["--size", "64x64000"],
            "error (invalid_request): `height` is 64000. Give a multiple of 16 from 64 to 4096.\n",
        ),
        (["--steps", "0"], "error (invalid_request): `steps` is 0. Give at least 1.\n"),
        (["--steps", "201"], "error (invalid_request): `steps` is 201. Give at most 200.\n"),
        (["--count", "65"], "error (invalid_request): `count` is 65. Give at most 64.\n"),
        (["--aspect", "wide"], "error (invalid_request): `aspect_ratio` is 'wide'. Give a shape of two numbers "),
        (["--aspect", "0:1"], "error (invalid_request): `aspect_ratio` is '0:1'. Give a shape of two numbers "),
        (
            ["--sampler", "eular"],
            "error (invalid_request): `sampler` is 'eular'. There is no such sampler. Choose one of: ",
        ),
        (["--preset", "gone"], "error (not_found): There is no preset `gone`. Choose one of: anime, flux-portrait, "),
        (["--lora", "gone"], "error (not_found): There is no adapter `gone`. "),
        (["--model", "gone"], "error (not_found): There is no checkpoint `gone`. Known: fake.\n"),
        (["--image", "gone.png"], "error (invalid_request): Picture `gone.png` cannot be found (No such file"),
        (["--denoise", "0.5"], "error (invalid_request): denoise says how far to leave a reference picture, and there"),
        (["--like", "gone.png"], "error (invalid_request): Picture `gone.png` cannot be found (No such file"),
    ],
)
def test_a_wrong_request_is_explained(terminal: Terminal, args: list[str], told: str) -> None:
    terminal.run("generate", "a boat", *args)
    assert (terminal.code, terminal.out) == (2, "")
    assert terminal.err.startswith(told)
    assert terminal.files == []


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--size", "big"], "Error: Invalid value for '--size': 'big' is not of the form 672x864.\n"),
        (["--prompts", "gone.txt"], "Error: Invalid value for '--prompts': 'gone.txt': No such file or directory\n"),
        (["--prompts", "-"], "Error: Give either a prompt or --prompts, not both.\n"),
        (["--format", "png", "--out", "b.jpg"], "Error: --format png and the name b.jpg contradict each other.\n"),
        (["--out", "b.gif"], "Error: Pictures of the form .gif are not written. Choose .png, .jpg or .webp.\n"),
        (["--quality", "50"], "Error: --quality is for JPEG and WebP. Add --format jpeg or --format webp.\n"),
        (["--lora", ":1"], "Error: Invalid value for '--lora': ':1' has no name in front of the weight.\n"),
        (
            ["--colour", "red"],
            "Error: No such option '--colour'. (Did you mean one of: '--count', '--lora', '--out'?)\n",
        ),
    ],
)
def test_a_wrong_command_is_explained(terminal: Terminal, args: list[str], told: str) -> None:
    terminal.run("generate", "a boat", *args)
    assert (terminal.code, terminal.out) == (2, "")
    assert terminal.err.endswith(told)


@pytest.mark.parametrize(("content", "told"), [(b"# nothing\n", "holds no prompt"), (b"\xff\xfe", "is not UTF-8")])
def test_a_file_without_prompts_is_refused(terminal: Terminal, content: bytes, told: str) -> None:
    Path("prompts.txt").write_bytes(content)
    terminal.run("generate", "--prompts", "prompts.txt")
    assert terminal.code == 2
    assert told in terminal.err


def test_an_unreadable_picture_is_refused(terminal: Terminal) -> None:
    Path("cat.png").write_text("no picture")
    terminal.run("generate", "a boat", "--image", "cat.png")
    assert (terminal.code, terminal.err) == (
        2,
        "error (invalid_request): Picture `cat.png` is not a picture that can be read. "
        "Give a PNG, JPEG, WebP, BMP, GIF or TIFF file.\n",
    )


def test_a_failure_of_the_engine_has_another_exit_code(terminal: Terminal) -> None:
    terminal.backend = FakeBackend(failures={0: EngineFault("Latents are not finite. Use float32.")})
    terminal.run("generate", "a boat", *TINY)
    assert (terminal.code, terminal.out) == (1, "")
    assert terminal.err == "error (engine_fault): Latents are not finite. Use float32.\n"


def test_a_failure_is_json_too(terminal: Terminal) -> None:
    terminal.backend = FakeBackend(failures={0: OutOfMemory("No room.")})
    terminal.run("generate", "a boat", *TINY, "--json")
    assert terminal.code == 1
    assert terminal.json == {
        "status": "failed",
        "error": {"code": "out_of_memory", "message": "No room.", "retryable": True},
    }


def test_some_failures_are_partial_success(terminal: Terminal) -> None:
    terminal.backend = FakeBackend(failures={1: EngineFault("Latents are not finite.")})
    terminal.run("generate", "a boat", *TINY, "--count", "3")
    assert (terminal.code, terminal.out) == (3, "a-boat-7.png\na-boat-9.png\n")
    assert _timeless(terminal.err) == ("error (engine_fault): Latents are not finite. [a boat]\n2 pictures in 0.0 s\n")


def test_one_prompt_that_fails_does_not_stop_the_others(terminal: Terminal) -> None:
    class Picky(FakeBackend):
        async def run(self, order: Order) -> AsyncGenerator[Event, None]:
            if "dog" in order.request.prompt:
                raise EngineFault("No dogs.")
            async for event in super().run(order):
                yield event

    terminal.backend = Picky()
    terminal.run("generate", "--prompts", "-", *TINY, "--json", stdin="a cat\na dog\n")
    assert terminal.code == 3
    answer = terminal.json
    assert (answer["status"], len(answer["pictures"])) == ("partial", 1)
    assert answer["failures"] == [
        {"prompt": "a dog", "index": None, "code": "engine_fault", "message": "No dogs.", "retryable": False}
    ]


def test_an_adapter_that_does_not_fit_is_a_warning_or_an_error(terminal: Terminal) -> None:
    terminal.backend = FakeBackend(misfits=["pen.safetensors"])
    Path("pen.safetensors").write_bytes(b"")
    misfit = "LoRA `pen.safetensors` was skipped: it belongs to another architecture. Choose one of the same family."
    terminal.run("generate", "a boat", *TINY, "--lora", "pen.safetensors:1", "--json")
    assert terminal.code == 0
    assert terminal.err == f"warning: {misfit}\n"
    assert terminal.json["warnings"] == [misfit]
    assert terminal.json["pictures"][0]["adapters"] == [
        {
            "name": "pen.safetensors",
            "requested_weight": 1.0,
            "status": "skipped",
            "matched": 0,
            "total": 8,
            "reason": "it belongs to another architecture",
            "sha256": "",
        }
    ]
    terminal.run("generate", "a boat", *TINY, "--lora", "pen.safetensors", "--on-adapter-mismatch", "fail")
    assert (terminal.code, terminal.err) == (2, f"error (adapter_mismatch): {misfit}\n")


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_painted(terminal: Terminal) -> None:
    Path("file").write_text("")
    terminal.run("generate", "a boat", *TINY, "--out", "file/inside")
    assert terminal.code == 1
    assert terminal.err.startswith("error (storage): Pictures cannot be written to file/inside (")
    assert terminal.backend.orders == []


def test_a_reference_without_an_end_is_refused_at_once(terminal: Terminal) -> None:
    os.mkfifo("pipe.png")
    for path in ("pipe.png", "/dev/zero"):
        terminal.run("generate", "a boat", *TINY, "--image", path)
        assert terminal.code == 2
        assert terminal.err.startswith(f"error (invalid_request): Picture `{path}` is not a file. ")


def test_an_interrupt_ends_cleanly(terminal: Terminal) -> None:
    class Interrupted(FakeBackend):
        async def run(self, order: Order) -> AsyncGenerator[Event, None]:
            async for event in super().run(order):
                yield event
                if event.type == "image_generated":
                    raise KeyboardInterrupt

    terminal.backend = Interrupted()
    terminal.run("generate", "a boat", *TINY, "--count", "2")
    assert (terminal.code, terminal.out) == (130, "a-boat-7.png\n")
    assert terminal.err == "Stopping after this step.\n1 picture finished before.\nInterrupted.\n"
    assert terminal.files == ["a-boat-7.png"]


# --- again


def _same_pixels(first: str, second: str) -> bool:
    with Image.open(first) as one, Image.open(second) as two:
        return one.tobytes() == two.tobytes()


@pytest.mark.parametrize("index", [0, 1])
def test_like_makes_the_same_picture_again(terminal: Terminal, index: int) -> None:
    terminal.run("generate", "a boat", "--count", "2", "--seed", "7", "--steps", "3", "--aspect", "1:1")
    original = f"a-boat-{7 + index}.png"
    terminal.run("generate", "--like", original, "--out", "again.png")
    assert (terminal.code, terminal.out) == (0, "again.png\n")
    assert _same_pixels(original, "again.png")
    assert read_recipe("again.png").plan == read_recipe(original).plan


def test_like_does_not_care_what_the_settings_say_by_then(terminal: Terminal) -> None:
    terminal.run("generate", "a boat", "--seed", "7")
    terminal.run("generate", "--like", "a-boat-7.png", "--out", "again.png", LIMNER_GENERATION__STAGE2__STEPS="2")
    assert _same_pixels("a-boat-7.png", "again.png")


def test_like_can_be_changed_by_other_flags(terminal: Terminal) -> None:
    terminal.run("generate", "a boat", "--seed", "7", "--negative", "fog")
    terminal.run("generate", "a cat", "--like", "a-boat-7.png", "--seed", "8", "--size", "128x192", "--steps", "2")
    first, second = terminal.backend.orders
    plan, original = second.plans[0], first.plans[0]
    assert (plan.prompt, plan.negative_prompt, plan.seed, plan.width, plan.height) == ("a cat", "fog", 8, 128, 192)
    assert [stage.steps for stage in plan.stages] == [2, 16, 16]
    assert plan.stages[0].noise_seed == 8
    assert plan.stages[1].noise_seed != original.stages[1].noise_seed


def test_like_with_another_shape_or_preset(terminal: Terminal) -> None:
    terminal.run("generate", "a boat", "--seed", "7")
    terminal.run("generate", "--like", "a-boat-7.png", "--aspect", "1:1")
    terminal.run("generate", "--like", "a-boat-7.png", "--preset", "sketch")
    _, square, sketch = (order.plans[0] for order in terminal.backend.orders)
    assert [(stage.width, stage.height) for stage in square.stages] == [(208, 192), (384, 384), (768, 768)]
    assert (len(sketch.stages), sketch.seed) == (1, 7)


def test_like_keeps_the_format_when_the_quality_is_another(terminal: Terminal) -> None:
    terminal.run("generate", "a boat", *TINY, "--format", "webp", "--quality", "70")
    terminal.run("generate", "--like", "a-boat-7.webp", "--quality", "50", "--out", "again")
    assert (terminal.code, terminal.out) == (0, "again/a-boat-7.webp\n")
    assert read_recipe("again/a-boat-7.webp").request.output.quality == 50


def test_like_refuses_a_wrong_size(terminal: Terminal) -> None:
    terminal.run("generate", "a boat", *TINY)
    terminal.run("generate", "--like", "a-boat-7.png", "--size", "100x100")
    assert (terminal.code, terminal.err.count("multiple of 16")) == (2, 2)


def test_like_finds_the_reference_beside_the_picture_and_checks_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("album").mkdir()
    gradient().save("album/cat.png")
    monkeypatch.chdir("album")
    terminal.run("generate", "a boat", *TINY, "--image", "cat.png")
    monkeypatch.chdir("..")
    terminal.run("generate", "--like", "album/a-boat-7.png", "--out", "again.png")
    assert terminal.code == 0, terminal.err
    assert _same_pixels("album/a-boat-7.png", "again.png")
    gradient(32, 32).save("album/cat.png")
    terminal.run("generate", "--like", "album/a-boat-7.png", "--out", "again.png")
    assert terminal.code == 2
    assert "its SHA-256 differs" in terminal.err


def test_like_uses_the_originals_checkpoint_where_there_is_one(terminal: Terminal) -> None:
    terminal.backend = FakeBackend(models=("old", "new"))
    terminal.run("generate", "a boat", *TINY)
    terminal.backend = FakeBackend(models=("new", "old"))
    terminal.run("generate", "--like", "a-boat-7.png", "--out", "again.png")
    assert _same_pixels("a-boat-7.png", "again.png")


def test_like_warns_when_the_checkpoint_is_another(terminal: Terminal) -> None:
    terminal.backend = FakeBackend(models=("old",))
    terminal.run("generate", "a boat", *TINY)
    terminal.backend = FakeBackend(models=("new",))
    terminal.run("generate", "--like", "a-boat-7.png", "--out", "again.png")
    assert terminal.code == 0
    assert terminal.err.startswith("warning: checkpoint `new` is not the one that made a-boat-7.png (`old`, SHA-256 ")


def test_like_takes_what_it_can_from_a_foreign_picture(terminal: Terminal) -> None:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("parameters", "a cat\nSteps: 4, Sampler: Euler, Seed: 3, Size: 64x64, Model: dream")
    gradient().save("foreign.png", pnginfo=chunks)
    terminal.run("generate", "--like", "foreign.png", "--preset", "single", "--aspect", "1:1")
    assert terminal.code == 0, terminal.err
    assert terminal.err.startswith("note: It was made with checkpoint `dream`; choose one of yours.\n")
    plan = terminal.backend.orders[0].plans[0]
    assert (plan.prompt, plan.seed, plan.width, plan.stages[0].steps) == ("a cat", 3, 768, 4)


def test_the_answer_is_json_whatever_the_prompt(terminal: Terminal) -> None:
    terminal.run("generate", '"quoted"\n[bold]markup[/bold]', *TINY, "--json")
    answer: dict[str, Any] = json.loads(terminal.out)
    assert answer["pictures"][0]["path"] == "quoted-bold-markup-bold-7.png"
