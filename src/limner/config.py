"""The settings, one tree: flags go before environment variables, these before the file, this before the defaults.

    flags        what the command line or a script gives
    environment  LIMNER_NATIVE__DEVICE=cpu: the path in capitals, two underscores between levels
    file         $LIMNER_CONFIG (TOML or YAML), else ./limner.toml, else limner.toml in the home folder

Nobody fetches settings: `load_settings` is called at the door and the parts are handed down. Every unknown key fails,
in the file and in the environment alike. Paths in a file are relative to that file's folder.
"""

from __future__ import annotations

import base64
import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import platformdirs
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from limner.backends.settings import ComfyUISettings, NativeSettings, OpenAISettings, RunpodSettings
from limner.errors import ConfigError
from limner.validation import UNKNOWN, problems, shown
from limner.workflows.presets import DEFAULT_PRESET, StageChanges

PREFIX = "LIMNER_"
CONFIG_VARIABLE = "LIMNER_CONFIG"
REMOTE_VARIABLE = "LIMNER_REMOTE"
"""Not a setting: where the commands with `--server` send to when that is absent."""

LOG_VARIABLE = "LIMNER_LOG_LEVEL"
"""Not a setting: what `limner serve` and `limner worker` log when `--log-level` is absent."""

NOT_SETTINGS = (CONFIG_VARIABLE, REMOTE_VARIABLE, LOG_VARIABLE)
FILE_NAME = "limner.toml"

Tree = dict[str, Any]

ALIASES: dict[str, str] = {
    "model.path": "native.model_path",
    "model.vae_path": "native.vae_path",
    "model.clip_path": "native.text_encoder_path",
    "model.torch_dtype": "native.dtype",
    "model.device": "native.device",
    "generation.num_inference_steps": "generation.steps",
    "generation.guidance_scale": "generation.cfg",
}
"""Other names for settings, as a `native_image_config.yaml` has them."""

PLAIN_VARIABLES: dict[str, str] = {
    "HOST": "server.host",
    "PORT": "server.port",
    "MAX_FILE_SIZE": "server.max_upload_bytes",
    "MAX_CONCURRENT_TASKS": "jobs.slots",
    "TASK_CLEANUP_DAYS": "jobs.cleanup_days",
    "COMFYUI_URL": "comfyui.url",
    "COMFYUI_TIMEOUT": "comfyui.timeout_s",
}
"""Environment variables without our prefix that are honoured; ours go before them."""

UNSUPPORTED: dict[str, tuple[bool, str]] = {
    "lora.cache_models": (
        True,
        "Adapters stay in memory while the engine runs, and this cannot be turned off",
    ),
    "performance.enable_vae_slicing": (False, "The engine decides by itself how it decodes several pictures"),
}
"""Switches of other programs: the one value that describes what limner does, and why the other cannot be had."""

SWITCHES: dict[str, tuple[str, object]] = {
    "performance.enable_model_cpu_offload": ("native.offload", "model"),
    "performance.enable_vae_tiling": ("native.vae_tiling", True),
}
"""Switches of other programs: the setting, and its value where they are on; where they are off limner decides."""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GenerationSettings(_Group):
    """What pictures are like when the request does not say."""

    preset: str = Field(default=DEFAULT_PRESET, min_length=1, description="preset for requests that name none")
    steps: int | None = Field(
        default=None,
        ge=1,
        le=200,
        description="steps of the first stage of the default preset; the preset's own when absent",
        examples=[9],
    )
    cfg: float | None = Field(
        default=None,
        ge=0,
        le=30,
        description="cfg of the first stage of the default preset; the preset's own when absent",
        examples=[2.0],
    )
    stage1: StageChanges = Field(
        default=StageChanges(), description="changes to the first stage of preset `progressive`"
    )
    stage2: StageChanges = Field(default=StageChanges(), description="changes to its second stage")
    stage3: StageChanges = Field(default=StageChanges(), description="changes to its third stage")


class LoraSettings(_Group):
    """Adapters when the request does not say."""

    default_strength: float = Field(
        default=0.8, ge=-10, le=10, description="weight of an adapter that is named without one on the command line"
    )


class DatabaseSettings(_Group):
    """Where jobs are kept."""

    url: str | None = Field(
        default=None,
        description="`sqlite:///path` or `postgresql://user:password@host/name`; `limner.db` in the home when absent",
        examples=["postgresql://limner@db.internal/limner"],
    )


class StorageSettings(_Group):
    """Where pictures are kept."""

    folder: Path | None = Field(
        default=None, description="folder of pictures; `pictures` in the home when absent", examples=["/srv/pictures"]
    )
    url: str | None = Field(
        default=None,
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*/?$",
        description="`s3://bucket/prefix` keeps pictures in a bucket in place of a folder",
        examples=["s3://pictures/limner"],
    )
    endpoint: str | None = Field(
        default=None,
        description="address of the S3-compatible service, as of R2 and MinIO; Amazon's when absent",
        examples=["https://ACCOUNT.r2.cloudflarestorage.com"],
    )
    region: str | None = Field(
        default=None, min_length=1, description="region of the bucket; `auto` for R2", examples=["eu-central-1"]
    )
    access_key_id: str | None = Field(
        default=None, min_length=1, description="who asks; looked for as the AWS tools do when absent"
    )
    secret_access_key: SecretStr | None = Field(
        default=None, description="belongs to the access key; from the environment only, and never shown"
    )
    allow_http: bool = Field(default=False, description="whether the endpoint may be without TLS")
    timeout_s: float = Field(default=60, ge=1, le=3600, description="seconds that one request to the service may take")


class JobSettings(_Group):
    """How jobs are run."""

    queue: Literal["auto", "table", "procrastinate"] = Field(
        default="auto",
        description="how jobs reach workers: `table` (they look into the database), `procrastinate` (PostgreSQL wakes "
        "them), or `auto`: `procrastinate` on PostgreSQL, `table` on SQLite",
    )
    slots: int = Field(default=32, ge=1, le=1000, description="jobs that one worker runs at a time")
    per_owner: int | None = Field(
        default=None, ge=1, description="jobs of one owner that may run at a time; no limit when absent", examples=[4]
    )
    waiting_limit: int = Field(default=1000, ge=1, description="jobs of one owner that may wait")
    max_attempts: int = Field(default=3, ge=1, le=20, description="how often a job is begun before it fails")
    lease_s: float = Field(default=20.0, ge=1, le=600, description="seconds after which a silent worker loses its jobs")
    cleanup_days: float = Field(
        default=0, ge=0, description="days after which ended jobs and their pictures are removed; 0 keeps them"
    )


class WebhookSettings(_Group):
    """Messages to the addresses that jobs name as their `webhook`."""

    secret: SecretStr | None = Field(
        default=None,
        description="signs messages: `whsec_` and base64 of 24 to 64 bytes; from the environment only",
        examples=["whsec_…"],
    )
    allow_private: bool = Field(
        default=False, description="whether addresses of this machine and of private networks may be told as well"
    )

    @field_validator("secret", mode="after")
    @classmethod
    def _is_of_the_standard_form(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            prefix, mark, text = secret.get_secret_value().partition("whsec_")
            try:
                key = base64.b64decode(text, validate=True)
            except ValueError as error:
                raise ValueError("Write `whsec_` and base64 of 24 to 64 random bytes") from error
            if prefix or not mark or not 24 <= len(key) <= 64:
                raise ValueError("Write `whsec_` and base64 of 24 to 64 random bytes")
        return secret


class ServerSettings(_Group):
    """The HTTP server."""

    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(default=9000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    open: bool = Field(
        default=False, description="whether others than this machine may use the server, which has no accounts yet"
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="origins of web pages that may use the server", examples=[["https://studio.example"]]
    )
    max_upload_bytes: int = Field(default=10 * 2**20, ge=1024, description="largest upload in bytes")
    link_ttl_s: float = Field(default=3600, ge=1, description="seconds that a signed link works")
    secret: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="signs links, the same on all servers of a database; from the environment only; made when absent",
        examples=["at least 32 random characters"],
    )
    url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#]+(/[^?#]*)?$",
        description="address under which others reach the server, for links in webhooks; host and port when absent",
        examples=["https://limner.example"],
    )
    workers: int = Field(default=1, ge=0, le=64, description="worker processes that the server starts and looks after")


def _default_home() -> Path:
    return platformdirs.user_data_path("limner", appauthor=False)


class Settings(BaseSettings):
    """All settings. Build it with `load_settings`, which explains what is wrong."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    home: Path = Field(
        default_factory=_default_home,
        description="folder of checkpoints, adapters and presets, and of jobs and pictures unless other settings say "
        "otherwise; the platform's user data folder when absent",
        examples=["~/limner"],
    )
    backend: str = Field(default="native", min_length=1, description="backend for requests that name none")
    native: NativeSettings = Field(default=NativeSettings(), validate_default=True, description="limner's own engine")
    comfyui: ComfyUISettings = Field(default=ComfyUISettings(), validate_default=True, description="ComfyUI servers")
    openai: OpenAISettings = Field(default=OpenAISettings(), description="a provider with OpenAI's Images API")
    runpod: RunpodSettings = Field(
        default=RunpodSettings(), validate_default=True, description="a serverless endpoint at RunPod"
    )
    generation: GenerationSettings = Field(default=GenerationSettings(), description="defaults of pictures")
    lora: LoraSettings = Field(default=LoraSettings(), description="defaults of adapters")
    server: ServerSettings = Field(default=ServerSettings(), description="the HTTP server")
    webhooks: WebhookSettings = Field(default=WebhookSettings(), description="messages to the addresses of jobs")
    jobs: JobSettings = Field(default=JobSettings(), description="how jobs are run")
    database: DatabaseSettings = Field(default=DatabaseSettings(), description="where jobs are kept")
    storage: StorageSettings = Field(default=StorageSettings(), description="where pictures are kept")

    @property
    def database_url(self) -> str:
        """The address of the database."""
        return self.database.url or f"sqlite:///{(self.home / 'limner.db').absolute()}"

    @property
    def pictures_dir(self) -> Path:
        """The folder of stored pictures."""
        return self.storage.folder or self.home / "pictures"

    @property
    def presets_dir(self) -> Path:
        """The folder of the user's presets."""
        return self.home / "presets"

    @field_validator("home", mode="after")
    @classmethod
    def _home_may_begin_with_a_tilde(cls, home: Path) -> Path:
        return home.expanduser()

    @field_validator("native", mode="after")
    @classmethod
    def _folders_are_in_the_home(cls, native: NativeSettings, fields: ValidationInfo) -> NativeSettings:
        home = fields.data.get("home", Path())
        folders = {
            "models_dir": home / "models",
            "adapters_dir": home / "adapters",
            "index_path": home / "checkpoints.json",
        }
        return native.model_copy(update={name: getattr(native, name) or folder for name, folder in folders.items()})

    @field_validator("comfyui", mode="after")
    @classmethod
    def _templates_are_in_the_home(cls, comfyui: ComfyUISettings, fields: ValidationInfo) -> ComfyUISettings:
        folder = comfyui.templates_dir or fields.data.get("home", Path()) / "comfyui"
        return comfyui.model_copy(update={"templates_dir": folder})

    @field_validator("runpod", mode="after")
    @classmethod
    def _ids_of_jobs_are_in_the_home(cls, runpod: RunpodSettings, fields: ValidationInfo) -> RunpodSettings:
        folder = runpod.jobs_dir or fields.data.get("home", Path()) / "runpod"
        return runpod.model_copy(update={"jobs_dir": folder})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What was given, then the sources that `load_settings` has read; nothing is read behind its back."""
        given = dict(init_settings())
        layers: list[_Layer] = given.pop(_LAYERS, [])
        return tuple(_LayerSource(settings_cls, tree) for tree in (given, *(layer.tree for layer in layers)))


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Read every source and put them together.

    Args:
        flags: a nested mapping such as `{"native": {"device": "cpu"}}`.
        environ: the environment; `os.environ` when absent.
        folder: the working folder; the process's own when absent.

    Raises `ConfigError`, which names the setting, its source and a good value.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    layers = [_Layer("given directly", _plain(flags or {})), _environment_layer(environ)]
    layers += [
        _Layer(f"environment variable {name}", _nested(setting, environ[name]))
        for name, setting in PLAIN_VARIABLES.items()
        if environ.get(name)
    ]
    path = _config_path(layers, environ, folder)
    if path is not None:
        layers.append(_file_layer(path))
    try:
        return Settings(**cast(Any, {_LAYERS: layers}))
    except ValidationError as error:
        raise ConfigError(_explained(error, layers)) from error


def describe(model: type[BaseModel] = Settings, path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting as (dotted path, field), for documents and suggestions."""
    for name, field in model.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            yield from describe(group, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


_LAYERS = "layers"


@dataclass(frozen=True)
class _Layer:
    source: str
    tree: Tree

    def find(self, path: tuple[str, ...]) -> object:
        node: object = self.tree
        for part in path:
            if not isinstance(node, Mapping) or part not in node:
                return None
            node = cast(Mapping[str, object], node)[part]
        return node

    def said(self, path: tuple[str, ...]) -> str:
        if self.source != "environment":
            return self.source
        name = PREFIX + "__".join(path).upper()
        return (
            f"environment variables {name}__…" if isinstance(self.find(path), dict) else f"environment variable {name}"
        )


class _LayerSource(PydanticBaseSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings], tree: Tree) -> None:
        super().__init__(settings_cls)
        self._tree = tree

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._tree.get(field_name), field_name, False

    def __call__(self) -> Tree:
        return self._tree


def _nested(setting: str, value: object) -> Tree:
    tree: Tree = {}
    _put(tree, tuple(setting.split(".")), value, setting)
    return tree


def _plain(tree: Mapping[str, Any]) -> Tree:
    present = ((str(key), value) for key, value in tree.items() if value is not None)
    return {key: _plain(cast(Tree, value)) if isinstance(value, Mapping) else value for key, value in present}


def _environment_layer(environ: Mapping[str, str]) -> _Layer:
    tree: Tree = {}
    for variable, text in environ.items():
        if not variable.upper().startswith(PREFIX) or variable.upper() in NOT_SETTINGS or not text:
            continue
        value: object = text
        if text.lstrip().startswith("{"):
            try:
                value = json.loads(text)
            except ValueError as error:
                raise ConfigError(f"Environment variable {variable} is not valid JSON: {error}. Correct it.") from error
        _put(tree, tuple(variable[len(PREFIX) :].lower().split("__")), value, f"environment variable {variable}")
    return _Layer("environment", _canonical(_Layer("environment", tree)))


def _config_path(layers: list[_Layer], environ: Mapping[str, str], folder: Path) -> Path | None:
    named = environ.get(CONFIG_VARIABLE)
    if named:
        path = folder / Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(f"{CONFIG_VARIABLE} names {path}, which is not a file. Correct it or unset it.")
        return path
    home = next((Path(str(layer.tree["home"])) for layer in layers if "home" in layer.tree), None) or _default_home()
    candidates = (folder / FILE_NAME, folder / home.expanduser() / FILE_NAME)
    return next((path for path in candidates if path.is_file()), None)


def _file_layer(path: Path) -> _Layer:
    try:
        text = path.read_text(encoding="utf-8")
        loaded: object = yaml.safe_load(text) if path.suffix.lower() in {".yaml", ".yml"} else tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Settings file {path} cannot be read ({error}). Check its permissions.") from error
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"Settings file {path} cannot be understood: {told}. Correct it.") from error
    if loaded is None:
        loaded = {}
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"Settings file {path} does not hold a table of settings. Write `native:` or `[native]` first."
        )
    source = f"in {path}"
    tree = _canonical(_Layer(source, _plain(cast(Tree, loaded))))
    for setting, field in describe():
        owner, _, name = setting.rpartition(".")
        node = _Layer(source, tree).find(tuple(owner.split("."))) if owner else tree
        if _is_secret(field) and isinstance(node, dict) and name in node:
            variable = PREFIX + setting.replace(".", "__").upper()
            raise ConfigError(f"Setting `{setting}` ({source}) is a secret. Put it into the variable {variable}.")
        if isinstance(node, dict) and _is_path(field):
            values, beside = cast(Tree, node), path.parent.resolve()
            if isinstance(values.get(name), str):
                values[name] = beside / Path(values[name]).expanduser()
            elif isinstance(values.get(name), list):
                values[name] = [beside / Path(str(part)).expanduser() for part in values[name]]
    return _Layer(source, tree)


def _canonical(layer: _Layer) -> Tree:
    """The tree of a source with other names replaced by ours and foreign switches checked."""
    tree = _plain(layer.tree)
    for alias, setting in ALIASES.items():
        if (value := _taken(tree, alias)) is not None:
            _put(tree, tuple(setting.split(".")), value, f"`{alias}` ({layer.said(tuple(alias.split('.')))})")
    where = layer.said(("generation", "progressive"))
    if (value := _taken(tree, "generation.progressive")) is not None:
        wanted = _truth(value, "generation.progressive", where)
        _put(
            tree,
            ("generation", "preset"),
            DEFAULT_PRESET if wanted else "single",
            f"`generation.progressive` ({where})",
        )
    for number in (1, 2, 3):
        for name, ours in (("num_inference_steps", "steps"), ("guidance_scale", "cfg")):
            alias = f"generation.stage{number}.{name}"
            if (value := _taken(tree, alias)) is not None:
                _put(tree, ("generation", f"stage{number}", ours), value, f"`{alias}` ({layer.source})")
    for switch, (setting, value_when_on) in SWITCHES.items():
        where = layer.said(tuple(switch.split(".")))
        if (value := _taken(tree, switch)) is not None and _truth(value, switch, where):
            _put(tree, tuple(setting.split(".")), value_when_on, f"`{switch}` ({where})")
    for switch, (only, reason) in UNSUPPORTED.items():
        where = layer.said(tuple(switch.split(".")))
        if (value := _taken(tree, switch)) is not None and _truth(value, switch, where) != only:
            raise ConfigError(
                f"Setting `{switch}` ({where}) cannot be {str(not only).lower()}: {reason}. "
                f"Set it to {str(only).lower()} or remove it.",
                setting=switch,
            )
    for group in ("model", "performance"):
        if tree.get(group) == {}:
            del tree[group]
    return tree


def _taken(tree: Tree, setting: str) -> object:
    *groups, name = setting.split(".")
    node = tree
    for group in groups:
        inner: object = node.get(group)
        if not isinstance(inner, dict):
            return None
        node = cast(Tree, inner)
    return node.pop(name, None)


def _put(tree: Tree, path: tuple[str, ...], value: object, source: str) -> None:
    node = tree
    for part in path[:-1]:
        inner: object = node.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f"Setting `{part}` is given a value of its own and as a group ({source}). Keep one of them."
            )
        node = cast(Tree, inner)
    if path[-1] in node:
        raise ConfigError(f"Setting `{'.'.join(path)}` is given twice, the second time as {source}. Keep one of them.")
    node[path[-1]] = value


def _truth(value: object, setting: str, where: str) -> bool:
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError as error:
        raise ConfigError(
            f"Setting `{setting}` ({where}) is {value!r}. Write true or false.", setting=setting
        ) from error


def _is_path(field: FieldInfo) -> bool:
    return field.annotation is Path or Path in getattr(field.annotation, "__args__", ())


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in getattr(field.annotation, "__args__", ())


def _explained(error: ValidationError, layers: list[_Layer]) -> str:
    fields = dict(describe())
    told: list[str] = []
    for path, _, remedy in problems(error):
        layer = next((layer for layer in layers if layer.find(path) is not None), None)
        setting, where = ".".join(path), layer.said(path) if layer else "by default"
        if remedy == UNKNOWN:
            groups = {name.rpartition(".")[0] for name in fields} - {""}
            near = difflib.get_close_matches(setting, [*fields, *ALIASES, *groups], n=1, cutoff=0.5)
            hint = (
                f"Did you mean `{near[0]}`?" if near else "Remove it; `docs/reference/settings.md` lists all settings."
            )
            told.append(f"Setting `{setting}` ({where}) is unknown. {hint}")
            continue
        field = next(
            (fields[".".join(path[:n])] for n in range(len(path), 0, -1) if ".".join(path[:n]) in fields), None
        )
        given = layer.find(path) if layer else None
        value = ":" if given is None or isinstance(given, Mapping) else f" is {shown(given)}."
        told.append(f"Setting `{setting}` ({where}){value} {remedy}.{_good_value(field)}")
    return " ".join(told)


def _good_value(field: FieldInfo | None) -> str:
    if field is None:
        return ""
    good = field.examples[0] if field.examples else field.default
    return f" A good value is {json.dumps(good)}."
