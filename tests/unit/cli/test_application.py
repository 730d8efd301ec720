"""The frame of the command line: help, version, exit codes, the moving display, and a quick start."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from limner.cli import COMMANDS, exit_codes
from limner.cli.application import Application
from limner.cli.exit_codes import exit_code_of
from limner.cli.progress import Display
from limner.errors import BrokenCheckpoint, ConfigError, NotFound, OutOfMemory, StorageError
from limner.events import Progress, StageUpdate
from tests.unit.cli.conftest import Terminal


def test_help_lists_every_command(terminal: Terminal) -> None:
    terminal.run("--help")
    assert terminal.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in terminal.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(terminal: Terminal, name: str) -> None:
    terminal.run(name, "-h")
    assert terminal.code == 0
    assert terminal.out.startswith(f"Usage: limner {name} ")


def test_an_unknown_command_is_refused(terminal: Terminal) -> None:
    terminal.run("paint")
    assert terminal.code == 2
    assert "No such command 'paint'" in terminal.err


def test_version_is_printed(terminal: Terminal) -> None:
    assert terminal.run("--version").out == "limner 0.1.0\n"


def test_exit_codes_follow_whose_fault_it_is() -> None:
    assert [exit_code_of(kind()) for kind in (NotFound, ConfigError)] == [exit_codes.WRONG] * 2
    assert [exit_code_of(kind()) for kind in (OutOfMemory, BrokenCheckpoint, StorageError)] == [exit_codes.FAILED] * 3


def test_a_terminal_sees_stage_step_and_time_left() -> None:
    application = Application()
    screen = io.StringIO()
    with Display(application, Console(file=screen, force_terminal=True, width=120)) as display:
        task = display.add("a red boat on the sea in the evening sun")
        display.tell(task, StageUpdate(index=0, stage=1, stages=3, status="processing", width=336, height=432))
        display.tell(task, Progress(current=14, total=41, index=0, stage=1, stages=3, step=5, steps=16, eta_s=6.4))
        application.say("a remark")
    shown = screen.getvalue()
    assert "a red boat on the sea in the ev…" in shown
    assert "stage 2/3 336x432 · step 5/16 6 s left" in shown
    assert "a remark" in shown


def test_without_a_terminal_nothing_moves_but_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    step = Progress(current=14, total=41, index=0, stage=1, stages=3, step=5, steps=16, eta_s=6.4)
    for every_s in (60, 0):
        with Display(Application(), every_s=every_s) as display:
            task = display.add("")
            display.tell(task, StageUpdate(index=0, stage=1, stages=3, status="processing", width=336, height=432))
            display.tell(task, step)
            display.remove(task)
    assert capsys.readouterr() == ("", "(no prompt): stage 2/3 336x432 · step 5/16, 6 s left\n")


def test_the_command_line_starts_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from limner.cli import cli; import limner, limner.generator; "
        "assert CliRunner().invoke(cli, ['generate', '--help']).exit_code == 0; "
        "assert CliRunner().invoke(cli, ['presets']).exit_code == 0; "
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"LIMNER_HOME": str(tmp_path)})


def test_python_m_limner_is_the_same_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "limner", "--version"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout == "limner 0.1.0\n"
