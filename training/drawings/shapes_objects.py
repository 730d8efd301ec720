"""Buildings, vehicles, toys and household things in unit coordinates: x to the right, y downwards."""

from __future__ import annotations

from .pen import Pen, blob, box, curve, oval, poly, star_path


def house(pen: Pen) -> None:
    """A house with a pointed roof, a door and two windows."""
    pen.fill(poly(0.4, -0.9, 0.62, -0.9, 0.62, -0.3, 0.4, -0.5), "dark")
    pen.fill(box(-0.7, -0.12, 0.7, 0.92, 0.03))
    pen.fill(poly(-0.95, -0.02, 0, -0.9, 0.95, -0.02), "dark")
    pen.fill(box(-0.17, 0.36, 0.17, 0.92, 0.05), "bark")
    pen.fill(box(-0.54, 0.18, -0.28, 0.46, 0.03), "glass")
    pen.fill(box(0.28, 0.18, 0.54, 0.46, 0.03), "glass")


def boat(pen: Pen) -> None:
    """A sailing boat; its sails and its hull have the main colour."""
    pen.line(curve(0, -0.95, 0, 0.4), 0.1, "bark")
    pen.fill(poly(-0.12, -0.82, -0.12, 0.24, -0.82, 0.24))
    pen.fill(poly(0.12, -0.95, 0.12, 0.24, 0.78, 0.24), "light")
    pen.fill(blob(-0.95, 0.4, -0.5, 0.42, 0.5, 0.42, 0.95, 0.4, 0.8, 0.68, 0.5, 0.88, 0, 0.9, -0.5, 0.88, -0.8, 0.68))


def car(pen: Pen) -> None:
    """A small car facing right."""
    pen.fill(blob(-0.56, 0.0, -0.44, -0.4, -0.2, -0.56, 0.2, -0.56, 0.42, -0.4, 0.6, 0.0, 0.0, 0.08))
    pen.fill(box(-0.95, -0.08, 0.95, 0.44, 0.2))
    pen.fill(poly(-0.38, -0.06, -0.28, -0.36, -0.06, -0.4, -0.06, -0.06), "glass")
    pen.fill(poly(0.08, -0.06, 0.08, -0.4, 0.26, -0.36, 0.4, -0.06), "glass")
    for x in (-0.5, 0.5):
        pen.fill(oval(x, 0.42, 0.25, 0.25), "ink")
        pen.fill(oval(x, 0.42, 0.1, 0.1), "white", outlined=False)
    pen.fill(oval(0.84, 0.12, 0.09, 0.09), "gold", outlined=False)


def rocket(pen: Pen) -> None:
    """A rocket pointing up, with a porthole, fins and a flame."""
    pen.fill(blob(-0.18, 0.56, 0.18, 0.56, 0.14, 0.78, 0, 0.98, -0.14, 0.78), "gold")
    pen.fill(poly(-0.3, 0.1, -0.66, 0.5, -0.66, 0.8, -0.26, 0.58), "dark")
    pen.fill(poly(0.3, 0.1, 0.66, 0.5, 0.66, 0.8, 0.26, 0.58), "dark")
    pen.fill(
        blob(
            0,
            -0.98,
            0.24,
            -0.66,
            0.38,
            -0.16,
            0.34,
            0.34,
            0.22,
            0.62,
            -0.22,
            0.62,
            -0.34,
            0.34,
            -0.38,
            -0.16,
            -0.24,
            -0.66,
        )
    )
    pen.fill(oval(0, -0.22, 0.18, 0.18), "glass")


def balloon(pen: Pen) -> None:
    """A balloon on a string."""
    pen.line(curve(0, 0.42, 0.08, 0.58, -0.08, 0.76, 0.04, 0.95), 0.07)
    pen.fill(poly(-0.13, 0.5, 0, 0.34, 0.13, 0.5))
    pen.fill(blob(0, -0.95, 0.46, -0.78, 0.62, -0.34, 0.44, 0.12, 0, 0.42, -0.44, 0.12, -0.62, -0.34, -0.46, -0.78))
    pen.fill(oval(-0.28, -0.5, 0.1, 0.2, 24), "light", outlined=False)


def kite(pen: Pen) -> None:
    """A diamond kite with a tail of bows."""
    pen.line(curve(0, 0.3, -0.16, 0.56, 0.14, 0.72, -0.04, 0.95), 0.07)
    pen.fill(poly(0, -0.95, 0.62, -0.36, 0, 0.42, -0.62, -0.36))
    pen.fill(poly(0, -0.95, 0.62, -0.36, 0, -0.36), "light")
    pen.line(curve(-0.62, -0.36, 0.0, -0.36), 0.07)
    pen.line(curve(0, -0.36, 0.0, 0.42), 0.07)
    pen.fill(poly(-0.28, 0.5, -0.28, 0.72, 0.1, 0.5, 0.1, 0.72), "dark")


def star(pen: Pen) -> None:
    """A five-pointed star."""
    pen.fill(star_path(0, 0.06, 0.98, 0.5))


def heart(pen: Pen) -> None:
    """A heart."""
    pen.fill(_HEART)
    pen.fill(oval(-0.46, -0.38, 0.12, 0.2, 35), "light", outlined=False)


def umbrella(pen: Pen) -> None:
    """An open umbrella with a hooked handle."""
    pen.line(curve(0, -0.95, 0, -0.7), 0.1, "bark")
    pen.line(curve(0, 0.0, 0, 0.4, 0.02, 0.76, 0.16, 0.9, 0.3, 0.76, 0.3, 0.66), 0.11, "bark")
    pen.fill(_UMBRELLA)
    pen.line(curve(0, -0.76, -0.26, -0.4, -0.32, 0.0), 0.07)
    pen.line(curve(0, -0.76, 0.26, -0.4, 0.32, 0.0), 0.07)


def cup(pen: Pen) -> None:
    """A mug with a handle on the right and a little steam."""
    pen.line(curve(-0.34, -0.56, -0.44, -0.74, -0.3, -0.92), 0.07)
    pen.line(curve(0.06, -0.56, -0.04, -0.74, 0.1, -0.92), 0.07)
    pen.limb(curve(0.44, -0.12, 0.82, -0.14, 0.84, 0.34, 0.42, 0.46), 0.16)
    pen.fill(blob(-0.74, -0.34, 0.46, -0.34, 0.46, 0.3, 0.34, 0.8, -0.14, 0.88, -0.62, 0.8, -0.74, 0.3))
    pen.fill(oval(-0.14, -0.32, 0.62, 0.15), "dark")


def hat(pen: Pen) -> None:
    """A top hat with a ribbon."""
    pen.fill(poly(-0.52, -0.78, 0.52, -0.78, 0.44, 0.5, -0.44, 0.5))
    pen.fill(poly(-0.46, 0.12, 0.46, 0.12, 0.44, 0.42, -0.44, 0.42), "light")
    pen.fill(oval(0, 0.56, 0.95, 0.22))


def book(pen: Pen) -> None:
    """A closed book standing a little aslant, with its pages showing below."""
    pen.fill(poly(-0.66, 0.56, 0.74, 0.56, 0.74, 0.86, -0.66, 0.86), "white")
    pen.line(curve(-0.5, 0.71, 0.7, 0.71), 0.05)
    pen.fill(poly(-0.78, -0.88, -0.52, -0.88, -0.52, 0.58, -0.52, 0.92, -0.78, 0.92), "dark")
    pen.fill(box(-0.54, -0.88, 0.78, 0.6, 0.05))
    pen.fill(box(-0.24, -0.58, 0.5, -0.2, 0.04), "light")


_HEART = blob(
    *(0, -0.36, 0.2, -0.66, 0.56, -0.78, 0.88, -0.52, 0.86, -0.08, 0.5, 0.42, 0.0, 0.9),
    *(-0.5, 0.42, -0.86, -0.08, -0.88, -0.52, -0.56, -0.78, -0.2, -0.66),
)
_UMBRELLA = blob(
    *(0, -0.8, 0.5, -0.66, 0.86, -0.3, 0.95, 0.1, 0.64, -0.06, 0.32, 0.1, 0, -0.06),
    *(-0.32, 0.1, -0.64, -0.06, -0.95, 0.1, -0.86, -0.3, -0.5, -0.66),
)
