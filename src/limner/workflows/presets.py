"""Presets: named stages that a request can build on, shipped as TOML files and added by users in the same form.

A preset that a user has put into the presets folder goes before a shipped one of the same name. Files are read when a
preset is asked for, so that a new one needs no restart and a broken one harms nobody who does not use it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from pydantic import Field, ValidationError

from limner.domain import (
    MAX_CFG,
    MAX_CLIP_SKIP,
    MAX_PROMPT,
    MAX_STAGES,
    MAX_STEPS,
    CacheSettings,
    Record,
    ReferencesAs,
    Sampler,
    Schedule,
    Side,
    Stage,
    Text,
)
from limner.errors import ConfigError, NotFound
from limner.validation import sentences
from limner.workflows.families import FACTS

DEFAULT_PRESET = "progressive"


class Preset(Record):
    """Stages with a name, and what else a request gets that does not say it itself."""

    name: str
    description: str = ""
    family: str = Field(default="", description="the architecture that it is made for; empty where any will do")
    negative_prompt: Text = Field(default="", max_length=MAX_PROMPT, description="for requests that have none")
    clip_skip: int | None = Field(default=None, ge=1, le=MAX_CLIP_SKIP, description="for requests that have none")
    references_as: ReferencesAs | None = Field(default=None, description="for requests that do not say it")
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=MAX_STAGES)


class StageChanges(Record):
    """What the settings change in one stage of the preset `progressive`; absent values stay as the preset has them."""

    width: Side | None = Field(default=None, examples=[176])
    height: Side | None = Field(default=None, examples=[224])
    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS, examples=[9])
    cfg: float | None = Field(default=None, ge=0, le=MAX_CFG, examples=[2.0])
    sampler: Sampler | None = Field(default=None, examples=["euler_ancestral"])
    schedule: Schedule | None = Field(default=None, examples=["simple"])
    shift: float | None = Field(default=None, gt=0, le=100, examples=[3.0])
    denoise: float | None = Field(default=None, gt=0, le=1, examples=[0.7])
    cache: CacheSettings | None = Field(default=None, examples=[{"reuse_threshold": 0.2}])


@dataclass(frozen=True)
class PresetListing:
    """One row of the list of presets; `problem` says why a file cannot be used."""

    name: str
    path: str
    shipped: bool
    shadows: bool
    preset: Preset | None
    problem: str = ""


class Presets:
    """All presets that there are: the shipped ones, a folder of the user's, and the settings' changes to them.

    Args:
        folder: the user's presets, `NAME.toml`; need not exist.
        default: name of the preset for requests that name none.
        steps, cfg: replace the first stage's in the default preset, for requests that name no preset.
        stage_changes: replace fields of the stages of `progressive`, first stage first. They go before steps and cfg.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        default: str = DEFAULT_PRESET,
        steps: int | None = None,
        cfg: float | None = None,
        stage_changes: Sequence[StageChanges] = (),
    ) -> None:
        self._folder = folder
        self._default = default
        self._first_stage = {"steps": steps, "cfg": cfg}
        self._stage_changes = tuple(change.model_dump(exclude_none=True) for change in stage_changes)

    @property
    def default(self) -> str:
        """Name of the preset for requests that name none."""
        return self._default

    def default_for(self, family: str | None) -> str | None:
        """Name of the preset for requests of a family that name none; None where that is the settings' default.

        The settings' default goes before a family's own unless it is made for another family.
        """
        facts = FACTS.get(family or "")
        if facts is None or facts.preset == self._default or facts.preset not in self._paths():
            return None
        if self._default == DEFAULT_PRESET:
            return facts.preset
        wanted = self.get(self._default).family
        return facts.preset if wanted and wanted != family else None

    def get(self, name: str | None = None) -> Preset:
        """The preset of that name, or the default one.

        Raises `NotFound`, which lists the known names, and `ConfigError`, which names the file and the key.
        """
        wanted = name or self._default
        path = self._paths().get(wanted)
        if path is None:
            known = ", ".join(self.names())
            raise NotFound(f"There is no preset `{wanted}`. Choose one of: {known}.", name=wanted)
        preset = self._changed(_load(path, wanted))
        if name is None:
            first = preset.stages[0].model_copy(update=_present(self._first_stage, but=self._own_keys(wanted)))
            preset = preset.model_copy(update={"stages": (first, *preset.stages[1:])})
        return preset

    def names(self) -> list[str]:
        """The names that `get` knows, in alphabetical order."""
        return sorted(self._paths())

    def list(self) -> list[PresetListing]:
        """Every preset with where it comes from, broken ones included."""
        shipped = _toml_files(shipped_folder())
        rows: list[PresetListing] = []
        for name, path in sorted(self._paths().items()):
            is_shipped = shipped.get(name) == path
            preset, problem = None, ""
            try:
                preset = self._changed(_load(path, name))
            except ConfigError as error:
                problem = error.message
            rows.append(
                PresetListing(
                    name=name,
                    path=str(path),
                    shipped=is_shipped,
                    shadows=not is_shipped and name in shipped,
                    preset=preset,
                    problem=problem,
                )
            )
        return rows

    def _paths(self) -> dict[str, Path]:
        return _toml_files(shipped_folder()) | (_toml_files(self._folder) if self._folder else {})

    def _own_keys(self, name: str) -> set[str]:
        return set(self._stage_changes[0]) if name == DEFAULT_PRESET and self._stage_changes else set()

    def _changed(self, preset: Preset) -> Preset:
        if preset.name != DEFAULT_PRESET:
            return preset
        stages = list(preset.stages)
        for number, change in enumerate(self._stage_changes):
            if change and number >= len(stages):
                raise ConfigError(
                    f"Setting `generation.stage{number + 1}` changes a stage that preset `{preset.name}` does not "
                    f"have: it ends with stage {len(stages)}. Remove the setting."
                )
            if change:
                stages[number] = Stage.model_validate(stages[number].model_dump() | change)
        return preset.model_copy(update={"stages": tuple(stages)})


def shipped_folder() -> Path:
    """Where the shipped presets lie."""
    with as_file(files("limner.workflows") / "presets") as folder:
        return folder


def _present(values: Mapping[str, object], but: set[str]) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None and key not in but}


def _toml_files(folder: Path) -> dict[str, Path]:
    try:
        return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    except OSError:
        return {}


def _load(path: Path, name: str) -> Preset:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"Preset file {path} cannot be read ({error}). Check its permissions.", path=str(path)
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"Preset file {path} is not valid TOML: {error}. Correct it.", path=str(path)) from error
    try:
        return Preset.model_validate({"name": name} | values)
    except ValidationError as error:
        raise ConfigError(sentences(error, f"Preset file {path}"), path=str(path)) from error
