"""Pictures that come from elsewhere: several at a time, read safely, and fetched from addresses that others name.

An address in an answer is somebody else's word: it is looked up here, must lead into the internet unless the operator
allows otherwise, and the connection goes to the very address that was checked. Invariant: what leaves here as a picture
has been decoded.
"""

from __future__ import annotations

import asyncio
import io
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

import httpx
from PIL import Image, UnidentifiedImageError

from limner.addresses import Resolve, is_public, resolved
from limner.backends.remote import read
from limner.domain import Plan
from limner.errors import Garbled, LimnerError, Rejected, RequestError, Timeout, Unreachable
from limner.events import Event, Failed, ImageGenerated, Progress
from limner.ports import Order

MAX_PICTURE_BYTES = 64 * 2**20
MAX_PICTURE_PX = 64_000_000
FORMATS = ("PNG", "JPEG", "WEBP")
MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp", "application/octet-stream", "binary/octet-stream")
PREVIEW_SIDE = 256
REDIRECTS = 3

Tell = Callable[[Event], None]


@dataclass(frozen=True)
class Errand:
    """Something to ask of a server: for which pictures of the order, and how.

    `paint` tells events as they come and raises one of limner's errors when it fails, which then holds for all its
    pictures.
    """

    indices: tuple[int, ...]
    paint: Callable[[Tell], Awaitable[None]]


async def together(errands: Sequence[Errand], at_a_time: int) -> AsyncGenerator[Event, None]:
    """The events of several errands as they come; closing ends those that run, and waits until they have cleaned up.

    A failure is told as a `Failed` event for each picture of its errand. A `RequestError` is raised instead as long as
    no picture has come: it would meet the others as well.
    """
    told: asyncio.Queue[Event | _Failure | None] = asyncio.Queue()
    room = asyncio.Semaphore(at_a_time)

    async def run(errand: Errand) -> None:
        async with room:
            try:
                await errand.paint(told.put_nowait)
            except LimnerError as error:
                told.put_nowait(_Failure(errand, error))

    async def run_all() -> None:
        tasks = [asyncio.create_task(run(errand)) for errand in errands]
        try:
            await asyncio.gather(*tasks)
        finally:
            # Those that are being cancelled clean up, at RunPod for one: a second time would end that as well.
            for task in tasks:
                if not task.cancelling():
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            told.put_nowait(None)

    running = asyncio.create_task(run_all())
    came = False
    try:
        while (item := await told.get()) is not None:
            if not isinstance(item, _Failure):
                came = came or isinstance(item, ImageGenerated)
                yield item
                continue
            if isinstance(item.error, RequestError) and not came:
                raise item.error
            for index in item.errand.indices:
                error = item.error
                yield Failed(message=error.message, code=error.code, retryable=error.retryable, index=index)
        await running
    finally:
        if not running.done():
            running.cancel()
        await asyncio.wait((running,))


@dataclass(frozen=True)
class _Failure:
    errand: Errand
    error: LimnerError


class Meter:
    """Counts the steps of an order's pictures, which may be painted at the same time; never goes back.

    Args:
        plans: of the pictures.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._plans = plans
        self._done = [0] * len(plans)
        self._total = sum(stage.steps for plan in plans for stage in plan.stages)
        self._began = time.monotonic()

    def at(self, index: int, stage: int, step: int) -> Progress | None:
        """What to tell when a picture has made so many steps of a stage; None where that is nothing new."""
        stages = self._plans[index].stages
        steps = stages[stage].steps
        step = max(1, min(step, steps))
        done = sum(earlier.steps for earlier in stages[:stage]) + step
        if done <= self._done[index]:
            return None
        self._done[index] = done
        current = sum(self._done)
        eta_s = (time.monotonic() - self._began) / current * (self._total - current)
        return Progress(
            current=current,
            total=self._total,
            index=index,
            stage=stage,
            stages=len(stages),
            step=step,
            steps=steps,
            eta_s=round(eta_s, 1),
        )

    def finished(self, index: int) -> Progress | None:
        """What to tell when a picture is there."""
        stages = self._plans[index].stages
        return self.at(index, len(stages) - 1, stages[-1].steps)


def picture(content: bytes, source: str) -> Image.Image:
    """The picture in these bytes, in RGB; what is transparent becomes white.

    Raises `Garbled`, which names the source, for what is no picture that can be read, or too large a one.
    """
    try:
        with warnings.catch_warnings():
            # The limit below is stricter than the one that Pillow warns of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PICTURE_PX:
            told = f"{image.width}x{image.height} pixels"
            raise Garbled(f"{source} sent a picture of {told}. At most {MAX_PICTURE_PX:,} are read; ask for less.")
        image.load()
    except UnidentifiedImageError as error:
        raise Garbled(f"{source} sent {content[:40]!r} in place of a picture. Look into its log.") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise Garbled(f"{source} sent a picture that cannot be read ({error}). Look into its log.") from error
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def without_idle_mask(order: Order) -> Order:
    """The order without a mask that keeps nothing."""
    if order.mask is None or order.mask.getextrema() != (255, 255):
        return order
    return replace(order, mask=None, kept=None)


def kept_where_black(image: Image.Image, order: Order) -> Image.Image:
    """A finished picture in which all that the order's mask has black is as it was, to the pixel."""
    if order.mask is None or order.kept is None:
        return image
    kept, mask = order.kept, order.mask
    if image.size != kept.size:
        kept, mask = kept.resize(image.size, Image.Resampling.LANCZOS), mask.resize(image.size)
    return Image.composite(image, kept.convert("RGB"), mask)


def preview_png(content: bytes, source: str) -> bytes:
    """A picture on its way as a small PNG, no side above 256 pixels. Raises `Garbled`."""
    image = picture(content, source)
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return png(image)


def png(image: Image.Image) -> bytes:
    """A picture as PNG, fast rather than small."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


class Downloads:
    """Fetches pictures from addresses that a server names.

    Args:
        trusted: address whose host and port are the operator's own choice and may be private.
        allow_private: whether all others may be so too.
        setting: by which an operator says so, for messages.
        timeout_s: that a whole download may take.
        resolve: finds the addresses of names.
    """

    def __init__(
        self,
        trusted: str = "",
        *,
        allow_private: bool = False,
        setting: str,
        timeout_s: float = 60.0,
        max_bytes: int = MAX_PICTURE_BYTES,
        resolve: Resolve = resolved,
    ) -> None:
        self._trusted = _origin(trusted)
        self._setting = setting
        self._allow_private, self._timeout_s, self._max_bytes = allow_private, timeout_s, max_bytes
        self._resolve = resolve

    async def fetch(self, url: str) -> bytes:
        """The bytes of a picture. Raises `Rejected`, `Garbled`, `Timeout` and `Unreachable`, which say why."""
        # A connection is never used twice: it belongs to the name that it was opened for. No proxy: it would resolve
        # names.
        limits = httpx.Limits(max_keepalive_connections=0)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                httpx.AsyncClient(timeout=self._timeout_s, trust_env=False, limits=limits) as client,
            ):
                for _ in range(REDIRECTS + 1):
                    found = await self._get(client, url)
                    if isinstance(found, bytes):
                        return found
                    url = urljoin(url, found)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Timeout(f"The picture at {_shown(url)} did not come within {self._timeout_s:g} s.{_AGAIN}") from error
        except (httpx.HTTPError, OSError) as error:
            raise Unreachable(f"The picture at {_shown(url)} cannot be fetched ({error}).{_AGAIN}") from error
        raise Garbled(f"The picture at {_shown(url)} lies behind more than {REDIRECTS} redirects. Look at that server.")

    async def _get(self, client: httpx.AsyncClient, url: str) -> bytes | str:
        address = await self._checked(url)
        request = client.build_request("GET", address, headers={"User-Agent": "limner", "Host": _netloc(url)})
        # The certificate is still checked against the name.
        request.extensions["sni_hostname"] = httpx.URL(url).raw_host.decode("ascii")
        response = await client.send(request, stream=True)
        try:
            if response.is_redirect:
                return response.headers["location"]
            if response.status_code >= 500:
                raise Unreachable(f"{_shown(url)} answered {response.status_code} in place of a picture.{_AGAIN}")
            if response.status_code != 200:
                raise Garbled(f"{_shown(url)} answered {response.status_code} in place of a picture.{_AGAIN}")
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind not in MEDIA_TYPES:
                raise Garbled(f"{_shown(url)} is {kind or 'of no kind'}, not a PNG, JPEG or WebP picture.{_AGAIN}")
            return await read(response, self._max_bytes, _shown(url))
        finally:
            await response.aclose()

    async def _checked(self, url: str) -> httpx.URL:
        """The address to connect to: the one that was looked at."""
        try:
            parts = httpx.URL(url)
            name = parts.raw_host.decode("ascii")
            sound = parts.scheme in ("http", "https") and bool(name)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise Garbled(
                f"The picture's address {url[:80]!r} is not valid. Look at the server that gave it."
            ) from error
        if not sound:
            raise Garbled(f"The picture's address {url[:80]!r} is none of HTTP. Look at who gave it.")
        found = await self._resolve(name.strip("[]"), parts.port or (443 if parts.scheme == "https" else 80))
        if not found:
            raise OSError(f"{name} has no address")
        free = self._allow_private or _origin(url) == self._trusted
        allowed = [address for address in found if free or is_public(address)]
        if not allowed:
            raise Rejected(
                f"The picture's address leads to {name}, which is not public. Nothing was fetched; "
                f"an operator who wants that sets `{self._setting}`."
            )
        return parts.copy_with(host=allowed[0])


_AGAIN = " Try again, or look at that server."


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _netloc(url: str) -> str:
    return httpx.URL(url).netloc.decode("ascii")


def _shown(url: str) -> str:
    # What follows the path may be a signature.
    return url.partition("?")[0][:200]
