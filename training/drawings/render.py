"""Turns a scene into a picture, and into a coarse map of which thing covers which cell.

All measures are relative to the picture, so one scene and seed at two sizes of the same aspect is the same picture,
but for one thing: things stand in the middle of 16 px cells and leave their places by whole cells. So the same thing
looks the same to a network that sees such cells, wherever it stands, and is learnt from fewer pictures.
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
PARTS = 10
_REACH = 1.25
_SUBCELL = 4
_COVERED = 0.4

_ABOUT = 176


@dataclass(frozen=True)
class Placed:
    """A thing with its colour, its centre in pixels and half its width in pixels."""

    thing: str
    colour: str
    x: float
    y: float
    half: float


@dataclass(frozen=True)
class _Slot:
    """A place for a thing: its centre in shares of width and height, its width in shares of the shorter side.

    ``across`` and ``down`` say in which directions the thing may stray from it.
    """

    x: float
    y: float
    share: float
    across: bool = False
    down: bool = False


def _slots(scene: Scene, width: float, height: float) -> list[_Slot]:
    tall, wide = height > width * 1.05, width > height * 1.05
    middle = 0.56 if BACKGROUNDS[scene.background].has_ground else 0.51
    if scene.relation == "above":
        share = 0.54 if tall else 0.4
        return [_Slot(0.5, 0.27, share, across=True), _Slot(0.5, 0.74, share, across=True)]
    group = scene.groups[0]
    if len(scene.groups) == 2 or group.count == 2:
        return [_Slot(0.27, middle, 0.4, down=True), _Slot(0.73, middle, 0.4, down=True)]
    if group.count == 1:
        big = group.size == "big"
        centre = 0.5 + (middle - 0.5) * (0.4 if big else 1.0)
        return [_Slot(0.5, centre, SIZES[group.size].share, across=wide or not big, down=tall or not big)]
    if tall:
        return [_Slot(0.5, middle - 0.21, 0.4), _Slot(0.27, middle + 0.19, 0.4), _Slot(0.73, middle + 0.19, 0.4)]
    share = min(0.4, 0.3 * width / min(width, height))
    return [_Slot(0.18, middle, share), _Slot(0.5, middle, share), _Slot(0.82, middle, share)]


def place(scene: Scene, width: float, height: float, seed: int) -> list[Placed]:
    """Where each thing of the scene stands, with the small straying that the seed gives."""
    rng = random.Random(seed)
    shorter = min(width, height)
    stride = CELL * max(1, round(shorter / _ABOUT))

    def stray(share: float, side: float, free: bool) -> float:
        return (round(share * side / CELL - 0.5) + 0.5) * CELL + stride * (rng.choice((-1, 0, 1)) if free else 0)

    members = [group for group in scene.groups for _ in range(group.count)]
    return [
        Placed(
            group.thing,
            group.colour,
            stray(slot.x, width, slot.across),
            stray(slot.y, height, slot.down),
            slot.share * shorter / 2,
        )
        for group, slot in zip(members, _slots(scene, width, height), strict=True)
    ]


def render(scene: Scene, width: int, height: int, seed: int, style: Style = "flat") -> NDArray[np.uint8]:
    """The picture of a scene as (height, width, 3) RGB values."""
    pixels = np.empty((height, width, 4), np.uint8)
    surface = skia.Surface(pixels, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    with surface as canvas:
        draw_background(canvas, scene.background, width, height, style)
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


def part_map(scene: Scene, width: int, height: int, seed: int, labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each 16 by 16 pixel cell that shows a thing: which of PARTS x PARTS parts of it; -1 for background.

    Parts are counted row by row over a square a little larger than the thing, whatever its size; ``labels`` is the
    scene's ``label_map``.
    """
    rows, columns = labels.shape
    y, x = np.mgrid[0:rows, 0:columns] * CELL + CELL / 2
    items = place(scene, width, height, seed)
    things = np.array([1 + list(THINGS).index(item.thing) for item in items])
    centres = np.array([(item.y, item.x, item.half) for item in items])[:, :, None, None]
    away = np.stack([y - centres[:, 0], x - centres[:, 1]]) / centres[:, 2]  # (2, items, rows, columns)
    far = np.where(things[:, None, None] == labels, np.hypot(*away), np.inf)
    nearest = np.take_along_axis(away, far.argmin(0)[None, None], 1)[:, 0]
    part = np.clip((nearest + _REACH) / (2 * _REACH) * PARTS, 0, PARTS - 1).astype(np.int64)
    return np.where(labels > 0, part[0] * PARTS + part[1], -1)
