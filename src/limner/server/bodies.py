"""What several routes find in the bodies of requests: sizes as texts, and pictures as data URLs."""

from __future__ import annotations

import base64
import re

from limner.errors import InvalidRequest
from limner.server.state import State

DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,([A-Za-z0-9+/=\s]+)")


def size_of(size: str) -> tuple[int, int]:
    """Width and height of `1024x1024`. Raises `InvalidRequest`."""
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*[xX*×]\s*([0-9]{1,5})\s*", size)
    if not found:
        raise InvalidRequest(f"`size` {size[:40]!r} is not of the form 1024x1024. Give width x height in pixels.")
    return int(found[1]), int(found[2])


async def kept_data_url(parts: State, owner: str, url: str) -> str:
    """The id of the upload that a data URL becomes. Raises `InvalidRequest`."""
    found = DATA_URL.fullmatch(url)
    try:
        content = base64.b64decode(found[1]) if found else None
    except ValueError:
        content = None
    if content is None:
        raise InvalidRequest("The picture must be a data URL (data:image/png;base64,…). Or upload it first.")
    limit = parts.service.settings.server.max_upload_bytes
    return (await parts.service.gallery.add_upload(owner, "picture", content, limit)).id
