"""What every run of `limner generate` has in common: pictures, failures, remarks, and how they are summed up."""

from __future__ import annotations

import asyncio
import re
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.cli.application import Application, error_record
from limner.cli.exit_codes import OK, PARTIAL, exit_code_of
from limner.cli.like import Original
from limner.domain import GenerationRequest, Recipe
from limner.errors import LimnerError
from limner.media.pictures import sha256_of
from limner.media.saving import check_folder

AT_ONCE = 16
"""Requests under way at a time; the others wait, so that a long file of prompts needs no more memory."""


@dataclass(frozen=True)
class Place:
    """Where pictures go. Without a stem they are named after prompt and seed, without a suffix after their format."""

    folder: Path
    stem: str = ""
    suffix: str = ""

    def stem_of(self, recipe: Recipe) -> str:
        """The name of a picture's file, without suffix."""
        return self.stem or f"{_slug(recipe.request.prompt)}-{recipe.plan.seed}"


class Run(ABC):
    """One run of `limner generate`, wherever it is painted.

    Args:
        application: prints.
        original: the picture to be made again, if any.
        place: where pictures go.
    """

    def __init__(self, application: Application, original: Original | None, place: Place) -> None:
        self._application = application
        self._original = original
        self._place = place
        self._pictures: list[dict[str, Any]] = []
        self._failures: list[tuple[GenerationRequest, int | None, LimnerError]] = []
        self._warnings: list[str] = []
        self._notes: list[str] = []

    @abstractmethod
    async def _paint_all(self, requests: list[GenerationRequest]) -> None: ...

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

    def _add(self, path: Path, recipe: Recipe, width: int, height: int, **more: Any) -> None:
        if self._original and (difference := self._original.differences(recipe)):
            self._warn(difference)
        self._pictures.append(
            {
                "path": str(path),
                "sha256": sha256_of(path),
                "format": recipe.request.output.format,
                "width": width,
                "height": height,
                "prompt": recipe.plan.prompt,
                "negative_prompt": recipe.plan.negative_prompt,
                "seed": recipe.plan.seed,
                "index": recipe.index,
                "model": recipe.checkpoint,
                "device": recipe.device,
                "adapters": [outcome.model_dump(mode="json") for outcome in recipe.adapters],
                "warnings": list(recipe.warnings),
            }
            | more
        )
        if not self._application.as_json:
            self._application.answer(str(path))

    def _warn(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.append(message)
            self._application.warn(message)

    def _note(self, message: str) -> None:
        if message not in self._notes:
            self._notes.append(message)
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
