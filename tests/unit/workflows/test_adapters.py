"""Adapters are found by name or path, and their own trigger words are read without their weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from limner.domain import AdapterRequest
from limner.errors import NotFound
from limner.workflows.adapters import find_adapter, list_adapters, resolve_adapters, trigger_of


def _file(path: Path, metadata: object = None) -> Path:
    header = json.dumps({"__metadata__": metadata} if metadata else {}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_a_name_is_looked_for_in_the_folders_in_their_order(tmp_path: Path) -> None:
    mine = _file(tmp_path / "mine" / "ink.safetensors")
    _file(tmp_path / "shipped" / "ink.safetensors")
    other = _file(tmp_path / "shipped" / "oil.safetensors")
    folders = (tmp_path / "mine", tmp_path / "shipped")
    assert find_adapter("ink", folders) == find_adapter("ink.safetensors", folders) == mine
    assert find_adapter("oil", folders) == other


def test_folders_inside_are_part_of_the_name(tmp_path: Path) -> None:
    _file(tmp_path / "styles" / "ink.safetensors")
    _file(tmp_path / "trained" / "pytorch_lora_weights.safetensors")
    assert sorted(list_adapters([tmp_path])) == ["styles/ink", "trained"]


def test_a_path_needs_no_folder(tmp_path: Path) -> None:
    path = _file(tmp_path / "ink.safetensors")
    assert find_adapter(str(path), ()) == path


def test_a_file_that_is_there_goes_before_a_name_with_a_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = _file(tmp_path / "shipped" / "ink.safetensors")
    _file(tmp_path / "here" / "ink.safetensors")
    monkeypatch.chdir(tmp_path / "here")
    assert find_adapter("ink.safetensors", [shipped.parent]) == Path("ink.safetensors")
    assert find_adapter("ink", [shipped.parent]) == shipped


def test_an_unknown_name_tells_the_nearest(tmp_path: Path) -> None:
    _file(tmp_path / "ink.safetensors")
    with pytest.raises(NotFound) as caught:
        find_adapter("inc", [tmp_path])
    assert caught.value.message == (
        f"There is no adapter `inc`. Known: ink. Put the file into {tmp_path} or give its path."
    )


def test_without_any_adapter_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="None are known yet"):
        find_adapter("ink", [tmp_path / "gone"])


def test_a_trigger_is_read_from_the_file_unless_the_request_has_one(tmp_path: Path) -> None:
    path = _file(tmp_path / "ink.safetensors", {"limner.trigger": "ink style"})
    wanted = [
        AdapterRequest(name="ink"),
        AdapterRequest(name="ink", trigger="pen"),
        AdapterRequest(name="ink", trigger=""),
    ]
    adapters, files = resolve_adapters(wanted, [tmp_path])
    assert [adapter.trigger for adapter in adapters] == ["ink style", "pen", ""]
    assert files == (str(path),) * 3


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", struct.pack("<Q", 2**60), struct.pack("<Q", 3) + b"not", struct.pack("<Q", 2) + b"[]"],
)
def test_another_kind_of_file_has_no_trigger(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    assert trigger_of(tmp_path / "x.safetensors") == ""


@pytest.mark.parametrize("metadata", [None, [], {"limner.trigger": 3}, {"other": "x"}, {"limner.trigger": " "}])
def test_other_metadata_has_no_trigger(tmp_path: Path, metadata: object) -> None:
    assert trigger_of(_file(tmp_path / "x.safetensors", metadata)) == ""
