"""SDXL and SD 1.5: our engine = diffusers' pipelines, batched = alone, adapters touch only their own rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.domain import SAMPLERS, AdapterStatus, CacheSettings, Plan, Stage
from limner.engine.adapter_targets import network_targets
from limner.engine.adapters import Adapter, load_adapter
from limner.engine.deltas import Delta, LowRank
from limner.engine.engine import Engine, Painting
from limner.engine.families.port import AppliedAdapters, Row
from limner.engine.families.unet import Unet
from limner.engine.families.unet_weights import Prediction
from limner.engine.inpainting import Inpainting
from limner.engine.noise import Noise
from limner.engine.pixels import tensor_of
from limner.engine.schedules import sigmas_for
from tests.support.checkpoints import write
from tests.support.painting import paint
from tests.support.records import gradient
from tests.support.small_unet import SmallUnet, small_clip_tokenizer, small_unet

GENERATE = (Phase.explicit, Phase.reuse, Phase.generate)
NAMES = ("sdxl", "sd15")
PARTS = {name: small_unet(name) for name in NAMES}
EPSILON, V, ZERO = Prediction(), Prediction("v_prediction"), Prediction("v_prediction", True)
PREDICTIONS = pytest.mark.parametrize("prediction", [EPSILON, V, ZERO], ids=["epsilon", "v", "zero"])
BOTH = pytest.mark.parametrize("name", NAMES)


def family_of(parts: SmallUnet, prediction: Prediction = EPSILON) -> Unet:
    return Unet(parts.components(prediction))


FAMILIES = {name: family_of(parts) for name, parts in PARTS.items()}


def layers_of(name: str, component: str = "transformer") -> dict[str, nn.Module]:
    network = FAMILIES[name].networks()[component]
    return {path: network.get_submodule(path) for path in network_targets(network)}


def change_of(layer: Any, seed: int, strength: float = 0.05) -> tuple[Delta, ...]:
    generator = torch.Generator().manual_seed(seed)
    out, *rest = layer.weight.shape
    down = torch.randn(2, *rest, generator=generator) / layer.weight[0].numel() ** 0.5
    return (LowRank(down, torch.randn(out, 2, generator=generator) * strength, 1.0),)


def adapter(name: str, seed: int, *paths: str, texts: bool = True) -> Adapter:
    known = layers_of(name)
    deltas = {path: change_of(known[path], seed + i) for i, path in enumerate(paths or known)}
    encoders = [component for component in FAMILIES[name].networks() if component.startswith("text_encoder")]
    text_deltas = {
        component: {
            path: change_of(layer, seed + i)
            for i, (path, layer) in enumerate(layers_of(name, component).items())
            if path.endswith("mlp.fc1")
        }
        for component in (encoders if texts else ())
    }
    return Adapter(f"a{seed}", str(seed), deltas, text_deltas)


def seeded(seed: int, *stages: Stage) -> tuple[Stage, ...]:
    return tuple(
        stage.model_copy(update={"noise_seed": seed + 10 * index, "stream_seed": seed + 10 * index + 5})
        for index, stage in enumerate(stages)
    )


def scheduler_of(prediction: Prediction) -> Any:
    factory: Any = EulerDiscreteScheduler
    return factory(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        timestep_spacing="trailing",
        prediction_type=prediction.prediction_type,
        rescale_betas_zero_snr=prediction.rescale_betas_zero_snr,
        steps_offset=1,
    )


def pipeline_of(parts: SmallUnet, prediction: Prediction) -> Any:
    scheduler = scheduler_of(prediction)
    if parts.text_encoder_2 is None:
        factory: Any = StableDiffusionPipeline
        pipeline = factory(
            parts.vae,
            parts.text_encoder,
            parts.tokenizer,
            parts.unet,
            scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    else:
        factory = StableDiffusionXLPipeline
        larger = small_clip_tokenizer("!")
        pipeline = factory(
            parts.vae, parts.text_encoder, parts.text_encoder_2, parts.tokenizer, larger, parts.unet, scheduler
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# diffusers reads its own tables in a way that NumPy warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@BOTH
@PREDICTIONS
def test_a_picture_is_that_of_diffusers_pipeline(name: str, prediction: Prediction) -> None:
    family = family_of(PARTS[name], prediction)
    stage = Stage(width=80, height=64, steps=4, cfg=3.0, sampler="euler", schedule="simple")
    plan = Plan(prompt="a red boat at sea", negative_prompt="blue", seed=7, stages=seeded(7, stage))
    (ours,) = paint(Engine(), [(0, Painting(plan, family))])
    sigmas = sigmas_for(family.parameterization(None, 80, 64), "simple", 4)
    noise = Noise(7, family.latent_shape(80, 64), float(sigmas[-2]), float(sigmas[0])).initial()
    pipeline = pipeline_of(PARTS[name], prediction)
    asked: dict[str, Any] = {"prompt": plan.prompt, "negative_prompt": "blue", "guidance_scale": 3.0}
    # This scheduler multiplies with its first level; what the stage begins with is a little more.
    top = float(sigmas[0])
    begun = noise[None] * math.sqrt(1 + top**2) / top
    asked |= {"width": 80, "height": 64, "sigmas": [float(sigma) for sigma in sigmas], "latents": begun}
    latent: Tensor = pipeline(**asked, output_type="latent").images[0]
    pixels: Tensor = pipeline(**asked, output_type="pt").images[0]
    assert float(latent.abs().max()) > 0.5
    assert (ours.latent - latent).abs().max() < 1e-4
    assert ((ours.pixels + 1) / 2 - pixels).abs().max() < 1e-4


PROMPTS = ["a red boat", "", "(a blue tree:1.3) by the house " * 20, "cat BREAK sea at night"]
ADAPTERS: dict[str, list[AppliedAdapters]] = {
    name: [(), ((adapter(name, 1), 0.8),), ((adapter(name, 1), 0.5), (adapter(name, 2), -0.4))] for name in NAMES
}
stages = st.builds(
    Stage,
    width=st.sampled_from([64, 80]),
    height=st.sampled_from([64, 96]),
    steps=st.integers(1, 3),
    cfg=st.sampled_from([1.0, 3.0]),
    sampler=st.sampled_from(SAMPLERS),
    schedule=st.sampled_from(["simple", "karras"]),
    denoise=st.sampled_from([1.0, 0.6]),
    cache=st.one_of(st.none(), st.just(CacheSettings(reuse_threshold=0.4, start_percent=0.2, end_percent=0.9))),
)


@st.composite
def paintings(draw: st.DrawFn) -> Painting:
    name = draw(st.sampled_from(NAMES))
    seed = draw(st.integers(0, 2**40))
    parts = seeded(seed, *draw(st.lists(stages, min_size=1, max_size=2)))
    skip = draw(st.sampled_from([None, 2]))
    prompt, negative = draw(st.sampled_from(PROMPTS)), draw(st.sampled_from(PROMPTS[:2]))
    plan = Plan(prompt=prompt, negative_prompt=negative, seed=seed, stages=parts, clip_skip=skip)
    return Painting(plan, FAMILIES[name], draw(st.sampled_from(ADAPTERS[name])))


@settings(max_examples=4, phases=GENERATE)
@given(st.lists(st.tuples(st.integers(0, 3), paintings()), min_size=2, max_size=3), st.integers(100, 900))
def test_batched_equals_alone(arrivals: list[tuple[int, Painting]], budget: int) -> None:
    together = paint(Engine(token_budget=budget), arrivals)
    for (_, painting), batched in zip(arrivals, together, strict=True):
        (alone,) = paint(Engine(), [(0, painting)])
        assert (batched.latent - alone.latent).abs().max() < 1e-4


def rows_of(name: str, adapters: list[AppliedAdapters]) -> list[Row]:
    family = FAMILIES[name]
    rows: list[Row] = []
    for seed, applied in enumerate(adapters):
        x = torch.randn(family.latent_shape(64, 80), generator=torch.Generator().manual_seed(seed))
        encoding = family.encode_text(PROMPTS[seed % len(PROMPTS)], applied)
        rows.append(Row(x, 100.5 * (seed + 1), encoding, applied))
    return rows


@BOTH
def test_rows_of_other_texts_times_and_adapters_share_a_forward(name: str) -> None:
    first, second, third = ADAPTERS[name]
    rows = rows_of(name, [second, first, second, third, first])
    calls: list[int] = []
    unet: Any = PARTS[name].unet

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append(len(inputs[0]))

    hook = unet.register_forward_pre_hook(note)
    try:
        together = FAMILIES[name].predict(rows)
    finally:
        hook.remove()
    assert sorted(calls) == [1, 1, 3]
    for row, answer in zip(rows, together, strict=True):
        assert (answer - FAMILIES[name].predict([row])[0]).abs().max() < 1e-4


@BOTH
def test_every_layer_can_be_adapted_as_if_its_weight_were_changed(name: str) -> None:
    (row,) = rows_of(name, [()])
    chosen = [path for path in layers_of(name) if path.endswith(("to_q", "conv1", "time_emb_proj", "linear_2", "conv"))]
    change = adapter(name, 3, *chosen, texts=False)
    adapted = FAMILIES[name].predict([Row(row.x, row.timestep, row.encoding, ((change, 0.7),))])[0]
    before = FAMILIES[name].predict([row])[0]
    originals: dict[str, Tensor] = {}
    for path in chosen:
        layer = cast(Any, layers_of(name)[path])
        originals[path] = layer.weight.data.clone()
        (delta,) = change.deltas[path]
        layer.weight.data += 0.7 * delta.matrix().view(layer.weight.shape)
    try:
        merged = FAMILIES[name].predict([row])[0]
    finally:
        for path, original in originals.items():
            cast(Any, layers_of(name)[path]).weight.data.copy_(original)
    assert torch.allclose(adapted, merged, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(adapted, before, atol=1e-3)
    assert torch.equal(FAMILIES[name].predict([row])[0], before)


@BOTH
def test_adapters_of_text_encoders_change_their_own_encodings_only(name: str) -> None:
    family = family_of(PARTS[name])
    applied: AppliedAdapters = ((adapter(name, 5), 1.0),)
    plain, changed = family.encode_text("a red boat"), family.encode_text("a red boat", applied)
    width = PARTS[name].text_encoder.config.hidden_size
    assert not torch.allclose(plain.features[:, :width], changed.features[:, :width], atol=1e-3)
    if name == "sdxl":
        assert not torch.allclose(plain.features[:, width:], changed.features[:, width:], atol=1e-3)
        assert not torch.allclose(plain.extra["pooled"], changed.extra["pooled"], atol=1e-3)
    assert family.encode_text("a red boat") is plain
    assert family.encode_text("a red boat", applied) is changed
    assert family.encode_text("a red boat", clip_skip=3) is not plain
    bare: AppliedAdapters = ((adapter(name, 6, "conv_in", texts=False), 1.0),)
    assert family.encode_text("a red boat", bare) is plain


@BOTH
def test_a_file_of_kohyas_names_finds_all_its_layers(name: str, tmp_path: Path) -> None:
    places = FAMILIES[name].adapter_targets().originals
    original = next(key for key, (place,) in places.items() if place.path.endswith("attentions.0.proj_in"))
    block = next(key for key, (place,) in places.items() if place.path == "up_blocks.0.upsamplers.0.conv")
    first, second = ("lora_te1", "lora_te2") if name == "sdxl" else ("lora_te", "")
    wanted = {
        f"lora_unet_{original.replace('.', '_')}": ("transformer", places[original][0].path),
        f"lora_unet_{block.replace('.', '_')}": ("transformer", places[block][0].path),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q": (
            "transformer",
            "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
        ),
        f"{first}_text_model_encoder_layers_0_mlp_fc1": ("text_encoder", "encoder.layers.0.mlp.fc1"),
    }
    if second:
        wanted[f"{second}_text_model_encoder_layers_0_mlp_fc1"] = ("text_encoder_2", "encoder.layers.0.mlp.fc1")
    tensors: dict[str, Tensor] = {}
    for stem, (component, path) in wanted.items():
        targets = network_targets(FAMILIES[name].networks()[component])
        out, *rest = next(shape for place, shape in targets.items() if place.endswith(path))
        tensors[f"{stem}.lora_down.weight"] = torch.ones(2, *rest)
        tensors[f"{stem}.lora_up.weight"] = torch.ones(out, 2, *([1, 1] if rest[1:] else []))
    loaded = load_adapter(write(tensors, tmp_path / "ink.safetensors"), FAMILIES[name].adapter_targets(), name)
    assert (loaded.status, loaded.matched) == (AdapterStatus.APPLIED, len(wanted)), loaded.reason
    assert loaded.adapter is not None
    for component, path in wanted.values():
        assert any(place.endswith(path) for place in loaded.adapter.of(component))


def test_sdxl_is_told_the_size_of_its_picture() -> None:
    seen: list[Tensor] = []
    unet: Any = PARTS["sdxl"].unet

    def note(_: nn.Module, __: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append(named["added_cond_kwargs"]["time_ids"])

    hook = unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        FAMILIES["sdxl"].predict(rows_of("sdxl", [(), ()]))
    finally:
        hook.remove()
    told = torch.tensor([[80.0, 64.0, 0.0, 0.0, 80.0, 64.0]])
    assert seen and all(torch.equal(sizes, told.repeat(len(sizes), 1)) for sizes in seen)


@BOTH
def test_a_picture_to_start_from_and_a_mask_are_kept_to(name: str) -> None:
    family = FAMILIES[name]
    stages = seeded(3, Stage(width=64, height=64, steps=3, denoise=0.6, cfg=2.0, sampler="euler_ancestral"))
    plan = Plan(prompt="a blue house", negative_prompt="", seed=3, stages=stages)
    picture = tensor_of(gradient(64, 64))
    mask = torch.zeros(1, 64, 64)
    mask[..., 40:] = 1
    free, kept = paint(
        Engine(),
        [
            (0, Painting(plan, family, (), picture)),
            (0, Painting(plan, family, (), picture, Inpainting(picture, mask))),
        ],
    )
    assert torch.equal(kept.pixels[..., :24], picture[..., :24])
    assert not torch.allclose(kept.pixels[..., 48:], picture[..., 48:], atol=1e-2)
    assert not torch.allclose(free.pixels[..., :24], picture[..., :24], atol=1e-2)


@BOTH
def test_pictures_of_one_prompt_differ_by_their_seeds_and_come_again(name: str) -> None:
    stage = Stage(width=64, height=64, steps=2, cfg=2.0)
    plans = [Plan(prompt="a cat", negative_prompt="", seed=s, stages=seeded(s, stage)) for s in (1, 2, 1)]
    first, second, third = paint(Engine(), [(0, Painting(plan, FAMILIES[name])) for plan in plans])
    assert (first.pixels - second.pixels).abs().max() > 1e-2
    assert (first.pixels - third.pixels).abs().max() < 1e-4


@BOTH
def test_large_pictures_are_decoded_in_tiles_and_previews_are_small(name: str) -> None:
    family = FAMILIES[name]
    latent = torch.randn(family.latent_shape(640, 576), generator=torch.Generator().manual_seed(0))
    assert family.decode(latent, tiled=True).shape == (3, 576, 640)
    preview = family.preview(latent)
    assert preview.shape == (3, 72, 80)
    assert preview.min() >= 0 and preview.max() <= 1
    assert family.row_tokens((4, 72, 80), family.encode_text("a"), ()) == 36 * 40 + 77
