"""Paint with the built-in checkpoint through the command line, as a new user does."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.media.metadata import read_recipe
from tests.e2e.conftest import Limner
from tests.support.checkpoints import write

SMALL = ("--size", "176x224", "--preset", "sketch", "--seed", "5")


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(Image.open(path).convert("RGB"), dtype=np.float32)


def the_picture(folder: Path) -> Path:
    (path,) = folder.glob("*.png")
    return path


def test_a_picture_is_painted_inspected_and_made_again_to_the_pixel(limner: Limner) -> None:
    done = limner("generate", "a red cat on a yellow background", *SMALL, "--out", "first")
    picture = the_picture(limner.folder / "first")
    assert picture.name in done.stdout
    recipe = json.loads(limner("inspect", picture, "--json").stdout)
    assert json.dumps(recipe).count("a red cat on a yellow background") >= 1
    limner("generate", "--like", picture, "--out", "again")
    assert (pixels(picture) == pixels(the_picture(limner.folder / "again"))).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_picture_is_made_again_with_as_many_threads(limner: Limner, threads: int) -> None:
    paint = ("generate", "three orange kites", "--size", "64x64", "--steps", "1", "--preset", "sketch", "--seed", "5")
    limner.environment["LIMNER_NATIVE__THREADS"] = str(threads)
    limner(*paint, "--out", "first")
    del limner.environment["LIMNER_NATIVE__THREADS"]
    limner("generate", "--like", the_picture(limner.folder / "first"), "--out", "again")
    assert read_recipe(the_picture(limner.folder / "again")).threads == threads


def test_the_three_stages_of_the_progressive_preset_reach_the_full_size(limner: Limner) -> None:
    done = limner(
        "generate", "a blue boat on the sea", "--preset", "progressive", "--seed", "1", "--json", "--out", "out"
    )
    assert pixels(the_picture(limner.folder / "out")).shape == (864, 672, 3)
    (told,) = json.loads(done.stdout)["pictures"]
    stages = json.loads(limner("inspect", told["path"], "--json").stdout)["recipe"]["outcome"]
    assert len(stages) == 3
    assert [stage["evaluations"] for stage in stages] == [9, 16, 31]


def test_easycache_in_a_preset_of_ones_own_skips_evaluations_and_says_how_many(limner: Limner) -> None:
    presets = limner.folder / "home" / "presets"
    presets.mkdir(parents=True)
    (presets / "quick.toml").write_text(
        "[[stages]]\nwidth = 176\nheight = 224\nsteps = 12\nsampler = 'euler'\n"
        "cache = {reuse_threshold = 1.0, start_percent = 0.1, end_percent = 0.95}\n",
        encoding="utf-8",
    )
    done = limner("generate", "a red boat", "--preset", "quick", "--seed", "1", "--json", "--out", "out")
    (told,) = json.loads(done.stdout)["pictures"]
    (stage,) = json.loads(limner("inspect", told["path"], "--json").stdout)["recipe"]["outcome"]
    assert stage["evaluations"] == 12
    assert 0 < stage["skipped"] < 12


@pytest.mark.parametrize(
    ("prompt", "corner", "strongest"),
    [
        ("a big red heart on a white background", (250, 249, 244), 0),
        ("a big green apple on a pink background", (250, 192, 208), 1),
        ("黄色背景，一颗大的蓝色星星", (255, 227, 140), 2),
    ],
)
def test_the_checkpoint_paints_the_colours_that_were_asked_for(
    limner: Limner, prompt: str, corner: tuple[int, int, int], strongest: int
) -> None:
    limner("generate", prompt, *SMALL, "--out", "out")
    picture = pixels(the_picture(limner.folder / "out"))
    found = picture[:24, :24].mean((0, 1))
    assert np.abs(found - np.array(corner)).max() < 30, found
    middle = picture[90:140, 65:110].mean((0, 1))
    assert middle.argmax() == strongest, middle


def test_several_prompts_of_a_file_are_painted_together(limner: Limner) -> None:
    (limner.folder / "prompts.txt").write_text("a red cat\n\n# a remark\n一只黑色的鸟，粉色背景\n", encoding="utf-8")
    limner("generate", "--prompts", "prompts.txt", *SMALL, "--count", "2", "--out", "out")
    assert len(list((limner.folder / "out").glob("*.png"))) == 4


def test_unknown_words_are_named_and_the_picture_is_made(limner: Limner) -> None:
    done = limner("generate", "a red cat with a zeppelin", *SMALL, "--out", "out")
    assert "zeppelin" in done.stderr
    the_picture(limner.folder / "out")


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_other_formats_carry_their_recipe_too(limner: Limner, suffix: str) -> None:
    limner("generate", "a red cat", *SMALL, "--out", f"cat.{suffix}")
    assert "a red cat" in limner("inspect", f"cat.{suffix}").stdout


def test_a_reference_picture_decides_the_composition(limner: Limner) -> None:
    reference = Image.new("RGB", (300, 300), (250, 192, 208))
    reference.save(limner.folder / "pink.png")
    limner("generate", "", *SMALL, "--image", "pink.png", "--denoise", "0.2", "--out", "out")
    found = pixels(the_picture(limner.folder / "out")).mean((0, 1))
    assert np.abs(found - np.array([250, 192, 208])).max() < 25


def test_a_mask_changes_its_part_of_the_picture_and_nothing_else(limner: Limner) -> None:
    Image.new("RGB", (176, 224), (250, 192, 208)).save(limner.folder / "pink.png")
    mask = Image.new("L", (176, 224))
    mask.paste(255, (32, 48, 144, 176))
    mask.save(limner.folder / "mask.png")
    limner(
        *("generate", "a big green apple on a pink background", *SMALL, "--image", "pink.png"),
        *("--mask", "mask.png", "--denoise", "1", "--out", "out"),
    )
    found = pixels(the_picture(limner.folder / "out"))
    inside = found[56:168, 40:136]
    assert ((inside[..., 1] - inside[..., 0]) > 40).mean() > 0.1
    found[40:184, 24:152] = (250, 192, 208)
    assert (found == (250, 192, 208)).all()


def test_the_ink_adapter_is_applied_in_full_and_changes_the_picture(limner: Limner) -> None:
    limner("generate", "a red apple on a white background", *SMALL, "--out", "plain")
    done = limner("generate", "a red apple on a white background", *SMALL, "--lora", "ink:1", "--json", "--out", "ink")
    (outcome,) = json.loads(done.stdout)["pictures"][0]["adapters"]
    assert outcome["status"] == "applied"
    assert outcome["matched"] == outcome["total"] > 0
    plain, ink = pixels(the_picture(limner.folder / "plain")), pixels(the_picture(limner.folder / "ink"))
    # A pen drawing leaves most of the paper inside the thing bare: it is lighter where the flat one is red.
    inside = (plain[..., 0] - plain[..., 1]) > 100
    assert inside.sum() > 500
    assert ink[inside].mean() > plain[inside].mean() + 15


def test_an_adapter_of_another_family_is_skipped_with_its_reason_or_refused(limner: Limner) -> None:
    foreign = limner.folder / "foreign.safetensors"
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    write({f"{name}.lora_down.weight": torch.zeros(4, 640), f"{name}.lora_up.weight": torch.zeros(640, 4)}, foreign)
    done = limner("generate", "a red cat", *SMALL, "--lora", f"{foreign}:1", "--json", "--out", "out")
    (outcome,) = json.loads(done.stdout)["pictures"][0]["adapters"]
    assert (outcome["status"], outcome["matched"]) == ("skipped", 0)
    assert outcome["reason"]
    refused = limner(
        "generate",
        "a red cat",
        *SMALL,
        "--lora",
        f"{foreign}:1",
        "--on-adapter-mismatch",
        "fail",
        "--out",
        "no",
        expect=2,
    )
    assert "foreign" in refused.stderr
    assert not list(limner.folder.glob("no/*.png"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_stopped_in_the_middle_leaves_no_half_picture(limner: Limner, how: signal.Signals) -> None:
    (limner.folder / "out").mkdir()
    with limner.start("generate", "a red cat", "--preset", "progressive", "--count", "3", "--out", "out") as process:
        time.sleep(6)
        assert process.poll() is None
        process.send_signal(how)
        process.communicate(timeout=60)
    assert process.returncode == (130 if how is signal.SIGINT else -9)
    for path in (limner.folder / "out").glob("*.png"):
        Image.open(path).load()
    limner("generate", "a red cat", *SMALL, "--out", "out")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a cat", "--size", "170x224"), "16"),
        (("a cat", "--size", "16x16"), "64"),
        (("a cat", "--size", "99999x16"), "4096"),
        (("a cat", "--steps", "0"), "steps"),
        (("a cat", "--steps", "1000000"), "200"),
        (("a cat", "--sampler", "eular"), "euler"),
        (("a cat", "--image", "nothing.png"), "nothing.png"),
        (("a cat", "--model", "sketchbok"), "sketchbook"),
        (("a cat", "--lora", "imk"), "ink"),
        (("a cat", "--preset", "progresive"), "progressive"),
        (("a cat", "--denoise", "0.5"), "reference"),
    ],
)
def test_wrong_values_are_refused_with_what_to_change(limner: Limner, arguments: tuple[str, ...], said: str) -> None:
    refused = limner("generate", *arguments, "--out", "out", expect=2)
    assert said in refused.stderr
    assert not list(limner.folder.glob("out/*"))


def test_an_empty_prompt_paints_something(limner: Limner) -> None:
    done = limner("generate", "", *SMALL, "--out", "out")
    assert "empty" in done.stderr
    the_picture(limner.folder / "out")


def test_doctor_and_lists_answer(limner: Limner) -> None:
    assert "sketchbook" in limner("models").stdout
    assert "progressive" in limner("presets").stdout
    assert "float32" in limner("doctor").stdout
