"""The documents do not rot: generated pages are fresh, links lead somewhere, TOML and YAML examples are accepted."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import generate
import pytest

from limner.config import load_settings
from limner.workflows.presets import Presets

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def _examples(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("path", generate.pages(), ids=lambda path: path.name)
def test_a_generated_page_is_fresh(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generate.pages()[path], "run `make gen`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_example_of_a_preset_is_valid(tmp_path: Path) -> None:
    (text,) = _examples("04-presets-and-plans.md", "toml")
    (tmp_path / "tall.toml").write_text(text, encoding="utf-8")
    assert len(Presets(tmp_path).get("tall").stages) == 2


@pytest.mark.parametrize("language", ["toml", "yaml"])
def test_the_examples_of_settings_are_valid(tmp_path: Path, language: str) -> None:
    (text,) = _examples("05-settings.md", language)
    (tmp_path / f"limner.{language}").write_text(text, encoding="utf-8")
    settings = load_settings(environ={"LIMNER_CONFIG": f"limner.{language}"}, folder=tmp_path)
    assert settings.native.device == "cuda"


def test_the_version_is_the_changelogs_or_still_unreleased() -> None:
    root = DOCS.parent
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == "Unreleased"
    assert headings[1:2] in ([], [version])
