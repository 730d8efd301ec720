"""FLUX checkpoints: every layout gives the same network to the last bit; whatever is broken is named."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.loaders import single_file_utils
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor

from limner.engine.checkpoints import Given, find_checkpoint, list_checkpoints
from limner.engine.components import Networks
from limner.engine.families.flux import Flux
from limner.engine.families.flux_names import infer_config, transformer_parts
from limner.engine.families.flux_weights import (
    Components,
    header_targets,
    load_components,
    load_family,
    precision_policy,
)
from limner.engine.families.registry import family_module
from limner.engine.needs import FAMILIES
from limner.engine.precision import Precision
from limner.engine.tensor_files import open_tensors
from limner.errors import BrokenCheckpoint, LimnerError, Unsupported
from tests.support.checkpoints import state, write
from tests.support.small_flux import (
    WRITTEN,
    SmallFlux,
    original_transformer,
    save_folder,
    save_split,
    save_whole,
    small_flux,
)

PARTS = small_flux()
SCHNELL = small_flux(seed=1, guidance_embeds=False)
NOWHERE = Path("/nowhere")
LAYOUTS = {"folder": "diffusers", "small": "split", "all": "whole"}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the same small checkpoint in every layout."""
    root = tmp_path_factory.mktemp("models")
    save_folder(PARTS, root / "folder")
    save_split(PARTS, root)
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


def answers(parts: Components | SmallFlux) -> list[Tensor]:
    """What the networks make of a fixed input: pooled vector, text features, velocity, pixels."""
    with torch.inference_mode():
        pooled = cast(Any, parts.text_encoder)(torch.tensor([[52, 3, 4, 30, 53, 53]])).pooler_output
        text = cast(Any, parts.text_encoder_2)(torch.tensor([[4, 5, 7, 1, 0, 0]])).last_hidden_state
        tokens = torch.arange(6.0 * 64).sin().view(1, 6, 64)
        distilled = cast(Any, parts.transformer).config.guidance_embeds
        velocity = cast(Any, parts.transformer)(
            hidden_states=tokens,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=torch.tensor([0.3]),
            guidance=torch.tensor([3.5]) if distilled else None,
            img_ids=torch.arange(18.0).view(6, 3),
            txt_ids=torch.zeros(6, 3),
        ).sample
        pixels = cast(Any, parts.vae).decode(torch.arange(16.0 * 4 * 6).sin().view(1, 16, 4, 6)).sample
    return [pooled, text, velocity, pixels]


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of a safetensors file."""
    tensors = {name: tensor.clone() for name, tensor in open_tensors(file).load().items()}
    change(tensors)
    write(tensors, file, WRITTEN)


def failure(name: str | Path, models: Path = NOWHERE, given: Given | None = None) -> LimnerError:
    """The error that finding and loading a checkpoint ends in."""
    with pytest.raises(LimnerError) as caught:
        load_components(find_checkpoint(str(name), models, NOWHERE, given))
    return caught.value


@pytest.mark.parametrize(("name", "layout"), LAYOUTS.items())
def test_every_layout_gives_bit_identical_answers(models_dir: Path, name: str, layout: str) -> None:
    files = find_checkpoint(name, models_dir, NOWHERE)
    loaded = load_components(files)
    assert (files.layout, files.family) == (layout, "flux")
    for own, original in zip(answers(loaded), answers(PARTS), strict=True):
        assert torch.equal(own, original)
    for own, original in ((loaded.tokenizer, PARTS.tokenizer), (loaded.tokenizer_2, PARTS.tokenizer_2)):
        assert cast(Any, own)("a red boat").input_ids == cast(Any, original)("a red boat").input_ids
    encoder: Any = loaded.text_encoder_2
    assert encoder.shared.weight is encoder.encoder.embed_tokens.weight


def test_the_whole_configuration_follows_from_the_tensors(models_dir: Path) -> None:
    loaded = load_components(find_checkpoint("small", models_dir, NOWHERE))
    for own, original in (
        (loaded.transformer, PARTS.transformer),
        (loaded.vae, PARTS.vae),
    ):
        hidden = ("sample_size", "force_upcast", "axes_dims_rope", "out_channels")
        expected = {k: v for k, v in dict(cast(Any, original.config)).items() if k[0] != "_" and k not in hidden}
        assert {k: dict(cast(Any, own.config))[k] for k in expected} == expected
    for name in ("d_kv", "d_ff", "num_heads", "relative_attention_num_buckets", "dense_act_fn", "is_gated_act"):
        assert getattr(loaded.text_encoder_2.config, name) == getattr(PARTS.text_encoder_2.config, name)


def test_schnell_is_told_by_its_missing_guidance(tmp_path: Path) -> None:
    save_split(SCHNELL, tmp_path)
    loaded = load_components(find_checkpoint("small", tmp_path, NOWHERE))
    assert not cast(Any, loaded.transformer.config).guidance_embeds
    assert torch.equal(answers(loaded)[2], answers(SCHNELL)[2])


def test_the_published_sizes_need_no_metadata(tmp_path: Path) -> None:
    wide = small_flux(num_attention_heads=1, attention_head_dim=128, axes_dims_rope=[16, 56, 56])
    source = open_tensors(write(original_transformer(wide.transformer), tmp_path / "wide.safetensors"))
    config = infer_config(source, transformer_parts(source))
    assert config["axes_dims_rope"] == [16, 56, 56]
    assert (config["num_attention_heads"], config["num_layers"], config["num_single_layers"]) == (1, 1, 2)


def test_the_original_names_are_placed_as_diffusers_places_them(tmp_path: Path) -> None:
    """Every row of the published sizes carries its own number; the columns are left out."""
    with torch.device("meta"):
        published = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    random = torch.Generator().manual_seed(0)
    stored = {
        name: torch.rand(shape[0], *(1 for _ in shape[1:]), generator=random)
        for name, shape in ((name, tensor.shape) for name, tensor in original_transformer(published).items())
    }
    source = open_tensors(write(stored, tmp_path / "published.safetensors"))
    ours = {name: part.take(stored[part.name]) for name, part in transformer_parts(source).items()}
    theirs: dict[str, Tensor] = cast(Any, single_file_utils).convert_flux_transformer_checkpoint_to_diffusers(
        dict(stored)
    )
    assert ours.keys() == theirs.keys() == state(published).keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_single_file_may_carry_diffusers_names(split: Path) -> None:
    write(state(PARTS.transformer), split / "diffusion_models" / "plain.safetensors", WRITTEN)
    loaded = load_components(find_checkpoint("plain", split, NOWHERE))
    assert torch.equal(answers(loaded)[2], answers(PARTS)[2])


def test_an_embedding_under_its_second_name_is_found(split: Path) -> None:
    file = split / "text_encoders" / "t5xxl_fp16.safetensors"
    rewrite(file, lambda t: t.update({"encoder.embed_tokens.weight": t.pop("shared.weight")}))
    loaded = load_components(find_checkpoint("small", split, NOWHERE))
    assert torch.equal(answers(loaded)[1], answers(PARTS)[1])


@pytest.mark.parametrize("name", LAYOUTS)
def test_headers_alone_tell_what_adapters_may_change(models_dir: Path, name: str) -> None:
    files = find_checkpoint(name, models_dir, NOWHERE)
    told, real = header_targets(files), Flux(load_components(files)).adapter_targets()
    assert dict(told.denoiser) == dict(real.denoiser)
    assert dict(told.originals) == dict(real.originals)
    assert {part: dict(known) for part, known in told.texts.items()} == {k: dict(v) for k, v in real.texts.items()}


def test_two_checkpoints_share_what_lies_beside_them(models_dir: Path, split: Path) -> None:
    write(original_transformer(SCHNELL.transformer), split / "diffusion_models" / "schnell.safetensors", WRITTEN)
    shared, device = Networks(), torch.device("cpu")
    first, second = (
        load_family(find_checkpoint(name, split, NOWHERE), device, Precision(), shared) for name in ("small", "schnell")
    )
    ours, theirs = first.networks(), second.networks()
    assert [name for name in ours if ours[name] is theirs[name]] == ["text_encoder", "text_encoder_2", "vae"]


def test_weights_are_loaded_in_the_chosen_precision(models_dir: Path) -> None:
    files = find_checkpoint("small", models_dir, NOWHERE)
    half = torch.bfloat16
    loaded = load_components(files, "cpu", Precision(half, half, torch.float32, text_encoder_2=torch.float32))
    assert (loaded.transformer.dtype, loaded.text_encoder.dtype) == (half, half)
    assert (loaded.text_encoder_2.dtype, loaded.vae.dtype) == (torch.float32, torch.float32)


def test_the_policy_keeps_t5_out_of_float16(models_dir: Path) -> None:
    policy = precision_policy(find_checkpoint("small", models_dir, NOWHERE))
    assert not policy.bears("text_encoder_2", torch.float16)
    assert policy.bears("text_encoder", torch.float16)
    assert policy.parameters == sum(tensor.numel() for tensor in state(PARTS.transformer).values())


def test_the_registry_knows_flux_and_its_tokenizers(models_dir: Path) -> None:
    assert family_module("flux").load_family is load_family
    assert dict(FAMILIES["flux"].tokenizers) == {
        "tokenizer": ("clip", "text_encoder"),
        "tokenizer_2": ("t5", "text_encoder_2"),
    }
    entries = list_checkpoints(models_dir, NOWHERE)
    assert {entry.name: entry.problem for entry in entries} == dict.fromkeys(LAYOUTS, "")


# --- what is broken ---------------------------------------------------------------------------------------------------


def test_missing_tensors_are_counted_and_named(split: Path) -> None:
    file = split / "diffusion_models" / "small.safetensors"
    rewrite(file, lambda t: [t.pop(name) for name in list(t) if name.startswith("single_blocks.0.linear1")])
    error = failure("small", split)
    assert isinstance(error, BrokenCheckpoint)
    assert str(file) in error.message
    assert "lacks 8 of" in error.message
    assert "`single_transformer_blocks.0.attn.to_q.weight`" in error.message


@pytest.mark.parametrize("gone", ["vector_in.in_layer.weight", "txt_in.weight", "final_layer.linear.weight"])
def test_a_missing_landmark_is_named(split: Path, gone: str) -> None:
    file = split / "diffusion_models" / "small.safetensors"
    rewrite(file, lambda t: t.pop(gone))
    error = failure("small", split)
    assert gone in error.message
    assert "every FLUX denoiser has. Fetch it again." in error.message


def test_wrong_shapes_are_named_with_what_was_expected(split: Path) -> None:
    rewrite(split / "diffusion_models" / "small.safetensors", lambda t: t.update({"txt_in.bias": torch.ones(5)}))
    assert "`context_embedder.bias` is (5,), expected (32,)" in failure("small", split).message


def test_heads_of_an_unknown_size_ask_for_their_axes(split: Path) -> None:
    write(original_transformer(PARTS.transformer), split / "diffusion_models" / "small.safetensors")
    assert '{"axes_dims_rope": [a, b, c]}' in failure("small", split).message


def test_a_variant_that_reads_more_than_it_paints_is_refused(split: Path) -> None:
    fill = small_flux(in_channels=384, out_channels=64)
    write(original_transformer(fill.transformer), split / "diffusion_models" / "fill.safetensors", WRITTEN)
    error = failure("fill", split)
    assert isinstance(error, Unsupported)
    assert "reads 384 numbers a token and paints 64" in error.message


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("text_encoders/clip_l.safetensors", "needs a CLIP text encoder of width 16"),
        ("text_encoders/t5xxl_fp16.safetensors", "needs a T5 text encoder of width 24"),
        ("vae", "needs a VAE of 16 channels"),
        ("tokenizers/clip", "tokenizers/clip"),
        ("tokenizers/t5", "from the `tokenizer_2/` folder of the model's page) into"),
    ],
)
def test_a_missing_part_beside_a_split_file_says_where_it_belongs(split: Path, gone: str, says: str) -> None:
    path = split / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    error = failure("small", split)
    assert says in error.message
    assert str(split) in error.message


def test_a_t5_of_another_width_beside_it_is_not_taken(split: Path) -> None:
    file = split / "text_encoders" / "t5xxl_fp16.safetensors"
    rewrite(file, lambda t: t.update({name: x[..., :20].clone() for name, x in t.items() if x.shape[-1] == 24}))
    error = failure("small", split)
    assert "needs a T5 text encoder of width 24" in error.message
    assert "t5xxl_fp16.safetensors" in error.message


def test_a_umt5_beside_it_is_not_taken_for_a_t5(split: Path) -> None:
    file = split / "text_encoders" / "t5xxl_fp16.safetensors"
    table = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"
    rewrite(file, lambda t: t.update({table.format(1): t[table.format(0)]}))
    assert "needs a T5 text encoder of width 24" in failure("small", split).message


def test_a_wrong_t5_in_a_folder_is_named_before_the_transformer_is_read(folder: Path) -> None:
    config = folder / "text_encoder_2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"d_model": 20}))
    rewrite(
        folder / "text_encoder_2" / "model.safetensors",
        lambda t: (
            t.update({name: x[..., :20].clone() for name, x in t.items() if x.shape[-1] == 24})
            or t.update({name: x[:20].clone() for name, x in t.items() if name.endswith((".o.weight", ".wo.weight"))})
        ),
    )
    error = failure(folder)
    assert f"`{folder / 'text_encoder_2'}` answers features of 20 numbers; the transformer reads 24" in error.message
    assert "Choose the text encoders" in error.message


def test_a_failed_load_keeps_nothing(split: Path) -> None:
    rewrite(split / "diffusion_models" / "small.safetensors", lambda t: t.pop("img_in.bias"))
    shared = Networks()
    with pytest.raises(BrokenCheckpoint, match=r"x_embedder\.bias"):
        load_family(find_checkpoint("small", split, NOWHERE), torch.device("cpu"), Precision(), shared)
    gc.collect()
    assert shared.held_bytes() == 0


def test_a_text_encoder_of_another_kind_in_a_folder_is_named(folder: Path) -> None:
    config = folder / "text_encoder_2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "umt5"}))
    assert "holds a text encoder of type umt5; expected t5" in failure(folder).message


@pytest.mark.parametrize(("part", "gone"), [("tokenizer", "clip"), ("tokenizer_2", "t5")])
def test_a_damaged_tokenizer_is_named(split: Path, part: str, gone: str) -> None:
    (split / "tokenizers" / gone / "tokenizer.json").write_text("{}")
    error = failure("small", split)
    assert str(split / "tokenizers" / gone) in error.message


def test_clip_s_tokenizer_in_place_of_t5_s_is_refused(split: Path) -> None:
    shutil.rmtree(split / "tokenizers" / "t5")
    shutil.copytree(split / "tokenizers" / "clip", split / "tokenizers" / "t5")
    error = failure("small", split)
    assert str(split / "tokenizers" / "t5") in error.message
