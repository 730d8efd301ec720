"""Build Z-Image's components from a checkpoint's files.

Its transformer is published in two layouts: diffusers' and the original one, which ComfyUI uses too. The original one
fuses three projections into `attention.qkv`, says `attention.out`, `q_norm`, `k_norm`, `x_embedder`, `final_layer`, and
carries an unused `norm_final.weight`. This module knows layouts and configurations, no arithmetic. Invariant: what
comes back is complete, real and in the precision that was chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

from limner.engine.adapter_targets import AdapterTargets, Place, Targets, header_targets_of, originals_of
from limner.engine.checkpoints import WHOLE_PREFIX, CheckpointFiles, require_family
from limner.engine.families.port import LoadedFamily
from limner.engine.families.registry import OwnNetworks, SharedNetworks
from limner.engine.families.shared_weights import (
    CONFIG_METADATA,
    TEXT_PREFIXES,
    count_below,
    load_qwen3,
    load_tokenizer,
    load_vae,
    written_config,
)
from limner.engine.precision import Precision, PrecisionPolicy, choose_precision
from limner.engine.tensor_files import TensorSource, open_tensors, some
from limner.engine.weights import Part, build_network, fill_network, read_config, require_real
from limner.errors import BrokenCheckpoint

PATCH = "2-1"
# The rotary axes of the published model, by the size of its heads; shapes do not show them.
KNOWN_AXES = {128: [32, 48, 48]}
_UNUSED = ("norm_final.weight",)
_FUSED = ".attention.qkv.weight"


@dataclass(frozen=True, eq=False)
class Components:
    """Z-Image's parts with loaded weights, all on one device, and where they came from."""

    files: CheckpointFiles
    transformer: ZImageTransformer2DModel
    text_encoder: Qwen3Model
    tokenizer: Any
    vae: AutoencoderKL


def text_targets(encoder: Any) -> dict[str, tuple[int, int]]:
    """Module path to (out, in) of every linear layer of a text encoder."""
    named = cast("Iterable[tuple[str, torch.nn.Module]]", encoder.named_modules())
    return {path: (m.out_features, m.in_features) for path, m in named if isinstance(m, torch.nn.Linear)}


LAYERS_ARE_CALLED = False


def precision_policy(files: CheckpointFiles) -> PrecisionPolicy:
    """What `choose_precision` needs to know of the checkpoint, from its headers alone."""
    source = open_tensors(files.transformer).under(WHOLE_PREFIX)
    return PrecisionPolicy(stored=source.dtype, parameters=source.parameters)


def header_targets(files: CheckpointFiles) -> AdapterTargets:
    """The linear layers of transformer and text encoder that adapters may change, from the files' headers alone."""
    source = open_tensors(files.transformer).under(WHOLE_PREFIX)
    parts = transformer_parts(source)
    shapes = {name: part.shape(source.tensors[part.name].shape) for name, part in parts.items()}
    text = open_tensors(files.text_encoder).under(*TEXT_PREFIXES).shapes
    denoiser = header_targets_of(shapes)
    return AdapterTargets(denoiser, {"text_encoder": header_targets_of(text)}, original_places(denoiser))


def original_places(targets: Targets) -> dict[str, tuple[Place, ...]]:
    """Original names of a transformer's layers that differ from diffusers', with where they are found."""
    parts: dict[str, Part] = {}
    for path, shape in targets.items():
        stem, _, leaf = path.rpartition(".")
        if leaf in ("to_q", "to_k", "to_v"):
            start = ("to_q", "to_k", "to_v").index(leaf) * shape[0]
            parts[f"{path}.weight"] = Part(f"{stem}.qkv.weight", rows=slice(start, start + shape[0]))
        else:
            original = re.sub(r"^all_(x_embedder|final_layer)\.\d+-\d+", r"\1", path)
            original = original.replace(".attention.to_out.0", ".attention.out")
            parts[f"{path}.weight"] = Part(f"{original}.weight")
    return originals_of(parts)


def load_family(
    files: CheckpointFiles, device: torch.device, precision: Precision, shared: SharedNetworks
) -> LoadedFamily:
    """Z-Image with its weights; raises as `load_components`."""
    from limner.engine.families.zimage import ZImage

    return ZImage(load_components(files, device, precision, shared))


def load_components(
    files: CheckpointFiles,
    device: torch.device | str = "cpu",
    precision: Precision | None = None,
    shared: SharedNetworks | None = None,
) -> Components:
    """All components, on `device`, in `precision` (the device's default when absent).

    Raises:
        BrokenCheckpoint: files are missing, damaged or of other shapes than their configuration says.
        Unsupported: another architecture, or quantised weights.
    """
    device = torch.device(device)
    precision = precision or choose_precision(device, policy=precision_policy(files))
    transformer = _load_transformer(files, precision.transformer, device)

    shared = shared or OwnNetworks()

    reader, painter = files.text_encoder, files.vae
    text_encoder = shared.get(
        "qwen3", reader, precision.text_encoder, device, lambda: load_qwen3(reader, precision.text_encoder, device)
    )
    vae = shared.get("vae", painter, precision.vae, device, lambda: load_vae(painter, precision.vae, device))
    _check_partners(files, transformer, text_encoder, vae)
    return Components(
        files=files,
        transformer=transformer,
        text_encoder=text_encoder,
        tokenizer=load_tokenizer(files.tokenizer),
        vae=vae,
    )


def transformer_parts(source: TensorSource) -> dict[str, Part]:
    """diffusers' name of every tensor of a transformer, whichever of the two layouts it is in."""
    parts: dict[str, Part] = {}
    for name, facts in source.tensors.items():
        if name.endswith(_FUSED):
            third = facts.shape[0] // 3
            for place, letter in enumerate("qkv"):
                path = name.replace(_FUSED, f".attention.to_{letter}.weight")
                parts[path] = Part(name, rows=slice(place * third, (place + 1) * third))
        elif name not in _UNUSED:
            parts[_diffusers_name(name)] = Part(name)
    return parts


def infer_config(source: TensorSource, parts: Mapping[str, Part]) -> dict[str, Any]:
    """The configuration of a transformer that comes without one, from the shapes of its tensors.

    Raises:
        BrokenCheckpoint: tensors that every Z-Image transformer has are missing, or the rotary axes cannot be known.
    """
    shapes = {name: part.shape(source.tensors[part.name].shape) for name, part in parts.items()}
    embedder, caption, head_norm = f"all_x_embedder.{PATCH}.weight", "cap_embedder.1.weight", _head_norm(shapes)
    if missing := [name for name in (embedder, caption, head_norm) if len(shapes.get(name, ())) == 0]:
        raise BrokenCheckpoint(
            f"`{source.path}` lacks {some(missing)}, which every Z-Image transformer has. Fetch it again.",
            file=str(source.path),
        )
    dim, patch = shapes[embedder][0], dict(enumerate(shapes[embedder])).get(1, 0)
    head = shapes[head_norm][0]
    written = written_config(source, ZImageTransformer2DModel)
    axes = written.get("axes_dims") or KNOWN_AXES.get(head)
    if axes is None:
        raise BrokenCheckpoint(
            f"`{source.path}` has heads of {head} numbers, and nothing says how the rotary axes share them. "
            f'Load its diffusers folder, or write {{"axes_dims": [a, b, c]}} into the file\'s `{CONFIG_METADATA}`.',
            file=str(source.path),
        )
    return {
        "in_channels": patch // 4,
        "dim": dim,
        "n_layers": count_below(shapes, "layers."),
        "n_refiner_layers": count_below(shapes, "noise_refiner."),
        "n_heads": dim // head,
        "n_kv_heads": dim // head,
        "cap_feat_dim": dict(enumerate(shapes[caption])).get(1, 0),
        **written,
        "axes_dims": axes,
    }


def _head_norm(shapes: Iterable[str]) -> str:
    return next(
        (name for name in shapes if name.endswith(".attention.norm_q.weight")), "layers.0.attention.norm_q.weight"
    )


def _diffusers_name(name: str) -> str:
    name = re.sub(r"^(x_embedder|final_layer)\.", rf"all_\1.{PATCH}.", name)
    name = name.replace(".attention.out.", ".attention.to_out.0.")
    return re.sub(r"\.attention\.(q|k)_norm\.", r".attention.norm_\1.", name)


def _load_transformer(files: CheckpointFiles, dtype: torch.dtype, device: torch.device) -> ZImageTransformer2DModel:
    source = open_tensors(files.transformer).under(WHOLE_PREFIX)
    require_family(source)
    parts = transformer_parts(source)
    config = read_config(files.transformer)
    if config is None:
        config = infer_config(source, parts)
    network = build_network(
        lambda: cast(ZImageTransformer2DModel, cast(Any, ZImageTransformer2DModel).from_config(config)),
        config,
        files.transformer,
    )
    fill_network(network, source, parts, dtype=dtype, device=device)
    require_real(network)
    return network


def _check_partners(
    files: CheckpointFiles, transformer: ZImageTransformer2DModel, text_encoder: Qwen3Model, vae: AutoencoderKL
) -> None:
    wants = cast(Any, transformer.config)
    text, latent = int(text_encoder.config.hidden_size), int(cast(Any, vae.config).latent_channels)
    if text != wants.cap_feat_dim:
        raise BrokenCheckpoint(
            f"`{files.text_encoder}` answers features of {text} numbers; the transformer reads {wants.cap_feat_dim}. "
            "Choose the text encoder that the checkpoint was published with.",
            file=str(files.text_encoder),
        )
    if latent != wants.in_channels:
        raise BrokenCheckpoint(
            f"`{files.vae}` has {latent} latent channels; the transformer paints {wants.in_channels}. "
            "Choose the VAE that the checkpoint was published with.",
            file=str(files.vae),
        )
