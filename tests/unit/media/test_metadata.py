"""Recipes inside picture files: written, read back, and refused when damaged or foreign."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from limner.domain import AdapterRequest, OutputSettings
from limner.errors import InvalidRequest, NotFound
from limner.media.metadata import encoded, inspect_picture, read_recipe
from limner.media.parameters import ForeignRecipe
from limner.media.pictures import open_reference
from tests.support.records import gradient, recipe

Format = Literal["png", "jpeg", "webp"]
FORMATS: list[Format] = ["png", "jpeg", "webp"]


def _written(path: Path, format: Format, **fields: Any) -> Path:
    path.write_bytes(encoded(gradient(), recipe(**fields), OutputSettings(format=format)))
    return path


def _png(path: Path, **chunks: str) -> Path:
    texts = PngImagePlugin.PngInfo()
    for name, text in chunks.items():
        texts.add_itxt(name, text)
    gradient().save(path, pnginfo=texts)
    return path


@pytest.mark.parametrize("format", FORMATS)
def test_a_recipe_comes_back_as_it_went(tmp_path: Path, format: Format) -> None:
    fields: dict[str, Any] = {
        "prompt": '夜空下的<b>"火箭"</b>\n& more \x85\u2028',
        "negative_prompt": "blurry",
        "adapters": (AdapterRequest(name="ink", weight=0.7, trigger="ink style"),),
    }
    path = _written(tmp_path / "p", format, **fields)
    assert read_recipe(path) == recipe(**fields)
    with Image.open(path) as image:
        image.load()
        assert (image.size, image.format) == ((64, 48), format.upper())


@pytest.mark.parametrize("format", FORMATS)
def test_a_recipe_longer_than_a_segment_comes_back_whole(tmp_path: Path, format: Format) -> None:
    prompt = "".join(chr(0x4E00 + i % 20000) for i in range(32_000))
    assert read_recipe(_written(tmp_path / "p", format, prompt=prompt)) == recipe(prompt=prompt)


@given(
    prompt=st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\t\n"), max_size=40),
    format=st.sampled_from(FORMATS),
)
@settings(max_examples=40)
def test_any_prompt_comes_back(tmp_path_factory: pytest.TempPathFactory, prompt: str, format: Format) -> None:
    folder = tmp_path_factory.mktemp("prompt")
    assert read_recipe(_written(folder / "p", format, prompt=prompt)).request.prompt == prompt


def test_png_pixels_are_exact(tmp_path: Path) -> None:
    with Image.open(_written(tmp_path / "p.png", "png")) as image:
        assert image.tobytes() == gradient().tobytes()


def test_other_programs_find_their_text_in_a_png(tmp_path: Path) -> None:
    with Image.open(_written(tmp_path / "p.png", "png")) as image:
        assert str(image.info["parameters"]).startswith("a red boat\nSteps: 9, Sampler: Euler a")


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_other_programs_find_their_text_in_exif(tmp_path: Path, format: Format) -> None:
    with Image.open(_written(tmp_path / "p", format)) as image:
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be").startswith("a red boat\nSteps: 9")


def test_a_picture_without_any_recipe_says_so(tmp_path: Path) -> None:
    gradient().save(tmp_path / "p.png")
    with pytest.raises(NotFound, match="says nothing of how it was made"):
        inspect_picture(tmp_path / "p.png")


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_a_plain_photograph_says_nothing(tmp_path: Path, format: str) -> None:
    gradient().save(tmp_path / "p", format)
    with pytest.raises(NotFound):
        inspect_picture(tmp_path / "p")


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_text("hello")
    with pytest.raises(InvalidRequest, match="is not a picture"):
        inspect_picture(tmp_path / "p.png")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is damaged (Expecting property name"),
        ("[" * 100_000, "is damaged (maximum recursion depth exceeded"),
        ("[]", "it holds no recipe"),
        ('{"version": 9, "recipe": {}}', "has version 9, this limner reads version 1. Update limner."),
        ('{"version": "\\ud800", "recipe": {}}', "has version '?', this limner"),
        (f'{{"version": "{"9" * 10_000}", "recipe": {{}}}}', "has version '999999999999...9999999999999', this limner"),
        ('{"version": 1, "recipe": {"nonsense": 1}}', "is damaged (see `request`, "),
    ],
)
def test_a_damaged_recipe_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = _png(tmp_path / "p.png", limner=text)
    with pytest.raises(InvalidRequest) as caught:
        read_recipe(path)
    assert str(path) in caught.value.message
    assert told in caught.value.message


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_is_refused(tmp_path: Path, format: str) -> None:
    path = tmp_path / "p"
    gradient().save(path, format, exif=b"Exif\0\0M\t\0*\0\0\0\x08")
    with pytest.raises((InvalidRequest, NotFound)):
        inspect_picture(path)


@pytest.mark.filterwarnings("ignore")
@given(format=st.sampled_from(["png", "jpeg", "webp"]), damage=st.data())
def test_whatever_is_damaged_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, format: str, damage: st.DataObject
) -> None:
    content = bytearray(encoded(gradient(), recipe(), OutputSettings.model_validate({"format": format})))
    for _ in range(damage.draw(st.integers(1, 8))):
        content[damage.draw(st.integers(0, len(content) - 1))] = damage.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "p"
    path.write_bytes(content[: damage.draw(st.integers(1, len(content)))])
    for read in (inspect_picture, open_reference):
        with contextlib.suppress(InvalidRequest, NotFound):
            read(path)


def test_hostile_xmp_is_not_expanded(tmp_path: Path) -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
    gradient().save(tmp_path / "p.jpg", xmp=bomb)
    with pytest.raises(NotFound):
        inspect_picture(tmp_path / "p.jpg")


def test_a_foreign_png_gives_a_request(tmp_path: Path) -> None:
    path = _png(tmp_path / "p.png", parameters="a cat\nSteps: 20, Sampler: Euler a, Seed: 3, Size: 512x768")
    found = inspect_picture(path)
    assert isinstance(found, ForeignRecipe)
    assert (found.request.prompt, found.request.steps, found.request.height) == ("a cat", 20, 768)
    with pytest.raises(NotFound, match="foreign recipe only"):
        read_recipe(path)


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
def test_a_foreign_jpeg_is_read_in_either_byte_order(tmp_path: Path, order: str) -> None:
    exif = Image.Exif()
    text = "一只猫\nSteps: 20, Sampler: Euler"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + text.encode(order)
    gradient().save(tmp_path / "p.jpg", exif=exif)
    found = inspect_picture(tmp_path / "p.jpg")
    assert found.request.prompt == "一只猫"


def test_an_ascii_comment_is_read_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0a cat\nSteps: 2, Seed: 1"
    gradient().save(tmp_path / "p.webp", exif=exif)
    assert inspect_picture(tmp_path / "p.webp").request.seed == 1


def test_the_json_of_a_png_is_plain_to_read(tmp_path: Path) -> None:
    with Image.open(_written(tmp_path / "p.png", "png", prompt="火箭")) as image:
        text = str(image.info["limner"])
    assert "火箭" in text
    assert json.loads(text)["version"] == 1
