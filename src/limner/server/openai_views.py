"""OpenAI's answers: pictures, the events of a stream of pictures, and models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel
from pydantic.json_schema import SkipJsonSchema

from limner.server.views import View, absent


class OpenAIModel(View):
    """A checkpoint."""

    id: str = Field(description="the checkpoint's name")
    object: Literal["model"] = Field(description="always `model`")
    created: int = Field(description="always 0: nobody knows")
    owned_by: Literal["limner"] = Field(description="always `limner`")


class OpenAIModels(View):
    """Every checkpoint that can be painted with."""

    object: Literal["list"] = Field(description="always `list`")
    data: tuple[OpenAIModel, ...] = Field(description="by name")


class InputTokens(View):
    """What the request is counted as."""

    text_tokens: int = Field(description="words of the prompt")
    image_tokens: int = Field(description="always 0")


class ImagesUsage(View):
    """What request and pictures are counted as: a word, and 16x16 pixels, are a token."""

    input_tokens: int = Field(description="of the request")
    output_tokens: int = Field(description="of the pictures")
    total_tokens: int = Field(description="both together")
    input_tokens_details: InputTokens = Field(description="of the request, by kind")


class ImageFacts(View):
    """How the pictures of an answer are."""

    background: Literal["opaque"] = Field(description="always `opaque`")
    output_format: Literal["png", "jpeg", "webp"] = Field(description="how they are written")
    size: str = Field(description="WIDTHxHEIGHT of the first")
    quality: Literal["low", "medium", "high"] = Field(description="as it was asked for; else `medium`")


class ImageDatum(View):
    """A picture: its bytes, or where they are."""

    b64_json: str | SkipJsonSchema[None] = absent("the bytes in base64, unless `response_format` is `url`")
    url: str | SkipJsonSchema[None] = absent("a signed link, where `response_format` is `url`")
    revised_prompt: None = Field(default=None, description="always null: prompts are painted as they are")


class ImagesAnswer(ImageFacts):
    """The pictures that could be painted."""

    created: int = Field(description="when they were done, in seconds since 1970, UTC")
    data: tuple[ImageDatum, ...] = Field(description="the pictures")
    usage: ImagesUsage = Field(description="what all this is counted as")
    warnings: tuple[str, ...] = Field(description="what of the request was not acted on, and what failed")


class PartialImageMessage(ImageFacts):
    """A picture on its way."""

    type: Literal["image_generation.partial_image", "image_edit.partial_image"] = Field(description="kind of the event")
    b64_json: str = Field(description="its bytes in base64, as large as the picture will be")
    created_at: int = Field(description="when it was sent, in seconds since 1970, UTC")
    partial_image_index: int = Field(description="which of the picture's previews, from 0")


class CompletedImageMessage(ImageFacts):
    """A picture is painted."""

    type: Literal["image_generation.completed", "image_edit.completed"] = Field(description="kind of the event")
    b64_json: str = Field(description="its bytes in base64")
    created_at: int = Field(description="when it was sent, in seconds since 1970, UTC")
    usage: ImagesUsage = Field(description="what request and pictures are counted as")
    warnings: tuple[str, ...] | SkipJsonSchema[None] = absent("what of the request was not acted on")


class OpenAIFault(View):
    """What went wrong."""

    message: str = Field(description="what happened, and what to do")
    type: str = Field(description="kind of the error, in OpenAI's words")
    param: str | None = Field(description="the field that is wrong")
    code: str | None = Field(description="ours, stable, for programs")


class OpenAIError(View):
    """An error, in the form that OpenAI's clients expect."""

    error: OpenAIFault = Field(description="what went wrong")


class ImageErrorMessage(OpenAIError):
    """No picture could be painted; the stream ends."""

    type: Literal["error"] = Field(description="kind of the event")


class ImageStreamMessage(
    RootModel[Annotated[PartialImageMessage | CompletedImageMessage | ImageErrorMessage, Field(discriminator="type")]]
):
    """The `data` of an event of a stream of pictures."""
