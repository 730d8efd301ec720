"""The recipe inside the picture file.

| format | ours, complete | for other programs |
|---|---|---|
| PNG | text chunk `limner` (JSON) | text chunk `parameters` (the form of AUTOMATIC1111's web UI) |
| JPEG, WebP | XMP property `limner:recipe` (JSON) | EXIF UserComment, the same text |

A JPEG segment holds 64 KB; a longer recipe is spread over segments as the XMP specification (part 3, 1.1.3.1) says.
Knows nothing of where files lie or who asks.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from PIL import ExifTags, Image, PngImagePlugin
from pydantic import ValidationError

from limner.domain import OutputSettings, Recipe
from limner.errors import InvalidRequest, NotFound
from limner.media.comfyui import parse_graph
from limner.media.json_text import json_of
from limner.media.parameters import ForeignRecipe, parse_parameters, write_parameters
from limner.media.pictures import opened
from limner.validation import problems, shown

KEY = "limner"
FORMAT_VERSION = 1

_XMP_NAMESPACE = "https://limner.dev/xmp/1.0/"
_NOTE_NAMESPACE = "http://ns.adobe.com/xmp/note/"
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_SEGMENT_BYTES = 65_000
_UNICODE = b"UNICODE\0"


def encoded(image: Image.Image, recipe: Recipe, output: OutputSettings) -> bytes:
    """The bytes of a picture file that carries the recipe."""
    envelope = {"version": FORMAT_VERSION, "recipe": recipe.model_dump(mode="json")}
    # XML cannot hold every character, escaped JSON holds them all.
    ours = json.dumps(envelope, ensure_ascii=output.format != "png")
    theirs = write_parameters(recipe)
    stream = io.BytesIO()
    if output.format == "png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt(KEY, ours)
        chunks.add_itxt("parameters", theirs)
        image.save(stream, "PNG", pnginfo=chunks)
        return stream.getvalue()
    exif = _exif(theirs)
    if output.format == "webp":
        image.save(stream, "WEBP", quality=output.quality, exif=exif, xmp=_xmp(KEY, ours))
        return stream.getvalue()
    xmp, extension = _xmp(KEY, ours), b""
    if len(xmp) > _SEGMENT_BYTES:
        extension = xmp
        xmp = _xmp("note", hashlib.md5(extension, usedforsecurity=False).hexdigest().upper())
    image.save(stream, "JPEG", quality=output.quality, exif=exif, xmp=xmp)
    content = stream.getvalue()
    return content[:2] + b"".join(_extension_segments(extension)) + content[2:]


def read_recipe(path: str | Path) -> Recipe:
    """The recipe of a picture that limner made.

    Raises `NotFound` when the file has none, `InvalidRequest` when it is no picture or the recipe is damaged.
    """
    found = inspect_picture(path)
    if isinstance(found, Recipe):
        return found
    raise NotFound(f"Picture `{path}` carries a foreign recipe only. Choose one that limner made.", path=str(path))


def inspect_picture(path: str | Path) -> Recipe | ForeignRecipe:
    """What a picture says of how it was made: our recipe, else as much as another program's text tells.

    Raises `NotFound` when it says nothing, `Unsupported` when it says it in a form that limner does not know, and
    `InvalidRequest` when it is no picture or the recipe is damaged.
    """
    path = Path(path)
    with opened(path) as image:
        try:
            ours, theirs = _texts(image)
            graph, size = None if ours or theirs else graph_of(image), image.size
        except (OSError, SyntaxError, ValueError, struct.error) as error:
            raise InvalidRequest(
                f"What picture `{path}` says of itself is damaged ({error}). Choose another picture.", path=str(path)
            ) from error
    if ours is not None:
        return _recipe(ours, path)
    if theirs:
        return parse_parameters(theirs)
    if graph:
        return parse_graph(graph, size)
    raise NotFound(
        f"Picture `{path}` says nothing of how it was made. "
        "Choose one that limner or a web UI wrote and nobody has stripped since.",
        path=str(path),
    )


def _recipe(text: str, path: Path) -> Recipe:
    try:
        envelope = json_of(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The recipe in `{path}` is damaged ({error}). Choose another picture.") from error
    if not isinstance(envelope, dict) or "recipe" not in envelope:
        raise InvalidRequest(f"The recipe in `{path}` is damaged (it holds no recipe). Choose another picture.")
    values = cast(dict[str, Any], envelope)
    if values.get("version") != FORMAT_VERSION:
        raise InvalidRequest(
            f"The recipe in `{path}` has version {shown(values.get('version'))}, "
            f"this limner reads version {FORMAT_VERSION}. Update limner."
        )
    try:
        return Recipe.model_validate(values["recipe"])
    except ValidationError as error:
        wrong = ", ".join(f"`{'.'.join(problem.path)}`" for problem in problems(error))
        raise InvalidRequest(f"The recipe in `{path}` is damaged (see {wrong}). Choose another picture.") from error


def _texts(image: Image.Image) -> tuple[str | None, str | None]:
    if image.format == "PNG":
        ours, theirs = (image.info.get(name) for name in (KEY, "parameters"))
        return ours if isinstance(ours, str) else None, theirs if isinstance(theirs, str) else None
    return _ours_in_xmp(image), _user_comment(image)


def graph_of(image: Image.Image) -> str | None:
    """What ComfyUI writes: a chunk of a PNG, the tag `Model` of a WebP or JPEG."""
    if image.format == "PNG":
        told: object = image.info.get("prompt")
    else:
        tag: object = image.getexif().get(ExifTags.Base.Model)
        told = tag.removeprefix("prompt:") if isinstance(tag, str) and tag.startswith("prompt:") else None
    return told if isinstance(told, str) else None


# --- EXIF


def _exif(text: str) -> bytes:
    exif = Image.Exif()
    comment = _UNICODE + text.encode("utf-16-be")
    # A segment holds no more, and half a prompt would be a wrong one: the complete recipe is in the XMP anyway.
    if len(comment) <= _SEGMENT_BYTES:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    return exif.tobytes()


def _user_comment(image: Image.Image) -> str | None:
    value: object = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if isinstance(value, str):
        return value or None
    if not isinstance(value, bytes):
        return None
    kind, content = value[:8], value[8:]
    if kind == _UNICODE:
        # The standard leaves the byte order open; the zero bytes of the Latin letters, which are always there, tell it.
        big = content[0::2].count(0) >= content[1::2].count(0)
        return content.decode("utf-16-be" if big else "utf-16-le", errors="replace")
    return content.decode("utf-8", errors="replace").rstrip("\0") or None


# --- XMP


def _xmp(name: str, value: str) -> bytes:
    prefix, namespace, attribute = (
        ("limner", _XMP_NAMESPACE, "recipe") if name == KEY else ("xmpNote", _NOTE_NAMESPACE, "HasExtendedXMP")
    )
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:{prefix}="{namespace}" {prefix}:{attribute}={quoteattr(value)}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def _extension_segments(packet: bytes) -> Iterator[bytes]:
    name = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()
    for offset in range(0, len(packet), _SEGMENT_BYTES):
        part = _EXTENSION + name + struct.pack(">II", len(packet), offset) + packet[offset : offset + _SEGMENT_BYTES]
        yield b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part


def _ours_in_xmp(image: Image.Image) -> str | None:
    packet: object = image.info.get("xmp")
    if not isinstance(packet, bytes):
        return None
    if (value := _attribute(packet, f"{{{_XMP_NAMESPACE}}}recipe")) is not None:
        return value
    if (name := _attribute(packet, f"{{{_NOTE_NAMESPACE}}}HasExtendedXMP")) is None:
        return None
    return _attribute(_joined(image, name.encode()), f"{{{_XMP_NAMESPACE}}}recipe")


def _joined(image: Image.Image, name: bytes) -> bytes:
    applist = cast("list[tuple[str, bytes]]", getattr(image, "applist", []))
    head = len(_EXTENSION) + len(name)
    parts = [
        (struct.unpack(">I", content[head + 4 : head + 8])[0], content[head + 8 :])
        for marker, content in applist
        if marker == "APP1" and content.startswith(_EXTENSION + name) and len(content) > head + 8
    ]
    return b"".join(content for _, content in sorted(parts))


def _attribute(packet: bytes, name: str) -> str | None:
    # A document type declaration could define entities that grow without end; XMP has none.
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return None
    xml = re.sub(rb"<\?xpacket[^>]*\?>", b"", packet).strip(b"\0 \r\n\t")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    for element in root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"):
        if (value := element.get(name)) is not None:
            return value
    return None
