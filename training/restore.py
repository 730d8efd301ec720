"""Fill a build folder from the shipped checkpoint, so that training can go on where it ended.

    python training/restore.py --folder training/build
    python training/train.py --denoiser-minutes 120

The optimisers' state and the auxiliary heads are not shipped; both find their way again within minutes. The linear code
that the latents are made of lies beside this file, since everything after it depends on its exact numbers.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

import vae as vae_module
from denoiser import Denoiser, Progress, save_atomically

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "src" / "limner" / "weights" / "sketchbook"
CODE = HERE / "sketchbook-code.safetensors"


def restore(folder: Path, weights: Path = WEIGHTS) -> None:
    """Write the states of all long stages into `folder`; refuses to replace a state that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "denoiser.pt").exists():
        raise SystemExit(f"{folder} holds a training already. Remove it or name another folder.")
    shutil.copy(CODE, folder / "latents.safetensors")
    for part in ("tokenizer", "text_encoder"):
        shutil.copytree(weights / part, folder / part, dirs_exist_ok=True)
    (folder / "text_encoder" / "training.json").write_text(json.dumps({"restored": str(weights.name)}))
    network: Any = ZImageTransformer2DModel.from_pretrained(weights / "transformer", torch_dtype=torch.float32)
    model = Denoiser(network)
    state = {"model": model.state_dict(), "average": network.state_dict(), "progress": asdict(Progress(rounds=1))}
    save_atomically(state, folder / "denoiser.pt")
    vae: Any = AutoencoderKL.from_pretrained(weights / "vae", torch_dtype=torch.float32)
    own = vae.decoder.state_dict()
    fresh: Any = AutoencoderKL(**vae_module.CONFIG)
    optimizer = torch.optim.AdamW(fresh.decoder.parameters())
    state = {"network": own, "average": own, "optimizer": optimizer.state_dict(), "spent_s": 0.0, "steps": 1}
    save_atomically(state, folder / "decoder.pt")


def main() -> None:
    """Reads the command line and restores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE / "build")
    restore(parser.parse_args().folder)


if __name__ == "__main__":
    main()
