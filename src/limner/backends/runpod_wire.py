"""What limner and its workers at RunPod say to each other, as JSON.

One order of one picture goes there; what comes back are events, the picture among them. Programs of others stand in
between and may read every number as a float: requests, plans and recipes, which hold seeds of 64 bits, travel as JSON
texts. A picture too long for one message comes in parts. This module opens no connection. Invariant: what arrives is
checked against what was asked for, or it is `Garbled`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, Json, TypeAdapter, ValidationError

from limner.backends.remote_pictures import MAX_PICTURE_BYTES, picture
from limner.domain import GenerationRequest, Plan, Recipe
from limner.errors import (
    BackendError,
    CapacityError,
    Garbled,
    InvalidRequest,
    LimnerError,
    RequestError,
    StorageError,
    StorageFull,
    Unreachable,
)
from limner.events import Done, Failed, ImageGenerated, Info, Preview, Progress, StageUpdate, Warned
from limner.ports import Order
from limner.validation import sentences

VERSION = 1
ORDER = "order"
"""The one field of a job's input that holds an order."""

RUN_LIMIT_BYTES = 10_000_000
SYNC_LIMIT_BYTES = 20_000_000
"""What RunPod takes in one request, and gives in one answer, by `/run` and by `/runsync`."""

CHUNK_LIMIT_BYTES = 1_000_000
"""What RunPod takes of a worker as one piece of a stream."""

PART_CHARACTERS = 700_000
MAX_PARTS = MAX_PICTURE_BYTES * 4 // 3 // PART_CHARACTERS + 1

Chunk = dict[str, Any]
Told = StageUpdate | Info | Progress | Warned | Failed | Done
PlainEvent = TypeAdapter[Told](Told)


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    request: Json[GenerationRequest]
    plan: Json[Plan]
    reference: str | None = None
    context: tuple[str, ...] = ()
    mask: str | None = None
    kept: str | None = None
    previews: bool = False


def pictures_of(order: Order) -> dict[str, Any]:
    """The pictures that an order starts from, the same for all that are painted from them."""
    sent = {"reference": order.reference, "mask": order.mask, "kept": order.kept}
    shared: dict[str, Any] = {name: _text(image) for name, image in sent.items() if image is not None}
    if order.context:
        shared["context"] = [_text(image) for image in order.context]
    return shared


def packed(order: Order, number: int, pictures: dict[str, Any], previews: bool) -> Chunk:
    """The input of the job that paints the picture of that number of an order; `pictures` as of `pictures_of`."""
    request = order.request.model_dump_json(
        exclude_unset=True, exclude={"backend", "fallback", "references", "mask", "count"}
    )
    plan = order.plans[number].model_dump_json()
    return {ORDER: {"version": VERSION, "request": request, "plan": plan, "previews": previews} | pictures}


def unpacked(given: object) -> tuple[Order, bool]:
    """The order of one picture, without its adapters' files, and whether previews are wanted. Raises `InvalidRequest`.

    What it names is named as on the worker: `require_names` says which names are allowed.
    """
    try:
        sent = _Sent.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(
            f"The order cannot be read: {sentences(error)} The same version of limner belongs on both sides."
        ) from error
    order = Order(
        request=sent.request,
        plans=(sent.plan,),
        reference=_image(sent.reference, "reference"),
        context=tuple(_opened(text, "context") for text in sent.context),
        mask=mask.convert("L") if (mask := _image(sent.mask, "mask")) else None,
        kept=_image(sent.kept, "kept"),
    )
    return order, sent.previews


def require_names(request: GenerationRequest) -> None:
    """Raise `InvalidRequest` where checkpoint or adapters are paths: files of one machine mean nothing to another."""
    for kind, name in (("Model", request.model or ""), *(("Adapter", adapter.name) for adapter in request.adapters)):
        if name.startswith(("/", "~", ".")) or "\\" in name or ".." in name.split("/"):
            raise InvalidRequest(
                f"{kind} {name[:80]!r} is a path, which the workers at RunPod do not have. Give the name that it has "
                "there."
            )


def chunk_of(event: Told | Preview) -> Chunk:
    """An event as it is sent; pictures have `picture_chunks`."""
    if isinstance(event, Preview):
        return event.model_dump(mode="json", exclude={"png"}) | {"image": base64.b64encode(event.png).decode()}
    return event.model_dump(mode="json")


def picture_chunks(event: ImageGenerated, content: bytes, form: str, url: str | None = None) -> list[Chunk]:
    """A finished picture as it is sent: its bytes, in parts where they are too many for one message, or its address."""
    last: Chunk = {
        "type": "image_generated",
        "index": event.index,
        "width": event.width,
        "height": event.height,
        "format": form,
        "seed": str(event.recipe.plan.seed),
        "sha256": hashlib.sha256(content).hexdigest(),
        "recipe": event.recipe.model_dump_json(),
    }
    if url is not None:
        return [last | {"url": url}]
    text = base64.b64encode(content).decode()
    if len(text) <= PART_CHARACTERS:
        return [last | {"image": text}]
    parts = [text[start : start + PART_CHARACTERS] for start in range(0, len(text), PART_CHARACTERS)]
    return [
        *(
            {"type": "image_part", "index": event.index, "part": part, "parts": len(parts), "content": content}
            for part, content in enumerate(parts)
        ),
        last | {"parts": len(parts)},
    ]


def fault_chunk(error: LimnerError | Failed) -> Chunk:
    """The end of a job without a picture, in the one shape that RunPod understands as failure."""
    told = {"code": error.code, "message": error.message, "retryable": error.retryable}
    return {"error": json.dumps(told, ensure_ascii=False)}


def error_of(told: object) -> LimnerError:
    """The error that a worker, or RunPod in its place, tells of."""
    text = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
    try:
        found: object = json.loads(text)
    except ValueError:
        found = None
    fields = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    code, message = fields.get("code"), fields.get("message")
    if isinstance(code, str) and isinstance(message, str):
        if kind := _KINDS.get(code):
            return kind(message)
        return (Unreachable if fields.get("retryable") is True else BackendError)(message)
    shown = fields.get("error_message") or text
    return BackendError(f"The worker at RunPod failed: {str(shown)[:300]!r}. Look into the endpoint's log.")


def _kinds() -> dict[str, type[LimnerError]]:
    found: dict[str, type[LimnerError]] = {}
    pending: list[type[LimnerError]] = [RequestError, CapacityError, BackendError]
    while pending:
        kind = pending.pop()
        found[kind.code] = kind
        pending += kind.__subclasses__()
    # To whoever sent the order, a worker's bucket is part of the backend.
    return found | {StorageError.code: Unreachable, StorageFull.code: CapacityError}


_KINDS = _kinds()


@dataclass(frozen=True)
class Delivery:
    """A picture that has arrived: its bytes or, where they lie in a bucket, its address."""

    recipe: Recipe
    sha256: str
    content: bytes = b""
    url: str | None = None

    def rgb(self, content: bytes, plan: Plan) -> Image.Image:
        """The picture in these bytes. Raises `Garbled` where it is another than was asked for."""
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise Garbled("The picture that came from RunPod was damaged on its way. Run the request again.")
        image = picture(content, "RunPod")
        if image.size != (plan.width, plan.height):
            raise Garbled(
                f"RunPod sent a picture of {image.width}x{image.height} in place of {plan.width}x{plan.height} pixels. "
                "Check that the same version of limner runs there."
            )
        return image


@dataclass
class Reading:
    """Puts together what a worker tells of one picture.

    Args:
        plan: of the picture that was asked for.
    """

    plan: Plan
    delivery: Delivery | None = None
    fault: LimnerError | None = None
    _parts: dict[int, str] = field(default_factory=dict[int, str])

    def take(self, output: object) -> Told | Preview | None:
        """The event that a message holds, if it is one; pictures and failures are kept. Raises `Garbled`."""
        if not isinstance(output, dict):
            raise _garbled(output)
        chunk = cast(Chunk, output)
        try:
            if error := chunk.get("error"):
                self.fault = error_of(error)
                return None
            match chunk.get("type"):
                case "image_part":
                    self._keep(_Part.model_validate(chunk))
                case "image_generated":
                    self.delivery = self._delivered(_Picture.model_validate(chunk))
                case "preview":
                    found = _Rough.model_validate(chunk)
                    return Preview(index=0, stage=found.stage, step=found.step, png=_bytes(found.image))
                case _:
                    return self._plain(PlainEvent.validate_python(chunk))
        except (ValidationError, binascii.Error) as error:
            raise _garbled(chunk) from error
        return None

    def _plain(self, event: Told) -> Told | None:
        if isinstance(event, Failed):
            self.fault = error_of({"code": event.code, "message": event.message, "retryable": event.retryable})
        inside = not isinstance(event, StageUpdate | Progress) or event.stage < len(self.plan.stages)
        if not inside:
            raise _garbled(event.model_dump())
        return None if isinstance(event, Failed | Done) else event

    def _keep(self, part: _Part) -> None:
        if part.part >= part.parts:
            raise _garbled({"part": part.part, "parts": part.parts})
        self._parts[part.part] = part.content

    def _delivered(self, found: _Picture) -> Delivery | None:
        if found.recipe.plan != self.plan:
            raise Garbled("RunPod sent a picture of another plan. Check that the same version of limner runs there.")
        if found.url is not None:
            return Delivery(found.recipe, found.sha256, url=found.url)
        text = found.image
        if text is None:
            if any(part not in self._parts for part in range(found.parts)) or not found.parts:
                # The parts before went to somebody else, who read the stream earlier: the job's output has them all.
                return None
            text = "".join(self._parts[part] for part in range(found.parts))
        return Delivery(found.recipe, found.sha256, content=_bytes(text))


class _Part(BaseModel):
    part: int = Field(ge=0)
    parts: int = Field(ge=1, le=MAX_PARTS)
    content: str = Field(max_length=CHUNK_LIMIT_BYTES)


class _Picture(BaseModel):
    recipe: Json[Recipe]
    sha256: str
    image: str | None = None
    url: str | None = None
    parts: int = Field(default=0, ge=0, le=MAX_PARTS)


class _Rough(BaseModel):
    stage: int = Field(ge=0)
    step: int
    image: str


def _garbled(found: object) -> Garbled:
    return Garbled(
        f"The worker at RunPod sent {str(found)[:120]!r}, which is none of limner's events. Check that the endpoint "
        "runs `limner runpod`, of the same version."
    )


def _text(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _image(text: str | None, name: str) -> Image.Image | None:
    return None if text is None else _opened(text, name)


def _opened(text: str, name: str) -> Image.Image:
    try:
        return picture(_bytes(text), f"The order's `{name}`")
    except binascii.Error as error:
        raise InvalidRequest(f"The order's `{name}` is no base64. Send the picture's bytes as base64.") from error
    except Garbled as error:
        raise InvalidRequest(error.message) from error
