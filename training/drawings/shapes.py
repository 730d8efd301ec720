"""One drawing function per thing, by the thing's name."""

from __future__ import annotations

from collections.abc import Callable

from . import shapes_animals as animals
from . import shapes_garden as garden
from . import shapes_objects as objects
from .pen import Pen

SHAPES: dict[str, Callable[[Pen], None]] = {
    "cat": animals.cat,
    "dog": animals.dog,
    "fish": animals.fish,
    "bird": animals.bird,
    "rabbit": animals.rabbit,
    "butterfly": animals.butterfly,
    "snail": animals.snail,
    "turtle": animals.turtle,
    "elephant": animals.elephant,
    "apple": garden.apple,
    "pear": garden.pear,
    "flower": garden.flower,
    "tree": garden.tree,
    "mushroom": garden.mushroom,
    "leaf": garden.leaf,
    "cake": garden.cake,
    "house": objects.house,
    "boat": objects.boat,
    "car": objects.car,
    "rocket": objects.rocket,
    "balloon": objects.balloon,
    "kite": objects.kite,
    "star": objects.star,
    "heart": objects.heart,
    "umbrella": objects.umbrella,
    "cup": objects.cup,
    "hat": objects.hat,
    "book": objects.book,
}
