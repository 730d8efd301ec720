"""The autoencoder's encoder, computed instead of trained: the linear code of `latents.py`, written as convolutions.

The residual branches are zero, so that only the straight path is left. Each downsampling lays 2x2 neighbours side by
side: the first keeps all 12 numbers of 2x2 RGB pixels, the second the 32 most telling directions of 4x4 pixels, the
third projects four of those on the sixteen numbers of the code. What stands behind that path in every AutoencoderKL, a
group norm and SiLU, is undone: each number goes in with its negative, so that a group's mean is zero, beside constants
that settle its deviation; and SiLU(x) - SiLU(-x) = x.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from latents import BLOCK, CHANNELS, LinearCode

GROUPS, LOG_VARIANCE = 8, -12.0
CONSTANT = 128.0
"""So much larger than the numbers of the code that they change a group's deviation by less than a thousandth."""


@torch.no_grad()
def write_code(encoder: Any, code: LinearCode) -> None:
    """Give `encoder` (of a fresh `AutoencoderKL` with the configuration of `vae.py`) the weights of the code.

    Afterwards the mean of its answer to pictures in [-1, 1] is `code.encode` to a thousandth, also when the weights are
    stored in float16. The log variance is a constant that keeps diffusers' sampling harmless.
    """
    for parameter in encoder.parameters():
        parameter.zero_()
    for module in encoder.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
    blocks = encoder.down_blocks
    _carry(encoder.conv_in, 3)
    whole = (code.basis * code.scale).view(3, BLOCK, BLOCK, CHANNELS)  # (c, row, column, k)
    quarters = _pieces(whole, 4)  # 4x4 pixels: (row, column) of the piece to (48, k)
    rank = blocks[1].downsamplers[0].conv.out_channels
    directions = torch.linalg.svd(torch.cat([quarters[place] for place in sorted(quarters)], 1))[0][:, :rank]  # (48, r)
    pixels = torch.eye(12).view(3, 2, 2, 12)
    _project(blocks[0].downsamplers[0].conv, _pieces(pixels, 1))
    _carry(blocks[1].resnets[0].conv_shortcut, 12)
    _project(blocks[1].downsamplers[0].conv, _pieces(directions.reshape(3, 4, 4, rank), 2))
    _carry(blocks[2].resnets[0].conv_shortcut, rank)
    _project(blocks[2].downsamplers[0].conv, {place: directions.T @ piece for place, piece in quarters.items()})
    blocks[2].downsamplers[0].conv.bias[:CHANNELS] = -(code.mean @ code.basis) * code.scale
    _answer(encoder, blocks[3].resnets[0].conv_shortcut)


def _pieces(block: Tensor, side: int) -> dict[tuple[int, int], Tensor]:
    """Square pieces of a block (c, rows, columns, k) by place, each (c * side * side, k), pixels row by row."""
    count = block.shape[1] // side
    return {
        (row, column): block[:, row * side : (row + 1) * side, column * side : (column + 1) * side].reshape(
            -1, block.shape[3]
        )
        for row in range(count)
        for column in range(count)
    }


def _carry(conv: Any, count: int) -> None:
    """Pass the first `count` channels on as they are."""
    middle = conv.kernel_size[0] // 2
    for channel in range(count):
        conv.weight[channel, channel, middle, middle] = 1.0


def _project(conv: Any, pieces: dict[tuple[int, int], Tensor]) -> None:
    """A downsampling convolution: each output is a product of the four inputs that lie at 2y, 2x and beside."""
    for (row, column), piece in pieces.items():
        conv.weight[: piece.shape[1], : piece.shape[0], row, column] = piece.T


def _answer(encoder: Any, shortcut: Any) -> None:
    """Spread the code over the groups, each number with its negative, and put both together behind norm and SiLU."""
    size = shortcut.out_channels // GROUPS
    signed = 2 * CHANNELS // GROUPS
    deviation = math.sqrt((size - signed) / size) * CONSTANT
    for group in range(GROUPS):
        for place in range(size):
            channel, sign = group * size + place, 1.0 if place % 2 == 0 else -1.0
            if place < signed:
                number = (group * signed + place) // 2
                shortcut.weight[channel, number] = sign
                encoder.conv_out.weight[number, channel, 1, 1] = sign * deviation
            else:
                shortcut.bias[channel] = sign * CONSTANT
    encoder.conv_out.bias[CHANNELS:] = LOG_VARIANCE
