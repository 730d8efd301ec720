"""The input of a job at RunPod that other programs send: the fields of a request, under the names in wide use.

    {"prompt": "a red boat", "num_images": 2, "guidance_scale": 1.5, "loras": [{"name": "ink", "weight": 0.8}]}

Pictures come as base64. Unknown fields fail, as everywhere. This module knows nothing of RunPod's SDK.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from PIL import Image

from limner.backends.runpod_wire import require_names
from limner.domain import GenerationRequest, OutputSettings
from limner.errors import InvalidRequest, Unsupported
from limner.media.pictures import open_mask, open_reference, require_same_shape
from limner.ports import Backend, Order
from limner.studio import Studio
from limner.validation import checked

ALIASES = {
    "negativePrompt": "negative_prompt",
    "num_images": "count",
    "numImages": "count",
    "num_outputs": "count",
    "n": "count",
    "num_inference_steps": "steps",
    "numInferenceSteps": "steps",
    "guidance_scale": "cfg",
    "guidanceScale": "cfg",
    "lora": "adapters",
    "loras": "adapters",
    "lora_list": "adapters",
    "loraList": "adapters",
    "image": "references",
    "images": "references",
    "aspectRatio": "aspect_ratio",
}
"""Other names of a request's fields."""

ADAPTER_ALIASES = {
    "lora": "name",
    "id": "name",
    "path": "name",
    "strength": "weight",
    "scale": "weight",
    "trigger_word": "trigger",
}
"""Other names of an adapter's fields."""

RANDOM_SEED = -1


@dataclass(frozen=True)
class Asked:
    """What a job asks for: the order, how pictures are written, and whether those on their way are sent too.

    `plain` pictures are PNG without the recipe.
    """

    order: Order
    output: OutputSettings
    previews: bool = False
    plain: bool = False


def asked_for(given: dict[str, Any], studio: Studio, backend: Backend) -> Asked:
    """What the fields of a job's input ask for. Raises `RequestError`."""
    fields = _renamed(given, ALIASES)
    previews = fields.pop("previews", False)
    if not isinstance(previews, bool):
        raise InvalidRequest("`previews` is neither true nor false. Give one of them.")
    references = _texts(fields.pop("references", None))
    mask_text = fields.pop("mask", None)
    if "adapters" in fields:
        fields["adapters"] = _adapters(fields["adapters"])
    if fields.get("seed") in (RANDOM_SEED, str(RANDOM_SEED)):
        del fields["seed"]
    if fields.pop("backend", backend.name) != backend.name or fields.pop("fallback", ()):
        raise Unsupported(f"The endpoint's workers paint with backend `{backend.name}`. Leave out `backend`.")
    pictures = [_opened(text, f"references.{number}", open_reference) for number, text in enumerate(references)]
    mask = _opened(mask_text, "mask", open_mask) if mask_text is not None else None
    fields["references"] = [_named(text, number) for number, text in enumerate(references)]
    if mask is not None:
        fields["mask"] = _named(mask_text, len(references))
    request = checked(GenerationRequest, fields)
    if mask is not None:
        require_same_shape(mask.size, pictures[0].size)
    require_names(request)
    request = request.model_copy(update={"backend": backend.name})
    request, plans = studio.planned(request, reference_sizes=[picture.size for picture in pictures])
    order = studio.order(request, plans, backend, pictures, mask)
    return Asked(replace(order, token=""), request.output, previews=previews)


def _renamed(given: dict[str, Any], aliases: dict[str, str]) -> dict[str, Any]:
    """Our names in place of others; what is null is absent."""
    fields: dict[str, Any] = {}
    for name, value in given.items():
        ours = aliases.get(name, name)
        if value is None:
            continue
        if ours in fields and fields[ours] != value:
            raise InvalidRequest(f"`{name}` and another name of `{ours}` differ. Give one of them.")
        fields[ours] = value
    return fields


def _adapters(given: object) -> list[dict[str, Any]]:
    """Adapters as names, as `{name: weight}`, or as lists of names and of groups of values."""
    if isinstance(given, str):
        return [{"name": given}] if given else []
    if isinstance(given, dict):
        fields = _renamed(cast(dict[str, Any], given), ADAPTER_ALIASES)
        if "name" in fields:
            return [fields]
        return [{"name": name, "weight": weight} for name, weight in fields.items()]
    if isinstance(given, list):
        return [adapter for part in cast(list[object], given) for adapter in _adapters(part)]
    raise InvalidRequest('Adapters cannot be read. Give a list such as [{"name": "ink", "weight": 0.8}].')


def _texts(given: object) -> list[str]:
    texts = cast(list[object], given) if isinstance(given, list) else [] if given is None else [given]
    found = [text for text in texts if isinstance(text, str)]
    if len(found) != len(texts):
        raise InvalidRequest("`references` are no texts. Give the pictures' bytes as base64.")
    return found


def _opened(text: object, name: str, read: Callable[[Path], Image.Image]) -> Image.Image:
    with tempfile.NamedTemporaryFile(prefix="limner-") as file:
        file.write(_bytes(text, name))
        file.flush()
        try:
            return read(Path(file.name))
        except InvalidRequest as error:
            raise InvalidRequest(error.message.replace(file.name, name)) from error


def _bytes(text: object, name: str) -> bytes:
    if isinstance(text, str):
        try:
            return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
        except binascii.Error:
            pass
    raise InvalidRequest(f"`{name}` is no base64. Give the picture's bytes as base64.")


def _named(text: object, number: int) -> dict[str, str]:
    """A reference in the recipe: the picture itself came with the job and is known by its hash."""
    return {"upload": f"input-{number}", "sha256": hashlib.sha256(_bytes(text, "references")).hexdigest()}
