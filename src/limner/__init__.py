"""Limner paints pictures from text, with an engine and a small checkpoint of its own.

    from limner import create_image_generator

    create_image_generator().generate("a red boat on the sea").save("boat.png")

Async programs use `Studio`. Importing this package imports neither of them until they are named.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limner.config import load_settings
    from limner.domain import GenerationRequest
    from limner.generator import create_image_generator
    from limner.studio import Studio

    __version__: str

__all__ = ["GenerationRequest", "Studio", "__version__", "create_image_generator", "load_settings"]

_PLACES = {
    "GenerationRequest": "limner.domain",
    "Studio": "limner.studio",
    "create_image_generator": "limner.generator",
    "load_settings": "limner.config",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("limner")
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'limner' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
