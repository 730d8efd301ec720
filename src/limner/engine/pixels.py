"""Between tensors and bytes: what enters the engine as a picture, and what leaves it.

Tensors are (3, H, W) float32; bytes are RGB, 8 bits, row by row.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def tensor_of(image: Image.Image) -> Tensor:
    """A picture as (3, H, W) in [-1, 1]."""
    return torch.tensor(np.asarray(image.convert("RGB"), dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1.0


def mask_of(image: Image.Image) -> Tensor:
    """A mask as (1, H, W) in [0, 1]; white is 1."""
    return torch.tensor(np.asarray(image.convert("L"), dtype=np.float32))[None] / 255.0


def rgb_bytes(pixels: Tensor) -> bytes:
    """(3, H, W) in [-1, 1] as H * W * 3 bytes."""
    return ((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy().tobytes()


def png_bytes(pixels: Tensor) -> bytes:
    """(3, H, W) in [0, 1] as a PNG file, quickly rather than small."""
    array = (pixels * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
