"""The seams: what the rest of limner may expect of a backend.

A backend has a name, capabilities, and one verb. It knows nothing of files, users or presets: it receives a request
whose plans are already made, and tells in events what becomes of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from limner.domain import GenerationRequest, Plan
from limner.events import Event


@dataclass(frozen=True)
class Order:
    """A request made ready: one plan a picture, the reference picture decoded, adapters resolved to files."""

    request: GenerationRequest
    plans: tuple[Plan, ...]
    reference: Image.Image | None = None
    adapter_files: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Capabilities:
    """Facts on what a backend can do now."""

    models: tuple[str, ...]
    samplers: tuple[str, ...]
    schedules: tuple[str, ...]
    previews: bool
    adapters: bool
    references: bool


class Backend(Protocol):
    """A place where pictures are made."""

    name: str

    def capabilities(self) -> Capabilities:
        """What can be asked of it."""
        ...

    def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Paint. Yields events, the last of them `Done`; closing the generator cancels.

        Raises `RequestError` before the first picture when the order cannot be fulfilled at all; failures of single
        pictures are `Failed` events.
        """
        ...

    async def aclose(self) -> None:
        """Give back devices and threads."""
        ...
