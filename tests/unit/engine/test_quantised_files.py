"""GGUF and 8-bit floating files: networks get the numbers that the files stand for; what cannot be read is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model

from limner.engine.checkpoints import find_checkpoint, list_checkpoints
from limner.engine.families.shared_weights import load_qwen3
from limner.engine.families.zimage_weights import load_components, precision_policy
from limner.engine.gguf_files import TYPES
from limner.engine.scaled_fp8 import find_scales
from limner.engine.tensor_files import file_sha256, open_tensors
from limner.errors import BrokenCheckpoint, LimnerError, Unsupported
from tests.support.checkpoints import (
    TRANSFORMER,
    original_transformer,
    save_split,
    save_whole,
    state,
    tiny_components,
    write,
)

PARTS = tiny_components()
NOWHERE = Path("/nowhere")
FACTS = {key: TRANSFORMER[key] for key in ("axes_dims", "axes_lens")}
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
Kind = GGMLQuantizationType


def save_gguf(
    tensors: Mapping[str, Tensor], file: Path, kind: Kind, architecture: str = "lumina2", **values: Any
) -> dict[str, Tensor]:
    """Write a GGUF file, matrices of fitting width in `kind`; returns the numbers that it stands for."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(file), architecture)
    for name, value in values.items():
        cast(Any, writer).add_string(name.replace("_", "."), value)
    cast(Any, writer).add_array("tokenizer.ggml.tokens", ["a", "bc"])
    meant: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.float().contiguous().numpy()
        fits = plain.ndim == 2 and plain.shape[1] % GGML_QUANT_SIZES[kind][0] == 0
        stored_as = kind if fits else Kind.F32
        stored = cast(Any, gguf.quants).quantize(plain, stored_as)
        cast(Any, writer).add_tensor(name, stored, raw_dtype=stored_as)
        meant[name] = cast(Any, torch).from_numpy(cast(Any, gguf.quants).dequantize(stored, stored_as).copy())
    for step in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
        getattr(writer, step)()
    return meant


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A models folder of split files, from which the transformer's file is gone."""
    save_split(PARTS, tmp_path).unlink()
    return tmp_path


def transformer_of(name: str, models: Path) -> dict[str, Tensor]:
    return original_transformer(load_components(find_checkpoint(name, models, NOWHERE)).transformer)


def assert_same(loaded: Mapping[str, Tensor], meant: Mapping[str, Tensor]) -> None:
    for name, tensor in meant.items():
        if name != "norm_final.weight":
            assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q5_1, Kind.F16, Kind.BF16])
def test_a_gguf_denoiser_gives_the_numbers_it_stands_for(split: Path, kind: Kind) -> None:
    file = split / "diffusion_models" / "tiny.gguf"
    meant = save_gguf(original_transformer(PARTS.transformer), file, kind, limner_config=json.dumps(FACTS))
    assert_same(transformer_of("tiny", split), meant)
    (entry,) = list_checkpoints(split, NOWHERE)
    assert (entry.family, entry.layout, entry.problem) == ("zimage", "split", "")
    assert entry.dtype == kind.name
    assert precision_policy(find_checkpoint("tiny.gguf", split, NOWHERE)).stored == kind.name
    assert open_tensors(file).shapes == {
        name: tuple(tensor.shape) for name, tensor in original_transformer(PARTS.transformer).items()
    }
    assert find_checkpoint("tiny", split, NOWHERE).sha256() == file_sha256(file)


def test_gguf_numbers_come_in_the_precision_that_was_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    meant = save_gguf({"a": torch.randn(3, 64)}, file, Kind.Q8_0)["a"]
    source = open_tensors(file)
    assert torch.equal(source.load(["a"])["a"], meant)
    assert torch.equal(source.load(["a"], torch.bfloat16)["a"], meant.to(torch.bfloat16))


@pytest.mark.parametrize("kind", [Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.IQ4_XS, Kind.IQ4_NL])
def test_blocks_of_every_size_are_placed_and_shaped_rightly(tmp_path: Path, kind: Kind) -> None:
    block, size = GGML_QUANT_SIZES[kind]
    # Scales of a half-precision one; all else may be anything.
    raw = np.random.default_rng(0).integers(0, 60, (9, 1024 // block * size), dtype=np.uint8)
    writer = gguf.GGUFWriter(str(tmp_path / "k.gguf"), "flux")
    cast(Any, writer).add_array("comfy.gguf.orig_shape.k", [9, 2, 8, 64])
    cast(Any, writer).add_tensor("before", np.ones(7, np.float32))
    cast(Any, writer).add_tensor("k", raw, raw_dtype=kind)
    for step in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
        getattr(writer, step)()
    source = open_tensors(tmp_path / "k.gguf")
    assert source.tensors["k"].dtype == kind.name
    assert source.shapes["k"] == (9, 2, 8, 64)
    loaded = source.load()
    expected = cast(Any, gguf.quants).dequantize(raw, kind).reshape(9, 2, 8, 64)
    assert np.array_equal(loaded["k"].numpy(), expected, equal_nan=True)
    assert torch.equal(loaded["before"], torch.ones(7))


def test_the_table_of_types_agrees_with_the_package() -> None:
    for number, (name, block, size) in TYPES.items():
        assert Kind(number).name == name
        assert GGML_QUANT_SIZES[Kind(number)] == (block, size)


LLAMA_CPP = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def llama_cpp_name(name: str) -> str:
    stem, _, leaf = name.rpartition(".")
    if stem.startswith("layers."):
        _, number, inner = stem.split(".", 2)
        return f"blk.{number}.{LLAMA_CPP[inner]}.{leaf}"
    return f"{LLAMA_CPP[stem]}.{leaf}"


def test_a_qwen3_of_llama_cpp_becomes_the_text_encoder(tmp_path: Path) -> None:
    facts = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    encoder = Qwen3Model(cast(Any, Qwen3Config)(vocab_size=14, num_key_value_heads=1, head_dim=8, **facts))
    renamed = {llama_cpp_name(name): tensor for name, tensor in state(encoder).items()}
    renamed["output.weight"] = torch.ones(14, 32)
    meant = save_gguf(renamed, tmp_path / "qwen3.gguf", Kind.Q8_0, "qwen3")
    loaded = state(load_qwen3(tmp_path / "qwen3.gguf", torch.float32))
    assert set(loaded) == set(state(encoder))
    for name, tensor in loaded.items():
        assert torch.equal(tensor, meant[llama_cpp_name(name)]), name


def test_a_gguf_text_encoder_is_found_as_a_partner_after_plain_ones(split: Path) -> None:
    encoders = split / "text_encoders"
    write(original_transformer(PARTS.transformer), split / "diffusion_models" / "tiny.safetensors", FACTS)
    tensors = state(PARTS.text_encoder)
    write({f"model.{n}": t.to(E4M3) if t.ndim == 2 else t for n, t in tensors.items()}, encoders / "a.safetensors")
    assert find_checkpoint("tiny", split, NOWHERE).text_encoder.name == "qwen.safetensors"
    (encoders / "a.safetensors").unlink()
    (encoders / "qwen.safetensors").unlink()
    save_gguf({llama_cpp_name(n): t for n, t in tensors.items()}, encoders / "a.gguf", Kind.F16, "qwen3")
    assert find_checkpoint("tiny", split, NOWHERE).text_encoder.name == "a.gguf"


def test_a_t5_encoder_of_llama_cpp_has_the_names_of_transformers(tmp_path: Path) -> None:
    names = (
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_o",
        "attn_norm",
        "attn_rel_b",
        "ffn_norm",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    )
    tensors = {f"enc.blk.0.{name}.weight": torch.randn(4, 32) for name in names}
    tensors |= {"token_embd.weight": torch.randn(4, 32), "enc.output_norm.weight": torch.randn(32)}
    save_gguf(tensors, tmp_path / "t5.gguf", Kind.Q8_0, "t5encoder")
    first, second = "encoder.block.0.layer.0.", "encoder.block.0.layer.1."
    assert set(open_tensors(tmp_path / "t5.gguf").tensors) == {
        "shared.weight",
        "encoder.final_layer_norm.weight",
        *(f"{first}SelfAttention.{letter}.weight" for letter in "qkvo"),
        f"{first}SelfAttention.relative_attention_bias.weight",
        f"{first}layer_norm.weight",
        f"{second}layer_norm.weight",
        *(f"{second}DenseReluDense.{name}.weight" for name in ("wi_0", "wi_1", "wo")),
    }


def test_a_llama_is_refused_since_its_rows_lie_otherwise(tmp_path: Path) -> None:
    save_gguf({"blk.0.attn_q.weight": torch.ones(4, 32)}, tmp_path / "llama.gguf", Kind.Q8_0, "llama")
    with pytest.raises(Unsupported, match="language model of the llama kind"):
        open_tensors(tmp_path / "llama.gguf")


def test_a_truncated_gguf_says_how_much_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    save_gguf({"a": torch.randn(3, 64), "b": torch.randn(8, 64)}, file, Kind.Q8_0)
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(BrokenCheckpoint, match=r"is truncated: it holds [\d,]+ of [\d,]+ bytes.*1 of 2 tensors.*`b`"):
        open_tensors(file)
    for length in (6, 20, 60, 150):
        file.write_bytes(whole[:length])
        with pytest.raises(BrokenCheckpoint, match=r"is truncated: its .* bytes end within the header"):
            open_tensors(file)


def changed(raw: bytes, at: int, new: bytes) -> bytes:
    return raw[:at] + new + raw[at + len(new) :]


CHANGES: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda raw: changed(raw, 4, b"\x01\x00\x00\x00"), "GGUF of version 1"),
    (lambda raw: changed(raw, 4, b"\x00\x00\x00\x03"), "GGUF of version big-endian"),
    (lambda raw: changed(raw, 8, b"\xff" * 8), "is not a sound GGUF file: it claims"),
    (lambda raw: changed(raw, raw.index(b"weights") + 7 + 20, b"\x63\x00\x00\x00"), "GGUF type 99 (`weights`)"),
    (lambda raw: b"something else" + raw[14:], "is not GGUF, whatever its name says"),
    (lambda raw: b"<html>" + raw, "is a web page"),
]


@pytest.mark.parametrize(("change", "says"), CHANGES)
def test_a_gguf_that_cannot_be_read_says_why(tmp_path: Path, change: Callable[[bytes], bytes], says: str) -> None:
    file = tmp_path / "a.gguf"
    save_gguf({"weights": torch.randn(3, 64)}, file, Kind.Q8_0)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(LimnerError) as caught:
        open_tensors(file)
    assert says in caught.value.message
    assert str(file) in caught.value.message


@pytest.mark.parametrize("alignment", ["abc", 32.0])
def test_an_alignment_of_nonsense_is_a_broken_checkpoint(tmp_path: Path, alignment: str | float) -> None:
    file = tmp_path / "a.gguf"
    writer: Any = gguf.GGUFWriter(str(file), "flux")
    add = writer.add_string if isinstance(alignment, str) else writer.add_float32
    add("general.alignment", alignment)
    writer.add_tensor("a", np.zeros((2, 32), np.float32))
    for step in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
        getattr(writer, step)()
    with pytest.raises(BrokenCheckpoint, match="is not a sound GGUF file"):
        open_tensors(file)


# --- 8-bit floating numbers -------------------------------------------------------------------------------------------


def scaled(
    tensors: Mapping[str, Tensor], names: tuple[str, str], rows: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Matrices in F8_E4M3 with their scales under ComfyUI's names, and the numbers that these stand for."""
    stored: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or not name.endswith(".weight"):
            stored[name] = meant[name] = tensor
            continue
        scale = (tensor.abs().amax(dim=1, keepdim=True) if rows else tensor.abs().max()) / 448
        stem = name.removesuffix("weight")
        stored[name] = (tensor / scale).to(E4M3)
        stored[stem + names[0]] = scale.to(torch.float32)
        stored[stem + names[1]] = torch.ones(())
        meant[name] = stored[name].to(torch.float32) * scale
    return stored, meant


@pytest.mark.parametrize(
    ("names", "mark", "rows"),
    [
        (("scale_weight", "scale_input"), {"scaled_fp8": torch.zeros(2).to(E4M3)}, False),
        (("weight_scale", "input_scale"), {}, False),
        (("weight_scale", "input_scale"), {}, True),
    ],
)
def test_a_scaled_denoiser_is_multiplied_by_its_scales(
    split: Path, names: tuple[str, str], mark: dict[str, Tensor], rows: bool
) -> None:
    stored, meant = scaled(original_transformer(PARTS.transformer), names, rows)
    if names[0] == "weight_scale":
        layers = [name.removesuffix(".weight_scale") for name in stored if name.endswith(".weight_scale")]
        told = torch.frombuffer(bytearray(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
        stored |= {f"{layer}.comfy_quant": told for layer in layers}
    write(stored | mark, split / "diffusion_models" / "tiny.safetensors", FACTS)
    assert_same(transformer_of("tiny", split), meant)
    source = open_tensors(split / "diffusion_models" / "tiny.safetensors")
    assert source.dtype == "F8_E4M3"
    assert source.shapes == {name: tuple(tensor.shape) for name, tensor in meant.items()}


@pytest.mark.parametrize("dtype", [E4M3, E5M2])
def test_8_bit_numbers_without_scales_are_cast(split: Path, dtype: torch.dtype) -> None:
    tensors = {n: t.to(dtype) if t.ndim == 2 else t for n, t in original_transformer(PARTS.transformer).items()}
    write(tensors, split / "diffusion_models" / "tiny.safetensors", FACTS)
    assert_same(transformer_of("tiny", split), {name: tensor.float() for name, tensor in tensors.items()})


def test_all_parts_of_a_whole_file_may_be_scaled(tmp_path: Path) -> None:
    file = save_whole(PARTS, tmp_path)
    source = open_tensors(file)
    stored, meant = scaled(source.load(), ("scale_weight", "scale_input"))
    stored["model.diffusion_model.scaled_fp8"] = torch.zeros(0).to(E4M3)
    stored["text_encoders.qwen3_4b.transformer.scaled_fp8"] = torch.zeros(0).to(E4M3)
    write(stored, file, FACTS | {"norm_num_groups": 4})
    loaded = load_components(find_checkpoint("all", tmp_path, NOWHERE))
    prefix = "text_encoders.qwen3_4b.transformer.model."
    assert_same(
        state(loaded.text_encoder), {n.removeprefix(prefix): t for n, t in meant.items() if n.startswith(prefix)}
    )


def test_a_scale_in_another_shard_is_found(tmp_path: Path) -> None:
    weight = torch.tensor([[1.0, 2.0]]).to(E4M3)
    write({"a.weight": weight}, tmp_path / "m-00001-of-00002.safetensors")
    write({"a.weight_scale": torch.tensor(3.0)}, tmp_path / "m-00002-of-00002.safetensors")
    places = {"a.weight": "m-00001-of-00002.safetensors", "a.weight_scale": "m-00002-of-00002.safetensors"}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    source = open_tensors(tmp_path)
    assert set(source.tensors) == {"a.weight"}
    assert torch.equal(source.load(dtype=torch.bfloat16)["a.weight"], torch.tensor([[3.0, 6.0]], dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("beside", "weight", "says"),
    [
        ({"weight_scale": torch.zeros(32, 1, dtype=torch.uint8)}, torch.ones(32, 32).to(E4M3), "F8 by blocks"),
        ({"weight_scale_inv": torch.ones(1, 1)}, torch.ones(32, 32).to(E4M3), "F8 by blocks"),
        ({"weight_scale": torch.ones(1)}, torch.ones(32, 32, dtype=torch.int8), "I8"),
        ({"SCB": torch.ones(32)}, torch.ones(32, 32, dtype=torch.int8), "bitsandbytes int8"),
        (
            {"weight.quant_state.bitsandbytes__nf4": torch.ones(4, dtype=torch.uint8), "weight.absmax": torch.ones(4)},
            torch.ones(512, 1, dtype=torch.uint8),
            "bitsandbytes NF4",
        ),
        ({"weight_scale_2": torch.ones(())}, torch.ones(32, 16, dtype=torch.uint8), "U8"),
    ],
)
def test_other_quantisations_are_refused_with_a_reason(
    split: Path, beside: dict[str, Tensor], weight: Tensor, says: str
) -> None:
    layer = "layers.0.attention.out."
    tensors = original_transformer(PARTS.transformer) | {f"{layer}weight": weight}
    tensors |= {layer + name: tensor for name, tensor in beside.items()}
    write(tensors, split / "diffusion_models" / "tiny.safetensors", FACTS)
    with pytest.raises(Unsupported, match=f"holds quantised weights .{says}.*Choose the bf16, fp16, fp8 or GGUF file"):
        find_checkpoint("tiny", split, NOWHERE)
    (entry,) = list_checkpoints(split, NOWHERE)
    assert entry.family == "zimage"
    assert says in entry.problem


def test_positions_in_integers_are_no_hindrance(split: Path) -> None:
    write(
        {"text_model.embeddings.position_ids": torch.arange(77)[None], "a": torch.ones(2, 2)}, split / "a.safetensors"
    )
    from limner.engine.checkpoints import require_plain_numbers

    require_plain_numbers(open_tensors(split / "a.safetensors"))


def test_a_single_number_with_several_scales_is_scaled_by_blocks() -> None:
    found = find_scales({"a.weight": ("F8_E4M3", ()), "a.weight_scale": ("F32", (5,))})
    assert (found.by_blocks, found.of) == ({"a.weight"}, {})


def test_tensors_that_only_sound_like_scales_stay_what_they_are() -> None:
    found = find_scales({"norm.scale": ("F32", (4,)), "a.weight": ("I8", (4, 4)), "a.weight_scale": ("F32", ())})
    assert (dict(found.of), found.hidden, found.by_blocks) == ({}, frozenset(), frozenset())
