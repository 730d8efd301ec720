"""Paint at a provider that speaks OpenAI's Images API, or nearly.

Such a provider knows prompts, sizes and counts; what else a request says is told where the provider has a field for it
and named in a warning where it has not. Painting is paid for: a call is sent again only where the provider surely did
nothing with it. Invariant: every picture has the size that its bytes have, whatever was asked for.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, cast
from urllib.parse import urlsplit

from PIL import Image, ImageChops

from limner.addresses import Resolve, is_loopback, resolved
from limner.backends.openai_answers import TITLE, checked, is_settled
from limner.backends.remote import Connection, Patience
from limner.backends.remote_pictures import (
    MAX_PICTURE_BYTES,
    Downloads,
    Errand,
    Meter,
    Tell,
    kept_where_black,
    picture,
    png,
    together,
    without_idle_mask,
)
from limner.backends.settings import OpenAISettings
from limner.domain import SAMPLERS, SCHEDULES, AdapterOutcome, AdapterStatus, Plan, Recipe
from limner.errors import (
    AdapterMismatch,
    ConfigError,
    Garbled,
    LimnerError,
    Timeout,
    Unreachable,
)
from limner.events import Done, Event, Failed, ImageGenerated, Info, Warned
from limner.ports import Capabilities, Order

NAMESPACE = uuid.UUID("0b6d1c4e-3a44-5d5f-8f0e-5a0d6f3b9c11")
SIZES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"gpt-image-1.*|chatgpt-image.*", ("1024x1024", "1536x1024", "1024x1536")),
    (r"dall-e-3", ("1024x1024", "1792x1024", "1024x1792")),
    (r"dall-e-2", ("256x256", "512x512", "1024x1024")),
)
"""What OpenAI's own models paint; models of other names paint any size unless the settings say otherwise."""

ONE_AT_A_TIME = re.compile("dall-e-3")
RATIOS = ("1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16", "21:9")
RESOLUTIONS = ((1024, "1k"), (2048, "2k"), (1 << 20, "4k"))
"""Longest side in pixels, and the word for it."""

FIELDS = {
    "steps": "num_inference_steps", "cfg": "guidance_scale", "sampler": None, "schedule": None, "shift": None,
    "guidance": None, "denoise": None, "clip_skip": None, "cache": None, "stages": None,
}  # fmt: skip
"""What a request may say beyond prompt and size, and the name under which some providers understand it."""

MAX_ANSWER_BYTES = 10 * (MAX_PICTURE_BYTES * 4 // 3)
REMEMBERED = 1024


@dataclass(frozen=True)
class _Shape:
    """How a size is told, the size that is expected then, and what differs from the wish."""

    told: dict[str, str]
    expected: tuple[int, int] | None
    warning: str = ""


class OpenAIBackend:
    """Pictures from a provider with OpenAI's Images API.

    Args:
        settings: its group of the settings.
        patience: how often the provider is asked.
        resolve: finds the addresses of the names that pictures are fetched from.

    Raises `ConfigError` where no address is set.
    """

    name = "openai"

    def __init__(
        self, settings: OpenAISettings, *, patience: Patience | None = None, resolve: Resolve = resolved
    ) -> None:
        if settings.base_url is None:
            raise ConfigError(
                "Backend `openai` needs an address. Set `openai.base_url`, such as https://api.openai.com/v1, and the "
                "key in the variable LIMNER_OPENAI__API_KEY."
            )
        self._settings = settings
        key = {"Authorization": f"Bearer {settings.api_key.get_secret_value()}"} if settings.api_key else {}
        self._connection = Connection(
            settings.base_url,
            TITLE,
            headers=key,
            timeout_s=settings.timeout_s,
            proxied=not is_loopback(urlsplit(settings.base_url).hostname or ""),
            patience=patience,
        )
        self._downloads = Downloads(
            settings.base_url, allow_private=settings.allow_private, setting="openai.allow_private", resolve=resolve
        )
        self._used: OrderedDict[str, int] = OrderedDict()

    def capabilities(self) -> Capabilities:
        """What can be told to the provider. Samplers and schedules are accepted, and its own business."""
        return Capabilities(
            models=(self._settings.model,),
            samplers=SAMPLERS,
            schedules=SCHEDULES,
            previews=False,
            adapters=False,
            references=True,
            masks=True,
            negative_prompts="negative_prompt" in self._settings.fields,
            guidance="guidance_scale" in self._settings.fields,
        )

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Paint an order, one call a picture where the provider is told seeds, else several pictures a call."""
        started = time.monotonic()
        order = without_idle_mask(order)
        model = order.request.model or self._settings.model
        shape = self._shape(order.plans[0], model)
        adapters = _skipped(order)
        warnings = [*self._untold(order), *([shape.warning] if shape.warning else []), *map(_misfit, adapters)]
        if adapters and order.request.on_adapter_mismatch == "fail":
            raise AdapterMismatch(_misfit(adapters[0]))
        if not order.request.prompt.strip():
            yield Info(message="The prompt is empty: the picture is whatever comes.", code="empty_prompt")
        for warning in warnings:
            yield Warned(message=warning, code="openai")
        work = _Work(order, shape, adapters, tuple(warnings), Meter(order.plans))
        alone = "seed" in self._settings.fields or ONE_AT_A_TIME.fullmatch(model)
        size = 1 if alone else self._settings.per_call
        groups = [tuple(range(len(order.plans))[first : first + size]) for first in range(0, len(order.plans), size)]
        errands = [Errand(group, partial(self._paint, work, group)) for group in groups]
        painted = failed = 0
        async with contextlib.aclosing(together(errands, self._settings.at_a_time)) as events:
            async for event in events:
                painted += isinstance(event, ImageGenerated)
                failed += isinstance(event, Failed)
                yield event
        status = "completed" if not failed else "partial" if painted else "failed"
        duration_s = round(time.monotonic() - started, 3)
        yield Done(status=status, images=painted, failed=failed, duration_s=duration_s)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connection.aclose()

    # --- a call ------------------------------------------------------------------------------------------------------

    async def _paint(self, work: _Work, indices: tuple[int, ...], tell: Tell) -> None:
        left = list(indices)
        try:
            while left:
                answer = await self._asked(work, left)
                left = await self._taken(work, left, answer, tell)
        except LimnerError as error:
            if left == list(indices):
                raise
            for index in left:
                tell(Failed(message=error.message, code=error.code, retryable=error.retryable, index=index))

    async def _asked(self, work: _Work, indices: Sequence[int]) -> dict[str, Any]:
        """The provider's answer for these pictures; another attempt at the job gets the same one where it can."""
        order = work.order
        plans = " ".join(order.plans[index].model_dump_json() for index in indices)
        named = str(uuid.uuid5(NAMESPACE, f"{order.token} {plans}"))
        key = str(uuid.uuid5(NAMESPACE, f"{named} {self._used.get(named, 0)}"))
        headers = {"Idempotency-Key": key} if order.token else {}
        values = self._values(order, work.shape, indices)
        # With a mask, the picture at the mask's size.
        start = order.kept or order.reference
        pictures = order.context or ((start,) if start else ())
        if pictures:
            name = "image" if len(pictures) == 1 else "image[]"
            files = [(name, (f"{number}.png", png(image), "image/png")) for number, image in enumerate(pictures)]
            if order.mask:
                files.append(("mask", ("mask.png", _transparent(order.mask), "image/png")))
            body: dict[str, Any] = {"data": {name: str(value) for name, value in values.items()}, "files": files}
        else:
            body = {"json": values}
        try:
            answer = await self._connection.request(
                "POST",
                "/images/edits" if pictures else "/images/generations",
                again="unless_done",
                settled=is_settled,
                max_bytes=MAX_ANSWER_BYTES,
                headers=headers,
                **body,
            )
            return checked(answer, str(values["model"]))
        except (Timeout, Unreachable):
            raise  # it may be painted by now, and is found again under the same key
        except LimnerError:
            self._used[named] = self._used.get(named, 0) + 1
            while len(self._used) > REMEMBERED:
                self._used.popitem(last=False)
            raise

    def _values(self, order: Order, shape: _Shape, indices: Sequence[int]) -> dict[str, Any]:
        request, plan, known = order.request, order.plans[indices[0]], self._settings.fields
        values: dict[str, Any] = {"model": request.model or self._settings.model, "prompt": plan.prompt}
        values |= {"n": len(indices)} | shape.told
        if self._settings.quality:
            values["quality"] = self._settings.quality
        if "seed" in known:
            values["seed"] = plan.seed
        if "negative_prompt" in known and plan.negative_prompt:
            values["negative_prompt"] = plan.negative_prompt
        for name, theirs in FIELDS.items():
            if theirs in known and (value := getattr(request, name)) is not None:
                values[str(theirs)] = value
        return values

    async def _taken(self, work: _Work, indices: list[int], answer: dict[str, Any], tell: Tell) -> list[int]:
        """Tell the pictures of an answer; which are still to come."""
        host = urlsplit(self._connection.url).netloc
        items = cast(list[Any], answer["data"])[: len(indices)]
        warnings = [str(said) for said in cast(list[Any], answer.get("warnings") or [])]
        for warning in warnings:
            tell(Warned(message=f"{TITLE} says: {warning}", code="openai"))
        for index, item in zip(indices, items, strict=False):
            content = await self._content(cast(dict[str, Any], item) if isinstance(item, dict) else {})
            image = kept_where_black(picture(content, f"{TITLE} at {host}"), work.order)
            said = list(warnings)
            revised = cast(dict[str, Any], item).get("revised_prompt")
            if revised and revised != work.order.plans[index].prompt:
                said.append(f"The provider painted other words: {str(revised)[:2000]}")
                tell(Warned(message=said[-1], code="revised_prompt"))
            if work.shape.expected not in (None, image.size):
                wanted = "x".join(map(str, work.shape.expected or ()))
                said.append(f"The picture is {image.width}x{image.height} where the provider was asked for {wanted}.")
                tell(Warned(message=said[-1], code="size"))
            if told := work.meter.finished(index):
                tell(told)
            tell(self._event(work, index, image, tuple(said), host))
        return indices[len(items) :]

    async def _content(self, item: dict[str, Any]) -> bytes:
        if encoded := item.get("b64_json"):
            try:
                return base64.b64decode(str(encoded), validate=True)
            except binascii.Error as error:
                raise Garbled(f"{TITLE} sent a picture that is no base64 ({error}). Look at its log.") from error
        if url := item.get("url"):
            return await self._downloads.fetch(str(url))
        raise Garbled(f"{TITLE} sent neither b64_json nor url of a picture. Check that it is an Images API.")

    def _event(
        self, work: _Work, index: int, image: Image.Image, warnings: tuple[str, ...], host: str
    ) -> ImageGenerated:
        order = work.order
        recipe = Recipe(
            request=order.request,
            plan=order.plans[index],
            index=index,
            checkpoint=order.request.model or self._settings.model,
            checkpoint_sha256="",
            family="",
            device=host,
            precision={},
            adapters=work.adapters,
            warnings=(*work.warnings, *warnings),
            versions={"limner": version("limner")},
        )
        return ImageGenerated(index=index, width=image.width, height=image.height, rgb=image.tobytes(), recipe=recipe)

    # --- what is told ------------------------------------------------------------------------------------------------

    def _shape(self, plan: Plan, model: str) -> _Shape:
        width, height = plan.width, plan.height
        if self._settings.size_as == "ratio":
            ratio = min(RATIOS, key=lambda known: _unlike(width / height, _quotient(known)))
            resolution = next(word for side, word in RESOLUTIONS if max(width, height) <= side)
            warning = ""
            if not math.isclose(width / height, _quotient(ratio), rel_tol=0.01):
                warning = f"The provider knows no shape like {width}x{height}: {ratio} was asked for, which is nearest."
            return _Shape({"ratio": ratio, "resolution": resolution}, None, warning)
        sizes = self._settings.sizes or _sizes_of(model)
        exact = f"{width}x{height}"
        if not sizes or exact in sizes:
            return _Shape({"size": exact}, (width, height))

        def distance(size: str) -> tuple[float, float]:
            across, down = _sides(size)
            return _unlike(width / height, across / down), _unlike(width * height, across * down)

        nearest = min(sizes, key=distance)
        warning = f"The provider does not paint {exact}: {nearest} was asked for, the nearest."
        return _Shape({"size": nearest}, _sides(nearest), warning)

    def _untold(self, order: Order) -> list[str]:
        """What of the request the provider is not told, in sentences."""
        request, known = order.request, self._settings.fields
        warnings: list[str] = []
        if request.seed is not None and "seed" not in known:
            warnings.append("The provider is told no seed: the same request gives another picture next time.")
        if order.plans[0].negative_prompt.strip() and "negative_prompt" not in known:
            warnings.append("The provider is told no negative prompt, which was left out.")
        left = [name for name, theirs in FIELDS.items() if getattr(request, name) is not None and theirs not in known]
        if left:
            listed = ", ".join(f"`{name}`" for name in left)
            warnings.append(f"The provider decides itself about {listed}, which was left out.")
        return warnings


@dataclass(frozen=True)
class _Work:
    """An order on its way."""

    order: Order
    shape: _Shape
    adapters: tuple[AdapterOutcome, ...]
    warnings: tuple[str, ...]
    meter: Meter


def _transparent(mask: Image.Image) -> bytes:
    """A mask as OpenAI has it: transparent where it is painted anew."""
    image = Image.new("RGBA", mask.size)
    image.putalpha(ImageChops.invert(mask))
    return png(image)


def _skipped(order: Order) -> tuple[AdapterOutcome, ...]:
    return tuple(
        AdapterOutcome(
            name=adapter.name,
            requested_weight=adapter.weight,
            status=AdapterStatus.SKIPPED,
            matched=0,
            total=0,
            reason="the provider takes no LoRAs",
        )
        for adapter in order.request.adapters
    )


def _misfit(outcome: AdapterOutcome) -> str:
    return f"LoRA `{outcome.name}` was {outcome.status}: {outcome.reason}. Choose another backend."


def _sizes_of(model: str) -> tuple[str, ...]:
    return next((sizes for pattern, sizes in SIZES if re.fullmatch(pattern, model)), ())


def _sides(size: str) -> tuple[int, int]:
    across, _, down = size.partition("x")
    return int(across), int(down)


def _quotient(ratio: str) -> float:
    across, _, down = ratio.partition(":")
    return int(across) / int(down)


def _unlike(one: float, other: float) -> float:
    return abs(math.log(one / other))
