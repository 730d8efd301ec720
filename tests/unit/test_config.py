"""The settings: which source goes first, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limner.backends.settings import NativeSettings
from limner.config import Settings, describe, load_settings
from limner.errors import ConfigError

SEED_YAML = """
model:
  path: "models/z_image_turbo_bf16"
  vae_path: "models/ae.safetensors"
  clip_path: "models/qwen_3_4b.safetensors"
  torch_dtype: "bfloat16"
  device: "cuda"
generation:
  progressive: true
  num_inference_steps: 9
  guidance_scale: 2.0
  stage1: {height: 224, width: 176, steps: 9, cfg: 2.0}
  stage2: {height: 432, width: 336, steps: 16, cfg: 1.0, denoise: 0.7}
  stage3: {height: 864, width: 672, steps: 16, cfg: 1.0, denoise: 0.6}
lora:
  default_strength: 0.8
  cache_models: true
performance:
  enable_model_cpu_offload: false
  enable_vae_slicing: false
  enable_vae_tiling: false
"""


def _load(folder: Path, file: str | None = None, flags: dict[str, Any] | None = None, /, **environ: str) -> Settings:
    if file is not None:
        (folder / "limner.toml").write_text(file)
    return load_settings(flags, environ={"LIMNER_HOME": str(folder / "home")} | environ, folder=folder)


def _refusal(folder: Path, file: str | None = None, /, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(folder, file, None, **environ)
    return caught.value.message.replace(str(folder), "FOLDER")


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    settings = _load(tmp_path)
    assert (settings.backend, settings.native.model, settings.generation.preset) == (
        "native",
        "sketchbook",
        "progressive",
    )
    assert settings.native.adapters_dir == tmp_path / "home" / "adapters"
    assert settings.native.models_dir == tmp_path / "home" / "models"
    assert settings.presets_dir == tmp_path / "home" / "presets"


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = '[native]\ndevice = "cuda:1"\nmodel = "from-file"\ntoken_budget = 100\n'
    environ = {"LIMNER_NATIVE__DEVICE": "cuda:2", "LIMNER_NATIVE__MODEL": "from-environment"}
    native = _load(tmp_path, file, {"native": {"device": "cpu"}}, **environ).native
    assert (native.device, native.model, native.token_budget) == ("cpu", "from-environment", 100)


def test_a_flag_that_is_absent_changes_nothing(tmp_path: Path) -> None:
    assert _load(tmp_path, None, {"native": {"device": None}}, LIMNER_NATIVE__DEVICE="cpu").native.device == "cpu"


def test_the_file_may_lie_in_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "limner.toml").write_text('backend = "fake"')
    assert _load(tmp_path).backend == "fake"


def test_a_variable_names_another_file(tmp_path: Path) -> None:
    (tmp_path / "limner.toml").write_text('backend = "not-read"')
    (tmp_path / "other.toml").write_text('backend = "fake"')
    assert _load(tmp_path, LIMNER_CONFIG="other.toml").backend == "fake"


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "l.toml").write_text('[native]\nmodel_path = "m.safetensors"\nvae_path = "/v.safetensors"')
    native = _load(tmp_path, LIMNER_CONFIG="etc/l.toml").native
    assert native.model_path == tmp_path.resolve() / "etc" / "m.safetensors"
    assert native.vae_path == Path("/v.safetensors")


def test_home_may_begin_with_a_tilde(tmp_path: Path) -> None:
    assert _load(tmp_path, LIMNER_HOME="~/pictures").home == Path.home() / "pictures"


def test_precisions_have_the_names_in_wide_use(tmp_path: Path) -> None:
    native = _load(tmp_path, None, {"native": {"dtype": "torch.bfloat16"}}, LIMNER_NATIVE__VAE_DTYPE="fp32").native
    assert (native.dtype, native.vae_dtype) == ("bfloat16", "float32")


def test_the_known_yaml_file_is_read_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "native_image_config.yaml").write_text(SEED_YAML)
    settings = _load(tmp_path, LIMNER_CONFIG="native_image_config.yaml")
    folder = tmp_path.resolve() / "models"
    assert settings.native.model_path == folder / "z_image_turbo_bf16"
    assert settings.native.vae_path == folder / "ae.safetensors"
    assert settings.native.text_encoder_path == folder / "qwen_3_4b.safetensors"
    assert (settings.native.dtype, settings.native.device) == ("bfloat16", "cuda")
    generation = settings.generation
    assert (generation.preset, generation.steps, generation.cfg) == ("progressive", 9, 2.0)
    assert generation.stage2.model_dump(exclude_none=True) == {
        "width": 336,
        "height": 432,
        "steps": 16,
        "cfg": 1.0,
        "denoise": 0.7,
    }
    assert settings.lora.default_strength == 0.8


def test_the_same_keys_are_understood_in_toml_and_in_the_environment(tmp_path: Path) -> None:
    file = '[model]\ndevice = "cuda"\n[generation]\nprogressive = false\nstage1 = {num_inference_steps = 7}\n'
    settings = _load(tmp_path, file, LIMNER_MODEL__TORCH_DTYPE="bf16", LIMNER_GENERATION__GUIDANCE_SCALE="3")
    assert (settings.native.device, settings.native.dtype) == ("cuda", "bfloat16")
    assert (settings.generation.preset, settings.generation.cfg, settings.generation.stage1.steps) == ("single", 3.0, 7)


def test_progressive_in_the_environment_goes_before_a_preset_in_the_file(tmp_path: Path) -> None:
    settings = _load(tmp_path, '[generation]\npreset = "sketch"', LIMNER_GENERATION__PROGRESSIVE="yes")
    assert settings.generation.preset == "progressive"


def test_a_group_may_be_given_as_json_in_the_environment(tmp_path: Path) -> None:
    settings = _load(tmp_path, LIMNER_GENERATION__STAGE1='{"steps": 4, "cache": {"reuse_threshold": 0.5}}')
    cache = settings.generation.stage1.cache
    assert settings.generation.stage1.steps == 4
    assert cache is not None
    assert cache.reuse_threshold == 0.5


def test_an_unknown_key_in_the_file_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    assert _refusal(tmp_path, '[native]\ndevise = "cpu"') == (
        "Setting `native.devise` (in FOLDER/limner.toml) is unknown. Did you mean `native.device`?"
    )


def test_an_unknown_variable_is_named(tmp_path: Path) -> None:
    assert _refusal(tmp_path, LIMNER_NATIVE__DTIPE="auto") == (
        "Setting `native.dtipe` (environment variable LIMNER_NATIVE__DTIPE) is unknown. Did you mean `native.dtype`?"
    )


def test_every_wrong_setting_is_told_at_once_each_with_its_source(tmp_path: Path) -> None:
    told = _refusal(tmp_path, "[native]\nthreads = 0", LIMNER_NATIVE__DTYPE="int4", LIMNER_ZZZ="1")
    assert told == (
        "Setting `native.dtype` (environment variable LIMNER_NATIVE__DTYPE) is 'int4'. Give 'auto', "
        "'float32', 'bfloat16' or 'float16'. A good value is \"auto\". "
        "Setting `native.threads` (in FOLDER/limner.toml) is 0. Give at least 1. "
        "A good value is 4. "
        "Setting `zzz` (environment variable LIMNER_ZZZ) is unknown. "
        "Remove it; `docs/reference/settings.md` lists all settings."
    )


def test_parts_without_a_model_are_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path, LIMNER_NATIVE__VAE_PATH="ae.safetensors") == (
        "Setting `native` (environment variables LIMNER_NATIVE__…): "
        "text_encoder_path and vae_path belong to a model_path, which is absent. Set it too."
    )


@pytest.mark.parametrize(
    ("switch", "value", "only"),
    [
        ("performance.enable_vae_slicing", "true", "false"),
        ("lora.cache_models", "false", "true"),
    ],
)
def test_a_switch_that_cannot_be_honoured_is_refused(tmp_path: Path, switch: str, value: str, only: str) -> None:
    group, name = switch.split(".")
    told = _refusal(tmp_path, f"[{group}]\n{name} = {value}")
    assert told.startswith(f"Setting `{switch}` (in FOLDER/limner.toml) cannot be {value}: ")
    assert told.endswith(f". Set it to {only} or remove it.")


def test_switches_of_other_programs_become_settings(tmp_path: Path) -> None:
    def native(told: str) -> NativeSettings:
        (tmp_path / "limner.toml").write_text("[performance]\n" + told)
        return load_settings(environ={}, folder=tmp_path).native

    on = native("enable_model_cpu_offload = true\nenable_vae_tiling = true\n")
    assert (on.offload, on.vae_tiling) == ("model", True)
    off = native("enable_model_cpu_offload = false\nenable_vae_tiling = false\n")
    assert (off.offload, off.vae_tiling) == ("auto", "auto")


def test_a_setting_under_two_names_in_one_source_is_refused(tmp_path: Path) -> None:
    told = _refusal(tmp_path, '[native]\ndevice = "cpu"\n[model]\ndevice = "cuda"')
    assert told == (
        "Setting `native.device` is given twice, the second time as `model.device` (in FOLDER/limner.toml). "
        "Keep one of them."
    )


def test_a_value_in_place_of_a_group_is_refused(tmp_path: Path) -> None:
    told = _refusal(tmp_path, 'native = "cpu"')
    assert told == "Setting `native` (in FOLDER/limner.toml) is 'cpu'. Give a group of values."
    told = _refusal(tmp_path, "", LIMNER_NATIVE="cpu", LIMNER_NATIVE__DEVICE="cpu")
    assert "Keep one of them" in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"native = [", "cannot be understood"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "limner.toml").write_bytes(content)
    assert _refusal(tmp_path).startswith(f"Settings file FOLDER/limner.toml {told}")


def test_a_yaml_file_must_hold_a_table(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("- one\n- two\n")
    assert "does not hold a table" in _refusal(tmp_path, LIMNER_CONFIG="c.yaml")


def test_an_empty_yaml_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("")
    assert _load(tmp_path, LIMNER_CONFIG="c.yml") == _load(tmp_path)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    assert _refusal(tmp_path, LIMNER_CONFIG="gone.toml") == (
        "LIMNER_CONFIG names FOLDER/gone.toml, which is not a file. Correct it or unset it."
    )


def test_broken_json_in_a_variable_is_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path, LIMNER_GENERATION__STAGE1="{steps").startswith(
        "Environment variable LIMNER_GENERATION__STAGE1 is not valid JSON"
    )


def test_a_script_may_build_settings_directly_and_nothing_else_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_BACKEND", "not-read")
    assert Settings().backend == "native"
    assert Settings(backend="fake").backend == "fake"


def test_every_setting_is_described() -> None:
    for name, field in describe():
        assert field.description or name.startswith("generation.stage"), name
