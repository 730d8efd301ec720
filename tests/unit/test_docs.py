"""The documents do not rot: generated pages are fresh, links lead somewhere, examples and commands are accepted."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import generate
import pytest
from standardwebhooks import Webhook

import limner
from limner.cli.application import Application
from limner.config import load_settings
from limner.service import storage_of
from limner.storage.s3 import S3Storage
from limner.workflows.presets import Presets

DOCS = Path(__file__).parents[2] / "docs"
ROOT = DOCS.parent
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "training" / "README.md"]


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


def test_every_failure_that_cannot_come_back_names_the_test_that_guards_it() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", (DOCS / "14-failures.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def _commands(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    lines = [line.partition("  #")[0] for block in blocks for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.split(";") if part.strip().startswith("limner ")]


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "06-command-line.md"], ids=lambda page: page.name)
def test_every_command_is_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a boat\n")
    commands = _commands(page.read_text(encoding="utf-8"))
    assert len(commands) > 5
    for name, *arguments in (shlex.split(command)[1:] for command in commands):
        command: click.Command = import_module(f"limner.cli.{name}").command
        if isinstance(command, click.Group) and arguments and arguments[0] in command.commands:
            command, *arguments = command.commands[arguments[0]], *arguments[1:]
        with command.make_context(name, arguments, obj=Application()):
            pass


def test_the_readme_is_short_and_knows_every_make_target() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):.*?## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert f"`{' '.join(targets)}`" in readme
    assert len(readme.splitlines()) <= 120


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "01-overview.md"], ids=lambda page: page.name)
def test_every_example_in_python_is_valid(page: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    assert examples
    for example in examples:
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.ImportFrom) and node.module == "limner":
                assert {alias.name for alias in node.names} <= set(limner.__all__)


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


@pytest.mark.parametrize("text", _examples("08-jobs-and-queue.md", "toml"))
def test_the_examples_of_databases_and_storages_are_valid(tmp_path: Path, text: str) -> None:
    (tmp_path / "limner.toml").write_text(text, encoding="utf-8")
    secret = {"LIMNER_STORAGE__SECRET_ACCESS_KEY": "s"} if "access_key_id" in text else {}
    storage = storage_of(load_settings(environ=secret, folder=tmp_path))
    assert isinstance(storage, S3Storage)


def test_the_example_of_a_webhook_believes_what_is_signed_and_nothing_else() -> None:
    (example,) = [text for text in _examples("09-http.md", "python") if "webhook" in text]
    found: dict[str, Any] = {}
    exec(example, found)
    secret, body, now = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", '{"type": "job.completed"}', datetime.now(UTC)

    def believed(when: datetime, content: str = body, key: str = secret) -> bool:
        signature = f"v1,AAAA {Webhook(key).sign('msg_1', when, body)}"
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(when.timestamp()))}
        return found["is_from_limner"](secret, headers | {"webhook-signature": signature}, content.encode())

    assert believed(now)
    assert not believed(now, content=body.replace("completed", "failed"))
    assert not believed(now, key="whsec_" + "A" * 32)
    assert not believed(now - timedelta(hours=1))


def test_the_version_is_the_changelogs_or_still_unreleased() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == "Unreleased"
    assert headings[1:2] in ([], [version])
