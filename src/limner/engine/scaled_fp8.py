"""Tell which tensors of a file are scales of 8-bit weights, and multiply weights by them.

ComfyUI writes such files in two ways. The older one puts `scale_weight` (and `scale_input`) beside a layer's `weight`,
and one tensor `scaled_fp8` into the file as a mark. The newer one says `weight_scale`, `input_scale` and `comfy_quant`,
a small JSON text. In both a weight is its stored number times its scale, which is one number or one a row. Scales by
blocks (MXFP8, and FP8 of some language models) are recognised and left alone. This module knows names, no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FP8 = ("F8_E4M3", "F8_E5M2")
BY_BLOCKS = "F8 by blocks"
"""The dtype under which weights are known whose scales cannot be applied."""

_FLOATS = ("F64", "F32", "F16", "BF16")
_SCALES = ("scale_weight", "weight_scale")
_SCALES_BY_BLOCKS = ("weight_scale_inv", "weight_scale_2")
# How activations could be quantised too, and what the newer files say of a layer: nothing that its weight needs.
_REMARKS = ("scale_input", "input_scale", "comfy_quant")
_MARK = "scaled_fp8"


@dataclass(frozen=True)
class Scales:
    """What was found: the scale of every scaled weight, tensors that belong to no network, weights scaled by blocks."""

    of: Mapping[str, str]
    hidden: frozenset[str]
    by_blocks: frozenset[str]


def find_scales(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> Scales:
    """The scales among tensors, which are given by name as (dtype, shape)."""
    of: dict[str, str] = {}
    by_blocks: set[str] = set()
    hidden = {name for name in tensors if name.rpartition(".")[2] == _MARK}
    for name, (dtype, shape) in tensors.items():
        stem, _, leaf = name.rpartition(".")
        if leaf != "weight" or dtype not in (*FP8, *_FLOATS):
            continue
        beside = {last: f"{stem}.{last}" for last in (*_SCALES, *_SCALES_BY_BLOCKS, *_REMARKS)}
        beside = {last: full for last, full in beside.items() if full in tensors}
        scale = next((beside[last] for last in _SCALES if last in beside), None)
        if any(last in beside for last in _SCALES_BY_BLOCKS) or (scale and not _fits(tensors[scale], shape)):
            by_blocks.add(name)
            continue
        hidden.update(beside.values())
        if scale:
            of[name] = scale
    return Scales(of, frozenset(hidden), frozenset(by_blocks))


def _fits(scale: tuple[str, tuple[int, ...]], weight: tuple[int, ...]) -> bool:
    dtype, shape = scale
    numbers = 1
    for side in shape:
        numbers *= side
    return dtype in _FLOATS and (numbers == 1 or weight[:1] == shape[:1] == (numbers,))


def unscaled(weight: Tensor, scale: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The weight that was meant: `weight` (out, …) times `scale` (one number, or one a row), computed in float32."""
    import torch

    factor = scale.to(torch.float32)
    shape = () if factor.numel() == 1 else (-1, *[1] * (weight.ndim - 1))  # (out, 1, …)
    factor = factor.reshape(shape)
    product = weight.to(torch.float32) * factor
    return product if dtype is None else product.to(dtype)
