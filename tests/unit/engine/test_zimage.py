"""The Z-Image family: packed = diffusers' own forward, batched = alone, adapters touch only their own rows."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import patch

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.domain import SAMPLERS, CacheSettings, Plan, Stage
from limner.engine.adapters import Adapter
from limner.engine.deltas import Decomposed, LowRank
from limner.engine.engine import Engine, Painting
from limner.engine.families.port import AppliedAdapters, Encoding, Row
from limner.engine.families.zimage import Layout, ZImage
from limner.engine.families.zimage_weights import Components
from tests.support.checkpoints import tiny_components
from tests.support.painting import paint

# Shrinking a failing mix of paintings takes minutes and tells little more than the mix itself.
GENERATE = (Phase.explicit, Phase.reuse, Phase.generate)
FAMILY = ZImage(cast(Components, tiny_components()))
PROMPTS = ["a red boat", "two red boats on the sea at night, by a tree", "", "一只红色的猫"]


def encoding(length: int, seed: int = 0) -> Encoding:
    dim = FAMILY.transformer.config.cap_feat_dim  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(seed)
    return Encoding(torch.randn(length, dim, generator=generator), length)


def latent(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(FAMILY.latent_shape(width, height), generator=torch.Generator().manual_seed(seed))


def adapter(seed: int, *paths: str) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    targets = FAMILY.adapter_targets().denoiser
    deltas = {
        path: (
            LowRank(
                torch.randn(4, targets[path][1], generator=generator),
                torch.randn(targets[path][0], 4, generator=generator) * 0.01,
                1.0,
            ),
        )
        for path in paths or targets
    }
    return Adapter(name=f"a{seed}", sha256=str(seed), deltas=deltas)


@st.composite
def drawn_rows(draw: st.DrawFn) -> Row:
    height, width = draw(st.sampled_from([(64, 64), (64, 128), (96, 80), (176, 224)]))
    seed, length = draw(st.integers(0, 5)), draw(st.sampled_from([1, 7, 31, 32, 33, 40]))
    return Row(latent(height, width, seed), draw(st.floats(0.01, 0.99)), encoding(length, seed))


rows = drawn_rows()


@settings(max_examples=25, phases=GENERATE)
@given(st.lists(rows, min_size=1, max_size=4))
def test_the_packed_forward_equals_diffusers(batch: list[Row]) -> None:
    ours = FAMILY.predict(batch)
    with torch.inference_mode():
        theirs = FAMILY.transformer(
            [row.x.unsqueeze(1) for row in batch],
            torch.tensor([1 - row.timestep for row in batch]),
            [row.encoding.features for row in batch],
        ).sample
    for own, other in zip(ours, theirs, strict=True):
        assert torch.allclose(own, -other[:, 0], atol=2e-5)


@settings(max_examples=15, phases=GENERATE)
@given(st.lists(st.tuples(rows, st.integers(0, 2)), min_size=2, max_size=4))
def test_rows_with_different_adapters_share_a_forward(batch: list[tuple[Row, int]]) -> None:
    choices: list[AppliedAdapters] = [(), ((adapter(1), 0.8),), ((adapter(1), 0.8), (adapter(2), -0.3))]
    members = [Row(row.x, row.timestep, row.encoding, choices[which]) for row, which in batch]
    together = FAMILY.predict(members)
    for member, answer in zip(members, together, strict=True):
        alone = FAMILY.predict([member])[0]
        assert (answer - alone).abs().max() < 1e-5 * max(1.0, float(alone.abs().max()))


def test_an_adapter_changes_the_answer_and_leaves_no_trace() -> None:
    row = Row(latent(64, 64), 0.5, encoding(9))
    before = FAMILY.predict([row])[0]
    changed = FAMILY.predict([Row(row.x, row.timestep, row.encoding, ((adapter(1), 1.0),))])[0]
    after = FAMILY.predict([row])[0]
    assert not torch.allclose(before, changed, atol=1e-4)
    assert torch.equal(before, after)


@pytest.mark.parametrize("path", sorted(FAMILY.adapter_targets().denoiser))
def test_every_linear_layer_can_be_adapted(path: str) -> None:
    row = Row(latent(64, 64), 0.5, encoding(9))
    applied: AppliedAdapters = ((adapter(3, path), 1.0),)
    base = FAMILY.predict([row])[0]
    adapted = FAMILY.predict([Row(row.x, row.timestep, row.encoding, applied)])[0]
    layer = FAMILY.transformer.get_submodule(path)
    (delta,) = applied[0][0].deltas[path]
    original = layer.weight.data.clone()
    layer.weight.data += delta.matrix()
    try:
        FAMILY.forget_captions()
        merged = FAMILY.predict([row])[0]
    finally:
        layer.weight.data.copy_(original)
        FAMILY.forget_captions()
    assert torch.allclose(adapted, merged, atol=1e-4, rtol=1e-4)
    assert not torch.equal(base, adapted)


@pytest.mark.parametrize("path", ["layers.0.attention.to_k", "layers.1.feed_forward.w2", "t_embedder.mlp.0"])
def test_dora_and_a_second_adapter_start_from_the_layers_own_output(path: str) -> None:
    row = Row(latent(64, 64), 0.5, encoding(9))
    layer = FAMILY.transformer.get_submodule(path)
    (plain,), (inner,) = adapter(3, path).deltas[path], adapter(4, path).deltas[path]
    magnitude = torch.rand(layer.out_features, generator=torch.Generator().manual_seed(5))
    dora = Adapter("dora", "0", {path: (Decomposed(inner, magnitude),)})
    applied: AppliedAdapters = ((adapter(3, path), 0.5), (dora, 0.5))
    adapted = FAMILY.predict([Row(row.x, row.timestep, row.encoding, applied)])[0]
    original = layer.weight.data.clone()
    whole = original + inner.matrix()
    turned = magnitude[:, None] * whole / whole.square().sum(1, keepdim=True).sqrt()
    layer.weight.data += 0.5 * plain.matrix() + 0.5 * (turned - original)
    try:
        FAMILY.forget_captions()
        merged = FAMILY.predict([row])[0]
    finally:
        layer.weight.data.copy_(original)
        FAMILY.forget_captions()
    assert torch.allclose(adapted, merged, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(adapted, FAMILY.predict([row])[0], atol=1e-3)


def test_a_layout_splits_mixed_rows_and_batches_equal_ones() -> None:
    assert Layout((3, 3)).shape(torch.zeros(6, 2)).shape == (2, 3, 2)
    assert Layout((3, 4)).shape(torch.zeros(7, 2)).shape == (1, 7, 2)


def test_an_adapter_of_the_text_encoder_changes_its_own_encodings_only() -> None:
    path = "layers.0.self_attn.q_proj"
    layer = FAMILY.components.text_encoder.get_submodule(path)
    assert isinstance(layer, torch.nn.Linear)
    generator = torch.Generator().manual_seed(4)
    delta = LowRank(
        torch.randn(3, layer.in_features, generator=generator),
        torch.randn(layer.out_features, 3, generator=generator),
        0.5,
    )
    applied: AppliedAdapters = ((Adapter("ink", "0", {}, {"text_encoder": {path: (delta,)}}), 0.8),)
    plain = FAMILY.encode_text("two red boats")
    changed = FAMILY.encode_text("two red boats", applied)
    assert FAMILY.encode_text("two red boats", applied) is changed
    assert FAMILY.encode_text("two red boats") is plain
    original = layer.weight.data.clone()
    layer.weight.data += 0.8 * delta.scale * delta.up @ delta.down
    try:
        merged = ZImage(FAMILY.components).encode_text("two red boats")
    finally:
        layer.weight.data.copy_(original)
    assert torch.allclose(changed.features, merged.features, atol=1e-5)
    assert not torch.allclose(changed.features, plain.features, atol=1e-3)
    assert torch.equal(ZImage(FAMILY.components).encode_text("two red boats").features, plain.features)


def test_an_adapter_that_is_gone_is_never_taken_for_a_new_one() -> None:
    x, caption = latent(64, 64), encoding(9)
    deltas = [adapter(seed, "cap_embedder.1").deltas for seed in range(12)]

    def answer(family: ZImage, index: int) -> Tensor:
        # Every adapter dies at once, so that the next one is likely to lie at the same address.
        return family.predict([Row(x, 0.5, caption, ((Adapter("a", "0", deltas[index]), 1.0),))])[0]

    expected = [answer(ZImage(FAMILY.components), index) for index in range(12)]
    assert all(torch.equal(answer(FAMILY, index), expected[index]) for index in range(12))


def test_text_is_encoded_once_per_prompt() -> None:
    assert FAMILY.encode_text("a cat") is FAMILY.encode_text("a cat")


def test_unknown_words_are_named_and_left_out() -> None:
    known = FAMILY.encode_text("a red boat")
    mixed = FAMILY.encode_text("a Frumious red boat")
    assert mixed.unknown == ("Frumious",)
    assert torch.allclose(known.features, mixed.features, atol=1e-6)


def test_a_picture_survives_encoding_and_decoding_in_shape() -> None:
    pixels = torch.rand(3, 96, 64) * 2 - 1
    z = FAMILY.encode_picture(pixels)
    assert z.shape == FAMILY.latent_shape(64, 96)
    assert FAMILY.decode(z).shape == (3, 96, 64)


def test_tiled_decoding_makes_the_same_size() -> None:
    z = latent(512, 640)
    plain, tiled = FAMILY.decode(z), FAMILY.decode(z, tiled=True)
    assert plain.shape == tiled.shape == (3, 512, 640)


def test_pictures_above_a_size_are_encoded_and_decoded_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    z = latent(64, 96)
    plain = FAMILY.decode(z)
    monkeypatch.setattr("limner.engine.families.autoencoder.TILE_ABOVE_PX", 64 * 96 - 1)
    monkeypatch.setattr("limner.engine.families.autoencoder.TILE_PX", 64)
    vae: Any = FAMILY.components.vae
    with (
        patch.object(vae, "tiled_decode", wraps=vae.tiled_decode) as decoded,
        patch.object(vae, "_tiled_encode", wraps=vae._tiled_encode) as encoded,
    ):
        assert FAMILY.decode(z).shape == plain.shape
        assert FAMILY.encode_picture(plain).shape == z.shape
    assert (decoded.call_count, encoded.call_count) == (1, 1)
    monkeypatch.undo()
    assert torch.equal(FAMILY.decode(z), plain)


def test_a_preview_is_small_and_between_zero_and_one() -> None:
    preview = FAMILY.preview(latent(64, 96))
    assert preview.shape == (3, 8, 12)
    assert preview.min() >= 0 and preview.max() <= 1


stages = st.builds(
    Stage,
    width=st.sampled_from([64, 96, 112]),
    height=st.sampled_from([64, 80]),
    steps=st.integers(1, 4),
    cfg=st.sampled_from([1.0, 2.0]),
    sampler=st.sampled_from(SAMPLERS),
    schedule=st.sampled_from(["simple", "beta"]),
    shift=st.sampled_from([None, 1.15]),
    denoise=st.sampled_from([1.0, 0.6]),
    cache=st.one_of(st.none(), st.just(CacheSettings(reuse_threshold=0.4, start_percent=0.2, end_percent=0.9))),
)
adapters = [((), "none"), (((adapter(1), 0.8),), "one"), (((adapter(1), 0.5), (adapter(2), 0.5)), "two")]


@st.composite
def paintings(draw: st.DrawFn) -> Painting:
    seed = draw(st.integers(0, 2**40))
    parts = tuple(
        stage.model_copy(update={"noise_seed": seed + 10 * index, "stream_seed": seed + 10 * index + 5})
        for index, stage in enumerate(draw(st.lists(stages, min_size=1, max_size=2)))
    )
    plan = Plan(prompt=draw(st.sampled_from(PROMPTS)), negative_prompt="", seed=seed, stages=parts)
    return Painting(plan, FAMILY, draw(st.sampled_from([choice for choice, _ in adapters])))


@settings(max_examples=12, phases=GENERATE)
@given(st.lists(st.tuples(st.integers(0, 5), paintings()), min_size=2, max_size=4), st.integers(60, 500))
def test_batched_equals_alone(arrivals: list[tuple[int, Painting]], budget: int) -> None:
    together = [picture.latent for picture in paint(Engine(token_budget=budget), arrivals)]
    for (_, painting), latent in zip(arrivals, together, strict=True):
        alone = paint(Engine(), [(0, painting)])[0].latent
        assert (latent - alone).abs().max() < 1e-4
