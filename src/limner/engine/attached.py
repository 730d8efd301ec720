"""Add each row's own adapters to a network, for the time of a forward.

Works with any network whose layers are modules that get all rows in their first dimension. Weights are never touched:
hooks add what the adapters change to the outputs of the rows that asked for it. Invariant: afterwards the network is as
it was, to the last bit, whatever happened meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from limner.engine.adapters import DENOISER
from limner.engine.deltas import Delta, add_changes
from limner.engine.families.port import AppliedAdapters

Run = tuple[slice, tuple[tuple[tuple[Delta, ...], float], ...]]


def adapters_key(adapters: AppliedAdapters) -> tuple[tuple[int, float], ...]:
    """Equal for equal adapters at equal strengths, and never again for others."""
    return tuple((adapter.serial, weight) for adapter, weight in adapters)


@contextmanager
def attached(network: nn.Module, rows: Sequence[AppliedAdapters], component: str = DENOISER) -> Generator[None]:
    """The network with row i's adapters on batch index i.

    Args:
        network: its layers that adapters change are `nn.Linear` or `nn.Conv2d`.
        rows: the adapters of every row of the batch; rows of equal adapters that lie side by side cost one product.
        component: `transformer`, or the name of the text encoder that `network` is.

    Raises:
        RuntimeError: (at the forward) a changed layer got a batch of another size than `rows`.
        AttributeError: an adapter was made for another network.
    """
    hooks: list[Any] = []
    try:
        for path, runs in _runs_by_path(rows, component).items():
            hooks.append(network.get_submodule(path).register_forward_hook(_hook(path, runs, len(rows))))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _runs_by_path(rows: Sequence[AppliedAdapters], component: str) -> dict[str, list[Run]]:
    by_path: dict[str, list[Run]] = {}
    for piece, adapters in _alike(rows):
        active = [(adapter.of(component), weight) for adapter, weight in adapters if weight]
        for path in dict.fromkeys(path for deltas, _ in active for path in deltas):
            changes = tuple((deltas[path], weight) for deltas, weight in active if path in deltas)
            by_path.setdefault(path, []).append((piece, changes))
    return by_path


def _alike(rows: Sequence[AppliedAdapters]) -> list[tuple[slice, AppliedAdapters]]:
    found: list[tuple[slice, AppliedAdapters]] = []
    for index, adapters in enumerate(rows):
        if found and adapters_key(found[-1][1]) == adapters_key(adapters):
            found[-1] = (slice(found[-1][0].start, index + 1), adapters)
        else:
            found.append((slice(index, index + 1), adapters))
    return found


def _hook(path: str, runs: Sequence[Run], rows: int) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    def change(layer: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
        x: Tensor = inputs[0]
        if x.shape[0] != rows or y.shape[0] != rows:
            raise RuntimeError(
                f"Layer `{path}` got a batch of {x.shape[0]}, but adapters were attached for {rows} rows. "
                "Attach one entry a batch index."
            )
        if len(runs) == 1 and runs[0][0] == slice(0, rows):
            return add_changes(y, x, runs[0][1], layer)
        answer = y.clone()
        for piece, changes in runs:
            answer[piece] = add_changes(y[piece], x[piece], changes, layer)
        return answer

    return change
