"""What a key may look like, so that no storage is ever asked for a path outside its own."""

from __future__ import annotations

import re

from limner.errors import NotFound

MAX_KEY = 500
"""Characters of the longest key; the database's columns and every S3-compatible service hold as many."""

_KEY = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,128}(/(?!\.)[A-Za-z0-9_.-]{1,128}){0,7}")


def is_key(key: str) -> bool:
    """Whether something can be stored under this name."""
    return len(key) <= MAX_KEY and _KEY.fullmatch(key) is not None


def checked_key(key: str) -> str:
    """The key itself. Raises `NotFound` for anything that is none: nothing can be stored there."""
    if not is_key(key):
        raise NotFound(f"There is nothing stored under {key[:80]!r}. Check the id.")
    return key
