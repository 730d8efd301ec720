"""FLUX, Kontext, SDXL, SD 1.5 and CLIP's weighted prompts against numbers that ComfyUI itself computed.

`tests/reference/families.safetensors` holds what ComfyUI 0.8.0 makes of the small random networks of `tests/support`:
its own code for the networks, the samplers and the prompts, float32 on a CPU. Its metadata has the prompts.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from limner.domain import Plan, Stage
from limner.engine.engine import Engine, Painting
from limner.engine.families.flux import Flux
from limner.engine.families.port import Row
from limner.engine.families.unet import Unet
from limner.engine.families.unet_weights import Prediction
from tests.support.painting import paint
from tests.support.small_flux import small_flux
from tests.support.small_unet import small_unet

FILE = Path(__file__).parents[2] / "reference" / "families.safetensors"
SEED, WIDTH, HEIGHT = 7, 80, 64

with cast(Any, safe_open(str(FILE), framework="pt")) as opened:
    RECORDED: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    PROMPTS: list[str] = json.loads(opened.metadata()["prompts"])


def cases(kind: str) -> list[str]:
    return sorted(name for name in RECORDED if name.startswith(kind))


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@cache
def unet(family: str, prediction: str) -> Unet:
    return Unet(small_unet(family).components(Prediction(prediction)))


@pytest.mark.parametrize("case", cases("sd"))
def test_a_run_of_ksampler_is_ours(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, prediction, sampler, schedule, steps, cfg, denoise = case.split("|")
    stage = Stage(
        width=WIDTH,
        height=HEIGHT,
        steps=int(steps),
        cfg=float(cfg),
        sampler=sampler,
        schedule=schedule,
        denoise=float(denoise),
        noise_seed=SEED,
        # ComfyUI's: the ancestral stream is that of the next seed, the Brownian one that of the same.
        stream_seed=SEED + ("ancestral" in sampler),
    )
    ours = unet(family, prediction)
    reference = None
    if stage.denoise < 1:

        def encoded(pixels: Tensor) -> Tensor:
            return drawn(3, 4, HEIGHT // 8, WIDTH // 8)

        monkeypatch.setattr(ours, "encode_picture", encoded)
        reference = torch.zeros(3, HEIGHT, WIDTH)
    plan = Plan(prompt="a red boat at sea", negative_prompt="blue", seed=SEED, stages=(stage,))
    (painted,) = paint(Engine(), [(0, Painting(plan, ours, reference=reference))])
    expected = RECORDED[case]
    # The random networks leave latents of up to 90; the tolerance is a share of that.
    assert (painted.latent - expected).abs().max() < 2e-6 * max(10.0, float(expected.abs().max()))


@pytest.mark.parametrize("case", cases("flux|"))
def test_the_network_of_flux_answers_alike_whatever_it_looks_at(case: str) -> None:
    sizes = [tuple(map(int, size.split("x"))) for size in case.partition("|")[2].split(",") if size]
    family = Flux(small_flux().components())
    references = tuple(drawn(10 + index, 16, *size) for index, size in enumerate(sizes))
    row = Row(drawn(1, 16, 12, 16), 0.6, family.encode_text("a red boat"), (), 3.2, references)
    assert (family.predict([row])[0] - RECORDED[case]).abs().max() < 1e-5


@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_a_prompt_is_weighted_and_cut_alike(number: int) -> None:
    features = unet("sd15", "epsilon").encode_text(PROMPTS[number]).features
    assert features.shape == RECORDED[f"clip|{number}"].shape
    assert (features - RECORDED[f"clip|{number}"]).abs().max() < 1e-5
