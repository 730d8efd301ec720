"""The animals, each drawn in unit coordinates: x to the right, y downwards, all within -1 to 1."""

from __future__ import annotations

from .pen import Pen, blob, box, curve, oval, poly


def cat(pen: Pen) -> None:
    """A sitting cat seen from the front, with its tail curled to the right."""
    pen.limb(curve(0.3, 0.82, 0.72, 0.78, 0.84, 0.4, 0.66, 0.14), 0.2)
    pen.fill(blob(0, -0.1, 0.38, 0.2, 0.52, 0.7, 0.4, 0.92, 0, 0.95, -0.4, 0.92, -0.52, 0.7, -0.38, 0.2))
    pen.fill(poly(-0.62, -0.3, -0.6, -0.95, -0.12, -0.62))
    pen.fill(poly(0.62, -0.3, 0.6, -0.95, 0.12, -0.62))
    pen.fill(blob(0, -0.7, 0.45, -0.6, 0.66, -0.25, 0.42, 0.08, 0, 0.16, -0.42, 0.08, -0.66, -0.25, -0.45, -0.6))
    pen.eye(-0.27, -0.28, 0.14)
    pen.eye(0.27, -0.28, 0.14)
    pen.fill(poly(-0.08, -0.1, 0.08, -0.1, 0, 0), "ink", outlined=False)
    pen.line(curve(0, 0.5, 0, 0.92), 0.06)


def dog(pen: Pen) -> None:
    """A standing dog facing left, with a drooping ear and a raised tail."""
    pen.limb(curve(0.66, 0.0, 0.86, -0.2, 0.84, -0.5), 0.16)
    pen.fill(box(0.42, 0.2, 0.68, 0.9, 0.1))
    pen.fill(box(-0.3, 0.2, -0.04, 0.9, 0.1))
    pen.fill(blob(-0.4, -0.12, 0.2, -0.16, 0.7, -0.06, 0.76, 0.3, 0.5, 0.46, 0, 0.46, -0.4, 0.36))
    pen.fill(blob(-0.9, -0.42, -0.6, -0.5, -0.42, -0.82, -0.1, -0.8, 0.08, -0.4, -0.1, 0.0, -0.5, 0.06, -0.88, -0.1))
    pen.fill(blob(-0.12, -0.78, 0.12, -0.66, 0.2, -0.2, 0.08, 0.04, -0.08, -0.1, -0.14, -0.4), "dark")
    pen.eye(-0.42, -0.46, 0.12)
    pen.fill(oval(-0.9, -0.36, 0.1, 0.09), "ink", outlined=False)


def fish(pen: Pen) -> None:
    """A fish swimming to the left."""
    pen.fill(poly(0.42, 0, 0.95, -0.48, 0.84, 0, 0.95, 0.48), "dark")
    pen.fill(blob(-0.3, -0.44, 0.0, -0.78, 0.34, -0.62, 0.2, -0.34), "dark")
    pen.fill(blob(-0.95, 0, -0.6, -0.42, -0.1, -0.54, 0.35, -0.3, 0.56, 0, 0.35, 0.3, -0.1, 0.54, -0.6, 0.42))
    pen.line(curve(-0.38, -0.42, -0.24, 0, -0.38, 0.42), 0.08)
    pen.fill(blob(-0.1, 0.02, 0.2, -0.1, 0.26, 0.12, 0.06, 0.24), "light", outlined=False)
    pen.eye(-0.62, -0.12, 0.13)


def bird(pen: Pen) -> None:
    """A round bird standing and facing right, with its tail up."""
    pen.line(curve(-0.1, 0.6, -0.12, 0.95), 0.08, "bark")
    pen.line(curve(0.18, 0.6, 0.2, 0.95), 0.08, "bark")
    pen.fill(poly(-0.45, 0.1, -0.98, -0.42, -0.94, 0.06, -0.5, 0.5), "dark")
    pen.fill(poly(0.6, -0.5, 0.98, -0.32, 0.6, -0.14), "gold")
    pen.fill(
        blob(
            0.36, -0.84, 0.7, -0.6, 0.66, -0.16, 0.56, 0.3, 0.2, 0.64, -0.3, 0.62, -0.62, 0.24, -0.3, -0.1, 0.02, -0.56
        )
    )
    pen.fill(blob(-0.36, 0.06, 0.04, -0.02, 0.26, 0.14, 0.06, 0.42, -0.3, 0.4, -0.52, 0.22), "dark")
    pen.eye(0.38, -0.44, 0.13)


def rabbit(pen: Pen) -> None:
    """A sitting rabbit seen from the front, with long ears."""
    pen.fill(oval(-0.22, -0.62, 0.15, 0.36, -8))
    pen.fill(oval(0.22, -0.62, 0.15, 0.36, 8))
    pen.fill(oval(-0.22, -0.62, 0.06, 0.22, -8), "light", outlined=False)
    pen.fill(oval(0.22, -0.62, 0.06, 0.22, 8), "light", outlined=False)
    pen.fill(blob(0, 0.1, 0.42, 0.3, 0.54, 0.7, 0.36, 0.95, 0, 0.96, -0.36, 0.95, -0.54, 0.7, -0.42, 0.3))
    pen.fill(oval(0, 0.02, 0.46, 0.38))
    pen.fill(oval(0, 0.7, 0.26, 0.2), "light", outlined=False)
    pen.eye(-0.2, -0.04, 0.12)
    pen.eye(0.2, -0.04, 0.12)
    pen.fill(oval(0, 0.14, 0.08, 0.06), "ink", outlined=False)


def butterfly(pen: Pen) -> None:
    """A butterfly with open wings seen from above."""
    for side in (-1, 1):
        pen.fill(
            blob(
                side * 0.08,
                0.1,
                side * 0.4,
                0.08,
                side * 0.74,
                0.3,
                side * 0.66,
                0.76,
                side * 0.32,
                0.8,
                side * 0.12,
                0.5,
            )
        )
        pen.fill(
            blob(
                side * 0.06,
                0,
                side * 0.2,
                -0.5,
                side * 0.6,
                -0.84,
                side * 0.95,
                -0.66,
                side * 0.88,
                -0.1,
                side * 0.5,
                0.16,
            )
        )
        pen.fill(oval(side * 0.58, -0.38, 0.2, 0.2), "light", outlined=False)
        pen.fill(oval(side * 0.42, 0.46, 0.13, 0.13), "light", outlined=False)
        pen.line(curve(side * 0.03, -0.42, side * 0.12, -0.72, side * 0.28, -0.92), 0.06, "ink")
    pen.fill(oval(0, 0.08, 0.1, 0.56), "ink", outlined=False)


def snail(pen: Pen) -> None:
    """A snail creeping to the left under its round shell."""
    pen.line(curve(-0.7, -0.1, -0.86, -0.46), 0.08)
    pen.line(curve(-0.58, -0.1, -0.52, -0.48), 0.08)
    pen.fill(
        blob(-0.9, 0.0, -0.7, -0.2, -0.48, -0.02, -0.4, 0.4, 0.4, 0.5, 0.95, 0.78, 0.4, 0.84, -0.5, 0.82, -0.78, 0.4),
        "light",
    )
    pen.fill(oval(0.16, -0.04, 0.64, 0.64))
    pen.line(
        curve(
            0.42, 0.5, 0.6, 0.02, 0.34, -0.36, -0.06, -0.34, -0.22, 0.0, -0.02, 0.28, 0.26, 0.18, 0.28, -0.06, 0.1, -0.1
        ),
        0.1,
    )
    pen.eye(-0.7, 0.06, 0.09)


def turtle(pen: Pen) -> None:
    """A turtle walking to the left under its domed shell."""
    pen.fill(oval(-0.46, 0.56, 0.16, 0.22), "light")
    pen.fill(oval(0.46, 0.56, 0.16, 0.22), "light")
    pen.fill(poly(0.6, 0.34, 0.96, 0.54, 0.58, 0.54), "light")
    pen.fill(blob(-0.5, 0.44, -0.74, 0.4, -0.96, 0.16, -0.88, -0.1, -0.66, -0.14, -0.52, 0.06), "light")
    pen.fill(blob(-0.74, 0.44, -0.62, -0.1, -0.3, -0.5, 0.08, -0.6, 0.44, -0.46, 0.68, -0.08, 0.78, 0.44, 0, 0.5))
    pen.fill(poly(-0.12, -0.34, 0.24, -0.34, 0.38, -0.02, 0.06, 0.24, -0.28, -0.02), "dark", outlined=False)
    pen.eye(-0.78, 0.06, 0.08)


def elephant(pen: Pen) -> None:
    """An elephant facing left, with a hanging trunk and a large ear."""
    pen.line(curve(0.84, -0.1, 0.95, 0.16, 0.92, 0.34), 0.08)
    pen.fill(box(0.46, 0.2, 0.76, 0.88, 0.1))
    pen.fill(box(-0.24, 0.2, 0.06, 0.88, 0.1))
    pen.fill(blob(-0.3, -0.46, 0.2, -0.6, 0.72, -0.44, 0.86, 0, 0.78, 0.4, 0.3, 0.5, -0.24, 0.4))
    pen.fill(
        blob(
            -0.4,
            -0.72,
            -0.02,
            -0.6,
            0.06,
            -0.1,
            -0.28,
            0.18,
            -0.58,
            0.14,
            -0.66,
            0.5,
            -0.82,
            0.7,
            -0.95,
            0.58,
            -0.9,
            0.1,
            -0.78,
            -0.44,
        )
    )
    pen.fill(blob(-0.2, -0.6, 0.18, -0.66, 0.36, -0.3, 0.24, 0.08, -0.02, 0.1, -0.22, -0.2), "dark")
    pen.eye(-0.52, -0.3, 0.1)
