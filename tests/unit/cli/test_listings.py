"""`inspect`, `models`, `presets` and `doctor`: their whole output."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import limner.studio
from limner.config import Settings
from tests.support.records import gradient
from tests.unit.cli.conftest import Terminal


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for the engine's reports, so that they are the same everywhere."""
    report: dict[str, Any] = {
        "device": "cpu",
        "device_name": "A processor",
        "precision": {"transformer": "float32", "vae": "bfloat16"},
        "memory_total_bytes": 8 * 2**30,
        "memory_free_bytes": None,
        "threads": 2,
        "versions": {"torch": "2.13.0"},
        "problems": [],
    }
    module = ModuleType("limner.backends.native")

    def device_report(settings: object) -> dict[str, Any]:
        return report

    vars(module).update(BUILTIN_DIR=Path("nowhere"), device_report=device_report)
    monkeypatch.setitem(sys.modules, "limner.backends.native", module)
    monkeypatch.setattr(limner.studio, "missing_packages", list[str])
    return report


def test_inspect_tells_the_whole_recipe(terminal: Terminal) -> None:
    gradient().save("cat.png")
    Path("ink.safetensors").write_bytes(b"")
    terminal.run(
        *("generate", "a boat", "--negative", "fog", "--seed", "7", "--count", "2", "--preset", "progressive"),
        *("--image", "cat.png", "--lora", "ink.safetensors:0.5"),
    )
    terminal.run("inspect", "a-boat-8.png")
    assert terminal.code == 0
    assert re.sub(r"SHA-256 \w{12}", "SHA-256 …", terminal.out) == (
        "prompt      a boat\n"
        "negative    fog\n"
        "seed        8\n"
        "picture     2 of 2\n"
        "preset      progressive\n"
        "stage 1     176x224 · 9 steps · cfg 2 · euler_ancestral, simple · denoise 0.7\n"
        "stage 2     336x432 · 16 steps · cfg 1 · euler_ancestral, simple · denoise 0.7 · cache 0.37\n"
        "stage 3     672x864 · 16 steps · cfg 1 · dpmpp_sde, beta · denoise 0.6 · cache 0.12\n"
        "reference   cat.png (SHA-256 …)\n"
        "adapter     ink.safetensors at 0.5: applied, 8 of 8\n"
        "checkpoint  fake (fake, SHA-256 …)\n"
        "device      cpu, float32\n"
        "versions    limner 0.1.0\n"
    )
    assert terminal.err == "Make it again: limner generate --like a-boat-8.png\n"


def test_inspect_gives_the_recipe_as_json(terminal: Terminal) -> None:
    terminal.run("generate", "a boat", "--preset", "sketch", "--seed", "7")
    terminal.run("inspect", "a-boat-7.png", "--json")
    assert terminal.json["path"] == "a-boat-7.png"
    assert terminal.json["recipe"]["plan"]["seed"] == 7


def test_inspect_reads_foreign_pictures(terminal: Terminal) -> None:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("parameters", "a cat <lora:ink:0.5>\nNegative prompt: fog\nSteps: 4, Seed: 3, Model: dream")
    gradient().save("foreign.png", pnginfo=chunks)
    terminal.run("inspect", "foreign.png")
    assert terminal.out == ("prompt    a cat\nnegative  fog\nseed      3\nsteps     4\nadapters  ink at 0.5\n")
    assert terminal.err == "note: It was made with checkpoint `dream`; choose one of yours.\n"
    terminal.run("inspect", "foreign.png", "--json")
    assert terminal.json["foreign"]["request"]["prompt"] == "a cat"


def test_inspect_reads_a_graph_of_comfyui(terminal: Terminal) -> None:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("prompt", '{"1": {"class_type": "SaveImage", "inputs": {}}}')
    gradient().save("graph.png", pnginfo=chunks)
    terminal.run("inspect", "graph.png")
    assert (terminal.code, terminal.out.strip()) == (0, "")
    assert terminal.err == "note: Its graph was made with ComfyUI and has no KSampler that limner understands.\n"


def test_inspect_says_when_there_is_nothing(terminal: Terminal) -> None:
    gradient().save("plain.png")
    terminal.run("inspect", "plain.png")
    assert (terminal.code, terminal.out) == (2, "")
    assert terminal.err == (
        "error (not_found): Picture `plain.png` says nothing of how it was made. "
        "Choose one that limner or a web UI wrote and nobody has stripped since.\n"
    )
    terminal.run("inspect", "plain.png", "--json")
    assert terminal.json["error"]["code"] == "not_found"


def test_models_of_another_backend_are_its_names(terminal: Terminal) -> None:
    terminal.run("models", "--json")
    assert [(model["name"], model["default"]) for model in terminal.json["models"]] == [("fake", True)]


def test_presets_tells_where_each_comes_from(terminal: Terminal) -> None:
    folder = Path("home/presets")
    folder.mkdir(parents=True)
    (folder / "single.toml").write_text('description = "Mine."\n[[stages]]\nwidth = 128\nheight = 64\nsteps = 4\n')
    (folder / "wrong.toml").write_text("[[stages]]\nwidth = 72\nheight = 64\n")
    terminal.run("presets")
    assert terminal.code == 0
    told = terminal.out
    assert told.startswith(
        "anime (for SDXL)\n"
        "  Anime with SDXL checkpoints such as Illustrious, NoobAI and Pony.\n"
        "  832x1216 · 28 steps · cfg 6 · euler_ancestral, normal\n"
        "flux-portrait (for FLUX)\n"
        "  One stage of FLUX.1-dev, for people and photographs.\n"
        "  768x768 · 20 steps · cfg 1 · guidance 4 · euler, simple\n"
    )
    assert told[told.index("progressive") :].replace(told[told.index("sd15") : told.index("single")], "") == (
        "progressive (default, for Z-Image)\n"
        "  Three stages, from a small sketch to the finished picture; the default.\n"
        "  176x224 · 9 steps · cfg 2 · euler_ancestral, simple\n"
        "  336x432 · 16 steps · cfg 1 · euler_ancestral, simple · denoise 0.7 · cache 0.37\n"
        "  672x864 · 16 steps · cfg 1 · dpmpp_sde, beta · denoise 0.6 · cache 0.12\n"
        "single (FOLDER/home/presets/single.toml, goes before the shipped one)\n"
        "  Mine.\n"
        "  128x64 · 4 steps · cfg 1 · euler, simple\n"
        "sketch (for Z-Image)\n"
        "  One stage at half the size: a quick look at an idea.\n"
        "  336x432 · 12 steps · cfg 2 · euler, simple\n"
        "wrong (FOLDER/home/presets/wrong.toml)\n"
        "  cannot be used: Preset file FOLDER/home/presets/wrong.toml: `stages.0.width` is 72. "
        "Give a multiple of 16 from 64 to 4096.\n"
    )
    assert terminal.err == "Presets of your own go into FOLDER/home/presets, as NAME.toml.\n"


def test_presets_as_json(terminal: Terminal) -> None:
    terminal.run("presets", "--json")
    names = [(preset["name"], preset["default"], len(preset["stages"])) for preset in terminal.json["presets"]]
    assert [name for name in names if name[1] or name[2] > 1] == [("progressive", True, 3)]
    assert len(names) == 9
    anime = next(preset for preset in terminal.json["presets"] if preset["name"] == "anime")
    assert (anime["family"], anime["clip_skip"]) == ("sdxl", 2) and "worst quality" in anime["negative_prompt"]


def test_doctor_reports_the_machine(terminal: Terminal, engine: dict[str, Any]) -> None:
    terminal.run("doctor")
    assert terminal.code == 0, terminal.out
    assert re.sub(r"(limner|python|platform) ( *)\S.*", r"\1 \2…", terminal.out) == (
        "limner        …\n"
        "python        …\n"
        "platform      …\n"
        "home          FOLDER/home\n"
        "backend       native\n"
        "backends      comfyui, fake, native, openai, runpod\n"
        "device        cpu\n"
        "device name   A processor\n"
        "precision     transformer float32, vae bfloat16\n"
        "memory total  8.0 GB\n"
        "memory free   unknown\n"
        "threads       2\n"
        "versions      torch 2.13.0\n"
    )
    assert terminal.err == "Nothing is missing.\n"


def test_doctor_names_problems_and_fails(terminal: Terminal, engine: dict[str, Any]) -> None:
    engine["problems"] = ["No checkpoint was found. Put one into models/."]
    terminal.run("doctor", "--json")
    assert terminal.code == 1
    assert terminal.json["problems"] == engine["problems"]
    assert terminal.json["memory_total_bytes"] == 8 * 2**30


def test_doctor_says_how_to_get_the_engine(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limner.studio, "missing_packages", lambda: ["torch", "diffusers"])
    terminal.run("doctor")
    assert terminal.code == 1
    assert terminal.out.endswith(
        "problem: The engine needs packages that are not installed: torch, diffusers. "
        "Install them with: pip install 'limner[native]'\n"
    )


def test_doctor_says_when_the_home_cannot_be_written(
    terminal: Terminal, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, mode: int) -> bool:
        return False

    monkeypatch.setattr("os.access", refuse)
    terminal.run("doctor")
    assert "problem: FOLDER/home cannot be written. Choose another folder with LIMNER_HOME.\n" in terminal.out


def test_doctor_names_a_backend_and_a_preset_that_are_not_there(terminal: Terminal, engine: dict[str, Any]) -> None:
    terminal.run("doctor", "--json", LIMNER_BACKEND="comfy", LIMNER_GENERATION__PRESET="gone")
    assert terminal.code == 1
    assert terminal.json["problems"] == [
        "There is no backend `comfy`. Choose one of: comfyui, fake, native, openai, runpod.",
        "There is no preset `gone`. Choose one of: anime, flux-portrait, generic, "
        "kontext-edit, progressive, sd15, sdxl, single, sketch.",
    ]


def test_the_lists_say_when_the_default_is_not_among_them(terminal: Terminal, engine: dict[str, Any]) -> None:
    terminal.backend.name = "native"
    terminal.run("models", LIMNER_NATIVE__MODEL="gone")
    assert "warning: Checkpoint `gone`, which the settings name, is not here. Correct it or add it.\n" in terminal.err
    Path("folder").mkdir()
    terminal.run("models", LIMNER_NATIVE__MODEL_PATH="folder")
    assert "Requests that name no checkpoint use folder.\n" in terminal.err
    terminal.run("presets", LIMNER_GENERATION__PRESET="gone")
    assert terminal.err.startswith("warning: Preset `gone`, which the settings name, is not here. ")


def test_a_wrong_setting_ends_every_command(terminal: Terminal) -> None:
    for name in ("models", "presets", "doctor"):
        terminal.run(name, LIMNER_BAKEND="fake")
        assert terminal.code == 2
        assert terminal.err == (
            "error (config): Setting `bakend` (environment variable LIMNER_BAKEND) is unknown. "
            "Did you mean `backend`?\n"
        )


def test_the_environment_of_the_tests_is_not_read(tmp_path: Path) -> None:
    assert Settings(home=tmp_path).home == tmp_path
