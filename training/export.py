"""Write the trained parts as a diffusers folder: `src/limner/weights/sketchbook/`, and the `ink` adapter beside it.

The averaged weights are exported: transformer and text encoder in bfloat16 (they are meant to run so), the autoencoder
in float16, whose error stays below one level of 255. The folder is written beside its place and moved there whole.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from transformers import AutoTokenizer, Qwen3Model

from denoiser import CONFIG, SHIFT
from drawings import BACKGROUNDS, COLOURS, THINGS
from encoder import write_code
from ink import export as export_ink
from latents import LinearCode
from sampling import build_autoencoder

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "src" / "limner" / "weights"
LIMIT_BYTES = 24_000_000

CARD = """---
license: apache-2.0
pipeline_tag: text-to-image
library_name: diffusers
tags: [z-image, illustration, limner]
---

# sketchbook

The checkpoint that comes with *limner*: a Z-Image-architecture model of {parameters:.1f} million parameters
(transformer {transformer:.1f}, text encoder {text_encoder:.1f}, autoencoder {vae:.1f}) which paints flat, storybook
illustrations from short English and Chinese prompts, on a processor, in seconds. It was trained from nothing on
pictures and captions drawn by our own code (`training/` in limner's repository); no other pictures, texts or weights
were used.

It paints one to three of one thing, or two different things side by side or one above another, in one of ten colours
on one of twelve backgrounds, small, medium or big, from 176x224 to 672x864 px. It cannot paint anything else.
Words that it does not know are left out.

    from diffusers import ZImagePipeline
    pipe = ZImagePipeline.from_pretrained("sketchbook")
    pipe("a red cat on a hill", width=176, height=224, num_inference_steps=12, guidance_scale=2.0).images[0]

(diffusers' `guidance_scale` is the usual cfg minus one.)

## Words

| | English | 中文 |
|---|---|---|
| things | {things_en} | {things_zh} |
| colours | {colours_en} | {colours_zh} |
| backgrounds | {backgrounds_en} | {backgrounds_zh} |
| numbers | one, two, three | 一, 两, 三 |
| sizes | small, medium, big | 小, 中等, 大 |
| places | beside, above, below, left, right | 旁边, 上面, 下面, 左边, 右边 |

The tokenizer knows {vocabulary} words and characters. Licence: Apache-2.0.
"""


def _averaged(folder: Path, name: str, stage: str) -> dict[str, torch.Tensor]:
    file = folder / name
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing. Run `python training/train.py --only {stage}` first.")
    return torch.load(file, weights_only=True)["average"]


def load_pipeline(folder: Path) -> Any:
    """The averaged weights of a build folder as a pipeline, each part in the precision of its export."""
    config: dict[str, Any] = dict(CONFIG)
    transformer: Any = ZImageTransformer2DModel(**config)
    transformer.load_state_dict(_averaged(folder, "denoiser.pt", "denoiser"))
    autoencoder = build_autoencoder()
    autoencoder.decoder.load_state_dict(_averaged(folder, "decoder.pt", "decoder"))
    write_code(autoencoder.encoder, LinearCode.load(folder / "latents.safetensors"))
    reader: Any = Qwen3Model.from_pretrained(folder / "text_encoder")
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT, use_dynamic_shifting=False),
        vae=autoencoder.half(),
        text_encoder=reader.bfloat16(),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        transformer=transformer.bfloat16(),
    )


def model_card(pipeline: Any) -> str:
    """The folder's README: what it is, its licence, and the words it knows."""
    sizes = {
        name: sum(p.numel() for p in getattr(pipeline, name).parameters()) / 1e6
        for name in ("transformer", "text_encoder", "vae")
    }
    return CARD.format(
        **sizes,
        parameters=sum(sizes.values()),
        vocabulary=len(pipeline.tokenizer),
        things_en=", ".join(word.singular[0] for word in THINGS.values()),
        things_zh=", ".join(word.zh[0] for word in THINGS.values()),
        colours_en=", ".join(colour.en[0] for colour in COLOURS.values()),
        colours_zh=", ".join(colour.zh[0] for colour in COLOURS.values()),
        backgrounds_en=", ".join(background.en_name[0] for background in BACKGROUNDS.values()),
        backgrounds_zh=", ".join(background.zh_name[0] for background in BACKGROUNDS.values()),
    )


def _tidy(folder: Path) -> None:
    # A tokenizer is its vocabulary, its settings and its chat template; the template's own file is enough.
    settings_file = folder / "tokenizer" / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # the name that every release of transformers knows
    for name in ("backend", "chat_template", "is_local", "local_files_only"):
        settings.pop(name, None)
    settings_file.write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for file in (folder / "tokenizer").iterdir():
        if file.name not in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            file.unlink()
    index_file = folder / "model_index.json"
    index = json.loads(index_file.read_text(encoding="utf-8"))
    index["tokenizer"] = ["transformers", "PreTrainedTokenizerFast"]
    index_file.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    for file in folder.rglob("config.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def export(folder: Path, out: Path = WEIGHTS / "sketchbook") -> None:
    """Write `out` from the build folder, replacing what was there."""
    pipeline = load_pipeline(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as space:
        fresh = Path(space) / out.name
        pipeline.save_pretrained(fresh, safe_serialization=True)
        _tidy(fresh)
        (fresh / "README.md").write_text(model_card(pipeline), encoding="utf-8")
        total = size_of(fresh)
        assert total <= LIMIT_BYTES, f"the checkpoint has {total} bytes, allowed are {LIMIT_BYTES}"
        for part in fresh.rglob("*"):
            part.chmod(0o755 if part.is_dir() else 0o644)
        if out.exists():
            shutil.rmtree(out)
        fresh.rename(out)
    for part in sorted(out.iterdir()):
        print(f"export: {part.name:22s} {(size_of(part) if part.is_dir() else part.stat().st_size) / 1e6:6.2f} MB")
    print(f"export: {out} {size_of(out) / 1e6:.2f} MB", flush=True)


def main() -> None:
    """Reads the command line and exports checkpoint and adapter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE / "build")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the folder that gets sketchbook/ and loras/")
    options = parser.parse_args()
    export(options.folder, options.out / "sketchbook")
    if (options.folder / "ink.pt").exists():
        export_ink(options.folder, options.out / "loras" / "ink.safetensors")
    total = size_of(options.out)
    assert total <= LIMIT_BYTES, f"all weights have {total} bytes, allowed are {LIMIT_BYTES}"


if __name__ == "__main__":
    main()
