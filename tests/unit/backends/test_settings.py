"""The connections of remote backends, as the environment and files give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.config import Settings, load_settings
from limner.errors import ConfigError
from limner.studio import Studio


def loaded(folder: Path, **environ: str) -> Settings:
    return load_settings(environ={"LIMNER_HOME": str(folder)} | environ, folder=folder)


def test_the_names_of_the_kontext_service_are_understood_and_ours_go_first(tmp_path: Path) -> None:
    found = loaded(tmp_path, COMFYUI_URL="http://a:8188/, https://b/comfy", COMFYUI_TIMEOUT="120").comfyui
    assert (found.url, found.timeout_s) == (("http://a:8188", "https://b/comfy"), 120)
    assert found.templates_dir == tmp_path / "comfyui"
    ours = loaded(tmp_path, COMFYUI_URL="http://a", LIMNER_COMFYUI__URL="http://c")
    assert ours.comfyui.url == ("http://c",)


@pytest.mark.parametrize("url", ["localhost:8188", "ftp://a", "http://", "http://a:0", "http://a?b=c"])
def test_an_address_that_is_none_is_refused_at_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"`comfyui\.url.*Give an address such as"):
        loaded(tmp_path, LIMNER_COMFYUI__URL=url)


def test_the_key_is_a_secret_of_the_environment(tmp_path: Path) -> None:
    found = loaded(tmp_path, LIMNER_OPENAI__API_KEY="sk-1", LIMNER_OPENAI__FIELDS="seed,negative_prompt").openai
    assert "sk-1" not in repr(found)
    assert found.fields == ("seed", "negative_prompt")
    (tmp_path / "limner.toml").write_text('[openai]\napi_key = "sk-1"\n')
    with pytest.raises(ConfigError, match="LIMNER_OPENAI__API_KEY"):
        loaded(tmp_path)


@pytest.mark.parametrize("name", ["comfyui", "openai"])
def test_a_backend_without_an_address_says_what_to_set(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"Backend `{name}` needs an address\. Set `{name}"):
        Studio(loaded(tmp_path)).capabilities(name)


async def test_both_are_made_from_the_settings(tmp_path: Path) -> None:
    settings = loaded(tmp_path, COMFYUI_URL="http://a", LIMNER_OPENAI__BASE_URL="https://b.example/v1")
    async with Studio(settings) as studio:
        assert studio.capabilities("comfyui").models[0] == "zimage-three-stage"
        assert studio.capabilities("openai").models == ("gpt-image-1",)
