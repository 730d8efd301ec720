"""`--like` notices when what made a picture is no longer what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from limner.cli.like import Original
from limner.config import load_settings
from limner.domain import AdapterOutcome, AdapterStatus, OutputSettings, Recipe
from limner.media.saving import save_picture
from tests.support.records import recipe as make_recipe


def _with_lora(sha256: str) -> Recipe:
    outcome = AdapterOutcome(
        name="ink", requested_weight=1.0, status=AdapterStatus.APPLIED, matched=2, total=2, sha256=sha256
    )
    return make_recipe().model_copy(update={"adapters": (outcome,)})


def test_another_lora_file_of_the_same_name_is_noticed(tmp_path: Path) -> None:
    recipe = _with_lora("a" * 64)
    path = save_picture(Image.new("RGB", (64, 64)), tmp_path, "picture", recipe, OutputSettings())
    original = Original(path)
    assert original.differences(recipe) == ""
    assert "LoRA `ink` is not the file that" in original.differences(_with_lora("b" * 64))


def test_another_checkpoint_is_noticed(tmp_path: Path) -> None:
    recipe = make_recipe()
    path = save_picture(Image.new("RGB", (64, 64)), tmp_path, "picture", recipe, OutputSettings())
    other = recipe.model_copy(update={"checkpoint_sha256": "f" * 64})
    assert "is not the one that made" in Original(path).differences(other)


@pytest.mark.parametrize(
    ("painted_with", "device", "set_here", "used"),
    [
        (1, "cpu", None, 1),
        (1, "cpu", 2, 2),
        (10**6, "cpu", None, 8),
        (None, "cpu", None, None),
        (1, "cuda", None, None),
    ],
)
def test_it_is_made_again_with_as_many_threads_unless_the_settings_say_how_many(
    painted_with: int | None,
    device: str,
    set_here: int | None,
    used: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    recipe = make_recipe().model_copy(update={"threads": painted_with, "device": device})
    path = save_picture(Image.new("RGB", (64, 64)), tmp_path, "picture", recipe, OutputSettings())
    settings = load_settings({"native": {"threads": set_here}}, environ={})
    assert Original(path).repeating(settings).native.threads == used
