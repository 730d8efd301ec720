"""Saved pictures are whole, never replace another, and leave nothing behind when they fail."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from limner.domain import OutputSettings
from limner.errors import StorageError
from limner.media.metadata import read_recipe
from limner.media.saving import check_folder, save_picture
from tests.support.records import gradient, recipe


def _save(folder: Path, stem: str = "boat") -> Path:
    return save_picture(gradient(), folder, stem, recipe(), OutputSettings())


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_folder_is_made_and_the_recipe_is_inside(tmp_path: Path) -> None:
    path = _save(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "boat.png"
    assert read_recipe(path) == recipe()


@pytest.mark.parametrize(("format", "suffix"), [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_the_name_ends_with_the_format(tmp_path: Path, format: str, suffix: str) -> None:
    output = OutputSettings.model_validate({"format": format})
    assert save_picture(gradient(), tmp_path, "boat", recipe(), output).suffix == suffix


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    assert [_save(tmp_path).name for _ in range(3)] == ["boat.png", "boat-2.png", "boat-3.png"]


def test_many_at_once_never_replace_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(_save, [tmp_path] * 16))
    assert len(set(paths)) == len(list(tmp_path.iterdir())) == 16


def test_a_file_system_without_hard_links_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    assert [_save(tmp_path).name for _ in range(2)] == ["boat.png", "boat-2.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boat-2.png", "boat.png"]
    assert read_recipe(tmp_path / "boat.png") == recipe()


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(StorageError) as caught:
        _save(tmp_path)
    assert caught.value.message == (
        f"Pictures cannot be written to {tmp_path} (No space left on device). "
        "Check the disk's space and the folder's permissions, or choose another folder."
    )
    assert caught.value.details == {"path": str(tmp_path)}
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_at_the_last_moment_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _full)
    monkeypatch.setattr(Path, "replace", _full)
    with pytest.raises(StorageError):
        _save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        _save(tmp_path / "file")


def test_a_folder_is_checked_without_being_made(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(StorageError, match=r"file is not a folder\)"):
            check_folder(place)


def test_a_folder_without_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, mode: int) -> bool:
        return False

    monkeypatch.setattr(os, "access", refuse)
    with pytest.raises(StorageError, match=r"\(Permission denied\)"):
        check_folder(tmp_path)
