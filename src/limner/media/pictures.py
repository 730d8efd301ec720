"""Read pictures that others made, safely.

A picture from outside may be broken, huge or a trap: its size is looked at before its pixels are decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Generator
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from limner.errors import InvalidRequest

MAX_REFERENCE_BYTES = 64 * 2**20
MAX_REFERENCE_PX = 64_000_000
NEARLY = 13
"""How far from black or white a mask's byte may be to count as such."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")

_EXPECTED = "Give a PNG, JPEG, WebP, BMP, GIF or TIFF file"


def open_reference(
    path: str | Path, *, max_bytes: int = MAX_REFERENCE_BYTES, max_px: int = MAX_REFERENCE_PX
) -> Image.Image:
    """A picture to start from, upright, in RGB; what is transparent becomes white.

    Raises `InvalidRequest`, which names the file and what was expected.
    """
    return _flattened(_upright(path, max_bytes, max_px))


def open_whole(
    path: str | Path, *, max_bytes: int = MAX_REFERENCE_BYTES, max_px: int = MAX_REFERENCE_PX
) -> Image.Image:
    """Like `open_reference`, but what is transparent stays so: in RGBA where anything may be, else in RGB."""
    image = _upright(path, max_bytes, max_px)
    return image.convert("RGBA") if image.has_transparency_data else _flattened(image)


def open_mask(path: str | Path, *, max_bytes: int = MAX_REFERENCE_BYTES, max_px: int = MAX_REFERENCE_PX) -> Image.Image:
    """Which part of a picture is painted anew, in L: 255 is, 0 stays, a number between is mixed.

    Where anything in the file is transparent, transparency decides: what is transparent is painted anew, whatever its
    colour. Otherwise brightness does: white is painted anew. What is nearly black or white counts as black or white,
    since JPEG and WebP are not exact.

    Raises `InvalidRequest`, which names the file and what was expected.
    """
    image = _upright(path, max_bytes, max_px)
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        mask = _flattened(image).convert("L") if alpha.getextrema() == (255, 255) else ImageOps.invert(alpha)
    else:
        mask = _flattened(image).convert("L")
    return mask.point([0 if v < NEARLY else 255 if v > 255 - NEARLY else v for v in range(256)])


@contextlib.contextmanager
def opened(
    path: Path, *, max_bytes: int = MAX_REFERENCE_BYTES, max_px: int = MAX_REFERENCE_PX
) -> Generator[Image.Image, None, None]:
    """A picture file whose size is known to be harmless and whose pixels are not decoded yet.

    Raises `InvalidRequest`, which names the file and what was expected.
    """
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, f"cannot be found ({error.strerror})", "Check the path") from error
    if not path.is_file():
        raise _unreadable(path, "is not a file", _EXPECTED)
    if size_bytes > max_bytes:
        raise _unreadable(path, f"has {size_bytes:,} bytes", f"Give one of at most {max_bytes:,} bytes")
    try:
        with warnings.catch_warnings():
            # The limit below is stricter than the one that Pillow warns of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise _unreadable(path, "is not a picture that can be read", _EXPECTED) from error
    except Image.DecompressionBombError as error:
        raise _unreadable(path, "has too many pixels", f"Give one of at most {max_px:,} pixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, f"cannot be read ({error})", _EXPECTED) from error
    with image:
        if image.width * image.height > max_px:
            told = f"has {image.width}x{image.height} pixels"
            raise _unreadable(path, told, f"Give one of at most {max_px:,} pixels")
        yield image


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """The picture at exactly this size: the largest part of that shape around the centre, resized with Lanczos."""
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def fit_mask(mask: Image.Image, width: int, height: int) -> Image.Image:
    """A mask at exactly this size, cut as `fit` cuts the picture that it belongs to."""
    return ImageOps.fit(mask, (width, height), Image.Resampling.BILINEAR)


def require_same_shape(mask: tuple[int, int], picture: tuple[int, int]) -> None:
    """Raise `InvalidRequest` unless a mask of that size lies over a picture of that size, up to one pixel."""
    width, height = mask
    if abs(width - height * picture[0] / picture[1]) > 1 and abs(height - width * picture[1] / picture[0]) > 1:
        raise InvalidRequest(
            f"The mask is {width}x{height}, the reference picture {picture[0]}x{picture[1]}: their shapes differ. "
            "Give a mask of the picture's size, or of its proportions."
        )


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises `InvalidRequest` when it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(Path(path), f"cannot be read ({error.strerror})", "Check the path") from error


def _upright(path: str | Path, max_bytes: int, max_px: int) -> Image.Image:
    path = Path(path)
    with opened(path, max_bytes=max_bytes, max_px=max_px) as image:
        try:
            image.load()
            return ImageOps.exif_transpose(image)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise _unreadable(path, f"is damaged ({error})", "Give a complete picture file") from error


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16 bits to 8 instead of scaling them.
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _unreadable(path: Path, happened: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"Picture `{path}` {happened}. {expected}.", path=str(path))
