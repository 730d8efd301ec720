"""Real processes, the built-in checkpoint, a home of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


def _heed_interrupts() -> None:
    """Undo what a shell does to the processes that it puts into the background: they ignore Ctrl+C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Limner:
    """Runs `limner` as a user would."""

    folder: Path
    environment: dict[str, str]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "limner", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            preexec_fn=_heed_interrupts,  # noqa: PLW1509  # it touches nothing that a thread might hold
        )

    def __call__(self, *arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=240)
        assert process.returncode == expect, f"exit code {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def limner(tmp_path: Path) -> Limner:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
    environment = kept | {"LIMNER_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
    return Limner(tmp_path, environment)
