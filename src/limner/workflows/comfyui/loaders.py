"""Nodes that load models, and those that change how a model samples."""

from __future__ import annotations

import math
from dataclasses import replace

from limner.domain import MAX_CLIP_SKIP, CacheSettings
from limner.errors import InvalidRequest
from limner.validation import checked
from limner.workflows.comfyui.graph import Node
from limner.workflows.comfyui.reading import Kind, Reader
from limner.workflows.comfyui.wires import Cannot, Clip, Lora, Model, Vae

_TOKENS_LOW, _TOKENS_HIGH = 256, 4096
_TOKEN_PX = 16


def _checkpoint(reader: Reader, node: Node, slot: int) -> Model | Clip | Vae:
    file = reader.text(node, "ckpt_name")
    return (Model(file, node.id, whole=True), Clip((file,), node.id), Vae(file, node.id))[slot]


def _denoiser(reader: Reader, node: Node, slot: int) -> Model:
    if "weight_dtype" in node.inputs and (kept := reader.text(node, "weight_dtype")) != "default":
        reader.note("differs", node, f"asks for weights in `{kept}`; the precision is what limner's settings say")
    return Model(reader.text(node, "unet_name"), node.id, whole=False)


def _texts(*names: str, kind: str = "") -> Kind:
    """A loader of text encoders whose files these inputs name; `kind` where it has no input `type`."""

    def read(reader: Reader, node: Node, slot: int) -> Clip:
        files = tuple(reader.text(node, name) for name in names)
        return Clip(files, node.id, kind or reader.text(node, "type", "stable_diffusion"))

    return Kind("", "the text encoders that limner finds for the checkpoint", read, (*names, "type", "device"))


def _vae(reader: Reader, node: Node, slot: int) -> Vae:
    return Vae(reader.text(node, "vae_name"), node.id)


def _lora(reader: Reader, node: Node, slot: int) -> Model | Clip:
    file = reader.text(node, "lora_name")
    weight = reader.number(node, "strength_clip" if slot and "strength_clip" in node.inputs else "strength_model")
    loaded = reader.at(node, "clip", Clip) if slot else reader.at(node, "model", Model)
    if weight == 0:
        reader.note("ignored", node, f"applies `{file}` at strength 0 to the {'text encoder' if slot else 'model'}")
        return loaded
    return replace(loaded, loras=(*loaded.loras, Lora(file, weight, node.id)))


def _last_layer(reader: Reader, node: Node, slot: int) -> Clip:
    skip = -reader.whole(node, "stop_at_clip_layer")
    if not 1 <= skip <= MAX_CLIP_SKIP:
        raise Cannot(f"stops at CLIP's layer {-skip}; limner can stop at -1 to -{MAX_CLIP_SKIP}")
    return replace(reader.at(node, "clip", Clip), skip=skip)


def _shift(reader: Reader, node: Node, slot: int) -> Model:
    shift = reader.number(node, "shift")
    return _shifted(node, reader.at(node, "model", Model), shift)


def _flux_shift(reader: Reader, node: Node, slot: int) -> Model:
    """mu lies on the line through base_shift at 256 image tokens and max_shift at 4096; the shift is exp(mu)."""
    high, low = reader.number(node, "max_shift"), reader.number(node, "base_shift")
    tokens = reader.whole(node, "width") * reader.whole(node, "height") / _TOKEN_PX**2
    mu = low + (high - low) * (tokens - _TOKENS_LOW) / (_TOKENS_HIGH - _TOKENS_LOW)
    if abs(mu) > math.log(100):
        raise Cannot(f"comes to a shift of exp({mu:.4g}), which is beyond 100")
    return _shifted(node, reader.at(node, "model", Model), math.exp(mu))


def _shifted(node: Node, model: Model, shift: float) -> Model:
    if not 0 < shift <= 100:
        raise Cannot(f"has a shift of {shift:g}; limner can do more than 0 and up to 100")
    return replace(model, shift=shift, shifter=node.id)


def _cache(reader: Reader, node: Node, slot: int) -> Model:
    model = reader.at(node, "model", Model)
    if model.cache is not None:
        raise Cannot("comes behind another EasyCache; one is enough")
    names = tuple(CacheSettings.model_fields)
    try:
        cache = checked(CacheSettings, {name: reader.number(node, name) for name in names})
    except InvalidRequest as error:
        raise Cannot(f"has values that limner does not take: {error.message.rstrip('.')}") from error
    return replace(model, cache=cache)


def _named(kind: Kind, name: str) -> Kind:
    return replace(kind, name=name)


_BOTH = frozenset({"model", "clip"})
_TAKES = "an adapter of the request at `strength_model`; no trigger words are added"

KINDS = (
    Kind("CheckpointLoaderSimple", "`model`, by the file's name", _checkpoint, ("ckpt_name",), outputs=3),
    Kind("UNETLoader", "`model`, by the file's name", _denoiser, ("unet_name", "weight_dtype")),
    Kind("UnetLoaderGGUF", "`model`, by the file's name", _denoiser, ("unet_name",)),
    _named(_texts("clip_name"), "CLIPLoader"),
    _named(_texts("clip_name"), "CLIPLoaderGGUF"),
    _named(_texts("clip_name1", "clip_name2"), "DualCLIPLoader"),
    _named(_texts("clip_name1", "clip_name2"), "DualCLIPLoaderGGUF"),
    _named(_texts("clip_name1", "clip_name2", "clip_name3", kind="sd3"), "TripleCLIPLoader"),
    _named(_texts("clip_name1", "clip_name2", "clip_name3", kind="sd3"), "TripleCLIPLoaderGGUF"),
    Kind("VAELoader", "the VAE that limner finds for the checkpoint", _vae, ("vae_name",)),
    Kind("LoraLoader", _TAKES, _lora, ("lora_name", "strength_model", "strength_clip"), outputs=2, late=_BOTH),
    Kind("LoraLoaderModelOnly", _TAKES, _lora, ("lora_name", "strength_model")),
    Kind("LorapathLoader", f"{_TAKES}; its folder is not looked into", _lora, None, outputs=2, late=_BOTH),
    Kind("CLIPSetLastLayer", "`clip_skip`", _last_layer, ("stop_at_clip_layer",)),
    Kind("ModelSamplingAuraFlow", "`shift` of the stages", _shift, ("shift",)),
    Kind("ModelSamplingSD3", "`shift` of the stages", _shift, ("shift",)),
    Kind(
        "ModelSamplingFlux",
        "`shift` of the stages, worked out from its sizes",
        _flux_shift,
        ("max_shift", "base_shift", "width", "height"),
    ),
    Kind(
        "EasyCache",
        "`cache` of the stages",
        _cache,
        ("reuse_threshold", "start_percent", "end_percent", "verbose"),
    ),
)
