"""EasyCache: leave out evaluations of the network whose answer can be foretold (Zhou et al. 2025).

Between two steps the network's output moves in proportion to its input. While the predicted change since the last
computed step stays under a threshold, the last difference between output and input is used again. The numbers follow
ComfyUI's node of the same name. One state serves one trajectory in one sampling run and sees every evaluation of it,
also the inner ones of second-order samplers; it knows nothing of samplers, guidance or batches.
Invariant: no tensor that is handed in is changed or kept, and an answer shares no memory with a later one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.engine.parameterization import Parameterization


@dataclass(frozen=True)
class EasyCache:
    """What may be left out, and when.

    Args:
        reuse_threshold: how large the predicted relative change may grow before the network is asked again.
        start_percent: the part of the model's times before which every evaluation is computed, 0 to 1.
        end_percent: the part of the model's times after which every evaluation is computed, 0 to 1.
        subsample: changes are measured on every n-th row and column of the latent.
    """

    reuse_threshold: float
    start_percent: float
    end_percent: float
    subsample: int = 8


class EasyCacheState:
    """The memory of one trajectory in one sampling run.

    Before an evaluation ask `consider`; if it has no answer, compute and tell `observe`. Asking again before
    `observe`, as for an evaluation that had to wait for room in a batch, changes nothing.

    Attributes:
        evaluations: how many evaluations were computed.
        skipped: how many were answered from memory.
    """

    def __init__(self, settings: EasyCache, parameterization: Parameterization) -> None:
        self.settings = settings
        self.evaluations = 0
        self.skipped = 0
        self._start_sigma = _as_level(parameterization.percent_to_sigma(settings.start_percent))
        self._end_sigma = _as_level(parameterization.percent_to_sigma(settings.end_percent))
        self._must_compute = False
        self._differences: dict[str, Tensor] = {}  # by condition, F - x of the last computed step
        self._input: Tensor | None = None  # subsampled, at the last computed step in the window
        self._output: Tensor | None = None  # subsampled, likewise
        self._output_size = 0.0  # mean |F|, likewise
        self._rate: float | None = None  # change of output per change of input
        self._error = 0.0  # predicted relative change since the last computed step

    def consider(self, x: Tensor, sigma: float) -> dict[str, Tensor] | None:
        """The network's output for every condition seen so far, or None where it has to be computed.

        Args:
            x: the latent as the sampler yielded it, any shape that ends in (H/8, W/8).
            sigma: its noise level.
        """
        if self._must_compute:
            return None
        if self._may_skip(x, sigma):
            self.skipped += 1
            return {condition: x + difference for condition, difference in self._differences.items()}
        self._must_compute = True
        return None

    def observe(self, x: Tensor, sigma: float, outputs: Mapping[str, Tensor]) -> None:
        """Remember a computed evaluation.

        Args:
            x: the latent that `consider` was asked about.
            sigma: its noise level.
            outputs: the raw network output per condition, each shaped as `x`; the first is the one that is measured.
        """
        self._must_compute = False
        self.evaluations += 1
        if sigma <= self._end_sigma:
            return
        if sigma <= self._start_sigma:
            self._measure(x, next(iter(outputs.values())))
        self._differences = {condition: output - x for condition, output in outputs.items()}

    def _may_skip(self, x: Tensor, sigma: float) -> bool:
        in_window = self._end_sigma < sigma <= self._start_sigma
        if not in_window or self._input is None or self._rate is None:
            return False
        change = self._rate * _distance(self._subsample(x), self._input)
        self._error += change / self._output_size if self._output_size else math.inf
        if self._error < self.settings.reuse_threshold:
            return True
        self._error = 0.0
        return False

    def _measure(self, x: Tensor, output: Tensor) -> None:
        seen, answered = self._subsample(x), self._subsample(output)
        if self._input is not None and self._output is not None:
            moved = _distance(seen, self._input)
            # Nothing is foretold from a latent that stood still.
            self._rate = _distance(answered, self._output) / moved if moved else math.inf
        self._input, self._output = seen.clone(), answered.clone()
        self._output_size = float(output.abs().mean())

    def _subsample(self, y: Tensor) -> Tensor:
        return y[..., :: self.settings.subsample, :: self.settings.subsample]


def _as_level(sigma: float) -> float:
    # Schedules are float32 and often hit the window's ends exactly; so must the ends, to fall on the same side.
    return float(torch.tensor(sigma, dtype=torch.float32, device="cpu"))


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())
