"""Say in sentences what a record found wrong with its values.

Pydantic's own report is for programmers. This module knows no record in particular.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from limner.errors import InvalidRequest

ModelT = TypeVar("ModelT", bound=BaseModel)

UNKNOWN = "is unknown. Remove it"
MISSING = "is missing. Add it"


class Problem(NamedTuple):
    """One complaint: where, about which value, and what to do, as a sentence without its full stop."""

    path: tuple[str, ...]
    value: object
    remedy: str


def problems(error: ValidationError) -> list[Problem]:
    """Every complaint of a validation.

    A list whose items are wrong is also said to be too short; such complaints on the surroundings are left out.
    """
    return _problems(error.errors(include_url=False))


def explained(items: Sequence[ErrorDetails], skip: int = 0) -> str:
    """As `sentences`, from pydantic's own items; so many first parts of each path are left out."""
    short: list[ErrorDetails] = [{**item, "loc": item["loc"][skip:]} for item in items]
    return " ".join(_sentences(problem) for problem in _problems(short))


def by_field(items: Sequence[ErrorDetails], skip: int = 0) -> dict[str, str]:
    """As `explained`, but each complaint by the path of its value, such as `stages.0.width`; without those on none."""
    short: list[ErrorDetails] = [{**item, "loc": item["loc"][skip:]} for item in items]
    return {".".join(problem.path): _sentences(problem) for problem in _problems(short) if problem.path}


def _problems(items: Sequence[ErrorDetails]) -> list[Problem]:
    found = [Problem(tuple(str(part) for part in item["loc"]), item.get("input"), _remedy(item)) for item in items]
    inner = {problem.path[:n] for problem in found for n in range(len(problem.path))}
    return [problem for problem in found if problem.path not in inner or not problem.path]


def checked(model: type[ModelT], values: Mapping[str, object], source: str = "") -> ModelT:
    """Build a record from values that came from outside.

    Raises `InvalidRequest` with two sentences a wrong value; `source` is said in front of them.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidRequest(sentences(error, source)) from error


def sentences(error: ValidationError, source: str = "") -> str:
    """All complaints of a validation in one line: what is wrong and what to do."""
    told = " ".join(_sentences(problem) for problem in problems(error))
    return f"{source}: {told}" if source else told


def shown(value: object) -> str:
    """A value as it is quoted in a message, however long it is."""
    return reprlib.repr(value)


def _sentences(problem: Problem) -> str:
    if not problem.path:
        return f"{problem.remedy}."
    name = f"`{'.'.join(problem.path)}`"
    if problem.remedy in (UNKNOWN, MISSING):
        return f"{name} {problem.remedy}."
    return f"{name} is {shown(problem.value)}. {problem.remedy}."


def _number(limit: float) -> str:
    return str(int(limit)) if limit == int(limit) else str(limit)


def _remedy(item: ErrorDetails) -> str:
    limits = item.get("ctx", {})
    match item["type"]:
        case "extra_forbidden":
            return UNKNOWN
        case "missing":
            return MISSING
        case "greater_than_equal":
            return f"Give at least {_number(limits['ge'])}"
        case "greater_than":
            return f"Give more than {_number(limits['gt'])}"
        case "less_than_equal":
            return f"Give at most {_number(limits['le'])}"
        case "finite_number":
            return "Give a finite number"
        case "int_type" | "int_parsing" | "int_from_float" | "int_parsing_size":
            return "Give a whole number"
        case "float_type" | "float_parsing":
            return "Give a number"
        case "bool_type" | "bool_parsing":
            return "Give true or false"
        case "string_type":
            return "Give a text"
        case "string_too_short":
            return "Give a text that is not empty"
        case "string_too_long":
            return f"Give at most {limits['max_length']:,} characters"
        case "string_pattern_mismatch":
            return "Give one of the expected form"
        case "too_short":
            return f"Give at least {limits['min_length']}"
        case "too_long":
            return f"Give at most {limits['max_length']}"
        case "literal_error" | "enum":
            return f"Give {limits['expected']}"
        case "path_type":
            return "Give a path"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "Give a group of values"
        case "tuple_type":
            return "Give a list"
        case _:
            return item["msg"].removeprefix("Value error, ").rstrip(".")
