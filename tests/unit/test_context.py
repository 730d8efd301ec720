"""Pictures that a network looks at: their sizes, alone and side by side."""

from __future__ import annotations

from PIL import Image

from limner.context import context_pictures, context_size
from limner.workflows.kontext_sizes import kontext_size


def test_the_painted_size_follows_the_first_picture_or_all_side_by_side() -> None:
    sizes = [(600, 900), (900, 900)]
    assert context_size("context", sizes) == kontext_size(600, 900)
    assert context_size("stitched", sizes) == kontext_size(1500, 900)
    assert context_size("start", sizes) is context_size(None, sizes) is context_size("context", []) is None


def test_pictures_are_shown_one_by_one_or_side_by_side_at_the_first_ones_height() -> None:
    left, right = Image.new("RGB", (600, 600), "red"), Image.new("RGB", (1200, 1200), "blue")
    assert [picture.size for picture in context_pictures([left, right], stitch=False)] == [(1024, 1024)] * 2
    (whole,) = context_pictures([left, right], stitch=True)
    assert whole.size == kontext_size(1200, 600)
    assert (whole.getpixel((10, 10)), whole.getpixel((whole.width - 10, 10))) == ((255, 0, 0), (0, 0, 255))
