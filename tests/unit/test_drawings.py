"""The training drawings: the same scene at every size, recognisable colours, known words, separate splits."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))

import drawings as d

STYLES: tuple[d.Style, ...] = ("flat", "ink")


def _scenes(count: int, split: d.Split | None = None) -> list[d.Scene]:
    rng = random.Random(5)
    return [d.sample_scene(rng, split) for _ in range(count)]


def _hue(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    red, green, blue = pixels.T
    return np.arctan2(np.sqrt(np.float32(3)) * (green - blue), 2 * red - green - blue)


@pytest.mark.parametrize("style", STYLES)
def test_a_picture_is_that_of_its_scene_and_seed(style: d.Style) -> None:
    for seed, scene in enumerate(_scenes(20)):
        small = d.render(scene, 176, 224, seed, style)
        assert small.shape == (224, 176, 3) and small.dtype == np.uint8
        assert np.array_equal(small, d.render(scene, 176, 224, seed, style))


def test_a_scene_is_much_the_same_at_every_size() -> None:
    for seed, scene in enumerate(_scenes(40)):
        for a, b in zip(d.place(scene, 176, 224, seed), d.place(scene, 704, 896, seed), strict=True):
            assert abs(a.x - b.x / 4) <= 10 and abs(a.y - b.y / 4) <= 10
            assert a.half == pytest.approx(b.half / 4)


@pytest.mark.parametrize("thing", list(d.THINGS))
@pytest.mark.parametrize("style", STYLES)
def test_main_colour_dominates(thing: str, style: d.Style) -> None:
    names = [name for name in d.COLOURS if name not in ("black", "white", "brown")]
    hues = np.array([_hue(np.array([d.COLOURS[name].rgb], np.float32))[0] for name in names])
    for name in ("red", "blue", "purple"):
        scene = d.Scene("white", (d.Group(thing, name, size="big"),))
        pixels = d.render(scene, 224, 224, 1, style).reshape(-1, 3).astype(np.float32)
        coloured = pixels[np.ptp(pixels, axis=1) > 60]
        assert len(coloured) > 0.02 * len(pixels)
        distance = np.abs((_hue(coloured)[:, None] - hues + np.pi) % (2 * np.pi) - np.pi)
        nearest = np.bincount(distance.argmin(axis=1), minlength=len(names))
        assert names[int(nearest.argmax())] == name
        assert nearest.max() > 0.5 * len(coloured)


def test_styles_differ() -> None:
    for seed, scene in enumerate(_scenes(10)):
        flat = d.render(scene, 176, 224, seed, "flat").astype(np.float32)
        ink = d.render(scene, 176, 224, seed, "ink").astype(np.float32)
        assert np.abs(flat - ink).mean() > 2.5


def test_label_map_shows_each_thing() -> None:
    names = list(d.THINGS)
    for seed, scene in enumerate(_scenes(200)):
        labels = d.label_map(scene, 224, 176, seed)
        assert labels.shape == (11, 14) and labels.dtype == np.uint8
        expected = {1 + names.index(group.thing) for group in scene.groups}
        assert set(np.unique(labels).tolist()) == expected | {0}


def test_captions_use_known_words() -> None:
    known, rng = set(d.words()), random.Random(2)
    assert d.words() == sorted(known)
    for scene in _scenes(500):
        for language in ("en", "zh"):
            text = d.caption(scene, rng, language)
            assert "{" not in text
            found = d.tokens(text)
            assert 1 < len(found) <= d.MAX_TOKENS
            assert set(found) <= known


def test_splits_are_disjoint() -> None:
    assert not any(d.held_out(scene) for scene in _scenes(1000, "train"))
    assert all(d.held_out(scene) for scene in _scenes(200, "held_out"))
    single = [scene for scene in _scenes(4000) if len(scene.groups) == 1]
    assert 0.04 < sum(map(d.held_out, single)) / len(single) < 0.12


def test_things_stand_out_from_their_background() -> None:
    for scene in _scenes(500):
        assert all(d.contrasts(group.colour, scene.background) for group in scene.groups)
