"""Train the adapter `ink`: a LoRA that lets `sketchbook` draw with a pen, on pale paper with hatching.

The base stays as it is; beside every linear layer of the main blocks a product of two thin matrices is learnt from ink
drawings whose captions begin with the trigger words. The file has diffusers' (PEFT's) names, so that any Z-Image tool
can load it. `measure` says in numbers what it changes: pale paper, thin dark strokes, and what a classifier of
drawing styles sees, between pictures of the same captions and seeds with and without it.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from classifier import Pixels, load, look
from denoiser import (
    LARGE,
    LARGE_WINDOWS,
    MIDDLE,
    SMALL,
    Captions,
    Denoiser,
    compile_blocks,
    draw_batch,
    is_refined,
    losses,
    save_atomically,
)
from drawings import render
from evaluate import BUILD, held_out_cases, judge, sheet_caption, write_sheet
from latents import LinearCode, to_tensor
from sampling import Painter, from_build, paint

TRIGGER = "ink style"
RANK = 12
TARGETS = (
    *("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0"),
    *("feed_forward.w1", "feed_forward.w2", "feed_forward.w3"),
)
MIXTURE = [(0.5, SMALL), (0.25, MIDDLE), (0.15, LARGE_WINDOWS), (0.1, LARGE)]
TOKENS_PER_STEP = 12 * 192


class LowRank(nn.Module):
    """A frozen linear layer with a learnt correction of low rank; alpha equals the rank, so the scale is `weight`."""

    def __init__(self, base: nn.Linear, rank: int = RANK) -> None:
        super().__init__()
        self.base, self.weight = base, 1.0
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's answer plus the correction."""
        y = self.base(x)
        return y + self.weight * self.lora_B(self.lora_A(x)) if self.weight else y


def attach(model: Denoiser) -> dict[str, LowRank]:
    """Put a `LowRank` in the place of every target of the main blocks; by name, as the file has it."""
    model.requires_grad_(False)
    added: dict[str, LowRank] = {}
    for index, block in enumerate(model.network.layers):
        for target in TARGETS:
            parent_name, _, name = target.rpartition(".")
            parent: Any = block.get_submodule(parent_name)
            layer = LowRank(getattr(parent, name)) if not name.isdigit() else LowRank(parent[int(name)])
            parent.add_module(name, layer)
            added[f"layers.{index}.{target}"] = layer
    return added


@contextmanager
def without(layers: dict[str, LowRank]) -> Generator[None]:
    """The base alone, for as long as the block lasts."""
    for layer in layers.values():
        layer.weight = 0.0
    try:
        yield
    finally:
        for layer in layers.values():
            layer.weight = 1.0


def tensors(layers: dict[str, LowRank]) -> dict[str, Tensor]:
    """The learnt matrices under diffusers' names."""
    return {
        f"transformer.{name}.{part}.weight": getattr(layer, part).weight.detach()
        for name, layer in layers.items()
        for part in ("lora_A", "lora_B")
    }


def fingerprint(model: Denoiser) -> str:
    """A short hash of the base: an adapter belongs to the weights that it was trained on."""
    digest = hashlib.sha256()
    for value in model.network.state_dict().values():
        digest.update(value.float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _restore(layers: dict[str, LowRank], saved: dict[str, Tensor]) -> None:
    for name, value in tensors(layers).items():
        value.copy_(saved[name])


def train(folder: Path, minutes: float = 15.0, lr: float = 2e-3, seed: int = 11, save_every_s: float = 30.0) -> None:
    """Train (or go on training) into `folder`/ink.pt until `minutes` are used up; anew when the base has changed."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    painter = from_build(folder, decoder="linear")
    base = fingerprint(painter.model)
    layers = attach(painter.model)
    compile_blocks(painter.model)
    parameters = [p for layer in layers.values() for p in (layer.lora_A.weight, layer.lora_B.weight)]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    code, state_file = LinearCode.load(folder / "latents.safetensors"), folder / "ink.pt"
    spent_s, steps, flows = 0.0, 0, []
    if state_file.exists():
        saved = torch.load(state_file, weights_only=True)
        if saved["base"] == base:
            _restore(layers, saved["tensors"])
            optimizer.load_state_dict(saved["optimizer"])
            spent_s, steps = saved["spent_s"], saved["steps"]
        else:
            print("ink: the denoiser has changed since; starting anew", flush=True)
    torch.manual_seed(seed + steps)
    rng = random.Random(seed + steps)
    captions = Captions(painter.tokenizer, painter.reader, rng, opening=f"{TRIGGER}, ")
    started, saved_at_s = time.monotonic() - spent_s, spent_s
    while spent_s < minutes * 60:
        done = spent_s / (minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (steps + 1) / 50) * min(1.0, max(0.02, (1 - done) / 0.5))
        bucket = rng.choice(rng.choices([g for _, g in MIXTURE], [share for share, _ in MIXTURE])[0])
        count = max(1, round(TOKENS_PER_STEP / bucket.tokens))
        batch = draw_batch(rng, code, bucket, captions.draw(count), style="ink")
        flow, _ = losses(painter.model, batch, is_refined(rng, bucket))
        optimizer.zero_grad(set_to_none=True)
        flow.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        steps += 1
        flows.append(flow.item())
        spent_s = time.monotonic() - started
        if spent_s - saved_at_s > save_every_s or spent_s >= minutes * 60:
            state = {"tensors": tensors(layers), "optimizer": optimizer.state_dict(), "base": base}
            save_atomically({**state, "spent_s": spent_s, "steps": steps}, state_file)
            print(f"ink {spent_s / 60:5.1f} min {steps} steps flow {sum(flows) / len(flows):.4f}", flush=True)
            saved_at_s, flows = spent_s, []


def export(folder: Path, path: Path) -> None:
    """Write `folder`/ink.pt as a LoRA file of half precision with its trigger words in the metadata."""
    if not (folder / "ink.pt").exists():
        raise FileNotFoundError(f"{folder / 'ink.pt'} is missing. Run `python training/train.py --only ink` first.")
    saved = torch.load(folder / "ink.pt", weights_only=True)
    notes = {
        "format": "pt",
        "limner.trigger": TRIGGER,
        "limner.family": "zimage",
        "limner.base": "sketchbook",
        "limner.title": "ink: drawn with a pen",
        "modelspec.title": "ink",
        "modelspec.trigger_phrase": TRIGGER,
        "modelspec.license": "Apache-2.0",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {name: value.to(torch.float16).contiguous() for name, value in saved["tensors"].items()}
    save_file(halves, path.with_suffix(".tmp"), notes)
    path.with_suffix(".tmp").replace(path)
    print(f"ink: {path} {path.stat().st_size / 1e3:.0f} kB, {len(halves) // 2} layers, rank {RANK}", flush=True)


# --- its effect in numbers -------------------------------------------------------------------------------------------


def paleness(picture: Pixels) -> float:
    """The share of pixels that are pale: every channel at least 200 of 255."""
    return float((picture.min(2) >= 200).mean())


def strokes(picture: Pixels) -> float:
    """The share of pixels on thin dark strokes: those that a closing (5 px of 176) makes lighter by a quarter."""
    grey = to_tensor([picture]).mean(1, keepdim=True).add(1).div(2)
    reach = max(1, round(2 * min(picture.shape[:2]) / 176))
    window = 2 * reach + 1
    widened = F.max_pool2d(grey, window, 1, reach)
    closed = -F.max_pool2d(-widened, window, 1, reach)
    return float((closed - grey > 0.25).float().mean())


def appearance(pictures: list[Pixels], styles: list[str]) -> dict[str, float]:
    """Mean paleness, mean share of strokes, and the share of pictures that the classifier takes for ink drawings."""
    return {
        "pale": round(sum(map(paleness, pictures)) / len(pictures), 4),
        "strokes": round(sum(map(strokes, pictures)) / len(pictures), 4),
        "seen as ink": round(sum(style == "ink" for style in styles) / len(styles), 4),
    }


def measure(
    folder: Path, count: int = 24, size: tuple[int, int] = (176, 224), steps: int = 12, cfg: float = 3.0, seed: int = 0
) -> dict[str, Any]:
    """Paint the same captions and seeds without and with the adapter; write `folder`/ink.json and a sheet."""
    painter: Painter = from_build(folder)
    layers = attach(painter.model)
    _restore(layers, torch.load(folder / "ink.pt", weights_only=True)["tensors"])
    classifier = load(folder / "classifier.pt")
    cases = held_out_cases(count)
    scenes, texts = [case.scene for case in cases], [case.text for case in cases]
    triggered = [f"{TRIGGER}, {text}" for text in texts]
    with without(layers):
        plain = paint(painter, texts, size, steps, cfg, seed)
        said = paint(painter, triggered, size, steps, cfg, seed)
    rows: dict[str, list[Pixels]] = {
        "drawn flat": [render(scene, *size, seed + i) for i, scene in enumerate(scenes)],
        "base": plain,
        "base with the words": said,
        "ink without the words": paint(painter, texts, size, steps, cfg, seed),
        "ink": paint(painter, triggered, size, steps, cfg, seed),
        "drawn ink": [render(scene, *size, seed + i, "ink") for i, scene in enumerate(scenes)],
    }
    found: dict[str, Any] = {}
    for name, pictures in rows.items():
        styles = [verdict.style for verdict in look(classifier, pictures)]
        found[name] = {**appearance(pictures, styles), "scores": asdict(judge(pictures, scenes, classifier))}
        print(f"{name:22s}", {key: value for key, value in found[name].items() if key != "scores"}, flush=True)
    (folder / "ink.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    shown = [rows[name][i] for name in ("base", "ink") for i in range(min(8, count))]
    write_sheet(folder / "ink.png", shown, 2 * [sheet_caption(case) for case in cases[:8]], [""] * len(shown))
    return found


def main() -> None:
    """Reads the command line; trains, then measures and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=BUILD)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--measure", type=int, default=0, metavar="COUNT", help="only measure, on COUNT captions")
    parser.add_argument("--out", type=Path, help="write the LoRA file here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.measure:
        train(options.folder, options.minutes, seed=options.seed)
    if options.out:
        export(options.folder, options.out)
    if options.measure:
        measure(options.folder, options.measure)


if __name__ == "__main__":
    main()
