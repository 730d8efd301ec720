"""Reference pictures: what is opened, how it is made upright and flat, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from limner.errors import InvalidRequest
from limner.media.pictures import fit, fit_mask, open_mask, open_reference, open_whole, require_same_shape, sha256_of
from tests.support.records import gradient


def _refusal(path: Path, **limits: int) -> str:
    with pytest.raises(InvalidRequest) as caught:
        open_reference(path, **limits)
    assert caught.value.details == {"path": str(path)}
    return caught.value.message.replace(str(path), "PATH")


def _saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def _huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".gif", ".tiff"])
def test_common_formats_are_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    image = open_reference(_saved(gradient(), tmp_path / f"p{suffix}"))
    assert (image.mode, image.size) == ("RGB", (64, 48))


def test_a_picture_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = open_reference(_saved(gradient(64, 48), tmp_path / "p.jpg", exif=exif))
    assert image.size == (48, 64)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_becomes_white(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0)).convert(mode)
    path = tmp_path / ("p.tiff" if mode == "PA" else "p.png")
    assert open_reference(_saved(clear, path)).getpixel((4, 4)) == (255, 255, 255)


def test_a_palette_with_a_transparent_colour_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0] * 256)
    assert open_reference(_saved(image, tmp_path / "p.gif", transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    image = Image.new("I;16", (8, 8), 32896)
    assert open_reference(_saved(image, tmp_path / "p.png")).getpixel((0, 0)) == (128, 128, 128)


def test_cmyk_is_converted(tmp_path: Path) -> None:
    assert open_reference(_saved(Image.new("CMYK", (8, 8)), tmp_path / "p.jpg")).mode == "RGB"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "gone.png") == (
        "Picture `PATH` cannot be found (No such file or directory). Check the path."
    )


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path) == "Picture `PATH` is not a file. Give a PNG, JPEG, WebP, BMP, GIF or TIFF file."


@pytest.mark.parametrize("content", [b"", b"hello", b"%PDF-1.7", b"<svg/>"])
def test_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(content)
    assert _refusal(path) == (
        "Picture `PATH` is not a picture that can be read. Give a PNG, JPEG, WebP, BMP, GIF or TIFF file."
    )


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_truncated_picture_is_refused(tmp_path: Path, format: str) -> None:
    stream = io.BytesIO()
    gradient(256, 256).save(stream, format)
    path = tmp_path / "p"
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    assert "Picture `PATH` is damaged" in _refusal(path)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = _saved(gradient(), tmp_path / "p.bmp")
    assert _refusal(path, max_bytes=1000) == "Picture `PATH` has 9,270 bytes. Give one of at most 1,000 bytes."


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = _saved(gradient(), tmp_path / "p.png")
    assert _refusal(path, max_px=1000) == "Picture `PATH` has 64x48 pixels. Give one of at most 1,000 pixels."


@pytest.mark.parametrize(
    ("width", "height", "told"),
    [(10_000, 9_000, "has 10000x9000 pixels"), (60_000, 60_000, "has too many pixels")],
)
def test_a_decompression_bomb_is_refused(tmp_path: Path, width: int, height: int, told: str) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_huge_png(width, height))
    assert _refusal(path) == f"Picture `PATH` {told}. Give one of at most 64,000,000 pixels."


def test_fit_keeps_the_middle() -> None:
    image = Image.new("RGB", (300, 100), "red")
    image.paste("blue", (100, 0, 200, 100))
    fitted = fit(image, 64, 64)
    assert fitted.size == (64, 64)
    assert fitted.crop((4, 0, 60, 64)).getcolors() == [(56 * 64, (0, 0, 255))]


def test_fit_leaves_the_right_size_untouched() -> None:
    assert fit(gradient(), 64, 48).tobytes() == gradient().tobytes()


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"abc")
    assert sha256_of(tmp_path / "p").startswith("ba7816bf")
    with pytest.raises(InvalidRequest, match="Check the path"):
        sha256_of(tmp_path / "gone")


# --- masks


def _mask(image: Image.Image, path: Path) -> list[int]:
    mask = open_mask(_saved(image, path))
    assert mask.mode == "L"
    return list(mask.tobytes())


def _pixels(mode: str, *colours: Any) -> Image.Image:
    image = Image.new(mode, (len(colours), 1))
    for x, colour in enumerate(colours):
        image.putpixel((x, 0), colour)
    return image


def test_white_is_painted_anew_and_black_stays(tmp_path: Path) -> None:
    assert _mask(_pixels("L", 0, 255, 128), tmp_path / "l.png") == [0, 255, 128]
    assert _mask(_pixels("1", 0, 255), tmp_path / "1.png") == [0, 255]
    opaque = _pixels("RGBA", (0, 0, 0, 255), (255, 255, 255, 255))
    assert _mask(opaque, tmp_path / "rgba.png") == [0, 255]


def test_where_a_mask_is_transparent_that_decides_and_colours_do_not(tmp_path: Path) -> None:
    image = _pixels("RGBA", (255, 255, 255, 255), (0, 0, 0, 255), (9, 9, 9, 0), (255, 255, 255, 0), (0, 0, 0, 127))
    assert _mask(image, tmp_path / "rgba.png") == [0, 0, 255, 255, 128]
    assert _mask(_pixels("LA", (200, 255), (200, 0)), tmp_path / "la.png") == [0, 255]


def test_what_a_lossy_file_has_nearly_black_or_white_is_that(tmp_path: Path) -> None:
    assert _mask(_pixels("L", 12, 13, 242, 243), tmp_path / "l.png") == [0, 13, 242, 255]


def test_a_mask_is_cut_as_its_picture_is(tmp_path: Path) -> None:
    halves = Image.new("L", (200, 100))
    halves.paste(255, (100, 0, 200, 100))
    black_or_white = [0] * 128 + [255] * 128
    picture = fit(halves.convert("RGB"), 64, 64).convert("L").point(black_or_white)
    assert fit_mask(halves, 64, 64).point(black_or_white).tobytes() == picture.tobytes()


def test_a_mask_of_another_shape_is_refused_with_both_sizes() -> None:
    for mask in ((640, 480), (320, 240), (333, 250), (107, 80)):
        require_same_shape(mask, (640, 480))
    with pytest.raises(
        InvalidRequest, match=r"The mask is 512x512, the reference picture 640x480: their shapes differ"
    ):
        require_same_shape((512, 512), (640, 480))


def test_a_picture_is_kept_whole_where_it_may_serve_as_a_mask(tmp_path: Path) -> None:
    image = _pixels("RGBA", (10, 20, 30, 255), (10, 20, 30, 0))
    path = _saved(image, tmp_path / "p.png")
    whole = open_whole(path)
    assert (whole.mode, whole.tobytes()) == ("RGBA", image.tobytes())
    assert open_reference(_saved(whole, tmp_path / "q.png")).tobytes() == open_reference(path).tobytes()
    assert open_whole(_saved(gradient(), tmp_path / "r.png")).mode == "RGB"
