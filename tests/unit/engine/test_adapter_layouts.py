"""Names: every layout of FLUX, SDXL, SD 1.5 and Z-Image adapters finds its layers, and tells its family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limner.domain import AdapterStatus
from limner.engine.adapter_targets import AdapterTargets, Place, header_targets_of, originals_of
from limner.engine.adapters import LoadedAdapter, adapter_family, judge_adapter, load_adapter
from limner.engine.signatures import recognise
from limner.engine.tensor_files import open_tensors
from limner.engine.weights import Part
from tests.support.checkpoints import write

R = 2
RANDOM = torch.Generator().manual_seed(0)
AB, DOWN_UP = ("lora_A.weight", "lora_B.weight"), ("lora_down.weight", "lora_up.weight")

CLIP = {"encoder.layers.0.self_attn.q_proj": (6, 6), "encoder.layers.0.mlp.fc1": (12, 6)}
CLIP_G = {"text_model.encoder.layers.0.self_attn.q_proj": (10, 10), "text_projection": (10, 10)}
T5 = {"encoder.block.0.layer.0.SelfAttention.q": (14, 14), "encoder.block.0.layer.1.DenseReluDense.wi_0": (20, 14)}

_DOUBLE, _SINGLE = "transformer_blocks.0", "single_transformer_blocks.0"
FLUX_PARTS = {
    f"{_DOUBLE}.attn.to_q.weight": Part("double_blocks.0.img_attn.qkv.weight", slice(0, 8)),
    f"{_DOUBLE}.attn.to_k.weight": Part("double_blocks.0.img_attn.qkv.weight", slice(8, 16)),
    f"{_DOUBLE}.attn.to_v.weight": Part("double_blocks.0.img_attn.qkv.weight", slice(16, 24)),
    f"{_DOUBLE}.attn.to_out.0.weight": Part("double_blocks.0.img_attn.proj.weight"),
    f"{_DOUBLE}.norm1.linear.weight": Part("double_blocks.0.img_mod.lin.weight"),
    f"{_SINGLE}.proj_mlp.weight": Part("single_blocks.0.linear1.weight", slice(24, 56)),
    f"{_SINGLE}.attn.to_q.weight": Part("single_blocks.0.linear1.weight", slice(0, 8)),
    f"{_SINGLE}.attn.to_k.weight": Part("single_blocks.0.linear1.weight", slice(8, 16)),
    f"{_SINGLE}.attn.to_v.weight": Part("single_blocks.0.linear1.weight", slice(16, 24)),
    f"{_SINGLE}.proj_out.weight": Part("single_blocks.0.linear2.weight"),
    "norm_out.linear.weight": Part("final_layer.adaLN_modulation.1.weight", swapped=True),
    "proj_out.weight": Part("final_layer.linear.weight"),
}
FLUX = AdapterTargets(
    {
        **{f"{_DOUBLE}.attn.to_{x}": (8, 8) for x in ("q", "k", "v", "out.0")},
        f"{_DOUBLE}.norm1.linear": (48, 8),
        **{f"{_SINGLE}.attn.to_{x}": (8, 8) for x in "qkv"},
        f"{_SINGLE}.proj_mlp": (32, 8),
        f"{_SINGLE}.proj_out": (8, 40),
        "norm_out.linear": (16, 8),
        "proj_out": (4, 8),
    },
    {"text_encoder": CLIP, "text_encoder_2": T5},
    originals_of(FLUX_PARTS),
)
_ATTENTION = "down_blocks.1.attentions.0"
UNET_PARTS = {
    "conv_in.weight": Part("input_blocks.0.0.weight"),
    "down_blocks.1.resnets.0.conv1.weight": Part("input_blocks.4.0.in_layers.2.weight"),
    f"{_ATTENTION}.proj_in.weight": Part("input_blocks.4.1.proj_in.weight"),
    f"{_ATTENTION}.transformer_blocks.0.attn2.to_k.weight": Part(
        "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    ),
    f"{_ATTENTION}.transformer_blocks.0.attn2.to_out.0.weight": Part(
        "input_blocks.4.1.transformer_blocks.0.attn2.to_out.0.weight"
    ),
}
UNET_SHAPES: dict[str, tuple[int, ...]] = {
    "conv_in": (8, 4, 3, 3),
    "down_blocks.1.resnets.0.conv1": (8, 8, 3, 3),
    f"{_ATTENTION}.transformer_blocks.0.attn2.to_k": (8, 16),
    f"{_ATTENTION}.transformer_blocks.0.attn2.to_out.0": (8, 8),
}
SDXL = AdapterTargets(
    {**UNET_SHAPES, f"{_ATTENTION}.proj_in": (8, 8)},
    {"text_encoder": CLIP, "text_encoder_2": CLIP_G},
    originals_of(UNET_PARTS),
)
SD15 = AdapterTargets(
    {**UNET_SHAPES, f"{_ATTENTION}.proj_in": (8, 8, 1, 1)}, {"text_encoder": CLIP}, originals_of(UNET_PARTS)
)

Modules = dict[str, tuple[Tensor, Tensor]]


def pair(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Factors (down, up) of a layer of this shape, kernels as trainers write them."""
    up = torch.randn(shape[0], R, *[1] * (len(shape) - 2), generator=RANDOM)
    return torch.randn(R, *shape[1:], generator=RANDOM), up


def pairs(shapes: Mapping[str, tuple[int, ...]]) -> Modules:
    return {path: pair(shape) for path, shape in shapes.items()}


def dense(down: Tensor, up: Tensor) -> Tensor:
    return (up.flatten(1) @ down.flatten(1)).view(-1, *down.shape[1:])


def named(modules: Modules, pattern: str, halves: tuple[str, str]) -> dict[str, Tensor]:
    """A file's tensors; a pattern without dots flattens paths, as kohya does."""
    return {
        f"{pattern.format(path if pattern.endswith('.{}') or pattern == '{}' else path.replace('.', '_'))}.{half}": t
        for path, both in modules.items()
        for half, t in zip(halves, both, strict=True)
    }


def load(tmp_path: Path, tensors: dict[str, Tensor], targets: AdapterTargets, family: str) -> LoadedAdapter:
    file = write(tensors, tmp_path / "ink.safetensors")
    loaded = load_adapter(file, targets, family, checkpoint="tiny")
    judged = judge_adapter(file, targets, family, checkpoint="tiny")
    assert judged.outcome(1.0) == loaded.outcome(1.0).model_copy(update={"sha256": ""})
    return loaded


def assert_all_placed(loaded: LoadedAdapter, modules: Modules, component: str = "transformer") -> None:
    """Every module is where its own name says, and nothing is left out."""
    assert loaded.reason == ""
    assert loaded.adapter is not None
    placed = loaded.adapter.of(component)
    for path, (down, up) in modules.items():
        (delta,) = placed[path]
        torch.testing.assert_close(delta.matrix().flatten(1), dense(down, up).flatten(1))


DOTTED = ("transformer.{}", "unet.{}", "diffusion_model.{}", "base_model.model.{}", "{}")
FLAT = ("lora_unet_{}", "lora_transformer_{}", "lycoris_{}")


@pytest.mark.parametrize("pattern", [*DOTTED, *FLAT])
@pytest.mark.parametrize(("targets", "family"), [(FLUX, "flux"), (SDXL, "sdxl"), (SD15, "sd15")])
def test_the_networks_own_names_are_found_in_every_layout(
    tmp_path: Path, targets: AdapterTargets, family: str, pattern: str
) -> None:
    modules = pairs(targets.denoiser)
    halves = AB if pattern in DOTTED else DOWN_UP
    loaded = load(tmp_path, named(modules, pattern, halves), targets, family)
    assert loaded.matched == loaded.total == len(modules)
    assert_all_placed(loaded, modules)


@pytest.mark.parametrize("pattern", ["lora_unet_{}", "diffusion_model.{}", "model.diffusion_model.{}", "lycoris_{}"])
def test_fluxs_original_names_are_split_by_rows(tmp_path: Path, pattern: str) -> None:
    sizes = {"double_blocks.0.img_attn.qkv": (24, 8), "double_blocks.0.img_attn.proj": (8, 8),
             "double_blocks.0.img_mod.lin": (48, 8), "single_blocks.0.linear1": (56, 8),
             "single_blocks.0.linear2": (8, 40), "final_layer.adaLN_modulation.1": (16, 8),
             "final_layer.linear": (4, 8)}  # fmt: skip
    modules = pairs(sizes)
    loaded = load(tmp_path, named(modules, pattern, DOWN_UP), FLUX, "flux")
    assert (loaded.matched, loaded.total, loaded.reason) == (7, 7, "")
    assert loaded.adapter is not None
    assert set(loaded.adapter.deltas) == set(FLUX.denoiser)
    for name, part in FLUX_PARTS.items():
        whole = dense(*modules[part.name.removesuffix(".weight")])
        (delta,) = loaded.adapter.deltas[name.removesuffix(".weight")]
        torch.testing.assert_close(delta.matrix(), part.take(whole))


def test_xlabs_names_of_fluxs_streams_are_found(tmp_path: Path) -> None:
    down, up = pair((24, 8))
    stem = "double_blocks.0.processor.qkv_lora1"
    file = {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    loaded = load(tmp_path, file, FLUX, "flux")
    assert loaded.adapter is not None
    for letter, part in zip("qkv", up.chunk(3), strict=True):
        torch.testing.assert_close(loaded.adapter.deltas[f"{_DOUBLE}.attn.to_{letter}"][0].matrix(), part @ down)
    assert adapter_family(open_tensors(write(file, tmp_path / "x.safetensors"))) == "flux"


@pytest.mark.parametrize(("targets", "family"), [(SDXL, "sdxl"), (SD15, "sd15")])
@pytest.mark.parametrize("pattern", ["lora_unet_{}", "diffusion_model.{}", "lycoris_{}"])
def test_a_unets_original_names_are_found(tmp_path: Path, targets: AdapterTargets, family: str, pattern: str) -> None:
    own = {part.name.removesuffix(".weight"): name.removesuffix(".weight") for name, part in UNET_PARTS.items()}
    modules = pairs({original: targets.denoiser[path] for original, path in own.items()})
    loaded = load(tmp_path, named(modules, pattern, DOWN_UP), targets, family)
    assert_all_placed(loaded, {own[original]: both for original, both in modules.items()})


def test_kernels_of_one_pixel_and_matrices_stand_for_each_other(tmp_path: Path) -> None:
    path = f"{_ATTENTION}.proj_in"
    for targets, family, written in ((SDXL, "sdxl", (8, 8, 1, 1)), (SD15, "sd15", (8, 8))):
        modules = pairs({path: written})
        loaded = load(tmp_path, named(modules, "lora_unet_{}", DOWN_UP), targets, family)
        assert_all_placed(loaded, modules)
        assert loaded.adapter is not None
        assert loaded.adapter.deltas[path][0].matrix().shape == targets.denoiser[path]


def test_diffusers_oldest_names_are_found(tmp_path: Path) -> None:
    block = f"{_ATTENTION}.transformer_blocks.0.attn2"
    modules = pairs({f"{block}.to_k": (8, 16), f"{block}.to_out.0": (8, 8)})
    tensors = {
        f"unet.{block}.processor.{name}_lora.{half}.weight": tensor
        for name, path in (("to_k", f"{block}.to_k"), ("to_out", f"{block}.to_out.0"))
        for half, tensor in zip(("down", "up"), modules[path], strict=True)
    }
    assert_all_placed(load(tmp_path, tensors, SD15, "sd15"), modules)


CLIP_NAMES = (
    "text_encoder.text_model.{}",
    "base_model.model.text_encoder.text_model.{}",
    "text_encoders.clip_l.transformer.text_model.{}",
    "clip_l.transformer.text_model.{}",
    "lora_te1_text_model_{}",
    "lora_te_text_model_{}",
)


@pytest.mark.parametrize("pattern", CLIP_NAMES)
def test_clips_names_are_found_in_every_layout(tmp_path: Path, pattern: str) -> None:
    modules = pairs(CLIP)
    loaded = load(tmp_path, named(modules, pattern, DOWN_UP), SD15, "sd15")
    assert_all_placed(loaded, modules, "text_encoder")


@pytest.mark.parametrize(
    "pattern", ["text_encoder_2.{}", "text_encoders.t5xxl.transformer.{}", "lora_te3_{}", "lora_te2_{}"]
)
def test_fluxs_second_encoder_is_t5_whatever_its_number(tmp_path: Path, pattern: str) -> None:
    modules, clip = pairs(T5), pairs(CLIP)
    tensors = named(modules, pattern, DOWN_UP) | named(clip, "lora_te1_text_model_{}", DOWN_UP)
    loaded = load(tmp_path, tensors, FLUX, "flux")
    assert (loaded.matched, loaded.total) == (4, 4)
    assert_all_placed(loaded, modules, "text_encoder_2")
    assert_all_placed(loaded, clip, "text_encoder")


@pytest.mark.parametrize("pattern", ["text_encoder_2.{}", "text_encoders.clip_g.transformer.{}", "lora_te2_{}"])
def test_sdxls_second_encoder_is_kept_apart(tmp_path: Path, pattern: str) -> None:
    modules, clip = pairs(CLIP_G), pairs(CLIP)
    tensors = named(modules, pattern, DOWN_UP) | named(clip, "text_encoder.text_model.{}", AB)
    loaded = load(tmp_path, tensors, SDXL, "sdxl")
    assert_all_placed(loaded, modules, "text_encoder_2")
    assert_all_placed(loaded, clip, "text_encoder")


def test_a_text_encoder_may_have_original_names_too(tmp_path: Path) -> None:
    resblock = "transformer.resblocks.0.attn.in_proj"
    parts = {f"layers.0.{x}_proj.weight": Part(f"{resblock}_weight", slice(4 * i, 4 * i + 4))
             for i, x in enumerate("qkv")}  # fmt: skip
    targets = AdapterTargets(
        {},
        {"text_encoder": CLIP, "text_encoder_2": {name.removesuffix(".weight"): (4, 4) for name in parts}},
        text_originals={"text_encoder_2": originals_of(parts)},
    )
    modules = pairs({resblock: (12, 4)})
    loaded = load(tmp_path, named(modules, "lora_te2_{}", DOWN_UP), targets, "sdxl")
    assert loaded.adapter is not None
    for x, third in zip("qkv", dense(*modules[resblock]).chunk(3), strict=True):
        torch.testing.assert_close(
            loaded.adapter.text_deltas["text_encoder_2"][f"layers.0.{x}_proj"][0].matrix(), third
        )


# --- kinds across a fused layer ---------------------------------------------------------------------------------------


def test_lokr_and_dora_are_split_with_a_fused_layer(tmp_path: Path) -> None:
    w1, w2 = torch.randn(4, 2, generator=RANDOM), torch.randn(6, 4, generator=RANDOM)
    down, up = pair((56, 8))
    tensors = {
        "lycoris_double_blocks_0_img_attn_qkv.lokr_w1": w1,
        "lycoris_double_blocks_0_img_attn_qkv.lokr_w2": w2,
        "lycoris_double_blocks_0_img_attn_qkv.alpha": torch.tensor(64.0),
        "lycoris_single_blocks_0_linear1.lora_down.weight": down,
        "lycoris_single_blocks_0_linear1.lora_up.weight": up,
        "lycoris_single_blocks_0_linear1.dora_scale": torch.ones(56, 1),
    }
    loaded = load(tmp_path, tensors, FLUX, "flux")
    assert loaded.status is AdapterStatus.APPLIED
    assert loaded.adapter is not None
    for start, letter in enumerate("qkv"):
        (delta,) = loaded.adapter.deltas[f"{_DOUBLE}.attn.to_{letter}"]
        torch.testing.assert_close(delta.matrix(), torch.kron(w1, w2)[8 * start : 8 * start + 8])
    columns = load(tmp_path, tensors | {"lycoris_single_blocks_0_linear1.dora_scale": torch.ones(1, 8)}, FLUX, "flux")
    assert (columns.status, columns.matched, columns.total) == (AdapterStatus.PARTIAL, 1, 2)
    assert "DoRA over the columns of a fused layer, not supported yet: `single_blocks_0_linear1`" in columns.reason


def test_loha_and_dora_of_a_whole_layer_are_read(tmp_path: Path) -> None:
    halves = {"hada_w1_a": (8, R), "hada_w1_b": (R, 8), "hada_w2_a": (8, R), "hada_w2_b": (R, 8)}
    tensors = {
        f"lora_unet_{_ATTENTION.replace('.', '_')}_proj_in.{name}": torch.randn(shape, generator=RANDOM)
        for name, shape in halves.items()
    }
    tensors[f"lora_unet_{_ATTENTION.replace('.', '_')}_proj_in.dora_scale"] = torch.ones(1, 8)
    loaded = load(tmp_path, tensors, SDXL, "sdxl")
    assert (loaded.status, loaded.matched, loaded.total) == (AdapterStatus.APPLIED, 1, 1)


# --- what a name cannot mean ------------------------------------------------------------------------------------------


def test_a_layer_that_is_named_twice_is_placed_once_and_told(tmp_path: Path) -> None:
    modules = pairs({f"{_DOUBLE}.attn.to_q": (8, 8)})
    tensors = named(modules, "transformer.{}", AB) | named(modules, "diffusion_model.{}", AB)
    loaded = load(tmp_path, tensors, FLUX, "flux")
    assert (loaded.status, loaded.matched, loaded.total) == (AdapterStatus.PARTIAL, 1, 2)
    assert "1 named more than once" in loaded.reason


def test_a_few_layers_that_fit_by_chance_do_not_make_it_an_adapter_of_this_family(tmp_path: Path) -> None:
    modules = pairs({"double_blocks.0.img_attn.qkv": (24, 8), "single_blocks.0.linear1": (56, 8)})
    tensors = named(modules, "lora_unet_{}", DOWN_UP) | named(pairs(CLIP), "lora_te1_text_model_{}", DOWN_UP)
    tensors |= named(pairs({"double_blocks.1.img_attn.qkv": (24, 8)}), "lora_unet_{}", DOWN_UP)
    loaded = load(tmp_path, tensors, SD15, "sd15")
    assert (loaded.status, loaded.adapter, loaded.matched) == (AdapterStatus.SKIPPED, None, 0)
    assert "is for FLUX; checkpoint `tiny` is Stable Diffusion 1.5" in loaded.reason


def test_an_encoder_that_the_checkpoint_does_not_have_is_told(tmp_path: Path) -> None:
    tensors = named(pairs(UNET_SHAPES), "lora_unet_{}", DOWN_UP) | named(pairs(CLIP_G), "lora_te2_{}", DOWN_UP)
    loaded = load(tmp_path, tensors, SD15, "sd15")
    assert (loaded.status, loaded.matched, loaded.total) == (AdapterStatus.PARTIAL, 4, 6)
    assert "2 text encoder layers without a counterpart" in loaded.reason


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_map_of_parts_tells_the_original_names() -> None:
    told = originals_of(FLUX_PARTS | {"same.weight": Part("same.weight"), "norm.bias": Part("other.bias")})
    assert "same" not in told
    assert "other" not in told
    assert [(place.path, place.rows) for place in told["single_blocks.0.linear1"]] == [
        (f"{_SINGLE}.attn.to_q", slice(0, 8)),
        (f"{_SINGLE}.attn.to_k", slice(8, 16)),
        (f"{_SINGLE}.attn.to_v", slice(16, 24)),
        (f"{_SINGLE}.proj_mlp", slice(24, 56)),
    ]
    assert told["final_layer.adaLN_modulation.1"] == (Place("norm_out.linear", None, True),)


def test_headers_tell_layers_from_tables_and_norms() -> None:
    shapes = {"a.weight": (3, 4), "a.bias": (3,), "norm.weight": (4,), "conv.weight": (3, 4, 1, 1),
              "shared.weight": (9, 4), "embeddings.token_embedding.weight": (9, 4)}  # fmt: skip
    assert header_targets_of(shapes) == {"a": (3, 4), "conv": (3, 4, 1, 1)}


# --- families ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "width", "family"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", 3072, "flux"),
        ("lora_unet_single_blocks_37_linear1.lora_down.weight", 3072, "flux"),
        ("diffusion_model.double_blocks.0.img_mlp.0.lora_A.weight", 3072, "flux"),
        ("transformer.single_transformer_blocks.0.proj_mlp.lora_A.weight", 3072, "flux"),
        ("transformer.transformer_blocks.18.attn.to_q.lora_A.weight", 3072, "flux"),
        ("transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight", 3072, "flux"),
        ("transformer.transformer_blocks.0.ff_context.net.0.proj.lora_A.weight", 3072, "flux"),
        ("lora_transformer_single_transformer_blocks_0_attn_to_q.lora_down.weight", 3072, "flux"),
        ("lycoris_transformer_blocks_0_attn_to_q.lora_down.weight", 3072, "flux"),
        ("transformer.transformer_blocks.59.attn.to_q.lora_A.weight", 3072, "qwenimage"),
        ("transformer.transformer_blocks.59.attn.add_k_proj.lora_A.weight", 3072, "qwenimage"),
        ("transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight", 1536, "sd3"),
        ("transformer.transformer_blocks.0.ff_context.net.0.proj.lora_A.weight", 2432, "sd3"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight", 2048, "sdxl"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_k.lora_down.weight", 640, "sdxl"),
        ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q.lora_down.weight", 640, "sdxl"),
        ("unet.mid_block.attentions.0.transformer_blocks.9.ff.net.2.lora_A.weight", 5120, "sdxl"),
        ("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k.lora_down.weight", 768, "sd15"),
        ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight", 320, "sd15"),
        ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight", 768, "sd15"),
        ("diffusion_model.layers.0.attention.qkv.lora_A.weight", 3840, "zimage"),
        ("lora_unet_layers_0_attention_to_q.lora_down.weight", 3840, "zimage"),
        ("transformer.layers.0.feed_forward.w1.lora_A.weight", 3840, "zimage"),
        ("lycoris_layers_0_attention_to_out_0.lora_down.weight", 3840, "zimage"),
        ("base_model.model.noise_refiner.0.attention.to_v.lora_A.weight", 3840, "zimage"),
    ],
)
def test_the_family_is_known_from_one_module(name: str, width: int, family: str) -> None:
    up = name.replace("lora_down", "lora_up").replace("lora_A", "lora_B").replace("lora.down", "lora.up")
    assert recognise({name: (16, width), up: (320, 16)}) == family


@pytest.mark.parametrize(
    ("stem", "family"),
    [("lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", "sdxl"),
     ("transformer.transformer_blocks.0.attn.to_q", "flux")],
)  # fmt: skip
def test_the_family_of_a_lokr_is_known_from_its_products_width(tmp_path: Path, stem: str, family: str) -> None:
    width = {"sdxl": 2048, "flux": 3072}[family]
    tensors = {f"{stem}.lokr_w1": torch.ones(8, 8), f"{stem}.lokr_w2": torch.ones(2, width // 8)}
    assert adapter_family(open_tensors(write(tensors, tmp_path / "x.safetensors"))) == family
