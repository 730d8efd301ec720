"""Folders of other programs, used in place, and the index that remembers what lies in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from limner.backends.catalogue import Catalogue, Removal
from limner.backends.settings import NativeSettings
from limner.engine import checkpoint_judge, tensor_files
from limner.engine.checkpoint_index import CheckpointIndex, Fetched, rules
from limner.engine.checkpoints import (
    CheckpointEntry,
    Elsewhere,
    duplicates,
    family_of,
    find_checkpoint,
    list_checkpoints,
)
from limner.engine.needs import FAMILIES, strangeness
from limner.errors import BrokenCheckpoint, NotFound, StorageError
from tests.support.checkpoints import (
    TRANSFORMER,
    original_transformer,
    original_vae,
    save_folder,
    save_split,
    state,
    tiny_components,
    write,
)

PARTS = tiny_components()
NOWHERE = Path("/nowhere")
UNET = {"out.2.weight": (4, 320, 3, 3), "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)}
FACTS = {key: TRANSFORMER[key] for key in ("axes_dims", "axes_lens")}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split files and a diffusers folder, to be linked into the layouts of other programs."""
    root = tmp_path_factory.mktemp("pool")
    save_split(PARTS, root)
    save_folder(PARTS, root / "folder")
    return root


def forget() -> None:
    """As in a new process: nothing is remembered of files but what an index says."""
    vars(checkpoint_judge)["_facts"].cache_clear()
    vars(checkpoint_judge)["_ANSWERS"].clear()


@pytest.fixture(autouse=True)
def _forgetful() -> None:  # pyright: ignore[reportUnusedFunction]
    """What one test made this process remember of files is of no use to the next."""
    forget()


def put(pool: Path, source: str, target: Path) -> Path:
    """A copy of a file or folder of the pool, at another place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source_path = pool / source
    if source_path.is_dir():
        shutil.copytree(source_path, target)
    else:
        shutil.copy(source_path, target)
    return target


DENOISER, ENCODER, VAE = "diffusion_models/tiny.safetensors", "text_encoders/qwen.safetensors", "vae/ae.safetensors"


def comfyui(pool: Path, root: Path, name: str = "z-image", kind: str = "unet") -> Path:
    """ComfyUI's models folder with one checkpoint."""
    put(pool, DENOISER, root / kind / f"{name}.safetensors")
    put(pool, ENCODER, root / "clip" / "qwen.safetensors")
    put(pool, VAE, root / "vae" / "ae.safetensors")
    put(pool, "tokenizers", root / "tokenizers")
    return root


def listed(*folders: Path, index: Path | None = None, models: Path = NOWHERE) -> dict[str, CheckpointEntry]:
    return {entry.name: entry for entry in list_checkpoints(models, NOWHERE, None, Elsewhere(folders, index))}


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The headers that are read from now on."""
    read: list[Path] = []
    original = tensor_files.read_header

    def counted(path: Path) -> object:
        read.append(path)
        return original(path)

    monkeypatch.setattr(tensor_files, "read_header", counted)
    return read


def test_a_models_folder_of_comfyui_is_used_in_place(pool: Path, tmp_path: Path) -> None:
    root = comfyui(pool, tmp_path / "models")
    before = sorted(root.rglob("*"))
    for folder in (root, tmp_path):  # the models folder, or the installation around it
        entry = listed(folder)["z-image"]
        assert (entry.family, entry.layout, entry.problem) == ("zimage", "split", "")
        assert entry.path == root / "unet" / "z-image.safetensors"
    files = find_checkpoint("z-image", NOWHERE, NOWHERE, None, Elsewhere((root,)))
    assert files.text_encoder == root / "clip" / "qwen.safetensors"
    assert sorted(root.rglob("*")) == before


def test_a_folder_of_a1111_is_used_in_place(pool: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    put(pool, DENOISER, models / "Stable-diffusion" / "sub" / "z.safetensors")
    put(pool, ENCODER, models / "text_encoder" / "qwen.safetensors")
    put(pool, VAE, models / "VAE" / "ae.safetensors")
    put(pool, "tokenizers", models / "tokenizers")
    assert listed(tmp_path)["sub/z"].problem == ""


def test_a_hugging_face_cache_is_used_in_place(pool: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--Tongyi--Z-Image-Turbo"
    put(pool, "folder", repository / "snapshots" / "old")
    put(pool, "folder", repository / "snapshots" / "new")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("old")
    for folder in (tmp_path, tmp_path / "hub"):
        entries = listed(folder)
        assert list(entries) == ["Z-Image-Turbo"]
        assert entries["Z-Image-Turbo"].path == repository / "snapshots" / "old"
        assert entries["Z-Image-Turbo"].layout == "diffusers"
        found = find_checkpoint("Tongyi/Z-Image-Turbo", NOWHERE, NOWHERE, None, Elsewhere((folder,)))
        assert found.name == "Z-Image-Turbo"


def test_repositories_that_were_fetched_are_each_a_root(pool: Path, tmp_path: Path) -> None:
    fetched = tmp_path / "fetched"
    comfy = fetched / "Comfy-Org" / "z_image" / "split_files"
    put(pool, DENOISER, comfy / "diffusion_models" / "z_bf16.safetensors")
    put(pool, VAE, comfy / "vae" / "ae.safetensors")
    put(pool, ENCODER, fetched / "qwen" / "Qwen3-GGUF" / "deep" / "encoder.safetensors")
    put(pool, "folder/tokenizer", fetched / "qwen" / "Qwen3-GGUF" / "deep" / "tokenizer")
    put(pool, "folder", fetched / "Tongyi" / "Turbo")
    entries = listed(models=tmp_path)
    assert set(entries) == {"z_bf16", "Turbo"}
    assert [entry.problem for entry in entries.values()] == ["", ""]
    files = find_checkpoint("z_bf16", tmp_path, NOWHERE)
    assert files.text_encoder == fetched / "Tongyi" / "Turbo" / "text_encoder"
    assert files.tokenizer == fetched / "Tongyi" / "Turbo" / "tokenizer"
    shutil.rmtree(fetched / "Tongyi")
    files = find_checkpoint("z_bf16", tmp_path, NOWHERE)
    assert files.text_encoder.name == "encoder.safetensors"


def test_loose_files_are_told_apart_by_their_tensors(pool: Path, tmp_path: Path) -> None:
    put(pool, DENOISER, tmp_path / "anything.safetensors")
    put(pool, VAE, tmp_path / "vae.safetensors")
    put(pool, "folder/vae/diffusion_pytorch_model.safetensors", tmp_path / "vae2.safetensors")
    put(pool, ENCODER, tmp_path / "text.safetensors")
    lora = {"diffusion_model.layers.0.attention.to_q.lora_A.weight": torch.ones(2, 32)}
    write(lora, tmp_path / "lora.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"<html>")
    entries = listed(tmp_path)
    assert set(entries) == {"anything", "broken"}
    assert "is a web page" in entries["broken"].problem
    assert "needs the qwen3 tokenizer" in entries["anything"].problem
    put(pool, "tokenizers", tmp_path / "tokenizers")
    files = find_checkpoint("anything", NOWHERE, NOWHERE, None, Elsewhere((tmp_path,)))
    assert files.text_encoder.name == "text.safetensors"


def test_parts_of_ones_own_folder_go_before_those_of_others(pool: Path, tmp_path: Path) -> None:
    first, second = comfyui(pool, tmp_path / "a", "one"), comfyui(pool, tmp_path / "b", "two")
    elsewhere = Elsewhere((first, second))
    assert find_checkpoint("two", NOWHERE, NOWHERE, None, elsewhere).vae == second / "vae" / "ae.safetensors"
    shutil.rmtree(second / "vae")
    assert find_checkpoint("two", NOWHERE, NOWHERE, None, elsewhere).vae == first / "vae" / "ae.safetensors"
    shutil.rmtree(first / "vae")
    with pytest.raises(BrokenCheckpoint, match=r"needs a VAE of 16 channels.*nor in 1 other folders.*Put the file"):
        find_checkpoint("two", NOWHERE, NOWHERE, None, elsewhere)


def test_a_whole_checkpoint_lends_parts_to_its_own_kind_only(pool: Path, tmp_path: Path) -> None:
    put(pool, DENOISER, tmp_path / "unet" / "z.safetensors")
    folder = put(pool, "folder", tmp_path / "diffusers" / "turbo")
    files = find_checkpoint("z", tmp_path, NOWHERE)
    assert [files.text_encoder, files.vae, files.tokenizer] == [
        folder / name for name in ("text_encoder", "vae", "tokenizer")
    ]
    # The autoencoder of another family fits by its shapes, and would paint nothing but noise.
    write({"blocks.0.self_attn.q.weight": torch.ones(4, 4)}, folder / "transformer/diffusion_pytorch_model.safetensors")
    put(pool, ENCODER, tmp_path / "clip" / "qwen.safetensors")
    with pytest.raises(BrokenCheckpoint, match="needs a VAE of 16 channels"):
        find_checkpoint("z", tmp_path, NOWHERE)


def test_what_is_built_in_lends_nothing(pool: Path, tmp_path: Path) -> None:
    put(pool, DENOISER, tmp_path / "models" / "unet" / "z.safetensors")
    put(pool, "folder", tmp_path / "builtin" / "sketchbook")
    with pytest.raises(BrokenCheckpoint, match="needs a Qwen3 text encoder"):
        find_checkpoint("z", tmp_path / "models", tmp_path / "builtin")


def test_a_file_named_by_its_path_finds_its_parts_beside_it(pool: Path, tmp_path: Path) -> None:
    root = comfyui(pool, tmp_path / "models")
    files = find_checkpoint(str(root / "unet" / "z-image.safetensors"), NOWHERE, NOWHERE)
    assert files.vae == root / "vae" / "ae.safetensors"


def test_the_same_name_in_two_folders_is_told_apart(pool: Path, tmp_path: Path) -> None:
    first, second = comfyui(pool, tmp_path / "a"), comfyui(pool, tmp_path / "b")
    entries = listed(first, second, first)
    assert {name: entry.path.parent.parent for name, entry in entries.items()} == {
        "z-image": first,
        "b/z-image": second,
    }
    assert find_checkpoint("b/z-image", NOWHERE, NOWHERE, None, Elsewhere((first, second))).name == "b/z-image"


def test_the_same_weights_are_named_and_hashed_only_where_sizes_agree(pool: Path, tmp_path: Path) -> None:
    root = comfyui(pool, tmp_path, "one")
    put(pool, DENOISER, root / "unet" / "two.safetensors")
    other = original_transformer(tiny_components(seed=1).transformer)
    write(other, root / "unet" / "other.safetensors", FACTS)  # of the same size, and different
    write(other | {"x": torch.ones(1, 1)}, root / "unet" / "longer.safetensors", FACTS)
    index = CheckpointIndex(tmp_path / "index.json")
    found = duplicates(list(listed(root).values()), index)
    assert found == {"one": ["two"], "two": ["one"]}
    unet = root / "unet"
    assert index.known_sha256(unet / "other.safetensors")
    assert not index.known_sha256(unet / "longer.safetensors")


def test_an_unchanged_list_opens_no_file(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, index = comfyui(pool, tmp_path / "models"), tmp_path / "index.json"
    put(pool, "folder", root / "folder")
    for number in range(20):
        (root / "unet" / f"z{number}.safetensors").hardlink_to(put(pool, DENOISER, tmp_path / f"{number}"))
    first = listed(root, index=index)
    forget()
    read = reads(monkeypatch)
    assert listed(root, index=index) == first
    assert read == []
    added = put(pool, DENOISER, root / "unet" / "new.safetensors")
    entries = listed(root, index=index)
    assert set(entries) == {*first, "new"}
    assert set(read) == {added, root / "clip" / "qwen.safetensors", root / "vae" / "ae.safetensors"}


def test_a_change_is_noticed_in_the_file_and_in_its_parts(pool: Path, tmp_path: Path) -> None:
    root, index = comfyui(pool, tmp_path / "models"), tmp_path / "index.json"
    assert listed(root, index=index)["z-image"].problem == ""
    (root / "vae" / "ae.safetensors").rename(tmp_path / "aside")
    assert "needs a VAE" in listed(root, index=index)["z-image"].problem
    (tmp_path / "aside").rename(root / "vae" / "ae.safetensors")
    assert listed(root, index=index)["z-image"].problem == ""
    (root / "unet" / "z-image.safetensors").write_bytes(b"<html>")
    assert "is a web page" in listed(root, index=index)["z-image"].problem


def test_the_family_of_a_checkpoint_is_remembered(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = comfyui(pool, tmp_path / "models")
    wan = {"blocks.0.self_attn.q.weight": torch.ones(4, 4)}
    write(wan, root / "unet" / "video.safetensors")
    elsewhere = Elsewhere((root,), tmp_path / "index.json")
    asked = {name: family_of(name, NOWHERE, NOWHERE, elsewhere) for name in ("z-image", "video", "nothing")}
    assert asked == {"z-image": "zimage", "video": "wan", "nothing": None}
    assert family_of(str(root / "unet" / "z-image.safetensors"), NOWHERE, NOWHERE) == "zimage"
    forget()
    read = reads(monkeypatch)
    assert family_of("z-image", NOWHERE, NOWHERE, elsewhere) == "zimage"
    assert read == []


def test_neither_listing_nor_the_family_needs_torch(pool: Path, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from limner.backends.catalogue import Catalogue\n"
        "from limner.backends.settings import NativeSettings\n"
        "made = Catalogue(NativeSettings(models_dir=sys.argv[1]), Path('/nowhere'))\n"
        "print(made.family_of('tiny'), [entry.problem for entry in made.entries()], 'torch' in sys.modules)\n"
    )
    run = [sys.executable, "-c", program, str(pool)]
    assert subprocess.check_output(run, text=True).strip() == "zimage ['', ''] False"


def test_a_damaged_index_is_set_aside_and_begun_anew(pool: Path, tmp_path: Path) -> None:
    root, path = comfyui(pool, tmp_path / "models"), tmp_path / "index.json"
    for damage in ('{"version": 1', "[]", '{"version": 1, "files": {"a": 3}}', '{"version": 99}'):
        path.write_text(damage)
        index = CheckpointIndex(path)
        assert "is damaged" in index.notes[0]
        assert "limner models add" in index.notes[0]
        assert (tmp_path / "index.json.damaged").read_text() == damage
        assert listed(root, index=path)["z-image"].problem == ""
        assert CheckpointIndex(path).notes == []


def test_the_index_keeps_what_several_writers_learn(tmp_path: Path) -> None:
    file = write({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    path = tmp_path / "index.json"
    slow = CheckpointIndex(path)
    slow.learn(file, facts={"x": 1})
    quick = CheckpointIndex(path)
    quick.add(tmp_path)
    quick.record(Fetched("o/n", "c", str(tmp_path / "f"), ("a",)))
    quick.record(Fetched("o/n", "d", str(tmp_path / "f"), ("b",)))
    assert quick.sha256(file)
    quick.save()
    slow.save()
    read = CheckpointIndex(path)
    assert read.added == (tmp_path,)
    assert read.fetched == (Fetched("o/n", "d", str(tmp_path / "f"), ("a", "b")),)
    assert read.recall(file)["facts"] == {"x": 1}
    assert not list(tmp_path.glob("*.tmp"))


def test_hashes_outlive_the_rules_by_which_files_are_judged(tmp_path: Path) -> None:
    file = write({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    index = CheckpointIndex(tmp_path / "index.json")
    known = index.sha256(file)
    index.learn(file, facts={"kind": "denoiser"})
    index.save()
    content = json.loads((tmp_path / "index.json").read_text())
    assert content["rules"] == rules()
    (tmp_path / "index.json").write_text(json.dumps(content | {"rules": "older"}))
    later = CheckpointIndex(tmp_path / "index.json")
    assert later.known_sha256(file) == known
    assert "facts" not in later.recall(file)
    write({"a": torch.zeros(3)}, file)
    assert later.known_sha256(file) == ""


def test_an_index_that_cannot_be_written_is_no_hindrance(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert listed(pool, index=tmp_path / "file" / "index.json")["tiny"].problem == ""


def test_a_change_of_an_index_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    index = CheckpointIndex(tmp_path / "file" / "index.json")
    changes = (
        lambda: index.add(tmp_path),
        lambda: index.forget(tmp_path),
        lambda: index.record(Fetched("o/n", "c", str(tmp_path), ())),
    )
    for change in changes:
        with pytest.raises(StorageError, match=r"cannot be written: .* Check the permissions"):
            change()


def test_an_index_that_was_tampered_with_deletes_nothing_outside_its_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "fetched" / "o" / "n", tmp_path / "precious"
    folder.mkdir(parents=True)
    outside.write_text("x")
    (folder / "own").write_text("x")
    (folder / "linked").symlink_to(outside)
    (folder / "away").symlink_to(tmp_path)
    files = ("own", "linked", "away/precious", "../../../precious", str(outside))
    index = tmp_path / "index.json"
    CheckpointIndex(index).record(Fetched("o/n", "c", str(folder), files))
    catalogue = Catalogue(NativeSettings(models_dir=tmp_path, index_path=index), NOWHERE)
    removal = catalogue.removal("o/n")
    assert set(removal.files) == {folder / "own", folder / "linked"}
    catalogue.remove(Removal(fetched=removal.fetched, files=tuple(folder / file for file in files)))
    assert outside.read_text() == "x"
    assert not (folder / "own").exists()
    assert not (folder / "linked").is_symlink()


def test_a_closed_folder_is_listed_with_the_reason_beside_the_others(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = comfyui(pool, tmp_path / "models"), tmp_path / "other"
    closed = (put(pool, "folder", root / "closed"), put(pool, "folder", other))
    scandir, listdir = os.scandir, os.listdir

    def refusing(look: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def looked(path: Any) -> Any:
            if any(Path(path).is_relative_to(folder) for folder in closed):
                raise PermissionError(13, "Permission denied", str(path))
            return look(path)

        return looked

    monkeypatch.setattr(os, "scandir", refusing(scandir))
    monkeypatch.setattr(os, "listdir", refusing(listdir))
    entries = listed(root, other)
    assert {name: bool(entry.problem) for name, entry in entries.items()} == {
        "z-image": False,
        "closed": True,
        "other": True,
    }
    for folder in closed:
        said = entries[folder.name].problem
        assert said == f"`{folder}` cannot be read (Permission denied). Check its permissions."
    with pytest.raises(BrokenCheckpoint, match="cannot be read"):
        find_checkpoint("closed", NOWHERE, NOWHERE, None, Elsewhere((root,)))


def test_vaes_that_look_alike_are_told_apart_by_the_names_they_usually_have(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = next(need for need in cast(Any, FAMILIES["sd15"].needs)(UNET) if need.part == "vae")
    usual = {
        "sd15": ("vae-ft-mse-840000-ema-pruned.safetensors", "vae_ft_ema.safetensors", "sd-vae.safetensors"),
        "sdxl": ("sdxl_vae.safetensors", "sd_xl_base_vae.safetensors", "SDXL-VAE-fp16-fix.safetensors"),
    }
    for family, other in (("sd15", "sdxl"), ("sdxl", "sd15")):
        assert {strangeness(name, need, family) for name in usual[family]} == {0}
        assert {strangeness(name, need, family) for name in usual[other]} == {2}
        assert strangeness("anything.vae.safetensors", need, family) == 1
    root = comfyui(pool, tmp_path / "models")
    put(pool, VAE, root / "vae" / "sd-vae.safetensors")
    chosen = {"zimage": "ae.safetensors", "sd15": "sd-vae.safetensors"}
    monkeypatch.setattr("limner.engine.shelves.FAMILIES", {**FAMILIES, "sd15": FAMILIES["zimage"]})
    for family, file in chosen.items():

        def as_if(source: object, family: str = family) -> str:
            return family

        monkeypatch.setattr("limner.engine.shelves.require_family", as_if)
        assert find_checkpoint("z-image", NOWHERE, NOWHERE, None, Elsewhere((root,))).vae.name == file


def test_a_single_file_that_was_added_is_a_checkpoint_or_a_part(pool: Path, tmp_path: Path) -> None:
    root = comfyui(pool, tmp_path / "models")
    index = CheckpointIndex(tmp_path / "index.json")
    index.add(root / "unet" / "z-image.safetensors")
    assert listed(index=index.path)["z-image"].problem == ""
    lonely = put(pool, DENOISER, tmp_path / "elsewhere" / "lonely.safetensors")
    index.add(lonely)
    for part, place in ((ENCODER, "x"), (VAE, "y")):
        assert listed(index=index.path)["lonely"].problem
        index.add(put(pool, part, tmp_path / place / "part.safetensors"))
    put(pool, "tokenizers/qwen3", tmp_path / "x" / "tokenizer")
    assert listed(index=index.path)["lonely"].problem == ""
    lonely.unlink()
    assert "There is no file" in listed(index=index.path)["lonely"].problem


def test_a_request_loads_what_lies_in_a_further_folder(pool: Path, tmp_path: Path) -> None:
    from limner.backends import native
    from limner.backends.settings import NativeSettings
    from limner.engine.residency import Residency

    root = comfyui(pool, tmp_path / "models")
    index = tmp_path / "index.json"
    settings = NativeSettings(device="cpu", models_dir=tmp_path / "own", models_dirs=(root,), index_path=index)
    assert native.family_of(settings, "z-image") == "zimage"
    loaded = Residency(native.places_of(settings)).get("z-image")
    assert loaded.family.files.path == root / "unet" / "z-image.safetensors"
    assert loaded.sha256 == native.checkpoint_sha256(settings, "z-image")
    assert CheckpointIndex(index).known_sha256(root / "unet" / "z-image.safetensors") == loaded.sha256


def test_an_unknown_name_lists_names_of_all_folders(pool: Path, tmp_path: Path) -> None:
    root = comfyui(pool, tmp_path / "models")
    with pytest.raises(NotFound, match="The nearest: `z-image`"):
        find_checkpoint("z-imag", NOWHERE, NOWHERE, None, Elsewhere((root,)))


def test_half_precision_variants_are_read_where_there_is_nothing_else(pool: Path, tmp_path: Path) -> None:
    folder = put(pool, "folder", tmp_path / "folder")
    for part in ("transformer", "vae"):
        plain = folder / part / "diffusion_pytorch_model.safetensors"
        plain.rename(plain.with_name("diffusion_pytorch_model.fp16.safetensors"))
    index = {"weight_map": dict.fromkeys(state(PARTS.text_encoder), "model.fp16-00001-of-00001.safetensors")}
    encoder = folder / "text_encoder"
    (encoder / "model.safetensors").rename(encoder / "model.fp16-00001-of-00001.safetensors")
    (encoder / "model.safetensors.index.fp16.json").write_text(json.dumps(index))
    assert listed(tmp_path)["folder"].problem == ""


def test_a_vae_of_the_original_names_is_a_part(tmp_path: Path) -> None:
    facts = checkpoint_judge.facts_of(write(original_vae(PARTS.vae), tmp_path / "a.safetensors"))
    assert (facts.kind, facts.family) == ("part", "")
