"""What is wrong with a value is said in sentences, and never in pydantic's words."""

from __future__ import annotations

from typing import Any

import pytest

from limner.domain import GenerationRequest
from limner.errors import InvalidRequest
from limner.validation import checked


def _refusal(**values: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        checked(GenerationRequest, values)
    return caught.value.message


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"steps": 0}, "`steps` is 0. Give at least 1."),
        ({"steps": 201}, "`steps` is 201. Give at most 200."),
        ({"steps": 2.5}, "`steps` is 2.5. Give a whole number."),
        ({"steps": "many"}, "`steps` is 'many'. Give a whole number."),
        ({"cfg": float("nan")}, "`cfg` is nan. Give a finite number."),
        ({"cfg": "much"}, "`cfg` is 'much'. Give a number."),
        ({"shift": 0}, "`shift` is 0. Give more than 0."),
        ({"width": 100, "height": 64}, "`width` is 100. Give a multiple of 16 from 64 to 4096."),
        ({"width": 64}, "Width and height go together. Give both or neither."),
        (
            {"aspect_ratio": "16/9"},
            "`aspect_ratio` is '16/9'. Give a shape of two numbers from 1 to 9999, such as 16:9.",
        ),
        ({"prompt": 5}, "`prompt` is 5. Give a text."),
        ({"adapters": [{"name": ""}]}, "`adapters.0.name` is ''. Give a text that is not empty."),
        ({"adapters": 5}, "`adapters` is 5. Give a list."),
        ({"stages": []}, "`stages` is []. Give at least 1."),
        ({"references": [{"path": "a"}] * 17}, "Give at most 16."),
        ({"cache": 3}, "`cache` is 3. Give a group of values."),
        ({"output": {"format": "gif"}}, "`output.format` is 'gif'. Give 'png', 'jpeg' or 'webp'."),
        ({"stages": [{"width": 64}]}, "`stages.0.height` is missing. Add it."),
        ({"colour": "red"}, "`colour` is unknown. Remove it."),
        ({"steps": 0, "seed": -1}, "`seed` is -1. Give at least 0. `steps` is 0. Give at least 1."),
    ],
)
def test_a_wrong_value_is_named_with_what_to_do(values: dict[str, Any], told: str) -> None:
    assert _refusal(**values).endswith(told)


def test_a_long_value_is_shortened() -> None:
    told = _refusal(prompt="a" * 40_000)
    assert told.endswith("aaa'. Give at most 32,000 characters.")
    assert len(told) < 100
