"""Paints for `limner generate` in this process: all requests at once, saved as they come, told on the way."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from PIL import Image
from rich.progress import TaskID

from limner.cli.application import Application
from limner.cli.like import Original
from limner.cli.progress import Display
from limner.cli.running import AT_ONCE, Place, Run
from limner.config import Settings
from limner.domain import GenerationRequest
from limner.errors import LimnerError
from limner.events import Failed, ImageGenerated, Info, Warned
from limner.media.saving import save_picture
from limner.studio import Studio, raised


class Painting(Run):
    """One run of `limner generate` on this machine.

    Args:
        application: prints.
        settings: the settings.
        original: the picture to be made again, if any.
        place: where pictures go.
    """

    def __init__(self, application: Application, settings: Settings, original: Original | None, place: Place) -> None:
        super().__init__(application, original, place)
        self._settings = settings

    async def _paint_all(self, requests: list[GenerationRequest]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        async with self._application.studio(self._settings) as studio:
            try:
                with Display(self._application) as display:
                    async with asyncio.TaskGroup() as group:  # when it is cancelled it waits for all
                        for request in requests:
                            group.create_task(self._paint(studio, display, gate, request))
            except (asyncio.CancelledError, KeyboardInterrupt):
                # Leaving the studio waits for the step, or the loading, that the engine is in.
                self._application.say("Stopping after this step.")
                raise

    async def _paint(
        self, studio: Studio, display: Display, gate: asyncio.Semaphore, request: GenerationRequest
    ) -> None:
        async with gate:
            task = display.add(request.prompt)
            try:
                if self._original:
                    models = await asyncio.to_thread(studio.capabilities, studio.backend_of(request))
                    request = self._original.pinned(request, models.models)
                await self._follow(studio, display, task, request)
            except LimnerError as error:
                self._failures.append((request, None, error))
            finally:
                display.remove(task)

    async def _follow(self, studio: Studio, display: Display, task: TaskID, request: GenerationRequest) -> None:
        async with aclosing(studio.run(request)) as events:
            async for event in events:
                display.tell(task, event)
                match event:
                    case Info():
                        self._note(event.message)
                    case Warned():
                        self._warn(event.message)
                    case Failed():
                        self._failures.append((request, event.index, raised(event)))
                    case ImageGenerated():
                        await self._save(event)
                    case _:
                        pass

    async def _save(self, event: ImageGenerated) -> None:
        recipe, place = event.recipe, self._place
        image = Image.frombytes("RGB", (event.width, event.height), event.rgb)
        stem, output = place.stem_of(recipe), recipe.request.output
        path = await asyncio.to_thread(save_picture, image, place.folder, stem, recipe, output, place.suffix)
        self._add(path, recipe, event.width, event.height)
