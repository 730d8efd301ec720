"""Kontext's sizes: the nearest proportions win, as in ComfyUI's node and in diffusers."""

from __future__ import annotations

import pytest

from limner.workflows.kontext_sizes import KONTEXT_SIZES, kontext_size


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((1024, 1024), (1024, 1024)),
        ((10, 10), (1024, 1024)),
        ((1920, 1080), (1392, 752)),
        ((1080, 1920), (752, 1392)),
        ((100, 10_000), (672, 1568)),
        ((10_000, 100), (1568, 672)),
        ((3, 2), (1248, 832)),
    ],
)
def test_the_nearest_proportions_are_chosen(picture: tuple[int, int], size: tuple[int, int]) -> None:
    assert kontext_size(*picture) == size


def test_there_are_seventeen_sizes_of_a_megapixel_in_multiples_of_16() -> None:
    assert len(set(KONTEXT_SIZES)) == 17
    assert all(side % 16 == 0 for size in KONTEXT_SIZES for side in size)
    assert all(0.98 < width * height / 1024**2 < 1.02 for width, height in KONTEXT_SIZES)
    assert all(kontext_size(*size) == size for size in KONTEXT_SIZES)


def test_a_picture_without_sides_is_refused() -> None:
    with pytest.raises(ValueError, match="0x5"):
        kontext_size(0, 5)
