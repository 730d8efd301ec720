"""The settings, one tree: flags go before environment variables, these before the file, this before the defaults.

    flags        what the command line or a script gives
    environment  LIMNER_NATIVE__DEVICE=cpu: the path in capitals, two underscores between levels
    file         $LIMNER_CONFIG (TOML or YAML), else ./limner.toml, else limner.toml in the home folder

Nobody fetches settings: `load_settings` is called at the door and the parts are handed down. Every unknown key fails,
in the file and in the environment alike. Paths in a file are relative to that file's folder.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import platformdirs
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from limner.backends.settings import NativeSettings
from limner.errors import ConfigError
from limner.validation import UNKNOWN, problems, shown
from limner.workflows.presets import DEFAULT_PRESET, StageChanges

PREFIX = "LIMNER_"
CONFIG_VARIABLE = "LIMNER_CONFIG"
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

UNSUPPORTED: dict[str, tuple[bool, str]] = {
    "lora.cache_models": (
        True,
        "Adapters stay in memory while the engine runs, and this cannot be turned off",
    ),
    "performance.enable_model_cpu_offload": (
        False,
        "The engine keeps the whole checkpoint on one device",
    ),
    "performance.enable_vae_slicing": (False, "The engine decides by itself how it decodes several pictures"),
    "performance.enable_vae_tiling": (False, "The engine decodes large pictures in tiles by itself"),
}
"""Switches of other programs: the one value that describes what limner does, and why the other cannot be had."""


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


def _default_home() -> Path:
    return platformdirs.user_data_path("limner", appauthor=False)


class Settings(BaseSettings):
    """All settings. Build it with `load_settings`, which explains what is wrong."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    home: Path = Field(
        default_factory=_default_home,
        description="folder of checkpoints, adapters and presets; the platform's user data folder when absent",
        examples=["~/limner"],
    )
    backend: str = Field(default="native", min_length=1, description="backend for requests that name none")
    native: NativeSettings = Field(default=NativeSettings(), validate_default=True, description="limner's own engine")
    generation: GenerationSettings = Field(default=GenerationSettings(), description="defaults of pictures")
    lora: LoraSettings = Field(default=LoraSettings(), description="defaults of adapters")

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
        folders = {"models_dir": home / "models", "adapters_dir": home / "adapters"}
        return native.model_copy(update={name: getattr(native, name) or folder for name, folder in folders.items()})

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


def _plain(tree: Mapping[str, Any]) -> Tree:
    present = ((str(key), value) for key, value in tree.items() if value is not None)
    return {key: _plain(cast(Tree, value)) if isinstance(value, Mapping) else value for key, value in present}


def _environment_layer(environ: Mapping[str, str]) -> _Layer:
    tree: Tree = {}
    for variable, text in environ.items():
        if not variable.upper().startswith(PREFIX) or variable.upper() == CONFIG_VARIABLE or not text:
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
        if isinstance(node, dict) and _is_path(field) and isinstance(cast(Tree, node).get(name), str):
            values = cast(Tree, node)
            values[name] = path.parent.resolve() / Path(values[name]).expanduser()
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
