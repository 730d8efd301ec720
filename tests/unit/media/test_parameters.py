"""The text that other programs read: exact, and understood in the ways that others write it."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.domain import SAMPLERS, SCHEDULES, AdapterRequest, GenerationRequest
from limner.errors import Unsupported
from limner.media.parameters import parse_parameters, write_parameters
from tests.support.records import recipe


def test_three_stages_are_told_as_the_first_and_the_last() -> None:
    adapters = (AdapterRequest(name="ink", weight=0.8, trigger="ink style"),)
    assert write_parameters(recipe(negative_prompt="blurry", adapters=adapters)) == (
        "ink style, a red boat <lora:ink:0.8>\n"
        "Negative prompt: blurry\n"
        "Steps: 9, Sampler: Euler a, Schedule type: Simple, CFG scale: 2, Seed: 7, Size: 176x224, "
        "Model hash: 0123456789, Model: sketchbook, Denoising strength: 0.6, Hires resize: 672x864, Hires steps: 16, "
        "Version: limner 0.1.0"
    )


def test_one_stage_has_no_refinement() -> None:
    assert write_parameters(recipe("single")).endswith(
        "Size: 672x864, Model hash: 0123456789, Model: sketchbook, Version: limner 0.1.0"
    )


@given(
    sampler=st.sampled_from(SAMPLERS),
    schedule=st.sampled_from(SCHEDULES),
    seed=st.integers(0, 2**64 - 1),
    steps=st.integers(1, 200),
)
def test_what_is_written_for_one_stage_is_read_back(sampler: str, schedule: str, seed: int, steps: int) -> None:
    made = recipe("single", sampler=sampler, schedule=schedule, seed=seed, steps=steps, negative_prompt="fog")
    request = parse_parameters(write_parameters(made)).request
    assert (request.sampler, request.schedule, request.seed, request.steps) == (sampler, schedule, seed, steps)
    assert (request.prompt, request.negative_prompt, request.cfg) == ("a red boat", "fog", 2.0)
    assert (request.width, request.height) == (672, 864)


def test_a_text_of_the_web_ui_is_understood() -> None:
    found = parse_parameters(
        "masterpiece, a (cat:1.2)\nsitting <lora:furry:0.5> <lora:plain>\n"
        "Negative prompt: bad hands,\nugly\n"
        'Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 1234, Size: 510x768, Model: "dream, v2", '
        "Clip skip: 2, Version: v1.6.0"
    )
    request = found.request
    assert request.prompt == "masterpiece, a (cat:1.2)\nsitting"
    assert request.negative_prompt == "bad hands,\nugly"
    assert [(adapter.name, adapter.weight) for adapter in request.adapters] == [("furry", 0.5), ("plain", 1.0)]
    assert (request.sampler, request.schedule, request.steps, request.cfg) == ("dpmpp_2m", "karras", 25, 7.5)
    assert (request.seed, request.width, request.height) == (1234, 512, 768)
    assert found.notes == (
        "Its size 510x768 became 512x768: sides are multiples of 16 from 64 to 4096.",
        "It was made with checkpoint `dream, v2`; choose one of yours.",
        "Not understood and left out: Clip skip 2.",
    )


def test_what_cannot_be_carried_over_is_said() -> None:
    found = parse_parameters(
        "a cat\x07 <lora:ink:11>\n"
        "Steps: 900, Sampler: UniPC, Schedule type: Turbo, CFG scale: 99, Seed: 1, Denoising strength: 0.4"
    )
    assert found.request == GenerationRequest(prompt="a cat", seed=1)
    assert found.notes == (
        "Control characters in its prompt were left out.",
        "LoRA `ink` at 11 was left out: at most 16 with weights of -10 to 10 are possible.",
        "Steps 900 is outside 1 to 200 and was left out.",
        "CFG scale 99 is outside 0 to 30 and was left out.",
        "Sampler `UniPC` is not known here; the preset's is used.",
        "Schedule `Turbo` is not known here; the preset's is used.",
        "It began with another picture, which the file does not carry.",
    )


def test_a_refined_picture_has_its_finished_size() -> None:
    found = parse_parameters(
        "a cat\nSteps: 9, Seed: 1, Size: 512x768, Denoising strength: 0.4, Hires upscale: 1.5, Hires upscaler: Latent"
    )
    assert (found.request.width, found.request.height) == (768, 1152)
    assert found.notes == ("Not understood and left out: Hires upscaler Latent.",)


def test_an_empty_prompt_is_possible() -> None:
    request = parse_parameters("Negative prompt: fog\nSteps: 3, Seed: 1").request
    assert (request.prompt, request.negative_prompt) == ("", "fog")


@pytest.mark.parametrize("text", ["", "hello", "just\nsome words"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(Unsupported, match="a form that limner does not know"):
        parse_parameters(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_parameters(text + "\nSteps: 3, Seed: 1, Size: " + text)
    except Unsupported:
        return


@pytest.mark.parametrize("piece", ["a", " ", 'a:"', ",a", "<lora:", ' "\\'])
def test_a_million_characters_are_read_quickly(piece: str) -> None:
    long = piece * (200_000 // len(piece))
    began = time.monotonic()
    for text in (f"{long}x\nSteps: 9, {long}", f"x{long}"):
        with contextlib.suppress(Unsupported):
            parse_parameters(text)
    assert time.monotonic() - began < 10
