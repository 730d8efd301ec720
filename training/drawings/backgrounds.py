"""Draws what lies behind the things: a plain paper, or a simple scene with its middle left free."""

from __future__ import annotations

import skia

from .pen import INK, PAPER, Style, blend, curve, fill_paint, line_paint, oval, star_path
from .scene import BACKGROUNDS, RGB

_STARS = ((0.1, 0.1), (0.36, 0.07), (0.62, 0.13), (0.08, 0.42), (0.92, 0.5), (0.1, 0.78), (0.9, 0.84), (0.5, 0.95))
_FLAKES = ((0.1, 0.08), (0.34, 0.14), (0.6, 0.06), (0.86, 0.13), (0.07, 0.32), (0.93, 0.34), (0.12, 0.54), (0.9, 0.55))
_WASH = 0.34
_NIGHT_WASH: RGB = (52, 66, 160)
_PALE_INK: RGB = blend(INK, PAPER, 0.45)


class _Backdrop:
    """Draws background parts given as shares of the picture; lengths are shares of its shorter side."""

    def __init__(self, canvas: skia.Canvas, width: float, height: float, style: Style) -> None:
        self.canvas, self.width, self.height, self.ink = canvas, width, height, style == "ink"
        self.shorter = min(width, height)

    def wash(self, rgb: RGB) -> RGB:
        """The colour itself, or a pale wash of it in an ink drawing."""
        if not self.ink:
            return rgb
        return blend(PAPER, _NIGHT_WASH, 0.42) if sum(rgb) < 210 else blend(PAPER, rgb, _WASH)

    def sheet(self, rgb: RGB) -> None:
        """The whole picture in one colour."""
        self.canvas.clear(skia.Color(*self.wash(rgb)))

    def stretched(self, path: skia.Path, rgb: RGB) -> None:
        """A part whose path is given in shares of the width and the height."""
        path = skia.Path(path)
        path.transform(skia.Matrix.Scale(self.width, self.height))
        self._part(path, rgb)

    def mark(self, path: skia.Path, x: float, y: float, scale: float, rgb: RGB) -> None:
        """A part which keeps its proportions, in unit coordinates around a place."""
        path = skia.Path(path)
        matrix = skia.Matrix.Translate(x * self.width, y * self.height)
        path.transform(matrix.preScale(scale * self.shorter, scale * self.shorter))
        self._part(path, rgb)

    def _part(self, path: skia.Path, rgb: RGB) -> None:
        if self.ink:
            self.canvas.drawPath(path, line_paint(_PALE_INK, 0.018 * self.shorter))
        self.canvas.drawPath(path, fill_paint(self.wash(rgb)))

    def waves(self, y: float, rgb: RGB) -> None:
        """A line of waves across the picture."""
        path = skia.Path(curve(*_wave(y)))
        path.transform(skia.Matrix.Scale(self.width, self.height))
        colour, thickness = (_PALE_INK, 0.01) if self.ink else (rgb, 0.018)
        self.canvas.drawPath(path, line_paint(colour, thickness * self.shorter))


def _wave(y: float) -> list[float]:
    points: list[float] = []
    for index in range(-1, 14):
        points += [index / 12, y + (0.012 if index % 2 else -0.012)]
    return points


def _land(horizon: float, bulge: float) -> skia.Path:
    """The ground below a horizon which rises by ``bulge`` in the middle."""
    path = skia.Path()
    path.moveTo(-0.05, horizon)
    path.quadTo(0.5, horizon - 2 * bulge, 1.05, horizon)
    path.lineTo(1.05, 1.05)
    path.lineTo(-0.05, 1.05)
    path.close()
    return path


def _sea() -> skia.Path:
    path = skia.Path(curve(*_wave(0.64)))
    path.lineTo(1.1, 1.05)
    path.lineTo(-0.1, 1.05)
    path.close()
    return path


def _cloud() -> skia.Path:
    path = skia.Path()
    for x, y, radius in ((-0.55, 0.05, 0.4), (0, -0.12, 0.55), (0.55, 0.05, 0.4)):
        path.addCircle(x, y, radius)
    return path


def _moon() -> skia.Path:
    path = skia.Path()
    path.arcTo(skia.Rect.MakeLTRB(-1, -1, 1, 1), 70, 230, True)
    path.quadTo(-0.35, 0.1, 0.342, 0.94)
    path.close()
    return path


_HILL, _MOUND, _SEA, _CLOUD, _MOON = _land(0.66, 0.08), _land(0.66, 0.045), _sea(), _cloud(), _moon()


def draw_background(canvas: skia.Canvas, name: str, width: float, height: float, style: Style) -> None:
    """Fills the whole picture with the named background."""
    back = _Backdrop(canvas, width, height, style)
    grounds = BACKGROUNDS[name].grounds
    back.sheet(grounds[0])
    if name == "sky":
        back.mark(_CLOUD, 0.2, 0.14, 0.14, (255, 255, 255))
        back.mark(_CLOUD, 0.8, 0.26, 0.12, (255, 255, 255))
    elif name == "sea":
        back.stretched(_SEA, grounds[1])
        back.waves(0.76, (140, 192, 228))
        back.waves(0.89, (140, 192, 228))
    elif name == "hill":
        back.stretched(_HILL, grounds[1])
        back.mark(oval(0, 0, 1, 1), 0.85, 0.13, 0.09, (252, 214, 92))
    elif name == "night":
        back.mark(_MOON, 0.85, 0.16, 0.1, (250, 236, 170))
        for x, y in _STARS:
            back.mark(star_path(0, 0, 1, 0.45), x, y, 0.032, (250, 236, 170))
    elif name == "snow":
        back.stretched(_MOUND, grounds[1])
        for x, y in _FLAKES:
            back.mark(oval(0, 0, 1, 1), x, y, 0.022, (252, 253, 255))
