"""The engine against diffusers' own pipeline, same weights, size, steps and precision, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from limner.config import load_settings
from limner.domain import GenerationRequest, Plan, Stage
from limner.engine.checkpoints import find_checkpoint
from limner.engine.engine import Broke, Engine, Painted, Painting
from limner.engine.families.zimage import ZImage
from limner.engine.families.zimage_weights import load_components
from limner.workflows.plans import make_plans
from limner.workflows.presets import Presets
from tests.bench.report import Measurement

PROMPTS = [
    "a red cat on a yellow background",
    "three blue stars at night",
    "a big green house on a hill",
    "a purple fish in the sea",
    "two orange boats on white",
    "a pink rabbit next to a brown tree",
    "一只黑色的鸟，粉色背景",
    "a yellow butterfly above a red apple",
]


def load(checkpoint: Path) -> ZImage:
    return ZImage(load_components(find_checkpoint(str(checkpoint), Path("models"), Path("none"))))


def pipeline(family: ZImage) -> Any:
    """diffusers' pipeline over the very same modules (and so the same weights and precision)."""
    from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    parts = family.components
    made: Any = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0),
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        transformer=parts.transformer,
    )
    made.set_progress_bar_config(disable=True)
    return made


def plan(prompt: str, seed: int, *stages: Stage) -> Plan:
    seeded = tuple(stage.model_copy(update={"noise_seed": seed + 2 * i}) for i, stage in enumerate(stages))
    return Plan(prompt=prompt, negative_prompt="", seed=seed, stages=seeded)


def paint(engine: Engine, family: ZImage, plans: list[Plan]) -> None:
    for each in plans:
        engine.add(Painting(each, family))
    painted = 0
    while engine.busy:
        for happening in engine.step():
            if isinstance(happening, Broke):
                raise happening.error
            painted += isinstance(happening, Painted)
    assert painted == len(plans)


def turns(rounds: int, *sides: Callable[[], None]) -> list[float]:
    """Median seconds of every side; the sides take turns after one warm-up each."""
    for side in sides:
        side()
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, taken in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def one_picture(checkpoint: Path, rounds: int) -> list[Measurement]:
    """One picture, with guidance, against diffusers, at two sizes."""
    family = load(checkpoint)
    theirs = pipeline(family)
    results: list[Measurement] = []
    for width, height in ((176, 224), (336, 432)):
        stage = Stage(width=width, height=height, steps=9, cfg=3.0)

        def limner(stage: Stage = stage) -> None:
            paint(Engine(), family, [plan(PROMPTS[0], 1, stage)])

        def diffusers(width: int = width, height: int = height) -> None:
            theirs(PROMPTS[0], height=height, width=width, num_inference_steps=9, guidance_scale=2.0,
                   generator=torch.Generator().manual_seed(1))  # fmt: skip

        ours_s, theirs_s = turns(rounds, limner, diffusers)
        what = f"one picture {width}x{height}, 9 steps, cfg 3, of diffusers' time"
        results.append(Measurement(what, ours_s / theirs_s, "x", 0.9, ours_s, theirs_s))
    return results


def eight_pictures(checkpoint: Path, rounds: int) -> list[Measurement]:
    """Eight small pictures together, against diffusers one after another and in one call."""
    family = load(checkpoint)
    theirs = pipeline(family)
    stage = Stage(width=176, height=224, steps=9, cfg=3.0)
    shape: Any = {"height": 224, "width": 176, "num_inference_steps": 9, "guidance_scale": 2.0}

    def limner() -> None:
        paint(Engine(), family, [plan(prompt, i, stage) for i, prompt in enumerate(PROMPTS)])

    def one_after_another() -> None:
        for i, prompt in enumerate(PROMPTS):
            theirs(prompt, generator=torch.Generator().manual_seed(i), **shape)

    def one_call() -> None:
        theirs(list(PROMPTS), generator=[torch.Generator().manual_seed(i) for i in range(8)], **shape)

    ours_s, each_s, call_s = turns(rounds, limner, one_after_another, one_call)
    what = "eight pictures 176x224 together, of diffusers' time"
    return [
        Measurement(f"{what} one after another", ours_s / each_s, "x", 0.75, ours_s, each_s),
        Measurement(f"{what} in one call", ours_s / call_s, "x", None, ours_s, call_s),
    ]


def three_stages(checkpoint: Path, rounds: int) -> list[Measurement]:
    """The preset `progressive` to 672x864, warm."""
    family = load(checkpoint)
    preset = Presets(load_settings().home / "presets").get("progressive")
    (made,) = make_plans(GenerationRequest(prompt=PROMPTS[0], seed=1), preset, default_seed_source=lambda: 1)
    seconds = turns(max(1, rounds // 2), lambda: paint(Engine(), family, [made]))[0]
    return [Measurement("sketchbook, three stages to 672x864, warm", seconds, "s", 12.0)]


def overhead(checkpoint: Path, rounds: int) -> list[Measurement]:
    """Everything but the network, as a share of a step at 176x224."""
    family = load(checkpoint)
    inside = 0.0
    predict = family.predict

    def timed(rows: Any) -> Any:
        nonlocal inside
        start = time.perf_counter()
        answers = predict(rows)
        inside += time.perf_counter() - start
        return answers

    family.predict = timed  # type: ignore[method-assign]
    shares: list[float] = []
    for sampler in ("euler", "euler_ancestral"):
        for _ in range(rounds):
            engine = Engine()
            engine.add(Painting(plan(PROMPTS[0], 1, Stage(width=176, height=224, steps=30, sampler=sampler)), family))
            engine.step()
            inside, start = 0.0, time.perf_counter()
            for _ in range(25):
                engine.step()
            whole = time.perf_counter() - start
            shares.append(1 - inside / whole)
    return [Measurement("engine's own share of a step at 176x224", 100 * statistics.median(shares), "%", 5.0)]
