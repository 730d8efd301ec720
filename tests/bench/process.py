"""What a whole process costs: from start to the first saved picture, and at its largest."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.bench.report import Measurement


def _generate(checkpoint: Path, out: Path, *more: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of `limner generate` in a process of its own."""
    command = [sys.executable, "-m", "limner", "generate", "a red cat on a yellow background", "--seed", "1"]
    command += ["--model", str(checkpoint), "--out", str(out), *more]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.01)
        if process.wait():
            assert process.stderr is not None
            raise RuntimeError(process.stderr.read().decode())
    return time.perf_counter() - start, peak


def cold_start(checkpoint: Path, rounds: int) -> list[Measurement]:
    """A new process to its first saved picture, one stage at 336x432."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [_generate(checkpoint, Path(folder), "--preset", "sketch")[0] for _ in range(max(2, rounds))]
    return [Measurement("cold process to its first saved picture, 336x432", statistics.median(runs), "s", 8.0)]


def peak_memory(checkpoint: Path, rounds: int) -> list[Measurement]:
    """Resident memory of a process that paints three stages to 672x864."""
    with tempfile.TemporaryDirectory() as folder:
        peak = _generate(checkpoint, Path(folder), "--preset", "progressive")[1]
    return [Measurement("peak memory, three stages to 672x864", peak / 1e9, "GB", 1.5)]
