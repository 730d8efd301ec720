"""Captions for a scene, in varied English and Chinese, and the list of words that they can use."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Literal

from .scene import BACKGROUNDS, COLOURS, SIZES, THINGS, Group, Scene

Language = Literal["en", "zh"]

MAX_TOKENS = 22

_EN_BOTH = (
    "{what} {where}",
    "{what} {where}",
    "{what}, {where}",
    "{what}, {name}",
    "{where}, {what}",
    "{name}, {what}",
    "a drawing of {what} {where}",
    "a picture of {what} {where}",
    "a painting of {what}, {where}",
    "an illustration of {what} {where}",
    "picture of {what}, {name}",
    "drawing of {what} {where}",
    "an image of {what} {where}",
    "draw {what} {where}",
    "paint {what} {where}",
    "please draw {what} {where}",
    "please draw me {what}, {name}",
    "draw a picture of {what} {where}",
    "make a picture of {what} {where}",
    "there is {what} {where}",
    "look, {what} {where}",
    "i want {what} {where}",
    "a simple drawing of {what} {where}",
    "a cute picture of {what} {where}",
    "a children's book illustration of {what} {where}",
    "my {bare} {where}",
    "the {bare} {where}",
    "{bare}, {name}",
    "{bare} {where}",
)
_EN_ALONE = (
    "{what}",
    "{bare}",
    "a drawing of {what}",
    "a picture of {what}",
    "draw {what}",
    "please paint {what}",
    "an illustration of {what}",
)
_ZH_BOTH = (
    "{what}，{name}",
    "{what}，{name}",
    "{where}，{what}",
    "{where}有{what}",
    "{name}，{what}",
    "{what}{where}",
    "画{what}，{name}",
    "画{what}，{where}",
    "请画{what}，{name}",
    "请帮我画{what}，{name}",
    "给我画{what}，{name}",
    "我想要{what}，{where}",
    "一幅画：{what}，{name}",
    "一张图片，{what}，{name}",
    "{where}的{bare}",
    "{bare}，{name}",
    "插画，{what}，{name}",
    "画一幅画，{where}有{what}",
    "{where}，有{what}",
)
_ZH_ALONE = ("{what}", "{bare}", "画{what}", "请画{what}", "一幅{bare}的画", "{what}的图片", "我想要{what}")

_EN_COUNTS: dict[int, tuple[str, ...]] = {
    2: ("two", "two", "two", "2", "a pair of"),
    3: ("three", "three", "three", "3"),
}
_ZH_COUNTS: dict[int, tuple[str, ...]] = {2: ("两", "两", "2"), 3: ("三", "三", "3")}
_EN_FILLERS = ("cute", "beautiful", "nice", "lovely", "pretty", "happy")
_ZH_FILLERS = ("可爱的", "漂亮的", "美丽的", "好看的", "快乐的")
_FILLER_SHARE = 0.12

_EN_RELATIONS: dict[str, tuple[str, ...]] = {
    "beside": (
        "{first} next to {second}",
        "{first} beside {second}",
        "{first} and {second}",
        "{first} and {second} side by side",
        "{first} to the left of {second}",
        "{second} to the right of {first}",
        "{first} on the left and {second} on the right",
        "{first} with {second}",
    ),
    "above": (
        "{first} above {second}",
        "{first} over {second}",
        "{second} below {first}",
        "{second} under {first}",
        "{first} on top and {second} below",
        "{first} on top of {second}",
    ),
}
_ZH_RELATIONS: dict[str, tuple[str, ...]] = {
    "beside": (
        "{first}和{second}",
        "{first}在{second}旁边",
        "{first}在{second}左边",
        "{second}在{first}右边",
        "左边{first}，右边{second}",
    ),
    "above": (
        "{first}在{second}上面",
        "{first}在{second}上方",
        "{second}在{first}下面",
        "{second}在{first}下方",
        "上面{first}，下面{second}",
    ),
}
_EN_COLOURED = ("{colour} {noun}", "{noun} that is {colour}", "{colour}-coloured {noun}")

_EN_OPENINGS = (
    "show me ",
    "can you draw ",
    "could you paint ",
    "generate ",
    "create ",
    "i would like ",
    "here is ",
    "give me ",
)
_EN_ENDINGS = (
    " in a simple style",
    ", cartoon style",
    ", children's book style",
    ", high quality",
    " please",
    ", flat colours",
    ", sketch",
    ", bright colors",
)
_ZH_ENDINGS = ("，简单的风格", "，卡通风格", "，插画风格", "，童书插画", "，高质量", "，谢谢", "吧", "，彩色的")
_NOISE_EN = (
    "please some very really bright pale soft bold simple funny sweet happy sad sleepy round pretty lovely nice cute "
    "beautiful photo photograph art artwork sketch cartoon style ink flat scene image colour color coloured colored "
    "show give create generate make paint draw want would like can could you we it is this that your our his her "
    "just only good great best high quality detailed colourful colorful old new young fast sitting standing flying "
    "swimming running hand drawn design poster card print storybook kids child watercolour watercolor pen line"
)
_NOISE_ZH = (
    "请帮我画给想要生成做张图片作品风格可爱漂亮美丽好看快乐的了是这那"
    "很非常彩色简单卡通插墨来能你您他她它们吧呢吗啊坐站飞游跑新老笔线"
)
_NOISE_SHARE = 0.06

EXTRA_WORDS = (
    _NOISE_EN
    + " the one an my me i with and of there are in on at by for from near has have into to they their he she "
    "center centre middle background wall paper gray grey left right top above below under over behind between "
    + _NOISE_ZH
    + "在里外前后上下左右边中间和与跟也都大小个只"
)

_TOKEN = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[\u4e00-\u9fff]")


def tokens(text: str) -> list[str]:
    """The lower-case English words, numbers and single Chinese characters of a text."""
    return _TOKEN.findall(text.lower())


def caption(scene: Scene, rng: random.Random, language: Language) -> str:
    """A caption of a scene in varied wording, at most ``MAX_TOKENS`` words or Chinese characters long."""
    shortest = ""
    for _ in range(12):
        text = _adorned(_english(scene, rng) if language == "en" else _chinese(scene, rng), rng, language)
        if len(tokens(text)) <= MAX_TOKENS:
            return text
        if not shortest or len(tokens(text)) < len(tokens(shortest)):
            shortest = text
    return shortest


def _adorned(text: str, rng: random.Random, language: Language) -> str:
    """The caption, now and then with a phrase or a word which says nothing about the picture."""
    if rng.random() < _NOISE_SHARE:
        text += rng.choice(_EN_ENDINGS if language == "en" else _ZH_ENDINGS)
    if rng.random() < _NOISE_SHARE:
        if language == "zh":
            noise = rng.choice(_NOISE_ZH)
            return f"{text}{noise}" if rng.random() < 0.5 else f"{noise}{text}"
        parts = text.split(" ")
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(_NOISE_EN.split(" ")))
        return " ".join(parts)
    return text


def words() -> list[str]:
    """Every English word and Chinese character that a caption can hold, and common words people would add."""
    found = set(tokens(EXTRA_WORDS))
    for text in _texts():
        found.update(tokens(re.sub(r"\{\w+\}", " ", text)))
    return sorted(found)


def _texts() -> Iterator[str]:
    yield from (
        "a",
        "an",
        "one",
        "the",
        "一",
        "的",
        "很",
        *_EN_OPENINGS,
        *_EN_ENDINGS,
        *_ZH_ENDINGS,
        *_EN_FILLERS,
        *_ZH_FILLERS,
    )
    yield from (*_EN_BOTH, *_EN_ALONE, *_ZH_BOTH, *_ZH_ALONE, *_EN_COLOURED)
    for table in (_EN_COUNTS, _ZH_COUNTS, _EN_RELATIONS, _ZH_RELATIONS):
        for choices in table.values():
            yield from choices
    for word in THINGS.values():
        yield from (*word.singular, *word.plural, *word.zh, word.measure)
    for colour in COLOURS.values():
        yield from (*colour.en, *colour.zh, colour.zh_short)
    for background in BACKGROUNDS.values():
        yield from (*background.en_where, *background.en_name, *background.zh_where, *background.zh_name)
    for size in SIZES.values():
        yield from (*size.en, *size.zh)


def _background_unsaid(scene: Scene, rng: random.Random) -> bool:
    return scene.background == "white" and rng.random() < 0.1


def _size_said(group: Group, rng: random.Random) -> bool:
    return group.count == 1 and (group.size != "medium" or rng.random() < 0.06)


def _usual(choices: tuple[str, ...], rng: random.Random) -> str:
    """Mostly the first choice, now and then one of the others."""
    return choices[0] if rng.random() < 0.7 else rng.choice(choices)


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _en_bare(group: Group, rng: random.Random, filler: bool, said: bool) -> str:
    """The adjectives and the noun without article or number."""
    word = THINGS[group.thing]
    noun = _usual(word.singular if group.count == 1 else word.plural, rng)
    style = rng.random()
    colour = rng.choice(COLOURS[group.colour].en)
    if style < 0.04 and group.count == 1:
        noun = _EN_COLOURED[1].format(colour=colour, noun=noun)
    elif style < 0.07:
        noun = _EN_COLOURED[2].format(colour=colour, noun=noun)
    else:
        noun = _EN_COLOURED[0].format(colour=colour, noun=noun)
    if said:
        noun = f"{rng.choice(SIZES[group.size].en)} {noun}"
    if filler and rng.random() < _FILLER_SHARE:
        noun = f"{rng.choice(_EN_FILLERS)} {noun}"
    return noun


def _english(scene: Scene, rng: random.Random) -> str:
    background = BACKGROUNDS[scene.background]
    if len(scene.groups) == 2:
        first, second = (_en_bare(group, rng, filler=False, said=False) for group in scene.groups)
        relation = rng.choice(_EN_RELATIONS[scene.relation])
        what = relation.format(first=_with_article(first), second=_with_article(second))
        bare = relation.format(first=first, second=second)
    else:
        group = scene.groups[0]
        bare = _en_bare(group, rng, filler=True, said=_size_said(group, rng))
        if group.count > 1:
            what = bare = f"{rng.choice(_EN_COUNTS[group.count])} {bare}"
        else:
            what = f"one {bare}" if rng.random() < 0.06 else _with_article(bare)
    pattern = rng.choice(_EN_ALONE if _background_unsaid(scene, rng) else _EN_BOTH)
    if pattern.startswith("{what}") and rng.random() < _NOISE_SHARE:
        pattern = rng.choice(_EN_OPENINGS) + pattern
    if len(scene.groups) == 2 or scene.groups[0].count > 1:
        pattern = pattern.replace("there is", "there are").replace("my {bare}", "{what}")
    return pattern.format(
        what=what, bare=bare, where=rng.choice(background.en_where), name=rng.choice(background.en_name)
    )


def _zh_bare(group: Group, rng: random.Random, filler: bool, said: bool) -> str:
    """The adjectives and the noun without number or measure word."""
    word, colour = THINGS[group.thing], COLOURS[group.colour]
    noun = _usual(word.zh, rng)
    size = rng.choice(SIZES[group.size].zh) if said else ""
    style = rng.random()
    if size and size not in ("大", "小"):
        text = f"{size}的{_usual(colour.zh, rng)}{noun}"
    elif style < 0.6:
        text = f"{_usual(colour.zh, rng)}的{size}{noun}"
    elif style < 0.8:
        text = f"{size}{colour.zh_short}{noun}" if len(noun) == 1 else f"{colour.zh_short}色{size}{noun}"
    elif size:
        text = f"{'很' if rng.random() < 0.3 else ''}{size}的{_usual(colour.zh, rng)}的{noun}"
    else:
        text = f"{_usual(colour.zh, rng)}{noun}"
    if filler and rng.random() < _FILLER_SHARE:
        text = f"{rng.choice(_ZH_FILLERS)}{text}"
    return text


def _chinese(scene: Scene, rng: random.Random) -> str:
    background = BACKGROUNDS[scene.background]
    bares = [
        _zh_bare(group, rng, filler=len(scene.groups) == 1, said=_size_said(group, rng) and len(scene.groups) == 1)
        for group in scene.groups
    ]
    counted: list[str] = []
    for group, text in zip(scene.groups, bares, strict=True):
        count = "一" if group.count == 1 else rng.choice(_ZH_COUNTS[group.count])
        counted.append(f"{count}{THINGS[group.thing].measure}{text}")
    if len(scene.groups) == 2:
        relation = rng.choice(_ZH_RELATIONS[scene.relation])
        what = relation.format(first=counted[0], second=counted[1])
        bare = relation.format(first=bares[0], second=bares[1])
    else:
        what = counted[0]
        bare = bares[0] if scene.groups[0].count == 1 else what
    pattern = rng.choice(_ZH_ALONE if _background_unsaid(scene, rng) else _ZH_BOTH)
    return pattern.format(
        what=what, bare=bare, where=rng.choice(background.zh_where), name=rng.choice(background.zh_name)
    )
