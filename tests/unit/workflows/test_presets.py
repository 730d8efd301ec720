"""Presets: the shipped ones, the user's, and what the settings change."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.domain import CacheSettings, Stage
from limner.errors import ConfigError, NotFound
from limner.workflows.presets import Presets, StageChanges

SHIPPED = ["anime", "flux-portrait", "generic", "kontext-edit", "progressive", "sd15", "sdxl", "single", "sketch"]
SMALL = "[[stages]]\nwidth = 128\nheight = 128\nsteps = 4\n"


def test_progressive_is_the_three_stage_workflow() -> None:
    assert Presets().get("progressive").stages == (
        Stage(width=176, height=224, steps=9, cfg=2, sampler="euler_ancestral", schedule="simple", shift=3),
        Stage(
            width=336,
            height=432,
            steps=16,
            cfg=1,
            sampler="euler_ancestral",
            schedule="simple",
            shift=3,
            denoise=0.7,
            cache=CacheSettings(reuse_threshold=0.37, start_percent=0.45, end_percent=0.95),
        ),
        Stage(
            width=672,
            height=864,
            steps=16,
            cfg=1,
            sampler="dpmpp_sde",
            schedule="beta",
            shift=3,
            denoise=0.6,
            cache=CacheSettings(reuse_threshold=0.12, start_percent=0.7, end_percent=0.95),
        ),
    )


def test_every_shipped_preset_is_valid_and_described() -> None:
    rows = Presets().list()
    assert [row.name for row in rows] == SHIPPED
    assert all(row.shipped and not row.shadows and not row.problem for row in rows)
    assert all(row.preset and row.preset.description for row in rows)


def test_single_paints_the_full_size_in_one_stage() -> None:
    (stage,) = Presets().get("single").stages
    assert (stage.width, stage.height) == (672, 864)


def test_the_presets_of_the_applications_have_their_numbers() -> None:
    (portrait,) = Presets().get("flux-portrait").stages
    assert (portrait.width, portrait.height, portrait.steps, portrait.guidance, portrait.cfg) == (768, 768, 20, 4.0, 1)
    anime = Presets().get("anime")
    assert anime.family == "sdxl" and "worst quality" in anime.negative_prompt
    assert Presets().get("kontext-edit").references_as == "context"


def test_a_family_has_a_preset_of_its_own_unless_the_settings_name_one() -> None:
    assert Presets().default_for("zimage") is None
    assert Presets().default_for(None) is None
    assert Presets().default_for("flux") == "flux-portrait"
    assert Presets(default="single").default_for("sdxl") == "sdxl"
    assert Presets(default="anime").default_for("sdxl") is None


def test_without_a_name_the_default_is_given() -> None:
    assert Presets().get().name == "progressive"
    assert Presets(default="sketch").get().name == "sketch"


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SMALL)
    with pytest.raises(NotFound) as caught:
        Presets(tmp_path).get("progresive")
    assert caught.value.message == (
        f"There is no preset `progresive`. Choose one of: {', '.join(sorted([*SHIPPED, 'mine']))}."
    )


def test_a_users_preset_goes_before_a_shipped_one_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "single.toml").write_text(SMALL)
    presets = Presets(tmp_path)
    assert presets.get("single").stages[0].width == 128
    row = next(row for row in presets.list() if row.name == "single")
    assert row.shadows
    assert not row.shipped
    assert row.path == str(tmp_path / "single.toml")


def test_a_folder_that_does_not_exist_is_an_empty_one(tmp_path: Path) -> None:
    assert Presets(tmp_path / "gone").names() == SHIPPED


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[[stages]]\nwidth = 100\nheight = 128", "`stages.0.width` is 100. Give a multiple of 16 from 64 to 4096."),
        ("[[stages]]\nwidth = 128\nheight = 128\nstepps = 3", "`stages.0.stepps` is unknown. Remove it."),
        (
            '[[stages]]\nwidth = 128\nheight = 128\nsampler = "eular"',
            "`stages.0.sampler` is 'eular'. There is no such sampler. Choose one of: euler, euler_ancestral, ",
        ),
        ("description = 'no stages'", "`stages` is missing. Add it."),
        ("[[stages", "is not valid TOML: "),
    ],
)
def test_a_broken_preset_names_the_file_and_the_key(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)
    presets = Presets(tmp_path)
    with pytest.raises(ConfigError) as caught:
        presets.get("mine")
    assert caught.value.message.startswith(f"Preset file {path}")
    assert told in caught.value.message
    row = next(row for row in presets.list() if row.name == "mine")
    assert (row.preset, row.problem) == (None, caught.value.message)
    assert presets.get("single")


def test_unreadable_bytes_in_a_preset_are_told(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        Presets(tmp_path).get("mine")


def test_settings_change_single_fields_of_the_progressive_stages() -> None:
    plain = Presets().get("progressive").stages
    presets = Presets(stage_changes=(StageChanges(), StageChanges(steps=4, denoise=0.5)))
    first, second, third = presets.get("progressive").stages
    assert (first, third) == (plain[0], plain[2])
    assert second == plain[1].model_copy(update={"steps": 4, "denoise": 0.5})
    assert presets.get("single") == Presets().get("single")


def test_a_change_to_a_stage_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "progressive.toml").write_text(SMALL)
    presets = Presets(tmp_path, stage_changes=(StageChanges(), StageChanges(), StageChanges(steps=3)))
    with pytest.raises(ConfigError, match=r"`generation\.stage3` changes a stage that preset `progressive` does not"):
        presets.get("progressive")


def test_default_steps_and_cfg_reach_the_first_stage_of_the_default_preset_only() -> None:
    presets = Presets(steps=5, cfg=4.0)
    stages = presets.get().stages
    assert [(stage.steps, stage.cfg) for stage in stages] == [(5, 4.0), (16, 1.0), (16, 1.0)]
    assert presets.get("progressive") == Presets().get("progressive")


def test_a_change_to_the_first_stage_goes_before_the_general_one() -> None:
    presets = Presets(steps=5, cfg=4.0, stage_changes=(StageChanges(steps=7),))
    assert (presets.get().stages[0].steps, presets.get().stages[0].cfg) == (7, 4.0)
