"""Nodes that load, change, decode and show pictures."""

from __future__ import annotations

from limner.workflows.comfyui.graph import Node
from limner.workflows.comfyui.latents import fitting
from limner.workflows.comfyui.reading import Kind, Reader
from limner.workflows.comfyui.wires import Cannot, Latent, Loaded, Mask, Pixels, Vae


def _loaded(reader: Reader, node: Node, slot: int) -> Pixels | Mask:
    loaded = Loaded(reader.text(node, "image"), node.id)
    given = reader.given.get(node.id)
    if slot == 0 and given is not None and given.transparent:
        reader.note("differs", node, "loads a picture with transparent parts; they are white here")
    return Mask(loaded, "alpha") if slot else Pixels((loaded,))


def _loaded_mask(reader: Reader, node: Node, slot: int) -> Mask:
    reader.only(node, "channel", "alpha", "red", "green", "blue")
    return Mask(Loaded(reader.text(node, "image"), node.id), reader.text(node, "channel"))


def _to_mask(reader: Reader, node: Node, slot: int) -> Mask:
    pixels = reader.at(node, "image", Pixels)
    reader.only(node, "channel", "red", "green", "blue")
    if not pixels.untouched or len(pixels.loaded) != 1:
        raise Cannot("makes a mask of a picture that is not simply loaded")
    return Mask(pixels.loaded[0], reader.text(node, "channel"))


def _stitched(reader: Reader, node: Node, slot: int) -> Pixels:
    first, second = reader.at(node, "image1", Pixels), reader.find(node, "image2", Pixels)
    if second is None:
        return first
    if not (first.untouched and second.untouched and len(second.loaded) == 1):
        raise Cannot("stitches pictures that are not simply loaded; limner puts loaded ones side by side")
    reader.only(node, "direction", "right", otherwise="right")
    reader.only(node, "match_image_size", True, otherwise=True)
    reader.only(node, "spacing_width", 0, otherwise=0)
    return Pixels((*first.loaded, *second.loaded))


def _kontext(reader: Reader, node: Node, slot: int) -> Pixels:
    pixels = reader.at(node, "image", Pixels)
    if pixels.decoded is not None:
        raise Cannot("changes the size of pixels that were painted before")
    if pixels.size is not None:
        raise Cannot("changes a size that an ImageScale has set; limner changes it once")
    return Pixels(pixels.loaded, kontext=True)


def _scaled(reader: Reader, node: Node, slot: int) -> Pixels:
    pixels = reader.at(node, "image", Pixels)
    wanted = reader.whole(node, "width"), reader.whole(node, "height")
    size = pixels.measured(reader.sizes)
    if size == wanted:
        return pixels
    if pixels.decoded is not None:
        raise Cannot("changes the size of the finished picture; limner paints it in the size that it is to have")
    if not pixels.untouched or len(pixels.loaded) != 1:
        raise Cannot("changes the size of a picture that is not simply loaded")
    reader.only(node, "upscale_method", "lanczos")
    if size is None or size[0] * wanted[1] != size[1] * wanted[0]:
        reader.only(node, "crop", "center")
    return Pixels(pixels.loaded, size=fitting(*wanted))


def _decoded(reader: Reader, node: Node, slot: int) -> Pixels:
    latent = reader.at(node, "samples", Latent).painted()
    if node.kind == "VAEDecodeTiled":
        reader.note("note", node, "decodes in tiles; limner does so where a picture is large")
    vae = reader.at(node, "vae", Vae)
    if latent.passes and (model := latent.passes[-1].model).file != vae.file:
        told = f"decodes with `{vae.file}`; limner takes the VAE that it finds for the checkpoint"
        reader.note("differs" if model.whole else "note", node, told)
    return Pixels(decoded=latent) if latent.passes or latent.start is None else latent.start


def _shown(reader: Reader, node: Node, slot: int) -> Pixels:
    return reader.at(node, "images", Pixels)


_ENDS = "the end of the run; where pictures go is for the caller to say"

KINDS = (
    Kind("LoadImage", "a picture that the caller gives, by the node's id", _loaded, ("image", "upload"), outputs=2),
    Kind("LoadImageOutput", "as LoadImage", _loaded, ("image", "refresh", "upload"), outputs=2),
    Kind("LoadImageMask", "`mask`: a picture that the caller gives", _loaded_mask, ("image", "channel", "upload")),
    Kind("ImageToMask", "`mask`", _to_mask, ("channel",)),
    Kind(
        "ImageStitch",
        "references side by side (`references_as`: `stitched`), to the right, at the first one's height",
        _stitched,
        ("direction", "match_image_size", "spacing_width", "spacing_color"),
    ),
    Kind("FluxKontextImageScale", "the size of a picture that is looked at", _kontext),
    Kind(
        "ImageScale",
        "the size of the picture to start from, with `lanczos` and `crop` `center`",
        _scaled,
        ("upscale_method", "width", "height", "crop"),
    ),
    Kind("VAEDecode", "the end of the last stage", _decoded),
    Kind(
        "VAEDecodeTiled",
        "the end of the last stage",
        _decoded,
        ("tile_size", "overlap", "temporal_size", "temporal_overlap"),
    ),
    Kind("SaveImage", _ENDS, _shown, ("filename_prefix",), outputs=0),
    Kind("PreviewImage", _ENDS, _shown, outputs=0),
    Kind("SaveImageWebsocket", _ENDS, _shown, outputs=0),
)

LOADING = frozenset({"LoadImage", "LoadImageOutput", "LoadImageMask"})
"""The classes whose pictures the caller gives."""
