"""`--like FILE`: the request inside a picture, with the changes that other flags make."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limner.config import Settings
from limner.domain import GenerationRequest, Recipe, Stage
from limner.errors import InvalidRequest
from limner.media.metadata import inspect_picture
from limner.validation import checked
from limner.workflows.plans import replayed, resized, size_of_aspect


class Original:
    """A picture that is to be made again.

    Args:
        path: the picture file.

    Raises `NotFound` and `InvalidRequest` as `inspect_picture` does.
    """

    def __init__(self, path: Path) -> None:
        found = inspect_picture(path)
        self._path = path
        self.recipe = found if isinstance(found, Recipe) else None
        self.notes = () if isinstance(found, Recipe) else found.notes
        self._request = replayed(found) if isinstance(found, Recipe) else found.request

    def request(self, changes: Mapping[str, Any], on_server: bool = False) -> GenerationRequest:
        """The request that makes it again, apart from these changes.

        Raises `InvalidRequest` when it began with a picture that is on a server, unless it is painted there again.
        """
        changes = dict(changes)
        base = self._request.model_dump()
        masks = [base["mask"]] if base["mask"] else []
        for name, given, told, flag in (
            ("references", base["references"], "began with a picture", "--image"),
            ("mask", masks, "was painted within a mask", "--mask"),
        ):
            if not on_server and name not in changes and any(reference["path"] is None for reference in given):
                raise InvalidRequest(f"{self._path} {told} that was sent to a server. Give it with {flag}.")
        base["references"] = [self._found(reference) for reference in base["references"]]
        base["mask"] = self._found(base["mask"]) if base["mask"] else None
        stages = self._request.stages
        if stages and "preset" in changes:
            base["stages"] = None
        elif stages:
            base["stages"] = [stage.model_dump() for stage in self._stages(stages, changes)]
        elif "aspect_ratio" in changes:
            base |= {"width": None, "height": None}
        if "output" in changes:
            changes["output"] = base["output"] | changes["output"]
        return checked(GenerationRequest, base | changes)

    def repeating(self, settings: Settings) -> Settings:
        """The settings with as many CPU threads as the original was painted with, unless they say how many."""
        threads = self.recipe.threads if self.recipe and self.recipe.device == "cpu" else None
        if threads is None or settings.native.threads is not None:
            return settings
        native = settings.native.model_copy(update={"threads": max(1, min(threads, os.cpu_count() or 1))})
        return settings.model_copy(update={"native": native})

    def pinned(self, request: GenerationRequest, models: tuple[str, ...]) -> GenerationRequest:
        """The request with the checkpoint that made the original, where the request leaves it to the settings."""
        if self.recipe and request.model is None and self.recipe.checkpoint in models:
            return request.model_copy(update={"model": self.recipe.checkpoint})
        return request

    def differences(self, recipe: Recipe) -> str:
        """Why a picture made again may differ from the original; empty when nothing speaks for it."""
        if self.recipe is None:
            return ""
        known = {outcome.name: outcome.sha256 for outcome in self.recipe.adapters}
        for outcome in recipe.adapters:
            if known.get(outcome.name) and outcome.sha256 != known[outcome.name]:
                return (
                    f"LoRA `{outcome.name}` is not the file that {self._path} was made with; the picture will differ."
                )
        if recipe.checkpoint_sha256 != self.recipe.checkpoint_sha256:
            return (
                f"checkpoint `{recipe.checkpoint}` is not the one that made {self._path} "
                f"(`{self.recipe.checkpoint}`, SHA-256 {self.recipe.checkpoint_sha256[:12]}…); the picture will differ."
            )
        return ""

    def _stages(self, stages: tuple[Stage, ...], changes: dict[str, Any]) -> tuple[Stage, ...]:
        aspect_ratio, width, height = (changes.pop(name, None) for name in ("aspect_ratio", "width", "height"))
        if aspect_ratio:
            width, height = size_of_aspect(aspect_ratio, stages[-1].width, stages[-1].height)
        if width and height:
            checked(GenerationRequest, {"width": width, "height": height})
            stages = resized(stages, width, height)
        if "seed" in changes:
            stages = tuple(stage.model_copy(update={"noise_seed": None, "stream_seed": None}) for stage in stages)
        return stages

    def _found(self, reference: dict[str, Any]) -> dict[str, Any]:
        if reference["path"] is None:
            return reference
        path = Path(reference["path"])
        beside = self._path.parent / path
        return reference | {"path": str(beside)} if beside.exists() and not path.exists() else reference
