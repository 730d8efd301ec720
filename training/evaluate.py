"""Measure how often `sketchbook` paints what was asked, on combinations that it was never trained on.

Half of the captions are English, half Chinese, all of held-out scenes. A classifier trained on drawings alone looks at
each picture without knowing the caption; what it sees is compared with the scene. `judge` takes pictures from anywhere,
the engine's too.
"""

from __future__ import annotations

import argparse
import json
import random
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from classifier import Classifier, Pixels, Verdict, load, look
from drawings import Language, Scene, caption, sample_scene
from sampling import from_build, from_checkpoint, paint

HERE = Path(__file__).parent
BUILD = HERE / "build"
RESULTS = HERE / "evaluation.json"
README = HERE / "README.md"
BEGIN, END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"
CASES_SEED = 20_000_003
WANTED = 0.95
ON_SHEET = 40  # pictures


@dataclass(frozen=True)
class Case:
    """A held-out scene and the caption that asks for it."""

    scene: Scene
    text: str
    language: Language


@dataclass(frozen=True)
class Scores:
    """Shares of pictures that show what was asked.

    `thing` and `colour` are the first group's; `pair_things` and `pair_colours` ask for both of two, each in its place,
    and are None without pairs. `everything` counts pictures with no mistake at all.
    """

    pictures: int
    background: float
    thing: float
    colour: float
    count: float
    pairs: int
    pair_things: float | None
    pair_colours: float | None
    everything: float


def held_out_cases(count: int, seed: int = CASES_SEED) -> list[Case]:
    """Scenes never trained on, with captions in English and Chinese by turns."""
    rng = random.Random(seed)
    cases: list[Case] = []
    for index in range(count):
        language: Language = "zh" if index % 2 else "en"
        scene = sample_scene(rng, "held_out")
        cases.append(Case(scene, caption(scene, rng, language), language))
    return cases


def mistakes(verdict: Verdict, scene: Scene) -> list[str]:
    """The names of the fields of `Scores` that the picture gets wrong."""
    first = scene.groups[0]
    checks = {
        "background": verdict.background == scene.background,
        "thing": verdict.things[0] == first.thing,
        "colour": verdict.colours[0] == first.colour,
        "count": verdict.count == sum(group.count for group in scene.groups),
    }
    if len(scene.groups) == 2:
        checks["pair_things"] = verdict.pair and verdict.things == tuple(group.thing for group in scene.groups)
        checks["pair_colours"] = verdict.pair and verdict.colours == tuple(group.colour for group in scene.groups)
    return [name for name, right in checks.items() if not right]


def score(wrong: Sequence[Sequence[str]], scenes: Sequence[Scene]) -> Scores:
    """Shares from the mistakes of each picture."""
    pairs = [names for names, scene in zip(wrong, scenes, strict=True) if len(scene.groups) == 2]

    def share(name: str, rows: Sequence[Sequence[str]]) -> float:
        return round(sum(name not in names for names in rows) / max(1, len(rows)), 4)

    return Scores(
        pictures=len(wrong),
        background=share("background", wrong),
        thing=share("thing", wrong),
        colour=share("colour", wrong),
        count=share("count", wrong),
        pairs=len(pairs),
        pair_things=share("pair_things", pairs) if pairs else None,
        pair_colours=share("pair_colours", pairs) if pairs else None,
        everything=round(sum(not names for names in wrong) / max(1, len(wrong)), 4),
    )


@cache
def default_classifier(path: Path = BUILD / "classifier.pt") -> Classifier:
    """The trained judge; says how to make it when there is none."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing. Run `python training/classifier.py` first.")
    return load(path)


def judge(
    pictures: Sequence[Pixels | Image.Image], scenes: Sequence[Scene], classifier: Classifier | None = None
) -> Scores:
    """How well `pictures` (RGB, any sizes) show `scenes`, one for one."""
    verdicts = inspect(pictures, classifier)
    return score([mistakes(v, scene) for v, scene in zip(verdicts, scenes, strict=True)], scenes)


def inspect(pictures: Sequence[Pixels | Image.Image], classifier: Classifier | None = None) -> list[Verdict]:
    """What the classifier sees in each picture."""
    arrays = [np.asarray(p.convert("RGB")) if isinstance(p, Image.Image) else p for p in pictures]
    return look(classifier or default_classifier(), arrays)


# --- sheet and table -------------------------------------------------------------------------------------------------


def plain_words(scene: Scene) -> str:
    """The scene in a few English words, for captions that the sheet's font cannot show."""
    groups = [f"{group.count} {group.colour} {group.thing}" for group in scene.groups]
    return f"{f' {scene.relation} '.join(groups)}, {scene.background}"


def seen_words(verdict: Verdict, wrong: Sequence[str]) -> str:
    """What was seen in the place of what is wrong."""
    seen = {
        "background": verdict.background,
        "thing": verdict.things[0],
        "colour": verdict.colours[0],
        "count": str(verdict.count),
        "pair_things": "+".join(verdict.things) if verdict.pair else "no pair",
        "pair_colours": "+".join(verdict.colours) if verdict.pair else "no pair",
    }
    return "seen: " + ", ".join(f"{name.replace('_', ' ')} {seen[name]}" for name in wrong) if wrong else ""


def write_sheet(
    path: Path, pictures: Sequence[Pixels], captions: Sequence[str], notes: Sequence[str], columns: int = 8
) -> None:
    """A contact sheet: each picture with its caption, and with its note in red."""
    width, height = max(p.shape[1] for p in pictures), max(p.shape[0] for p in pictures)
    scale = min(1.0, 224 / height)
    width, height = round(width * scale), round(height * scale)
    columns, line_px, lines = min(columns, len(pictures)), 13, 5
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + 8), rows * (height + line_px * lines + 4)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for index, (pixels, text, note) in enumerate(zip(pictures, captions, notes, strict=True)):
        x, y = index % columns * (width + 8), index // columns * (height + line_px * lines + 4)
        picture = Image.fromarray(pixels)
        picture.thumbnail((width, height), Image.Resampling.LANCZOS)
        sheet.paste(picture, (x, y))
        line = 0
        for words, colour in ((text, "black"), (note, (190, 20, 20))):
            for part in textwrap.wrap(words, max(12, width // 6)):
                if line < lines:
                    pen.text((x + 2, y + height + 2 + line * line_px), part, fill=colour, font=font)
                line += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def sheet_caption(case: Case) -> str:
    """The caption, or for a Chinese one its meaning, as the sheet's font has Latin letters only."""
    return case.text if case.language == "en" else f"[zh] {plain_words(case.scene)}"


def table(results: dict[str, Any]) -> str:
    """The recorded scores as a Markdown table."""
    head = ("size", "how", "pictures", "background", "thing", "colour", "count", "both things", "all right")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for key, entry in sorted(results.items(), key=lambda item: int(item[0].split("x")[0])):
        scores = entry["scores"]
        names = ("background", "thing", "colour", "count", "pair_things", "everything")
        shares = ["–" if scores[name] is None else f"{100 * scores[name]:.1f} %" for name in names]
        lines.append(f"| {' | '.join((key, entry['method'], str(scores['pictures']), *shares))} |")
    return "\n".join(lines)


def record(
    size: str, scores: Scores, method: str, by_language: dict[str, Any] | None = None, results: Path = RESULTS
) -> None:
    """Put the scores of one size into `results`; with the default file also into the table of the README."""
    known: dict[str, Any] = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    known[size] = {"method": method, "scores": asdict(scores), "by_language": by_language or {}}
    results.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    if results == RESULTS and README.exists():
        before, rest = README.read_text(encoding="utf-8").split(BEGIN)
        README.write_text(f"{before}{BEGIN}\n{table(known)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


# --- a whole evaluation ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """Pictures of held-out scenes and what was seen in them."""

    cases: list[Case]
    pictures: list[Pixels]
    verdicts: list[Verdict]

    @property
    def wrong(self) -> list[list[str]]:
        """The mistakes of each picture."""
        return [mistakes(verdict, case.scene) for verdict, case in zip(self.verdicts, self.cases, strict=True)]

    def scores(self, language: Language | None = None) -> Scores:
        """The scores of all pictures, or of those asked for in one language."""
        rows = [
            (wrong, case.scene)
            for wrong, case in zip(self.wrong, self.cases, strict=True)
            if language in (None, case.language)
        ]
        return score([wrong for wrong, _ in rows], [scene for _, scene in rows])

    def by_language(self) -> dict[str, Any]:
        """The scores of each language."""
        return {"en": asdict(self.scores("en")), "zh": asdict(self.scores("zh"))}

    def first(self, count: int) -> Evaluation:
        """The first `count` of them."""
        return Evaluation(self.cases[:count], self.pictures[:count], self.verdicts[:count])

    def write_sheet(self, path: Path) -> None:
        """The pictures with captions and mistakes."""
        notes = [seen_words(verdict, wrong) for verdict, wrong in zip(self.verdicts, self.wrong, strict=True)]
        write_sheet(path, self.pictures, [sheet_caption(case) for case in self.cases], notes)


def evaluate(make: Callable[[list[str]], Sequence[Pixels]], count: int, classifier: Classifier) -> Evaluation:
    """Let `make` paint `count` held-out captions and look at what it made."""
    cases = held_out_cases(count)
    pictures = list(make([case.text for case in cases]))
    return Evaluation(cases, pictures, look(classifier, pictures))


def main() -> None:
    """Reads the command line, paints, prints the scores and writes sheet and numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=BUILD, help="a build folder or an exported checkpoint")
    parser.add_argument("--classifier", type=Path, default=BUILD / "classifier.pt")
    parser.add_argument("--size", action="append", help="WIDTHxHEIGHT; may be given several times (176x224)")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0, help="of the noise; the captions never change")
    parser.add_argument("--decoder", choices=("trained", "linear"), default="trained", help="for build folders")
    parser.add_argument("--sheet", type=Path, help="the PNG file to write; the size is added when there are several")
    parser.add_argument("--json", type=Path, help="merge the numbers into this file")
    parser.add_argument("--record", action="store_true", help="merge them into training/evaluation.json and the README")
    options = parser.parse_args()
    torch.set_num_threads(1)
    exported = (options.folder / "model_index.json").exists()
    painter = from_checkpoint(options.folder) if exported else from_build(options.folder, options.decoder)
    print(painter.name)
    sizes: list[str] = options.size or ["176x224"]
    method = f"Euler, {options.steps} steps, cfg {options.cfg:g}"
    for size in sizes:
        width, height = (int(part) for part in size.split("x"))
        found = evaluate(
            lambda texts, w=width, h=height: paint(painter, texts, (w, h), options.steps, options.cfg, options.seed),
            options.count,
            default_classifier(options.classifier),
        )
        print(size, json.dumps(asdict(found.scores()), indent=1), flush=True)
        for language, scores in found.by_language().items():
            print(f"{size} {language}: all right {scores['everything']:.3f}, thing {scores['thing']:.3f}", flush=True)
        if options.sheet:
            name = f"{options.sheet.stem}-{size}" if len(sizes) > 1 else options.sheet.stem
            found.first(ON_SHEET).write_sheet(options.sheet.with_name(name + ".png"))
        for results in [file for file in (options.json, RESULTS if options.record else None) if file]:
            record(size, found.scores(), method, found.by_language(), results)


if __name__ == "__main__":
    main()
