"""Pictures that a network looks at while it paints another one: brought to sizes that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from limner.domain import ReferencesAs
from limner.media.pictures import fit

KONTEXT_SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104),
    (1024, 1024),
    (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688), (1568, 672),
)  # fmt: skip
"""Width and height that FLUX.1 Kontext was trained on, as ComfyUI's FluxKontextImageScale lists them."""


def kontext_size(width: int, height: int) -> tuple[int, int]:
    """The trained size that is nearest by width / height."""
    return min(KONTEXT_SIZES, key=lambda size: (abs(width / height - size[0] / size[1]), size))


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
