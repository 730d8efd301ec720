"""Build SDXL's and SD 1.5's components from a checkpoint's files.

A checkpoint is a diffusers folder, one file of the original code with everything in it (Illustrious, NoobAI and Pony
come like that), or ComfyUI's split files. This module knows layouts, configurations and what a model predicts, no
arithmetic. Invariant: what comes back is complete, real and in the precision that was chosen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from limner.engine.adapter_targets import AdapterTargets, header_targets_of
from limner.engine.checkpoints import WHOLE_PREFIX, CheckpointFiles, require_family
from limner.engine.families.clip import (
    CLIP_G_PREFIXES,
    CLIP_L_PREFIXES,
    load_clip,
    load_clip_tokenizer,
    load_projecting_clip,
    network_parts,
)
from limner.engine.families.port import LoadedFamily
from limner.engine.families.registry import OwnNetworks, SharedNetworks
from limner.engine.families.shared_weights import CONFIG_METADATA, load_vae, written_config
from limner.engine.families.unet_names import MARKS, cross_width, infer_config, original_places, unet_parts, unfit_width
from limner.engine.parameterization import BETA_FIRST, BETA_LAST
from limner.engine.precision import Precision, PrecisionPolicy, choose_precision
from limner.engine.tensor_files import TensorSource, open_tensors, some
from limner.engine.weights import Part, build_network, fill_network, read_config, require_real
from limner.errors import BrokenCheckpoint, Unsupported

# What no tensor of a single file shows of the published autoencoders.
VAE_FACTS: Mapping[str, Mapping[str, Any]] = {
    "sdxl": {"scaling_factor": 0.13025, "sample_size": 1024, "force_upcast": True},
    "sd15": {"scaling_factor": 0.18215, "sample_size": 512, "force_upcast": False},
}
PREDICTIONS = ("epsilon", "v_prediction")
SIZES = 6
"""Numbers by which SDXL is told the sizes of its picture."""
# Marks of networks that are scaled in another way (Playground 2.5, CosXL).
_OTHER_SCALES = ("edm_mean", "edm_std", "edm_vpred.sigma_max")


@dataclass(frozen=True)
class Prediction:
    """What a network predicts, under the names of diffusers' schedulers; `rescale_betas_zero_snr`: noise up to 1."""

    prediction_type: str = "epsilon"
    rescale_betas_zero_snr: bool = False


@dataclass(frozen=True, eq=False)
class Components:
    """The parts with loaded weights, all on one device, and where they came from.

    `text_encoders` are called as diffusers calls them: `text_encoder`, and SDXL's `text_encoder_2`.
    """

    files: CheckpointFiles
    unet: UNet2DConditionModel
    text_encoders: Mapping[str, CLIPTextModel | CLIPTextModelWithProjection]
    tokenizer: CLIPTokenizer
    vae: AutoencoderKL
    prediction: Prediction


LAYERS_ARE_CALLED = True


def precision_policy(files: CheckpointFiles) -> PrecisionPolicy:
    """What `choose_precision` needs to know of the checkpoint, from its headers alone."""
    source = open_tensors(files.transformer).under(WHOLE_PREFIX)
    facts = {**VAE_FACTS[files.family], **(read_config(files.vae) or {})}
    # SDXL's autoencoder overflows in half precision; versions of it that were mended for that say so.
    return PrecisionPolicy(
        stored=source.dtype,
        parameters=source.parameters,
        vae_float16=not facts.get("force_upcast", True),
        text_encoder_2=files.family == "sdxl",
    )


def header_targets(files: CheckpointFiles) -> AdapterTargets:
    """The linear layers and convolutions that adapters may change, from the files' headers alone."""
    source = open_tensors(files.transformer).under(WHOLE_PREFIX)
    texts: dict[str, dict[str, tuple[int, ...]]] = {}
    for component, (kind, prefixes) in _readers(files.family).items():
        encoder = open_tensors(files.parts[component]).under(*prefixes)
        texts[component] = _layers(encoder, network_parts(encoder.shapes, kind))
    denoiser = _layers(source, unet_parts(source.tensors))
    return AdapterTargets(denoiser, texts, original_places(denoiser))


def load_family(
    files: CheckpointFiles, device: torch.device, precision: Precision, shared: SharedNetworks
) -> LoadedFamily:
    """SDXL or SD 1.5 with its weights; raises as `load_components`."""
    from limner.engine.families.unet import Unet

    return Unet(load_components(files, device, precision, shared))


def load_components(
    files: CheckpointFiles,
    device: torch.device | str = "cpu",
    precision: Precision | None = None,
    shared: SharedNetworks | None = None,
) -> Components:
    """All components, on `device`, in `precision` (the device's default when absent).

    The UNet comes last, when all that lies beside it is known to be there and to fit.

    Raises:
        BrokenCheckpoint: files are missing, damaged or of other shapes than their configuration says.
        Unsupported: another architecture, another kind of prediction or noise, or quantised weights.
    """
    device = torch.device(device)
    precision = precision or choose_precision(device, policy=precision_policy(files))

    shared = shared or OwnNetworks()

    source = open_tensors(files.transformer).under(WHOLE_PREFIX)
    require_family(source)
    prediction = read_prediction(files)
    parts = unet_parts(source.tensors)
    config = read_config(files.transformer) or _infer_config(files.family, source, parts)
    unet = build_network(
        lambda: cast(UNet2DConditionModel, cast(Any, UNet2DConditionModel).from_config(config)),
        config,
        files.transformer,
    )
    _require_plain_unet(files, unet)
    tokenizer = load_clip_tokenizer(files.tokenizer)
    reader, dtype = files.text_encoder, precision.of("text_encoder")
    encoders: dict[str, CLIPTextModel | CLIPTextModelWithProjection] = {
        "text_encoder": shared.get(
            "clip", reader, dtype, device, lambda: load_clip(reader, dtype, device, CLIP_L_PREFIXES)
        )
    }
    if files.family == "sdxl":
        reader_2, dtype_2 = files.parts["text_encoder_2"], precision.of("text_encoder_2")
        encoders["text_encoder_2"] = shared.get(
            "clip_g",
            reader_2,
            dtype_2,
            device,
            lambda: load_projecting_clip(reader_2, dtype_2, device, CLIP_G_PREFIXES),
        )
    painter, facts = files.vae, VAE_FACTS[files.family]
    vae = shared.get(
        f"vae_{files.family}", painter, precision.vae, device, lambda: load_vae(painter, precision.vae, device, facts)
    )
    components = Components(files, unet, encoders, tokenizer, vae, prediction)
    _check_partners(components)
    fill_network(unet, source, parts, dtype=precision.transformer, device=device)
    require_real(unet)
    return components


def read_prediction(files: CheckpointFiles) -> Prediction:
    """What the network predicts: said by the file's metadata, by tensors that are marks, or by a folder's scheduler.

    Where nothing is said it is the noise, as in the published models.

    Raises:
        BrokenCheckpoint: what is said cannot be read.
        Unsupported: the network predicts something else, or was trained with other noise.
    """
    source = open_tensors(files.transformer)
    names = {name.removeprefix(WHOLE_PREFIX) for name in source.tensors}
    if other := [name for name in _OTHER_SCALES if name in names]:
        raise Unsupported(
            f"`{files.transformer}` was trained with noise of another scale ({some(other)}; EDM), which this version "
            "does not paint. Choose a checkpoint that predicts noise or v.",
            file=str(files.transformer),
        )
    prediction = _scheduled(files)
    if (modelspec := source.metadata.get("modelspec.prediction_type")) is not None:
        prediction = replace(prediction, prediction_type={"v": "v_prediction"}.get(modelspec, modelspec))
    if MARKS[0] in names:
        prediction = Prediction(PREDICTIONS[1], MARKS[1] in names)
    prediction = replace(prediction, **written_config(source, Prediction))
    if prediction.prediction_type not in PREDICTIONS:
        raise Unsupported(
            f"`{files.transformer}` predicts `{prediction.prediction_type}`, which this version does not paint. "
            f"Choose a checkpoint that predicts {' or '.join(PREDICTIONS)}.",
            file=str(files.transformer),
        )
    return prediction


def _scheduled(files: CheckpointFiles) -> Prediction:
    """What the scheduler of a diffusers folder says."""
    file = files.path / "scheduler" / "scheduler_config.json"
    if files.layout != "diffusers" or not file.is_file():
        return Prediction()
    try:
        config: dict[str, Any] = dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BrokenCheckpoint(f"`{file}` is not readable: {error}. Fetch it again.", file=str(file)) from error
    ours = {"beta_schedule": "scaled_linear", "beta_start": BETA_FIRST, "beta_end": BETA_LAST}
    if others := [f"{name} {config[name]}" for name, value in ours.items() if config.get(name, value) != value]:
        raise Unsupported(
            f"`{file}` names noise that this version does not paint with ({', '.join(others)}). "
            "Choose a checkpoint that was trained with Stable Diffusion's own.",
            file=str(file),
        )
    zero = bool(config.get("rescale_betas_zero_snr"))
    return Prediction(str(config.get("prediction_type", PREDICTIONS[0])), zero)


def _readers(family: str) -> dict[str, tuple[type[nn.Module], tuple[str, ...]]]:
    first: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {"text_encoder": (CLIPTextModel, CLIP_L_PREFIXES)}
    if family == "sdxl":
        first["text_encoder_2"] = (CLIPTextModelWithProjection, CLIP_G_PREFIXES)
    return first


def _layers(source: TensorSource, parts: Mapping[str, Part]) -> dict[str, tuple[int, ...]]:
    return header_targets_of({name: part.shape(source.tensors[part.name].shape) for name, part in parts.items()})


def _infer_config(family: str, source: TensorSource, parts: Mapping[str, Part]) -> dict[str, Any]:
    shapes = {name: part.shape(source.tensors[part.name].shape) for name, part in parts.items()}
    landmarks = {"conv_in.weight": 4, "conv_out.weight": 4, "down_blocks.0.resnets.0.conv1.weight": 4}
    missing = [name for name, sides in landmarks.items() if len(shapes.get(name, ())) != sides]
    if missing or not cross_width(shapes):
        raise BrokenCheckpoint(
            f"`{source.path}` lacks {some(missing or ['attn2.to_k.weight'])}, which every such UNet has. "
            "Fetch it again.",
            file=str(source.path),
        )
    written = written_config(source, UNet2DConditionModel)
    if "attention_head_dim" not in written and (width := unfit_width(family, shapes)) is not None:
        raise BrokenCheckpoint(
            f"`{source.path}` has blocks of {width} channels, which the heads of the published models do not share out "
            f"evenly. Shapes do not tell the number of heads: name `attention_head_dim` in its `{CONFIG_METADATA}`.",
            file=str(source.path),
        )
    return infer_config(family, shapes, written)


def _require_plain_unet(files: CheckpointFiles, unet: UNet2DConditionModel) -> None:
    config = cast(Any, unet.config)
    if config.in_channels != config.out_channels:
        raise Unsupported(
            f"`{files.transformer}` reads {config.in_channels} channels and paints {config.out_channels}: it is made "
            "for inpainting or editing alone, which this version does not paint with. Choose an ordinary checkpoint; "
            "it paints inside a mask as well.",
            file=str(files.transformer),
            family=files.family,
        )


def _check_partners(parts: Components) -> None:
    wants, files, vae = cast(Any, parts.unet.config), parts.files, cast(Any, parts.vae.config)
    widths = [int(encoder.config.hidden_size) for encoder in parts.text_encoders.values()]
    if sum(widths) != wants.cross_attention_dim:
        raise BrokenCheckpoint(
            f"The text encoders beside `{files.transformer}` answer features of {' + '.join(map(str, widths))} "
            f"numbers; the UNet reads {wants.cross_attention_dim}. Choose those that it was published with.",
            file=str(files.text_encoder),
        )
    if (larger := parts.text_encoders.get("text_encoder_2")) is not None:
        told, spread = int(wants.projection_class_embeddings_input_dim or 0), int(wants.addition_time_embed_dim or 0)
        if int(larger.config.projection_dim or 0) != told - SIZES * spread:
            raise BrokenCheckpoint(
                f"`{files.parts['text_encoder_2']}` answers a pooled vector of {larger.config.projection_dim} numbers; "
                f"the UNet reads {told - SIZES * spread}. Choose the text encoder that it was published with.",
                file=str(files.parts["text_encoder_2"]),
            )
    if int(vae.latent_channels) != int(wants.in_channels):
        raise BrokenCheckpoint(
            f"`{files.vae}` has {vae.latent_channels} latent channels; the UNet paints {wants.in_channels}. "
            "Choose the VAE that the checkpoint was published with.",
            file=str(files.vae),
        )
    if vae.get("latents_mean") is not None or vae.get("latents_std") is not None:
        raise Unsupported(
            f"`{files.vae}` shifts and scales every channel on its own, which this version does not do.",
            file=str(files.vae),
        )
    words, known = len(cast(Any, parts.tokenizer)), min(e.config.vocab_size for e in parts.text_encoders.values())
    if words > known:
        raise BrokenCheckpoint(
            f"The tokenizer in `{files.tokenizer}` has {words} words, but a text encoder knows {known} only. "
            "Choose the tokenizer that the text encoders were published with.",
            file=str(files.tokenizer),
        )
