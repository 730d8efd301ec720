"""Say in one sentence what a record found wrong with its values.

Pydantic's own report is for programmers. This module knows no record in particular.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from limner.errors import InvalidRequest

ModelT = TypeVar("ModelT", bound=BaseModel)


def problems(error: ValidationError) -> list[tuple[tuple[str, ...], str]]:
    """Every complaint as (path of the value, sentence without a full stop).

    A list whose items are wrong is also said to be too short; such complaints on the surroundings are left out.
    """
    found: list[tuple[tuple[str, ...], str]] = []
    for item in error.errors(include_url=False):
        message = item["msg"].removeprefix("Value error, ").rstrip(".")
        if item["type"] == "extra_forbidden":
            message = "is unknown"
        found.append((tuple(str(part) for part in item["loc"]), message))
    inner = {path[:n] for path, _ in found for n in range(len(path))}
    return [(path, message) for path, message in found if path not in inner or not path]


def checked(model: type[ModelT], values: Mapping[str, object], source: str = "") -> ModelT:
    """Build a record from values that came from outside.

    Raises `InvalidRequest` with one sentence a wrong value; `source` is said in front of it.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidRequest(sentence(error, source)) from error


def sentence(error: ValidationError, source: str = "") -> str:
    """All complaints of a validation in one line."""
    told = "; ".join(f"`{'.'.join(path)}`: {message}" if path else message for path, message in problems(error))
    return f"{source}: {told}." if source else f"{told[:1].upper()}{told[1:]}."
