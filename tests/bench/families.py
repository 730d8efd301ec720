"""FLUX, Kontext and SDXL of small random networks against diffusers' pipelines over the very same modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.pipelines.flux.pipeline_flux_kontext import FluxKontextPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from PIL import Image

from limner.domain import Plan, Stage
from limner.engine.engine import Broke, Engine, Painted, Painting
from limner.engine.families.flux import Flux
from limner.engine.families.port import Family
from limner.engine.families.unet import Unet
from limner.engine.pixels import tensor_of
from tests.bench.cpu import turns
from tests.bench.report import Measurement
from tests.support.small_flux import small_flux
from tests.support.small_unet import small_clip_tokenizer, small_unet

STEPS = 8
SMALL, LARGE = (128, 128), (320, 320)
PROMPTS = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("boat", "tree", "house", "sea")]
# Wide and deep enough that the arithmetic counts, small enough for a CPU.
TRANSFORMER: dict[str, Any] = {
    "num_layers": 3,
    "num_single_layers": 6,
    "attention_head_dim": 64,
    "num_attention_heads": 4,
    "axes_dims_rope": [16, 24, 24],
}

Paint = Callable[[str, int, tuple[int, int]], Any]


def flux(checkpoint: Path, rounds: int) -> list[Measurement]:
    """FLUX.1-dev's kind: distilled guidance."""
    parts = small_flux(**TRANSFORMER)
    pipeline = _quiet(FluxPipeline(scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), **vars(parts)))
    family = Flux(parts.components())

    def theirs(prompt: str, seed: int, size: tuple[int, int]) -> None:
        pipeline(
            prompt=prompt, width=size[0], height=size[1], num_inference_steps=STEPS, guidance_scale=3.5,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip

    def ours(prompt: str, seed: int, size: tuple[int, int]) -> Painting:
        return _painting(family, prompt, seed, size, guidance=3.5)

    return _compared("FLUX", ours, theirs, rounds)


def kontext(checkpoint: Path, rounds: int) -> list[Measurement]:
    """FLUX.1 Kontext's kind: a reference picture of 256x256 is looked at."""
    parts = small_flux(**TRANSFORMER)
    pipeline = _quiet(FluxKontextPipeline(scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), **vars(parts)))
    family = Flux(parts.components())
    picture = Image.linear_gradient("L").resize((256, 256)).convert("RGB")
    context = (tensor_of(picture),)

    def theirs(prompt: str, seed: int, size: tuple[int, int]) -> None:
        pipeline(
            image=picture, prompt=prompt, width=size[0], height=size[1], num_inference_steps=STEPS,
            guidance_scale=2.5, generator=torch.Generator().manual_seed(seed), _auto_resize=False,
            max_area=size[0] * size[1],
        )  # fmt: skip

    def ours(prompt: str, seed: int, size: tuple[int, int]) -> Painting:
        return _painting(family, prompt, seed, size, guidance=2.5, context=context)

    return _compared("Kontext", ours, theirs, rounds)


def sdxl(checkpoint: Path, rounds: int) -> list[Measurement]:
    """SDXL's kind, with guidance."""
    parts = small_unet("sdxl", block_out_channels=[64, 128], attention_head_dim=[1, 2], norm_num_groups=16)
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="trailing"
    )
    encoders = (parts.text_encoder, parts.text_encoder_2)
    tokenizers = (parts.tokenizer, small_clip_tokenizer("!"))
    pipeline = _quiet(cast(Any, StableDiffusionXLPipeline)(parts.vae, *encoders, *tokenizers, parts.unet, scheduler))
    family = Unet(parts.components())

    def theirs(prompt: str, seed: int, size: tuple[int, int]) -> None:
        pipeline(
            prompt=prompt, negative_prompt="", width=size[0], height=size[1], num_inference_steps=STEPS,
            guidance_scale=5.0, generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip

    def ours(prompt: str, seed: int, size: tuple[int, int]) -> Painting:
        return _painting(family, prompt, seed, size, cfg=5.0)

    return _compared("SDXL", ours, theirs, rounds)


def _compared(
    what: str,
    ours: Callable[[str, int, tuple[int, int]], Painting],
    theirs: Callable[[str, int, tuple[int, int]], None],
    rounds: int,
) -> list[Measurement]:
    results: list[Measurement] = []
    for size in (SMALL, LARGE):
        ours_s, theirs_s = turns(
            rounds,
            lambda size=size: _paint([ours(PROMPTS[0], 1, size)]),
            lambda size=size: theirs(PROMPTS[0], 1, size),
        )
        told = f"small {what}, one picture {size[0]}x{size[1]}, {STEPS} steps, of diffusers' time"
        results.append(Measurement(told, ours_s / theirs_s, "x", 1.0, ours_s, theirs_s))

    def one_after_another() -> None:
        for seed, prompt in enumerate(PROMPTS):
            theirs(prompt, seed, SMALL)

    together_s, each_s = turns(
        rounds,
        lambda: _paint([ours(prompt, seed, SMALL) for seed, prompt in enumerate(PROMPTS)]),
        one_after_another,
    )
    told = f"small {what}, eight pictures {SMALL[0]}x{SMALL[1]} together, of diffusers' time one after another"
    return [*results, Measurement(told, together_s / each_s, "x", 0.75, together_s, each_s)]


def _painting(family: Family, prompt: str, seed: int, size: tuple[int, int], **given: Any) -> Painting:
    context = given.pop("context", ())
    stage = Stage(width=size[0], height=size[1], steps=STEPS, noise_seed=seed, stream_seed=seed + 1, **given)
    plan = Plan(prompt=prompt, negative_prompt="", seed=seed, stages=(stage,))
    return Painting(plan, family, context=context)


def _paint(paintings: list[Painting]) -> None:
    engine = Engine()
    for each in paintings:
        engine.add(each)
    painted = 0
    while engine.busy:
        for happening in engine.step():
            if isinstance(happening, Broke):
                raise happening.error
            painted += isinstance(happening, Painted)
    assert painted == len(paintings)


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
