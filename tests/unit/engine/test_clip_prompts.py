"""Prompts as CLIP reads them, against its definition: weights, chunks, the layer that is read, the pooled vector."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.engine.families.clip import load_clip, load_clip_tokenizer, load_projecting_clip
from limner.engine.families.clip_prompts import PromptReader, Tower, chunks_of, weighted_pieces
from limner.errors import BrokenCheckpoint, InvalidRequest
from tests.support.checkpoints import state, write
from tests.support.small_unet import (
    openclip_names,
    small_clip,
    small_clip_tokenizer,
    small_projecting_clip,
    transformers_names,
)

TOKENIZER = small_clip_tokenizer()
CLIP_L, CLIP_G = small_clip(), small_projecting_clip()
FIRST, LAST = int(cast(Any, TOKENIZER).bos_token_id), int(cast(Any, TOKENIZER).eos_token_id)
SD15 = PromptReader(TOKENIZER, [Tower("text_encoder", CLIP_L, None, layer=1, normed=True)])
SDXL = PromptReader(
    TOKENIZER,
    [
        Tower("text_encoder", CLIP_L, None, layer=2, normed=False),
        Tower("text_encoder_2", CLIP_G, 0, layer=2, normed=False),
    ],
)


def words(text: str) -> list[int]:
    named: Any = TOKENIZER
    return list(named(text)["input_ids"])[1:-1]


def hidden_states(network: nn.Module, ids: list[int]) -> list[Tensor]:
    """Every layer's output (77, width) by the formulas of Radford et al. 2021; index 0 is the first layer's."""
    weights = {name.removeprefix("text_model."): tensor for name, tensor in state(network).items()}
    config = cast(Any, network).config

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    x = weights["embeddings.token_embedding.weight"][ids] + weights["embeddings.position_embedding.weight"][: len(ids)]
    later = torch.ones(len(ids), len(ids)).triu(1).bool()
    outputs: list[Tensor] = []
    for index in range(config.num_hidden_layers):
        stem = f"encoder.layers.{index}"
        y = norm(x, f"{stem}.layer_norm1")
        heads = int(config.num_attention_heads)
        q, k, v = (
            linear(y, f"{stem}.self_attn.{letter}_proj").view(len(ids), heads, -1).transpose(0, 1) for letter in "qkv"
        )
        scores = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).masked_fill(later, -math.inf)
        x = x + linear((scores.softmax(-1) @ v).transpose(0, 1).flatten(1), f"{stem}.self_attn.out_proj")
        y = linear(norm(x, f"{stem}.layer_norm2"), f"{stem}.mlp.fc1")
        y = y * torch.sigmoid(1.702 * y) if config.hidden_act == "quick_gelu" else F.gelu(y)
        x = x + linear(y, f"{stem}.mlp.fc2")
        outputs.append(x)
    return outputs


def final_norm(network: nn.Module, x: Tensor) -> Tensor:
    weights = {name.removeprefix("text_model."): tensor for name, tensor in state(network).items()}
    return F.layer_norm(x, x.shape[-1:], weights["final_layer_norm.weight"], weights["final_layer_norm.bias"], 1e-5)


def framed(tokens: list[int], pad: int = LAST) -> list[int]:
    return [FIRST, *tokens, LAST, *[pad] * (75 - len(tokens))]


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("", []),
        ("a red boat", [("a red boat", 1.0)]),
        ("a (red:1.4) boat", [("a ", 1.0), ("red", 1.4), (" boat", 1.0)]),
        ("(red)", [("red", 1.1)]),
        ("((red))", [("red", 1.1 * 1.1)]),
        ("(a (red) boat:0.5)", [("a ", 0.5), ("red", 0.5 * 1.1), (" boat", 0.5)]),
        ("(a (red:1.2) boat:0.5)", [("a ", 0.5), ("red", 1.2), (" boat", 0.5)]),
        ("((red:0.5))", [("red", 0.5)]),
        (r"a \(red\) (boat \(blue\):1.2)", [("a (red) ", 1.0), ("boat (blue)", 1.2)]),
        ("(red:blue)", [("red:blue", 1.1)]),
        ("(red:nan)", [("red:nan", 1.1)]),
        ("(red:-1)", [("red", -1.0)]),
        ("a (red boat", [("a (red boat", 1.0)]),
        ("red) boat", [("red) boat", 1.0)]),
        ("[red]", [("[red]", 1.0)]),
    ],
)
def test_parentheses_weigh_words(prompt: str, pieces: list[tuple[str, float]]) -> None:
    found = weighted_pieces(prompt)
    assert [text for text, _ in found] == [text for text, _ in pieces]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in pieces])


def test_a_long_prompt_is_cut_into_chunks_of_75_tokens() -> None:
    tokens = words("red boat " * 100)
    assert len(tokens) == 200
    chunks = chunks_of(TOKENIZER, "red boat " * 100)
    assert [list(chunk.tokens) for chunk in chunks] == [tokens[:75], tokens[75:150], tokens[150:]]


def test_a_short_weighted_piece_is_not_torn_between_two_chunks() -> None:
    prompt = "red " * 73 + "(a red boat at sea:1.2) cat"
    chunks = chunks_of(TOKENIZER, prompt)
    assert [len(chunk.tokens) for chunk in chunks] == [73, 6]
    assert chunks[1].weights == (1.2,) * 5 + (1.0,)
    long = chunks_of(TOKENIZER, "red " * 73 + "(" + "boat " * 8 + ":1.2)")
    assert [len(chunk.tokens) for chunk in long] == [75, 6]
    assert long[0].weights[-3:] == (1.0, 1.2, 1.2)


def test_break_begins_a_chunk_and_empty_ones_are_left_out() -> None:
    chunks = chunks_of(TOKENIZER, "BREAK a red boat BREAK BREAK (tree BREAK house:1.3) BREAKFAST")
    assert [list(chunk.tokens) for chunk in chunks] == [
        words("a red boat"),
        words("tree"),
        words("house") + words("BREAKFAST"),
    ]
    assert chunks[1].weights == (1.3,)
    assert [chunk.tokens for chunk in chunks_of(TOKENIZER, "")] == [()]


def test_sd15_reads_the_last_layer_with_its_norm() -> None:
    features, pooled = SD15.read("a red boat")
    expected = final_norm(CLIP_L, hidden_states(CLIP_L, framed(words("a red boat")))[-1])
    assert pooled is None
    assert torch.allclose(features, expected, atol=1e-5)
    plain, _ = SD15.read("")
    assert torch.allclose(plain, final_norm(CLIP_L, hidden_states(CLIP_L, framed([]))[-1]), atol=1e-5)


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_sd15_norms_whichever_layer_is_read(skip: int) -> None:
    features, _ = SD15.read("a red boat", clip_skip=skip)
    expected = final_norm(CLIP_L, hidden_states(CLIP_L, framed(words("a red boat")))[-skip])
    assert torch.allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize("skip", [None, 1, 2, 3])
def test_sdxl_reads_two_encoders_without_their_norms(skip: int | None) -> None:
    features, pooled = SDXL.read("a red boat", clip_skip=skip)
    ids = words("a red boat")
    small, large = hidden_states(CLIP_L, framed(ids)), hidden_states(CLIP_G, framed(ids, pad=0))
    layer = -(skip or 2)
    assert torch.allclose(features, torch.cat([small[layer], large[layer]], 1), atol=1e-5)
    last = final_norm(CLIP_G, large[-1])[1 + len(ids)]
    assert pooled is not None
    assert torch.allclose(pooled, CLIP_G.text_projection.weight @ last, atol=1e-5)


def test_chunks_lie_one_after_another_and_the_first_is_pooled() -> None:
    parts = ["red boat " * 20, "a blue tree"]
    features, pooled = SDXL.read(" BREAK ".join(parts))
    alone = [SDXL.read(part) for part in parts]
    assert features.shape == (154, 192)
    assert torch.allclose(features, torch.cat([each for each, _ in alone]), atol=1e-5)
    assert pooled is not None and alone[0][1] is not None and alone[1][1] is not None
    assert torch.allclose(pooled, alone[0][1], atol=1e-5)
    assert not torch.allclose(pooled, alone[1][1], atol=1e-2)


def test_weights_move_features_away_from_those_of_an_empty_prompt() -> None:
    features, pooled = SDXL.read("a (red:1.5) boat BREAK (tree:0.5) (sea:0)")
    plain, plain_pooled = SDXL.read("a red boat BREAK tree sea")
    empty, _ = SDXL.read("")
    weights = torch.ones(154, 1)
    weights[2], weights[77 + 1], weights[77 + 2] = 1.5, 0.5, 0.0
    around = torch.cat([empty, empty])
    assert torch.allclose(features, around + weights * (plain - around), atol=1e-5)
    assert torch.allclose(features[77 + 2], empty[2], atol=1e-5)
    assert pooled is not None and plain_pooled is not None
    assert torch.allclose(pooled, plain_pooled, atol=1e-5)


def test_a_layer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"clip_skip is 4, .* has 3 layers"):
        SDXL.read("a", clip_skip=4)


def test_both_layouts_of_an_encoder_give_the_same_weights(tmp_path: Path) -> None:
    for name, tensors in (("open", openclip_names(CLIP_G)), ("ours", transformers_names(CLIP_G))):
        write(tensors, tmp_path / f"{name}.safetensors", {"hidden_act": "gelu"})
        loaded = load_projecting_clip(tmp_path / f"{name}.safetensors", torch.float32)
        assert all(torch.equal(tensor, state(CLIP_G)[key]) for key, tensor in state(loaded).items())
        assert (loaded.config.hidden_act, loaded.config.num_attention_heads) == ("gelu", 2)
        bare = load_clip(tmp_path / f"{name}.safetensors", torch.float32)
        inner = {key.removeprefix("text_model."): tensor for key, tensor in state(CLIP_G).items()}
        assert all(torch.equal(tensor, inner[key.removeprefix("text_model.")]) for key, tensor in state(bare).items())


def test_an_unknown_activation_is_asked_for(tmp_path: Path) -> None:
    write(transformers_names(CLIP_L), tmp_path / "clip.safetensors")
    with pytest.raises(BrokenCheckpoint, match="which activation it has"):
        load_clip(tmp_path / "clip.safetensors", torch.float32)
    write({"encoder.block.0.layer.0.weight": torch.ones(2, 2)}, tmp_path / "t5.safetensors")
    with pytest.raises(BrokenCheckpoint, match="is not a CLIP text encoder: it lacks"):
        load_clip(tmp_path / "t5.safetensors", torch.float32)


def test_a_tokenizer_is_read_from_its_folder_or_named_as_broken(tmp_path: Path) -> None:
    cast(Any, TOKENIZER).save_pretrained(str(tmp_path / "tokenizer"))
    loaded: Any = load_clip_tokenizer(tmp_path / "tokenizer")
    assert loaded("a red boat, zebra")["input_ids"][1:-1] == words("a red boat, zebra")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(BrokenCheckpoint, match="cannot be read"):
        load_clip_tokenizer(tmp_path / "broken")
