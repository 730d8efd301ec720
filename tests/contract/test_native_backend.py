"""The native backend keeps the contract, with a checkpoint of a few thousand parameters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.backends.native import Mailbox, NativeBackend
from limner.backends.settings import NativeSettings
from limner.errors import AdapterMismatch, EngineFault
from limner.events import Info, Progress, Warned
from limner.ports import Backend, Order
from tests.contract.backend_contract import BackendContract, images, order, run
from tests.support.checkpoints import save_folder, tiny_components, write
from tests.support.records import gradient


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_components(), tmp_path_factory.mktemp("checkpoint") / "tiny")


class TestNativeBackend(BackendContract):
    lacks = frozenset({"trouble"})

    @pytest.fixture
    async def backend(self, checkpoint: Path) -> AsyncGenerator[Backend, None]:
        backend = NativeBackend(NativeSettings(model=str(checkpoint), device="cpu", models_dir=checkpoint.parent))
        yield backend
        await backend.aclose()

    @pytest.mark.parametrize("schedule", ["ddim_uniform", "beta"])
    async def test_schedules_of_other_lengths_keep_progress_within_its_bounds(
        self, backend: Backend, schedule: str
    ) -> None:
        events = await run(backend, order(schedule=schedule, steps=30))
        told = [event for event in events if isinstance(event, Progress)]
        assert told[-1].current == told[-1].total == 32
        assert [event.current for event in told] == sorted(event.current for event in told)

    async def test_a_fault_while_reporting_ends_its_order_and_not_the_backend(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("limner.backends.native.versions", lambda: 1 / 0)
            with pytest.raises(EngineFault, match="ZeroDivisionError while reporting"):
                await run(backend, order())
        assert len(images(await run(backend, order()))) == 1

    async def test_an_adapter_that_fits_is_applied_and_leaves_no_trace(self, backend: Backend, tmp_path: Path) -> None:
        (before,), (after,) = images(await run(backend, order())), images(await run(backend, order()))
        changed = images(await run(backend, adapted(ink(tmp_path))))[0]
        assert [(o.status, o.matched, o.total) for o in changed.recipe.adapters] == [("applied", 1, 1)]
        assert changed.rgb != before.rgb
        assert after.rgb == before.rgb == images(await run(backend, order()))[0].rgb

    async def test_an_adapter_may_be_for_some_stages_only(self, backend: Backend, tmp_path: Path) -> None:
        async def painted(*stages: int) -> bytes:
            wanted = adapted(ink(tmp_path), adapters=[{"name": "ink", "stages": stages or None}])
            return images(await run(backend, wanted))[0].rgb

        everywhere, plain = await painted(), images(await run(backend, order()))[0].rgb
        assert everywhere == await painted(0, 1)
        assert len({everywhere, plain, await painted(0), await painted(1)}) == 4

    async def test_an_adapter_that_does_not_fit_is_skipped_with_a_warning_or_refused(
        self, backend: Backend, tmp_path: Path
    ) -> None:
        file = ink(tmp_path, into=33)
        events = await run(backend, adapted(file))
        (image,), (warning,) = images(events), [event for event in events if isinstance(event, Warned)]
        (outcome,) = image.recipe.adapters
        assert (outcome.status, outcome.matched, outcome.total) == ("skipped", 0, 1)
        assert outcome.reason and outcome.reason in warning.message
        assert image.rgb == images(await run(backend, order()))[0].rgb
        with pytest.raises(AdapterMismatch, match="other sizes"):
            await run(backend, adapted(file, on_adapter_mismatch="fail"))

    async def test_what_has_no_effect_is_told(self, backend: Backend) -> None:
        codes = [e.code for e in await run(backend, order(negative_prompt="blue")) if isinstance(e, Info)]
        assert "idle_negative" not in codes, "the first stage is guided"
        start = order(gradient(64, 64), references=[{"path": "any.png"}], denoise=0.9)
        codes = [e.code for e in await run(backend, start) if isinstance(e, Info)]
        assert "idle_reference" in codes, "two steps at 0.9 are the whole schedule"

    async def test_words_that_are_not_known_are_told(self, backend: Backend) -> None:
        events = await run(backend, order(prompt="a Frumious boat"))
        assert [e.code for e in events if isinstance(e, Info)] == ["unknown_words"]
        assert len(images(events)) == 1


def test_a_reader_whose_loop_is_closed_disturbs_nobody() -> None:
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    mailbox.put(Info(message="nobody reads this"))


def ink(folder: Path, into: int = 32) -> Path:
    """A LoRA of one layer of the tiny checkpoint, or of one with other sizes."""
    random = torch.Generator().manual_seed(3)
    stem = "transformer.layers.0.attention.to_q"
    halves = {"lora_A": torch.randn(3, into, generator=random), "lora_B": torch.randn(32, 3, generator=random)}
    return write({f"{stem}.{half}.weight": tensor for half, tensor in halves.items()}, folder / "ink.safetensors")


def adapted(file: Path, **fields: Any) -> Order:
    """An order with that adapter."""
    given: dict[str, Any] = {"adapters": [{"name": "ink"}]} | fields
    wanted = order(**given)
    return replace(wanted, adapter_files=(str(file),))
