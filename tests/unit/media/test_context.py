"""Pictures that a network looks at: their sizes, alone and side by side."""

from __future__ import annotations

import pytest
from PIL import Image

from limner.media.context import KONTEXT_SIZES, context_pictures, context_size, kontext_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 640), (1024, 1024)), ((1920, 1080), (1392, 752)), ((100, 1000), (672, 1568)), ((3000, 2000), (1248, 832))],
)
def test_the_nearest_trained_shape_is_taken(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert kontext_size(*size) == expected


def test_every_trained_size_is_its_own_nearest() -> None:
    assert all(kontext_size(*size) == size for size in KONTEXT_SIZES)


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
