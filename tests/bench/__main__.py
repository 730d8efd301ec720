"""`make bench`: both sides of every comparison in one run, written as JSON and as the table in docs/performance.md.

    python -m tests.bench [--checkpoint FOLDER] [--rounds N] [--only NAME …] [--write]

Speed on shared machines wanders, so both sides of a comparison take turns within one process and the ratio of their
medians is what counts. Nothing here asserts.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path

import torch

from tests.bench import cpu, cuda, families, process, service
from tests.bench.report import Measurement, read_page, write_page

BUILTIN = Path("src/limner/weights/sketchbook")


def main() -> None:
    """Run the benches that this machine can run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=BUILTIN)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--write", action="store_true", help="also write docs/performance.md")
    arguments = parser.parse_args()
    benches: dict[str, Callable[[Path, int], list[Measurement]]] = {
        "single": cpu.one_picture,
        "eight": cpu.eight_pictures,
        "stages": cpu.three_stages,
        "overhead": cpu.overhead,
        "flux": families.flux,
        "kontext": families.kontext,
        "sdxl": families.sdxl,
        "cold": process.cold_start,
        "memory": process.peak_memory,
        "start": service.start,
        "accept": service.accept,
        "listing": service.listing,
        "subscribers": service.subscribers,
        "service": service.through_the_server,
    }
    if torch.cuda.is_available():
        benches["full_size"] = cuda.full_size
    results: list[Measurement] = []
    for name, bench in benches.items():
        if arguments.only and name not in arguments.only:
            continue
        print(f"{name} …", flush=True)
        for measurement in bench(arguments.checkpoint, arguments.rounds):
            print(f"  {measurement.line()}", flush=True)
            results.append(measurement)
    folder = Path("tests/bench/results")
    folder.mkdir(parents=True, exist_ok=True)
    kind = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    machine = f"{kind}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    latest, page = folder / "latest.json", Path("docs/performance.md")
    if arguments.only:
        # What was not measured now stays as it was measured last.
        kept = {measured.what: measured for measured in read_page(page)}
        if latest.exists():
            kept |= {row["what"]: Measurement(**row) for row in json.loads(latest.read_text())["results"]}
        results = list((kept | {measured.what: measured for measured in results}).values())
    latest.write_text(json.dumps({"machine": machine, "results": [m.as_dict() for m in results]}, indent=1))
    if arguments.write:
        write_page(page, machine, results)


if __name__ == "__main__":
    main()
