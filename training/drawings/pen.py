"""The drawing tool that the shapes use: path helpers, the tones of a colour, and a pen for each style.

A shape is drawn once, in unit coordinates, by calling a :class:`Pen`. The pen decides how a filled part or a line
looks: flat colour with a darker outline, a hatched ink drawing, or a plain mask used for label maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Literal

import skia

from .scene import RGB

Style = Literal["flat", "ink"]
Tone = Literal["main", "light", "dark", "line", "white", "ink", "leaf", "bark", "gold", "glass"]

INK: RGB = (46, 40, 56)
PAPER: RGB = (253, 251, 246)
LINE_WIDTH = 0.075

_ACCENTS: dict[str, RGB] = {
    "white": (255, 253, 248),
    "ink": (40, 34, 46),
    "leaf": (74, 150, 66),
    "bark": (134, 90, 58),
    "gold": (246, 188, 62),
    "glass": (206, 232, 244),
}


def blend(first: RGB, second: RGB, share: float) -> RGB:
    """The colour ``share`` of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return (red, green, blue)


@lru_cache(maxsize=64)
def tones(main: RGB) -> dict[str, RGB]:
    """The tones of a thing's colour by name, together with the fixed accents."""
    brightness = sum(main) / 3
    light, dark, line = blend(main, (255, 255, 255), 0.42), blend(main, INK, 0.28), blend(main, INK, 0.62)
    if brightness < 70:
        light, dark, line = (118, 118, 128), (74, 74, 84), (14, 14, 18)
    elif brightness > 235:
        light, dark, line = (238, 239, 244), (216, 219, 228), (112, 114, 128)
    return {"main": main, "light": light, "dark": dark, "line": line, **_ACCENTS}


@cache
def poly(*points: float) -> skia.Path:
    """A closed polygon through x, y, x, y, ..."""
    path = skia.Path()
    path.addPoly([skia.Point(x, y) for x, y in zip(points[::2], points[1::2], strict=True)], True)
    return path


@cache
def blob(*points: float) -> skia.Path:
    """A smooth closed curve through x, y, x, y, ..."""
    path = skia.Path()
    _smooth(path, list(zip(points[::2], points[1::2], strict=True)), closed=True)
    return path


@cache
def curve(*points: float) -> skia.Path:
    """A smooth open curve through x, y, x, y, ..."""
    path = skia.Path()
    _smooth(path, list(zip(points[::2], points[1::2], strict=True)), closed=False)
    return path


@cache
def oval(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> skia.Path:
    """An ellipse, turned clockwise about its centre."""
    path = skia.Path()
    path.addOval(skia.Rect.MakeLTRB(-rx, -ry, rx, ry))
    matrix = skia.Matrix.Translate(x, y).preRotate(degrees)
    path.transform(matrix)
    return path


@cache
def box(left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> skia.Path:
    """A rectangle with rounded corners."""
    path = skia.Path()
    path.addRoundRect(skia.Rect.MakeLTRB(left, top, right, bottom), radius, radius)
    return path


@cache
def star_path(x: float, y: float, radius: float, inner: float = 0.5, points: int = 5) -> skia.Path:
    """A star with its first point up; ``inner`` is the share of the radius at the notches."""
    coordinates: list[float] = []
    for index in range(2 * points):
        length = radius if index % 2 == 0 else radius * inner
        angle = math.pi * index / points
        coordinates += [x + length * math.sin(angle), y - length * math.cos(angle)]
    return poly(*coordinates)


def _smooth(path: skia.Path, points: Sequence[tuple[float, float]], closed: bool) -> None:
    count = len(points)
    path.moveTo(*points[0])
    for index in range(count if closed else count - 1):
        if closed:
            before, start = points[index - 1], points[index]
            end, after = points[(index + 1) % count], points[(index + 2) % count]
        else:
            before, start = points[max(index - 1, 0)], points[index]
            end, after = points[index + 1], points[min(index + 2, count - 1)]
        path.cubicTo(
            start[0] + (end[0] - before[0]) / 6,
            start[1] + (end[1] - before[1]) / 6,
            end[0] - (after[0] - start[0]) / 6,
            end[1] - (after[1] - start[1]) / 6,
            end[0],
            end[1],
        )
    if closed:
        path.close()


@lru_cache(maxsize=1)
def _hatching() -> skia.Path:
    path, step = skia.Path(), 0.19
    for index in range(-11, 12):
        path.moveTo(index * step - 1.1, 1.1)
        path.lineTo(index * step + 1.1, -1.1)
    return path


@cache
def fill_paint(rgb: RGB, antialias: bool = True) -> skia.Paint:
    """A paint that fills with one colour."""
    return skia.Paint(Color=skia.Color(*rgb), AntiAlias=antialias, Style=skia.Paint.kFill_Style)


@cache
def line_paint(rgb: RGB, width: float, antialias: bool = True) -> skia.Paint:
    """A paint that draws round-ended lines of one colour."""
    return skia.Paint(
        Color=skia.Color(*rgb),
        AntiAlias=antialias,
        Style=skia.Paint.kStroke_Style,
        StrokeWidth=width,
        StrokeCap=skia.Paint.kRound_Cap,
        StrokeJoin=skia.Paint.kRound_Join,
    )


class Pen:
    """Draws filled parts and lines with flat colours and a darker outline."""

    def __init__(self, canvas: skia.Canvas, main: RGB) -> None:
        self.canvas = canvas
        self.tones = tones(main)

    def fill(self, path: skia.Path, tone: Tone = "main", outlined: bool = True) -> None:
        """A filled part, by default with an outline."""
        self.canvas.drawPath(path, fill_paint(self.tones[tone]))
        if outlined:
            self.canvas.drawPath(path, line_paint(self.tones["line"], LINE_WIDTH))

    def line(self, path: skia.Path, width: float = LINE_WIDTH, tone: Tone = "line") -> None:
        """An open line."""
        self.canvas.drawPath(path, line_paint(self.tones[tone], width))

    def limb(self, path: skia.Path, width: float, tone: Tone = "main") -> None:
        """A thick line with an outline, such as a tail or a stalk."""
        self.line(path, width + 2 * LINE_WIDTH * 0.5 + 0.02)
        self.line(path, width - LINE_WIDTH * 0.5, tone)

    def eye(self, x: float, y: float, radius: float = 0.11) -> None:
        """A round eye with a white rim."""
        self.canvas.drawPath(oval(x, y, radius, radius), fill_paint(self.tones["white"]))
        self.canvas.drawPath(oval(x, y, radius * 0.66, radius * 0.66), fill_paint(self.tones["ink"]))


class InkPen(Pen):
    """Draws with dark ink lines of uneven width and thin coloured hatching on pale paper."""

    def __init__(self, canvas: skia.Canvas, main: RGB, slant: float) -> None:
        super().__init__(canvas, main)
        self.shift = (0.03 * math.cos(slant), 0.03 * math.sin(slant))

    def _contour(self, path: skia.Path) -> None:
        paint = line_paint(INK, LINE_WIDTH * 0.55)
        self.canvas.drawPath(path, paint)
        self.canvas.save()
        self.canvas.translate(*self.shift)
        self.canvas.drawPath(path, paint)
        self.canvas.restore()

    def fill(self, path: skia.Path, tone: Tone = "main", outlined: bool = True) -> None:
        """A hatched part; parts without an outline are details, filled with solid colour."""
        rgb = self.tones[tone]
        if not outlined:
            self.canvas.drawPath(path, fill_paint(rgb))
            return
        self.canvas.drawPath(path, fill_paint(blend(PAPER, rgb, 0.1)))
        if tone != "white":
            hatch = self.tones["dark"] if sum(rgb) > 3 * 235 else rgb
            self.canvas.save()
            self.canvas.clipPath(path, skia.ClipOp.kIntersect, True)
            self.canvas.drawPath(_hatching(), line_paint(hatch, 0.07))
            self.canvas.restore()
        self._contour(path)

    def line(self, path: skia.Path, width: float = LINE_WIDTH, tone: Tone = "line") -> None:
        """An open ink line, coloured only when the tone is not the outline's."""
        rgb = INK if tone == "line" else self.tones[tone]
        self.canvas.drawPath(path, line_paint(rgb, width * 0.8 if tone == "line" else width))

    def limb(self, path: skia.Path, width: float, tone: Tone = "main") -> None:
        """A thick line: an ink outline with paper and a thin coloured core."""
        self.canvas.drawPath(path, line_paint(INK, width + LINE_WIDTH))
        self.canvas.drawPath(path, line_paint(blend(PAPER, self.tones[tone], 0.1), width - LINE_WIDTH * 0.3))
        self.canvas.drawPath(path, line_paint(self.tones[tone], width * 0.4))


class MaskPen(Pen):
    """Draws every part in one grey level without antialiasing, which gives a thing's silhouette."""

    def __init__(self, canvas: skia.Canvas, level: int) -> None:
        super().__init__(canvas, (level, level, level))
        self.level: RGB = (level, level, level)

    def fill(self, path: skia.Path, tone: Tone = "main", outlined: bool = True) -> None:
        """The part's silhouette."""
        if outlined:
            self.canvas.drawPath(path, fill_paint(self.level, False))

    def line(self, path: skia.Path, width: float = LINE_WIDTH, tone: Tone = "line") -> None:
        """The line's silhouette."""
        self.canvas.drawPath(path, line_paint(self.level, width, False))

    def limb(self, path: skia.Path, width: float, tone: Tone = "main") -> None:
        """The limb's silhouette."""
        self.line(path, width + LINE_WIDTH)

    def eye(self, x: float, y: float, radius: float = 0.11) -> None:
        """Nothing: an eye lies inside its thing."""
