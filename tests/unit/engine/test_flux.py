"""The FLUX family: its pictures are diffusers' own, batched = alone, references and adapters stay in their own rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.pipelines.flux import pipeline_flux
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.pipelines.flux.pipeline_flux_kontext import FluxKontextPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.domain import Plan, Stage
from limner.engine.adapters import Adapter, load_adapter
from limner.engine.deltas import LowRank
from limner.engine.engine import Engine, Painting
from limner.engine.families.flux import Flux, FluxFlow
from limner.engine.families.flux_names import transformer_parts
from limner.engine.families.port import AppliedAdapters, Row
from limner.engine.inpainting import Inpainting
from limner.engine.noise import Noise
from limner.engine.schedules import sigmas_for
from limner.engine.tensor_files import open_tensors
from limner.errors import InvalidRequest
from tests.support.checkpoints import write
from tests.support.painting import paint
from tests.support.small_flux import SmallFlux, original_transformer, small_flux

GENERATE = (Phase.explicit, Phase.reuse, Phase.generate)
DEV, SCHNELL = small_flux(), small_flux(seed=1, guidance_embeds=False)
FAMILY, FAST = Flux(DEV.components()), Flux(SCHNELL.components())
PROMPTS = ["a red boat", "the blue house on the sea at night", "", "a Frumious boat"]


def latent(width: int, height: int, seed: int = 0) -> Tensor:
    return torch.randn(FAMILY.latent_shape(width, height), generator=torch.Generator().manual_seed(seed))


def picture(width: int, height: int, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def adapter(seed: int, *paths: str, scale: float = 0.02) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    targets = FAMILY.adapter_targets().denoiser
    return Adapter(
        name=f"a{seed}",
        sha256=str(seed),
        deltas={
            path: (
                LowRank(
                    torch.randn(4, targets[path][1], generator=generator),
                    torch.randn(targets[path][0], 4, generator=generator) * scale,
                    1.0,
                ),
            )
            for path in paths or targets
        },
    )


def painting(family: Flux = FAMILY, prompt: str = "a red boat", **fields: Any) -> Painting:
    """A picture of one stage; fields of `Painting` and of `Stage` together."""
    beside = {name: fields.pop(name) for name in ("adapters", "reference", "inpainting", "context") if name in fields}
    negative, seed = fields.pop("negative_prompt", ""), fields.pop("seed", 7)
    settings: dict[str, Any] = {"width": 64, "height": 64, "steps": 3, "sampler": "euler", "cfg": 1.0} | fields
    stage = Stage(**settings, schedule="simple", noise_seed=seed, stream_seed=seed + 1)
    return Painting(Plan(prompt=prompt, negative_prompt=negative, seed=seed, stages=(stage,)), family, **beside)


def diffusers_latent(kind: Any, parts: SmallFlux, ours: Painting, tokens: int = 512, **given: Any) -> Tensor:
    """What diffusers' pipeline makes of a painting, from the same noise at the same noise levels."""
    stage = ours.plan.stages[0]
    family = ours.family
    sigmas = sigmas_for(
        family.parameterization(stage.shift, stage.width, stage.height), "simple", stage.steps, sampler="euler"
    )
    assert stage.noise_seed is not None
    shape = family.latent_shape(stage.width, stage.height)
    noise = Noise(stage.noise_seed, shape, float(sigmas[-2]), float(sigmas[0])).initial()
    # Without any shift of its own, the scheduler walks the levels as they are given.
    pipeline = kind(scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), **vars(parts))
    pipeline.set_progress_bar_config(disable=True)
    packed = pipeline(
        prompt=ours.plan.prompt,
        width=stage.width,
        height=stage.height,
        num_inference_steps=stage.steps,
        sigmas=[float(sigma) for sigma in sigmas[:-1]],
        latents=FluxPipeline._pack_latents(noise[None], 1, *shape),  # pyright: ignore
        guidance_scale=3.5 if stage.guidance is None else stage.guidance,
        max_sequence_length=tokens,
        output_type="latent",
        return_dict=False,
        **given,
    )[0]
    return FluxPipeline._unpack_latents(packed, stage.height, stage.width, 8)[0]  # pyright: ignore


def difference(ours: Painting, theirs: Tensor) -> float:
    (painted,) = paint(Engine(), [(0, ours)])
    assert float(theirs.std()) > 0.1
    return float((painted.latent - theirs).abs().max())


@pytest.mark.parametrize(("width", "height"), [(64, 64), (112, 80)])
@pytest.mark.parametrize("prompt", PROMPTS[1:3])
def test_dev_paints_what_diffusers_paints(width: int, height: int, prompt: str) -> None:
    ours = painting(prompt=prompt, width=width, height=height)
    assert difference(ours, diffusers_latent(FluxPipeline, DEV, ours)) < 1e-4


def test_the_guidance_of_a_request_is_the_network_s() -> None:
    ours = painting(guidance=1.5)
    theirs = diffusers_latent(FluxPipeline, DEV, ours)
    assert difference(ours, theirs) < 1e-4
    assert difference(painting(guidance=5.0), theirs) > 1e-3


def test_schnell_paints_what_diffusers_paints_with_256_words() -> None:
    ours = painting(FAST, steps=4)
    assert difference(ours, diffusers_latent(FluxPipeline, SCHNELL, ours, tokens=256)) < 1e-4
    assert FAST.encode_text("a red boat").tokens == 256
    assert FAMILY.encode_text("a red boat").tokens == 512


def test_a_negative_prompt_paints_what_diffusers_paints() -> None:
    ours = painting(cfg=2.0, negative_prompt="the tree")
    theirs = diffusers_latent(FluxPipeline, DEV, ours, negative_prompt="the tree", true_cfg_scale=2.0)
    assert difference(ours, theirs) < 1e-4


@pytest.mark.parametrize(("width", "height"), [(64, 64), (80, 112)])
def test_kontext_paints_what_diffusers_paints(width: int, height: int) -> None:
    seen = picture(96, 80, seed=3)
    ours = painting(width=width, height=height, context=(seen,))
    theirs = diffusers_latent(
        FluxKontextPipeline, DEV, ours, image=seen[None] / 2 + 0.5, max_area=width * height, _auto_resize=False
    )
    assert difference(ours, theirs) < 1e-4
    assert difference(painting(width=width, height=height), theirs) > 1e-3


def test_the_shift_without_a_wish_is_diffusers() -> None:
    times = torch.linspace(1.0, 0.25, 4)
    for width, height in ((256, 256), (1024, 1024), (1536, 640), (64, 64)):
        scheduler: Any = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        mu = float(cast(Any, pipeline_flux).calculate_shift(width * height // 256))
        scheduler.set_timesteps(sigmas=[float(time) for time in times], mu=mu)
        flow = FAMILY.parameterization(None, width, height)
        assert flow.shift == pytest.approx(math.exp(mu))
        assert torch.allclose(flow.sigmas_at(times), scheduler.sigmas[:-1], atol=1e-6)
        assert FAST.parameterization(None, width, height).shift == 1.0
    assert FAMILY.parameterization(2.0, 64, 64).shift == FAST.parameterization(2.0, 64, 64).shift == 2.0


def test_dev_s_table_is_as_fine_as_comfyui_s() -> None:
    flow = FAMILY.parameterization(None, 1024, 1024)
    assert isinstance(flow, FluxFlow)
    assert len(flow.table) == 10_000
    # A third of the way down a table of 10,000 the level is that of t = 0.6667, in one of 1,000 that of 0.667.
    assert float(flow.table[-(1 + 3333)]) == pytest.approx(flow.shift / (flow.shift + 1 / 0.6667 - 1), abs=1e-6)
    assert float(sigmas_for(flow, "simple", 3)[1]) == float(flow.table[-(1 + 3333)])
    assert (flow.timestep(0.4), float(flow.sigma_max)) == (0.4, 1.0)


# --- batches ----------------------------------------------------------------------------------------------------------


@st.composite
def drawn_paintings(draw: st.DrawFn) -> Painting:
    contexts = [(), (picture(32, 48, 1),), (picture(32, 48, 2),), (picture(48, 32, 3), picture(32, 48, 1))]
    adapters: list[AppliedAdapters] = [(), ((adapter(1), 0.8),), ((adapter(1), 0.5), (adapter(2), 0.7))]
    return painting(
        prompt=draw(st.sampled_from(PROMPTS)),
        seed=draw(st.integers(0, 2**40)),
        width=draw(st.sampled_from([64, 80])),
        height=draw(st.sampled_from([64, 80])),
        steps=draw(st.integers(1, 4)),
        cfg=draw(st.sampled_from([1.0, 2.0])),
        guidance=draw(st.sampled_from([None, 1.0, 4.0])),
        sampler=draw(st.sampled_from(["euler", "euler_ancestral", "dpmpp_2m"])),
        adapters=draw(st.sampled_from(adapters)),
        context=draw(st.sampled_from(contexts)),
    )


@settings(max_examples=6, phases=GENERATE, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), drawn_paintings()), min_size=2, max_size=4), st.integers(600, 5000))
def test_batched_equals_alone(arrivals: list[tuple[int, Painting]], budget: int) -> None:
    together = paint(Engine(token_budget=budget), arrivals)
    for (_, each), painted in zip(arrivals, together, strict=True):
        (alone,) = paint(Engine(), [(0, each)])
        assert (painted.latent - alone.latent).abs().max() < 1e-4


def test_late_joiners_share_forwards_and_paint_what_they_paint_alone() -> None:
    arrivals = [
        (0, painting(steps=5, context=(picture(32, 48, 1),), adapters=((adapter(1), 0.8),))),
        (1, painting(prompt=PROMPTS[1], steps=3, cfg=2.0, guidance=1.0, seed=3, context=(picture(32, 48, 2),))),
        (
            2,
            painting(prompt="", steps=4, denoise=0.6, seed=9, context=(picture(32, 48, 3),), reference=picture(64, 64)),
        ),
    ]
    sizes: list[int] = []
    hook = DEV.transformer.proj_out.register_forward_hook(lambda _, inputs, output: sizes.append(len(output)))
    try:
        together = paint(Engine(token_budget=100_000), arrivals)
    finally:
        hook.remove()
    assert max(sizes) == 4
    for (_, each), painted in zip(arrivals, together, strict=True):
        (alone,) = paint(Engine(), [(0, each)])
        assert (painted.latent - alone.latent).abs().max() < 1e-4


def test_rows_of_one_forward_keep_their_own_everything() -> None:
    references = [(picture_latent(seed),) for seed in (1, 2, 3)]
    rows = [
        Row(latent(48, 64, 1), 0.9, FAMILY.encode_text(PROMPTS[0]), ((adapter(1), 1.0),), None, references[0]),
        Row(latent(48, 64, 2), 0.2, FAMILY.encode_text(PROMPTS[1]), (), 1.0, references[1]),
        Row(latent(48, 64, 3), 0.5, FAMILY.encode_text(PROMPTS[2]), ((adapter(2), -0.5),), 6.0, references[2]),
    ]
    together = FAMILY.predict(rows)
    for row, answer in zip(rows, together, strict=True):
        (alone,) = FAMILY.predict([row])
        assert answer.shape == row.x.shape
        assert (answer - alone).abs().max() < 1e-5 * max(1.0, float(alone.abs().max()))


def picture_latent(seed: int) -> Tensor:
    return latent(32, 48, seed)


def test_only_rows_of_one_size_with_references_of_equal_sizes_share_a_forward() -> None:
    shape = FAMILY.latent_shape(64, 64)
    one, two = latent(32, 48, 1), latent(48, 32, 1)
    assert FAMILY.batch_key(shape, (one,)) == FAMILY.batch_key(shape, (latent(32, 48, 2),))
    keys = {FAMILY.batch_key(shape, seen) for seen in ((), (one,), (two,), (one, two), (two, one))}
    assert len(keys | {FAMILY.batch_key(FAMILY.latent_shape(64, 32))}) == 6


def test_a_row_costs_its_text_its_picture_and_its_references() -> None:
    encoding = FAMILY.encode_text("a red boat")
    assert FAMILY.row_tokens((16, 8, 8), encoding) == 512 + 16
    assert FAMILY.row_tokens((16, 8, 8), encoding, (torch.zeros(16, 4, 6),)) == 512 + 16 + 6


# --- references -------------------------------------------------------------------------------------------------------


def test_several_references_lie_side_by_side_on_a_plane_of_their_own() -> None:
    """The places are counted by hand: 2x3, then 3x2 below it, then 2x2 to the right of both."""
    seen: list[Tensor] = []
    hook = DEV.transformer.pos_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    references = (latent(48, 32, 1), latent(32, 48, 2), latent(32, 32, 3))
    try:
        FAMILY.predict([Row(latent(32, 32), 0.5, FAMILY.encode_text(""), references=references)])
    finally:
        hook.remove()
    places = cast(Any, seen[0][512:]).tolist()
    assert places[:4] == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert places[4:10] == [[1, row, column] for row in range(2) for column in range(3)]
    assert places[10:16] == [[1, 2 + row, column] for row in range(3) for column in range(2)]
    assert places[16:] == [[1, row, 3 + column] for row in range(2) for column in range(2)]


def test_an_odd_reference_is_refused_with_a_remedy() -> None:
    row = Row(latent(32, 32), 0.5, FAMILY.encode_text(""), references=(torch.zeros(16, 3, 4),))
    with pytest.raises(InvalidRequest, match=r"32x24 does not fit FLUX\. Choose sides that are multiples of 16"):
        FAMILY.predict([row])


# --- texts and adapters -----------------------------------------------------------------------------------------------


def test_texts_are_read_as_diffusers_reads_them() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    pipeline: Any = FluxPipeline(scheduler=scheduler, **vars(DEV))
    for prompt in (*PROMPTS, "a red boat on the sea " * 30):
        features, pooled, _ = pipeline.encode_prompt(prompt)
        encoding = FAMILY.encode_text(prompt)
        assert torch.equal(encoding.features, features[0])
        assert torch.equal(encoding.extra["pooled"], pooled[0])


def test_text_is_encoded_once_per_prompt() -> None:
    assert FAMILY.encode_text("a house") is FAMILY.encode_text("a house")


def test_words_that_t5_does_not_know_are_named() -> None:
    assert FAMILY.encode_text("a red boat").unknown == ()
    assert any("Frumious" in word for word in FAMILY.encode_text("a Frumious boat").unknown)


@pytest.mark.parametrize("path", sorted(FAMILY.adapter_targets().denoiser))
def test_every_linear_layer_can_be_adapted(path: str) -> None:
    row = Row(latent(32, 32), 0.5, FAMILY.encode_text("a red boat"))
    applied: AppliedAdapters = ((adapter(3, path, scale=0.1), 1.0),)
    (base,) = FAMILY.predict([row])
    (adapted,) = FAMILY.predict([Row(row.x, row.timestep, row.encoding, applied)])
    layer = FAMILY.transformer.get_submodule(path)
    assert isinstance(layer, torch.nn.Linear)
    (delta,) = applied[0][0].deltas[path]
    original = layer.weight.data.clone()
    layer.weight.data += delta.matrix()
    try:
        (merged,) = FAMILY.predict([row])
    finally:
        layer.weight.data.copy_(original)
    assert torch.allclose(adapted, merged, atol=1e-4, rtol=1e-4)
    assert not torch.equal(base, adapted)
    assert torch.equal(FAMILY.predict([row])[0], base)


def test_an_adapter_under_the_original_names_is_the_change_of_the_original_weights(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    original, lora = original_transformer(DEV.transformer), dict[str, Tensor]()
    changed = (
        "double_blocks.0.img_attn.qkv",
        "double_blocks.0.txt_mlp.2",
        "single_blocks.1.linear1",
        "single_blocks.0.linear2",
        "final_layer.adaLN_modulation.1",
        "vector_in.in_layer",
    )
    for name in changed:
        weight = original[f"{name}.weight"]
        down = torch.randn(3, weight.shape[1], generator=generator)
        up = torch.randn(weight.shape[0], 3, generator=generator) * 0.1
        original[f"{name}.weight"] = weight + 0.5 * up @ down
        kohya = "lora_unet_" + name.replace(".", "_")
        lora |= {f"{kohya}.lora_down.weight": down, f"{kohya}.lora_up.weight": up, f"{kohya}.alpha": torch.tensor(1.5)}
    loaded = load_adapter(write(lora, tmp_path / "ink.safetensors"), FAMILY.adapter_targets(), "flux")
    assert (loaded.status, loaded.matched, loaded.total) == ("applied", len(changed), len(changed))
    assert loaded.adapter is not None
    merged = small_flux()
    source = open_tensors(write(original, tmp_path / "merged.safetensors"))
    stored = source.load()
    merged.transformer.load_state_dict({n: p.take(stored[p.name]) for n, p in transformer_parts(source).items()})
    row = Row(latent(32, 48), 0.5, FAMILY.encode_text("a red boat"))
    (expected,) = Flux(merged.components()).predict([row])
    (adapted,) = FAMILY.predict([Row(row.x, row.timestep, row.encoding, ((loaded.adapter, 1.0),))])
    assert torch.allclose(adapted, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(adapted, FAMILY.predict([row])[0], atol=1e-2)


@pytest.mark.parametrize(
    ("component", "path"),
    [
        ("text_encoder", "encoder.layers.0.self_attn.q_proj"),
        ("text_encoder_2", "encoder.block.0.layer.0.SelfAttention.v"),
    ],
)
def test_an_adapter_of_a_text_encoder_changes_its_own_encodings_only(component: str, path: str) -> None:
    layer = FAMILY.networks()[component].get_submodule(path)
    assert isinstance(layer, torch.nn.Linear)
    generator = torch.Generator().manual_seed(4)
    delta = LowRank(
        torch.randn(3, layer.in_features, generator=generator),
        torch.randn(layer.out_features, 3, generator=generator),
        0.5,
    )
    applied: AppliedAdapters = ((Adapter("ink", "0", {}, {component: {path: (delta,)}}), 0.8),)

    def read(family: Flux, adapters: AppliedAdapters = ()) -> dict[str, Tensor]:
        encoding = family.encode_text("the red boat", adapters)
        return {"text_encoder": encoding.extra["pooled"], "text_encoder_2": encoding.features}

    plain, changed = read(FAMILY), read(FAMILY, applied)
    assert FAMILY.encode_text("the red boat", applied) is FAMILY.encode_text("the red boat", applied)
    original = layer.weight.data.clone()
    layer.weight.data += 0.8 * delta.matrix()
    try:
        merged = read(Flux(DEV.components()))
    finally:
        layer.weight.data.copy_(original)
    for part, tensor in changed.items():
        assert torch.allclose(tensor, merged[part], atol=1e-5)
        assert torch.equal(tensor, plain[part]) is (part != component)
    after = read(Flux(DEV.components()))
    assert all(torch.equal(after[part], plain[part]) for part in plain)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_picture_survives_encoding_and_decoding_in_shape() -> None:
    z = FAMILY.encode_picture(picture(64, 96))
    assert z.shape == FAMILY.latent_shape(64, 96) == (16, 12, 8)
    assert FAMILY.decode(z).shape == FAMILY.decode(z, tiled=True).shape == (3, 96, 64)
    preview = FAMILY.preview(z)
    assert preview.shape == (3, 12, 8)
    assert preview.min() >= 0 and preview.max() <= 1


def test_a_picture_is_painted_over_from_a_reference() -> None:
    start = picture(64, 64, seed=5)
    (anew,) = paint(Engine(), [(0, painting(steps=4))])
    (over,) = paint(Engine(), [(0, painting(steps=4, denoise=0.25, reference=start))])
    z = FAMILY.encode_picture(start)
    assert (over.latent - z).abs().mean() < 0.5 * (anew.latent - z).abs().mean()
    assert not torch.allclose(over.latent, z, atol=1e-2)


def test_what_a_mask_keeps_stays_and_the_rest_is_painted() -> None:
    start = picture(64, 64, seed=5)
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1.0
    kept = painting(steps=3, reference=start, inpainting=Inpainting(start, mask))
    (painted,) = paint(Engine(), [(0, kept)])
    assert torch.allclose(painted.pixels[:, :, :16], start[:, :, :16], atol=1e-5)
    assert (painted.pixels[:, :, 40:] - start[:, :, 40:]).abs().mean() > 0.05


def test_half_precision_is_told_exact_times() -> None:
    half = small_flux()
    torch.nn.Module.to(half.transformer, torch.bfloat16)
    family, told = Flux(half.components()), list[float]()

    def listen(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        told.append(round(float(inputs[0]), 3))

    hook = half.transformer.get_submodule("time_text_embed.time_proj").register_forward_pre_hook(listen)
    encoding = FAMILY.encode_text("a red boat")
    narrow = type(encoding)(encoding.features.bfloat16(), 512, extra={"pooled": encoding.extra["pooled"].bfloat16()})
    try:
        (answer,) = family.predict([Row(latent(32, 32), 0.777, narrow, guidance=3.3)])
    finally:
        hook.remove()
    assert answer.dtype is torch.float32
    assert told == [777.0, 3300.0]
