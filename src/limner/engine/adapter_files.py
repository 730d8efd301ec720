"""Read adapter files of every common layout into one shape: modules, each with its factors.

Layouts differ in prefixes (`transformer.`, `diffusion_model.`, `base_model.model.`, kohya's `lora_unet_`), in the names
of the factors (`lora_A`, `lora_down`, `lora.down`) and in where the scale is written (an `alpha` tensor, PEFT's
configuration). This module knows nothing of the network that an adapter will meet: names are only stripped, not yet
placed. Invariant: every tensor of a file is part of some module, so that nothing can be ignored in silence.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.engine.tensor_files import TensorSource

_END = r"(\.default(_\d+)?)?(\.weight)?$"
_FACTORS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("down", re.compile(r"\.(lora_A|lora_down|lora\.down|lora_linear_layer\.down)" + _END)),
    ("up", re.compile(r"\.(lora_B|lora_up|lora\.up|lora_linear_layer\.up)" + _END)),
    ("mid", re.compile(r"\.lora_mid" + _END)),
    ("bias", re.compile(r"\.(lora_B|lora_up)(\.default(_\d+)?)?\.bias$")),
    ("alpha", re.compile(r"\.alpha$")),
    ("dora", re.compile(r"\.dora_scale$")),
    ("magnitude", re.compile(r"\.lora_magnitude_vector" + _END)),
    *((f"hada_{f}", re.compile(rf"\.hada_{f}{_END}")) for f in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(
        (f"lokr_{f}", re.compile(rf"\.lokr_{f}{_END}"))
        for f in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t1", "t2")
    ),
    ("diff", re.compile(r"\.diff$")),
    ("diff_b", re.compile(r"\.diff_b$")),
)
_WHOLE = "whole weights"
_UNSUPPORTED: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("BOFT", re.compile(r"\.boft_\w+(\..*)?$")),
    ("OFT", re.compile(r"\.(oft_\w+|rescale)(\..*)?$")),
    ("IA3", re.compile(r"\.(ia3_l|on_input)(\..*)?$")),
    ("GLoRA", re.compile(r"\.(a1|a2|b1|b2|bm1|bm2)(\.weight)?$")),
    ("a table of words", re.compile(r"\.(lora_embedding_[AB])(\..*)?$|^emb_params$|^bundle_emb\..*$")),
    ("differences of norms", re.compile(r"\.(w_norm|b_norm)$")),
    (_WHOLE, re.compile(r"\.(set_weight|reshape_weight|weight|bias)$")),
)
# How diffusers named attention's matrices before it had peft.
_PROCESSOR = re.compile(r"\.processor\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight$")
# How XLabs, the first to train adapters for FLUX, named the two streams of its blocks.
_STREAMS = re.compile(r"\.processor\.(qkv|proj)_lora([12])\.(down|up)\.weight$")
_CLIP_L, _CLIP_G, _T5 = ("text_encoder",), ("text_encoder_2",), ("text_encoder_2", "text_encoder_3")
_TEXTS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(rf"^(base_model\.model\.)?({pattern})"), components)
    for pattern, components in (
        (r"text_encoder\.|lora_te1?_|lycoris_te1?_|lora_text_encoder_(?!\d_)", _CLIP_L),
        (r"text_encoder_2\.|lora_te2_|lycoris_te2_|lora_text_encoder_2_", ("text_encoder_2",)),
        (r"text_encoder_3\.|lora_te3_|lora_text_encoder_3_", ("text_encoder_3", "text_encoder_2")),
        (r"(text_encoders\.)?clip_l\.(transformer\.)?|conditioner\.embedders\.0\.(transformer\.)?", _CLIP_L),
        (r"cond_stage_model\.(transformer\.|model\.)?", _CLIP_L),
        (r"(text_encoders\.)?clip_g\.(transformer\.)?|conditioner\.embedders\.1\.(model\.)?", _CLIP_G),
        (r"(text_encoders\.)?t5xxl\.(transformer\.)?", _T5),
        (r"text_encoders\.qwen3_\w+?\.(transformer\.)?", _CLIP_L),
        (r"text_encoders\.\w+\.(transformer\.)?", ()),
    )
)
_PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "unet.",
    "lora_transformer_",
    "lora_unet_",
    "lycoris_unet_",
    "lycoris_",
)
_PEFT_METADATA = "lora_adapter_metadata"


@dataclass
class AdapterModule:
    """One adapted module of a file.

    Args:
        path: stripped of prefixes, dotted or flattened as the file has it.
        text: whether it belongs to a text encoder.
        components: the text encoders that its name may mean, likeliest first; empty where the name does not tell.
        factors: factor to the name of the file's tensor.
        unsupported: the kind of change that it holds, where that is none of those that are read.
    """

    path: str
    text: bool
    components: tuple[str, ...] = ()
    factors: dict[str, str] = field(default_factory=dict[str, str])
    unsupported: str = ""


@dataclass(frozen=True)
class PeftScales:
    """The scale that PEFT's configuration gives to modules without an alpha of their own.

    `alphas` and `ranks` are its patterns: the end of a module's path to the number that counts there.
    """

    alpha: float | None = None
    rank: float | None = None
    rslora: bool = False
    alphas: Mapping[str, float] = field(default_factory=dict[str, float])
    ranks: Mapping[str, float] = field(default_factory=dict[str, float])

    def scale(self, path: str, rank: int | None) -> float:
        """alpha / rank (or its square root), 1 where no alpha is written.

        Where the tensors show no rank (LoKr of whole factors), the configuration's counts.
        """
        alpha = _of_pattern(self.alphas, path, self.alpha)
        shared = rank or _of_pattern(self.ranks, path, self.rank)
        return 1.0 if alpha is None or not shared else alpha / (math.sqrt(shared) if self.rslora else shared)


def modules_of(source: TensorSource) -> list[AdapterModule]:
    """Every module that the file mentions, in the file's order."""
    found: dict[str, AdapterModule] = {}
    for name in source.tensors:
        factor, kind, stem = _part(name)
        if (module := found.get(stem)) is None:
            module = found[stem] = _module(stem)
        if factor in module.factors:
            module.unsupported = module.unsupported or "one factor under several names"
        elif factor:
            module.factors[factor] = name
        elif not module.unsupported or _WHOLE in module.unsupported:
            module.unsupported = f"{kind}, not supported yet"
    return list(found.values())


def peft_scales(source: TensorSource) -> Callable[[str], PeftScales]:
    """What PEFT wrote beside the weights (in the file's metadata or in `adapter_config.json`), by component."""
    written = source.metadata.get(_PEFT_METADATA, "")
    beside = source.path.parent / "adapter_config.json"
    if not written and source.path.name == "adapter_model.safetensors" and beside.is_file():
        written = beside.read_text("utf-8", errors="replace")
    # Pipelines prefix the fields with the component, of which diffusers has two names for the denoiser.
    configs: dict[str, dict[str, Any]] = {}
    for name, value in _mapping(written).items():
        component, _, key = name.rpartition(".")
        configs.setdefault("transformer" if component == "unet" else component, {})[key] = value
    scales = {component: _scales(config) for component, config in configs.items()}
    default = scales.get("", PeftScales())
    return lambda component: scales.get(component, default)


def _scales(config: dict[str, Any]) -> PeftScales:
    # LoHa and LoKr say `alpha` where LoRA says `lora_alpha`.
    alpha, rank = config.get("lora_alpha", config.get("alpha")), config.get("r")
    return PeftScales(
        float(alpha) if isinstance(alpha, int | float) else None,
        float(rank) if isinstance(rank, int | float) else None,
        config.get("use_rslora") is True,
        _numbers(config.get("alpha_pattern")),
        _numbers(config.get("rank_pattern")),
    )


def _of_pattern(patterns: Mapping[str, float], path: str, otherwise: float | None) -> float | None:
    dotted = f".{path}"
    return next((n for name, n in patterns.items() if dotted.endswith("." + name.removeprefix("^"))), otherwise)


def adapter_file(path: Path) -> Path:
    """The weights themselves where `path` is a folder that PEFT or diffusers wrote."""
    for name in ("adapter_model.safetensors", "pytorch_lora_weights.safetensors"):
        if (inside := path / name).is_file():
            return inside
    return path


def _part(name: str) -> tuple[str, str, str]:
    # (factor or nothing, unsupported kind or nothing, the module's name with its prefixes)
    if match := _PROCESSOR.search(name):
        return match[2], "", f"{name[: match.start()]}.{match[1]}"
    if match := _STREAMS.search(name):
        stream = "img" if match[2] == "1" else "txt"
        return match[3], "", f"{name[: match.start()]}.{stream}_attn.{match[1]}"
    for factor, pattern in _FACTORS:
        if match := pattern.search(name):
            return factor, "", name[: match.start()]
    for kind, pattern in _UNSUPPORTED:
        if match := pattern.search(name):
            return "", kind, name[: match.start()] or name
    return "", "tensors of an unknown kind", name


def _module(stem: str) -> AdapterModule:
    for pattern, components in _TEXTS:
        if match := pattern.match(stem):
            return AdapterModule(stem[match.end() :], True, components)
    while prefix := next((p for p in _PREFIXES if stem.startswith(p)), ""):
        stem = stem[len(prefix) :]
    return AdapterModule(stem.replace("default.", ""), False)


def _mapping(text: str) -> dict[str, Any]:
    try:
        content: Any = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _numbers(value: Any) -> dict[str, float]:
    mapping: dict[Any, Any] = value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    return {str(k): float(v) for k, v in mapping.items() if isinstance(v, int | float)}
