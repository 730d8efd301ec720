"""What a request may ask of a checkpoint of each family, and what it gets where it does not ask.

Facts for planning; no tensor and no file is needed to know them. A family that is not here is one that limner does not
know: nothing is assumed of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from limner.domain import GenerationRequest
from limner.errors import InvalidRequest, Unsupported


@dataclass(frozen=True)
class FamilyFacts:
    """What the planning of pictures has to know of a family.

    Args:
        title: its name for people.
        preset: for requests that name none.
        guidance: whether its network is told a guidance as a number.
        clip_skip: whether its prompts are read by CLIP.
        context: how many pictures it can look at while it paints.
    """

    title: str
    preset: str
    guidance: bool = False
    clip_skip: bool = False
    context: int = 0


FACTS: Mapping[str, FamilyFacts] = {
    "zimage": FamilyFacts("Z-Image", "progressive"),
    "flux": FamilyFacts("FLUX", "flux-portrait", guidance=True, context=3),
    "sdxl": FamilyFacts("SDXL", "sdxl", clip_skip=True),
    "sd15": FamilyFacts("Stable Diffusion 1.5", "sd15", clip_skip=True),
    "generic": FamilyFacts("another pipeline of diffusers", "generic"),
}


EDITING_PRESET = "kontext-edit"
"""For requests with pictures whose checkpoint is made to change them."""


def edits_pictures(model: str, family: str | None) -> bool:
    """Whether a checkpoint is made to change the picture that it is shown: FLUX.1 Kontext.

    Its weights have the names and shapes of every other FLUX.1, so that here alone a checkpoint's own name counts.
    """
    return family == "flux" and "kontext" in model.lower()


def require_fitting(request: GenerationRequest, family: str | None) -> None:
    """Refuse what a checkpoint of that family cannot do; of an unknown family (None) nothing is refused.

    Raises `Unsupported` and `InvalidRequest`, which say what to change.
    """
    looks = request.references_as in ("context", "stitched")
    if len(request.references) > 1 and not looks:
        raise InvalidRequest(
            f"A picture starts from one reference picture; this request has {len(request.references)}. "
            "Give one, or set references_as to context for a checkpoint that can look at several (FLUX Kontext)."
        )
    if looks and request.mask:
        raise InvalidRequest(
            "A mask belongs to the picture that is painted over, and this request only looks at its pictures. "
            "Leave the mask out, or set references_as to start."
        )
    facts = FACTS.get(family or "")
    if facts is None:
        return
    if looks and not facts.context:
        raise Unsupported(
            f"The checkpoint is {facts.title}, which cannot look at pictures while it paints. "
            "Choose a FLUX Kontext checkpoint, or set references_as to start."
        )
    if looks and len(request.references) > facts.context and request.references_as == "context":
        raise InvalidRequest(
            f"{facts.title} looks at {facts.context} pictures at most; this request has {len(request.references)}. "
            "Give fewer, or set references_as to stitched."
        )
    if request.clip_skip is not None and not facts.clip_skip:
        raise Unsupported(
            f"The checkpoint is {facts.title}, where the layer of CLIP cannot be chosen. Leave clip_skip out."
        )
    if request.guidance is not None and not facts.guidance:
        raise Unsupported(f"The checkpoint is {facts.title}, which is told no guidance. Use cfg, or leave it out.")
