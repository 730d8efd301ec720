"""SDXL's and SD 1.5's checkpoints: every layout gives the same network, and what is broken says why."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint  # pyright: ignore[reportUnknownVariableType]
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from limner.engine.adapter_targets import Place, network_targets
from limner.engine.checkpoints import CheckpointFiles, find_checkpoint, list_checkpoints
from limner.engine.families.port import Row
from limner.engine.families.registry import family_module
from limner.engine.families.unet import Unet
from limner.engine.families.unet_names import infer_config, original_places, unet_parts
from limner.engine.families.unet_weights import (
    Components,
    Prediction,
    header_targets,
    load_components,
    load_family,
    precision_policy,
    read_prediction,
)
from limner.engine.precision import Precision, choose_precision
from limner.engine.residency import Networks
from limner.engine.signatures import recognise
from limner.errors import BrokenCheckpoint, Unsupported
from tests.support.checkpoints import state, write
from tests.support.small_unet import (
    UNETS,
    UNSHOWN,
    original_unet,
    save_folder,
    save_split,
    save_whole,
    small_unet,
    whole_tensors,
)

FAMILIES = ("sdxl", "sd15")
PARTS = {family: small_unet(family) for family in FAMILIES}


def find(name: str, models: Path) -> CheckpointFiles:
    return find_checkpoint(name, models, models / "builtin")


def networks(parts: Components) -> dict[str, nn.Module]:
    return {"unet": parts.unet, **parts.text_encoders, "vae": parts.vae}


def assert_same(parts: Components, family: str) -> None:
    for name, network in networks(parts).items():
        wanted = state(getattr(PARTS[family], name))
        got = state(network)
        assert got.keys() == wanted.keys()
        for key, tensor in got.items():
            assert torch.equal(tensor, wanted[key]), f"{name}.{key}"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_gives_the_same_weights_and_answers(family: str, tmp_path: Path) -> None:
    save_folder(PARTS[family], tmp_path / "folder")
    save_whole(PARTS[family], tmp_path, "all")
    save_split(PARTS[family], tmp_path, "split")
    expected: dict[str, Tensor] | None = None
    for name, layout in (("folder", "diffusers"), ("all", "whole"), ("split", "split")):
        files = find(name, tmp_path)
        assert (files.family, files.layout) == (family, layout)
        parts = load_components(files)
        assert_same(parts, family)
        network = Unet(parts)
        encoding = network.encode_text("a (red boat:1.3), a tree")
        painted = network.decode(torch.full((4, 8, 8), 0.3))
        answers = {"features": encoding.features, "painted": painted, **encoding.extra}
        expected = expected or answers
        assert all(torch.equal(answer, expected[what]) for what, answer in answers.items())
        assert parts.prediction == Prediction()
    assert {entry.name: entry.problem for entry in list_checkpoints(tmp_path, tmp_path / "builtin")} == {
        "folder": "",
        "all": "",
        "split": "",
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_names_are_mapped_as_diffusers_maps_them(family: str) -> None:
    original = original_unet(PARTS[family])
    whole = {f"model.diffusion_model.{name}": tensor for name, tensor in original.items()}
    theirs = cast("Mapping[str, Tensor]", cast(Any, convert_ldm_unet_checkpoint)(whole, UNETS[family]))
    assert {ours: part.name for ours, part in unet_parts(original).items()} == {
        name: next(key for key, tensor in original.items() if tensor is converted) for name, converted in theirs.items()
    }


PUBLISHED: dict[str, dict[str, Any]] = {
    "sdxl": {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "attention_head_dim": [5, 10, 20],
        "block_out_channels": [320, 640, 1280],
        "cross_attention_dim": 2048,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 2,
        "projection_class_embeddings_input_dim": 2816,
        "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": True,
    },
    "sd15": {
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 768,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "layers_per_block": 2,
        "transformer_layers_per_block": [1, 1, 1, 1],
        "use_linear_projection": False,
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_published_networks_are_known_by_their_shapes(family: str) -> None:
    published = PUBLISHED[family]
    with torch.device("meta"):
        network = cast(nn.Module, cast(Any, UNet2DConditionModel).from_config(published))
    shapes = {name: tuple(tensor.shape) for name, tensor in state(network).items()}
    assert recognise(shapes) == family
    assert infer_config(family, shapes, {}) == {**published, "in_channels": 4, "out_channels": 4}
    places = original_places(network_targets(network))
    rising = [name for name in places if name.startswith("output_blocks.") and name.endswith(".conv")]
    known = {"sdxl": ["2.2", "5.2"], "sd15": ["2.1", "5.2", "8.2"]}[family]
    assert rising == [f"output_blocks.{place}.conv" for place in known]


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_may_use_the_original_names_whichever_layout_was_loaded(family: str) -> None:
    parts = unet_parts(original_unet(PARTS[family]))
    targets = network_targets(PARTS[family].unet)
    expected = {
        part.name.removesuffix(".weight"): (Place(ours.removesuffix(".weight")),)
        for ours, part in parts.items()
        if ours.removesuffix(".weight") in targets
    }
    assert original_places(targets) == expected
    assert len(expected) == len(targets)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", ["folder", "all", "split"])
def test_headers_tell_what_adapters_may_change(family: str, layout: str, tmp_path: Path) -> None:
    save = {"folder": lambda: save_folder(PARTS[family], tmp_path / "folder")}
    save |= {"all": lambda: save_whole(PARTS[family], tmp_path), "split": lambda: save_split(PARTS[family], tmp_path)}
    save[layout]()
    files = find("small" if layout == "split" else layout, tmp_path)
    told, known = header_targets(files), Unet(load_components(files)).adapter_targets()
    assert dict(told.denoiser) == dict(known.denoiser)
    assert dict(told.originals) == dict(known.originals)
    assert {name: dict(targets) for name, targets in told.texts.items()} == {
        name: dict(targets) for name, targets in known.texts.items()
    }
    assert set(known.texts) == set(PARTS_OF_TEXT[family])
    assert any(len(shape) == 4 for shape in known.denoiser.values())


PARTS_OF_TEXT = {"sdxl": ("text_encoder", "text_encoder_2"), "sd15": ("text_encoder",)}


def test_the_registry_loads_both_families_and_shares_their_networks(tmp_path: Path) -> None:
    save_whole(PARTS["sdxl"], tmp_path, "one")
    save_split(PARTS["sdxl"], tmp_path, "first")
    write(original_unet(PARTS["sdxl"]), tmp_path / "diffusion_models" / "second.safetensors", UNSHOWN["sdxl"])
    shared, device = Networks(), torch.device("cpu")
    families = [
        family_module("sdxl").load_family(find(name, tmp_path), device, Precision(), shared)
        for name in ("first", "second", "one")
    ]
    first, second, one = [dict(family.networks()) for family in families]
    assert [name for name in first if first[name] is second[name]] == ["text_encoder", "text_encoder_2", "vae"]
    assert not any(one[name] is first[name] for name in one)
    assert [family.name for family in families] == ["sdxl"] * 3


def test_marks_and_metadata_and_schedulers_tell_what_is_predicted(tmp_path: Path) -> None:
    mark = torch.zeros(0)
    parts = PARTS["sdxl"]
    save_whole(parts, tmp_path, "v", extra={"v_pred": mark})
    save_whole(parts, tmp_path, "zero", extra={"v_pred": mark, "ztsnr": mark})
    save_whole(parts, tmp_path, "written", config={"prediction_type": "v_prediction", "rescale_betas_zero_snr": True})
    save_folder(parts, tmp_path / "folder", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True})
    assert read_prediction(find("v", tmp_path)) == Prediction("v_prediction", False)
    zero = Prediction("v_prediction", True)
    for name in ("zero", "written", "folder"):
        assert read_prediction(find(name, tmp_path)) == zero
    loaded = Unet(load_components(find("zero", tmp_path)))
    assert loaded.parameterization(None, 64, 64).sigma_max > 4000
    assert_same(loaded.components, "sdxl")


def test_marks_in_a_file_of_the_denoiser_alone_are_no_weights(tmp_path: Path) -> None:
    save_split(PARTS["sdxl"], tmp_path)
    tensors = original_unet(PARTS["sdxl"]) | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    write(tensors, tmp_path / "diffusion_models" / "noob.safetensors", UNSHOWN["sdxl"])
    loaded = load_components(find("noob", tmp_path))
    assert loaded.prediction == Prediction("v_prediction", True)
    assert_same(loaded, "sdxl")


@pytest.mark.parametrize(
    ("extra", "config", "says"),
    [
        ({"edm_vpred.sigma_max": torch.tensor(80.0)}, {}, "another scale"),
        ({}, {"prediction_type": "sample"}, "predicts `sample`"),
    ],
)
def test_other_kinds_of_prediction_are_refused(
    extra: dict[str, Tensor], config: dict[str, str], says: str, tmp_path: Path
) -> None:
    save_whole(PARTS["sdxl"], tmp_path, extra=extra, config=config)
    with pytest.raises(Unsupported, match=says):
        load_components(find("all", tmp_path))


def test_a_scheduler_of_other_noise_is_refused(tmp_path: Path) -> None:
    save_folder(PARTS["sd15"], tmp_path / "folder", {"beta_schedule": "linear"})
    with pytest.raises(Unsupported, match="beta_schedule linear"):
        load_components(find("folder", tmp_path))
    (tmp_path / "folder" / "scheduler" / "scheduler_config.json").write_text("[", "utf-8")
    with pytest.raises(BrokenCheckpoint, match=r"scheduler_config\.json` is not readable"):
        load_components(find("folder", tmp_path))


def test_the_autoencoder_of_sdxl_is_kept_out_of_half_precision(tmp_path: Path) -> None:
    save_whole(PARTS["sdxl"], tmp_path, "xl")
    save_whole(PARTS["sd15"], tmp_path, "old")
    save_folder(PARTS["sdxl"], tmp_path / "mended")
    config = tmp_path / "mended" / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"force_upcast": False}), "utf-8")
    borne = {name: precision_policy(find(name, tmp_path)).vae_float16 for name in ("xl", "old", "mended")}
    assert borne == {"xl": False, "old": True, "mended": True}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_latent_is_scaled_as_the_family_was_published(family: str, tmp_path: Path) -> None:
    save_whole(PARTS[family], tmp_path)
    config = cast(Any, load_components(find("all", tmp_path)).vae.config)
    assert (config.scaling_factor, config.shift_factor) == ({"sdxl": 0.13025, "sd15": 0.18215}[family], None)


def without(*ends: str) -> dict[str, Tensor]:
    return {name: t for name, t in whole_tensors(PARTS["sdxl"]).items() if not name.endswith(ends)}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (without("middle_block.0.in_layers.0.weight"), r"lacks 1 of \d+ tensors of UNet2DConditionModel.*norm1"),
        (without("diffusion_model.out.2.weight"), "lacks `out.2.weight`"),
        (without("time_embed.0.weight", "time_embed.0.bias"), "lacks 2 of"),
        (without("resblocks.1.attn.in_proj_weight"), r"lacks 3 of \d+ tensors of CLIPTextModelWithProjection"),
        (whole_tensors(PARTS["sdxl"]) | {"model.diffusion_model.extra.weight": torch.ones(2)}, "1 tensors that UNet2D"),
        (whole_tensors(PARTS["sdxl"]) | {"first_stage_model.extra.weight": torch.ones(2)}, "1 tensors that Autoenc"),
    ],
)
def test_missing_and_foreign_tensors_are_named(tensors: dict[str, Tensor], says: str, tmp_path: Path) -> None:
    save_whole(PARTS["sdxl"], tmp_path, "other")
    write(tensors, tmp_path / "checkpoints" / "broken.safetensors", UNSHOWN["sdxl"])
    with pytest.raises(BrokenCheckpoint, match=says):
        load_components(find("broken", tmp_path))


def test_a_pickle_that_was_renamed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints" / "trap.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps({"model.diffusion_model.out.2.weight": [0.0]}, protocol=2))
    with pytest.raises(BrokenCheckpoint, match="is a pickle"):
        find("trap", tmp_path)


def test_heads_that_shapes_do_not_tell_are_asked_for(tmp_path: Path) -> None:
    save_split(PARTS["sdxl"], tmp_path)
    write(original_unet(PARTS["sdxl"]), tmp_path / "diffusion_models" / "small.safetensors", {"norm_num_groups": 4})
    with pytest.raises(BrokenCheckpoint, match=r"`attention_head_dim`.*limner\.config"):
        load_components(find("small", tmp_path))


def test_a_network_for_inpainting_alone_is_refused(tmp_path: Path) -> None:
    tensors = whole_tensors(PARTS["sd15"])
    name = "model.diffusion_model.input_blocks.0.0.weight"
    tensors[name] = torch.zeros(16, 9, 3, 3)
    save_whole(PARTS["sd15"], tmp_path, "other")
    write(tensors, tmp_path / "checkpoints" / "fill.safetensors", UNSHOWN["sd15"])
    with pytest.raises(Unsupported, match="reads 9 channels and paints 4"):
        load_components(find("fill", tmp_path))


def test_a_text_encoder_of_another_width_is_not_taken(tmp_path: Path) -> None:
    save_split(PARTS["sdxl"], tmp_path)
    (tmp_path / "text_encoders" / "clip_g.safetensors").unlink()
    with pytest.raises(BrokenCheckpoint, match=r"needs a CLIP text encoder wider than 96 .*clip_g"):
        find("small", tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_no_precision_ends_in_a_crash_or_in_numbers_that_are_none(family: str, dtype: str, tmp_path: Path) -> None:
    save_whole(PARTS[family], tmp_path)
    files, device = find("all", tmp_path), torch.device("cpu")
    wish: dict[str, str] = dict.fromkeys(("transformer", "text_encoder", "vae"), dtype)
    precision = choose_precision(device, wish, precision_policy(files))
    loaded = load_family(files, device, precision, Networks())
    assert (loaded.dtype is torch.bfloat16) == (dtype == "bfloat16")
    encoding = loaded.encode_text("a red boat")
    (answer,) = loaded.predict([Row(torch.ones(4, 8, 8), 500.0, encoding)])
    assert answer.dtype is torch.float32 and bool(torch.isfinite(answer).all())
    assert bool(torch.isfinite(loaded.decode(answer)).all())
