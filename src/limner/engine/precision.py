"""Choose the device and, per component, the precision to compute in; say what was chosen and why.

The rules know devices and numbers, no weights. Invariant: a wish that the device cannot fulfil is replaced by something
that it can, and a note says so; it is never fulfilled badly in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from limner.errors import ConfigError

COMPONENTS = ("transformer", "text_encoder", "vae")
NAMES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "half": torch.float16,
}
# Below this, converting between precisions costs as much as the smaller matrix products save.
LARGE_ON_CPU = 100_000_000


@dataclass(frozen=True)
class PrecisionPolicy:
    """What is known of a checkpoint before it is loaded.

    Args:
        stored: the numbers that its transformer is stored in, as safetensors calls them.
        parameters: of its transformer.
        vae_bfloat16: whether its VAE may compute in bfloat16; False where that shows in pictures.
        vae_float16: likewise in float16; False where its activations overflow, as SDXL's do: the picture is black.
        text_float16: whether its text encoders may compute in float16; False where they overflow, as T5 does.
        text_encoder_2: whether it has a second text encoder. A wish for `text_encoder` is one for both.
        text_2_float16: as `text_float16`, for the second alone.
    """

    stored: str = "F32"
    parameters: int = 0
    vae_bfloat16: bool = True
    vae_float16: bool = True
    text_float16: bool = True
    text_encoder_2: bool = False
    text_2_float16: bool = True

    def bears(self, component: str, dtype: torch.dtype) -> bool:
        """Whether a component gives finite, good numbers in that precision, on any device."""
        if dtype is torch.float16:
            return {
                "vae": self.vae_float16,
                "text_encoder": self.text_float16,
                "text_encoder_2": self.text_float16 and self.text_2_float16,
            }.get(component, True)
        return component != "vae" or dtype is not torch.bfloat16 or self.vae_bfloat16


@dataclass(frozen=True)
class Precision:
    """The precision of every component; `notes` are sentences for people.

    `text_encoder_2` is None where the checkpoint's policy names no second text encoder.
    """

    transformer: torch.dtype = torch.float32
    text_encoder: torch.dtype = torch.float32
    vae: torch.dtype = torch.float32
    notes: tuple[str, ...] = ()
    text_encoder_2: torch.dtype | None = None

    def of(self, component: str) -> torch.dtype:
        """The precision of a component.

        Where nothing was chosen, further text encoders follow the first and all else follows the transformer.
        """
        if component.startswith("text_encoder"):
            return getattr(self, component, None) or self.text_encoder
        return getattr(self, component) if component in COMPONENTS else self.transformer

    def names(self) -> dict[str, str]:
        """Component to dtype, as recipes record it."""
        named = [*COMPONENTS, "text_encoder_2"] if self.text_encoder_2 else COMPONENTS
        return {name: _name(self.of(name)) for name in named}


def choose_precision(
    device: torch.device, overrides: Mapping[str, str] | None = None, policy: PrecisionPolicy | None = None
) -> Precision:
    """The precision to load each component in.

    Args:
        device: where the components will lie.
        overrides: component to `auto`, `float32`, `bfloat16` or `float16` (or `fp32`, `bf16`, `fp16`).
        policy: what is known of the checkpoint.

    Raises:
        ConfigError: an override names an unknown component or precision.
    """
    policy = policy or PrecisionPolicy()
    chosen, notes = _defaults(device, policy)
    for component, wish in (overrides or {}).items():
        if component not in COMPONENTS:
            raise ConfigError(
                f"There is no component `{component}` to set a precision for. Choose among {', '.join(COMPONENTS)}.",
                setting=f"precision.{component}",
            )
        if wish == "auto":
            continue
        if wish not in NAMES:
            raise ConfigError(
                f"precision.{component} = `{wish}` is unknown. Choose auto, float32, bfloat16 or float16.",
                setting=f"precision.{component}",
            )
        for meant in _meant(component, policy):
            chosen[meant], note = _possible(device, meant, NAMES[wish], policy)
            notes += note
    return Precision(**chosen, notes=tuple(notes))


def choose_device(wish: str = "auto") -> torch.device:
    """The device of that name; `auto` takes the first graphics card, else Apple's, else the CPU.

    Raises:
        ConfigError: it is not there, or this build of torch cannot use it.
    """
    wish = wish.strip().lower()
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wish == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, number = wish.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal()) or (number and kind != "cuda"):
        raise ConfigError(f"device = `{wish}` is unknown. Choose auto, cpu, cuda, cuda:1 or mps.", setting="device")
    if kind == "cuda":
        if not cuda:
            built = getattr(torch.version, "cuda", None) or getattr(torch.version, "hip", None)
            why = "no driver or card answers" if built else f"torch {torch.__version__} is built without CUDA"
            raise ConfigError(f"device = `{wish}`, but {why}. Choose auto or cpu, or install CUDA.", setting="device")
        count = torch.cuda.device_count()
        if number and int(number) >= count:
            known = ", ".join(f"cuda:{index}" for index in range(count))
            raise ConfigError(f"device = `{wish}` does not exist. This machine has {known}.", setting="device")
    if kind == "mps" and not mps:
        raise ConfigError("device = `mps`, but this machine has no Metal. Choose auto or cpu.", setting="device")
    return torch.device(wish)


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices natively, not by converting them."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        known = cast(Any, getattr(torch.cpu, "get_capabilities", dict))()
        return any(bool(known.get(name)) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))
    return False


def _meant(component: str, policy: PrecisionPolicy) -> tuple[str, ...]:
    return ("text_encoder", "text_encoder_2") if component == "text_encoder" and policy.text_encoder_2 else (component,)


def _defaults(device: torch.device, policy: PrecisionPolicy) -> tuple[dict[str, torch.dtype], list[str]]:
    components = [meant for component in COMPONENTS for meant in _meant(component, policy)]
    chosen: dict[str, torch.dtype] = dict.fromkeys(components, torch.float32)
    if device.type == "cuda":
        if bfloat16_is_fast(device):
            return {name: _borne(name, (torch.bfloat16,), policy) for name in components}, []
        chosen |= {name: _borne(name, (torch.float16,), policy) for name in components if name != "vae"}
        narrow = [_spoken(name) for name, dtype in chosen.items() if dtype is torch.float16]
        wide = [_spoken(name) for name, dtype in chosen.items() if dtype is torch.float32]
        note = f"This graphics card has no bfloat16: {_listed(narrow)} in float16, {_listed(wide)} in float32."
        return chosen, [note]
    large = policy.parameters > LARGE_ON_CPU and policy.stored == "BF16"
    if device.type == "cpu" and large and bfloat16_is_fast(device):
        chosen["transformer"] = torch.bfloat16
        return chosen, ["The transformer is large and this processor multiplies bfloat16 natively: it uses bfloat16."]
    return chosen, []


def _borne(component: str, wishes: Sequence[torch.dtype], policy: PrecisionPolicy) -> torch.dtype:
    return next((wish for wish in wishes if policy.bears(component, wish)), torch.float32)


def _possible(
    device: torch.device, component: str, wish: torch.dtype, policy: PrecisionPolicy
) -> tuple[torch.dtype, list[str]]:
    spoken = _spoken(component)
    if device.type == "cpu" and wish is torch.float16:
        return torch.float32, [f"float16 is not supported on the CPU: the {spoken} uses float32."]
    fast = bfloat16_is_fast(device)
    if device.type == "cuda" and wish is torch.bfloat16 and not fast:
        fitting = _borne(component, () if component == "vae" else (torch.float16,), policy)
        return fitting, [f"This graphics card has no bfloat16: the {spoken} uses {_name(fitting)}."]
    if not policy.bears(component, wish):
        fitting = _borne(component, (torch.bfloat16,) if device.type == "cuda" and fast else (), policy)
        why = "overflows in float16" if wish is torch.float16 else "loses too much in bfloat16"
        return fitting, [f"The {spoken} of this checkpoint {why}: it uses {_name(fitting)}."]
    if device.type == "cpu" and wish is torch.bfloat16 and not fast:
        return wish, [f"This processor has no native bfloat16: the {spoken} will be slower than in float32."]
    return wish, []


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _listed(spoken: Sequence[str]) -> str:
    return " and ".join(spoken)


def _spoken(component: str) -> str:
    spoken = {"vae": "VAE", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}
    return spoken.get(component, component)
