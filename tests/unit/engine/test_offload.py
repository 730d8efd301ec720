"""Where weights rest: the decision, from sizes alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limner.engine import offload
from limner.engine.offload import TILE_BELOW_BYTES, Wish, choose_offload, memory_of

GB = 1_000_000_000
FLUX = {"transformer": 24 * GB, "text_encoder": GB, "text_encoder_2": 9 * GB, "vae": GB}


@pytest.mark.parametrize(
    ("room", "mode"), [(35 * GB, "none"), (35 * GB - 1, "model"), (34 * GB, "model"), (34 * GB - 1, "group")]
)
def test_the_first_mode_that_fits_is_taken_and_said(room: int, mode: str) -> None:
    plan = choose_offload("cuda", room, FLUX)
    assert plan.mode == mode
    assert bool(plan.notes) == (mode != "none")


def test_text_encoders_are_on_the_device_together() -> None:
    assert choose_offload("cuda", 33 * GB + GB // 2, FLUX).mode == "group"


@pytest.mark.parametrize("wish", ["none", "model", "group"])
def test_a_wish_is_followed_on_cuda_whatever_fits(wish: Wish) -> None:
    assert [choose_offload("cuda", room, FLUX, wish=wish).mode for room in (GB, 100 * GB)] == [wish, wish]
    assert choose_offload("cuda", GB, FLUX, wish=wish).notes == ()


@pytest.mark.parametrize("wish", ["auto", "group"])
def test_a_family_whose_layers_cannot_come_singly_keeps_its_denoiser_on_the_device(wish: Wish) -> None:
    plan = choose_offload("cuda", 10 * GB, FLUX, wish=wish, groups=False)
    assert plan.mode == "model" and "cannot be brought singly" in plan.notes[0]


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_where_memory_is_shared_offloading_means_nothing_and_that_is_said(device: str) -> None:
    plan = choose_offload(device, GB, FLUX, wish="group")
    assert plan.mode == "none" and f"no meaning on `{device}`" in plan.notes[0]
    assert choose_offload(device, GB, FLUX) == choose_offload(device, 100 * GB, FLUX, wish="none")


def test_pictures_are_tiled_by_themselves_where_little_memory_is_left_beside_the_weights() -> None:
    room = 35 * GB + TILE_BELOW_BYTES
    assert [choose_offload("cuda", size, FLUX).tiles for size in (room, room - 1)] == [False, True]
    assert [choose_offload("cuda", room, FLUX, vae_tiling=wish).tiles for wish in (True, False)] == [True, False]
    assert [choose_offload("cpu", 0, FLUX, vae_tiling=wish).tiles for wish in (True, False, None)] == [
        True,
        False,
        False,
    ]


def test_a_container_has_the_memory_that_it_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(offload, "_CGROUP", tmp_path)
    free, total = memory_of(torch.device("cpu"))
    assert 0 < free <= total
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 400000\ninactive_file 200000\n")
    assert memory_of(torch.device("cpu"))[1] == total
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory_of(torch.device("cpu")) == (500_000, 1_000_000)
