"""Checkpoints: every layout gives the same network to the last bit; whatever is broken is named."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from limner.engine.checkpoint_judge import facts_of
from limner.engine.checkpoints import Given, find_checkpoint, list_checkpoints
from limner.engine.families.shared_weights import load_qwen3, load_vae
from limner.engine.families.zimage_weights import (
    Components,
    infer_config,
    load_components,
    precision_policy,
    transformer_parts,
)
from limner.engine.pipeline_folders import pipeline_class
from limner.engine.precision import Precision
from limner.engine.signatures import recognise
from limner.engine.tensor_files import file_sha256, open_tensors
from limner.engine.weights import read_config, require_real
from limner.errors import BrokenCheckpoint, LimnerError, NotFound, Unsupported
from tests.support.checkpoints import (
    TRANSFORMER,
    TinyComponents,
    original_transformer,
    save_folder,
    save_split,
    save_whole,
    state,
    tiny_components,
    write,
)

PARTS = tiny_components()
NOWHERE = Path("/nowhere")
LAYOUTS = {"folder": "diffusers", "sharded": "diffusers", "tiny": "split", "prefixed": "split", "all": "whole"}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """Nothing in this file may reach for the network."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the same tiny checkpoint in every layout."""
    root = tmp_path_factory.mktemp("models")
    save_folder(PARTS, root / "folder")
    save_folder(PARTS, root / "sharded", shard_bytes=200_000)
    save_split(PARTS, root)
    save_split(PARTS, root, "prefixed", prefix="model.diffusion_model.")
    save_whole(PARTS, root)
    return root


@pytest.fixture
def folder(models_dir: Path, tmp_path: Path) -> Path:
    """A diffusers folder that a test may damage."""
    return Path(shutil.copytree(models_dir / "folder", tmp_path / "folder"))


@pytest.fixture
def split(models_dir: Path, tmp_path: Path) -> Path:
    """A models folder of split files that a test may damage."""
    for part in ("diffusion_models", "text_encoders", "vae", "tokenizers"):
        shutil.copytree(models_dir / part, tmp_path / part)
    return tmp_path


def answers(parts: Components | TinyComponents) -> list[Tensor]:
    """What the networks make of a fixed input: text features, velocity, pixels, latent."""
    with torch.inference_mode():
        latent = torch.arange(16.0 * 4 * 6).sin().view(16, 1, 4, 6)
        ids = torch.tensor([[4, 5, 6, 2, 7]])
        text: Any = cast(Any, parts.text_encoder)(input_ids=ids, output_hidden_states=True).hidden_states
        velocity = cast(Any, parts.transformer)([latent], torch.tensor([0.3]), [text[-2][0]]).sample[0]
        pixels = cast(Any, parts.vae).decode(latent[:, 0][None]).sample
        return [text[-1], velocity, pixels, cast(Any, parts.vae).encode(pixels).latent_dist.mode()]


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], object], config: dict[str, Any] | None = None) -> None:
    """Change the tensors of a safetensors file."""
    tensors = open_tensors(file).load()
    change(tensors)
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    write(copies, file, config)


def failure(name: str | Path, models: Path = NOWHERE, given: Given | None = None) -> LimnerError:
    """The error that finding and loading a checkpoint ends in."""
    with pytest.raises(LimnerError) as caught:
        load_components(find_checkpoint(str(name), models, NOWHERE, given))
    return caught.value


@pytest.mark.parametrize(("name", "layout"), LAYOUTS.items())
def test_every_layout_gives_bit_identical_answers(models_dir: Path, name: str, layout: str) -> None:
    files = find_checkpoint(name, models_dir, NOWHERE)
    loaded = load_components(files)
    assert files.layout == layout
    for own, original in zip(answers(loaded), answers(PARTS), strict=True):
        assert torch.equal(own, original)
    assert files.name == name
    assert loaded.tokenizer("a red boat")["input_ids"] == PARTS.tokenizer("a red boat")["input_ids"]
    assert loaded.tokenizer.chat_template == cast(Any, PARTS.tokenizer).chat_template
    assert not any(parameter.requires_grad for parameter in loaded.transformer.parameters())


def test_loading_draws_nothing_at_random(models_dir: Path) -> None:
    before = torch.random.get_rng_state()
    load_components(find_checkpoint("tiny", models_dir, NOWHERE))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_are_loaded_in_the_chosen_precision(models_dir: Path) -> None:
    chosen = Precision(transformer=torch.bfloat16, text_encoder=torch.float32, vae=torch.bfloat16)
    loaded = load_components(find_checkpoint("folder", models_dir, NOWHERE), "cpu", chosen)
    assert loaded.transformer.dtype is torch.bfloat16
    assert loaded.text_encoder.dtype is torch.float32
    assert loaded.vae.dtype is torch.bfloat16
    # Rotary tables stay exact whatever the precision is.
    assert cast(Any, loaded.text_encoder).rotary_emb.inv_freq.dtype is torch.float32


def test_a_checkpoint_stored_in_bfloat16_is_told_by_its_header(tmp_path: Path) -> None:
    save_folder(tiny_components(dtype=torch.bfloat16), tmp_path / "half")
    policy = precision_policy(find_checkpoint(str(tmp_path / "half"), NOWHERE, NOWHERE))
    assert policy.stored == "BF16"
    assert policy.parameters == sum(tensor.numel() for tensor in state(PARTS.transformer).values())


def test_explicit_paths_are_used_instead_of_found_ones(models_dir: Path) -> None:
    file = models_dir / "diffusion_models" / "tiny.safetensors"
    given = Given(
        models_dir / "text_encoders" / "qwen.safetensors",
        models_dir / "vae" / "ae.safetensors",
        models_dir / "folder" / "tokenizer",
    )
    loaded = load_components(find_checkpoint(str(file), NOWHERE, NOWHERE, given))
    assert torch.equal(answers(loaded)[1], answers(PARTS)[1])


def test_a_single_file_may_carry_diffusers_names(models_dir: Path, split: Path) -> None:
    shutil.copy(models_dir / "folder/vae/diffusion_pytorch_model.safetensors", split / "vae" / "ae.safetensors")
    rewrite(split / "vae" / "ae.safetensors", lambda _: None, {"norm_num_groups": 4})
    plain = split / "diffusion_models" / "plain.safetensors"
    write(state(PARTS.transformer), plain, {key: TRANSFORMER[key] for key in ("axes_dims", "axes_lens")})
    loaded = load_components(find_checkpoint("plain", split, NOWHERE))
    assert torch.equal(answers(loaded)[1], answers(PARTS)[1])
    assert torch.equal(answers(loaded)[2], answers(PARTS)[2])


def test_the_published_sizes_need_no_metadata(tmp_path: Path) -> None:
    wide = tiny_components(dim=256, n_heads=2, n_kv_heads=2, axes_dims=[32, 48, 48], n_layers=1)
    source = open_tensors(write(original_transformer(wide.transformer), tmp_path / "wide.safetensors"))
    config = infer_config(source, transformer_parts(source))
    assert config["axes_dims"] == [32, 48, 48]
    assert (config["dim"], config["n_heads"], config["n_layers"], config["in_channels"]) == (256, 2, 1, 16)


def test_the_list_names_family_size_and_problem(models_dir: Path, tmp_path: Path) -> None:
    builtin = tmp_path / "weights"
    save_folder(PARTS, builtin / "sketchbook")
    entries = {entry.name: entry for entry in list_checkpoints(models_dir, builtin)}
    assert set(entries) == {"sketchbook", *LAYOUTS}
    assert [entry.name for entry in entries.values() if entry.builtin] == ["sketchbook"]
    assert all(entry.family == "zimage" and not entry.problem for entry in entries.values())
    parts = ("diffusion_models/tiny", "text_encoders/qwen", "vae/ae")
    expected = sum((models_dir / f"{part}.safetensors").stat().st_size for part in parts)
    assert entries["tiny"].size_bytes == expected


def test_a_foreign_checkpoint_is_listed_with_its_problem(split: Path) -> None:
    wan = {"blocks.0.self_attn.q.weight": torch.ones(4, 4), "blocks.0.cross_attn.q.weight": torch.ones(4, 4)}
    write(wan, split / "diffusion_models" / "z-image-really.safetensors")
    (split / "unet").mkdir()
    (split / "unet" / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    entries = {entry.name: entry for entry in list_checkpoints(split, NOWHERE)}
    assert entries["z-image-really"].family == "wan"
    assert "is Wan; this version paints Z-Image" in entries["z-image-really"].problem
    assert "is a pickle" in entries["old"].problem
    assert not entries["tiny"].problem


def test_an_unknown_name_lists_the_nearest(models_dir: Path) -> None:
    with pytest.raises(NotFound, match="`folder`"):
        find_checkpoint("foldr", models_dir, NOWHERE)
    with pytest.raises(NotFound, match="Put checkpoints into"):
        find_checkpoint("anything", NOWHERE, NOWHERE)


@pytest.mark.parametrize(
    ("names", "family"),
    [
        ({"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, "flux"),
        ({"single_transformer_blocks.0.attn.to_q.weight": (3072, 3072)}, "flux"),
        ({"double_stream_modulation_img.lin.weight": (2, 2), "double_blocks.0.img_attn.qkv.weight": (3, 1)}, "flux2"),
        ({"transformer_blocks.0.img_mlp.net.0.proj.weight": (4, 4)}, "qwenimage"),
        ({"joint_blocks.0.x_block.attn.qkv.weight": (4, 4)}, "sd3"),
        (
            {
                "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
                "conditioner.embedders.1.model.ln_final.weight": (1280,),
            },
            "sdxl",
        ),
        ({"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)}, "sd15"),
        ({"down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048)}, "sdxl"),
        ({"layers.0.attention.qkv.weight": (11520, 3840), "layers.0.adaLN_modulation.0.weight": (4, 256)}, "zimage"),
        ({"layers.0.attention.qkv.weight": (6912, 2304), "layers.0.adaLN_modulation.1.weight": (4, 256)}, "lumina2"),
        ({"blocks.0.self_attn.q.weight": (4, 4)}, "wan"),
        ({"something.weight": (4, 4)}, None),
    ],
)
def test_architectures_are_recognised_by_their_tensors(names: dict[str, tuple[int, ...]], family: str | None) -> None:
    assert recognise(names) == family


# --- what is broken ---------------------------------------------------------------------------------------------------


def _transformer_file(folder: Path) -> Path:
    return folder / "transformer" / "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_whatever_they_are_called(tmp_path: Path, suffix: str, zipped: bool) -> None:
    file = tmp_path / f"weights{suffix}"
    torch.save({"layers.0": torch.ones(2)}, file, _use_new_zipfile_serialization=zipped)
    error = failure(file)
    assert isinstance(error, BrokenCheckpoint)
    assert "is a pickle" in error.message
    assert str(file) in error.message
    assert "safetensors version" in error.message


def test_a_pickle_is_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return (pytest.fail, ("unpickled",))

    file = tmp_path / "model.safetensors"
    file.write_bytes(pickle.dumps(Bomb()))
    assert "is a pickle" in failure(file).message


def test_a_folder_of_pickles_is_refused_with_a_remedy(folder: Path) -> None:
    _transformer_file(folder).rename(folder / "transformer" / "diffusion_pytorch_model.bin")
    assert "pickles (`diffusion_pytorch_model.bin`)" in failure(folder).message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"abc", "not a sound safetensors file"),
        (b"\xff" * 64, "not a sound safetensors file"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00not json", "header is not readable"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "Git LFS pointer"),
        (b"GGUF\x03\x00\x00\x00", "end within the header"),
    ],
)
def test_foreign_bytes_are_named_for_what_they_are(folder: Path, content: bytes, reason: str) -> None:
    _transformer_file(folder).write_bytes(content)
    error = failure(folder)
    assert reason in error.message
    assert str(_transformer_file(folder)) in error.message


@pytest.mark.parametrize("length", [ord("<"), 0x0280, 0x0480])
def test_a_sound_file_is_never_taken_for_a_foreign_one(tmp_path: Path, length: int) -> None:
    # The file starts with its header's length: these lengths look like a web page and like two kinds of pickle.
    text = b'{"a":{"shape":[2],"dtype":"F32","data_offsets":[0,8]}}'
    file = tmp_path / "a.safetensors"
    file.write_bytes(length.to_bytes(8, "little") + text.ljust(length) + bytes(8))
    assert open_tensors(file).shapes == {"a": (2,)}


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"a": 1},
        {"__metadata__": 3},
        {"a": {"shape": [2], "dtype": "F32", "data_offsets": [0]}},
        {"a": {"shape": [2], "dtype": "F32", "data_offsets": [0, 4]}},
        {"a": {"shape": [-1, -2], "dtype": "F32", "data_offsets": [0, 8]}},
        {"a": {"shape": ["x"], "dtype": "F32", "data_offsets": [0, 8]}},
    ],
)
def test_a_header_that_makes_no_sense_is_a_broken_checkpoint(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    file = tmp_path / "odd.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(BrokenCheckpoint, match="is not a sound safetensors file"):
        open_tensors(file)


def test_a_truncated_file_says_how_much_is_missing(folder: Path) -> None:
    file = _transformer_file(folder)
    file.write_bytes(file.read_bytes()[:-5000])
    error = failure(folder)
    assert isinstance(error, BrokenCheckpoint)
    assert "is truncated" in error.message
    assert "tensors are incomplete: `" in error.message


def test_a_missing_shard_is_named(models_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models_dir / "sharded", tmp_path / "sharded"))
    gone = sorted((folder / "transformer").glob("*.safetensors"))[1]
    gone.unlink()
    error = failure(folder)
    assert f"lacks 1 of {len(list((models_dir / 'sharded/transformer').glob('*.safetensors')))} shards" in error.message
    assert gone.name in error.message


def test_an_index_may_not_point_outside_its_folder(models_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models_dir / "sharded", tmp_path / "sharded"))
    index = next((folder / "transformer").glob("*.index.json"))
    content = json.loads(index.read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], "../../secret.safetensors")
    index.write_text(json.dumps(content))
    assert "points outside its folder" in failure(folder).message


def test_json_of_bottomless_depth_is_a_broken_checkpoint(tmp_path: Path) -> None:
    deep = '{"a":' * 200_000
    for name in ("x.safetensors.index.json", "config.json", "model_index.json"):
        (tmp_path / name).write_text(deep)
    readers: tuple[Callable[[Path], object], ...] = (open_tensors, read_config, pipeline_class)
    for read in readers:
        with pytest.raises(BrokenCheckpoint, match="Fetch it again"):
            read(tmp_path)
    assert facts_of(tmp_path / "x.safetensors.index.json").kind == "broken"


def test_missing_tensors_are_counted_and_named(folder: Path) -> None:
    rewrite(_transformer_file(folder), lambda t: [t.pop(n) for n in list(t) if n.startswith("layers.1.attention.")])
    error = failure(folder)
    total = len(state(PARTS.transformer))
    assert f"lacks 6 of {total} tensors of ZImageTransformer2DModel: `layers.1.attention." in error.message
    assert "and 3 more" in error.message


def test_unexpected_tensors_are_named(folder: Path) -> None:
    rewrite(_transformer_file(folder), lambda t: t.update({"extra.weight": torch.ones(2)}))
    assert "holds 1 tensors that ZImageTransformer2DModel does not have: `extra.weight`" in failure(folder).message


def test_wrong_shapes_are_named_with_what_was_expected(folder: Path) -> None:
    rewrite(_transformer_file(folder), lambda t: t.update({"x_pad_token": torch.ones(1, 5)}))
    assert "`x_pad_token` is (1, 5), expected (1, 32)" in failure(folder).message


def test_integer_weights_are_unsupported(split: Path) -> None:
    file = split / "diffusion_models" / "tiny.safetensors"
    rewrite(file, lambda t: t.update({n: v.to(torch.int8) for n, v in t.items() if v.ndim == 2}))
    error = failure("tiny", split)
    assert isinstance(error, Unsupported)
    assert "quantised weights (I8: " in error.message


def test_heads_of_an_unknown_size_ask_for_their_axes(split: Path) -> None:
    rewrite(split / "diffusion_models" / "tiny.safetensors", lambda _: None)
    assert '{"axes_dims": [a, b, c]}' in failure("tiny", split).message


def test_a_contradictory_configuration_is_a_broken_checkpoint(folder: Path) -> None:
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"axes_dims": [2, 2, 2]}))
    error = failure(folder)
    assert isinstance(error, BrokenCheckpoint)
    assert "makes no network" in error.message


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("transformer", {"dim": "large"}),
        ("text_encoder", {"num_attention_heads": "x"}),
        ("text_encoder", {"hidden_size": -4}),
        ("vae", {"norm_num_groups": 0}),
        ("vae", {"block_out_channels": "abc"}),
    ],
)
def test_a_configuration_of_nonsense_names_its_folder(folder: Path, part: str, change: dict[str, object]) -> None:
    config = folder / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    error = failure(folder)
    assert isinstance(error, BrokenCheckpoint)
    assert f"{folder.name}/{part}` has a configuration that makes no network" in error.message


@pytest.mark.parametrize("content", ["", "{}", '{"version": "1.0", "model": {"type": "None"}, "added_tokens": []}'])
def test_a_damaged_tokenizer_is_named(folder: Path, content: str) -> None:
    (folder / "tokenizer" / "tokenizer.json").write_text(content)
    error = failure(folder)
    assert isinstance(error, BrokenCheckpoint)
    assert str(folder / "tokenizer") in error.message


def test_a_tokenizer_without_a_chat_template_says_what_to_put_beside_it(folder: Path) -> None:
    (folder / "tokenizer" / "chat_template.jinja").unlink()
    assert "has no chat template. Put the tokenizer_config.json" in failure(folder).message


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("transformer", "lacks its transformer/ folder"),
        ("text_encoder", "lacks `text_encoder/`"),
        ("vae", "lacks `vae/`"),
        ("tokenizer", "lacks `tokenizer/`"),
        ("transformer/config.json", "lacks its config.json"),
        ("model_index.json", "has no model_index.json"),
        ("tokenizer/tokenizer.json", "holds no tokenizer"),
    ],
)
def test_a_missing_part_of_a_folder_is_named(folder: Path, gone: str, says: str) -> None:
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert says in failure(folder).message


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("text_encoders", "needs a Qwen3 text encoder of width 24"),
        ("vae", "needs a VAE of 16 channels"),
        ("tokenizers", "tokenizers/qwen3"),
    ],
)
def test_a_missing_part_beside_a_split_file_says_where_it_belongs(split: Path, gone: str, says: str) -> None:
    shutil.rmtree(split / gone)
    error = failure("tiny", split)
    assert says in error.message
    assert str(split) in error.message


def test_the_fitting_text_encoder_is_chosen_among_several(split: Path) -> None:
    other = tiny_components().text_encoder
    narrow = {f"model.{n}": t[..., :16].clone() if "embed" in n else t.clone() for n, t in state(other).items()}
    write(narrow, split / "text_encoders" / "a-first.safetensors")
    assert find_checkpoint("tiny", split, NOWHERE).text_encoder.name == "qwen.safetensors"


def test_a_text_encoder_of_another_width_is_refused(models_dir: Path, split: Path) -> None:
    given = Given(text_encoder=split / "vae" / "ae.safetensors")
    assert "is not a Qwen3 text encoder" in failure("tiny", split, given).message
    with pytest.raises(BrokenCheckpoint, match="is not an image autoencoder"):
        load_vae(split / "text_encoders" / "qwen.safetensors", torch.float32)


def test_a_language_head_beside_the_text_encoder_is_left_out(split: Path) -> None:
    file = split / "text_encoders" / "qwen.safetensors"
    rewrite(file, lambda t: t.update({"lm_head.weight": torch.ones(14, 24)}), {"max_position_embeddings": 512})
    loaded = load_qwen3(file, torch.float32)
    assert set(state(loaded)) == set(state(PARTS.text_encoder))


def test_the_hash_follows_the_file(tmp_path: Path) -> None:
    file = write({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    first = file_sha256(file)
    assert file_sha256(file) == first
    write({"a": torch.zeros(3)}, file)
    assert file_sha256(file) != first


def test_nothing_may_be_left_on_the_meta_device() -> None:
    with torch.device("meta"):
        network = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="left without `weight`, `bias`"):
        require_real(network)
