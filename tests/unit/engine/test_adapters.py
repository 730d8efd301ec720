"""Adapters: every layout gives the same change, equal to peft's; whatever does not fit is counted and named."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from limner.domain import AdapterStatus
from limner.engine.adapters import Adapter, AdapterStore, AdapterTargets, LoadedAdapter, judge_adapter, load_adapter
from limner.engine.deltas import Decomposed, Delta, LowRank, add_changes
from limner.engine.families.zimage_weights import original_places
from tests.support.checkpoints import linear_targets, tiny_components, write

PARTS = tiny_components()
TARGETS = linear_targets(PARTS.transformer)
TEXT_TARGETS = linear_targets(PARTS.text_encoder)
RANK = 3
PATHS = (
    "layers.0.attention.to_q",
    "layers.0.attention.to_k",
    "layers.0.attention.to_v",
    "layers.0.attention.to_out.0",
    "layers.1.feed_forward.w2",
    "layers.1.adaLN_modulation.0",
    "noise_refiner.0.attention.to_q",
    "context_refiner.0.feed_forward.w1",
    "all_x_embedder.2-1",
    "all_final_layer.2-1.linear",
    "all_final_layer.2-1.adaLN_modulation.1",
    "cap_embedder.1",
    "t_embedder.mlp.0",
)
QKV = ("layers.0.attention.to_q", "layers.0.attention.to_k", "layers.0.attention.to_v")


def pairs(paths: tuple[str, ...] = PATHS, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Path to (down, up) with random numbers."""
    random = torch.Generator().manual_seed(seed)
    made: dict[str, tuple[Tensor, Tensor]] = {}
    for path in paths:
        out, into = TARGETS[path]
        made[path] = torch.randn(RANK, into, generator=random), 0.2 * torch.randn(out, RANK, generator=random)
    return made


def named(pattern: str, halves: tuple[str, str], modules: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Tensors under a layout's names."""
    return {
        f"{pattern.format(path)}.{half}.weight": t
        for path, pair in modules.items()
        for half, t in zip(halves, pair, strict=True)
    }


ALL = AdapterTargets(TARGETS, {}, original_places(TARGETS))


def load(file: Path, **options: Any) -> LoadedAdapter:
    loaded = load_adapter(file, ALL, family="zimage", checkpoint="tiny", **options)
    judged = judge_adapter(file, ALL, family="zimage", checkpoint="tiny")
    # What only the numbers show cannot be judged from a header.
    if "not finite" not in loaded.reason:
        assert judged.outcome(1.0) == loaded.outcome(1.0).model_copy(update={"sha256": ""})
    return loaded


def scale_of(loaded: LoadedAdapter, path: str) -> float:
    assert loaded.adapter is not None
    (delta,) = loaded.adapter.deltas[path]
    assert isinstance(delta, LowRank)
    return delta.scale


def product(deltas: tuple[Delta, ...]) -> Tensor:
    return torch.stack([delta.matrix() for delta in deltas]).sum(0)


def original(path: str) -> str:
    path = path.replace("all_x_embedder.2-1", "x_embedder").replace("all_final_layer.2-1", "final_layer")
    return path.replace(".to_out.0", ".out")


def velocity(network: Any) -> Tensor:
    latent = torch.arange(16.0 * 4 * 6).sin().view(16, 1, 4, 6)
    caption = torch.arange(5.0 * 24).cos().view(5, 24)
    with torch.inference_mode():
        return network([latent], torch.tensor([0.3]), [caption]).sample[0]


@contextmanager
def unpacked(network: nn.Module, adapter: Adapter, weight: float) -> Generator[None]:
    """Adds an adapter to layers that get all tokens in one sequence, and takes it off again."""

    def hook(deltas: tuple[Delta, ...]) -> Any:
        return lambda layer, inputs, y: add_changes(y, inputs[0], [(deltas, weight)], layer)  # pyright: ignore

    hooks = [network.get_submodule(path).register_forward_hook(hook(d)) for path, d in adapter.deltas.items()]
    yield
    for each in hooks:
        each.remove()


# --- layouts ----------------------------------------------------------------------------------------------------------

AB, DOWN_UP, DOTTED = ("lora_A", "lora_B"), ("lora_down", "lora_up"), ("lora.down", "lora.up")


@pytest.mark.parametrize(
    ("pattern", "halves"),
    [
        ("transformer.{}", AB),
        ("base_model.model.{}", AB),
        ("base_model.model.transformer.{}", AB),
        ("diffusion_model.{}", AB),
        ("{}", AB),
        ("transformer.{}", ("lora_A.default", "lora_B.default")),
        ("transformer.{}", DOTTED),
        ("diffusion_model.{}", DOWN_UP),
    ],
)
def test_dotted_layouts_find_every_module(tmp_path: Path, pattern: str, halves: tuple[str, str]) -> None:
    made = pairs()
    loaded = load(write(named(pattern, halves, made), tmp_path / "ink.safetensors"))
    assert (loaded.status, loaded.matched, loaded.total, loaded.reason) == ("applied", len(PATHS), len(PATHS), "")
    assert loaded.adapter is not None
    for path, (down, up) in made.items():
        torch.testing.assert_close(product(loaded.adapter.deltas[path]), up @ down)


def test_the_kohya_layout_scales_by_alpha(tmp_path: Path) -> None:
    made = pairs()
    tensors: dict[str, Tensor] = {}
    for path, (down, up) in made.items():
        flat = f"lora_unet_{path.replace('.', '_')}"
        tensors |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up, f"{flat}.alpha": torch.tensor(1.5)}
    loaded = load(write(tensors, tmp_path / "ink.safetensors"))
    assert (loaded.matched, loaded.total) == (len(PATHS), len(PATHS))
    assert loaded.adapter is not None
    for path, (down, up) in made.items():
        torch.testing.assert_close(product(loaded.adapter.deltas[path]), 1.5 / RANK * up @ down)


@pytest.mark.parametrize("flat", [False, True])
def test_the_original_layout_splits_the_fused_projection(tmp_path: Path, flat: bool) -> None:
    made = pairs(tuple(path for path in PATHS if path not in QKV))
    named_originally = {original(path): pair for path, pair in made.items()}
    down, up = torch.randn(RANK, 32), torch.randn(96, RANK)
    named_originally["layers.0.attention.qkv"] = (down, up)
    if flat:
        by_name = {path.replace(".", "_"): pair for path, pair in named_originally.items()}
        tensors = named("lora_unet_{}", DOWN_UP, by_name)
    else:
        tensors = named("diffusion_model.{}", AB, named_originally)
    loaded = load(write(tensors, tmp_path / "ink.safetensors"))
    assert (loaded.matched, loaded.total, loaded.reason) == (len(made) + 1, len(made) + 1, "")
    assert loaded.adapter is not None
    for path, part in zip(QKV, up.chunk(3), strict=True):
        torch.testing.assert_close(product(loaded.adapter.deltas[path]), part @ down)
    for path, (one, other) in made.items():
        torch.testing.assert_close(product(loaded.adapter.deltas[path]), other @ one)


def test_a_fused_projection_beside_its_parts_is_not_added_twice(tmp_path: Path) -> None:
    made = pairs(QKV)
    tensors = named("diffusion_model.{}", DOTTED, made)
    fused = {"layers.0.attention.qkv": (torch.randn(RANK, 32), torch.randn(96, RANK))}
    loaded = load(write(named("diffusion_model.{}", DOTTED, fused) | tensors, tmp_path / "ink.safetensors"))
    assert (loaded.matched, loaded.total) == (3, 3)
    assert loaded.adapter is not None
    assert all(len(deltas) == 1 for deltas in loaded.adapter.deltas.values())


def test_the_text_encoder_is_kept_apart(tmp_path: Path) -> None:
    path = "layers.0.self_attn.q_proj"
    out, into = TEXT_TARGETS[path]
    pair = {path: (torch.ones(RANK, into), torch.ones(out, RANK))}
    for pattern in ("text_encoder.{}", "text_encoder.model.{}", "text_encoders.qwen3_4b.transformer.model.{}"):
        tensors = named("transformer.{}", AB, pairs(QKV)) | named(pattern, AB, pair)
        file = write(tensors, tmp_path / "ink.safetensors")
        loaded = load_adapter(file, AdapterTargets(TARGETS, {"text_encoder": TEXT_TARGETS}), "zimage")
        assert (loaded.matched, loaded.total) == (4, 4)
        assert loaded.adapter is not None
        assert set(loaded.adapter.text_deltas["text_encoder"]) == {path}
        assert set(loaded.adapter.deltas) == set(QKV)
    alone = load(file)
    assert (alone.status, alone.matched, alone.total) == (AdapterStatus.PARTIAL, 3, 4)
    assert "text encoder layers without a counterpart" in alone.reason


def test_pefts_own_configuration_gives_the_scale(tmp_path: Path) -> None:
    made = pairs(QKV)
    folder = tmp_path / "ink"
    file = write(named("base_model.model.{}", AB, made), folder / "adapter_model.safetensors")
    config = {"r": RANK, "lora_alpha": 6, "alpha_pattern": {"layers.0.attention.to_k": 12}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    loaded = load(folder)
    assert (loaded.name, load(file).name) == ("ink", "ink")
    assert loaded.adapter is not None
    assert [scale_of(loaded, path) for path in QKV] == [6 / RANK, 12 / RANK, 6 / RANK]


@pytest.mark.parametrize("config", ["[1]", "{", '{"lora_alpha": "x", "alpha_pattern": {"layers.0": "y"}}'])
def test_a_configuration_that_makes_no_sense_is_no_configuration(tmp_path: Path, config: str) -> None:
    file = write(named("base_model.model.{}", AB, pairs(QKV)), tmp_path / "ink" / "adapter_model.safetensors")
    (file.parent / "adapter_config.json").write_text(config)
    loaded = load(file)
    assert loaded.adapter is not None
    assert {scale_of(loaded, path) for path in QKV} == {1.0}


def test_numbers_are_kept_in_the_asked_precision(tmp_path: Path) -> None:
    file = write(named("transformer.{}", AB, pairs(QKV)), tmp_path / "ink.safetensors")
    loaded = load(file, dtype=torch.bfloat16)
    assert loaded.adapter is not None
    assert {product(deltas).dtype for deltas in loaded.adapter.deltas.values()} == {torch.bfloat16}


def test_magnitudes_are_kept_exact_whatever_the_precision(tmp_path: Path) -> None:
    tensors = named("transformer.{}", AB, pairs(QKV[:1])) | {
        f"transformer.{QKV[0]}.dora_scale": torch.full((32,), 1.001)
    }
    loaded = load(write(tensors, tmp_path / "ink.safetensors"), dtype=torch.bfloat16)
    assert loaded.adapter is not None
    (delta,) = loaded.adapter.deltas[QKV[0]]
    assert isinstance(delta, Decomposed)
    assert torch.equal(delta.magnitude, torch.full((32,), 1.001))
    assert delta.inner.matrix().dtype is torch.bfloat16


# --- what does not fit ------------------------------------------------------------------------------------------------


def spoilt(tmp_path: Path, **changes: Tensor | None) -> LoadedAdapter:
    """An adapter of three modules of which one tensor was changed or taken away."""
    tensors = named("transformer.{}", AB, pairs(QKV))
    for half, tensor in changes.items():
        name = f"transformer.{QKV[0]}.{half}.weight"
        del tensors[name]
        if tensor is not None:
            tensors[name] = tensor
    return load(write(tensors, tmp_path / "ink.safetensors"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lora_A": torch.ones(RANK, 33)}, "1 of other sizes: `layers.0.attention.to_q (33 to 32, here 32 to 32)`"),
        ({"lora_B": torch.ones(31, RANK)}, "(32 to 31, here 32 to 32)"),
        ({"lora_B": torch.ones(32, RANK + 1)}, "1 ranks that contradict each other"),
        ({"lora_A": torch.ones(0, 32), "lora_B": torch.ones(32, 0)}, "ranks that contradict each other"),
        ({"lora_A": torch.full((RANK, 32), torch.nan)}, "1 with numbers that are not finite"),
        ({"lora_B": torch.full((32, RANK), torch.inf)}, "1 with numbers that are not finite"),
        ({"lora_A": torch.ones(RANK, 32, dtype=torch.int8)}, "1 stored as I8, not supported yet"),
        ({"lora_A": None}, "1 half of the pair missing"),
        ({"lora_B": None}, "1 half of the pair missing"),
    ],
)
def test_a_module_that_does_not_fit_is_left_out_and_named(
    tmp_path: Path, changes: dict[str, Tensor | None], says: str
) -> None:
    loaded = spoilt(tmp_path, **changes)
    assert (loaded.status, loaded.matched, loaded.total) == (AdapterStatus.PARTIAL, 2, 3)
    assert loaded.reason.startswith("1 of 3 modules of LoRA `ink` were left out: ")
    assert says in loaded.reason
    assert loaded.adapter is not None
    assert QKV[0] not in loaded.adapter.deltas


def test_a_scale_that_is_not_finite_is_not_used(tmp_path: Path) -> None:
    tensors = named("transformer.{}", AB, pairs(QKV)) | {f"transformer.{QKV[0]}.alpha": torch.tensor(torch.inf)}
    assert load(write(tensors, tmp_path / "ink.safetensors")).matched == 2


@pytest.mark.parametrize(
    ("suffixes", "kind"),
    [
        (("oft_blocks", "alpha"), "OFT, not supported yet"),
        (("boft_R", "boft_s"), "BOFT, not supported yet"),
        (("weight", "on_input"), "IA3, not supported yet"),
        (("weight", "bias"), "whole weights, not supported yet"),
        (("ia3_l",), "IA3, not supported yet"),
        (("a1.weight", "b1.weight", "alpha"), "GLoRA, not supported yet"),
        (("strange",), "tensors of an unknown kind"),
    ],
)
def test_other_kinds_of_adapters_are_reported_not_ignored(tmp_path: Path, suffixes: tuple[str, ...], kind: str) -> None:
    tensors = {f"diffusion_model.{QKV[0]}.{suffix}": torch.ones(32, 32) for suffix in suffixes}
    loaded = load(write(tensors, tmp_path / "odd.safetensors"))
    assert (loaded.status, loaded.adapter, loaded.matched, loaded.total) == (AdapterStatus.SKIPPED, None, 0, 1)
    assert f"LoRA `odd` holds 1 {kind}" in loaded.reason
    mixed = load(write(tensors | named("transformer.{}", AB, pairs(QKV[1:])), tmp_path / "odd.safetensors"))
    assert (mixed.status, mixed.matched, mixed.total) == (AdapterStatus.PARTIAL, 2, 3)
    assert kind in mixed.reason


@pytest.mark.parametrize(
    ("module", "title"),
    [
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight:2048", "SDXL"),
        ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight:2048", "SDXL"),
        (
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight:768",
            "Stable Diffusion 1.5",
        ),
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight:3072", "FLUX"),
        ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight:3072", "FLUX"),
        ("transformer.transformer_blocks.0.img_mlp.net.2.lora_A.weight:3072", "Qwen-Image"),
        ("transformer.transformer_blocks.59.attn.to_q.lora_A.weight:3072", "Qwen-Image"),
        ("diffusion_model.blocks.0.self_attn.q.lora_A.weight:1536", "Wan"),
    ],
)
def test_an_adapter_of_another_family_is_skipped_by_name(tmp_path: Path, module: str, title: str) -> None:
    name, _, width = module.partition(":")
    up = name.replace("lora_down", "lora_up").replace("lora_A", "lora_B")
    tensors = {name: torch.ones(4, int(width)), up: torch.ones(640, 4)}
    loaded = load(write(tensors, tmp_path / "ink.safetensors"))
    assert (loaded.status, loaded.adapter, loaded.matched, loaded.total) == (AdapterStatus.SKIPPED, None, 0, 1)
    assert loaded.reason == (
        f"LoRA `ink` is for {title}; checkpoint `tiny` is Z-Image. Choose an adapter of the same family."
    )


def test_an_adapter_of_a_larger_sister_is_told_apart(tmp_path: Path) -> None:
    tensors = {
        "diffusion_model.layers.0.attention.to_q.lora_A.weight": torch.ones(4, 3840),
        "diffusion_model.layers.0.attention.to_q.lora_B.weight": torch.ones(3840, 4),
    }
    loaded = load(write(tensors, tmp_path / "big.safetensors"))
    assert loaded.status is AdapterStatus.SKIPPED
    assert "was made for a Z-Image of other sizes than checkpoint `tiny`" in loaded.reason
    assert "(3840 to 3840, here 32 to 32)" in loaded.reason


def test_files_that_cannot_be_read_are_skipped_with_the_reason(tmp_path: Path) -> None:
    good = write(named("transformer.{}", AB, pairs()), tmp_path / "good.safetensors").read_bytes()
    cases = {"cut.safetensors": (good[:-100], "is truncated"), "web.safetensors": (b"<html>", "is a web page")}
    torch.save({"a": torch.ones(1)}, tmp_path / "renamed.safetensors")
    for name, (content, _) in cases.items():
        (tmp_path / name).write_bytes(content)
    says = {name: why for name, (_, why) in cases.items()} | {"renamed.safetensors": "is a pickle"}
    for name, why in (says | {"gone.safetensors": "There is no file"}).items():
        loaded = load(tmp_path / name)
        assert (loaded.status, loaded.adapter) == (AdapterStatus.SKIPPED, None)
        assert why in loaded.reason
    assert "is empty" in load(write({}, tmp_path / "empty.safetensors")).reason


def test_the_outcome_is_the_records_own(tmp_path: Path) -> None:
    outcome = spoilt(tmp_path, lora_A=None).outcome(0.7)
    assert (outcome.name, outcome.requested_weight, outcome.matched, outcome.total) == ("ink", 0.7, 2, 3)
    assert outcome.status is AdapterStatus.PARTIAL


# --- beside peft ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_the_transformer_answers_as_with_peft_and_as_before_afterwards(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    file = write(named("transformer.{}", AB, pairs(seed=3)), tmp_path / "ink.safetensors")
    loaded = load(file)
    assert loaded.adapter is not None
    network = tiny_components().transformer
    plain = velocity(network)
    with unpacked(network, loaded.adapter, 0.6):
        ours = velocity(network)
    assert torch.equal(velocity(network), plain)
    cast(Any, network).load_lora_adapter(str(file), prefix="transformer", adapter_name="ink")
    cast(Any, network).set_adapters("ink", 0.6)
    theirs = velocity(network)
    assert (ours - plain).abs().max() > 0.01
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)


# --- the store -------------------------------------------------------------------------------------------------------


def test_the_store_reads_a_file_once_per_checkpoint_until_it_changes(tmp_path: Path) -> None:
    file = write(named("transformer.{}", AB, pairs(QKV)), tmp_path / "ink.safetensors")
    store, one, other = AdapterStore(limit=2), object(), object()

    def get(identity: object) -> LoadedAdapter:
        return store.load(file, AdapterTargets(TARGETS, {}), family="zimage", identity=identity)

    first = get(one)
    assert get(one) is first
    assert get(other) is not first
    write(named("transformer.{}", AB, pairs(QKV[:2])), file)
    assert get(one).total == 2
    # The limit of two has pushed the oldest out; a forgotten checkpoint takes its entries along.
    kept = get(one)
    store.forget(one)
    assert get(one) is not kept


def test_two_loads_are_never_equal(tmp_path: Path) -> None:
    file = write(named("transformer.{}", AB, pairs(QKV)), tmp_path / "ink.safetensors")
    assert load(file).adapter != load(file).adapter
