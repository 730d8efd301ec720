"""A small network that looks at a picture and says what is drawn in it: the judge of `evaluate.py`.

It is trained on drawings alone, softened in the ways in which generated pictures are soft, and never sees what the
denoiser makes. It is not told what a picture should show: it reads background, layout, things, colours and style from
the pixels, and `evaluate.py` compares. Pictures of every size are brought to about 88x112 px first, keeping their
aspect. It serves evaluation only and is not part of the package.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import argparse
import io
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from denoiser import save_atomically
from drawings import BACKGROUNDS, COLOURS, THINGS, Scene, Style, label_map, render, sample_scene
from latents import LinearCode, to_tensor
from muon import Muon

Pixels = NDArray[np.uint8]

WORKING_PX = 88 * 112
WIDTH = 96
LAYOUTS = {"one": 1, "two": 2, "three": 3, "beside": 2, "above": 2}
STYLES: tuple[Style, ...] = ("flat", "ink")
CLASSES: dict[str, tuple[str, ...]] = {
    "background": tuple(BACKGROUNDS),
    "layout": tuple(LAYOUTS),
    "style": STYLES,
    "thing": tuple(THINGS),
    "colour": tuple(COLOURS),
    "second_thing": tuple(THINGS),
    "second_colour": tuple(COLOURS),
}
UNSAID = -100  # what cross_entropy leaves out
SIZES = ((176, 224),) * 6 + ((192, 192),) * 2 + ((224, 176),) * 2 + ((336, 432),) * 2
TEST_SIZES = ((176, 224), (192, 192), (224, 176), (336, 432), (672, 864))


@dataclass(frozen=True)
class Verdict:
    """What a picture shows; the second thing and colour mean something only when two groups are seen."""

    background: str
    layout: str
    style: str
    things: tuple[str, str]
    colours: tuple[str, str]

    @property
    def count(self) -> int:
        """How many things are seen."""
        return LAYOUTS[self.layout]

    @property
    def pair(self) -> bool:
        """Whether two different things are seen."""
        return self.layout in ("beside", "above")


def layout_of(scene: Scene) -> str:
    """The layout's name: the relation of two things, or how many there are of one."""
    return scene.relation or ("one", "two", "three")[scene.groups[0].count - 1]


def answers(scene: Scene, style: Style) -> dict[str, int]:
    """The class index that each head should give for a drawing of `scene`."""
    first, second = scene.groups[0], scene.groups[1] if len(scene.groups) > 1 else None
    return {
        "background": CLASSES["background"].index(scene.background),
        "layout": CLASSES["layout"].index(layout_of(scene)),
        "style": STYLES.index(style),
        "thing": CLASSES["thing"].index(first.thing),
        "colour": CLASSES["colour"].index(first.colour),
        "second_thing": CLASSES["thing"].index(second.thing) if second else UNSAID,
        "second_colour": CLASSES["colour"].index(second.colour) if second else UNSAID,
    }


def to_working_size(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) brought to about `WORKING_PX`, the sides multiples of 8."""
    height, width = pictures.shape[-2:]
    scale = math.sqrt(WORKING_PX / (height * width))
    size = (8 * round(height * scale / 8), 8 * round(width * scale / 8))
    return F.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False)


class Convolution(nn.Module):
    """A 3x3 convolution whose kernel is kept as a matrix (outputs, inputs * 9), as `Muon` wants it."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(outputs, inputs * 9) * (2 / (9 * inputs)) ** 0.5)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        return F.conv2d(x, self.matrix.unflatten(1, (-1, 3, 3)), stride=self.stride, padding=1)


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; the first may halve the size."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = Convolution(inputs, outputs, stride)
        self.second = Convolution(outputs, outputs)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        x = F.relu(self.norms[0](self.first(x)))
        return F.relu(x + self.norms[1](self.second(x)))


class Classifier(nn.Module):
    """A convolutional network that names the thing in each cell, and two attention maps that find first and second."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 5, 2, 2, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.body = nn.Sequential(Block(24, 48, 2), Block(48, WIDTH, 2), Block(WIDTH, WIDTH, 1))
        self.cells = nn.Linear(WIDTH, 1 + len(THINGS))  # 0 is background
        self.colour = nn.Linear(WIDTH, len(COLOURS))
        overall = ("background", "layout", "style")
        self.whole = nn.ModuleDict({name: nn.Linear(2 * WIDTH, len(CLASSES[name])) for name in overall})
        self.attention = nn.Linear(WIDTH + 2, 2)
        with torch.no_grad():  # the first of two things is left or on top
            self.attention.weight.zero_()
            self.attention.weight[:, WIDTH:] = torch.tensor([[-2.0, -2.0], [2.0, 2.0]])

    def forward(self, pictures: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Pictures (B, 3, h, w) of the working size to logits per head, and per cell (B, h/8 * w/8, 1 + things)."""
        grid = self.body(self.stem(pictures))  # (B, WIDTH, h/8, w/8)
        b, _, h, w = grid.shape
        x = grid.permute(0, 2, 3, 1).flatten(1, 2)  # (B, cells, WIDTH)
        down, across = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        places = torch.stack([across.flatten(), down.flatten()], 1).expand(b, h * w, 2)
        cells = self.cells(x)
        background = F.log_softmax(cells.detach(), -1)[..., :1]
        drawn_on = torch.log1p(-background.exp().clamp(max=0.999))
        weights = (self.attention(torch.cat([x, places], 2)) + drawn_on).softmax(1)  # (B, cells, 2)
        found = weights.mT @ x
        overall = torch.cat([x.mean(1), x.amax(1)], 1)
        read = {name: head(overall) for name, head in self.whole.items()}
        for place, prefix in enumerate(("", "second_")):
            read[f"{prefix}thing"] = self.cells(found[:, place])[:, 1:]
            read[f"{prefix}colour"] = self.colour(found[:, place])
        return read, cells


# --- training --------------------------------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """Pictures of one size with what they show."""

    pictures: list[Pixels]
    targets: dict[str, Tensor]
    cells: Tensor


def draw(rng: random.Random, size: tuple[int, int], count: int, ink_share: float = 0.3) -> Drawn:
    """Fresh drawings of any scene, held out or not."""
    scenes = [sample_scene(rng) for _ in range(count)]
    styles: list[Style] = ["ink" if rng.random() < ink_share else "flat" for _ in scenes]
    seeds = [rng.getrandbits(31) for _ in scenes]
    pictures = [render(s, *size, seed, style) for s, seed, style in zip(scenes, seeds, styles, strict=True)]
    wanted = [answers(scene, style) for scene, style in zip(scenes, styles, strict=True)]
    # The cells of the label map at the small size are the cells of the network at the working size.
    portrait = size if size[0] < 300 else (176, 224)
    maps = np.stack([label_map(s, *portrait, seed) for s, seed in zip(scenes, seeds, strict=True)])
    targets = {name: torch.tensor([row[name] for row in wanted]) for name in CLASSES}
    return Drawn(pictures, targets, torch.from_numpy(maps.astype("int64")))


def _jpeg(picture: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def soften(rng: random.Random, pictures: list[Pixels], code: LinearCode | None) -> Tensor:
    """What a generator might have made of the drawings: coded, noisy, blurred, a little off in colour and shape."""
    pictures = [_jpeg(p, rng.randrange(25, 90)) if rng.random() < 0.2 else p for p in pictures]
    x = to_tensor(pictures)
    b = len(x)

    def some(share: float) -> Tensor:
        return (torch.rand(b, 1, 1, 1) < share).float()

    if code is not None and rng.random() < 0.4:
        z = code.encode(x)
        x = code.decode(z + 0.35 * torch.rand(b, 1, 1, 1) * some(0.7) * torch.randn_like(z))
    x = to_working_size(x)
    if rng.random() < 0.5:
        blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
        x = x.lerp(blurred, torch.rand(b, 1, 1, 1))
    if rng.random() < 0.5:
        x = x + 0.1 * torch.rand(b, 1, 1, 1) * torch.randn_like(x)
    x = x * (1 + 0.06 * torch.randn(b, 3, 1, 1)) + 0.04 * torch.randn(b, 3, 1, 1)
    bend = torch.eye(2, 3).expand(b, 2, 3) + some(0.6)[..., 0] * torch.tensor([0.05, 0.05, 0.03]) * torch.randn(b, 2, 3)
    grid = F.affine_grid(bend, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False).clamp(-1, 1)


def train(folder: Path, minutes: float = 10.0, batch: int = 32, lr: float = 4e-3, seed: int = 7) -> None:
    """Train into `folder`/classifier.pt and write how often it is right on drawings that it has never seen.

    `minutes` are of processor time, so that a busy machine makes it slower, not worse. It resumes when killed.
    """
    torch.set_num_threads(1)
    code_file, state_file = folder / "latents.safetensors", folder / "classifier.state.pt"
    code = LinearCode.load(code_file) if code_file.exists() else None
    torch.manual_seed(seed)
    model = Classifier()
    matrices = [p for name, p in model.named_parameters() if name.endswith(".matrix")]
    rest = [p for name, p in model.named_parameters() if not name.endswith(".matrix")]
    optimizers = [Muon(matrices, lr=lr, weight_decay=0.02), torch.optim.AdamW(rest, lr=lr, weight_decay=0.02)]
    spent_s, steps, losses = 0.0, 0, [0.0]
    if state_file.exists():
        saved = torch.load(state_file, weights_only=True)
        model.load_state_dict(saved["network"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        spent_s, steps = saved["spent_s"], saved["steps"]
    torch.manual_seed(seed + steps)
    rng = random.Random(seed + steps)
    started_s = time.process_time() - spent_s
    done = 0.0
    while done < 1:
        done = min(1.0, (time.process_time() - started_s) / (60 * minutes))
        for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
            group["lr"] = lr * min(1.0, (steps + 1) / 50) * (0.01 + 0.99 * math.cos(0.5 * math.pi * done) ** 2)
        drawn = draw(rng, rng.choice(SIZES), batch)
        pictures = soften(rng, drawn.pictures, code).to(memory_format=torch.channels_last)
        read, cells = model(pictures)
        loss = F.cross_entropy(cells.flatten(0, 1), drawn.cells.flatten())
        for name, logits in read.items():
            if (drawn.targets[name] != UNSAID).any():
                loss = loss + F.cross_entropy(logits, drawn.targets[name])
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        for optimizer in optimizers:
            optimizer.step()
        steps += 1
        losses.append(loss.item())
        if steps % 100 == 0 or done >= 1:
            spent_s = time.process_time() - started_s
            state = {"network": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
            save_atomically({**state, "spent_s": spent_s, "steps": steps}, state_file)
            mean = sum(losses) / len(losses)
            print(f"classifier {spent_s / 60:5.1f} min {steps * batch} drawings loss {mean:.3f}", flush=True)
            losses.clear()
    accuracy = examine(model, code)
    (folder / "classifier.json").write_text(json.dumps(accuracy, indent=1) + "\n", encoding="utf-8")
    save_atomically({"network": model.state_dict(), "accuracy": accuracy}, folder / "classifier.pt")
    for row, shares in accuracy.items():
        print(f"classifier on {row:9s}", " ".join(f"{name} {share:.4f}" for name, share in shares.items()), flush=True)


# --- use -------------------------------------------------------------------------------------------------------------


def load(path: Path) -> Classifier:
    """Read what `train` wrote."""
    model = Classifier()
    model.load_state_dict(torch.load(path, weights_only=True)["network"])
    return model.eval()


@torch.no_grad()
def look(model: Classifier, pictures: Sequence[Pixels]) -> list[Verdict]:
    """What each picture (height, width, 3) shows; the sizes may differ."""
    verdicts: list[Verdict] = []
    model.eval()
    for picture in pictures:
        read, _ = model(to_working_size(to_tensor([picture])))
        said = {name: CLASSES[name][int(logits.argmax())] for name, logits in read.items()}
        things, colours = ((said[name], said[f"second_{name}"]) for name in ("thing", "colour"))
        verdicts.append(Verdict(said["background"], said["layout"], said["style"], things, colours))
    return verdicts


@torch.no_grad()
def _hits(model: Classifier, drawn: Drawn, pictures: Tensor) -> dict[str, list[bool]]:
    read, _ = model(pictures)
    hits: dict[str, list[bool]] = {}
    for name, logits in read.items():
        said = drawn.targets[name] != UNSAID
        hits[name] = (logits.argmax(1) == drawn.targets[name])[said].tolist()
    return hits


def examine(
    model: Classifier, code: LinearCode | None, count: int = 300, seed: int = 1_000_003
) -> dict[str, dict[str, float]]:
    """Accuracy per head on unseen drawings: per size as drawn, per style, and softened as in training."""
    model.eval()
    rng = random.Random(seed)
    torch.manual_seed(seed)
    totals: dict[str, dict[str, list[bool]]] = {}
    for size in TEST_SIZES:
        for style_index, style in enumerate(STYLES):
            drawn = draw(rng, size, count // 2, ink_share=float(style_index))
            crisp = _hits(model, drawn, to_working_size(to_tensor(drawn.pictures)))
            soft = _hits(model, drawn, soften(rng, drawn.pictures, code))
            for row, hits in ((f"{size[0]}x{size[1]}", crisp), (style, crisp), ("all", crisp), ("softened", soft)):
                for name, values in hits.items():
                    totals.setdefault(row, {}).setdefault(name, []).extend(values)
    return {row: {n: round(sum(v) / len(v), 4) for n, v in hits.items()} for row, hits in sorted(totals.items())}


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "build")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    train(options.folder, options.minutes, seed=options.seed)


if __name__ == "__main__":
    main()
