"""Nodes that make latents, change their size, or say which part of them is painted anew."""

from __future__ import annotations

from dataclasses import replace

from limner.domain import MAX_SIDE, MIN_SIDE, SIZE_MULTIPLE
from limner.workflows.comfyui.graph import Node
from limner.workflows.comfyui.reading import Kind, Reader
from limner.workflows.comfyui.wires import Cannot, Conditioning, Latent, Mask, Pixels, Size, Vae

CELL_PX = 8
UPSCALE = "nearest-exact"


def fitting(width: int, height: int) -> Size:
    """That size. Raises `Cannot` where limner does not paint pictures of it."""
    for side in (width, height):
        if side % SIZE_MULTIPLE or not MIN_SIDE <= side <= MAX_SIDE:
            raise Cannot(
                f"comes to {width}x{height} pixels; limner paints sides of {MIN_SIDE} to {MAX_SIDE} pixels "
                f"in multiples of {SIZE_MULTIPLE}"
            )
    return width, height


def _empty(reader: Reader, node: Node, slot: int) -> Latent:
    width, height = reader.whole(node, "width"), reader.whole(node, "height")
    size = fitting(width // CELL_PX * CELL_PX, height // CELL_PX * CELL_PX)
    return Latent(size, batch=reader.whole(node, "batch_size", 1))


def _encoded(reader: Reader, node: Node, slot: int) -> Latent:
    reader.at(node, "vae", Vae)
    return _of_picture(reader, reader.at(node, "pixels", Pixels))


def _of_picture(reader: Reader, pixels: Pixels) -> Latent:
    if pixels.decoded is not None:
        raise Cannot("takes pixels that were painted before; limner hands on latents between its stages, not pixels")
    size = pixels.measured(reader.sizes)
    if size is not None and reader.resized:
        size = (_rounded(size[0]), _rounded(size[1]))
    try:
        return Latent(size and fitting(*size), start=pixels)
    except Cannot as error:
        raise Cannot(f"{error}. Set width and height to have the picture cut to fit") from error


def _masked(reader: Reader, node: Node, slot: int) -> Latent:
    return _with_mask(reader, node, reader.at(node, "samples", Latent), reader.at(node, "mask", Mask))


def _inpainting(reader: Reader, node: Node, slot: int) -> Conditioning | Latent:
    if slot < 2:
        return reader.at(node, ("positive", "negative")[slot], Conditioning)
    reader.only(node, "noise_mask", True, otherwise=True)
    reader.note("note", node, "is for checkpoints without inputs of their own for a mask; those that have them are not")
    return _with_mask(
        reader, node, _of_picture(reader, reader.at(node, "pixels", Pixels)), reader.at(node, "mask", Mask)
    )


def _with_mask(reader: Reader, node: Node, latent: Latent, mask: Mask) -> Latent:
    if latent.start is None or latent.passes or latent.enlarged:
        raise Cannot("masks a latent that is not simply a loaded picture; limner keeps parts of loaded pictures only")
    if len(latent.start.loaded) != 1:
        raise Cannot("masks a picture that was put together from several")
    same, given = mask.loaded == latent.start.loaded[0], reader.given.get(mask.loaded.node)
    if mask.channel == "alpha" and given is not None and given.transparent is False:
        raise Cannot("takes its mask from the transparency of a picture that has none")
    if mask.channel != "alpha" and (same or (given is not None and given.transparent)):
        raise Cannot(f"takes its mask from the {mask.channel} of a picture that is more than a mask")
    if mask.channel != "alpha":
        reader.note("note", node, f"takes its mask from {mask.channel}; limner reads the file's brightness")
    reader.note("differs", node, "keeps pixels as they were; ComfyUI encodes and decodes them like the others")
    return replace(latent, mask=mask)


def _upscaled(reader: Reader, node: Node, slot: int) -> Latent:
    latent = reader.at(node, "samples", Latent)
    width, height = reader.whole(node, "width"), reader.whole(node, "height")
    if latent.size is not None and (width == 0) != (height == 0):
        wide, tall = latent.size
        width, height = (max(64, round(wide * height / tall)), height) if width == 0 else (
            width, max(64, round(tall * width / wide)))  # fmt: skip
    if width == 0 and height == 0:
        return latent
    size = width // CELL_PX * CELL_PX, height // CELL_PX * CELL_PX
    if latent.size and latent.size[0] * size[1] != latent.size[1] * size[0]:
        reader.only(node, "crop", "disabled", otherwise="disabled")
    return _enlarged(reader, node, latent, size)


def _upscaled_by(reader: Reader, node: Node, slot: int) -> Latent:
    latent, factor = reader.at(node, "samples", Latent), reader.number(node, "scale_by")
    if latent.size is None:
        return latent
    wide, tall = (round(side // CELL_PX * min(max(factor, 0), 1000)) * CELL_PX for side in latent.size)
    return _enlarged(reader, node, latent, (wide, tall))


def _enlarged(reader: Reader, node: Node, latent: Latent, size: Size) -> Latent:
    reader.only(node, "upscale_method", UPSCALE)
    latent = latent.painted()
    if size == latent.size:
        return latent
    if latent.start is not None and not latent.passes:
        raise Cannot("changes the size of a loaded picture's latent; limner changes the picture's size before that")
    return replace(latent, size=fitting(*size), enlarged=bool(latent.passes))


def _rounded(side: int) -> int:
    return min(MAX_SIDE, max(MIN_SIDE, side // SIZE_MULTIPLE * SIZE_MULTIPLE))


_START = "the reference that the picture starts from; with a ReferenceLatent, its size only"
_BETWEEN = f"the size of the next stage; `upscale_method` `{UPSCALE}` only"

KINDS = (
    Kind("EmptyLatentImage", "the first stage's size", _empty, ("width", "height", "batch_size")),
    Kind("EmptySD3LatentImage", "the first stage's size", _empty, ("width", "height", "batch_size")),
    Kind("VAEEncode", _START, _encoded),
    Kind("SetLatentNoiseMask", "`mask`, in workflows of one stage", _masked),
    Kind(
        "InpaintModelConditioning",
        "the reference and `mask`, in workflows of one stage",
        _inpainting,
        ("noise_mask",),
        outputs=3,
        late=frozenset({"positive", "negative", "vae", "pixels", "mask"}),
    ),
    Kind("LatentUpscale", _BETWEEN, _upscaled, ("upscale_method", "width", "height", "crop")),
    Kind("LatentUpscaleBy", _BETWEEN, _upscaled_by, ("upscale_method", "scale_by")),
)
