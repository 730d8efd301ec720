"""What a request gets that does not say everything: its preset and its checkpoint, by the checkpoint's family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limner.config import load_settings
from limner.domain import GenerationRequest, Plan
from limner.errors import InvalidRequest, NotFound, Unsupported
from limner.studio import Studio
from tests.support.records import gradient
from tests.support.small_flux import save_folder, small_flux

FAMILIES = {"sketchbook": "zimage", "portraits": "flux", "edits-kontext": "flux", "toons": "sdxl"}


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(load_settings({"home": str(tmp_path)}, environ={}, folder=tmp_path))


@pytest.fixture
def picture(tmp_path: Path) -> str:
    gradient(90, 60).save(tmp_path / "picture.png")
    return str(tmp_path / "picture.png")


def planned(studio: Studio, families: dict[str, str] | None = None, **fields: Any) -> tuple[GenerationRequest, Plan]:
    request, plans = studio.planned(GenerationRequest.model_validate(fields), families=families or FAMILIES)
    return request, plans[0]


@pytest.mark.parametrize("backend", ["native", "auto"])
def test_a_request_without_a_preset_gets_that_of_its_checkpoints_family(studio: Studio, backend: str) -> None:
    _, flux = planned(studio, model="portraits", backend=backend)
    assert [(stage.width, stage.steps, stage.guidance) for stage in flux.stages] == [(768, 20, 4.0)]
    assert len(planned(studio, model="sketchbook", backend=backend)[1].stages) == 3
    with pytest.raises(Unsupported, match="FLUX, where the layer of CLIP cannot be chosen"):
        planned(studio, model="portraits", backend=backend, clip_skip=2)


def test_a_preset_of_another_family_takes_the_first_checkpoint_that_fits(studio: Studio) -> None:
    request, plan = planned(studio, preset="anime")
    assert (request.model, request.clip_skip, plan.clip_skip) == ("toons", 2, 2)
    assert "worst quality" in plan.negative_prompt
    assert planned(studio, preset="anime", negative_prompt="")[1].negative_prompt == ""
    with pytest.raises(NotFound, match="`anime` is made for SDXL, and there is no such checkpoint"):
        planned(studio, families={"sketchbook": "zimage"}, preset="anime")


def test_a_preset_that_changes_pictures_prefers_a_checkpoint_made_for_it(studio: Studio, picture: str) -> None:
    request, _ = planned(studio, preset="kontext-edit", references=[{"path": picture}])
    assert (request.model, request.references_as) == ("edits-kontext", "context")


def test_kontext_looks_at_a_picture_unless_a_part_of_it_shall_stay(studio: Studio, picture: str) -> None:
    fields: dict[str, Any] = {"model": "edits-kontext", "references": [{"path": picture}]}
    request, plan = planned(studio, **fields)
    assert (request.references_as, plan.width, plan.height, plan.stages[0].denoise) == ("context", 1248, 832, 1)
    masked, plan = planned(studio, **fields, mask={"path": picture})
    assert (masked.references_as, masked.mask is not None) == (None, True)
    assert plan.stages[0].denoise < 1
    with pytest.raises(InvalidRequest, match="A mask belongs to the picture that is painted over"):
        planned(studio, **fields, mask={"path": picture}, preset="kontext-edit")


def test_a_checkpoint_that_the_settings_give_by_its_path_is_known_too(tmp_path: Path) -> None:
    folder = save_folder(small_flux(), tmp_path / "somewhere" / "mine")
    settings = load_settings(
        {"home": str(tmp_path), "native": {"model_path": str(folder)}}, environ={}, folder=tmp_path
    )
    (plan,) = Studio(settings).planned(GenerationRequest(guidance=3.0))[1]
    assert [(stage.width, stage.guidance) for stage in plan.stages] == [(768, 3.0)]


def test_a_preset_of_another_family_is_refused_for_a_checkpoint_that_was_named(studio: Studio) -> None:
    with pytest.raises(InvalidRequest, match="`flux-portrait` is made for FLUX; checkpoint `toons` is SDXL"):
        planned(studio, model="toons", preset="flux-portrait")


def test_a_request_that_falls_back_to_the_engine_is_planned_for_it(studio: Studio) -> None:
    _, plan = planned(studio, model="portraits", backend="comfyui", fallback=["native"])
    assert [stage.guidance for stage in plan.stages] == [4.0]


def test_denoise_says_what_it_is_for_when_pictures_are_only_looked_at(studio: Studio, picture: str) -> None:
    with pytest.raises(InvalidRequest, match="this request only looks at its pictures"):
        planned(studio, model="edits-kontext", references=[{"path": picture}], denoise=0.5)


def test_what_is_planned_for_another_backend_asks_for_no_checkpoint_here(studio: Studio, picture: str) -> None:
    fields: dict[str, Any] = {"backend": "comfyui", "fallback": ["native"], "preset": "kontext-edit"}
    request, plan = planned(studio, {"sketchbook": "zimage"}, references=[{"path": picture}], guidance=3.0, **fields)
    assert (request.model, request.references_as, plan.stages[0].guidance) == (None, "context", 3.0)


async def test_the_engine_takes_over_with_a_checkpoint_that_suits_the_preset_or_says_that_there_is_none(
    studio: Studio, tmp_path: Path
) -> None:
    request = GenerationRequest(prompt="a boat", backend="comfyui", fallback=("native",), preset="flux-portrait")
    small = request.model_copy(update={"width": 64, "height": 64, "steps": 1})
    with pytest.raises(NotFound, match="`flux-portrait` is made for FLUX, and there is no such checkpoint"):
        await studio.generate(small)
    save_folder(small_flux(), tmp_path / "models" / "mine")
    async with studio:
        (painted,) = await studio.generate(small)
    assert (painted.recipe.checkpoint, painted.recipe.family, painted.recipe.request.backend) == (
        "mine",
        "flux",
        "native",
    )
    assert any("Backend `comfyui` did not paint" in warning for warning in painted.warnings)
