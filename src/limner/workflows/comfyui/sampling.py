"""Nodes that sample, and those that say how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from limner.domain import MAX_SEED, SAMPLERS, SCHEDULES
from limner.validation import shown
from limner.workflows.comfyui.graph import Node
from limner.workflows.comfyui.reading import Kind, Reader, Unreadable
from limner.workflows.comfyui.wires import (
    Cannot,
    Conditioning,
    Guider,
    Latent,
    Model,
    NoiseSeed,
    Pass,
    Sampler,
    Sigmas,
    Value,
)

ON_DEVICE = "_gpu"
FROM_DEVICE = frozenset({"euler_ancestral", "dpmpp_2s_ancestral", "lcm", "ddpm", "er_sde"})
"""Samplers whose further noise ComfyUI draws on the device that it paints on."""
ENDS_CLEAN = frozenset(
    {"euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "dpmpp_2s_ancestral"}
)
"""Samplers whose last step answers with the denoised prediction itself."""
ONE_STEP = frozenset({"euler", "heun"})
"""Samplers that remember nothing of the steps before and draw no noise, so that they may be interrupted."""
OF_ANY_LENGTH = frozenset({"beta", "ddim_uniform"})
"""Schedules of n steps that may have more or fewer."""
FULL_DENOISE = 0.9999


def _ksampler(reader: Reader, node: Node, slot: int) -> Latent:
    guided = _first(reader, node)
    sampler, schedule, steps = _sampler(reader, node), _schedule(reader, node), reader.whole(node, "steps")
    seed, denoise = _seed(reader.whole(node, "seed")), _denoise(reader.number(node, "denoise", 1.0))
    guider = guided()
    return _sampled(reader, node, guider, Sigmas(steps, schedule, denoise, guider.model), sampler, seed)


def _advanced(reader: Reader, node: Node, slot: int) -> Latent:
    guided = _first(reader, node)
    sampler, schedule, steps = _sampler(reader, node), _schedule(reader, node), reader.whole(node, "steps")
    begin, end = max(0, reader.whole(node, "start_at_step", 0)), min(steps, reader.whole(node, "end_at_step", 10_000))
    seed = _seed(reader.whole(node, "noise_seed", 0))
    if not begin < end:
        raise Cannot(f"takes no step: it begins at step {begin} and ends at step {end} of {steps}")
    reader.only(node, "add_noise", "enable", "disable", otherwise="enable")
    reader.only(node, "return_with_leftover_noise", "enable", "disable", otherwise="disable")
    noisy = end < steps
    if noisy and reader.text(node, "return_with_leftover_noise", "disable") == "disable":
        raise Cannot(f"stops at step {end} of {steps} and throws away the noise that is left; a stage has no such end")
    if begin and schedule in OF_ANY_LENGTH:
        raise Cannot(f"begins in the middle of schedule `{schedule}`, whose number of steps varies")
    guider, latent = guided(), reader.at(node, "latent_image", Latent)
    sigmas = Sigmas(steps, schedule, 1.0, guider.model)
    if reader.text(node, "add_noise", "enable") == "disable":
        before = latent.passes[-1] if latent.passes and latent.passes[-1].noisy and not latent.enlarged else None
        here = _pass(node, latent, guider, sigmas, sampler, seed)
        return _continued(latent, before, replace(here, begin=begin, end=end, noisy=noisy))
    return _sampled(reader, node, guider, sigmas, sampler, seed, begin, end if noisy else None)


def _continued(latent: Latent, before: Pass | None, here: Pass) -> Latent:
    """One pass for two samplers of which the second goes on where the first stopped."""
    if before is None or before.end != here.begin:
        raise Cannot("adds no noise, and does not go on where a sampler in front of it stopped")
    same = replace(here, node=before.node, seed=before.seed, begin=before.begin, end=before.end, noisy=True)
    if same != before:
        raise Cannot(f"goes on where node {before.node} stopped, with other numbers, texts or another model")
    if here.sampler not in ONE_STEP:
        raise Cannot(f"goes on with sampler `{here.sampler}`, which is not the same in two parts as in one piece")
    whole = replace(before, end=here.end if here.noisy else None, noisy=here.noisy)
    return replace(latent, passes=(*latent.passes[:-1], whole))


def _custom(reader: Reader, node: Node, slot: int) -> Latent:
    if reader.value(node, "add_noise", True) not in (True, "enable"):
        raise Cannot("adds no noise; every stage of limner begins with noise of its own")
    guided = _first(reader, node)
    seed = _seed(reader.whole(node, "noise_seed"))
    guider, sigmas = guided(), reader.at(node, "sigmas", Sigmas)
    sampler = reader.at(node, "sampler", Sampler).name
    return _clean(slot, _sampled(reader, node, guider, sigmas, sampler, seed))


def _custom_advanced(reader: Reader, node: Node, slot: int) -> Latent:
    guider, sigmas = reader.at(node, "guider", Guider), reader.at(node, "sigmas", Sigmas)
    sampler, noise = reader.at(node, "sampler", Sampler).name, reader.at(node, "noise", NoiseSeed)
    return _clean(slot, _sampled(reader, node, guider, sigmas, sampler, noise.seed))


def _clean(slot: int, latent: Latent) -> Latent:
    if slot == 1 and (sampler := latent.passes[-1].sampler) not in ENDS_CLEAN:
        raise Cannot(f"hands on its `denoised_output`, which `{sampler}` does not end with; use `output`")
    return latent


def _sampled(
    reader: Reader, node: Node, guider: Guider, sigmas: Sigmas, sampler: str, seed: int,
    begin: int = 0, end: int | None = None,
) -> Latent:  # fmt: skip
    latent = reader.at(node, "latent_image", Latent)
    if latent.passes and latent.passes[-1].noisy:
        raise Cannot("adds noise to a latent that is not denoised to the end")
    if sigmas.model.shift != guider.model.shift:
        raise Cannot("takes its noise levels from a model with another shift than the one that it samples with")
    if sampler in FROM_DEVICE:
        reader.note("note", node, f"samples with {sampler}: its noise comes from the CPU, as ComfyUI's does on a CPU")
    here = _pass(node, latent, guider, sigmas, sampler, seed)
    return latent.after(replace(here, begin=begin, end=end, noisy=end is not None))


def _pass(node: Node, latent: Latent, guider: Guider, sigmas: Sigmas, sampler: str, seed: int) -> Pass:
    return Pass(
        node=node.id,
        size=latent.size,
        steps=sigmas.steps,
        cfg=guider.cfg,
        sampler=sampler,
        schedule=sigmas.schedule,
        denoise=sigmas.denoise,
        seed=seed,
        model=guider.model,
        positive=guider.positive,
        negative=guider.negative,
    )


def _guided(reader: Reader, node: Node, slot: int = 0) -> Guider:
    cfg = reader.number(node, "cfg", 1.0)
    if abs(cfg - 1) > 1e-9:
        reader.prepare(node, "negative")
    model, positive = reader.at(node, "model", Model), reader.at(node, "positive", Conditioning)
    if abs(cfg - 1) > 1e-9:
        return Guider(model, positive, reader.at(node, "negative", Conditioning), cfg)
    reader.note("ignored", node, "has cfg 1: its negative is not evaluated")
    return Guider(model, positive, reader.quietly(node, "negative", Conditioning), 1.0)


def _first(reader: Reader, node: Node) -> Callable[[], Guider]:
    """Read what a sampler is told, and fail only when that is needed: what else is wrong is told as well."""
    try:
        guider = _guided(reader, node)
    except Unreadable:
        guider = None

    def needed() -> Guider:
        if guider is None:
            raise Unreadable
        return guider

    return needed


def _unguided(reader: Reader, node: Node, slot: int) -> Guider:
    return Guider(reader.at(node, "model", Model), reader.at(node, "conditioning", Conditioning), None, 1.0)


def _sigmas(reader: Reader, node: Node, slot: int) -> Sigmas:
    model, denoise = reader.at(node, "model", Model), _denoise(reader.number(node, "denoise", 1.0))
    return Sigmas(reader.whole(node, "steps"), _schedule(reader, node), denoise, model)


def _choice(reader: Reader, node: Node, slot: int) -> Sampler:
    return Sampler(_sampler(reader, node))


def _as_it_is(name: str, **values: float | str) -> Kind:
    """A node for one sampler, whose numbers can only be the sampler's own."""

    def read(reader: Reader, node: Node, slot: int) -> Sampler:
        for key, value in values.items():
            reader.only(node, key, value, otherwise=value)
        if reader.value(node, "noise_device", "cpu") != "cpu":
            _note_device(reader, node)
        return Sampler(name)

    order = ("solver_type", "eta", "s_noise", "r", "noise_device")
    names = tuple(key for key in order if key in values or (key == "noise_device" and "sde" in name))
    told = ", ".join(f"{key} {value}" for key, value in values.items())
    return Kind("", f"`sampler` `{name}`, with {told}", read, names)


def _noise(reader: Reader, node: Node, slot: int) -> NoiseSeed:
    return NoiseSeed(_seed(reader.whole(node, "noise_seed")))


def _held(name: str) -> Kind:
    def read(reader: Reader, node: Node, slot: int) -> Value:
        return Value(reader.value(node, name))

    return Kind("", "the value that it holds", read, (name,))


def _sampler(reader: Reader, node: Node) -> str:
    wanted = reader.text(node, "sampler_name")
    name = wanted.removesuffix(ON_DEVICE)
    if name not in SAMPLERS:
        raise Cannot(f"wants sampler {shown(wanted)}, which limner does not have; it has {', '.join(SAMPLERS)}")
    if name != wanted:
        _note_device(reader, node)
    return name


def _note_device(reader: Reader, node: Node) -> None:
    reader.note("differs", node, "draws its noise on the GPU in ComfyUI; limner draws it on the CPU")


def _schedule(reader: Reader, node: Node) -> str:
    wanted = reader.text(node, "scheduler")
    if wanted not in SCHEDULES:
        raise Cannot(f"wants schedule {shown(wanted)}, which limner does not have; it has {', '.join(SCHEDULES)}")
    return wanted


def _denoise(denoise: float) -> float:
    if not 0 < denoise <= 1:
        raise Cannot(f"has denoise {denoise:g}; a stage has more than 0 and up to 1")
    return 1.0 if denoise > FULL_DENOISE else denoise


def _seed(seed: int) -> int:
    if not 0 <= seed <= MAX_SEED:
        raise Cannot(f"has seed {seed}; seeds are 0 to {MAX_SEED}")
    return seed


def _named(kind: Kind, name: str) -> Kind:
    return replace(kind, name=name)


_NEGATIVE = frozenset({"negative"})
_STAGE = "a stage with its own seed"

KINDS = (
    Kind(
        "KSampler",
        _STAGE,
        _ksampler,
        ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
        late=_NEGATIVE,
    ),
    Kind(
        "KSamplerAdvanced",
        f"{_STAGE}: the whole schedule, or its end; two that go on from each other are one, with euler or heun",
        _advanced,
        (
            *("add_noise", "noise_seed", "steps", "cfg", "sampler_name", "scheduler"),
            *("start_at_step", "end_at_step", "return_with_leftover_noise"),
        ),
        late=_NEGATIVE,
    ),
    Kind("SamplerCustom", _STAGE, _custom, ("add_noise", "noise_seed", "cfg"), outputs=2, late=_NEGATIVE),
    Kind("SamplerCustomAdvanced", _STAGE, _custom_advanced, outputs=2),
    Kind("BasicGuider", "a stage's text, with `cfg` 1", _unguided),
    Kind("CFGGuider", "a stage's texts and `cfg`", _guided, ("cfg",), late=_NEGATIVE),
    Kind("BasicScheduler", "`schedule`, `steps` and `denoise`", _sigmas, ("scheduler", "steps", "denoise")),
    Kind("KSamplerSelect", "`sampler`", _choice, ("sampler_name",)),
    _named(_as_it_is("euler_ancestral", eta=1.0, s_noise=1.0), "SamplerEulerAncestral"),
    _named(_as_it_is("dpmpp_sde", eta=1.0, s_noise=1.0, r=0.5), "SamplerDPMPP_SDE"),
    _named(_as_it_is("dpmpp_2m_sde", solver_type="midpoint", eta=1.0, s_noise=1.0), "SamplerDPMPP_2M_SDE"),
    Kind("RandomNoise", "a stage's seed", _noise, ("noise_seed",)),
    *(
        _named(_held("value"), name)
        for name in (
            "PrimitiveInt",
            "PrimitiveFloat",
            "PrimitiveString",
            "PrimitiveStringMultiline",
            "PrimitiveBoolean",
        )
    ),
)
