"""The OpenAPI document: what the routes say of themselves, and the records that no route names by itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import JsonSchemaMode, SkipJsonSchema, models_json_schema

from limner.server.messages import SocketMessage
from limner.server.openai import EditBody
from limner.server.openai_views import ImageStreamMessage, OpenAIError
from limner.server.views import View, absent


class Problem(View):
    """An error, as in RFC 9457."""

    type: str = Field(description="`urn:limner:` and the code")
    title: str = Field(description="the code in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what happened and what to do")
    code: str = Field(description="stable, for programs")
    retryable: bool = Field(description="whether the same request may work later")
    details: dict[str, Any] | SkipJsonSchema[None] = absent("more for programs")


RECORDS: tuple[tuple[type[BaseModel], JsonSchemaMode], ...] = (
    (SocketMessage, "serialization"),
    (ImageStreamMessage, "serialization"),
    (Problem, "serialization"),
    (OpenAIError, "serialization"),
    (EditBody, "validation"),
)


def install(app: FastAPI) -> None:
    """Let the app describe itself with this document; it is made when somebody asks for it first."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = described


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, more = models_json_schema(RECORDS, ref_template="#/components/schemas/{model}")
    components = document["components"]
    components["schemas"] = dict(sorted((more["$defs"] | components["schemas"]).items()))
    return document
