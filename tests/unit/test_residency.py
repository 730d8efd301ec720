"""What is in memory, what it holds, and that it is gone afterwards; with a checkpoint of a few thousand parameters."""

from __future__ import annotations

import asyncio
import gc
import os
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from limner.backends.native import NativeBackend
from limner.backends.settings import NativeSettings
from limner.engine.families.zimage import ZImage
from limner.engine.residency import Residency
from limner.errors import LimnerError, NotFound, OutOfMemory
from limner.events import Done, ImageGenerated, Info, Progress, Warned
from tests.contract.backend_contract import order, run
from tests.support.checkpoints import ENCODER, linear_targets, save_folder, tiny_components


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two checkpoints."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("tiny", "other")):
        save_folder(tiny_components(seed), folder / name)
    return folder


@pytest.fixture
async def make(models: Path) -> AsyncGenerator[Callable[..., NativeBackend]]:
    made: list[NativeBackend] = []

    def make(**settings: Any) -> NativeBackend:
        made.append(NativeBackend(NativeSettings(model="tiny", device="cpu", models_dir=models, **settings)))
        return made[-1]

    yield make
    for backend in made:
        await backend.aclose()


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[ZImage]]:
    """Every family that is made, for as long as it lives."""
    made: list[weakref.ref[ZImage]] = []
    begin = ZImage.__init__

    def noted(self: ZImage, *args: Any) -> None:
        begin(self, *args)
        made.append(weakref.ref(self))

    monkeypatch.setattr(ZImage, "__init__", noted)
    return made


async def until(true: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.02)


async def test_what_is_loaded_tells_the_bytes_of_its_tensors_and_paints_nothing(
    make: Callable[..., NativeBackend],
) -> None:
    backend = make()
    await backend.load("tiny")
    (held,) = backend.loaded().values()
    parts = tiny_components()
    expected = {
        name: sum(tensor.numel() * 4 for tensor in network.parameters())
        for name, network in (("transformer", parts.transformer), ("vae", parts.vae))
    }
    assert {name: held.memory_bytes[name] for name in expected} == expected
    assert held.memory_bytes["text_encoder"] > 4 * sum(a * b for a, b in linear_targets(parts.text_encoder).values())
    assert held.idle_since is not None and abs(time.time() - held.idle_since) < 60
    assert backend.statistics()["engine_steps_total"] == 0


async def test_unloading_waits_for_the_pictures_under_way_and_frees_the_weights(
    make: Callable[..., NativeBackend], families: list[weakref.ref[ZImage]]
) -> None:
    backend = make()
    leaving: asyncio.Task[None] | None = None
    event = None
    async for event in backend.run(order(steps=40)):
        if isinstance(event, Progress) and leaving is None:
            leaving = asyncio.create_task(backend.unload("tiny"))
            assert backend.loaded()["tiny"].idle_since is None
        if isinstance(event, Progress) and event.current < event.total:
            assert leaving is not None and not leaving.done() and backend.loaded()
    assert isinstance(event, Done) and event.status == "completed"
    assert leaving is not None
    await asyncio.wait_for(leaving, 30)
    assert backend.loaded() == {}
    gc.collect()
    assert [family() for family in families] == [None]
    (done,) = [event for event in await run(backend, order()) if isinstance(event, Done)]
    assert done.status == "completed" and len(families) == 2


async def test_weights_replaced_under_a_picture_leave_no_hash_but_a_word(tmp_path: Path) -> None:
    save_folder(tiny_components(), tmp_path / "tiny")
    file = tmp_path / "tiny" / "transformer" / "diffusion_pytorch_model.safetensors"
    backend = NativeBackend(NativeSettings(model="tiny", device="cpu", models_dir=tmp_path))
    try:
        await backend.load("tiny")
        seen: list[Any] = []
        async for event in backend.run(order(steps=20, count=2)):
            if not any(isinstance(before, Progress) for before in seen):
                os.utime(file, ns=(1, 1))
            seen.append(event)
        recipes = [event.recipe for event in seen if isinstance(event, ImageGenerated)]
        assert [recipe.checkpoint_sha256 for recipe in recipes] == ["", ""]
        (warned,) = [event.message for event in seen if isinstance(event, Warned)]
        assert "have changed since they were loaded" in warned and recipes[0].warnings == (warned,)
    finally:
        await backend.aclose()


async def test_tiles_and_lost_previews_are_told(
    make: Callable[..., NativeBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = ZImage.decode

    def cramped(self: ZImage, latent: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        if not tiled:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        return decode(self, latent, tiled)

    def blind(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory (pretended)")

    monkeypatch.setattr(ZImage, "decode", cramped)
    monkeypatch.setattr(ZImage, "preview", blind)
    events = await run(make(), order(count=2))
    recipes = [event.recipe for event in events if isinstance(event, ImageGenerated)]
    (warned,) = [event.message for event in events if isinstance(event, Warned)]
    assert "decoded in tiles" in warned and [recipe.warnings for recipe in recipes] == [(warned,)] * 2
    assert [event.code for event in events if isinstance(event, Info)] == ["no_preview"]


async def test_who_gives_up_unloading_keeps_the_checkpoint(make: Callable[..., NativeBackend]) -> None:
    backend = make()
    async for event in backend.run(order(steps=40)):
        if isinstance(event, Progress) and event.current == 1:
            leaving = asyncio.create_task(backend.unload("tiny"))
            await asyncio.sleep(0)
            leaving.cancel()
    await backend.load("other")
    assert set(backend.loaded()) == {"tiny", "other"}


async def test_a_load_that_fails_says_why_and_keeps_what_is_painted_with(
    make: Callable[..., NativeBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = make()

    async def failure(work: Awaitable[None]) -> LimnerError:
        with pytest.raises(LimnerError) as caught:
            await work
        return caught.value

    await backend.load("tiny")
    assert isinstance(await failure(backend.load("tinny")), NotFound)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Residency, "_load", full)
    async for event in backend.run(order(steps=40)):
        if isinstance(event, Progress) and event.current == 1:
            assert isinstance(await failure(backend.load("other")), OutOfMemory)
            assert set(backend.loaded()) == {"tiny"}
    # Nothing needs it any more, so that it makes room.
    assert isinstance(await failure(backend.load("other")), OutOfMemory)
    assert backend.loaded() == {}


async def test_what_idles_for_long_leaves_by_itself(
    make: Callable[..., NativeBackend], families: list[weakref.ref[ZImage]]
) -> None:
    backend = make(unload_after_s=0.5)
    await run(backend, order())
    await until(lambda: not backend.loaded())
    gc.collect()
    assert [family() for family in families] == [None]


async def test_a_checkpoint_of_a_path_is_the_same_under_its_name(models: Path, families: list[Any]) -> None:
    backend = NativeBackend(NativeSettings(model_path=models / "tiny", device="cpu", models_dir=models))
    try:
        await backend.load("tiny")
        await run(backend, order())
        assert len(families) == 1
        await backend.unload("tiny")
        assert backend.loaded() == {}
    finally:
        await backend.aclose()


async def test_memory_returns_to_its_level_after_many_switches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    # Padded, so that a leak of any component shows; stored in half, so that loading copies and nothing stays mapped.
    monkeypatch.setitem(ENCODER, "intermediate_size", 20_000)
    for seed, name in enumerate(names := ("one", "two", "three")):
        parts = tiny_components(seed, torch.bfloat16, dim=256, n_heads=16, n_kv_heads=16)
        save_folder(parts, tmp_path / name)
    backend = NativeBackend(
        NativeSettings(model="one", device="cpu", models_dir=tmp_path, memory_budget_mb=45, previews=False)
    )
    try:

        async def switch(turn: int) -> None:
            (done,) = [e for e in await run(backend, order(steps=1, model=names[turn % 3])) if isinstance(e, Done)]
            assert done.status == "completed"

        for turn in range(4):
            await switch(turn)
        single = sum(held.memory_bytes["transformer"] for held in backend.loaded().values())
        before = levels()
        for turn in range(4, 24):
            await switch(turn)
        after = levels()
        record_property("megabytes_before_and_after", (before, after, single))
        assert single > 12_000_000 and len(backend.loaded()) == 1
        # One checkpoint is 30 MB; twenty that stayed would be 600.
        assert after[1] <= before[1] + 1_000_000
        assert after[0] <= before[0] + 30_000_000
    finally:
        await backend.aclose()


def levels() -> tuple[int, int]:
    """Bytes that this process holds (RSS), and those of all tensors, each storage once."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor) and not thing.is_meta]
    storages = {storage.data_ptr(): storage.nbytes() for storage in (each.untyped_storage() for each in tensors)}
    return psutil.Process().memory_info().rss, sum(storages.values())
