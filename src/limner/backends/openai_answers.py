"""Read what a provider with OpenAI's Images API answers, and what providers answer that are only nearly like it.

Errors come in several shapes: OpenAI's, FastAPI's, and some with status 200. This module asks nothing.
"""

from __future__ import annotations

import json
from typing import Any, cast

from limner.backends.remote import Answer
from limner.errors import Garbled, NotFound, Rejected, Unreachable

TITLE = "The provider"
POLICY = {"content_policy_violation", "moderation_blocked", "content_filter"}
UNPAID = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
UNKNOWN_MODEL = {"model_not_found", "not_found"}


def checked(answer: Answer, model: str) -> dict[str, Any]:
    """The JSON object of an answer, whose `data` lists something; else the error that it tells of.

    Raises `Rejected`, `NotFound` for the model, `Unreachable` for a failure of the provider's own, and `Garbled`.
    """
    message, code = fault(answer)
    if 200 <= answer.status < 300:
        found = answer.json()
        items: object = found.get("data")
        if isinstance(items, list) and items:
            return found
        if message:
            raise Rejected(f"{TITLE} refuses: {message}. Change what it objects to.", code=code)
        raise Garbled(f"{answer.url} answered without pictures. Check that it is an Images API.")
    told = message or answer.shown() or "it does not say why"
    if code in POLICY:
        raise Rejected(f"{TITLE} refuses to paint this: {told}. Change the prompt or the pictures.", code=code)
    if code in UNPAID:
        raise Rejected(f"{TITLE} paints no more for this key: {told}. Look at its account.", code=code)
    if answer.status in (401, 403):
        raise Rejected(f"{TITLE} does not accept the key: {told}. Set LIMNER_OPENAI__API_KEY.", code=code)
    if answer.status == 404 and not message:
        raise Garbled(f"There is nothing at {answer.url}. Check `openai.base_url`: it often ends with /v1.")
    if code in UNKNOWN_MODEL or answer.status == 404:
        raise NotFound(f"{TITLE} does not know `{model}`: {told}. Name another model.", name=model)
    if answer.status >= 500 and answer.headers.get("x-should-retry") != "false":
        raise Unreachable(f"{TITLE} answered {answer.status}: {told}. Try again later.")
    raise Rejected(f"{TITLE} answered {answer.status}: {told}. Change what it objects to.", code=code)


def fault(answer: Answer) -> tuple[str, str]:
    """Message and code of an error in any of the shapes that are about, empty where there is none."""
    try:
        found = answer.json()
    except Garbled:
        return "", ""
    error: object = found.get("error")
    if isinstance(error, dict):
        told = cast(dict[str, Any], error)
        return _sentence(told.get("message") or told.get("type")), str(told.get("code") or told.get("type") or "")
    if isinstance(error, str):
        return _sentence(error), str(found.get("code") or "")
    message = found.get("message") or found.get("detail") or ""
    return _sentence(message if isinstance(message, str) else json.dumps(message)), str(found.get("code") or "")


def _sentence(message: object) -> str:
    return " ".join(str(message or "").split())[:500].rstrip(".")


def is_settled(answer: Answer) -> bool:
    """Whether waiting would not help, although the status says so."""
    return fault(answer)[1] in POLICY | UNPAID
