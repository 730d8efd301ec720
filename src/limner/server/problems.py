"""Errors as RFC 9457 problems, and in OpenAI's form below `/v1`; the one table from our errors to HTTP statuses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, params
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from limner import errors as e
from limner.validation import by_field, explained

MEDIA_TYPE = "application/problem+json"
OPENAI_PREFIX = "/v1/"
STATUSES: dict[type[e.LimnerError], int] = {
    e.InvalidRequest: 422,
    e.Unsupported: 422,
    e.AdapterMismatch: 422,
    e.NotFound: 404,
    e.Conflict: 409,
    e.Refused: 403,
    e.TooLarge: 413,
    e.RequestError: 400,
    e.QueueFull: 429,
    e.CapacityError: 503,
    e.BackendError: 502,
    e.StorageFull: 507,
    e.StorageError: 503,
    e.DatabaseError: 503,
    e.ConfigError: 500,
}
RETRY_AFTER_S = 5
PROBLEM = {"$ref": "#/components/schemas/Problem"}
OPENAI_ERROR = {"$ref": "#/components/schemas/OpenAIError"}
log = logging.getLogger("limner.server")


def status_of(error: e.LimnerError) -> int:
    """The HTTP status of an error: that of its nearest class in the table."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


def problem(status: int, code: str, detail: str, retryable: bool = False, **more: Any) -> JSONResponse:
    """A problem as the answer to a request."""
    title = code.replace("_", " ").capitalize()
    body = {"type": f"urn:limner:{code}", "title": title, "status": status, "detail": detail, "code": code}
    return JSONResponse(body | {"retryable": retryable} | more, status, _waiting(status), MEDIA_TYPE)


def openai_error(
    status: int, code: str, message: str, param: str | None = None, retryable: bool = True
) -> JSONResponse:
    """An error as OpenAI's clients expect it; they send again what was not `retryable`, unless they are told."""
    status = 400 if status == 422 else status
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    headers = (_waiting(status) or {}) | ({} if retryable else {"x-should-retry": "false"})
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status, headers)


def answer(path: str, status: int, code: str, message: str, retryable: bool = False, **more: Any) -> JSONResponse:
    """An error in the form that callers of this path expect."""
    if path.startswith(OPENAI_PREFIX):
        return openai_error(status, code, message, retryable=retryable)
    return problem(status, code, message, retryable, **more)


def of_error(error: e.LimnerError, path: str) -> JSONResponse:
    """One of our errors as an answer."""
    more = {"details": error.details} if error.details and isinstance(error, e.RequestError | e.CapacityError) else {}
    return answer(path, status_of(error), error.code, error.message, error.retryable, **more)


def of_validation(error: RequestValidationError, request: Request) -> JSONResponse:
    """What FastAPI found wrong with a request's form."""
    items: Sequence[ErrorDetails] = error.errors()
    path, code = request.url.path, e.InvalidRequest.code
    if broken := next((item for item in items if item["type"] == "json_invalid"), None):
        reason = str(broken.get("ctx", {}).get("error", "")) or "it ends too early"
        return answer(path, 400, code, f"The body is not valid JSON: {reason} at byte {broken['loc'][-1]}. Correct it.")
    if all(item["loc"][0] == "body" for item in items) and (wanted := _other_media_type(request)):
        return answer(path, 415, "unsupported_media_type", f"The body must be {wanted}. Set the Content-Type to it.")
    if path.startswith(OPENAI_PREFIX):
        param = ".".join(str(part) for part in items[0]["loc"][1:]) or None
        return openai_error(400, code, explained(items, skip=1), param, retryable=False)
    fields = by_field(items, skip=1)
    more: dict[str, Any] = {"details": {"fields": fields}} if fields else {}
    return problem(422, code, explained(items, skip=1), **more)


def _other_media_type(request: Request) -> str:
    """The media type that the route expects, when the request has another."""
    route, sent = request.scope.get("route"), request.headers.get("content-type", "").lower()
    if not isinstance(route, APIRoute) or not route.dependant.body_params:
        return ""
    forms = any(isinstance(param.field_info, params.Form) for param in route.dependant.body_params)
    if forms:
        known = sent.startswith(("multipart/form-data", "application/x-www-form-urlencoded"))
        return "" if known else "multipart/form-data"
    return "" if sent.partition(";")[0].strip().endswith(("/json", "+json")) else "application/json"


def _waiting(status: int) -> dict[str, str] | None:
    return {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else None


def install(app: FastAPI) -> None:
    """Answer every error of the app's own routes as a problem."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, e.LimnerError)
        return of_error(error, request.url.path)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return of_validation(error, request)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        path, status, headers = request.url.path, error.status_code, error.headers or {}
        code, message = "http", f"{error.detail}. `/docs` lists every route."
        if status == 404:
            code, message = "not_found", f"There is nothing at {path[:200]}. `/docs` lists every route."
        elif status == 405:
            allowed = headers.get("Allow", "other methods")
            code, message = "method_not_allowed", f"{request.method} cannot be done here, only {allowed}."
        elif status == 413:
            code, message = e.TooLarge.code, str(error.detail)
        elif status == 400:
            code, message = e.InvalidRequest.code, f"{str(error.detail).rstrip('.')}. Correct the body."
        response = answer(path, status, code, message)
        response.headers.update(headers)
        return response

    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.exception("a request failed in a way that nobody foresaw", exc_info=error)
        message = "Something went wrong here that should not. Report this with the server's log."
        return answer(request.url.path, 500, "internal", message)

    app.add_exception_handler(e.LimnerError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unforeseen)
