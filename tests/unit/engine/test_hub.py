"""Fetching from the hub: what is chosen, what an interruption keeps, what is believed, and what errors say."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from limner.engine import hub as fetching
from limner.engine.hub import FetchPlan, fetch, looks_like_hub_id, plan_fetch
from limner.engine.hub_files import RemoteFile, choose
from limner.errors import BrokenCheckpoint, Conflict, InvalidRequest, NotFound, Refused, StorageFull, Unreachable
from tests.support.hub import COMMIT, Hub, blob_id, serving

NAME = "owner/tiny-model"
WEIGHTS = bytes(range(256)) * 64
FILES = {
    "model_index.json": b'{"_class_name": "ZImagePipeline"}',
    "transformer/config.json": b"{}",
    "transformer/diffusion_pytorch_model.safetensors": WEIGHTS,
    "tokenizer/merges.txt": b"a b\n",
    "tokenizer/chat_template.jinja": b"{{ x }}",
    "README.md": b"# words",
    "pytorch_model.bin": b"\x80\x02",
    ".gitattributes": b"",
}
FETCHED = ["model_index.json", "tokenizer/chat_template.jinja", "tokenizer/merges.txt", "transformer/config.json",
           "transformer/diffusion_pytorch_model.safetensors"]  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one small model, and no token or cache of this machine."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(fetching, "PAUSES_S", (0.0,))
    with serving(Hub({NAME: dict(FILES)})) as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_repository_is_fetched_as_it_is_without_pickles(hub: Hub, tmp_path: Path) -> None:
    plan = plan_fetch(NAME, tmp_path)
    told: list[tuple[str, int, int]] = []
    paths = fetch(plan, lambda name, done, size: told.append((name, done, size)))
    folder = tmp_path / "fetched" / "owner" / "tiny-model"
    assert plan.revision == COMMIT
    assert names(folder) == FETCHED
    assert (folder / FETCHED[-1]).read_bytes() == WEIGHTS
    assert sorted(paths) == [folder / name for name in FETCHED]
    assert told[-1][1] == told[-1][2]
    assert {name for name, _, _ in told} == set(FETCHED)


def test_what_is_here_is_not_fetched_again_unless_it_differs(hub: Hub, tmp_path: Path) -> None:
    fetch(plan_fetch(NAME, tmp_path))
    hub.asked.clear()
    fetch(plan_fetch(NAME, tmp_path))
    assert hub.ranges() == []
    hub.repositories[NAME][FETCHED[-1]] = WEIGHTS[::-1]  # another revision of the same size
    hub.repositories[NAME]["transformer/config.json"] = b"[]"
    (first, *_) = fetch(plan_fetch(NAME, tmp_path))
    folder = tmp_path / "fetched" / "owner" / "tiny-model"
    assert hub.ranges() == ["", ""]
    assert (folder / FETCHED[-1]).read_bytes() == WEIGHTS[::-1]
    assert (folder / "transformer/config.json").read_bytes() == b"[]"
    assert first.is_file()


def test_an_interrupted_file_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    plan = plan_fetch(NAME, tmp_path, files=[FETCHED[-1]])
    hub.break_after = 0
    with pytest.raises(Unreachable, match="run the command again to go on there"):
        fetch(plan)
    partial = next(plan.folder.rglob("*.partial"))
    # As a process leaves it that was killed in the middle.
    partial.write_bytes(WEIGHTS[:5000])
    assert not (plan.folder / FETCHED[-1]).exists()
    hub.asked.clear()
    hub.break_after = None
    (path,) = fetch(plan_fetch(NAME, tmp_path, files=[FETCHED[-1]]))
    assert path.read_bytes() == WEIGHTS
    assert hub.ranges() == ["bytes=5000-"]
    assert names(plan.folder) == [FETCHED[-1]]


def test_a_connection_that_breaks_again_and_again_still_arrives(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = 6000
    (path,) = fetch(plan_fetch(NAME, tmp_path, files=[FETCHED[-1]]))
    assert path.read_bytes() == WEIGHTS
    assert hub.ranges() == ["", "bytes=6000-", "bytes=12000-"]


@pytest.mark.parametrize("name", [FETCHED[-1], "transformer/config.json"])
def test_damaged_bytes_are_never_kept(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.damaged = {name}
    with pytest.raises(BrokenCheckpoint, match="arrived damaged: its checksum is wrong"):
        fetch(plan_fetch(NAME, tmp_path, files=[name]))
    assert names(tmp_path) == []
    hub.damaged = set()
    (path,) = fetch(plan_fetch(NAME, tmp_path, files=[name]))
    assert path.read_bytes() == FILES[name]


def test_a_partial_file_that_was_spoilt_is_found_out(hub: Hub, tmp_path: Path) -> None:
    plan = plan_fetch(NAME, tmp_path, files=[FETCHED[-1]])
    partial = plan.folder / f"{FETCHED[-1]}.{hashlib.sha256(WEIGHTS).hexdigest()[:12]}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 5000)
    with pytest.raises(BrokenCheckpoint, match="It was removed"):
        fetch(plan)
    partial.write_bytes(b"x" * (len(WEIGHTS) + 1))
    assert fetch(plan)[0].read_bytes() == WEIGHTS


def test_two_processes_do_not_write_into_one_file(hub: Hub, tmp_path: Path) -> None:
    import fcntl

    plan = plan_fetch(NAME, tmp_path, files=[FETCHED[-1]])
    partial = plan.folder / f"{FETCHED[-1]}.{hashlib.sha256(WEIGHTS).hexdigest()[:12]}.partial"
    partial.parent.mkdir(parents=True)
    with partial.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="fetched by another process"):
            fetch(plan)


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_licence_that_was_not_accepted_says_how(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    hub.gated, hub.token = {NAME}, "right"
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(Refused, match=f"Open {hub.url}/{NAME}, accept it there, then set HF_TOKEN"):
        fetch(plan_fetch(NAME, tmp_path))
    monkeypatch.setenv("HF_TOKEN", "right")
    assert fetch(plan_fetch(NAME, tmp_path, files=[FETCHED[0]]))[0].is_file()


def test_an_unknown_repository_names_the_nearest(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"no repository `owner/tiny-modle`.*Near: `{NAME}`"):
        plan_fetch("owner/tiny-modle", tmp_path)


def test_an_unknown_revision_names_those_that_are_there(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no revision `v2`\. There are `main`"):
        plan_fetch(NAME, tmp_path, revision="v2")


def test_a_file_that_vanished_meanwhile_is_named(hub: Hub, tmp_path: Path) -> None:
    plan = plan_fetch(NAME, tmp_path)
    del hub.repositories[NAME]["transformer/config.json"]
    with pytest.raises(NotFound, match=r"has no file `transformer/config.json` any more"):
        fetch(plan)


def test_a_dead_network_says_so(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="does not answer"):
        plan_fetch(NAME, tmp_path)


def test_offline_is_respected(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Unreachable, match="HF_HUB_OFFLINE is set"):
        plan_fetch(NAME, tmp_path)
    assert hub.asked == []


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    def nearly_full(path: object) -> Usage:
        return Usage(1000)

    plan = plan_fetch(NAME, tmp_path)
    hub.asked.clear()
    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    with pytest.raises(StorageFull, match="Make room, or choose fewer files"):
        fetch(plan)
    assert hub.asked == []


def test_a_disk_that_fills_up_meanwhile_keeps_what_has_arrived(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    plan = plan_fetch(NAME, tmp_path, files=[FETCHED[-1]])
    with pytest.raises(StorageFull, match="What has arrived is kept"):
        fetch(plan)
    assert next(plan.folder.rglob("*.partial")).stat().st_size == len(WEIGHTS)


def remote(*files: str) -> list[RemoteFile]:
    return [RemoteFile(name, 2**30, "", blob_id(name.encode())) for name in files]


def chosen(*files: str, **how: list[str]) -> tuple[list[str], dict[str, str]]:
    kept, left = choose(NAME, remote(*files), **how)
    return [file.name for file in kept], dict(left)


def test_the_same_weights_are_fetched_once() -> None:
    kept, left = chosen(
        "model_index.json",
        "sd_xl_base.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00002-of-00002.safetensors",
        "text_encoder/model.safetensors.index.json",
        "text_encoder/model.safetensors.index.fp16.json",
        "vae/diffusion_pytorch_model.safetensors",
        "safety_checker/model.safetensors",
    )
    assert kept == [
        "model_index.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00002-of-00002.safetensors",
        "text_encoder/model.safetensors.index.fp16.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert left["sd_xl_base.safetensors"] == "the same weights as in the folders"
    assert "half-precision" in left["unet/diffusion_pytorch_model.safetensors"]
    assert "safety_checker/model.safetensors" in left


def test_the_index_of_shards_that_are_left_out_is_left_out_too() -> None:
    shards = ["d-00001-of-00002.safetensors", "d-00002-of-00002.safetensors", "d.safetensors.index.json"]
    assert chosen(*shards, "d.fp16.safetensors", "config.json")[0] == ["d.fp16.safetensors", "config.json"]
    assert chosen(*shards, "config.json")[0] == [*shards, "config.json"]


def test_of_two_half_precisions_one_is_fetched() -> None:
    sharded = ["d.bf16-00001-of-00002.safetensors", "d.bf16-00002-of-00002.safetensors"]
    index = "d.safetensors.index.bf16.json"
    kept, left = chosen("d.safetensors", "d.fp16.safetensors", *sharded, index, "vae/e.bf16.safetensors")
    assert kept == ["d.fp16.safetensors", "vae/e.bf16.safetensors"]
    assert left[sharded[0]] == "the fp16 file holds the same weights"


def test_several_quantisations_have_to_be_chosen_from() -> None:
    with pytest.raises(InvalidRequest, match=r"has 2 GGUF files: `a-Q4_0.gguf` \(1.0 GB\).*Choose one with --file"):
        chosen("a-Q4_0.gguf", "a-Q8_0.gguf")
    assert chosen("a-Q4_0.gguf", "a-Q8_0.gguf", files=["a-Q8_0.gguf"])[0] == ["a-Q8_0.gguf"]
    assert chosen("x/a-Q4_0.gguf", "a-Q8_0.gguf", include=["*Q4*"])[0] == ["x/a-Q4_0.gguf"]


def test_what_cannot_be_used_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidRequest, match=r"its weights are pickles \(`pytorch_model.bin`\)"):
        chosen("pytorch_model.bin", "config.json")
    with pytest.raises(InvalidRequest, match="has no safetensors or GGUF files"):
        chosen("config.json")
    with pytest.raises(InvalidRequest, match="is neither safetensors nor GGUF"):
        chosen("a.bin", "b.safetensors", files=["a.bin"])
    with pytest.raises(NotFound, match=r"has no file `a-q8.gguf`\. Near: `a-Q8_0.gguf`"):
        chosen("a-Q8_0.gguf", files=["a-q8.gguf"])
    with pytest.raises(NotFound, match=r"matches `\*.q9`"):
        chosen("a-Q8_0.gguf", include=["*.q9"])


def test_names_that_lead_out_of_the_folder_are_never_fetched() -> None:
    assert chosen("../evil.json", "/etc/x.json", "a/../../b.json", ".git/c.json", "d.safetensors")[0] == [
        "d.safetensors"
    ]


@pytest.mark.parametrize(
    ("text", "is_one"), [("a/b", True), ("a/b.c-d_1", True), ("a", False), ("a/b/c", False), ("../b", False)]
)
def test_names_of_repositories_are_told_from_paths(text: str, is_one: bool, tmp_path: Path) -> None:
    assert looks_like_hub_id(text) is is_one
    if not is_one:
        with pytest.raises(InvalidRequest, match="Write it as `owner/name`"):
            plan_fetch(text, tmp_path)


def test_the_size_of_a_plan_is_that_of_its_files() -> None:
    assert FetchPlan(NAME, COMMIT, Path(), tuple(remote("a", "b")), ()).size_bytes == 2**31
