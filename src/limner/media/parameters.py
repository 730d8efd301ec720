"""The `parameters` text that AUTOMATIC1111's web UI made common, written from a recipe and read into a request.

    a red boat <lora:ink:0.8>
    Negative prompt: blurry
    Steps: 9, Sampler: Euler a, Schedule type: Simple, CFG scale: 2, Seed: 7, Size: 176x224, Model: sketchbook, …

The text knows one stage and one refinement. Of a longer plan it tells the first stage and the last; the recipe has all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from limner.domain import (
    MAX_ADAPTERS,
    MAX_CFG,
    MAX_PROMPT,
    MAX_SEED,
    MAX_SIDE,
    MAX_STEPS,
    MIN_SIDE,
    SAMPLERS,
    SCHEDULES,
    SIZE_MULTIPLE,
    GenerationRequest,
    Recipe,
    Record,
)
from limner.errors import Unsupported
from limner.validation import checked

MAX_WEIGHT = 10
SOURCE = "parameters"
CHECKPOINT_NOTE = "It was made with checkpoint"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SAMPLER_NAMES = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "lcm": "LCM",
    "res_multistep": "Res Multistep",
    "ddpm": "DDPM",
    "er_sde": "ER SDE",
}
_SCHEDULE_NAMES = {
    "simple": "Simple",
    "normal": "Normal",
    "beta": "Beta",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "ddim_uniform": "DDIM",
    "linear_quadratic": "Linear Quadratic",
    "kl_optimal": "KL Optimal",
}
# Both begin in few places only: a text from outside may be a million characters long.
_FIELD = re.compile(r'(?:^|,)\s*([A-Za-z][\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?=,|$)')
_LORA = re.compile(r"(?<!\s)\s*<lora:([^:<>]+)(?::(-?\d+(?:\.\d+)?))?(?::[^<>]*)?>")


# What the file says beside how the picture is made, and what is read together with another field.
_SILENT = re.compile(
    r"Steps|Sampler|Schedule type|CFG scale|Seed|Size|Model|Model hash|Denoising strength|Hires resize|Hires upscale"
    r"|Version|VAE hash|Lora hashes|TI hashes|User|Hashes|Created Date|Discard penultimate sigma"
)


class ForeignRecipe(Record):
    """What another program's picture tells of how it was made, as far as limner understands it."""

    source: Literal["a1111", "comfyui"] = "a1111"
    request: GenerationRequest
    checkpoint: str = ""
    text: str
    notes: tuple[str, ...] = ()


def write_parameters(recipe: Recipe) -> str:
    """The text for a recipe."""
    plan = recipe.plan
    first, last = plan.stages[0], plan.stages[-1]
    prompt = plan.prompt + "".join(f" <lora:{a.name}:{a.requested_weight:g}>" for a in recipe.adapters)
    fields = {
        "Steps": first.steps,
        "Sampler": _SAMPLER_NAMES.get(first.sampler, first.sampler),
        "Schedule type": _SCHEDULE_NAMES.get(first.schedule, first.schedule),
        "CFG scale": f"{first.cfg:g}",
        "Seed": plan.seed,
        "Size": f"{first.width}x{first.height}",
        "Model hash": recipe.checkpoint_sha256[:10],
        "Model": _quoted(recipe.checkpoint),
    }
    if len(plan.stages) > 1:
        fields |= {
            "Denoising strength": f"{last.denoise:g}",
            "Hires resize": f"{last.width}x{last.height}",
            "Hires steps": last.steps,
        }
    elif first.denoise < 1:
        fields["Denoising strength"] = f"{first.denoise:g}"
    fields["Version"] = _quoted(f"limner {recipe.versions.get('limner', '')}".strip())
    lines = [prompt]
    if plan.negative_prompt:
        lines.append(f"Negative prompt: {plan.negative_prompt}")
    lines.append(", ".join(f"{name}: {value}" for name, value in fields.items()))
    return "\n".join(lines)


def parse_parameters(text: str) -> ForeignRecipe:
    """A request from such a text. What cannot be carried over is said in `notes`.

    Raises `Unsupported` when the text is something else.
    """
    lines = text.replace("\r\n", "\n").strip().split("\n")
    fields = {name.strip(): value.strip().strip('"') for name, value in _FIELD.findall(lines[-1])}
    if "Steps" not in fields:
        raise Unsupported("The picture's `parameters` text is of a form that limner does not know. Choose another.")
    body, *negatives = re.split(r"(?m)^Negative prompt:", "\n".join(lines[:-1]), maxsplit=1)
    notes: list[str] = []
    values: dict[str, object] = {
        "prompt": plain(_LORA.sub("", body), notes),
        "negative_prompt": plain("".join(negatives), notes),
        "adapters": adapters_of([(name, float(weight or 1)) for name, weight in _LORA.findall(body)], notes),
        "steps": whole("Steps", fields["Steps"], 1, MAX_STEPS, notes),
        "seed": whole("Seed", fields.get("Seed", ""), 0, MAX_SEED, notes),
        "cfg": guidance("CFG scale", fields.get("CFG scale", ""), notes),
    }
    values |= _sampling(fields, notes) | _size(fields, notes)
    if model := fields.get("Model", ""):
        notes.append(f"{CHECKPOINT_NOTE} `{model}`; choose one of yours.")
    if "Denoising strength" in fields and not any(name.startswith("Hires") for name in fields):
        notes.append("It began with another picture, which the file does not carry.")
    if unused := [f"{name} {value}" for name, value in fields.items() if not _SILENT.fullmatch(name)]:
        notes.append(f"Not understood and left out: {', '.join(unused)}.")
    request = checked(GenerationRequest, {key: value for key, value in values.items() if value is not None}, SOURCE)
    return ForeignRecipe(request=request, checkpoint=model, text=text, notes=tuple(notes))


def plain(text: str, notes: list[str]) -> str:
    """A prompt without what no prompt may hold."""
    kept = _CONTROL.sub("", text).strip()
    if kept != text.strip():
        notes.append("Control characters in its prompt were left out.")
    if len(kept) > MAX_PROMPT:
        notes.append(f"A prompt of {len(kept):,} characters was cut to {MAX_PROMPT:,}.")
    return kept[:MAX_PROMPT]


def adapters_of(found: Sequence[tuple[str, float]], notes: list[str]) -> list[dict[str, object]]:
    """The adapters that a request can have of those with these names and weights."""
    fit: list[dict[str, object]] = []
    for name, weight in found:
        if (
            len(fit) < MAX_ADAPTERS
            and 0 < len(name) <= 1000
            and abs(weight) <= MAX_WEIGHT
            and not _CONTROL.search(name)
        ):
            fit.append({"name": name, "weight": weight})
        else:
            limits = f"at most {MAX_ADAPTERS} with weights of -{MAX_WEIGHT} to {MAX_WEIGHT} are possible"
            notes.append(f"LoRA `{name}` at {weight:g} was left out: {limits}.")
    return fit


def sampler_of(name: str, notes: list[str]) -> str | None:
    """Our name of a sampler."""
    found = _key_of(_SAMPLER_NAMES, name) or (name.lower() if name.lower() in SAMPLERS else None)
    if name and found is None:
        notes.append(f"Sampler `{name}` is not known here; the preset's is used.")
    return found


def schedule_of(name: str, notes: list[str]) -> str | None:
    """Our name of a schedule; the web UI's `Automatic` leaves the choice open."""
    found = _key_of(_SCHEDULE_NAMES, name) or (name.lower() if name.lower() in SCHEDULES else None)
    if found is None and name.lower() not in ("", "automatic"):
        notes.append(f"Schedule `{name}` is not known here; the preset's is used.")
    return found


def size_near(width: int, height: int, notes: list[str]) -> dict[str, object]:
    """The nearest size that can be painted."""
    near = [min(MAX_SIDE, max(MIN_SIDE, round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE)) for side in (width, height)]
    if near != [width, height]:
        notes.append(
            f"Its size {width}x{height} became {near[0]}x{near[1]}: "
            f"sides are multiples of {SIZE_MULTIPLE} from {MIN_SIDE} to {MAX_SIDE}."
        )
    return {"width": near[0], "height": near[1]}


def whole(name: str, text: str, least: int, most: int, notes: list[str]) -> int | None:
    """A whole number in these limits."""
    if text.isascii() and text.isdigit() and len(text) <= 20 and least <= int(text) <= most:
        return int(text)
    if text:
        notes.append(f"{name} {text} is outside {least} to {most} and was left out.")
    return None


def guidance(name: str, text: str, notes: list[str]) -> float | None:
    """How strongly to follow the prompt."""
    if re.fullmatch(r"\d{1,3}(\.\d{0,20})?", text, re.ASCII) and float(text) <= MAX_CFG:
        return float(text)
    if text:
        notes.append(f"{name} {text} is outside 0 to {MAX_CFG} and was left out.")
    return None


def _sampling(fields: Mapping[str, str], notes: list[str]) -> dict[str, object]:
    sampler, schedule = fields.get("Sampler", ""), fields.get("Schedule type", "")
    for name in _SCHEDULE_NAMES.values():
        # Older versions wrote both into one name: "DPM++ 2M Karras".
        if sampler.lower().endswith(" " + name.lower()):
            sampler, schedule = sampler[: -len(name) - 1], name
    return {"sampler": sampler_of(sampler, notes), "schedule": schedule_of(schedule, notes)}


def _size(fields: Mapping[str, str], notes: list[str]) -> dict[str, object]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", fields.get("Hires resize") or fields.get("Size", ""), re.ASCII)
    if not found:
        return {}
    factor = re.fullmatch(r"\d(\.\d{1,6})?", fields.get("Hires upscale", ""), re.ASCII)
    times = float(factor[0]) if factor and "Hires resize" not in fields else 1.0
    return size_near(round(int(found[1]) * times), round(int(found[2]) * times), notes)


def _key_of(names: Mapping[str, str], name: str) -> str | None:
    return next((key for key, shown in names.items() if shown.lower() == name.lower()), None)


def _quoted(value: str) -> str:
    return f'"{value}"' if any(mark in value for mark in ',:"\n') else value
