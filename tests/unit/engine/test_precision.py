"""Devices and precisions: what is chosen, what replaces a wish that cannot be fulfilled, and that it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from limner.backends.native import NativeBackend
from limner.backends.settings import NativeSettings
from limner.engine import precision as module
from limner.engine.precision import LARGE_ON_CPU, Precision, PrecisionPolicy, choose_device, choose_precision
from limner.errors import ConfigError
from limner.events import Info
from tests.contract.backend_contract import images, order, run
from tests.support.checkpoints import save_folder, tiny_components

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LARGE = PrecisionPolicy(stored="BF16", parameters=LARGE_ON_CPU + 1)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Whether the device multiplies bfloat16 natively, set by the test."""

    def answer(device: torch.device) -> bool:
        return bool(request.param)

    monkeypatch.setattr(module, "bfloat16_is_fast", answer)


native = pytest.mark.parametrize("fast", [True], indirect=True)
foreign = pytest.mark.parametrize("fast", [False], indirect=True)


def test_the_cpu_computes_in_float32_by_default() -> None:
    assert choose_precision(CPU) == Precision(torch.float32, torch.float32, torch.float32)


def test_whatever_nobody_chose_for_follows_the_transformer() -> None:
    chosen = Precision(transformer=torch.bfloat16, vae=torch.float16)
    found = [chosen.of(name) for name in ("safety_checker", "movq", "vae", "text_encoder_3")]
    assert found == [torch.bfloat16, torch.bfloat16, torch.float16, torch.float32]


@native
@pytest.mark.usefixtures("fast")
def test_a_large_bfloat16_transformer_stays_so_on_a_processor_that_can() -> None:
    chosen = choose_precision(CPU, policy=LARGE)
    assert (chosen.transformer, chosen.text_encoder, chosen.vae) == (torch.bfloat16, torch.float32, torch.float32)
    assert "natively" in chosen.notes[0]


@native
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("policy", [PrecisionPolicy("F32", LARGE_ON_CPU + 1), PrecisionPolicy("BF16", LARGE_ON_CPU)])
def test_small_or_float32_transformers_do_not(policy: PrecisionPolicy) -> None:
    assert choose_precision(CPU, policy=policy).transformer is torch.float32


@foreign
@pytest.mark.usefixtures("fast")
def test_a_large_transformer_is_widened_on_a_processor_that_cannot() -> None:
    assert choose_precision(CPU, policy=LARGE) == Precision()


@native
@pytest.mark.usefixtures("fast")
def test_a_graphics_card_computes_in_bfloat16() -> None:
    chosen = choose_precision(CUDA)
    assert (chosen.transformer, chosen.text_encoder, chosen.vae) == (torch.bfloat16,) * 3
    assert choose_precision(CUDA, policy=PrecisionPolicy(vae_bfloat16=False)).vae is torch.float32


@foreign
@pytest.mark.usefixtures("fast")
def test_an_older_graphics_card_computes_in_float16_but_decodes_in_float32() -> None:
    chosen = choose_precision(CUDA, {"text_encoder": "bf16"})
    assert (chosen.transformer, chosen.text_encoder, chosen.vae) == (torch.float16, torch.float16, torch.float32)
    assert any("text encoder uses float16" in note for note in chosen.notes)


@native
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(("bfloat16", "instead"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_vae_that_overflows_is_never_computed_in_float16(bfloat16: bool, instead: torch.dtype) -> None:
    policy = PrecisionPolicy(vae_float16=False, vae_bfloat16=bfloat16)
    chosen = choose_precision(CUDA, {"vae": "float16", "transformer": "float16"}, policy)
    assert (chosen.transformer, chosen.vae) == (torch.float16, instead)
    assert chosen.notes == (
        f"The VAE of this checkpoint overflows in float16: it uses {str(instead).removeprefix('torch.')}.",
    )
    assert choose_precision(CUDA, {"vae": "float16"}).vae is torch.float16


@native
@pytest.mark.usefixtures("fast")
def test_a_vae_that_suffers_in_bfloat16_is_computed_in_float32_even_against_a_wish() -> None:
    chosen = choose_precision(CPU, {"vae": "bf16"}, PrecisionPolicy(vae_bfloat16=False))
    assert chosen.vae is torch.float32 and "loses too much" in chosen.notes[0]


@native
@pytest.mark.usefixtures("fast")
def test_a_text_encoder_that_overflows_takes_bfloat16_where_there_is_one() -> None:
    chosen = choose_precision(CUDA, {"text_encoder": "float16"}, PrecisionPolicy(text_float16=False))
    assert chosen.text_encoder is torch.bfloat16 and "text encoder of this checkpoint overflows" in chosen.notes[0]


@foreign
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("wish", ["auto", "bf16", "fp16"])
def test_of_two_text_encoders_the_one_that_overflows_is_raised_alone(wish: str) -> None:
    policy = PrecisionPolicy(text_encoder_2=True, text_2_float16=False)
    chosen = choose_precision(CUDA, {"text_encoder": wish}, policy)
    assert (chosen.text_encoder, chosen.text_encoder_2) == (torch.float16, torch.float32)
    assert chosen.names()["text_encoder_2"] == "float32"
    assert any("second text encoder" in note and "float32" in note for note in chosen.notes)


def test_a_wish_for_the_text_encoder_is_one_for_both() -> None:
    chosen = choose_precision(CPU, {"text_encoder": "bf16"}, PrecisionPolicy(text_encoder_2=True))
    assert chosen.of("text_encoder") is chosen.of("text_encoder_2") is torch.bfloat16
    alone = choose_precision(CPU, {"text_encoder": "bf16"})
    assert "text_encoder_2" not in alone.names() and alone.of("text_encoder_3") is torch.bfloat16


def test_half_on_the_cpu_is_replaced_and_said() -> None:
    chosen = choose_precision(CPU, {"transformer": "float16", "vae": "half", "text_encoder": "auto"})
    assert (chosen.transformer, chosen.text_encoder, chosen.vae) == (torch.float32,) * 3
    assert chosen.notes == (
        "float16 is not supported on the CPU: the transformer uses float32.",
        "float16 is not supported on the CPU: the VAE uses float32.",
    )


def test_an_override_is_followed() -> None:
    chosen = choose_precision(CPU, {"vae": "bfloat16"})
    assert chosen.names() == {"transformer": "float32", "text_encoder": "float32", "vae": "bfloat16"}


def test_what_cannot_be_set_is_an_error_that_lists_what_can() -> None:
    with pytest.raises(ConfigError, match="Choose auto, float32, bfloat16 or float16"):
        choose_precision(CPU, {"vae": "int4"})
    with pytest.raises(ConfigError, match="Choose among transformer, text_encoder, vae"):
        choose_precision(CPU, {"unet": "float32"})


def test_auto_takes_the_best_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("AUTO") == CUDA


def test_a_missing_device_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"without CUDA|no driver"):
        choose_device("cuda")
    with pytest.raises(ConfigError, match="no Metal"):
        choose_device("mps")
    for wish in ("gpu", "cuda:x", "cpu:1", ""):
        with pytest.raises(ConfigError, match="is unknown"):
            choose_device(wish)


def test_a_card_that_does_not_exist_is_an_error_that_lists_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="cuda:0, cuda:1"):
        choose_device("cuda:7")


def test_what_is_chosen_on_this_machine_really_computes() -> None:
    chosen = choose_precision(CPU, {"transformer": "float16"}, LARGE)
    layer: nn.Module = nn.LayerNorm(8).to(chosen.transformer)
    answer: Tensor = layer(torch.ones(2, 8, dtype=chosen.transformer))
    assert torch.isfinite(answer).all()


@pytest.mark.parametrize("wish", ["float32", "bfloat16", "float16"])
async def test_pictures_are_painted_in_whatever_was_wished_or_a_note_says_in_what(
    wish: Literal["float32", "bfloat16", "float16"], tmp_path: Path
) -> None:
    save_folder(tiny_components(), tmp_path / "tiny")
    backend = NativeBackend(NativeSettings(model="tiny", device="cpu", dtype=wish, models_dir=tmp_path))
    try:
        events = await run(backend, order())
    finally:
        await backend.aclose()
    (image,) = images(events)
    assert len(set(image.rgb)) > 2
    assert set(image.recipe.precision.values()) == {wish if wish == "bfloat16" else "float32"}
    told = " ".join(event.message for event in events if isinstance(event, Info) and event.code == "precision")
    assert told.count("is not supported on the CPU") == (3 if wish == "float16" else 0)
