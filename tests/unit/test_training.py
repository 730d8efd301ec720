"""The training's own tools: export that diffusers can load, the sampler, the adapter, the judge, the one command."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline
from safetensors import safe_open

import classifier
import encoder
import evaluate
import export
import ink
import sampling
import text
import train
from denoiser import build_network
from drawings import Group, Scene, label_map, part_map, place, render, sample_scene
from latents import fit, to_tensor

SIZE = (64, 96)
TEXTS = ["a red cat on a hill", "一只蓝色的狗，夜晚 zzyzx"]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder whose parts have random weights, all in use."""
    folder = tmp_path_factory.mktemp("build")
    torch.manual_seed(3)
    tokenizer = text.build_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    text.build_encoder(len(tokenizer)).save_pretrained(folder / "text_encoder")
    network = build_network()
    average = {name: v + 0.03 * torch.randn_like(v) for name, v in network.state_dict().items()}
    torch.save({"average": average, "progress": {"trained_s": 60.0, "samples": 5}}, folder / "denoiser.pt")
    autoencoder = sampling.build_autoencoder()
    torch.save({"average": autoencoder.decoder.state_dict(), "spent_s": 30.0}, folder / "decoder.pt")
    fit([to_tensor([render(sample_scene(random.Random(1)), 176, 224, 1)])]).save(folder / "latents.safetensors")
    layers = ink.attach(sampling.from_build(folder, "linear").model)
    for layer in layers.values():
        torch.nn.init.normal_(layer.lora_B.weight, std=0.1)
    torch.save({"tensors": ink.tensors(layers), "spent_s": 30.0}, folder / "ink.pt")
    return folder


@pytest.fixture(scope="module")
def exported(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights")
    export.export(build, out / "sketchbook")
    ink.export(build, out / "loras" / "ink.safetensors")
    return out


@pytest.fixture(scope="module")
def pipeline(exported: Path) -> Any:
    pipe = ZImagePipeline.from_pretrained(exported / "sketchbook", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _latents(pipe: Any, noise: torch.Tensor, texts: list[str]) -> torch.Tensor:
    return pipe(
        prompt=texts,
        width=SIZE[0],
        height=SIZE[1],
        latents=noise,
        num_inference_steps=2,
        sigmas=[1.0, 0.5],
        guidance_scale=2.0,
        output_type="latent",
    ).images


def test_the_exported_folder_is_complete_and_small(exported: Path) -> None:
    folder = exported / "sketchbook"
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert files == [
        "README.md",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/chat_template.jinja",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert export.size_of(exported) <= export.LIMIT_BYTES
    assert str(exported) not in (folder / "README.md").read_text(encoding="utf-8")
    with safe_open(folder / "transformer/diffusion_pytorch_model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_diffusers_paints_what_the_sampler_paints(exported: Path, pipeline: Any) -> None:
    painter = sampling.from_checkpoint(exported / "sketchbook")
    noise = sampling.noise_for(2, *SIZE, seed=1)
    ours = sampling.denoise(painter, TEXTS, noise, steps=2, cfg=3.0)
    theirs = _latents(pipeline, noise, TEXTS)
    assert (ours - noise).abs().mean() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    picture = pipeline(TEXTS[0], width=64, height=96, num_inference_steps=1, guidance_scale=0.0).images[0]
    assert picture.size == SIZE


def test_a_missing_part_is_named(build: Path, tmp_path: Path) -> None:
    for file in build.iterdir():
        if file.name != "decoder.pt":
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(FileNotFoundError, match=r"decoder\.pt is missing.*--only decoder"):
        export.export(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_matrix_of_the_adapter_has_its_layer(exported: Path, pipeline: Any) -> None:
    modules = dict(pipeline.transformer.named_modules())
    with safe_open(exported / "loras" / "ink.safetensors", "pt") as file:
        assert file.metadata()["limner.trigger"] == "ink style"
        names = list(file.keys())
        for name in names:
            layer = modules[name.removeprefix("transformer.").rsplit(".lora_", 1)[0]]
            side = 1 if ".lora_A." in name else 0
            assert file.get_tensor(name).shape[side] == (layer.in_features if side else layer.out_features)
    assert len(names) == 2 * 7 * len(pipeline.transformer.layers)


def test_diffusers_applies_the_adapter_as_the_training_does(build: Path, exported: Path, pipeline: Any) -> None:
    pytest.importorskip("peft")
    painter = sampling.from_checkpoint(exported / "sketchbook")
    noise = sampling.noise_for(1, *SIZE, seed=2)
    base = sampling.denoise(painter, TEXTS[:1], noise, 2, 3.0)
    layers = ink.attach(painter.model)
    for name, value in torch.load(build / "ink.pt", weights_only=True)["tensors"].items():
        layer, part, _ = name.removeprefix("transformer.").rsplit(".", 2)
        getattr(layers[layer], part).weight.data.copy_(value.half().float())
    ours = sampling.denoise(painter, TEXTS[:1], noise, 2, 3.0)
    with ink.without(layers):
        torch.testing.assert_close(sampling.denoise(painter, TEXTS[:1], noise, 2, 3.0), base)
    pipeline.load_lora_weights(exported / "loras", weight_name="ink.safetensors")
    theirs = _latents(pipeline, noise, TEXTS[:1])
    pipeline.unload_lora_weights()
    assert (ours - base).abs().mean() > 0.05
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-3)


def test_mistakes_are_named_and_counted() -> None:
    pair = Scene("sky", (Group("cat", "red"), Group("dog", "blue")), "beside")
    two = Scene("night", (Group("star", "yellow", 2),))
    right = classifier.Verdict("sky", "beside", "flat", ("cat", "dog"), ("red", "blue"))
    swapped = classifier.Verdict("sky", "beside", "flat", ("dog", "cat"), ("red", "blue"))
    alone = classifier.Verdict("night", "one", "flat", ("star", "star"), ("pink", "pink"))
    assert evaluate.mistakes(right, pair) == []
    assert evaluate.mistakes(swapped, pair) == ["thing", "pair_things"]
    assert evaluate.mistakes(alone, two) == ["colour", "count"]
    scores = evaluate.score([[], ["thing", "pair_things"], ["colour", "count"]], [pair, pair, two])
    assert (scores.pictures, scores.pairs, scores.pair_things, scores.background) == (3, 2, 0.5, 1.0)
    assert scores.everything == pytest.approx(1 / 3, abs=1e-4)


def test_held_out_cases_never_change_and_come_in_both_languages() -> None:
    cases = evaluate.held_out_cases(6)
    assert cases == evaluate.held_out_cases(12)[:6]
    assert [case.language for case in cases] == ["en", "zh"] * 3


def test_the_judge_takes_every_size_and_kind_of_picture(tmp_path: Path) -> None:
    from PIL import Image

    model = classifier.Classifier()
    scene = Scene("sky", (Group("cat", "red"),))
    pictures = [render(scene, *size, 1) for size in ((176, 224), (672, 864), (864, 672), (48, 48))]
    scores = evaluate.judge([*pictures, Image.fromarray(pictures[0])], [scene] * 5, model)
    assert scores.pictures == 5 and scores.pair_things is None
    evaluate.write_sheet(tmp_path / "sheet.png", pictures, ["caption"] * 4, ["note"] * 4)
    evaluate.record("176x224", scores, "test", results=tmp_path / "results.json")
    evaluate.record("336x432", scores, "test", results=tmp_path / "results.json")
    assert "336x432" in (tmp_path / "results.json").read_text(encoding="utf-8")


def test_the_encoder_computes_the_linear_code() -> None:
    rng = random.Random(4)
    pictures = to_tensor([render(sample_scene(rng), 176, 224, seed) for seed in range(4)])
    code = fit([pictures])
    autoencoder = sampling.build_autoencoder()
    encoder.write_code(autoencoder.encoder, code)
    stored = autoencoder.half().float()
    with torch.inference_mode():
        mean = stored.encode(pictures).latent_dist.mean
    torch.testing.assert_close(mean, code.encode(pictures), atol=1e-2, rtol=0)


def test_the_same_thing_looks_the_same_in_every_cell_it_stands_in() -> None:
    scene = Scene("white", (Group("cat", "red"),))
    seen = set()
    for seed in range(12):
        (item,) = place(scene, 176, 224, seed)
        x, y = int(item.x), int(item.y)
        seen.add(render(scene, 176, 224, seed)[y - 48 : y + 48, x - 48 : x + 48].tobytes())
        assert x % 16 == 8 and y % 16 == 8
    assert len(seen) == 1


def test_parts_of_a_thing_are_numbered_whatever_its_place() -> None:
    scene = Scene("white", (Group("house", "red", count=2),))
    labels = label_map(scene, 176, 224, 1)
    parts = part_map(scene, 176, 224, 1, labels)
    assert ((parts >= 0) == (labels > 0)).all() and parts.max() < 100
    left, right = parts[:, :5], parts[:, 6:]
    assert sorted(left[left >= 0].tolist()) == sorted(right[right >= 0].tolist())


def test_strokes_and_paleness_tell_ink_from_flat() -> None:
    scene = Scene("green", (Group("elephant", "purple", size="big"),))
    flat, drawn = (render(scene, 176, 224, 1, style) for style in classifier.STYLES)
    assert ink.strokes(drawn) > ink.strokes(flat) and ink.paleness(drawn) > ink.paleness(flat)
    assert ink.strokes(np.full((224, 176, 3), 255, np.uint8)) == 0


def test_complete_stages_are_skipped_and_budgets_are_compared(build: Path, tmp_path: Path) -> None:
    plan = train.Plan(build, 2, denoiser_minutes=1, decoder_minutes=2, ink_minutes=0.5, weights=tmp_path)
    complete = {stage.name: stage.complete() for stage in train.stages(plan)}
    assert complete == {
        "code": True,
        "text": False,
        "classifier": False,
        "decoder": False,
        "denoiser": True,
        "ink": False,
        "export": False,
        "evaluate": False,
    }
    rounds = [[stage.name for stage in group] for group in train.together(train.stages(plan), 2)]
    assert ["classifier", "decoder"] in rounds and len(rounds) == 7


def test_a_failed_stage_ends_the_others_and_the_run() -> None:
    with pytest.raises(SystemExit, match="broken failed"):
        train.run([("slow", train.Process(_sleep, ())), ("broken", train.Process(os._exit, (3,)))])


def _sleep() -> None:
    import time

    time.sleep(60)
