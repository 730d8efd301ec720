"""Random illustrations with matching captions: the training material of the sketchbook checkpoint."""

from .captions import MAX_TOKENS, Language, caption, tokens, words
from .pen import Style
from .render import CELL, PARTS, label_map, part_map, place, render
from .scene import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SIZES,
    THINGS,
    Background,
    Colour,
    Group,
    Scene,
    Size,
    Split,
    Word,
    contrasts,
    held_out,
    sample_scene,
)
from .shapes import SHAPES

__all__ = [
    "BACKGROUNDS",
    "CELL",
    "COLOURS",
    "MAX_TOKENS",
    "PARTS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "THINGS",
    "Background",
    "Colour",
    "Group",
    "Language",
    "Scene",
    "Size",
    "Split",
    "Style",
    "Word",
    "caption",
    "contrasts",
    "held_out",
    "label_map",
    "part_map",
    "place",
    "render",
    "sample_scene",
    "tokens",
    "words",
]
