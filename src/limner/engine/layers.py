"""Bring the layers of a network to the device one after another, where the whole does not fit.

Weights rest where they were loaded; each module's own ones are on the device while its forward runs. Only networks that
are computed by calling their modules can be treated like that. Invariant: after a forward, also one that failed, every
weight is where it rests.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


def bring_layers_singly(network: nn.Module, device: torch.device) -> None:
    """Have every module of a network computed on `device`; its inputs are brought there too."""
    network.register_forward_pre_hook(_moves_inputs(device), with_kwargs=True)
    for module in network.modules():
        if any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False)):
            _Layer(module, device)


class _Layer:
    """The hooks of one module and, while it runs, its weights as they rest."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._device = device
        self._resting: list[tuple[dict[str, Tensor | None], str, Tensor]] = []
        module.register_forward_pre_hook(self._bring, with_kwargs=True)
        module.register_forward_hook(self._rest, always_call=True)

    def _bring(
        self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # Setting attributes would register every tensor anew.
        for tensors in (vars(module)["_parameters"], vars(module)["_buffers"]):
            for name, tensor in tensors.items():
                if tensor is not None:
                    self._resting.append((tensors, name, tensor))
                    there = tensor.detach().to(self._device)
                    tensors[name] = nn.Parameter(there, False) if isinstance(tensor, nn.Parameter) else there
        return _moved(inputs, self._device), _moved(named, self._device)

    def _rest(self, *_: object) -> None:
        for tensors, name, resting in self._resting:
            tensors[name] = resting
        self._resting.clear()


def _moves_inputs(device: torch.device) -> Any:
    def moved(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        return _moved(inputs, device), _moved(named, device)

    return moved


def _moved(value: Any, device: torch.device) -> Any:
    """The same with all tensors in it on the device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _moved(inner, device) for name, inner in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_moved(inner, device) for inner in cast("list[Any]", value)]
    if isinstance(value, tuple):
        return tuple(_moved(inner, device) for inner in cast("tuple[Any, ...]", value))
    return value
