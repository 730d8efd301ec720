"""Networks leave memory singly under a budget, come back when they are wanted, and nobody notices."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from limner.engine import residency as module
from limner.engine.families.port import Row
from limner.engine.layers import bring_layers_singly
from limner.engine.offload import OffloadPlan
from limner.engine.residency import Checkpoint, Places, Residency
from limner.errors import BrokenCheckpoint, NotFound
from tests.support import small_flux, small_unet
from tests.support.checkpoints import TRANSFORMER, original_transformer, save_folder, save_split, tiny_components, write

EVERYTHING = 10**9


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders that share nothing (`tiny`, `other`), and two split files that share all but the denoiser."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("tiny", "other")):
        save_folder(tiny_components(seed), folder / name)
    one = save_split(tiny_components(2), folder, "one")
    other = original_transformer(tiny_components(3).transformer)
    write(other, one.with_name("two.safetensors"), {name: TRANSFORMER[name] for name in ("axes_dims", "axes_lens")})
    return folder


def residency(models: Path, budget: int = EVERYTHING, busy: Collection[Checkpoint] = ()) -> Residency:
    return Residency(Places(models, Path("nowhere"), "tiny", "cpu", memory_budget_bytes=budget), lambda: list(busy))


def held(checkpoint: Checkpoint) -> set[str]:
    return {name for name, size in checkpoint.memory_bytes.items() if size}


def painted(checkpoint: Checkpoint, prompt: str = "a red boat") -> Tensor:
    """Something that every component has a part in."""
    family = checkpoint.family
    latent = family.encode_picture(torch.linspace(-1, 1, 3 * 64 * 64).view(3, 64, 64))
    (answer,) = family.predict([Row(latent, 0.7, family.encode_text(prompt))])
    return family.decode(latent - 0.7 * answer)


def size(checkpoint: Checkpoint) -> int:
    return sum(checkpoint.memory_bytes.values())


def evict(checkpoint: Checkpoint) -> None:
    for network in checkpoint.family.networks().values():
        checkpoint.held.evict(network)


def test_what_was_taken_out_comes_back_the_same_to_the_bit(models: Path) -> None:
    checkpoint = residency(models).get("tiny")
    whole = checkpoint.memory_bytes
    before, other = painted(checkpoint), painted(checkpoint, "blue")
    evict(checkpoint)
    networks = checkpoint.family.networks()
    assert held(checkpoint) == {"transformer"}
    assert all(tensor.is_meta for name in ("text_encoder", "vae") for tensor in networks[name].parameters())
    layouts = [tensor.stride() for tensor in networks["vae"].parameters()]
    assert torch.equal(painted(checkpoint), before)
    assert held(checkpoint) == {"transformer", "vae"}, "a prompt that is known needs no text encoder"
    checkpoint.family.encode_text("house")
    evict(checkpoint)
    fresh = residency(models).get("tiny")
    assert torch.equal(painted(checkpoint, "tree"), painted(fresh, "tree"))
    assert torch.equal(painted(fresh, "blue"), other)
    assert checkpoint.memory_bytes == whole
    assert [tensor.stride() for tensor in networks["vae"].parameters()] == layouts


def test_checkpoints_on_the_same_files_load_and_count_them_once(models: Path) -> None:
    store = residency(models)
    one, two = store.get("one"), store.get("two")
    first, second = one.family.networks(), two.family.networks()
    assert first["vae"] is second["vae"] and first["text_encoder"] is second["text_encoder"]
    assert first["transformer"] is not second["transformer"]
    assert one.held.held_bytes() == size(one) + two.memory_bytes["transformer"]


def test_folders_of_links_to_the_same_files_share_their_networks(tmp_path: Path) -> None:
    whole = save_folder(tiny_components(), tmp_path / "one")
    for file in [file for file in whole.rglob("*") if file.is_file()]:
        link = tmp_path / "two" / file.relative_to(whole)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    changed = tmp_path / "two" / "vae" / "config.json"
    store = residency(tmp_path)
    one, two = (store.get(name).family.networks() for name in ("one", "two"))
    assert one["text_encoder"] is two["text_encoder"] and one["vae"] is two["vae"]
    text = changed.read_text("utf-8")
    changed.unlink()
    changed.write_text(text.replace("0.3611", "0.5"), "utf-8")
    fresh = residency(tmp_path)
    one, two = (fresh.get(name).family.networks() for name in ("one", "two"))
    assert one["text_encoder"] is two["text_encoder"] and one["vae"] is not two["vae"]


def test_a_checkpoint_of_several_names_is_loaded_once(models: Path) -> None:
    store = residency(models)
    named = store.get("one")
    path = models / "diffusion_models" / "one.safetensors"
    assert store.get("one.safetensors") is named and store.get(str(path)) is named
    assert store.get("two") is not named
    assert store.get(str(path)) is named and store.loaded() == (store.get("two"), named)
    store.drop(named)
    assert store.loaded() == (store.get("two"),) and store.used_at(named) == 0
    again = store.get(str(path))
    assert again is not named and store.get("one") is again


def test_what_is_used_is_noted_for_each_checkpoint_not_each_name(tmp_path: Path, models: Path) -> None:
    store = residency(models)
    inside = store.get("tiny")
    outside = store.get(str(save_folder(tiny_components(5), tmp_path / "tiny")))
    assert inside.name == outside.name and inside is not outside
    store.drop(outside)
    assert store.used_at(inside) > 0


def test_weights_that_were_replaced_are_loaded_anew_and_never_hashed_for_the_old(tmp_path: Path) -> None:
    folder, other = save_folder(tiny_components(), tmp_path / "tiny"), save_folder(tiny_components(1), tmp_path / "new")
    file = "transformer/diffusion_pytorch_model.safetensors"
    store = residency(tmp_path)
    hashed, unhashed = store.get("tiny"), residency(tmp_path).get("tiny")
    before, sha256 = painted(hashed), hashed.sha256
    (other / file).replace(folder / file)
    assert (hashed.sha256, unhashed.sha256) == (sha256, "")
    assert torch.equal(painted(unhashed), before)
    fresh = store.get("tiny")
    assert fresh is not hashed and store.loaded() == (fresh,) and store.get("tiny") is fresh
    assert fresh.sha256 not in ("", sha256) and not torch.equal(painted(fresh), before)


def test_what_was_used_longest_ago_leaves_first_and_the_checkpoint_last(models: Path) -> None:
    whole = size(residency(models).get("tiny"))
    reader = residency(models).get("tiny").memory_bytes["text_encoder"]
    store = residency(models, 2 * whole - reader)
    tiny = store.get("tiny")
    painted(tiny)
    tiny.family.encode_text("sea")
    painted(tiny)
    other = store.get("other")
    assert (held(tiny), held(other)) == ({"transformer", "vae"}, {"transformer", "text_encoder", "vae"})
    assert store.loaded() == (tiny, other)
    # Its text encoder is wanted again: another one goes for it, and no denoiser.
    painted(tiny, "house")
    assert "text_encoder" in held(tiny) and "transformer" in held(other)
    assert tiny.held.held_bytes() <= 2 * whole - reader
    counted = tiny.held
    del tiny, other
    assert store.get("one") in store.loaded() and counted.held_bytes() <= 2 * whole - reader


def test_a_budget_for_one_keeps_one(models: Path) -> None:
    whole = size(residency(models).get("tiny"))
    store = residency(models, whole)
    for name in ("tiny", "other", "tiny"):
        checkpoint = store.get(name)
        painted(checkpoint)
        assert [entry.name for entry in store.loaded()] == [name]
        assert checkpoint.held.held_bytes() == size(checkpoint) == whole


def test_a_picture_under_way_keeps_its_denoiser_and_vae(models: Path) -> None:
    busy: list[Checkpoint] = []
    store = residency(models, 0, busy)
    tiny = store.get("tiny")
    busy.append(tiny)
    expected = painted(tiny)
    other = store.get("other")
    assert held(tiny) == {"transformer", "vae"} and tiny in store.loaded()
    assert torch.equal(painted(tiny), expected)
    busy.clear()
    other = store.get("other")
    painted(other)
    store.get("one")
    assert [entry.name for entry in store.loaded()] == ["one"]


def test_more_than_the_budget_is_painted_all_the_same_and_said(models: Path) -> None:
    tight, roomy = residency(models, 1).get("tiny"), residency(models).get("tiny")
    assert torch.equal(painted(tight), painted(roomy))
    assert "more than the memory budget" in tight.notes[0] and roomy.notes == ()


def test_weights_that_were_replaced_meanwhile_are_not_mixed_in(tmp_path: Path) -> None:
    folder = save_folder(tiny_components(), tmp_path / "tiny")
    checkpoint = residency(tmp_path).get("tiny")
    evict(checkpoint)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    os.utime(file, ns=(1, 1))
    with pytest.raises(BrokenCheckpoint, match="was replaced"):
        painted(checkpoint)


def test_a_failed_find_leaves_everything_where_it_is(models: Path) -> None:
    store = residency(models, 0)
    tiny = store.get("tiny")
    with pytest.raises(NotFound):
        store.get("tinny")
    assert held(tiny) == {"transformer", "text_encoder", "vae"}


@pytest.mark.parametrize("mode", ["model", "none"])
def test_offloading_by_model_keeps_one_component_beside_the_denoiser(
    models: Path, monkeypatch: pytest.MonkeyPatch, mode: Literal["model", "none"]
) -> None:
    def chosen(*_: Any, **__: Any) -> OffloadPlan:
        return OffloadPlan(mode)

    expected = painted(residency(models).get("tiny"))
    monkeypatch.setattr(module, "choose_offload", chosen)
    checkpoint = residency(models).get("tiny")
    parts = {"model": {"transformer", "vae"}, "none": {"transformer", "text_encoder", "vae"}}[mode]
    assert held(checkpoint) == parts
    assert torch.equal(painted(checkpoint), expected)
    assert held(checkpoint) == parts
    checkpoint.family.encode_text("a tree")
    assert held(checkpoint) == ({"transformer", "text_encoder"} if mode == "model" else parts)


def test_tiles_are_taken_where_they_are_wished(models: Path) -> None:
    places = Places(models, Path("nowhere"), "tiny", "cpu", vae_tiling=True)
    family = Residency(places).get().family
    vae: Any = family.networks()["vae"]
    family.decode(torch.zeros(family.latent_shape(64, 64)))
    assert vae.use_tiling
    plain = residency(models).get().family
    plain.decode(torch.zeros(family.latent_shape(64, 64)))
    assert not vars(plain.networks()["vae"])["use_tiling"]


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of each family with parts of its own, under the family's name."""
    folder = tmp_path_factory.mktemp("families")
    small_flux.save_folder(small_flux.small_flux(), folder / "flux")
    small_unet.save_folder(small_unet.small_unet("sdxl"), folder / "sdxl")
    return folder


def of_family(families: Path, name: str, wish: str = "auto") -> Checkpoint:
    wishes = {"transformer": wish, "text_encoder": wish, "vae": wish}
    checkpoint = Residency(Places(families, Path("nowhere"), name, "cpu", wishes)).get()
    assert checkpoint.family.name == name
    return checkpoint


others = pytest.mark.parametrize("name", ["flux", "sdxl"])


@others
def test_every_family_paints_the_same_with_parts_that_were_out(name: str, families: Path) -> None:
    checkpoint, fresh = of_family(families, name), of_family(families, name)
    before = painted(checkpoint)
    evict(checkpoint)
    assert held(checkpoint) == {"transformer"}
    assert torch.equal(painted(checkpoint), before)
    evict(checkpoint)
    assert torch.equal(painted(checkpoint, "blue"), painted(fresh, "blue"))
    assert not torch.equal(painted(fresh, "blue"), before)


@pytest.mark.parametrize(("wish", "used"), [("bfloat16", torch.bfloat16), ("float16", torch.float32)])
@others
def test_every_family_gives_finite_numbers_in_whatever_was_wished(
    name: str, wish: str, used: torch.dtype, families: Path
) -> None:
    checkpoint = of_family(families, name, wish)
    pixels = painted(checkpoint)
    assert pixels.isfinite().all() and float(pixels.std()) > 0.001
    assert set(checkpoint.precision.values()) == {str(used).removeprefix("torch.")}
    networks = checkpoint.family.networks().values()
    assert {tensor.dtype for network in networks for tensor in network.parameters()} == {used}


@others
def test_layers_that_come_singly_paint_the_same(name: str, families: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = painted(of_family(families, name))

    def chosen(*_: Any, groups: bool, **__: Any) -> OffloadPlan:
        assert groups
        return OffloadPlan("group")

    monkeypatch.setattr(module, "choose_offload", chosen)
    checkpoint = of_family(families, name)
    assert checkpoint.held.held_bytes() == checkpoint.memory_bytes["vae"], "the denoiser rests elsewhere"
    assert torch.equal(painted(checkpoint), expected)


def test_the_budget_is_a_share_of_what_is_free_at_the_start(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [0]

    def memory(_: torch.device) -> tuple[int, int]:
        return free[0], 10**12

    monkeypatch.setattr(module, "memory_of", memory)
    places = Places(models, Path("nowhere"), "tiny", "cpu")
    whole = size(residency(models).get("tiny"))
    for free[0], notes in ((whole, 1), (whole * 2, 0)):
        store = Residency(places)
        assert len(store.get().notes) == notes
        free[0] = 0
        assert len(store.get("other").notes) == notes


def test_a_layers_weights_are_on_the_device_while_it_runs_and_no_longer() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    weights = [parameter.data for parameter in network.parameters()]
    seen: list[list[bool]] = []

    def noted(*_: object) -> None:
        seen.append([parameter.is_meta for parameter in network.parameters()])

    network[1].register_forward_pre_hook(noted)
    bring_layers_singly(network, torch.device("meta"))
    assert network(torch.ones(2, 4)).is_meta
    assert seen == [[False] * 4]
    assert all(p.data_ptr() == data.data_ptr() for p, data in zip(network.parameters(), weights, strict=True))
    with pytest.raises(RuntimeError):
        network(torch.ones(2, 5))
    assert not any(parameter.is_meta for parameter in network.parameters())
