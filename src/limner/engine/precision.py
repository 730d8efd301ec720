"""Choose the device and, per component, the precision to compute in; say what was chosen and why.

The rules know devices and numbers, no weights. Invariant: a wish that the device cannot fulfil is replaced by something
that it can, and a note says so; it is never fulfilled badly in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """What is known of a checkpoint: how its transformer is stored, how large it is, what its VAE cannot bear."""

    stored: str = "F32"
    parameters: int = 0
    vae_bfloat16: bool = True


@dataclass(frozen=True)
class Precision:
    """The precision of every component; `notes` are sentences for people."""

    transformer: torch.dtype = torch.float32
    text_encoder: torch.dtype = torch.float32
    vae: torch.dtype = torch.float32
    notes: tuple[str, ...] = ()

    def names(self) -> dict[str, str]:
        """Component to dtype, as recipes record it."""
        return {name: str(getattr(self, name)).removeprefix("torch.") for name in COMPONENTS}


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
    chosen, notes = _defaults(device, policy or PrecisionPolicy())
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
        chosen[component], note = _possible(device, component, NAMES[wish])
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


def _defaults(device: torch.device, policy: PrecisionPolicy) -> tuple[dict[str, torch.dtype], list[str]]:
    if device.type == "cuda":
        if bfloat16_is_fast(device):
            vae = torch.bfloat16 if policy.vae_bfloat16 else torch.float32
            return {"transformer": torch.bfloat16, "text_encoder": torch.bfloat16, "vae": vae}, []
        note = "This graphics card has no bfloat16: transformer and text encoder use float16, the VAE float32."
        return {"transformer": torch.float16, "text_encoder": torch.float16, "vae": torch.float32}, [note]
    chosen: dict[str, torch.dtype] = dict.fromkeys(COMPONENTS, torch.float32)
    large = policy.parameters > LARGE_ON_CPU and policy.stored == "BF16"
    if device.type == "cpu" and large and bfloat16_is_fast(device):
        chosen["transformer"] = torch.bfloat16
        return chosen, ["The transformer is large and this processor multiplies bfloat16 natively: it uses bfloat16."]
    return chosen, []


def _possible(device: torch.device, component: str, wish: torch.dtype) -> tuple[torch.dtype, list[str]]:
    if device.type == "cpu" and wish is torch.float16:
        return torch.float32, [f"float16 is not supported on the CPU: the {_spoken(component)} uses float32."]
    if device.type == "cuda" and wish is torch.bfloat16 and not bfloat16_is_fast(device):
        fitting = torch.float32 if component == "vae" else torch.float16
        name = str(fitting).removeprefix("torch.")
        return fitting, [f"This graphics card has no bfloat16: the {_spoken(component)} uses {name}."]
    if device.type == "cpu" and wish is torch.bfloat16 and not bfloat16_is_fast(device):
        return wish, [
            f"This processor has no native bfloat16: the {_spoken(component)} will be slower than in float32."
        ]
    return wish, []


def _spoken(component: str) -> str:
    return {"vae": "VAE", "text_encoder": "text encoder"}.get(component, component)
