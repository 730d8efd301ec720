"""Turns a scene into a picture, and into a coarse map of which thing covers which cell.

All measures are relative to the picture, so one scene and seed at two sizes of the same aspect is the same picture.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import skia
from numpy.typing import NDArray

from .backgrounds import draw_background
from .pen import InkPen, MaskPen, Pen, Style
from .scene import BACKGROUNDS, COLOURS, SIZES, THINGS, Scene
from .shapes import SHAPES

CELL = 16
_SUBCELL = 4
_COVERED = 0.4

_Place = tuple[float, float, float]


@dataclass(frozen=True)
class Placed:
    """A thing with its colour, its centre in pixels and half its width in pixels."""

    thing: str
    colour: str
    x: float
    y: float
    half: float


def _slots(scene: Scene, width: float, height: float) -> list[_Place]:
    """The centre (as shares of width and height) and width in pixels of each thing, before jitter."""
    shorter = min(width, height)
    tall = height > width * 1.05
    middle = 0.56 if BACKGROUNDS[scene.background].has_ground else 0.51
    if len(scene.groups) == 2:
        if scene.relation == "above":
            across = min(0.43 * height, 0.56 * width)
            return [(0.5, 0.27, across), (0.5, 0.74, across)]
        across = min(0.44 * width, 0.56 * height)
        return [(0.27, middle, across), (0.73, middle, across)]
    group = scene.groups[0]
    if group.count == 1:
        centre = 0.5 + (middle - 0.5) * (0.4 if group.size == "big" else 1.0)
        return [(0.5, centre, SIZES[group.size].share * shorter)]
    if group.count == 2:
        across = min(0.42 * width, 0.52 * height)
        return [(0.27, middle, across), (0.73, middle, across)]
    if tall:
        across = min(0.42 * width, 0.40 * height)
        return [(0.5, middle - 0.21, across), (0.27, middle + 0.19, across), (0.73, middle + 0.19, across)]
    across = min(0.3 * width, 0.5 * height)
    return [(0.18, middle, across), (0.5, middle, across), (0.82, middle, across)]


def place(scene: Scene, width: float, height: float, seed: int) -> list[Placed]:
    """Where each thing of the scene stands, with the small jitter that the seed gives."""
    rng = random.Random(seed)
    shorter = min(width, height)
    members = [group for group in scene.groups for _ in range(group.count)]
    things: list[Placed] = []
    for group, (x, y, across) in zip(members, _slots(scene, width, height), strict=True):
        room = 0.015 if len(members) == 1 else 0.01
        half = 0.5 * across * (1 + rng.uniform(-0.03, 0.03))
        centre_x = x * width + rng.uniform(-room, room) * shorter
        centre_y = y * height + rng.uniform(-room, room) * shorter
        things.append(Placed(group.thing, group.colour, centre_x, centre_y, half))
    return things


def render(scene: Scene, width: int, height: int, seed: int, style: Style = "flat") -> NDArray[np.uint8]:
    """The picture of a scene as (height, width, 3) RGB values."""
    pixels = np.empty((height, width, 4), np.uint8)
    surface = skia.Surface(pixels, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    with surface as canvas:
        draw_background(canvas, scene.background, width, height, seed, style)
        slant = random.Random(seed + 7).uniform(0.0, math.pi / 2)
        for item in place(scene, width, height, seed):
            canvas.save()
            canvas.translate(item.x, item.y)
            canvas.scale(item.half, item.half)
            main = COLOURS[item.colour].rgb
            SHAPES[item.thing](InkPen(canvas, main, slant) if style == "ink" else Pen(canvas, main))
            canvas.restore()
    return np.ascontiguousarray(pixels[:, :, :3])


def label_map(scene: Scene, width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """For each 16 by 16 pixel cell: 0 for background, or one plus the index in THINGS of the thing covering it."""
    columns, rows = width // CELL, height // CELL
    levels = np.empty((rows * _SUBCELL, columns * _SUBCELL, 4), np.uint8)
    surface = skia.Surface(levels, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    names = list(THINGS)
    indices: list[int] = []
    with surface as canvas:
        canvas.clear(skia.Color(0, 0, 0))
        canvas.scale(_SUBCELL / CELL, _SUBCELL / CELL)
        for item in place(scene, width, height, seed):
            index = 1 + names.index(item.thing)
            indices.append(index)
            canvas.save()
            canvas.translate(item.x, item.y)
            canvas.scale(item.half, item.half)
            SHAPES[item.thing](MaskPen(canvas, index))
            canvas.restore()
    cells = levels[:, :, 0].reshape(rows, _SUBCELL, columns, _SUBCELL)
    labels = np.zeros((rows, columns), np.uint8)
    for index in indices:
        labels[(cells == index).mean(axis=(1, 3)) >= _COVERED] = index
    return labels
