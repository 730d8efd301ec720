"""Writes a sheet of random drawings with their captions, to look at what the training material is like."""

from __future__ import annotations

import argparse
import random
import textwrap
from pathlib import Path
from typing import get_args

from PIL import Image, ImageDraw, ImageFont

from drawings import THINGS, Group, Scene, Style, caption, render, sample_scene
from drawings.scene import BACKGROUNDS, COLOURS, contrasts

_CAPTION_HEIGHT = 46


def _every_thing(rng: random.Random) -> list[Scene]:
    scenes: list[Scene] = []
    for thing in THINGS:
        colour = rng.choice(list(COLOURS))
        background = rng.choice([name for name in BACKGROUNDS if contrasts(colour, name)])
        scenes.append(Scene(background, (Group(thing, colour),)))
    return scenes


def main() -> None:
    """Reads the command line and writes the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the PNG file to write")
    parser.add_argument("--style", choices=get_args(Style), default="flat")
    parser.add_argument("--size", default="176x224", help="WIDTHxHEIGHT of each picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=7)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--things", action="store_true", help="show each thing once instead of random scenes")
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    rng = random.Random(options.seed)
    count = options.columns * options.rows
    scenes = _every_thing(rng) if options.things else [sample_scene(rng) for _ in range(count)]
    rows = -(-len(scenes) // options.columns)
    sheet = Image.new("RGB", (options.columns * (width + 8), rows * (height + _CAPTION_HEIGHT)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for index, scene in enumerate(scenes):
        x, y = index % options.columns * (width + 8), index // options.columns * (height + _CAPTION_HEIGHT)
        sheet.paste(Image.fromarray(render(scene, width, height, options.seed + index, options.style)), (x, y))
        text = "\n".join(textwrap.wrap(caption(scene, rng, "en"), max(12, width // 6))[:3])
        draw.multiline_text((x + 2, y + height + 2), text, fill="black", font=font, spacing=2)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out)


if __name__ == "__main__":
    main()
