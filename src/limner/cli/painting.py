"""Runs requests for `limner generate`: all of them at once, saved as they come, told on the way and summed up."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import TaskID

from limner.cli.application import Application, error_record
from limner.cli.exit_codes import OK, PARTIAL, exit_code_of
from limner.cli.like import Original
from limner.cli.progress import Display
from limner.config import Settings
from limner.domain import GenerationRequest
from limner.errors import LimnerError
from limner.events import Failed, ImageGenerated, Info, Warned
from limner.media.pictures import sha256_of
from limner.media.saving import check_folder, save_picture
from limner.studio import Studio, raised

AT_ONCE = 16
"""Requests in the engine at a time; the others wait, so that a long file of prompts needs no more memory."""


@dataclass(frozen=True)
class Place:
    """Where pictures go. Without a stem they are named after prompt and seed, without a suffix after their format."""

    folder: Path
    stem: str = ""
    suffix: str = ""


class Painting:
    """One run of `limner generate`.

    Args:
        application: prints.
        settings: the settings.
        original: the picture to be made again, if any.
        place: where pictures go.
    """

    def __init__(self, application: Application, settings: Settings, original: Original | None, place: Place) -> None:
        self._application = application
        self._settings = settings
        self._original = original
        self._place = place
        self._pictures: list[dict[str, Any]] = []
        self._failures: list[tuple[GenerationRequest, int | None, LimnerError]] = []
        self._warnings: list[str] = []
        self._notes: list[str] = []

    def run(self, requests: list[GenerationRequest]) -> int:
        """Paint them all; the exit code.

        Raises the failure when there was one request and it could not be fulfilled at all, and `StorageError`, before
        anything is painted, when there is no place for the pictures.
        """
        check_folder(self._place.folder)
        started = time.monotonic()
        try:
            asyncio.run(self._paint_all(requests))
        except KeyboardInterrupt:
            if self._pictures:
                self._application.say(f"{_pictures(len(self._pictures))} finished before.")
            raise
        duration_s = round(time.monotonic() - started, 2)
        if len(requests) == 1 and not self._pictures and self._failures:
            raise self._failures[0][2]
        for request, _, error in self._failures:
            self._application.say(f"error ({error.code}): {error.message} [{request.prompt[:60]}]", "red")
        if self._application.as_json:
            self._application.answer_json(self._answer(duration_s))
        else:
            self._application.say(f"{_pictures(len(self._pictures))} in {duration_s:.1f} s")
        if not self._failures:
            return OK
        return PARTIAL if self._pictures else exit_code_of(self._failures[0][2])

    async def _paint_all(self, requests: list[GenerationRequest]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        async with self._application.studio(self._settings) as studio:
            try:
                with Display(self._application) as display:
                    await asyncio.gather(*(self._paint(studio, display, gate, request) for request in requests))
            except asyncio.CancelledError:
                # Leaving the studio waits for the step, or the loading, that the engine is in.
                self._application.say("Stopping after this step.")
                raise

    async def _paint(
        self, studio: Studio, display: Display, gate: asyncio.Semaphore, request: GenerationRequest
    ) -> None:
        async with gate:
            task = display.add(request)
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
                        self._remark(self._notes, event.message)
                    case Warned():
                        self._remark(self._warnings, event.message)
                    case Failed():
                        self._failures.append((request, event.index, raised(event)))
                    case ImageGenerated():
                        await self._save(event)
                    case _:
                        pass

    async def _save(self, event: ImageGenerated) -> None:
        recipe = event.recipe
        image = Image.frombytes("RGB", (event.width, event.height), event.rgb)
        place, output = self._place, recipe.request.output
        stem = place.stem or f"{_slug(recipe.request.prompt)}-{recipe.plan.seed}"
        path = await asyncio.to_thread(save_picture, image, place.folder, stem, recipe, output, place.suffix)
        if self._original and (difference := self._original.differences(recipe)):
            self._remark(self._warnings, difference)
        self._pictures.append(
            {
                "path": str(path),
                "sha256": sha256_of(path),
                "format": recipe.request.output.format,
                "width": event.width,
                "height": event.height,
                "prompt": recipe.plan.prompt,
                "negative_prompt": recipe.plan.negative_prompt,
                "seed": recipe.plan.seed,
                "index": event.index,
                "model": recipe.checkpoint,
                "device": recipe.device,
                "adapters": [outcome.model_dump(mode="json") for outcome in recipe.adapters],
                "warnings": list(recipe.warnings),
            }
        )
        if not self._application.as_json:
            self._application.answer(str(path))

    def _remark(self, told: list[str], message: str) -> None:
        if message in told:
            return
        told.append(message)
        if told is self._warnings:
            self._application.warn(message)
        else:
            self._application.say(f"note: {message}")

    def _answer(self, duration_s: float) -> dict[str, Any]:
        status = "completed" if not self._failures else "partial" if self._pictures else "failed"
        return {
            "status": status,
            "pictures": self._pictures,
            "failures": [
                {"prompt": request.prompt, "index": index} | error_record(error)
                for request, index, error in self._failures
            ],
            "warnings": self._warnings,
            "notes": self._notes,
            "duration_s": duration_s,
        }


def _slug(prompt: str) -> str:
    words = re.findall(r"\w+", prompt.lower())
    slug = ""
    for word in words:
        if len(slug) + len(word) > 40:
            break
        slug = f"{slug}-{word}" if slug else word
    return slug or (words[0][:40] if words else "picture")


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"
