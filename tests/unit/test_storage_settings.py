"""From settings to a storage: what goes together, what does not, and where secrets may stand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from limner.config import load_settings
from limner.errors import ConfigError
from limner.service import storage_of
from limner.storage.local import LocalStorage
from limner.storage.s3 import S3Storage
from tests.support.buckets import Bucket

URL = {"url": "s3://pictures/limner"}


def storage(tmp_path: Path, **group: Any) -> Any:
    return storage_of(load_settings({"home": str(tmp_path), "storage": group}, environ={}, folder=tmp_path))


async def test_pictures_are_in_the_home_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    for group, folder in (({}, tmp_path / "pictures"), ({"folder": str(tmp_path / "other")}, tmp_path / "other")):
        found = storage(tmp_path, **group)
        assert isinstance(found, LocalStorage)
        await found.put("a.png", b"x", "image/png")
        assert (folder / "a.png").read_bytes() == b"x"


async def test_a_url_means_a_bucket(tmp_path: Path, bucket: Bucket) -> None:
    for prefix in ("", "studio", "studio/pictures/"):
        found = storage(tmp_path, **bucket.settings(prefix))
        assert isinstance(found, S3Storage)
        await found.put("a.png", b"x", "image/png")
        assert (bucket.folder / prefix / "a.png").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ({"endpoint": "https://s3.example.com"}, r"Set `storage.url` as well, or remove it"),
        ({"secret_access_key": "x"}, r"Set `storage.url` as well, or remove it"),
        (URL | {"folder": "/srv"}, r"Keep the one where pictures shall be"),
        (URL | {"access_key_id": "x"}, r"Set both or neither"),
        (URL | {"endpoint": "http://minio:9000"}, r"set `storage.allow_http` to true"),
        ({"url": "https://s3.example.com/bucket"}, r"`storage.url`.* A good value is \"s3://"),
        ({"url": "s3://bucket/../other"}, r"`storage.url`"),
        ({"url": "s3://Bucket"}, r"`storage.url`"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_said(tmp_path: Path, group: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        storage(tmp_path, **group)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "limner.storage.s3")
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    with pytest.raises(ConfigError, match=r"pip install 'limner\[s3\]'"):
        storage(tmp_path, **URL)


def test_the_secret_comes_from_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    environ = {"LIMNER_STORAGE__SECRET_ACCESS_KEY": "very-secret", "LIMNER_HOME": str(tmp_path)}
    settings = load_settings({"storage": URL | {"access_key_id": "me"}}, environ=environ, folder=tmp_path)
    assert isinstance(storage_of(settings), S3Storage)
    assert settings.storage.secret_access_key
    assert settings.storage.secret_access_key.get_secret_value() == "very-secret"
    for shown in (str(settings), repr(settings), settings.model_dump_json()):
        assert "very-secret" not in shown


def test_a_secret_in_the_file_is_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "limner.toml").write_text('[storage]\nurl = "s3://pictures"\nsecret_access_key = "very-secret"\n')
    with pytest.raises(ConfigError, match="Put it into the variable LIMNER_STORAGE__SECRET_ACCESS_KEY") as caught:
        load_settings(environ={}, folder=tmp_path)
    assert "very-secret" not in caught.value.message
