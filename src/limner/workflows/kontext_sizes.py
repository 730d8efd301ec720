"""The sizes that FLUX.1 Kontext was trained on, and the one that suits a picture.

Plain numbers; nothing here knows a network or opens a picture. Invariant: every size is a multiple of 16 on both sides
and about a megapixel.
"""

from __future__ import annotations

KONTEXT_SIZES: tuple[tuple[int, int], ...] = (
    (672, 1568),
    (688, 1504),
    (720, 1456),
    (752, 1392),
    (800, 1328),
    (832, 1248),
    (880, 1184),
    (944, 1104),
    (1024, 1024),
    (1104, 944),
    (1184, 880),
    (1248, 832),
    (1328, 800),
    (1392, 752),
    (1456, 720),
    (1504, 688),
    (1568, 672),
)
"""(width, height) in pixels, from the tallest to the widest."""


def kontext_size(width: int, height: int) -> tuple[int, int]:
    """The trained size whose width over height is nearest to the picture's; of two as near, the narrower.

    ComfyUI's `FluxKontextImageScale` chooses the same.

    Raises:
        ValueError: a side is not positive.
    """
    if width < 1 or height < 1:
        raise ValueError(f"A picture of {width}x{height} has no proportions. Choose positive sides.")
    wanted = width / height
    return min(KONTEXT_SIZES, key=lambda size: (abs(wanted - size[0] / size[1]), size))
