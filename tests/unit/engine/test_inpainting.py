"""Inpainting: what the network is shown, what comes back to the pixel, and the ends of the scale."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.domain import Plan, Stage
from limner.engine.engine import Engine, Painted, Painting
from limner.engine.families.port import Family
from limner.engine.families.zimage import ZImage
from limner.engine.families.zimage_weights import Components
from limner.engine.inpainting import FEATHER_PX, Inpainting, feathered
from limner.engine.noise import Noise
from limner.engine.pixels import rgb_bytes, tensor_of
from limner.engine.runner import Runner
from tests.support.checkpoints import tiny_components
from tests.support.records import gradient
from tests.support.tiny_family import TinyFamily

FLOW: Family = ZImage(cast(Components, tiny_components()))
EPSILON: Family = TinyFamily()
FAMILIES = pytest.mark.parametrize("family", [FLOW, EPSILON], ids=["flow", "epsilon"])
SIZES = ((64, 64), (96, 64), (128, 96))


def plan_of(*stages: Stage) -> Plan:
    seeded = tuple(
        stage.model_copy(update={"noise_seed": 10 + index, "stream_seed": 60 + index})
        for index, stage in enumerate(stages)
    )
    return Plan(prompt="a red boat", negative_prompt="", seed=10, stages=seeded)


def three_stages(sampler: str = "euler") -> Plan:
    return plan_of(
        *(
            Stage(width=width, height=height, steps=2, denoise=denoise, sampler=sampler, cfg=cfg)
            for (width, height), denoise, cfg in zip(SIZES, (1.0, 0.7, 0.5), (2.0, 1.0, 1.0), strict=True)
        )
    )


def right_half(width: int, height: int) -> Tensor:
    mask = torch.zeros(1, height, width)
    mask[..., width // 2 :] = 1
    return mask


def painting(plan: Plan, family: Family, mask: Tensor | None) -> Painting:
    """The plan from a gradient, of which a mask keeps a part."""
    first, last = plan.stages[0], plan.stages[-1]
    reference, picture = (tensor_of(gradient(stage.width, stage.height)) for stage in (first, last))
    return Painting(plan, family, (), reference, None if mask is None else Inpainting(picture, mask))


def painted(wanted: Painting) -> Painted:
    engine = Engine()
    engine.add(wanted)
    while engine.busy:
        for happening in engine.step():
            if isinstance(happening, Painted):
                return happening
    raise AssertionError("nothing was painted")


@FAMILIES
@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_sde", "heun"])
@torch.inference_mode()
def test_the_network_sees_the_kept_area_under_the_stages_own_noise(family: Family, sampler: str) -> None:
    plan = three_stages(sampler)
    wanted = painting(plan, family, right_half(*SIZES[-1]))
    runner = Runner()
    trajectory = runner.prepare(wanted)
    assert wanted.inpainting is not None
    seen = 0
    while not trajectory.done:
        number, run = trajectory.stage, trajectory.run
        size = SIZES[number]
        pixels = wanted.reference if number == 0 else wanted.inpainting.picture_at(*size)
        assert pixels is not None and run.stage.noise_seed is not None
        noise = Noise(run.stage.noise_seed, family.latent_shape(*size), 0.1, 1.0).initial()
        expected = family.parameterization(None, 0, 0).start(noise, run.sigma, family.encode_picture(pixels))
        kept = slice(0, size[0] // 16 - 1)
        assert torch.allclose(run.x[..., kept], expected[..., kept], atol=1e-5)
        answers = runner.evaluate(family, [trajectory.rows()])[0]
        assert isinstance(answers, list)
        trajectory.accept(answers)
        seen += 1
    assert seen >= 6
    assert trajectory.latent is not None
    reference = family.encode_picture(wanted.inpainting.picture)
    assert torch.allclose(trajectory.latent[..., :7], reference[..., :7], atol=1e-4)


@FAMILIES
def test_a_black_mask_gives_the_picture_back_and_a_white_one_keeps_nothing(family: Family) -> None:
    plan = three_stages()
    nothing, everything = torch.zeros(1, 96, 128), torch.ones(1, 96, 128)
    kept = painted(painting(plan, family, nothing)).pixels
    assert rgb_bytes(kept) == gradient(128, 96).tobytes()
    assert torch.equal(painted(painting(plan, family, everything)).pixels, painted(painting(plan, family, None)).pixels)


@FAMILIES
def test_only_the_masked_part_changes_and_all_of_it_is_painted(family: Family) -> None:
    plan = three_stages()
    found = painted(painting(plan, family, right_half(128, 96)))
    before = tensor_of(gradient(128, 96))
    edge = 64 - FEATHER_PX
    assert rgb_bytes(found.pixels[..., :edge]) == rgb_bytes(before[..., :edge])
    assert torch.equal(found.pixels[..., 64:], family.decode(found.latent)[..., 64:])
    assert (found.pixels[..., 64:] - before[..., 64:]).abs().mean() > 0.05


@settings(max_examples=6)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 40, 64, 128])), min_size=2, max_size=4))
def test_masked_pictures_that_share_forwards_are_those_painted_alone(arrivals: list[tuple[int, int]]) -> None:
    plans = [plan_of(Stage(width=128, height=96, steps=2 + when, denoise=0.8, cfg=2.0)) for when, _ in arrivals]
    masks = [(torch.arange(128) >= 128 - wide).float().expand(1, 96, 128) for _, wide in arrivals]
    engine = Engine()
    ids: dict[int, Painting] = {}
    found: dict[int, Tensor] = {}
    for step in range(40):
        for (when, _), plan, mask in zip(arrivals, plans, masks, strict=True):
            if when == step:
                wanted = painting(plan, FLOW, mask)
                ids[engine.add(wanted)] = wanted
        found |= {h.id: h.latent for h in engine.step() if isinstance(h, Painted)}
    assert len(found) == len(arrivals)
    for id, wanted in ids.items():
        assert torch.allclose(found[id], painted(wanted).latent, atol=1e-4)


def test_the_edge_fades_outwards_only() -> None:
    mask = torch.zeros(1, 40, 60)
    mask[:, 15:25, 20:40] = 1
    faded = feathered(mask)
    assert bool((faded[mask == 1] == 1).all())
    row = faded[0, 20]
    assert row[20 - FEATHER_PX - 1] == 0 < row[20 - FEATHER_PX] and row[40 + FEATHER_PX] == 0 < row[39 + FEATHER_PX]
    assert bool((row[:21].diff() >= 0).all()) and bool((row[39:].diff() <= 0).all())


def test_cells_that_the_edge_crosses_are_mixed() -> None:
    mask = torch.zeros(1, 64, 64)
    mask[..., 36:] = 1
    cells = Inpainting(torch.zeros(3, 64, 64), mask).mask_at(64, 64, (4, 8, 8))
    assert torch.equal(cells[0, 3], torch.tensor([0, 0, 0, 0, 0.5, 1, 1, 1]))
