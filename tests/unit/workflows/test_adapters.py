"""Adapters are found by name or path, and their own trigger words are read without their weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from limner.domain import AdapterRequest
from limner.errors import NotFound
from limner.workflows.adapters import find_adapter, list_adapters, resolve_adapters, suggested_words, trigger_of


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


def test_a_second_file_of_a_name_is_called_after_its_folder_as_well(tmp_path: Path) -> None:
    first = _file(tmp_path / "comfy" / "loras" / "ink.safetensors")
    second = _file(tmp_path / "forge" / "loras" / "ink.safetensors")
    folders = (first.parent, second.parent)
    assert list_adapters(folders) == {"ink": first, "forge/ink": second}
    assert list_adapters((first.parent, first.parent)) == {"ink": first}


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


def _tags(**folders: object) -> dict[str, str]:
    return {"ss_tag_frequency": json.dumps(folders)}


def test_the_published_trigger_phrase_is_put_in_front(tmp_path: Path) -> None:
    path = _file(tmp_path / "x.safetensors", {"modelspec.trigger_phrase": " ohwx man\n"} | _tags(a={"portrait": 3}))
    assert trigger_of(path) == "ohwx man"


def test_frequent_tags_are_suggested_and_never_put_in_front(tmp_path: Path) -> None:
    path = _file(tmp_path / "x.safetensors", _tags(a={"sea": 2, "boat": 5, " ": 9}, b={"sea": 4, "sky": 1}))
    assert suggested_words(path) == ("sea", "boat", "sky")
    assert trigger_of(path) == ""


def test_the_trigger_is_not_suggested_again_and_few_words_are(tmp_path: Path) -> None:
    tags = {f"tag {i}": 100 - i for i in range(40)} | {"Ink Style": 200, "x" * 61: 300, "gone": -1, "odd": "many"}
    path = _file(tmp_path / "x.safetensors", {"limner.trigger": "ink style, pen"} | _tags(a=tags, b=[1]))
    assert suggested_words(path) == tuple(f"tag {i}" for i in range(12))


def test_without_tags_the_folders_names_are_suggested(tmp_path: Path) -> None:
    folders = {"10_ohwx man": {"n_repeats": 10, "img_count": 7}, "reg": {}, "5_": {}}
    path = _file(tmp_path / "x.safetensors", {"ss_dataset_dirs": json.dumps(folders), "ss_output_name": "last"})
    assert suggested_words(path) == ("ohwx man",)


@pytest.mark.parametrize("written", [None, "", "{", "[1]", '{"a": 1}', "[" * 9999, 3])
def test_tags_that_make_no_sense_suggest_nothing(tmp_path: Path, written: object) -> None:
    metadata = {"ss_tag_frequency": written, "ss_dataset_dirs": written}
    assert suggested_words(_file(tmp_path / "x.safetensors", metadata)) == ()
    assert suggested_words(tmp_path / "gone.safetensors") == ()
