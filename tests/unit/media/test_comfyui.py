"""Graphs of ComfyUI, as far as they are plain."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, PngImagePlugin

from limner.domain import AdapterRequest, CacheSettings, GenerationRequest
from limner.errors import Unsupported
from limner.media.comfyui import parse_graph
from limner.media.metadata import inspect_picture
from limner.media.parameters import ForeignRecipe
from tests.support.records import gradient

CAME = "Its graph was made with ComfyUI; the parts that limner understands were taken over."


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def graph(**changes: Any) -> dict[str, Any]:
    """One sampler with everything that leads to it."""
    sampler = {"model": ["3", 0], "positive": ["5", 0], "negative": ["6", 0], "latent_image": ["7", 0]}
    sampler |= {"seed": 2**60 + 1, "steps": 9, "cfg": 2.0, "sampler_name": "dpmpp_2m_sde_gpu", "scheduler": "karras"}
    return {
        "1": node("UNETLoader", unet_name="z\\turbo.safetensors"),
        "2": node("LoraLoaderModelOnly", model=["1", 0], lora_name="ink.safetensors", strength_model=0.8),
        "3": node("ModelSamplingAuraFlow", model=["2", 0], shift=3.0),
        "4": node("PrimitiveStringMultiline", value="a red boat"),
        "5": node("CLIPTextEncode", text=["4", 0], clip=["9", 0]),
        "6": node("CLIPTextEncode", text="fog", clip=["9", 0]),
        "7": node("EmptySD3LatentImage", width=170, height=224, batch_size=1),
        "8": node("KSampler", **(sampler | {"denoise": 1.0})),
    } | changes


def parsed(nodes: dict[str, Any]) -> ForeignRecipe:
    return parse_graph(json.dumps(nodes), (640, 480))


def test_a_plain_graph_becomes_a_request() -> None:
    found = parsed(graph())
    assert found.request == GenerationRequest(
        prompt="a red boat",
        negative_prompt="fog",
        width=176,
        height=224,
        seed=2**60 + 1,
        steps=9,
        cfg=2.0,
        sampler="dpmpp_2m_sde",
        schedule="karras",
        shift=3.0,
        adapters=(AdapterRequest(name="ink", weight=0.8),),
    )
    assert (found.source, found.checkpoint) == ("comfyui", "z/turbo")
    assert found.notes == (
        CAME,
        "Its size 170x224 became 176x224: sides are multiples of 16 from 64 to 4096.",
        "It was made with checkpoint `z/turbo`; choose one of yours.",
    )


def test_of_several_samplers_the_first_is_read_and_the_rest_is_said() -> None:
    later = graph()["8"]["inputs"] | {"latent_image": ["11", 0], "steps": 16, "denoise": 0.6, "seed": 5}
    changes = {
        "3": node("EasyCache", model=["1", 0], reuse_threshold=0.2, start_percent=0.15, end_percent=0.95),
        "5": node("FluxGuidance", conditioning=["4", 0], guidance=3.5),
        "4": node("CLIPTextEncode", text="a red boat"),
        "6": node("ConditioningZeroOut", conditioning=["4", 0]),
        "10": node("KSampler", **later),
        "11": node("LatentUpscale", samples=["8", 0], width=640, height=480),
    }
    found = parsed(graph(**changes))
    assert (found.request.steps, found.request.width, found.request.height) == (9, 640, 480)
    assert (found.request.prompt, found.request.negative_prompt) == ("a red boat", "")
    assert found.request.cache == CacheSettings()
    assert "Its graph has 2 samplers; the first one's numbers and the picture's size were taken." in found.notes
    assert "Not understood and left out: `FluxGuidance`." in found.notes


def test_a_graph_that_computes_its_prompt_or_begins_with_a_picture_says_so() -> None:
    combined = node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["6", 0])
    sampler = graph()["8"]["inputs"] | {"denoise": 0.5, "sampler_name": "uni_pc"}
    found = parsed(graph(**{"5": combined, "8": node("KSampler", **sampler), "7": node("VAEEncode", pixels=["0", 0])}))
    assert (found.request.prompt, found.request.sampler, found.request.width) == ("", None, None)
    assert found.notes[1:] == (
        "Its positive prompt is computed in a way that limner does not understand.",
        "Its first sampler has denoise 0.5; it began with another picture, which is not in the file.",
        "Sampler `uni_pc` is not known here; the preset's is used.",
        "It was made with checkpoint `z/turbo`; choose one of yours.",
        "Not understood and left out: `ConditioningCombine`.",
    )


def test_a_graph_without_a_known_sampler_or_with_a_circle_harms_nobody() -> None:
    assert parsed({"1": node("SaveImage")}).request == GenerationRequest()
    circle = graph(**{"3": node("Reroute", model=["3", 0]), "4": node("Primitive", value=["4", 0])})
    assert parsed(circle).request.prompt == ""


@pytest.mark.parametrize("text", ["", "a cat", "[]", "{}", '{"1": 3}', "[" * 100_000])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(Unsupported, match="no graph"):
        parse_graph(text, (64, 64))


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_the_graph_is_found_where_comfyui_writes_it(tmp_path: Path, kind: str) -> None:
    path, text = tmp_path / f"p.{kind}", json.dumps(graph())
    if kind == "png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("prompt", text)
        gradient().save(path, pnginfo=chunks)
    else:
        exif = Image.Exif()
        exif[ExifTags.Base.Model] = f"prompt:{text}"
        gradient().save(path, exif=exif)
    found = inspect_picture(path)
    assert isinstance(found, ForeignRecipe) and found.request.prompt == "a red boat"


def test_thousands_of_samplers_in_a_ring_are_looked_through_quickly() -> None:
    nodes = {f"p{number}": node("Pass", samples=[f"p{number + 1}", 0]) for number in range(98)}
    nodes |= {"p98": node("Pass", samples=["0", 0])}
    nodes |= {str(number): node("KSampler", latent_image=["p0", 0]) for number in range(2000)}
    began = time.monotonic()
    assert "no KSampler" in parsed(nodes).notes[0]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("half", ["\ud800", "\udfff a"])
def test_half_characters_become_question_marks(half: str) -> None:
    nodes = graph(**{"1": node("Loader", unet_name=half), "5": node(half, conditioning=["4", 0])})
    found = parsed(nodes | {"6": node("CLIPTextEncode", text=half + "\U0001f600")})
    mark = half.encode(errors="replace").decode()
    assert found.checkpoint == mark and found.request.negative_prompt == mark + "\U0001f600"
    "".join(found.notes).encode()
