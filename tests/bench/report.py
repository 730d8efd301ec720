"""A measurement, and the page that lists them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One number against its target; `ours` and `theirs` are seconds where both sides were measured."""

    what: str
    value: float
    unit: str
    target: float | None = None
    ours: float | None = None
    theirs: float | None = None
    note: str = ""

    def line(self) -> str:
        """For people at a terminal."""
        sides = f" (ours {self.ours:.3f} s, theirs {self.theirs:.3f} s)" if self.theirs and self.ours else ""
        target = f", target at most {self.target:g}" if self.target is not None else ""
        return f"{self.what}: {self.value:.3g} {self.unit}{target}{sides} {self.note}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


ROW = re.compile(r"\| (?P<what>.+?) \| (?P<value>\S+) (?P<unit>\S*) \| (≤ (?P<target>\S+))? ?\| (?P<note>.*?) ?\|")


def read_page(path: Path) -> list[Measurement]:
    """The rows of docs/performance.md, for what is not measured anew."""
    found: list[Measurement] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if (row := ROW.fullmatch(line)) is not None:
            target = float(row["target"]) if row["target"] else None
            found.append(Measurement(row["what"], float(row["value"]), row["unit"], target, note=row["note"]))
    return found


def write_page(path: Path, machine: str, results: list[Measurement]) -> None:
    """Write docs/performance.md."""
    rows = [
        f"| {m.what} | {m.value:.3g} {m.unit} | {'' if m.target is None else f'≤ {m.target:g}'} | {m.note} |"
        for m in results
    ]
    path.write_text(
        "\n".join(
            [
                "# Performance",
                "",
                "Written by `make bench` (`python -m tests.bench --write`). Both sides of a comparison ran in turns on",
                "the same weights, in one process where no server is measured; a ratio below 1 means that limner took",
                "less time. What a later run left out stays as it was measured last, perhaps on an earlier checkpoint",
                "or another machine.",
                "",
                f"Machine: {machine}.",
                "",
                "| what | measured | target | remarks |",
                "|---|---|---|---|",
                *rows,
                "",
            ]
        ),
        encoding="utf-8",
    )
