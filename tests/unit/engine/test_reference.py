"""The recorded reference numbers agree, and the replay that says so notices when they do not."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import safetensors.torch
import torch
from torch import Tensor

TESTS = Path(__file__).resolve().parents[2]
SAMPLERS, EASYCACHE = (str(TESTS / "reference" / f"{name}.safetensors") for name in ("samplers", "easycache"))
CACHE_METADATA = {
    "shift": "3.0",
    "reuse_threshold": "0.37",
    "start_percent": "0.45",
    "end_percent": "0.95",
    "skipped": json.dumps([call in (6, 7, 9, 10, 12, 13) for call in range(16)]),
}
replay = cast(Callable[[list[str]], int], runpy.run_path(str(TESTS / "reference.py"))["main"])


def _load(path: str) -> dict[str, Tensor]:
    return cast(Any, safetensors.torch).load_file(path)


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    cast(Any, safetensors.torch).save_file(tensors, path, metadata)


def _run(name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in _load(SAMPLERS).items() if key.startswith(name)}


def test_every_recorded_case_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    assert replay([SAMPLERS, EASYCACHE]) == 0
    assert "131 of 131 agree, 0 do not" in capsys.readouterr().out


@pytest.mark.parametrize("changed", ["sigmas", "euler|out", "euler|x"])
def test_changed_number_is_noticed(tmp_path: Path, changed: str) -> None:
    tensors = _run("flow1.15|")
    _save(tensors, tmp_path / "same.safetensors", {"seed": "1234"})
    assert replay([str(tmp_path / "same.safetensors")]) == 0
    tensors[f"flow1.15|simple|20|1.0|{changed}"].view(-1)[3] += 1e-3
    _save(tensors, tmp_path / "changed.safetensors", {"seed": "1234"})
    assert replay([str(tmp_path / "changed.safetensors")]) == 1


def test_lost_number_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = _run("flow1.15|")
    tensors["flow1.15|simple|20|1.0|euler|out"].view(-1)[3] = torch.nan
    _save(tensors, tmp_path / "nan.safetensors", {"seed": "1234"})
    assert replay([str(tmp_path / "nan.safetensors")]) == 1
    assert "worst inf in flow1.15|simple|20|1.0|euler" in capsys.readouterr().out


@pytest.mark.parametrize(
    "metadata", [{"seed": "1235"}, {"cases": '{"flow1.15|simple|20|1.0|euler": {"evals": 21, "steps": 20}}'}]
)
def test_other_seed_or_other_counts_are_noticed(tmp_path: Path, metadata: dict[str, str]) -> None:
    tensors = _run("flow1.15|") | {"noise": _load(SAMPLERS)["noise"]}
    _save(tensors, tmp_path / "other.safetensors", metadata)
    assert replay([str(tmp_path / "other.safetensors")]) == 1


def test_unknown_schedule_and_sampler_do_not_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run("flow1.15|simple|20|1.0|")
    tensors = {key.replace("euler", "leapfrog"): tensor for key, tensor in run.items()}
    tensors["eps|spiral|4|1.0|sigmas"] = torch.linspace(1, 0, 5)
    _save(tensors, tmp_path / "unknown.safetensors")
    assert replay([str(tmp_path / "unknown.safetensors")]) == 1
    printed = capsys.readouterr().out
    assert "unknown sampler leapfrog" in printed and "unknown schedule spiral" in printed


def test_changed_answer_of_the_cache_is_noticed(tmp_path: Path) -> None:
    tensors = _load(EASYCACHE)
    tensors["denoised"][10, 3, 2, 1] += 1e-3
    _save(tensors, tmp_path / "changed.safetensors", CACHE_METADATA)
    assert replay([str(tmp_path / "changed.safetensors")]) == 1


def test_other_threshold_skips_other_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _save(_load(EASYCACHE), tmp_path / "eager.safetensors", CACHE_METADATA | {"reuse_threshold": "0.01"})
    assert replay([str(tmp_path / "eager.safetensors")]) == 1
    assert "skipped calls: []" in capsys.readouterr().out


def test_file_of_neither_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.safetensors").write_text("not tensors at all")
    assert replay([str(tmp_path / "text.safetensors")]) == 2
    assert replay([str(tmp_path / "missing.safetensors")]) == 2
    _save({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    assert replay([str(tmp_path / "weights.safetensors")]) == 2
    assert "neither a samplers file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["velocity|simple|4|1.0|sigmas", "flow3|simple|four|1.0|sigmas"])
def test_name_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    _save({name: torch.linspace(1, 0, 5)}, tmp_path / "named.safetensors")
    assert replay([str(tmp_path / "named.safetensors")]) == 2


def test_stray_tensor_or_metadata_that_is_no_number_is_refused(tmp_path: Path) -> None:
    _save(_run("flow1.15|") | {"stray": torch.zeros(2)}, tmp_path / "stray.safetensors")
    assert replay([str(tmp_path / "stray.safetensors")]) == 2
    _save(_run("flow1.15|"), tmp_path / "seed.safetensors", {"seed": "one"})
    assert replay([str(tmp_path / "seed.safetensors")]) == 2
