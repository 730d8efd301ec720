"""The generator for plain scripts: the arguments that scripts know, from any thread and any loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import limner
from limner import studio as studio_module
from limner.backends.fake import FakeBackend
from limner.backends.settings import NativeSettings
from limner.config import Settings
from limner.errors import ConfigError, EngineFault, InvalidRequest, NotFound
from limner.generator import ImageGenerator, create_image_generator


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMNER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    fake = FakeBackend()
    monkeypatch.setitem(studio_module._BUILT_IN, "fake", lambda settings: fake)  # pyright: ignore[reportPrivateUsage]
    return fake


def test_a_picture_has_the_usual_size(backend: FakeBackend) -> None:
    with create_image_generator("fake") as generator:
        image = generator.generate("a red boat")
    assert (image.size, image.mode) == ((672, 864), "RGB")
    assert [(s.steps, s.cfg) for s in backend.orders[0].plans[0].stages] == [(9, 2.0), (16, 1.0), (16, 1.0)]


def test_all_arguments_reach_the_plan(backend: FakeBackend, home: Path) -> None:
    (home / "pen.safetensors").write_bytes(b"")
    with create_image_generator("fake") as generator:
        generator.generate("a boat", "fog", str(home / "pen.safetensors"), 0.5, "ink", 4, 3.5, 11, False)
    (order,) = backend.orders
    (plan,) = order.plans
    (stage,) = plan.stages
    assert (plan.prompt, plan.negative_prompt, plan.seed) == ("ink, a boat", "fog", 11)
    assert (stage.width, stage.height, stage.steps, stage.cfg) == (672, 864, 4, 3.5)
    assert [(a.name, a.weight, a.trigger) for a in order.request.adapters] == [
        (str(home / "pen.safetensors"), 0.5, "ink")
    ]


def test_a_trigger_word_without_an_adapter_goes_into_the_prompt(backend: FakeBackend) -> None:
    with create_image_generator("fake") as generator:
        generator.generate("a boat", trigger_word="ink", negative_prompt=None)
    assert backend.orders[0].plans[0].prompt == "ink, a boat"


def test_whatever_may_be_absent_may_be_none(backend: FakeBackend, home: Path) -> None:
    (home / "pen.safetensors").write_bytes(b"")
    with create_image_generator("fake") as generator:
        generator.generate(None, None, home / "pen.safetensors", None, None, None, None, None, None)
    (order,) = backend.orders
    assert (order.plans[0].prompt, order.plans[0].negative_prompt, len(order.plans[0].stages)) == ("", "", 3)
    assert order.request.adapters[0].weight == 0.8


def test_absent_arguments_come_from_the_settings(backend: FakeBackend, home: Path) -> None:
    (home / "pen.safetensors").write_bytes(b"")
    (home / "limner.toml").write_text(
        "[generation]\nprogressive = false\nnum_inference_steps = 5\nguidance_scale = 3\n"
        "[generation.stage1]\nsteps = 7\n[lora]\ndefault_strength = 0.3\n"
    )
    with create_image_generator("fake") as generator:
        generator.generate("a boat", lora_path=home / "pen.safetensors")
        generator.generate("a boat", progressive=True)
        generator.generate("a boat", progressive=True, num_inference_steps=4)
    single, progressive, explicit = (order.plans[0].stages for order in backend.orders)
    assert [(stage.steps, stage.cfg) for stage in single] == [(5, 3.0)]
    assert [len(progressive), progressive[0].steps, explicit[0].steps] == [3, 7, 4]
    assert backend.orders[0].request.adapters[0].weight == 0.3


def test_the_same_seed_gives_the_same_picture() -> None:
    with create_image_generator("fake") as generator:
        first, second = (generator.generate("a boat", seed=3) for _ in range(2))
    assert first.tobytes() == second.tobytes()


async def test_it_can_be_called_inside_a_running_loop() -> None:
    with create_image_generator("fake") as generator:
        assert generator.generate("a boat").size == (672, 864)
        await asyncio.sleep(0)


def test_threads_may_call_at_the_same_time() -> None:
    with create_image_generator("fake") as generator, ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(generator.generate, ["a", "b", "c", "d"]))) == 4


def test_a_wrong_value_is_refused() -> None:
    with create_image_generator("fake") as generator, pytest.raises(InvalidRequest, match="`steps`"):
        generator.generate("a boat", num_inference_steps=0)


def test_a_failure_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = FakeBackend(failures={0: EngineFault("Latents are not finite.")})
    monkeypatch.setitem(studio_module._BUILT_IN, "fake", lambda settings: broken)  # pyright: ignore[reportPrivateUsage]
    with create_image_generator("fake") as generator, pytest.raises(EngineFault):
        generator.generate("a boat")


def test_an_unknown_backend_lists_the_known_ones() -> None:
    known = "comfyui, fake, native, openai, runpod"
    with pytest.raises(NotFound, match=rf"There is no backend `comfy`\. Choose one of: {known}\."):
        create_image_generator("comfy", url="http://localhost")


def test_names_in_wide_use_become_settings_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dtype:
        def __str__(self) -> str:
            return "torch.bfloat16"

    seen: list[NativeSettings] = []

    def native(settings: Settings) -> Any:
        seen.append(settings.native)
        return FakeBackend()

    monkeypatch.setitem(studio_module._BUILT_IN, "native", native)  # pyright: ignore[reportPrivateUsage]
    create_image_generator(
        "native", model_path="m", vae_path="v", clip_path="c", device="cpu", torch_dtype=Dtype()
    ).close()
    (native_settings,) = seen
    assert (native_settings.model_path, native_settings.vae_path) == (Path("m"), Path("v"))
    assert native_settings.text_encoder_path == Path("c")
    assert (native_settings.device, native_settings.dtype) == ("cpu", "bfloat16")


def test_a_connection_that_is_none_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[NativeSettings] = []

    def native(settings: Settings) -> Any:
        seen.append(settings.native)
        return FakeBackend()

    monkeypatch.setitem(studio_module._BUILT_IN, "native", native)  # pyright: ignore[reportPrivateUsage]
    create_image_generator("native", model_path=None, device=None, torch_dtype=None).close()
    assert (seen[0].model_path, seen[0].device, seen[0].dtype) == (None, "auto", "auto")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no setting devise"):
        create_image_generator("native", devise="cpu")


def test_other_backends_take_no_settings() -> None:
    with pytest.raises(ConfigError, match="takes no settings here"):
        create_image_generator("fake", device="cpu")


def test_a_closed_generator_says_so() -> None:
    generator = create_image_generator("fake")
    generator.close()
    generator.close()
    with pytest.raises(ConfigError, match="closed"):
        generator.generate("a boat")


def test_a_backend_that_cannot_start_leaves_no_thread_behind(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        ImageGenerator(Settings(home=tmp_path, backend="gone"))


def test_the_package_offers_its_public_names() -> None:
    assert limner.create_image_generator is create_image_generator
    assert limner.__version__ == "0.1.0"
    assert dir(limner) == ["GenerationRequest", "Studio", "__version__", "create_image_generator", "load_settings"]
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = limner.nonsense  # pyright: ignore
