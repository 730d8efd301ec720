"""Nodes that say what is to be painted."""

from __future__ import annotations

import re
from dataclasses import replace

from limner.workflows.comfyui.graph import Node
from limner.workflows.comfyui.reading import Kind, Reader
from limner.workflows.comfyui.wires import Cannot, Clip, Conditioning, Latent

FLUX = "flux"
PLAIN_READERS = (FLUX, "sd3")
"""Architectures whose prompts limner reads as they stand, where ComfyUI weighs words in parentheses."""

_PARENTHESIS = re.compile(r"(?<!\\)[()]")
_BREAK = re.compile(r"\bBREAK\b")


def _prompt(reader: Reader, node: Node, slot: int) -> Conditioning:
    return _conditioning(reader, node, reader.text(node, "text"))


def _flux_prompt(reader: Reader, node: Node, slot: int) -> Conditioning:
    text, other = reader.text(node, "t5xxl"), reader.text(node, "clip_l")
    if text != other:
        raise Cannot("has different texts for its two encoders; limner gives both the same one")
    return replace(_conditioning(reader, node, text), guidance=_guidance_of(reader, node))


def _sdxl_prompt(reader: Reader, node: Node, slot: int) -> Conditioning:
    text, other = reader.text(node, "text_g"), reader.text(node, "text_l")
    if text != other:
        raise Cannot("has different texts for its two encoders; limner gives both the same one")
    names = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
    return replace(_conditioning(reader, node, text), sizes=tuple(reader.whole(node, name) for name in names))


def _conditioning(reader: Reader, node: Node, text: str) -> Conditioning:
    clip = reader.at(node, "clip", Clip)
    if "embedding:" in text:
        raise Cannot("names an embedding (textual inversion), which limner cannot load")
    if clip.kind in PLAIN_READERS and _PARENTHESIS.search(text):
        reader.note("differs", node, "has parentheses; limner reads them as they stand, ComfyUI as weights")
    if _BREAK.search(text):
        reader.note("differs", node, "says BREAK, which limner takes as the end of a chunk where CLIP reads")
    return Conditioning(text, clip, node.id)


def _guidance(reader: Reader, node: Node, slot: int) -> Conditioning:
    return replace(reader.at(node, "conditioning", Conditioning), guidance=_guidance_of(reader, node))


def _guidance_of(reader: Reader, node: Node) -> float:
    guidance = reader.number(node, "guidance")
    if not 0 <= guidance <= 30:
        raise Cannot(f"has guidance {guidance:g}; limner can do 0 to 30")
    return guidance


def _zeroed(reader: Reader, node: Node, slot: int) -> Conditioning:
    return replace(reader.at(node, "conditioning", Conditioning), text="", zeroed=True, node=node.id)


def _looking(reader: Reader, node: Node, slot: int) -> Conditioning:
    told = reader.at(node, "conditioning", Conditioning)
    latent = reader.find(node, "latent", Latent)
    if latent is None:
        return told
    if latent.start is None or latent.passes or latent.enlarged:
        raise Cannot("looks at a latent that is not simply a loaded picture; limner looks at loaded ones only")
    sizes = reader.sizes
    known = all(sizes.get(loaded.node) for loaded in latent.start.loaded)
    if known and not latent.start.trained(sizes):
        raise Cannot(
            "looks at a picture in a size that FLUX Kontext was not trained on, to which limner would bring it; "
            "put a FluxKontextImageScale in front of the VAEEncode"
        )
    if not known and not latent.start.kontext:
        reader.note("differs", node, "looks at a picture that limner brings to the nearest size that Kontext knows")
    return replace(told, context=(*told.context, latent.start))


_TEXT = "`prompt` or `negative_prompt`"

KINDS = (
    Kind("CLIPTextEncode", _TEXT, _prompt, ("text",)),
    Kind(
        "CLIPTextEncodeFlux",
        f"{_TEXT} where both texts agree, and `guidance`",
        _flux_prompt,
        ("clip_l", "t5xxl", "guidance"),
    ),
    Kind(
        "CLIPTextEncodeSDXL",
        f"{_TEXT} where both texts agree and the sizes are the picture's own",
        _sdxl_prompt,
        ("width", "height", "crop_w", "crop_h", "target_width", "target_height", "text_g", "text_l"),
    ),
    Kind("FluxGuidance", "`guidance` of the stages", _guidance, ("guidance",)),
    Kind("ConditioningZeroOut", "nothing: a negative where cfg is 1, which nobody evaluates", _zeroed),
    Kind("ReferenceLatent", "a reference that is looked at (`references_as`: `context`)", _looking),
)
