"""Write our pictures, whole or not at all.

A picture appears under its name only when every byte is on the disk, and never replaces a file that was there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from PIL import Image

from limner.domain import OutputSettings, Recipe
from limner.errors import StorageError
from limner.media.metadata import encoded

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


def save_picture(
    image: Image.Image, folder: Path, stem: str, recipe: Recipe, output: OutputSettings, suffix: str = ""
) -> Path:
    """Write a picture with its recipe as `folder/stem.png` (or .jpg, .webp, or `suffix`); the path that it got.

    Where that name is taken it becomes `stem-2`, `stem-3` and so on. The folder is made when it is missing. Raises
    `StorageError` with the path when the disk is full or the folder cannot be written; nothing half-written stays.
    """
    return save_content(encoded(image, recipe, output), folder, stem, suffix or SUFFIXES[output.format])


def save_content(content: bytes, folder: Path, stem: str, suffix: str) -> Path:
    """Write a picture file that is made already, in the way of `save_picture`; the path that it got."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _write_new(folder, stem, suffix, content)
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from error


def check_folder(folder: Path) -> None:
    """Find out, without making anything, whether pictures can go into this folder.

    Raises `StorageError` where they certainly cannot.
    """
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from error
    if not existing.is_dir():
        raise _unwritable(folder, f"{existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _unwritable(folder, os.strerror(errno.EACCES))


def _unwritable(folder: Path, reason: str) -> StorageError:
    return StorageError(
        f"Pictures cannot be written to {folder} ({reason}). "
        "Check the disk's space and the folder's permissions, or choose another folder.",
        path=str(folder),
    )


def _write_new(folder: Path, stem: str, suffix: str, content: bytes) -> Path:
    temporary = folder / f".{stem[:40]}-{secrets.token_hex(4)}.part"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        number = 1
        while True:
            target = folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
            try:
                _claim(temporary, target)
            except FileExistsError:
                number += 1
                continue
            _sync_folder(folder)
            return target
    finally:
        temporary.unlink(missing_ok=True)


def _claim(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system: take the name with an empty file, then put the whole one in its place.
        target.touch(exist_ok=False)
        try:
            temporary.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
