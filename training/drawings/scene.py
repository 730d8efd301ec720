"""What a drawing can show: the things, colours, backgrounds and sizes, and how a scene is chosen at random.

A :class:`Scene` is the complete description from which both the picture and its captions are made.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

RGB = tuple[int, int, int]
Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class Word:
    """The names of a thing: English singulars, their plurals, Chinese nouns and the Chinese measure word."""

    singular: tuple[str, ...]
    plural: tuple[str, ...]
    zh: tuple[str, ...]
    measure: str


@dataclass(frozen=True)
class Colour:
    """A colour a thing can have: its value, its English names, its Chinese names and one-character form."""

    rgb: RGB
    en: tuple[str, ...]
    zh: tuple[str, ...]
    zh_short: str


@dataclass(frozen=True)
class Background:
    """A background: the colours found behind the things, and how English and Chinese speak of it.

    ``en_where`` and ``zh_where`` say where something is ("on blue paper"); ``en_name`` and ``zh_name`` name the
    background itself ("blue background").
    """

    grounds: tuple[RGB, ...]
    has_ground: bool
    en_where: tuple[str, ...]
    en_name: tuple[str, ...]
    zh_where: tuple[str, ...]
    zh_name: tuple[str, ...]


@dataclass(frozen=True)
class Size:
    """A size: its share of the picture's shorter side, and its English and Chinese adjectives."""

    share: float
    en: tuple[str, ...]
    zh: tuple[str, ...]


def _word(singular: str, plural: str, zh: str, measure: str) -> Word:
    return Word(tuple(singular.split("/")), tuple(plural.split("/")), tuple(zh.split("/")), measure)


THINGS: dict[str, Word] = {
    "cat": _word("cat/kitty", "cats/kitties", "猫/猫咪", "只"),
    "dog": _word("dog/puppy", "dogs/puppies", "狗/狗狗", "只"),
    "fish": _word("fish", "fish/fishes", "鱼", "条"),
    "bird": _word("bird", "birds", "鸟/鸟儿", "只"),
    "rabbit": _word("rabbit/bunny", "rabbits/bunnies", "兔子/兔", "只"),
    "butterfly": _word("butterfly", "butterflies", "蝴蝶", "只"),
    "snail": _word("snail", "snails", "蜗牛", "只"),
    "turtle": _word("turtle/tortoise", "turtles/tortoises", "乌龟/海龟", "只"),
    "elephant": _word("elephant", "elephants", "大象/象", "头"),
    "apple": _word("apple", "apples", "苹果", "个"),
    "pear": _word("pear", "pears", "梨/梨子", "个"),
    "flower": _word("flower/blossom", "flowers/blossoms", "花/花朵", "朵"),
    "tree": _word("tree", "trees", "树/大树", "棵"),
    "mushroom": _word("mushroom/toadstool", "mushrooms/toadstools", "蘑菇", "个"),
    "leaf": _word("leaf", "leaves", "叶子/树叶", "片"),
    "house": _word("house/cottage", "houses/cottages", "房子/屋子", "座"),
    "boat": _word("boat/sailboat", "boats/sailboats", "船/帆船", "艘"),
    "car": _word("car", "cars", "汽车/车", "辆"),
    "rocket": _word("rocket", "rockets", "火箭", "枚"),
    "balloon": _word("balloon", "balloons", "气球", "个"),
    "kite": _word("kite", "kites", "风筝", "只"),
    "star": _word("star", "stars", "星星/五角星", "颗"),
    "heart": _word("heart", "hearts", "爱心/心", "颗"),
    "umbrella": _word("umbrella/parasol", "umbrellas/parasols", "雨伞/伞", "把"),
    "cup": _word("cup/mug", "cups/mugs", "杯子/茶杯", "个"),
    "hat": _word("hat", "hats", "帽子/礼帽", "顶"),
    "book": _word("book", "books", "书/书本", "本"),
    "cake": _word("cake", "cakes", "蛋糕", "块"),
}

COLOURS: dict[str, Colour] = {
    "red": Colour((214, 46, 42), ("red",), ("红色", "大红色"), "红"),
    "orange": Colour((240, 132, 30), ("orange",), ("橙色", "橘色"), "橙"),
    "yellow": Colour((248, 206, 36), ("yellow",), ("黄色",), "黄"),
    "green": Colour((52, 148, 66), ("green",), ("绿色",), "绿"),
    "blue": Colour((42, 100, 205), ("blue",), ("蓝色",), "蓝"),
    "purple": Colour((128, 62, 172), ("purple", "violet"), ("紫色",), "紫"),
    "pink": Colour((242, 120, 168), ("pink",), ("粉色", "粉红色"), "粉"),
    "brown": Colour((126, 76, 42), ("brown",), ("棕色", "褐色"), "棕"),
    "black": Colour((44, 44, 50), ("black",), ("黑色",), "黑"),
    "white": Colour((252, 252, 250), ("white",), ("白色",), "白"),
}


def _paper(rgb: RGB, en: str, zh: str) -> Background:
    article = "an" if en[0] in "aeiou" else "a"
    return Background(
        grounds=(rgb,),
        has_ground=False,
        en_where=(
            f"on {article} {en} background",
            f"on {en} paper",
            f"with {article} {en} background",
            f"on {en}",
            f"against {article} {en} background",
            f"in front of {article} {en} wall",
            *(("on a gray background",) if en == "grey" else ()),
        ),
        en_name=(
            f"{en} background",
            f"{en} paper",
            f"{article} {en} background",
            *(("gray background",) if en == "grey" else ()),
        ),
        zh_where=(f"在{zh}色背景上", f"在{zh}色的纸上", f"{zh}色背景上", f"{zh}色的背景前"),
        zh_name=(f"{zh}色背景", f"{zh}色的背景", f"{zh}底", f"背景是{zh}色", f"背景{zh}色"),
    )


BACKGROUNDS: dict[str, Background] = {
    "white": _paper((250, 249, 244), "white", "白"),
    "yellow": _paper((253, 228, 138), "yellow", "黄"),
    "pink": _paper((250, 194, 208), "pink", "粉"),
    "blue": _paper((146, 184, 238), "blue", "蓝"),
    "green": _paper((166, 214, 156), "green", "绿"),
    "purple": _paper((200, 172, 230), "purple", "紫"),
    "grey": _paper((184, 187, 192), "grey", "灰"),
    "sky": Background(
        ((160, 214, 246),),
        False,
        ("in the sky", "in a blue sky", "up in the sky", "in the clouds", "among the clouds"),
        ("blue sky", "the sky", "sky with clouds", "clouds"),
        ("在天空中", "天空中", "在蓝天上", "蓝天白云下", "在云朵里"),
        ("蓝天", "天空", "蓝天白云", "背景是天空"),
    ),
    "sea": Background(
        ((196, 226, 246), (62, 138, 196)),
        True,
        ("by the sea", "at sea", "on the sea", "in the ocean", "on the water", "in the waves"),
        ("the sea", "ocean", "sea background", "sea and waves"),
        ("在海上", "在海边", "大海上", "海里", "在水上"),
        ("大海", "海洋", "海浪", "背景是大海"),
    ),
    "hill": Background(
        ((204, 230, 244), (122, 190, 92)),
        True,
        ("on a hill", "on a green hill", "on the grass", "in a meadow", "in the garden", "in a green field"),
        ("green hill", "grass", "a hill", "meadow"),
        ("在山坡上", "草地上", "在绿色的山坡上", "在小山上", "在花园里"),
        ("草地", "山坡", "绿色的山坡", "背景是草地"),
    ),
    "night": Background(
        ((34, 42, 98),),
        False,
        ("at night", "in the night", "under the stars", "under the moon", "in the night sky", "in the dark"),
        ("night", "night sky", "starry night", "moon and stars"),
        ("在夜晚", "夜晚", "晚上", "在夜空中", "在星空下", "月亮下"),
        ("夜晚", "夜空", "星空", "背景是夜空"),
    ),
    "snow": Background(
        ((190, 208, 230), (246, 249, 252)),
        True,
        ("in the snow", "on the snow", "in winter", "on a snowy day", "in snowy weather"),
        ("snow", "winter", "snowy day", "falling snow"),
        ("在雪地里", "雪地上", "在雪中", "冬天", "下雪天"),
        ("雪地", "冬天", "下雪", "背景是雪地"),
    ),
}

SIZES: dict[str, Size] = {
    "small": Size(0.32, ("small", "little", "tiny"), ("小",)),
    "medium": Size(0.54, ("medium",), ("中等",)),
    "big": Size(0.82, ("big", "large", "huge"), ("大",)),
}

RELATIONS: tuple[str, ...] = ("", "beside", "above")

_MIN_CONTRAST = 60.0
_HELD_OUT_PERCENT = 8


@dataclass(frozen=True)
class Group:
    """One to three equal things of one colour."""

    thing: str
    colour: str
    count: int = 1
    size: str = "medium"


@dataclass(frozen=True)
class Scene:
    """A background with one group, or with two single things of which the first is on the left or on top."""

    background: str
    groups: tuple[Group, ...]
    relation: str = ""


@cache
def contrasts(colour: str, background: str) -> bool:
    """Whether a thing of this colour stands out from every colour of this background."""
    rgb = COLOURS[colour].rgb
    return all(
        sum((a - b) ** 2 for a, b in zip(rgb, ground, strict=True)) ** 0.5 >= _MIN_CONTRAST
        for ground in BACKGROUNDS[background].grounds
    )


@cache
def _combination_held_out(thing: str, colour: str, background: str) -> bool:
    digest = hashlib.blake2b(f"{thing}|{colour}|{background}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 100 < _HELD_OUT_PERCENT


def held_out(scene: Scene) -> bool:
    """Whether any group's (thing, colour, background) combination is kept away from training."""
    return any(_combination_held_out(group.thing, group.colour, scene.background) for group in scene.groups)


def _choose_groups(rng: random.Random) -> tuple[tuple[Group, ...], str]:
    names, colours = list(THINGS), list(COLOURS)
    kind = rng.random()
    thing, colour = rng.choice(names), rng.choice(colours)
    if kind < 0.55:
        size = rng.choices(("small", "medium", "big"), (0.25, 0.5, 0.25))[0]
        return (Group(thing, colour, 1, size),), ""
    if kind < 0.80:
        return (Group(thing, colour, rng.choice((2, 3))),), ""
    other = rng.choice([name for name in names if name != thing])
    groups = (Group(thing, colour), Group(other, rng.choice(colours)))
    return groups, rng.choice(("beside", "above"))


def _suitable(groups: Iterable[Group]) -> list[str]:
    colours = {group.colour for group in groups}
    return [name for name in BACKGROUNDS if all(contrasts(colour, name) for colour in colours)]


def sample_scene(rng: random.Random, split: Split | None = None) -> Scene:
    """A random scene; with ``split`` only one of the training scenes, or only one of those held out."""
    while True:
        groups, relation = _choose_groups(rng)
        scenes = [Scene(name, groups, relation) for name in _suitable(groups)]
        if split is not None:
            scenes = [scene for scene in scenes if held_out(scene) == (split == "held_out")]
        elif not scenes:
            continue
        if split == "held_out" and len(scenes) < rng.randint(1, len(BACKGROUNDS)):
            continue  # keep every held-out combination equally likely
        if scenes:
            return rng.choice(scenes)
