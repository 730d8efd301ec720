"""Read LoRA files of every common layout into one shape: modules, each with its pair of matrices.

Layouts differ in prefixes (`transformer.`, `diffusion_model.`, `base_model.model.`, kohya's `lora_unet_`), in the names
of the halves (`lora_A`, `lora_down`, `lora.down`) and in where the scale is written (an `alpha` tensor, PEFT's
configuration). This module knows nothing of the network that an adapter will meet: names are only stripped, not yet
placed. Invariant: every tensor of a file is part of some module, so that nothing can be ignored in silence.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.engine.tensor_files import TensorSource

_DOWN = re.compile(r"\.(lora_A|lora_down|lora\.down|lora_linear_layer\.down)(\.default)?(\.weight)?$")
_UP = re.compile(r"\.(lora_B|lora_up|lora\.up|lora_linear_layer\.up)(\.default)?(\.weight)?$")
_ALPHA = re.compile(r"\.alpha$")
_OTHER: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("DoRA", re.compile(r"\.(dora_scale|lora_magnitude_vector.*)$")),
    ("LoHa", re.compile(r"\.hada_\w+$")),
    ("LoKr", re.compile(r"\.lokr_\w+$")),
    ("LoCon with a middle factor", re.compile(r"\.lora_mid(\.weight)?$")),
    ("OFT", re.compile(r"\.(oft_\w+|boft_\w+)(\..*)?$")),
    ("a LoRA with biases", re.compile(r"\.(lora_B|lora_up)(\.default)?\.bias$")),
    ("full differences", re.compile(r"\.(diff|diff_b|set_weight|w_norm|b_norm)$")),
    ("whole weights", re.compile(r"\.(weight|bias)$")),
)
_TEXT_PREFIX = re.compile(
    r"^(text_encoders?(_\d)?\.(qwen3_4b\.|clip_\w\.|t5xxl\.)?(transformer\.)?|lora_te\d?_|base_model\.model\.text_encoder\.)"
)
_PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "unet.",
    "lora_transformer_",
    "lora_unet_",
    "lycoris_",
)
_PEFT_METADATA = "lora_adapter_metadata"


@dataclass
class LoraModule:
    """One adapted module of a file; names are keys of the file's tensors.

    `path` is stripped of prefixes, dotted or flattened as the file has it. `kind` is empty for a plain LoRA and
    otherwise names what it is instead.
    """

    path: str
    text: bool
    down: str = ""
    up: str = ""
    alpha: str = ""
    kind: str = ""


@dataclass(frozen=True)
class PeftScales:
    """The scale that PEFT's configuration gives to modules without an alpha of their own."""

    alpha: float | None = None
    rslora: bool = False
    patterns: dict[str, float] = field(default_factory=dict[str, float])

    def scale(self, path: str, rank: int) -> float:
        """alpha / rank (or its square root), 1 where no alpha is written."""
        alpha = next((a for name, a in self.patterns.items() if path.endswith(name.removeprefix("^"))), self.alpha)
        return 1.0 if alpha is None else alpha / (math.sqrt(rank) if self.rslora else rank)


def modules_of(source: TensorSource) -> list[LoraModule]:
    """Every module that the file mentions, in the file's order."""
    found: dict[tuple[bool, str], LoraModule] = {}
    for name in source.tensors:
        role, stem = _role(name)
        text, path = _strip(stem)
        module = found.setdefault((text, path), LoraModule(path, text))
        match role:
            case "down":
                module.down = name
            case "up":
                module.up = name
            case "alpha":
                module.alpha = name
            case kind:
                module.kind = module.kind or kind
    return list(found.values())


def peft_scales(source: TensorSource) -> PeftScales:
    """What PEFT wrote beside the weights (in the file's metadata or in `adapter_config.json`), if anything."""
    written = source.metadata.get(_PEFT_METADATA, "")
    beside = source.path.parent / "adapter_config.json"
    if not written and source.path.name == "adapter_model.safetensors" and beside.is_file():
        written = beside.read_text("utf-8", errors="replace")
    config = _mapping(written)
    # Pipelines prefix the fields with the component: `transformer.lora_alpha`.
    config = {name.removeprefix("transformer."): value for name, value in config.items()}
    alpha = config.get("lora_alpha")
    patterns: Any = config.get("alpha_pattern")
    return PeftScales(
        float(alpha) if isinstance(alpha, int | float) else None,
        config.get("use_rslora") is True,
        {k: float(v) for k, v in _numbers(patterns).items()},
    )


def place_names(targets: dict[str, tuple[int, int]]) -> Callable[[str], tuple[str, ...]]:
    """A function from a file's module path to the target modules that it means, in order; () when there are none.

    Targets are known by their own path and by the names of their original code: `attention.out` for `to_out.0`, one
    fused `qkv` for three projections, `x_embedder` and `final_layer` for the entries of diffusers' tables by patch
    size. Dots and underscores are alike, since kohya's names have no dots.
    """
    known: dict[str, tuple[str, ...]] = {}
    for path in targets:
        for alias in {path, _original(path)}:
            known[_flat(alias)] = (path,)
        stem, _, leaf = path.rpartition(".")
        thirds = tuple(f"{stem}.to_{letter}" for letter in "qkv")
        if leaf == "to_q" and all(third in targets for third in thirds):
            known.setdefault(_flat(f"{stem}.qkv"), thirds)
            known.setdefault(_flat(f"{stem}.to_qkv"), thirds)
    return lambda path: known.get(_flat(path), ())


def _original(path: str) -> str:
    path = re.sub(r"(^|\.)all_(x_embedder|final_layer)\.\d+-\d+", r"\1\2", path)
    return re.sub(r"\.to_out\.0$", ".out", path)


def _flat(path: str) -> str:
    return path.replace(".", "_")


def _role(name: str) -> tuple[str, str]:
    for role, pattern in (("down", _DOWN), ("up", _UP), ("alpha", _ALPHA), *_OTHER):
        if match := pattern.search(name):
            return role, name[: match.start()]
    return "tensors of an unknown kind", name


def _strip(stem: str) -> tuple[bool, str]:
    if match := _TEXT_PREFIX.match(stem):
        rest = stem[match.end() :]
        return True, re.sub(r"^model[._]", "", rest)
    while prefix := next((p for p in _PREFIXES if stem.startswith(p)), ""):
        stem = stem[len(prefix) :]
    return False, stem.replace("default.", "")


def _mapping(text: str) -> dict[str, Any]:
    try:
        content: Any = json.loads(text) if text else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _numbers(value: Any) -> dict[str, int | float]:
    mapping: dict[Any, Any] = value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    return {str(k): v for k, v in mapping.items() if isinstance(v, int | float)}


def adapter_file(path: Path) -> Path:
    """The weights themselves where `path` is a folder that PEFT or diffusers wrote."""
    for name in ("adapter_model.safetensors", "pytorch_lora_weights.safetensors"):
        if (inside := path / name).is_file():
            return inside
    return path
