"""Pictures that a network looks at while it paints another one: brought to sizes that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from limner.domain import ReferencesAs
from limner.media.pictures import fit
from limner.workflows.kontext_sizes import kontext_size


def context_size(references_as: ReferencesAs | None, sizes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Width and height of the picture that follows from those that are looked at; None where none are.

    That of the first one, or of all side by side, in the nearest shape of ComfyUI's FluxKontextImageScale.
    """
    if not sizes or references_as not in ("context", "stitched"):
        return None
    if references_as == "stitched":
        height = sizes[0][1]
        return kontext_size(sum(round(width * height / own) for width, own in sizes), height)
    return kontext_size(*sizes[0])


def context_pictures(pictures: Sequence[Image.Image], *, stitch: bool) -> tuple[Image.Image, ...]:
    """The pictures as the network is shown them: each in its nearest trained size, or all side by side as one.

    Side by side they have the height of the first one, as ComfyUI's ImageStitch makes them.
    """
    if stitch and len(pictures) > 1:
        height = pictures[0].height
        scaled = [
            picture.resize((max(1, round(picture.width * height / picture.height)), height), Image.Resampling.LANCZOS)
            for picture in pictures
        ]
        whole = Image.new("RGB", (sum(picture.width for picture in scaled), height))
        left = 0
        for picture in scaled:
            whole.paste(picture, (left, 0))
            left += picture.width
        pictures = [whole]
    return tuple(fit(picture, *kontext_size(*picture.size)) for picture in pictures)
