"""Make one request of the samplers that lead to a picture.

Stages carry what is theirs; what they can only have together (texts, checkpoint, pictures) must agree. Every stage
keeps its seed, and its further noise comes from where ComfyUI takes it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from limner.domain import MAX_SEED, MAX_STAGES, Stage
from limner.errors import InvalidRequest
from limner.validation import checked
from limner.workflows.comfyui.changes import Changes
from limner.workflows.comfyui.names import Shelf
from limner.workflows.comfyui.prompts import FLUX
from limner.workflows.comfyui.reading import Reader
from limner.workflows.comfyui.wires import Conditioning, Latent, Loaded, Lora, Pass, Pixels
from limner.workflows.families import FACTS
from limner.workflows.plans import resized

FLUX_SHIFT = math.exp(1.15)
"""ComfyUI's for FLUX.1-dev and its kin, at every size, where no node sets another."""
FLUX_GUIDANCE = 3.5
"""What FLUX is told in ComfyUI where no node tells it."""
UNSHIFTED = "schnell"
BROWNIAN = frozenset({"dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"})
"""Samplers whose further noise is a path of the stage's own seed in ComfyUI; that of the others is of the next seed."""


_FIELDS = {"positive": "prompt", "negative": "negative_prompt"}


SHIFTERS = {"zimage": "ModelSamplingAuraFlow", FLUX: "ModelSamplingFlux"}
"""By family, the node whose shift means the same in limner to the last bit."""
UNSHIFTABLE = frozenset({"sdxl", "sd15"})


@dataclass(frozen=True)
class Missing:
    """Something that a node names and that is not here: a model, a LoRA, or a picture that the caller must give."""

    node: str
    kind: Literal["model", "adapter", "picture"]
    name: str
    near: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == "picture":
            return f"Node {self.node} loads the picture `{self.name}`, which was not given."
        known = f"Known: {', '.join(self.near)}." if self.near else "None are known yet."
        what = "checkpoint" if self.kind == "model" else "LoRA"
        return f"Node {self.node} loads `{self.name}`, and there is no {what} of that name. {known}"


class Assembly:
    """Makes one request of the samplers that lead to a picture.

    What the stages cannot agree on is noted with the reader, names that are not here in `missing`.
    """

    def __init__(self, reader: Reader, shelf: Shelf, changes: Changes, latent: Latent) -> None:
        self.missing: list[Missing] = []
        self._reader = reader
        self._shelf = shelf
        self._fields = changes.fields
        self._latent = latent
        self._passes = latent.passes

    def values(self) -> dict[str, Any] | None:
        """The request's values; None where stages cannot be made."""
        first = self._passes[0]
        values: dict[str, Any] = {"seed": first.seed, **self._texts()}
        model = self._model(first)
        values["model"] = model
        values |= self._pictures()
        values["adapters"] = self._adapters()
        stages = self._stages(model)
        if stages is None:
            return None
        if self._fields.width or self._fields.height:
            width, height = self._fields.width or stages[-1].width, self._fields.height or stages[-1].height
            stages = resized(stages, width, height)
        values["stages"] = stages
        self._check_sizes(stages)
        if values.get("references_as") == "start":
            values["denoise"] = stages[0].denoise
        if self._fields.count is not None:
            values["count"] = self._fields.count
        elif self._latent.batch != 1:
            self._trouble(
                first.node,
                f"paints a batch of {self._latent.batch}, whose pictures share their noise in ComfyUI; "
                "set `batch_size` to 1, or set `count`, which gives every picture a seed of its own",
            )
        return values

    # --- what all stages share

    def _texts(self) -> dict[str, Any]:
        positive = self._shared("positive", [(step.node, step.positive) for step in self._passes])
        guided = [(step.node, step.negative) for step in self._passes if step.guided and step.negative is not None]
        for step in self._passes:
            if step.guided and (step.negative is None or step.negative.zeroed):
                told = "is zeroed out" if step.negative else "has no negative"
                self._trouble(step.node, f"{told} where cfg is {step.cfg:g}; limner's negative is a text")
        negative = self._shared("negative", guided)
        unused = next((step.negative for step in self._passes if step.negative and not step.negative.zeroed), None)
        texts: dict[str, Any] = {
            "prompt": positive.text if positive else "",
            "negative_prompt": negative.text if negative else unused.text if unused else "",
        }
        told = {"prompt": self._fields.prompt, "negative_prompt": self._fields.negative_prompt}
        texts |= {name: text for name, text in told.items() if text is not None}
        skips = {told.clip.skip for _, told in self._evaluated()}
        if len(skips) > 1:
            self._trouble(self._passes[0].node, "reads its texts with CLIP stopped at different layers")
        if (skip := min((skip for skip in skips if skip), default=None)) is not None:
            texts["clip_skip"] = skip
        return texts

    def _shared(self, side: str, told: Sequence[tuple[str, Conditioning]]) -> Conditioning | None:
        for node, text in told:
            if text.text != told[0][1].text and getattr(self._fields, _FIELDS[side]) is None:
                self._trouble(node, f"has another {side} text than the stage before; a picture of limner's has one")
        return told[0][1] if told else None

    def _evaluated(self) -> Iterator[tuple[Pass, Conditioning]]:
        for step in self._passes:
            yield step, step.positive
            if step.guided and step.negative is not None:
                yield step, step.negative

    def _model(self, first: Pass) -> str | None:
        for step in self._passes:
            if step.model.file != first.model.file:
                self._trouble(step.node, f"paints with `{step.model.file}`, the stage before with another checkpoint")
        name = self._shelf.checkpoint(first.model.file)
        if name is None:
            near = self._shelf.near(first.model.file, self._shelf.checkpoints)
            self.missing.append(Missing(first.model.node, "model", first.model.file, tuple(near)))
        files = list(dict.fromkeys(file for _, told in self._evaluated() for file in told.clip.files))
        if not first.model.whole and files:
            told = ", ".join(f"`{file}`" for file in files)
            self._reader.note(
                "note", first.model.node, f"goes with {told}; limner takes what it finds for the checkpoint"
            )
        return name

    def _adapters(self) -> list[dict[str, Any]]:
        found: dict[tuple[str, float, int], Lora] = {}
        places: dict[tuple[str, float, int], list[int]] = {}
        for number, step in enumerate(self._passes):
            times: Counter[tuple[str, float]] = Counter()
            for lora in step.model.loras:
                key = (lora.file, lora.weight, times[lora.file, lora.weight])
                times[lora.file, lora.weight] += 1
                found.setdefault(key, lora)
                places.setdefault(key, []).append(number)
        self._check_texts()
        adapters: list[dict[str, Any]] = []
        for key, lora in found.items():
            name = self._shelf.adapter(lora.file)
            if name is None:
                near = self._shelf.near(lora.file, self._shelf.adapters)
                self.missing.append(Missing(lora.node, "adapter", lora.file, tuple(near)))
            # ComfyUI puts no trigger words in front of a prompt.
            adapter: dict[str, Any] = {"name": name, "weight": lora.weight, "trigger": ""}
            everywhere = len(places[key]) == len(self._passes)
            adapters.append(adapter if everywhere else adapter | {"stages": places[key]})
        return adapters

    def _check_texts(self) -> None:
        """Say where the weight of a LoRA in the text encoder is not the one in the denoiser."""
        for step, told in self._evaluated():
            weights = {lora.file: lora.weight for lora in step.model.loras}
            encoded = {lora.file: lora for lora in told.clip.loras}
            for file, lora in encoded.items():
                if file not in weights:
                    self._trouble(lora.node, f"applies `{file}` to the text encoder only; limner applies it to both")
                elif lora.weight != weights[file]:
                    note = f"has {lora.weight:g} for the text encoder; limner takes {weights[file]:g} for both"
                    self._reader.note("differs", lora.node, note)
            for lora in step.model.loras:
                if lora.file not in encoded:
                    note = (
                        f"is for the denoiser only; what `{lora.file}` may hold for a text encoder is applied as well"
                    )
                    self._reader.note("note", lora.node, note)

    # --- pictures

    def _pictures(self) -> dict[str, Any]:
        first, start, mask = self._passes[0], self._latent.start, self._latent.mask
        context = first.positive.context
        for step, told in self._evaluated():
            if told.context != context:
                self._trouble(step.node, "looks at other pictures in one of its texts; limner shows all texts the same")
        if context:
            return self._looked_at(first, context)
        if start is None:
            if _denoise(first) < 1:
                self._trouble(first.node, f"begins at denoise {_denoise(first):.3g} with an empty latent")
            return {}
        if len(start.loaded) != 1:
            self._trouble(first.node, "begins with pictures that were stitched together")
        values: dict[str, Any] = {"references": self._given(start.loaded[:1]), "references_as": "start"}
        if mask is not None:
            if len(self._passes) > 1:
                self._trouble(
                    self._passes[1].node, "is a second stage of a masked picture, which limner masks otherwise"
                )
            values["mask"] = next(iter(self._given((mask.loaded,))), None)
        return values

    def _looked_at(self, first: Pass, context: tuple[Pixels, ...]) -> dict[str, Any]:
        if self._latent.start is not None and _denoise(first) < 1:
            self._trouble(first.node, "begins with a picture and looks at pictures; limner does one of the two")
        if self._latent.mask is not None:
            self._trouble(first.node, "has a mask and looks at pictures; limner does one of the two")
        stitched = any(len(pixels.loaded) > 1 for pixels in context)
        if stitched and len(context) > 1:
            self._trouble(first.node, "looks at stitched pictures beside others; limner stitches all or none")
        if any(pixels.size is not None for pixels in context):
            self._trouble(first.node, "looks at a picture that an ImageScale has changed; limner shows it as it is")
        loaded = [one for pixels in context for one in pixels.loaded]
        return {"references": self._given(loaded), "references_as": "stitched" if stitched else "context"}

    def _given(self, loaded: Sequence[Loaded]) -> list[Any]:
        for one in loaded:
            if one.node not in self._reader.given:
                missing = Missing(one.node, "picture", one.file)
                self.missing += [] if missing in self.missing else [missing]
        return [self._reader.given[one.node].reference for one in loaded if one.node in self._reader.given]

    # --- stages

    def _stages(self, model: str | None) -> tuple[Stage, ...] | None:
        if len(self._passes) > MAX_STAGES:
            self._trouble(self._passes[MAX_STAGES].node, f"is one sampler too many; limner paints {MAX_STAGES} stages")
            return None
        stages: list[Stage] = []
        for step in self._passes:
            if step.size is None:
                continue  # it follows from a picture that is missing
            try:
                stages.append(checked(Stage, self._stage(step, model)))
            except InvalidRequest as error:
                self._trouble(step.node, f"has values that limner does not take: {error.message.rstrip('.')}")
        return tuple(stages) if len(stages) == len(self._passes) else None

    def _stage(self, step: Pass, model: str | None) -> dict[str, Any]:
        assert step.size is not None
        flux = self._is_flux(step, model)
        guidance = step.positive.guidance
        if step.guided and step.negative is not None and flux:
            other = step.negative.guidance
            if (FLUX_GUIDANCE if other is None else other) != (FLUX_GUIDANCE if guidance is None else guidance):
                self._trouble(step.node, "tells its two texts different guidances; a stage has one")
        shift = step.model.shift
        self._check_shift(step, model)
        if shift is None and flux and not _unshifted(step, model):
            shift = FLUX_SHIFT
            self._reader.note("note", step.node, f"has no ModelSamplingFlux: shift {shift:.3f}, as in ComfyUI")
        return {
            "width": step.size[0],
            "height": step.size[1],
            "steps": _steps(step),
            "cfg": step.cfg,
            "guidance": guidance,
            "sampler": step.sampler,
            "schedule": step.schedule,
            "shift": shift,
            "denoise": _denoise(step),
            "cache": step.model.cache,
            "noise_seed": step.seed,
            "stream_seed": step.seed if step.sampler in BROWNIAN else (step.seed + 1) % (MAX_SEED + 1),
        }

    def _check_shift(self, step: Pass, model: str | None) -> None:
        """A family's own node for the shift is exact; others tell the network other times, or read other levels."""
        family = self._shelf.checkpoints.get(model or "", "")
        node = self._reader.graph.nodes.get(step.model.shifter)
        if node is None or family not in FACTS:
            return
        if family not in SHIFTERS:
            if family in UNSHIFTABLE:
                self._trouble(node.id, f"makes a flow of the checkpoint, and {FACTS[family].title} is none")
        elif node.kind == "ModelSamplingSD3":
            self._trouble(node.id, f"tells the network times as SD3 wants them, and {FACTS[family].title} wants others")
        elif node.kind != SHIFTERS[family]:
            told = f"is not {FACTS[family].title}'s own {SHIFTERS[family]}; its levels are rounded a little differently"
            self._reader.note("differs", node, told)

    def _is_flux(self, step: Pass, model: str | None) -> bool:
        family = self._shelf.checkpoints.get(model or "", "")
        return family == FLUX if family else step.positive.clip.kind == FLUX

    def _check_sizes(self, stages: Sequence[Stage]) -> None:
        """SDXL's explicit sizes can only be what limner tells it anyway."""
        for stage, step in zip(stages, self._passes, strict=True):
            wanted = (stage.width, stage.height, 0, 0, stage.width, stage.height)
            for told in (step.positive, step.negative if step.guided else None):
                if told is not None and told.sizes not in (None, wanted):
                    sizes = ", ".join(str(number) for number in told.sizes or ())
                    self._trouble(
                        told.node, f"tells SDXL the sizes {sizes}; limner tells it {stage.width}x{stage.height}"
                    )

    def _trouble(self, node: str, reason: str) -> None:
        self._reader.trouble(node, reason)


def _steps(step: Pass) -> int:
    return step.steps - step.begin


def _denoise(step: Pass) -> float:
    """Of a stage of n steps at the end of a schedule of m: n divided by it must come to m, rounded down."""
    return _steps(step) / (step.steps + 0.5) if step.begin else step.denoise


def _unshifted(step: Pass, model: str | None) -> bool:
    return UNSHIFTED in f"{step.model.file} {model or ''}".lower()
