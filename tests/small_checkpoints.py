"""Write a small checkpoint of every family, in every layout that limner loads.

    python -m tests.small_checkpoints FOLDER

Makes one folder of ComfyUI's layout a family (`FOLDER/flux`, …), with the same random weights as split files, as one
file and as a diffusers folder, and a LoRA beside them. Seeded: two runs write the same. Point limner at one with
`limner models add FOLDER/flux`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from tests.support import checkpoints, small_flux, small_unet

RANK = 4


def write_all(folder: Path) -> dict[str, Path]:
    """Write all of them; the folder of each family by its name."""
    writers: dict[str, Callable[[Path], None]] = {
        "zimage": _zimage,
        "flux": _flux,
        "sdxl": lambda root: _unet("sdxl", root),
        "sd15": lambda root: _unet("sd15", root),
    }
    for family, write in writers.items():
        write(folder / family)
    return {family: folder / family for family in writers}


def _zimage(root: Path) -> None:
    parts = checkpoints.tiny_components()
    checkpoints.save_folder(parts, root / "diffusers" / "zimage-folder")
    checkpoints.save_split(parts, root, "zimage-split")
    checkpoints.save_whole(parts, root, "zimage-whole")
    _lora(root / "loras" / "zimage-lora.safetensors", "diffusion_model.layers.0.feed_forward.w2", parts.transformer)


def _flux(root: Path) -> None:
    parts = small_flux.small_flux()
    small_flux.save_folder(parts, root / "diffusers" / "flux-folder")
    small_flux.save_folder(parts, root / "diffusers" / "flux-kontext-folder")
    small_flux.save_split(parts, root, "flux-split")
    small_flux.save_whole(parts, root, "flux-whole")
    _lora(
        root / "loras" / "flux-lora.safetensors", "transformer.single_transformer_blocks.0.attn.to_q", parts.transformer
    )


def _unet(family: str, root: Path) -> None:
    parts = small_unet.small_unet(family)
    small_unet.save_folder(parts, root / "diffusers" / f"{family}-folder")
    small_unet.save_split(parts, root, f"{family}-split")
    small_unet.save_whole(parts, root, f"{family}-whole")
    block = (
        "down_blocks.1.attentions.0.transformer_blocks.1"
        if family == "sdxl"
        else ("down_blocks.0.attentions.0.transformer_blocks.0")
    )
    _lora(root / "loras" / f"{family}-lora.safetensors", f"unet.{block}.attn1.to_q", parts.unet)


def _lora(file: Path, module: str, network: torch.nn.Module) -> None:
    """A LoRA of one layer, in the layout that the prefix of its name is of."""
    out, into = network.get_parameter(module.partition(".")[2] + ".weight").shape
    random = torch.Generator().manual_seed(11)
    halves = {"lora_A": torch.randn(RANK, into, generator=random), "lora_B": torch.randn(out, RANK, generator=random)}
    checkpoints.write({f"{module}.{half}.weight": tensor * 0.1 for half, tensor in halves.items()}, file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.small_checkpoints", description=__doc__)
    parser.add_argument("folder", type=Path)
    for family, written in write_all(parser.parse_args().folder).items():
        files = [file for file in written.rglob("*") if file.is_file()]
        print(f"{family}: {written} ({sum(file.stat().st_size for file in files) / 2**20:.1f} MB)")
