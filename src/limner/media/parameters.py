"""The `parameters` text that AUTOMATIC1111's web UI made common, written from a recipe and read into a request.

    a red boat <lora:ink:0.8>
    Negative prompt: blurry
    Steps: 9, Sampler: Euler a, Schedule type: Simple, CFG scale: 2, Seed: 7, Size: 176x224, Model: sketchbook, …

The text knows one stage and one refinement. Of a longer plan it tells the first stage and the last; the recipe has all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from limner.domain import (
    MAX_SEED,
    MAX_SIDE,
    MAX_STEPS,
    MIN_SIDE,
    SAMPLERS,
    SIZE_MULTIPLE,
    GenerationRequest,
    Recipe,
    Record,
)
from limner.errors import InvalidRequest
from limner.validation import checked

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
_FIELD = re.compile(r'\s*([A-Za-z][\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_LORA = re.compile(r"\s*<lora:([^:<>]+)(?::(-?\d+(?:\.\d+)?))?(?::[^<>]*)?>")


class ForeignRecipe(Record):
    """What another program's picture tells of how it was made, as far as limner understands it."""

    request: GenerationRequest
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

    Raises `InvalidRequest` when the text is something else.
    """
    lines = text.replace("\r\n", "\n").strip().split("\n")
    fields = {name.strip(): value.strip().strip('"') for name, value in _FIELD.findall(lines[-1])}
    if "Steps" not in fields:
        raise InvalidRequest("The picture's `parameters` text is of a form that limner does not know. Choose another.")
    body, *negatives = re.split(r"(?m)^Negative prompt:", "\n".join(lines[:-1]), maxsplit=1)
    notes: list[str] = []
    values: dict[str, object] = {
        "prompt": _LORA.sub("", body).strip(),
        "negative_prompt": "".join(negatives).strip(),
        "adapters": [{"name": name, "weight": float(weight or 1)} for name, weight in _LORA.findall(body)],
        "steps": _whole(fields, "Steps", 1, MAX_STEPS, notes),
        "seed": _whole(fields, "Seed", 0, MAX_SEED, notes),
    }
    if (cfg := fields.get("CFG scale", "")).replace(".", "", 1).isdigit():
        values["cfg"] = float(cfg)
    values |= _sampling(fields, notes) | _size(fields, notes)
    if model := fields.get("Model"):
        notes.append(f"It was made with checkpoint `{model}`; name yours with --model.")
    if "Denoising strength" in fields and "Hires resize" not in fields and "Hires upscale" not in fields:
        notes.append("It began with another picture, which the file does not carry.")
    return ForeignRecipe(request=checked(GenerationRequest, values, "parameters"), text=text, notes=tuple(notes))


def _sampling(fields: Mapping[str, str], notes: list[str]) -> dict[str, object]:
    given = fields.get("Sampler", "").lower()
    schedule = _key_of(_SCHEDULE_NAMES, fields.get("Schedule type", ""))
    for key, name in _SCHEDULE_NAMES.items():
        # Older versions wrote both into one name: "DPM++ 2M Karras".
        if given.endswith(" " + name.lower()):
            given, schedule = given.removesuffix(" " + name.lower()), key
    sampler = _key_of(_SAMPLER_NAMES, given) or (given if given in SAMPLERS else None)
    if given and sampler is None:
        notes.append(f"Sampler `{fields['Sampler']}` is not known here; the preset's is used.")
    return {"sampler": sampler, "schedule": schedule}


def _size(fields: Mapping[str, str], notes: list[str]) -> dict[str, object]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", fields.get("Hires resize") or fields.get("Size", ""))
    if not found:
        return {}
    exact = [int(side) for side in found.groups()]
    near = [min(MAX_SIDE, max(MIN_SIDE, round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE)) for side in exact]
    if near != exact:
        notes.append(f"Its size {exact[0]}x{exact[1]} became {near[0]}x{near[1]}: sides are multiples of 16.")
    return {"width": near[0], "height": near[1]}


def _whole(fields: Mapping[str, str], name: str, least: int, most: int, notes: list[str]) -> int | None:
    text = fields.get(name, "")
    if text.isdigit() and least <= int(text) <= most:
        return int(text)
    if text:
        notes.append(f"{name} {text} is outside {least} to {most} and was left out.")
    return None


def _key_of(names: Mapping[str, str], name: str) -> str | None:
    return next((key for key, shown in names.items() if shown.lower() == name.lower()), None)


def _quoted(value: str) -> str:
    return f'"{value}"' if any(mark in value for mark in ',:"\n') else value
