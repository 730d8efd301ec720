"""The seed document's own calls, as a script makes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from limner import GenerationRequest, Studio, create_image_generator
from limner.backends.native import BUILTIN_DIR
from limner.errors import NotFound
from limner.generator import ImageGenerator


@pytest.fixture(scope="module")
def generator() -> Iterator[ImageGenerator]:
    with create_image_generator("native") as made:
        yield made


def test_one_stage_gives_a_picture_of_the_default_size(generator: ImageGenerator) -> None:
    assert generator.generate("a red cat", progressive=False, num_inference_steps=2, seed=1).size == (672, 864)


def test_three_stages_give_a_picture_of_the_default_size(generator: ImageGenerator) -> None:
    assert generator.generate("a red cat", seed=1).size == (672, 864)


def test_a_lora_with_strength_and_trigger_word(generator: ImageGenerator) -> None:
    image = generator.generate(
        "a red cat",
        lora_path=str(BUILTIN_DIR / "loras" / "ink.safetensors"),
        lora_strength=0.8,
        trigger_word="ink style",
        progressive=False,
        num_inference_steps=2,
    )
    assert image is not None


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(NotFound, match="native"):
        create_image_generator("midjourney")


async def test_the_studio_paints_requests_that_run_together(tmp_path: Path) -> None:
    import asyncio

    async with Studio() as studio:
        requests = [
            GenerationRequest(prompt=prompt, preset="sketch", width=176, height=224, steps=4, seed=3)
            for prompt in ("a red cat", "一只蓝色的鸟", "")
        ]
        found = await asyncio.gather(*(studio.generate(request) for request in requests))
    assert [pictures[0].image.size for pictures in found] == [(176, 224)] * 3
