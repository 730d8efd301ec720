"""A command line that paints with the fake backend in a folder of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from limner.backends.fake import FakeBackend
from limner.cli import cli
from limner.cli.application import Application


@dataclass
class Terminal:
    """Runs `limner` with arguments and keeps what it printed, with the folder's name taken out."""

    folder: Path
    backend: FakeBackend = field(default_factory=FakeBackend)
    result: Result | None = None

    def run(self, *args: str, stdin: str | None = None, **environ: str) -> Terminal:
        environ = {"LIMNER_HOME": str(self.folder / "home"), "COLUMNS": "120", "NO_COLOR": "1"} | environ
        application = Application(self.backend)
        self.result = CliRunner(env=environ).invoke(cli, args, stdin, obj=application, prog_name="limner")
        if self.result.exception and not isinstance(self.result.exception, SystemExit):
            raise self.result.exception
        return self

    @property
    def code(self) -> int:
        assert self.result
        return self.result.exit_code

    @property
    def out(self) -> str:
        assert self.result
        return self.result.stdout.replace(str(self.folder), "FOLDER")

    @property
    def err(self) -> str:
        assert self.result
        return self.result.stderr.replace(str(self.folder), "FOLDER")

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path)
