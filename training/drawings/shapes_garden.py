"""Plants and food, each drawn in unit coordinates: x to the right, y downwards, all within -1 to 1."""

from __future__ import annotations

import math

from .pen import Pen, blob, box, curve, oval, poly


def apple(pen: Pen) -> None:
    """An apple with a stalk and one leaf."""
    pen.fill(
        blob(
            0,
            -0.4,
            0.36,
            -0.54,
            0.76,
            -0.34,
            0.82,
            0.16,
            0.56,
            0.74,
            0.22,
            0.92,
            0,
            0.84,
            -0.22,
            0.92,
            -0.56,
            0.74,
            -0.82,
            0.16,
            -0.76,
            -0.34,
            -0.36,
            -0.54,
        )
    )
    pen.line(curve(0, -0.34, 0.02, -0.64, 0.1, -0.88), 0.12, "bark")
    pen.fill(blob(0.12, -0.6, 0.36, -0.92, 0.72, -0.86, 0.5, -0.6), "leaf")
    pen.fill(oval(-0.46, -0.02, 0.12, 0.24, 18), "light", outlined=False)


def pear(pen: Pen) -> None:
    """A pear with a stalk and one leaf."""
    pen.fill(
        blob(
            0,
            -0.66,
            0.26,
            -0.52,
            0.34,
            -0.14,
            0.62,
            0.26,
            0.62,
            0.7,
            0.3,
            0.94,
            0,
            0.96,
            -0.3,
            0.94,
            -0.62,
            0.7,
            -0.62,
            0.26,
            -0.34,
            -0.14,
            -0.26,
            -0.52,
        )
    )
    pen.line(curve(0, -0.62, 0.0, -0.78, 0.06, -0.95), 0.11, "bark")
    pen.fill(blob(0.06, -0.72, 0.24, -0.96, 0.58, -0.86, 0.36, -0.66), "leaf")
    pen.fill(oval(-0.34, 0.42, 0.1, 0.22, 14), "light", outlined=False)


def flower(pen: Pen) -> None:
    """A flower with six petals on a stem with two leaves."""
    pen.line(curve(0, 0, 0.02, 0.95), 0.13, "leaf")
    pen.fill(blob(0.02, 0.84, 0.2, 0.52, 0.56, 0.46, 0.36, 0.8), "leaf")
    pen.fill(blob(0.0, 0.84, -0.2, 0.52, -0.56, 0.46, -0.36, 0.8), "leaf")
    for index in range(6):
        angle = math.pi * index / 3
        pen.fill(oval(round(0.38 * math.sin(angle), 4), round(-0.32 - 0.38 * math.cos(angle), 4), 0.25, 0.25))
    pen.fill(oval(0, -0.32, 0.22, 0.22), "gold")


def tree(pen: Pen) -> None:
    """A tree with a cloud-like crown."""
    pen.fill(poly(-0.15, 0.2, 0.15, 0.2, 0.22, 0.95, -0.22, 0.95), "bark")
    pen.fill(
        blob(
            0,
            -0.95,
            0.34,
            -0.86,
            0.5,
            -0.58,
            0.82,
            -0.36,
            0.86,
            0.06,
            0.56,
            0.34,
            0.2,
            0.32,
            0,
            0.44,
            -0.2,
            0.32,
            -0.56,
            0.34,
            -0.86,
            0.06,
            -0.82,
            -0.36,
            -0.5,
            -0.58,
            -0.34,
            -0.86,
        )
    )
    pen.line(curve(-0.36, -0.36, -0.2, -0.24, 0.0, -0.32), 0.08)
    pen.line(curve(0.14, 0.02, 0.3, 0.12, 0.5, 0.02), 0.08)


def mushroom(pen: Pen) -> None:
    """A mushroom with a spotted cap on a white stalk."""
    pen.fill(blob(-0.2, -0.1, 0.2, -0.1, 0.22, 0.4, 0.36, 0.84, 0, 0.94, -0.36, 0.84, -0.22, 0.4), "white")
    pen.fill(
        blob(
            0,
            -0.9,
            0.5,
            -0.76,
            0.86,
            -0.3,
            0.9,
            0.08,
            0.5,
            0.2,
            0,
            0.22,
            -0.5,
            0.2,
            -0.9,
            0.08,
            -0.86,
            -0.3,
            -0.5,
            -0.76,
        )
    )
    pen.fill(oval(0, -0.5, 0.19, 0.17), "light", outlined=False)
    pen.fill(oval(-0.5, -0.14, 0.15, 0.14), "light", outlined=False)
    pen.fill(oval(0.5, -0.14, 0.15, 0.14), "light", outlined=False)


def leaf(pen: Pen) -> None:
    """A pointed leaf leaning to the right, with its veins."""
    pen.line(curve(-0.5, 0.5, -0.86, 0.9), 0.12)
    pen.fill(blob(0.88, -0.9, 0.86, -0.2, 0.5, 0.4, 0.0, 0.62, -0.54, 0.54, -0.62, 0.0, -0.4, -0.5, 0.2, -0.86))
    pen.line(curve(-0.52, 0.52, 0.6, -0.6), 0.08)
    pen.line(curve(-0.14, 0.14, -0.22, -0.3), 0.06)
    pen.line(curve(-0.14, 0.14, 0.3, 0.22), 0.06)
    pen.line(curve(0.24, -0.24, 0.2, -0.56), 0.06)
    pen.line(curve(0.24, -0.24, 0.56, -0.2), 0.06)


def cake(pen: Pen) -> None:
    """A two-layered cake with icing and one candle."""
    pen.fill(box(-0.08, -0.72, 0.08, -0.26, 0.03), "white")
    pen.fill(blob(0, -0.98, 0.1, -0.8, 0, -0.68, -0.1, -0.8), "gold")
    pen.fill(box(-0.9, 0.3, 0.9, 0.9, 0.1))
    pen.fill(box(-0.6, -0.28, 0.6, 0.32, 0.1))
    pen.fill(
        blob(
            -0.6,
            -0.2,
            -0.5,
            -0.32,
            0.5,
            -0.32,
            0.6,
            -0.2,
            0.56,
            0.0,
            0.4,
            0.06,
            0.24,
            -0.08,
            0,
            0.08,
            -0.24,
            -0.08,
            -0.4,
            0.06,
            -0.56,
            0.0,
        ),
        "white",
    )
    pen.line(curve(-0.86, 0.52, -0.58, 0.66, -0.29, 0.52, 0, 0.66, 0.29, 0.52, 0.58, 0.66, 0.86, 0.52), 0.1, "light")
