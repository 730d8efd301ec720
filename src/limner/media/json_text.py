"""JSON that other programs wrote into pictures."""

from __future__ import annotations

import json
import re

_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def json_of(text: str) -> object:
    """What the text says. Halves of characters, which no answer and no file could hold, become question marks.

    Raises `ValueError`, and `RecursionError` where it is nested too deeply.
    """
    found: object = json.loads(text)
    if _HALF.search(text):
        found = json.loads(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    return found
