"""The studio: requests become orders, events pass through, failures are told as they are."""

from __future__ import annotations

import asyncio
import json
import struct
from contextlib import aclosing
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from limner import studio as studio_module
from limner.backends.fake import FakeBackend
from limner.backends.settings import NativeSettings
from limner.config import GenerationSettings, Settings
from limner.domain import GenerationRequest
from limner.errors import ConfigError, EngineFault, InvalidRequest, NotFound, OutOfMemory, StorageError, Unsupported
from limner.events import Done, Failed, ImageGenerated, Progress
from limner.ports import Capabilities
from limner.studio import Picture, Studio, backend_names, raised
from tests.support.records import gradient

SMALL: dict[str, Any] = {"prompt": "a red boat", "preset": "sketch", "width": 64, "height": 64, "seed": 7}


def _request(**fields: Any) -> GenerationRequest:
    return GenerationRequest.model_validate(SMALL | fields)


def _studio(tmp_path: Path, backend: FakeBackend | None = None, **settings: Any) -> Studio:
    return Studio(Settings(home=tmp_path, backend="fake", **settings), backend)


async def _order(tmp_path: Path, **fields: Any) -> Any:
    backend = FakeBackend()
    await _studio(tmp_path, backend).generate(_request(**fields))
    return backend.orders[0]


def _adapter(path: Path, metadata: object) -> Path:
    header = json.dumps({"__metadata__": metadata}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


async def test_a_request_becomes_pictures(tmp_path: Path) -> None:
    async with _studio(tmp_path) as studio:
        pictures = await studio.generate(_request(count=2))
    assert [picture.image.size for picture in pictures] == [(64, 64), (64, 64)]
    assert [picture.recipe.plan.seed for picture in pictures] == [7, 8]
    assert all(isinstance(picture, Picture) and picture.warnings == () for picture in pictures)


async def test_events_pass_through_and_end_with_done(tmp_path: Path) -> None:
    events = [event async for event in _studio(tmp_path).run(_request())]
    assert isinstance(events[-1], Done)
    assert {"stage_update", "progress", "preview", "image_generated", "done"} == {event.type for event in events}


async def test_without_a_preset_the_configured_one_is_used(tmp_path: Path) -> None:
    studio = _studio(tmp_path, generation=GenerationSettings(preset="sketch"))
    (picture,) = await studio.generate(GenerationRequest(prompt="a cat"))
    assert picture.image.size == (336, 432)


async def test_stages_of_the_request_need_no_preset(tmp_path: Path) -> None:
    (picture,) = await _studio(tmp_path).generate(
        GenerationRequest.model_validate({"stages": [{"width": 64, "height": 80, "steps": 1}]})
    )
    assert picture.image.size == (64, 80)


async def test_a_preset_of_the_users_is_found(tmp_path: Path) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "tiny.toml").write_text("[[stages]]\nwidth = 64\nheight = 64\nsteps = 1\n")
    (picture,) = await _studio(tmp_path).generate(GenerationRequest(preset="tiny"))
    assert picture.image.size == (64, 64)


async def test_a_seed_is_drawn_and_recorded(tmp_path: Path) -> None:
    seeds = {(await _order(tmp_path, seed=None)).plans[0].seed for _ in range(3)}
    assert len(seeds) == 3


async def test_the_recipe_names_the_backend_that_painted(tmp_path: Path) -> None:
    (picture,) = await _studio(tmp_path).generate(_request())
    assert picture.recipe.request.backend == "fake"


# --- references


async def test_a_reference_is_opened_checked_and_fitted_to_the_first_stage(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    gradient(300, 200).save(path)
    order = await _order(tmp_path, preset="progressive", width=None, height=None, references=[{"path": str(path)}])
    assert order.reference.size == (176, 224)
    assert len(order.request.references[0].sha256) == 64


async def test_another_picture_in_the_references_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    gradient().save(path)
    with pytest.raises(InvalidRequest, match="its SHA-256 differs"):
        await _order(tmp_path, references=[{"path": str(path), "sha256": "0" * 64}])


async def test_a_missing_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="Check the path"):
        await _order(tmp_path, references=[{"path": str(tmp_path / "gone.png")}])


async def test_a_mask_and_what_it_keeps_come_at_the_size_of_the_finished_picture(tmp_path: Path) -> None:
    cat, mask = tmp_path / "cat.png", tmp_path / "mask.png"
    gradient(672, 864).save(cat)
    half = Image.new("L", (336, 432))
    half.paste(255, (168, 0, 336, 432))
    half.save(mask)
    fields: dict[str, Any] = {"preset": "progressive", "width": None, "height": None}
    fields |= {"references": [{"path": str(cat)}], "mask": {"path": str(mask)}}
    order = await _order(tmp_path, **fields)
    assert (order.mask.size, order.reference.size) == ((672, 864), (176, 224))
    assert order.kept.tobytes() == gradient(672, 864).tobytes()
    assert [order.mask.getpixel((x, 400)) for x in (300, 370)] == [0, 255]
    assert len(order.request.mask.sha256) == 64
    Image.new("L", (336, 432), "white").save(mask)
    whole, plain = await _order(tmp_path, **fields), await _order(tmp_path, **fields | {"mask": None})
    assert (whole.mask, whole.kept) == (None, None)
    assert whole.reference.tobytes() == plain.reference.tobytes()


async def test_a_mask_that_does_not_go_with_the_picture_is_refused(tmp_path: Path) -> None:
    gradient().save(tmp_path / "cat.png")
    gradient(64, 64).save(tmp_path / "mask.png")
    mask: dict[str, Any] = {"path": str(tmp_path / "mask.png")}
    with pytest.raises(InvalidRequest, match="The mask is 64x64, the reference picture 64x48"):
        await _order(tmp_path, references=[{"path": str(tmp_path / "cat.png")}], mask=mask)
    with pytest.raises(InvalidRequest, match="its SHA-256 differs"):
        await _order(tmp_path, references=[{"path": str(tmp_path / "cat.png")}], mask=mask | {"sha256": "0" * 64})
    with pytest.raises(ValueError, match="there is no picture"):
        await _order(tmp_path, mask=mask)


# --- adapters


async def test_an_adapter_is_found_by_name_with_its_own_trigger(tmp_path: Path) -> None:
    path = _adapter(tmp_path / "adapters" / "pen.safetensors", {"modelspec.trigger_phrase": "pen drawing"})
    order = await _order(tmp_path, adapters=[{"name": "pen"}])
    assert order.adapter_files == (str(path),)
    assert order.plans[0].prompt == "pen drawing, a red boat"
    assert order.request.prompt == "a red boat"


async def test_the_requests_trigger_goes_before_the_files(tmp_path: Path) -> None:
    _adapter(tmp_path / "adapters" / "pen.safetensors", {"limner.trigger": "pen drawing"})
    order = await _order(tmp_path, adapters=[{"name": "pen", "trigger": "quill"}])
    assert order.plans[0].prompt == "quill, a red boat"


async def test_a_folder_of_adapters_can_be_set(tmp_path: Path) -> None:
    path = _adapter(tmp_path / "loras" / "pen.safetensors", {})
    backend = FakeBackend()
    studio = _studio(tmp_path, backend, native=NativeSettings(adapters_dir=tmp_path / "loras"))
    await studio.generate(_request(adapters=[{"name": "pen"}]))
    assert backend.orders[0].adapter_files == (str(path),)


async def test_an_unknown_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no adapter `no-such-pen`"):
        await _order(tmp_path, adapters=[{"name": "no-such-pen"}])


async def test_an_adapter_that_does_not_fit_is_a_warning_of_the_picture(tmp_path: Path) -> None:
    _adapter(tmp_path / "adapters" / "pen.safetensors", {})
    studio = _studio(tmp_path, FakeBackend(misfits=["pen"]))
    (picture,) = await studio.generate(_request(adapters=[{"name": "pen"}]))
    assert picture.warnings == (
        "LoRA `pen` was skipped: it belongs to another architecture. Choose one of the same family.",
    )


# --- failures


async def test_partial_failure_returns_the_rest_with_a_warning(tmp_path: Path) -> None:
    studio = _studio(tmp_path, FakeBackend(failures={1: EngineFault("Latents are not finite.")}))
    pictures = await studio.generate(_request(count=3))
    assert [picture.recipe.index for picture in pictures] == [0, 2]
    assert {picture.warnings for picture in pictures} == {("Picture 1 failed: Latents are not finite.",)}


async def test_when_all_fail_the_failure_is_raised(tmp_path: Path) -> None:
    studio = _studio(tmp_path, FakeBackend(failures={0: OutOfMemory("No room.")}))
    with pytest.raises(OutOfMemory, match="No room") as caught:
        await studio.generate(_request())
    assert caught.value.details == {"index": 0}


@pytest.mark.parametrize(
    ("code", "kind"), [("storage", StorageError), ("engine_fault", EngineFault), ("unheard_of", Exception)]
)
def test_failures_become_errors_of_their_kind(code: str, kind: type[Exception]) -> None:
    assert isinstance(raised(Failed(message="m", code=code)), kind)


async def test_closing_early_cancels_the_backend(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with aclosing(_studio(tmp_path, backend).run(_request())) as events:
        async for event in events:
            if isinstance(event, Progress):
                break
    assert backend.cancelled == 1


async def test_requests_run_at_the_same_time(tmp_path: Path) -> None:
    studio = _studio(tmp_path, FakeBackend())
    several = await asyncio.gather(*(studio.generate(_request(seed=seed)) for seed in range(4)))
    assert [pictures[0].recipe.plan.seed for pictures in several] == [0, 1, 2, 3]


# --- backends


async def test_an_unknown_backend_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        await _studio(tmp_path).generate(_request(backend="comfy"))
    assert caught.value.message == "There is no backend `comfy`. Choose one of: comfyui, fake, native, openai, runpod."


async def test_a_backend_is_found_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(settings: Settings) -> FakeBackend:
        return FakeBackend(models=("from-entry-point",))

    class Point(EntryPoint):
        def load(self) -> Any:
            return make

    point = Point("mine", "somewhere:else", studio_module.ENTRY_POINTS)

    monkeypatch.setattr(studio_module, "_installed", lambda: EntryPoints([point]))
    assert backend_names() == ["comfyui", "fake", "mine", "native", "openai", "runpod"]
    assert _studio(tmp_path).capabilities("mine").models == ("from-entry-point",)


def test_missing_packages_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio_module, "NATIVE_PACKAGES", ("click", "no_such_torch"))
    with pytest.raises(ConfigError) as caught:
        _studio(tmp_path).backend("native")
    assert caught.value.message == (
        "Backend `native` needs packages that are not installed: no_such_torch. "
        "Install them with: pip install 'limner[native]'"
    )


async def test_what_a_backend_cannot_do_is_refused(tmp_path: Path) -> None:
    class Plain(FakeBackend):
        def capabilities(self) -> Capabilities:
            return Capabilities(("m",), ("euler",), ("simple",), previews=False, adapters=False, references=False)

    gradient().save(tmp_path / "cat.png")
    _adapter(tmp_path / "adapters" / "pen.safetensors", {})
    studio = _studio(tmp_path, Plain())
    for fields, told in (
        ({"sampler": "heun"}, r"has no sampler `heun`\. Choose one of: euler\."),
        ({"schedule": "beta"}, r"has no schedule `beta`"),
        ({"adapters": [{"name": "pen"}]}, "cannot use adapters"),
        ({"references": [{"path": str(tmp_path / "cat.png")}]}, "cannot start from a picture"),
    ):
        with pytest.raises(Unsupported, match=told):
            await studio.generate(_request(**fields))


async def test_a_backend_that_paints_whole_pictures_only_refuses_a_mask(tmp_path: Path) -> None:
    class Whole(FakeBackend):
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities(), masks=False)

    gradient().save(tmp_path / "cat.png")
    file = {"path": str(tmp_path / "cat.png")}
    with pytest.raises(Unsupported, match="cannot keep a part of a picture"):
        await _studio(tmp_path, Whole()).generate(_request(references=[file], mask=file))


async def test_backends_are_made_once_and_closed_with_the_studio(tmp_path: Path) -> None:
    studio = _studio(tmp_path)
    first = studio.backend("fake")
    assert studio.backend("fake") is first
    await studio.aclose()
    assert studio.backend("fake") is not first


async def test_every_picture_of_the_run_is_an_event_with_its_bytes(tmp_path: Path) -> None:
    events = [e async for e in _studio(tmp_path).run(_request(count=2)) if isinstance(e, ImageGenerated)]
    assert [len(event.rgb) for event in events] == [64 * 64 * 3] * 2
