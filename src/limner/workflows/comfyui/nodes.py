"""The table of ComfyUI's nodes that limner runs, and of those of which it knows why it does not.

Every entry is a `Kind`: a class, what becomes of it, the names of its values, and a small function. To teach limner
another node, write that function beside its like and add its row to the `KINDS` there.
"""

from __future__ import annotations

from collections.abc import Mapping

from limner.workflows.comfyui import latents, loaders, pictures, prompts, sampling
from limner.workflows.comfyui.editor import NOTES, PRIMITIVE, REROUTE
from limner.workflows.comfyui.graph import Graph, Node, read_graph
from limner.workflows.comfyui.reading import Kind, Reader
from limner.workflows.comfyui.wires import Cannot

GROUPS: Mapping[str, tuple[Kind, ...]] = {
    "Models": loaders.KINDS,
    "Texts": prompts.KINDS,
    "Latents": latents.KINDS,
    "Sampling": sampling.KINDS,
    "Pictures": pictures.KINDS,
}

EDITOR_ONLY: Mapping[str, str] = {
    REROUTE: "the link that it bends",
    PRIMITIVE: "the value that it holds",
    **dict.fromkeys(NOTES, "nothing"),
}
"""What exists in saved workflows only, and is gone when they are read."""

REASONS: Mapping[str, str] = {
    "VAEEncodeForInpaint": "greys out the masked part before it encodes it and widens the mask; "
    "use VAEEncode with SetLatentNoiseMask",
    "DisableNoise": "adds no noise; every stage of limner begins with noise of its own",
    "ControlNetApply": "steers with a ControlNet, which limner does not have",
    "ControlNetApplyAdvanced": "steers with a ControlNet, which limner does not have",
    "ControlNetLoader": "loads a ControlNet, which limner does not have",
    "CLIPVisionLoader": "reads pictures with CLIP, which limner does not do",
    "CLIPVisionEncode": "reads pictures with CLIP, which limner does not do",
    "StyleModelApply": "gives the network another picture's style, which limner does not do",
    "ConditioningCombine": "paints from two texts at once; a picture of limner's has one",
    "ConditioningConcat": "joins two encoded texts; write them as one",
    "ConditioningAverage": "mixes two encoded texts; a picture of limner's has one",
    "ConditioningSetArea": "gives a text to a part of the picture; limner gives it to all of it",
    "ConditioningSetTimestepRange": "gives a text to some of the steps; limner gives it to all of them",
    "ImageUpscaleWithModel": "enlarges the finished picture with a network of its own",
    "UpscaleModelLoader": "loads a network that enlarges pictures",
    "ImageScaleBy": "changes the size of pixels; limner paints the picture in the size that it is to have",
    "ImageScaleToTotalPixels": "changes the size of pixels; use ImageScale with `lanczos` and `crop` `center`",
    "RepeatLatentBatch": "makes a batch whose pictures share their noise; ask for several pictures with `count`",
    "LazyCache": "reuses answers in another way than EasyCache, which limner has",
    "SplitSigmas": "tears a schedule in two; use KSamplerAdvanced",
    "ModelSamplingDiscrete": "changes what the network predicts, which limner takes from the checkpoint",
    "FreeU_V2": "changes the network on its way, which limner does not do",
    "PerturbedAttentionGuidance": "guides in a way that limner does not have",
}
"""Why well-known nodes are not run, as half a sentence that follows the node's name."""


def _refused(name: str, reason: str) -> Kind:
    def read(reader: Reader, node: Node, slot: int) -> object:
        raise Cannot(reason)

    return Kind(name, "", read, None, outputs=8)


KINDS: Mapping[str, Kind] = {kind.name: kind for group in GROUPS.values() for kind in group} | {
    name: _refused(name, reason) for name, reason in REASONS.items()
}


def fields_of(kind: str) -> tuple[str, ...] | None:
    """The names of a class's values as the editor saves them; None where they are not known."""
    return KINDS[kind].values if kind in KINDS else None


def read_workflow(found: object) -> Graph:
    """The graph that parsed JSON holds, in ComfyUI's API form or as its editor saves it.

    Raises `InvalidRequest`, which says what is not as it should be.
    """
    return read_graph(found, fields_of)
