"""Replay recorded reference numbers through the engine's mathematics and measure the difference.

    python tests/reference.py FILE...

Two kinds of file are known, told apart by their tensors' names: schedules and samplers over a toy network, and a run
with EasyCache. Latent shape, seed, steps, shift and cache settings are read from the file. Exit code: 0 when
everything agrees, 1 when something does not, 2 when a file cannot be read as either kind.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import safetensors
import torch
from torch import Tensor

from limner.engine.cache import EasyCache, EasyCacheState
from limner.engine.noise import Noise
from limner.engine.parameterization import Epsilon, Flow, Parameterization
from limner.engine.samplers import SAMPLERS, evaluations
from limner.engine.schedules import SCHEDULES, sigmas_for

SIGMA_TOLERANCE = 1e-6
OUT_TOLERANCE, BROWNIAN_TOLERANCE = 1e-4, 1e-3
CACHE_TOLERANCE = 1e-5
BROWNIAN = frozenset({"dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"})
DEFAULT_SEED = 1234
CASE = re.compile(r"(flow\d+(\.\d+)?|eps)\|(?P<schedule>\w+)\|(?P<steps>\d+)\|(?P<denoise>\d+(\.\d+)?)")


class Unreadable(Exception):
    """The file is not a reference file of a known kind."""


@dataclass
class Case:
    """One comparison: what was measured, and what is wrong with it, if anything."""

    name: str
    measured: str = ""
    error: float = 0.0
    faults: list[str] = field(default_factory=list[str])

    def measure(self, what: str, error: float, tolerance: float) -> None:
        """Note an error; a fault where it is above the tolerance or not a number."""
        self.measured = f"{self.measured}  {what} {error:.1e}".strip()
        self.error = max(self.error, error) if not math.isnan(error) else math.inf
        if not error <= tolerance:
            self.faults.append(f"{what} is off by {error:.2e}, allowed {tolerance:.0e}")

    def expect(self, what: str, ours: object, theirs: object) -> None:
        """Note a fault where two values differ."""
        if ours != theirs:
            self.faults.append(f"{what}: {ours}, expected {theirs}")


@dataclass(frozen=True)
class Reference:
    """A file's content."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def main(arguments: list[str] | None = None) -> int:
    """Replay the files of the command line; answers the exit code."""
    parser = argparse.ArgumentParser(description="Replay reference numbers through the engine's mathematics.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    files = cast(list[Path], parser.parse_args(arguments).files)
    cases: list[Case] = []
    for file in files:
        try:
            for case in replay(file):
                verdict = "FAIL" if case.faults else "ok"
                print(f"{verdict:4} {case.name:44} {'; '.join([case.measured, *case.faults])}")
                cases.append(case)
        except Unreadable as error:
            print(f"{file}: {error}", file=sys.stderr)
            return 2
    failed = sum(bool(case.faults) for case in cases)
    worst = max(cases, key=lambda case: case.error)
    print(f"{len(cases) - failed} of {len(cases)} agree, {failed} do not; worst {worst.error:.2e} in {worst.name}")
    return 1 if failed else 0


def replay(file: Path) -> Iterator[Case]:
    """The comparisons of one file, of whichever kind it is."""
    reference = _read(file)
    names = reference.tensors.keys()
    if {"sigmas", "x", "denoised"} <= names and "skipped" in reference.metadata:
        return iter([_replay_cache(reference)])
    if any(name.endswith("|sigmas") for name in names):
        return _replay_samplers(reference)
    raise Unreadable(
        "neither a samplers file (tensors MODEL|SCHEDULE|N|DENOISE|sigmas) nor an EasyCache file (tensors sigmas, x, "
        f"denoised, metadata skipped). It holds {', '.join(sorted(names)[:5]) or 'nothing'}."
    )


class _File(Protocol):
    def keys(self) -> list[str]: ...
    def metadata(self) -> dict[str, str] | None: ...
    def get_tensor(self, name: str) -> Tensor: ...


def _read(file: Path) -> Reference:
    open_file = cast(Callable[..., AbstractContextManager[_File]], safetensors.safe_open)
    try:
        with open_file(str(file), framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            return Reference(tensors, content.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise Unreadable(f"not a safetensors file: {error}") from error


# --- schedules and samplers over a toy network ----------------------------------------------------------------------


def _replay_samplers(reference: Reference) -> Iterator[Case]:
    tensors = reference.tensors
    counts = cast(Mapping[str, Mapping[str, int]], _parse(reference, "cases", {}))
    seed = cast(int, _parse(reference, "seed", DEFAULT_SEED))
    runs = [name.removesuffix("|sigmas") for name in tensors if name.endswith("|sigmas")]
    left = {name for name in tensors if name != "noise"}
    if "noise" in tensors:
        case = Case("noise")
        ours = Noise(seed, tuple(tensors["noise"].shape), 0.0, 1.0).initial()
        case.measure("noise", _worst(ours, tensors["noise"]), 0.0)
        yield case
    for run in runs:
        left.discard(f"{run}|sigmas")
        case = Case(run)
        sigmas = _replay_schedule(case, tensors[f"{run}|sigmas"])
        yield case
        prefix = f"{run}|"
        for name in [name for name in tensors if name.startswith(prefix) and name.endswith("|out")]:
            sampled = name.removesuffix("|out")
            left -= {name, f"{sampled}|x"}
            if sigmas is not None:
                yield _replay_sampler(sampled, sigmas, seed, tensors, counts.get(sampled, {}))
    missing = counts.keys() - {name.removesuffix("|out") for name in tensors if name.endswith("|out")}
    if left or missing:
        raise Unreadable(f"its tensors and cases do not belong together: {', '.join(sorted(left | missing)[:5])}.")


def _replay_schedule(case: Case, theirs: Tensor) -> Tensor | None:
    parts = CASE.fullmatch(case.name)
    if parts is None:
        raise Unreadable(f"the name {case.name!r} does not read MODEL|SCHEDULE|N|DENOISE.")
    if parts["schedule"] not in SCHEDULES:
        case.faults.append(f"unknown schedule {parts['schedule']}")
        return None
    try:
        ours = sigmas_for(_model(case.name), parts["schedule"], int(parts["steps"]), float(parts["denoise"]))
    except ValueError as error:
        case.faults.append(str(error))
        return None
    case.expect("number of sigmas", len(ours), len(theirs))
    if len(ours) != len(theirs):
        return None
    size = torch.where(theirs == 0, 1.0, theirs.abs().double())
    case.measure("sigmas", _worst(ours.double() / size, theirs.double() / size), SIGMA_TOLERANCE)
    return ours


def _replay_sampler(
    name: str, sigmas: Tensor, seed: int, tensors: Mapping[str, Tensor], counts: Mapping[str, int]
) -> Case:
    case = Case(name)
    sampler = name.rsplit("|", 1)[-1]
    if sampler not in SAMPLERS:
        case.faults.append(f"unknown sampler {sampler}")
        return case
    parameterization = _model(name)
    theirs = tensors[f"{name}|out"]
    levels = sigmas[sigmas > 0]
    noise = Noise(seed, tuple(theirs.shape), float(levels.min()), float(levels.max()))
    x = parameterization.start(noise.initial(), float(sigmas[0]), torch.zeros(theirs.shape))
    sampling = SAMPLERS[sampler](x, sigmas, noise, parameterization)
    seen: list[Tensor] = []
    try:
        x, sigma = next(sampling)
        while True:
            seen.append(x)
            x, sigma = sampling.send(_toy(x, sigma))
    except StopIteration as finished:
        out = parameterization.finish(cast(Tensor, finished.value), float(sigmas[-1]))
    tolerance = BROWNIAN_TOLERANCE if sampler in BROWNIAN else OUT_TOLERANCE
    case.measure("out", _worst(out, theirs), tolerance)
    twice = evaluations(sampler, sigmas) > len(sigmas) - 1
    firsts = torch.stack(seen[:: 2 if twice else 1])  # what a callback sees: each step's first evaluation
    if f"{name}|x" in tensors:
        x_theirs = tensors[f"{name}|x"]
        case.expect("shape of x", firsts.shape, x_theirs.shape)
        if firsts.shape == x_theirs.shape:
            size = max(1.0, float(x_theirs.abs().max()))
            case.measure("x", _worst(firsts, x_theirs) / size, tolerance)
    case.expect("evaluations", len(seen), evaluations(sampler, sigmas))
    case.expect("evaluations", len(seen), counts.get("evals", len(seen)))
    case.expect("steps", len(firsts), counts.get("steps", len(firsts)))
    return case


def _model(name: str) -> Parameterization:
    model = name.split("|", 1)[0]
    return Epsilon() if model == "eps" else Flow(float(model.removeprefix("flow")))


def _toy(x: Tensor, sigma: float) -> Tensor:
    return 0.8 * torch.tanh(1.3 * x / math.sqrt(1 + sigma * sigma) + 0.2) + 0.1 * math.sin(3 * sigma)


# --- EasyCache ------------------------------------------------------------------------------------------------------


def _replay_cache(reference: Reference) -> Case:
    settings = EasyCache(
        reuse_threshold=cast(float, _parse(reference, "reuse_threshold", 0.37)),
        start_percent=cast(float, _parse(reference, "start_percent", 0.45)),
        end_percent=cast(float, _parse(reference, "end_percent", 0.95)),
        subsample=cast(int, _parse(reference, "subsample", 8)),
    )
    sigmas, latents, answers = (reference.tensors[name] for name in ("sigmas", "x", "denoised"))
    skipped = cast(list[bool], _parse(reference, "skipped", []))
    if not len(latents) == len(answers) == len(skipped) <= len(sigmas):
        raise Unreadable(f"{len(latents)} latents, {len(answers)} answers, {len(skipped)} skips, {len(sigmas)} sigmas.")
    parameterization = Flow(cast(float, _parse(reference, "shift", 3.0)))
    state = EasyCacheState(settings, parameterization)
    case = Case("easycache")
    ours: list[bool] = []
    worst = 0.0
    for x, answer, level in zip(latents, answers, sigmas, strict=False):
        sigma = float(level)
        outputs = state.consider(x, sigma)
        ours.append(outputs is not None)
        if outputs is None:
            state.observe(x, sigma, {"positive": (x - answer) / sigma})
        else:
            worst = max(worst, _worst(parameterization.denoised(x, sigma, outputs["positive"]), answer))
    case.measure("denoised", worst, CACHE_TOLERANCE)
    case.expect("skipped calls", [i for i, skip in enumerate(ours) if skip], [i for i, s in enumerate(skipped) if s])
    case.expect("count of skips", state.skipped, sum(skipped))
    return case


def _parse(reference: Reference, name: str, default: object) -> object:
    text = reference.metadata.get(name)
    try:
        value = default if text is None else json.loads(text)
    except ValueError:
        value = None
    fits = isinstance(value, int | float if isinstance(default, float) else type(default))
    if not fits or isinstance(value, bool):
        raise Unreadable(f"its metadata {name!r} reads {text!r}, which is no {type(default).__name__}.")
    return value


def _worst(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return math.inf
    return float((ours.double() - theirs.double()).abs().max()) if ours.numel() else 0.0


if __name__ == "__main__":
    sys.exit(main())
