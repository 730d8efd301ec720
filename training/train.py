"""Make `sketchbook` from nothing: the one command behind `make train`.

The stages run in order, each in processes of its own: the latent code, the text encoder, the judge of the evaluation
and the decoder side by side, the denoiser in `--workers` processes, the `ink` adapter, export, evaluation. A stage
whose result is complete is skipped; one that was killed goes on from its last state; one that fails ends the run with
its error. Budgets are minutes of training: a larger one on a later call trains on.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

# One thread each: the processes share the cores. Set before torch is imported, here and in the children.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "src" / "limner" / "weights"

# Where chance is used, it starts here. The long stages derive theirs from these and from how far they are, so that a
# resumed run sees fresh pictures; as budgets are minutes, two runs are alike, not equal.
TEXT_SEED, CLASSIFIER_SEED, INK_SEED, NOISE_SEED = 0, 7, 11, 0

EVALUATED = {"176x224": 240, "336x432": 96}  # pictures per size
EVALUATION_STEPS, EVALUATION_CFG = 12, 3.0


@dataclass(frozen=True)
class Plan:
    """What the command line asks for."""

    folder: Path
    workers: int
    denoiser_minutes: float
    decoder_minutes: float
    ink_minutes: float
    weights: Path = WEIGHTS


@dataclass(frozen=True)
class Process:
    """A function to run in a process of its own."""

    run: Callable[..., None]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Stage:
    """Processes that run at the same time, and whether their results are there already."""

    name: str
    complete: Callable[[], bool]
    processes: list[Process]


# --- what runs in the processes; each imports what it needs -----------------------------------------------------------


def make_code(folder: Path) -> None:
    """The linear latent code."""
    import fit_code

    fit_code.train(folder)


def train_text(folder: Path) -> None:
    """Tokenizer and text encoder."""
    import text

    text.train(folder, seed=TEXT_SEED)


def train_classifier(folder: Path) -> None:
    """The judge of the evaluation."""
    import classifier

    classifier.train(folder, seed=CLASSIFIER_SEED)


def train_decoder(folder: Path, minutes: float) -> None:
    """The autoencoder's decoder."""
    import vae

    vae.train(folder, minutes)


def train_denoiser(folder: Path, minutes: float, rank: int, workers: int) -> None:
    """One worker of the denoiser's training."""
    import denoiser

    denoiser.train(folder, minutes, rank, workers)


def train_ink(folder: Path, minutes: float) -> None:
    """The adapter, and what it changes in numbers."""
    import ink

    ink.train(folder, minutes, seed=INK_SEED)
    ink.measure(folder, seed=NOISE_SEED)


def export(folder: Path, weights: Path) -> None:
    """The files that the package ships."""
    import export
    import ink

    export.export(folder, weights / "sketchbook")
    ink.export(folder, weights / "loras" / "ink.safetensors")


def evaluate(folder: Path, checkpoint: Path) -> None:
    """The exported checkpoint on held-out captions: numbers into the README, and contact sheets."""
    import torch

    from evaluate import ON_SHEET, default_classifier, evaluate, record
    from sampling import from_checkpoint, paint

    torch.set_num_threads(1)
    painter = from_checkpoint(checkpoint)
    judge = default_classifier(folder / "classifier.pt")
    for size, count in EVALUATED.items():
        width, height = (int(part) for part in size.split("x"))

        def make(texts: list[str], size: tuple[int, int] = (width, height)) -> list[Any]:
            return paint(painter, texts, size, EVALUATION_STEPS, EVALUATION_CFG, NOISE_SEED)

        found = evaluate(make, count, judge)
        found.first(ON_SHEET).write_sheet(HERE / f"sheet-{size}.png")
        record(size, found.scores(), f"Euler, {EVALUATION_STEPS} steps, cfg {EVALUATION_CFG:g}", found.by_language())
        print(size, found.scores(), flush=True)
    (folder / "evaluated").touch()


# --- when a stage is complete ----------------------------------------------------------------------------------------


def trained_minutes(file: Path) -> float:
    """How long the part in a state file has been trained."""
    if not file.exists():
        return 0.0
    import torch

    saved = torch.load(file, weights_only=True, mmap=True)
    return float(saved["progress"]["trained_s"] if "progress" in saved else saved["spent_s"]) / 60


def newer(file: Path, *sources: Path) -> bool:
    """Whether `file` exists and is at least as new as each source that exists."""
    times = [source.stat().st_mtime for source in sources if source.exists()]
    return file.exists() and file.stat().st_mtime >= max(times, default=0.0)


def stages(plan: Plan) -> list[Stage]:
    """All stages in order."""
    folder, weights = plan.folder, plan.weights
    index, adapter = weights / "sketchbook" / "model_index.json", weights / "loras" / "ink.safetensors"
    parts = [folder / name for name in ("denoiser.pt", "decoder.pt", "text_encoder/training.json")]

    def trained(part: str, minutes: float) -> Callable[[], bool]:
        return lambda: trained_minutes(folder / f"{part}.pt") >= minutes

    workers = [
        Process(train_denoiser, (folder, plan.denoiser_minutes, rank, plan.workers)) for rank in range(plan.workers)
    ]
    return [
        Stage("code", (folder / "latents.safetensors").exists, [Process(make_code, (folder,))]),
        Stage("text", (folder / "text_encoder/training.json").exists, [Process(train_text, (folder,))]),
        Stage("classifier", (folder / "classifier.pt").exists, [Process(train_classifier, (folder,))]),
        Stage(
            "decoder",
            trained("decoder", plan.decoder_minutes),
            [Process(train_decoder, (folder, plan.decoder_minutes))],
        ),
        Stage("denoiser", trained("denoiser", plan.denoiser_minutes), workers),
        Stage(
            "ink",
            # The adapter belongs to its base: `ink.train` starts anew when the denoiser has changed.
            lambda: trained("ink", plan.ink_minutes)() and newer(folder / "ink.json", folder / "denoiser.pt"),
            [Process(train_ink, (folder, plan.ink_minutes))],
        ),
        Stage(
            "export",
            lambda: newer(index, *parts) and newer(adapter, folder / "ink.pt"),
            [Process(export, (folder, weights))],
        ),
        Stage(
            "evaluate",
            lambda: newer(folder / "evaluated", index),
            [Process(evaluate, (folder, weights / "sketchbook"))],
        ),
    ]


def together(chosen: list[Stage], workers: int) -> list[list[Stage]]:
    """Stages in rounds: the decoder does not wait for the judge when there are two workers."""
    rounds: list[list[Stage]] = []
    for stage in chosen:
        if stage.name == "decoder" and workers > 1 and rounds and rounds[-1][0].name == "classifier":
            rounds[-1].append(stage)
        else:
            rounds.append([stage])
    return rounds


def run(processes: list[tuple[str, Process]]) -> None:
    """Run them at the same time; when one fails, end the others and stop with its name."""
    context = get_context("spawn")
    started = {name: context.Process(target=p.run, args=p.arguments, name=name) for name, p in processes}
    for process in started.values():
        process.start()
    try:
        while running := [process for process in started.values() if process.exitcode is None]:
            connection.wait([process.sentinel for process in running], timeout=1.0)
            for name, process in started.items():
                if process.exitcode:
                    raise SystemExit(f"{name} failed (exit status {process.exitcode}); its error is above.")
    finally:
        for process in started.values():
            if process.is_alive():
                process.terminate()
            process.join()


def train(plan: Plan, only: str | None = None) -> None:
    """Run every stage, or only one, that is not complete."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    chosen = [stage for stage in stages(plan) if only in (None, stage.name)]
    for group in together(chosen, plan.workers):
        waiting = [stage for stage in group if not stage.complete()]
        for stage in group:
            if stage not in waiting:
                print(f"{stage.name}: complete", flush=True)
        if not waiting:
            continue
        names = " and ".join(stage.name for stage in waiting)
        print(f"{names}: starting", flush=True)
        started = time.monotonic()
        run([(f"{stage.name} {i}", process) for stage in waiting for i, process in enumerate(stage.processes)])
        print(f"{names}: done in {(time.monotonic() - started) / 60:.1f} min", flush=True)


def main() -> None:
    """Reads the command line and trains."""
    names = [stage.name for stage in stages(Plan(Path(), 1, 0, 0, 0))]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE / "build", help="where states are kept (training/build)")
    parser.add_argument("--workers", type=int, default=2, help="processes that train the denoiser together (2)")
    parser.add_argument("--denoiser-minutes", type=float, default=240)
    parser.add_argument("--decoder-minutes", type=float, default=60)
    parser.add_argument("--ink-minutes", type=float, default=15)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the result goes (src/limner/weights)")
    parser.add_argument("--only", choices=names, help="run one stage, if it is not complete")
    options = vars(parser.parse_args())
    only = options.pop("only")
    train(Plan(**options), only)


if __name__ == "__main__":
    main()
