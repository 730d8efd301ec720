"""`limner models` and `limner loras`: real small checkpoints in folders, and a hub of our own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from limner.engine import hub as fetching
from tests.support.checkpoints import (
    linear_targets,
    save_folder,
    save_split,
    tiny_components,
    write,
)
from tests.support.hub import Hub, serving
from tests.unit.cli.conftest import Terminal

PARTS = tiny_components()
NAME = "owner/tiny"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pool")
    save_split(PARTS, root)
    save_folder(PARTS, root / "folder")
    return root


@pytest.fixture
def own(terminal: Terminal, pool: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """limner's own models folder with the checkpoint `tiny`; nothing is built in."""
    monkeypatch.setattr("limner.backends.native.BUILTIN_DIR", terminal.folder / "builtin")
    terminal.backend.name = "native"
    models = terminal.folder / "home" / "models"
    for part in ("diffusion_models", "text_encoders", "vae", "tokenizers"):
        shutil.copytree(pool / part, models / part)
    return models


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, pool: Path) -> Iterator[Hub]:
    """A hub with the checkpoint as a diffusers folder."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(fetching, "PAUSES_S", ())
    folder = pool / "folder"
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with serving(Hub({NAME: files | {"model.safetensors": b"12345678", "README.md": b"# words"}})) as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


def squeezed(text: str) -> list[str]:
    return [re.sub(r"  +", "  ", line.strip()) for line in text.splitlines()]


def test_models_alone_lists_checkpoints_and_adapters(terminal: Terminal, own: Path) -> None:
    write({"a": torch.ones(1)}, terminal.folder / "home/adapters/pen.safetensors")
    write({"blocks.0.self_attn.q.weight": torch.ones(4, 4)}, own / "unet" / "video.safetensors")
    terminal.run("models", LIMNER_NATIVE__MODEL="tiny", COLUMNS="200")
    lines = squeezed(terminal.out)
    assert lines[0] == "checkpoint  family  size  where"
    assert re.fullmatch(
        r"tiny \(default\)  zimage  \d\.\d MB  FOLDER/home/models/diffusion_models/tiny\.safetensors", lines[1]
    )
    assert lines[2].startswith(
        "video  wan  0.0 MB  `FOLDER/home/models/unet/video.safetensors` is Wan; this version paints"
    )
    assert "adapter  where" in lines
    assert any(re.fullmatch(r"pen  FOLDER/home/adapters/pen\.safetensors", line) for line in lines)
    assert terminal.err == "Checkpoints go into FOLDER/home/models, adapters into FOLDER/home/adapters.\n"
    listed = terminal.out
    assert terminal.run("models", "list", LIMNER_NATIVE__MODEL="tiny", COLUMNS="200").out == listed
    assert (terminal.folder / "home" / "checkpoints.json").is_file()


def test_models_as_json(terminal: Terminal, own: Path) -> None:
    shutil.copy(own / "diffusion_models" / "tiny.safetensors", own / "diffusion_models" / "twin.safetensors")
    for args in (("models", "--json"), ("models", "list", "--json")):
        rows = {row["name"]: row for row in terminal.run(*args).json["models"]}
        assert rows["tiny"]["family"] == "zimage"
        assert rows["tiny"]["dtype"] == "F32"
        assert rows["tiny"]["same_as"] == ["twin"]
        assert rows["tiny"]["problem"] == ""


def test_a_damaged_index_is_said_and_begun_anew(terminal: Terminal, own: Path) -> None:
    (terminal.folder / "home" / "checkpoints.json").write_text("{")
    terminal.run("models")
    assert "warning: The index of checkpoints `FOLDER/home/checkpoints.json` is damaged" in terminal.err
    assert "tiny" in terminal.out
    assert "damaged" not in terminal.run("models").err


def test_show_tells_everything_about_a_checkpoint(terminal: Terminal, own: Path) -> None:
    terminal.run("models", "show", "tiny", LIMNER_NATIVE__DEVICE="cpu")
    rows = dict(line.split("  ", 1) for line in terminal.out.splitlines())
    rows = {name.strip(): value.strip() for name, value in rows.items()}
    assert (rows["name"], rows["family"], rows["layout"]) == ("tiny", "zimage", "split")
    assert rows["path"] == "FOLDER/home/models/diffusion_models/tiny.safetensors"
    assert re.fullmatch(
        r"FOLDER/\S+/tiny\.safetensors · F32 · [\d,]+ numbers · \d\.\d MB · SHA-256 \w{12}", rows["transformer"]
    )
    assert re.match(r"FOLDER/\S+/qwen\.safetensors · F32", rows["text encoder"])
    assert rows["precision"] == "transformer float32, text encoder float32, vae float32"
    assert re.fullmatch(r"0 of \d+ fit", rows["LoRAs"])
    assert "problem" not in rows


def test_show_as_json_names_every_part_and_the_loras_that_fit(terminal: Terminal, own: Path) -> None:
    targets = linear_targets(PARTS.transformer)
    (path, (rows, columns)) = next((p, s) for p, s in targets.items() if p.endswith("to_q"))
    lora = {f"transformer.{path}.lora_A.weight": torch.ones(2, columns)}
    lora[f"transformer.{path}.lora_B.weight"] = torch.ones(rows, 2)
    write(lora, terminal.folder / "home" / "adapters" / "pen.safetensors")
    terminal.run("models", "show", "tiny", "--json", LIMNER_NATIVE__DEVICE="cpu")
    record = terminal.json
    assert [part["part"] for part in record["parts"]] == ["transformer", "text_encoder", "vae", "tokenizer"]
    assert all(len(part["sha256"]) == 64 for part in record["parts"][:3])
    assert record["parameters"] == record["parts"][0]["parameters"] > 1000
    assert record["adapters_fitting"] == ["pen"]
    terminal.run("loras", "--model", "tiny", "--json")
    (pen,) = [row for row in terminal.json["loras"] if row["name"] == "pen"]
    assert (pen["family"], pen["fit"]["status"], pen["fit"]["matched"]) == ("zimage", "applied", 1)
    terminal.run("loras", "--model", "tiny")
    assert "pen  zimage · FOLDER/home/adapters/pen.safetensors\n  on tiny: applied, 1 of 1 modules" in terminal.out


def test_show_without_hashes_reads_no_whole_file(terminal: Terminal, own: Path) -> None:
    terminal.run("models", "show", "tiny", "--no-hash", "--json")
    assert {part["sha256"] for part in terminal.json["parts"]} == {""}


def test_show_of_a_broken_checkpoint_says_what_is_missing(terminal: Terminal, own: Path) -> None:
    shutil.rmtree(own / "vae")
    terminal.run("models", "show", "tiny")
    assert terminal.code == 0
    assert (
        "problem      `tiny.safetensors` needs a VAE of 16 channels; there is none in `FOLDER/home/models/vae`"
        in terminal.out
    )
    terminal.run("models", "show", "tinny")
    assert terminal.code == 2
    assert "There is no checkpoint `tinny`. The nearest: `tiny`." in terminal.err


def test_add_remembers_a_folder_and_remove_forgets_it(terminal: Terminal, own: Path, pool: Path) -> None:
    foreign = terminal.folder / "ComfyUI"
    shutil.copytree(pool / "diffusion_models", foreign / "models" / "unet")
    (foreign / "models" / "unet" / "tiny.safetensors").rename(foreign / "models" / "unet" / "other.safetensors")
    terminal.run("models", "add", "ComfyUI")
    assert re.fullmatch(r"other  zimage · split · F32 · \d\.\d MB\n", terminal.out)
    files = sorted(foreign.rglob("*"))
    assert "other" in [row["name"] for row in terminal.run("models", "--json").json["models"]]
    terminal.run("models", "remove", "other")
    assert terminal.code == 2
    assert "lies in `FOLDER/ComfyUI`, which was added as a whole" in terminal.err
    terminal.run("models", "remove", "ComfyUI", "--delete-files")
    assert terminal.code == 2
    assert "was not fetched by limner, which never deletes other files" in terminal.err
    terminal.run("models", "remove", "ComfyUI")
    assert terminal.out == "Forgot FOLDER/ComfyUI; nothing was deleted.\n"
    assert "other" not in [row["name"] for row in terminal.run("models", "--json").json["models"]]
    assert sorted(foreign.rglob("*")) == files


def test_add_of_a_file_judges_it_at_once(terminal: Terminal, own: Path, pool: Path) -> None:
    shutil.copy(own / "diffusion_models" / "tiny.safetensors", "mine.safetensors")
    shutil.rmtree(own / "text_encoders")
    terminal.run("models", "add", "mine.safetensors")
    assert terminal.code == 0
    assert "mine  zimage · F32" in terminal.out
    assert (
        "  cannot paint yet: `mine.safetensors` needs a Qwen3 text encoder of width 24; there is none in "
        in terminal.out
    )
    shutil.copy(pool / "text_encoders" / "qwen.safetensors", "encoder.safetensors")
    terminal.run("models", "add", "encoder.safetensors")
    assert "Parts of checkpoints: FOLDER/encoder.safetensors." in terminal.err
    terminal.run("models", "list", "--json")
    assert {row["name"]: row["problem"] for row in terminal.json["models"]} == {"tiny": "", "mine": ""}
    terminal.run("models", "remove", "mine", "--json")
    assert terminal.json == {"forgotten": "FOLDER/mine.safetensors", "deleted": []}
    assert Path("mine.safetensors").is_file()


def test_add_says_when_nothing_has_to_be_remembered(terminal: Terminal, own: Path) -> None:
    terminal.run("models", "add", "home/models/diffusion_models/tiny.safetensors")
    assert "looked through already" in terminal.err
    assert terminal.out.startswith("tiny  zimage")
    hidden = shutil.copy(own / "diffusion_models" / "tiny.safetensors", own / "tokenizers" / "hidden.safetensors")
    terminal.run("models", "add", str(hidden))
    assert "looked through already" not in terminal.err
    assert terminal.out.startswith("hidden  zimage")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone", None, "There is nothing at `FOLDER/gone`"),
        ("empty", {}, "`FOLDER/empty` holds no checkpoint. Name a safetensors or GGUF file"),
        ("page.safetensors", b"<html>", "is a web page, not weights"),
    ],
)
def test_add_refuses_what_is_no_checkpoint(
    terminal: Terminal, own: Path, name: str, content: object, says: str
) -> None:
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    elif content is not None:
        Path(name).mkdir()
    terminal.run("models", "add", name)
    assert terminal.code != 0
    assert says in terminal.err
    assert (
        not (terminal.folder / "home" / "checkpoints.json").exists()
        or '"added": []' in (terminal.folder / "home" / "checkpoints.json").read_text()
    )


def test_add_refuses_a_lora_with_its_place(terminal: Terminal, own: Path) -> None:
    write({"diffusion_model.layers.0.attention.to_q.lora_A.weight": torch.ones(2, 32)}, Path("pen.safetensors"))
    terminal.run("models", "add", "pen.safetensors")
    assert "is a LoRA, not a checkpoint" in terminal.err


def test_pull_fetches_and_remove_deletes_only_that(terminal: Terminal, own: Path, hub: Hub) -> None:
    terminal.run("models", "pull", NAME)
    assert terminal.code == 0, terminal.err
    assert re.fullmatch(r"owner/tiny  zimage · diffusers · F32 · \d\.\d MB\n", terminal.out)
    assert "Left out: model.safetensors (the same weights as in the folders)" in terminal.err
    folder = terminal.folder / "home" / "models" / "fetched" / "owner" / "tiny"
    assert (folder / "model_index.json").is_file()
    assert not (folder / "README.md").exists()
    (folder / "mine.txt").write_text("not limner's")
    terminal.run("models", "remove", NAME)
    assert terminal.code == 2
    assert re.search(
        r"was fetched: \d+ files of `owner/tiny`, \d\.\d MB, in .*Add --delete-files to delete them", terminal.err
    )
    assert (folder / "model_index.json").is_file()
    terminal.run("models", "remove", NAME, "--delete-files")
    assert re.search(r"Deleting \d+ files of `owner/tiny`.*model_index\.json", terminal.err)
    assert [path.name for path in folder.rglob("*")] == ["mine.txt"]
    assert (own / "diffusion_models" / "tiny.safetensors").is_file()
    terminal.run("models", "remove", "tiny", "--delete-files")
    assert terminal.code == 2
    assert "was not fetched by limner, which never deletes other files" in terminal.err


def test_add_of_a_hub_id_fetches_it(terminal: Terminal, own: Path, hub: Hub) -> None:
    shutil.rmtree(own)
    terminal.run("models", "add", NAME, "--json")
    (row,) = terminal.json["models"]
    assert (row["name"], row["family"], row["problem"]) == ("tiny", "zimage", "")
    known = json.loads((terminal.folder / "home" / "checkpoints.json").read_text())
    hashed = [path for path, facts in known["files"].items() if "sha256" in facts]
    assert sum(path.endswith(".safetensors") for path in hashed) == 3  # as the hub named them, and as was checked


def test_a_lora_that_was_fetched_is_listed_with_the_others(terminal: Terminal, own: Path, hub: Hub) -> None:
    file = write({"diffusion_model.layers.0.attention.to_q.lora_A.weight": torch.ones(2, 32)}, Path("x.safetensors"))
    hub.repositories["owner/ink"] = {"ink3.safetensors": file.read_bytes()}
    terminal.run("models", "pull", "owner/ink")
    assert "It holds LoRAs; `limner loras` lists them." in terminal.err
    assert "ink3  zimage · FOLDER/home/models/fetched/owner/ink/ink3.safetensors" in terminal.run("loras").out


def test_a_pull_that_breaks_off_says_that_it_goes_on(terminal: Terminal, own: Path, hub: Hub) -> None:
    hub.break_after = 100
    terminal.run("models", "pull", NAME, "--file", "transformer/diffusion_pytorch_model.safetensors")
    assert terminal.code == 1
    assert "run the command again to go on there" in terminal.err
    hub.break_after = None
    hub.asked.clear()
    terminal.run("models", "pull", NAME, "--file", "transformer/diffusion_pytorch_model.safetensors")
    assert terminal.code == 0
    assert hub.ranges() == ["bytes=100-"]


def test_a_pull_without_network_says_why(terminal: Terminal, own: Path, hub: Hub) -> None:
    terminal.run("models", "pull", NAME, HF_HUB_OFFLINE="1")
    assert (terminal.code, terminal.out) == (1, "")
    assert "error (unreachable): `owner/tiny` cannot be fetched: HF_HUB_OFFLINE is set." in terminal.err


def test_loras_of_other_programs_are_listed_in_place(terminal: Terminal, own: Path) -> None:
    write(
        {"diffusion_model.layers.0.attention.to_q.lora_A.weight": torch.ones(2, 32)},
        Path("forge/models/Lora/ink2.safetensors"),
    )
    (terminal.folder / "home" / "adapters").mkdir()
    (terminal.folder / "home" / "adapters" / "broken.safetensors").write_bytes(b"<html>")
    terminal.run("loras", LIMNER_NATIVE__MODELS_DIRS=str(terminal.folder / "forge"))
    assert "ink2  zimage · FOLDER/forge/models/Lora/ink2.safetensors\n" in terminal.out
    assert "  cannot be used: `FOLDER/home/adapters/broken.safetensors` is a web page" in terminal.out
    assert terminal.err == "LoRAs go into FOLDER/home/adapters.\n"


def test_further_folders_may_be_named_relative_to_the_settings_file(terminal: Terminal, own: Path, pool: Path) -> None:
    shutil.copytree(pool / "folder", terminal.folder / "more" / "second")
    Path("limner.toml").write_text('[native]\nmodels_dirs = ["more"]\n')
    assert [row["name"] for row in terminal.run("models", "--json").json["models"]] == ["tiny", "second"]


def test_an_unpainted_family_is_named_where_a_checkpoint_is_added(terminal: Terminal, own: Path) -> None:
    write({"blocks.0.self_attn.q.weight": torch.ones(4, 4)}, Path("video.safetensors"))
    terminal.run("models", "add", "video.safetensors")
    assert "is Wan; this version paints" in terminal.out
