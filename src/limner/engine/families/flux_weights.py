"""Build FLUX.1's components from a checkpoint's files.

A checkpoint is a diffusers folder, ComfyUI's split files, or one file with everything in it. Dev, Krea and Kontext read
their guidance as a number, schnell does not; otherwise they are alike. This module knows files and what fits together,
no arithmetic. Invariant: what comes back is complete, real and in the precision that was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer
from transformers.models.t5.modeling_t5 import T5EncoderModel
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from limner.engine.adapter_targets import AdapterTargets, header_targets_of
from limner.engine.checkpoints import WHOLE_PREFIX, CheckpointFiles, require_family
from limner.engine.families.clip import CLIP_L_PREFIXES, load_clip, load_clip_tokenizer, network_parts
from limner.engine.families.flux_names import infer_config, original_names, transformer_parts
from limner.engine.families.port import LoadedFamily
from limner.engine.families.registry import OwnNetworks, SharedNetworks
from limner.engine.families.shared_weights import load_vae
from limner.engine.families.t5 import T5_PREFIXES, load_t5, load_t5_tokenizer, t5_parts
from limner.engine.precision import Precision, PrecisionPolicy, choose_precision
from limner.engine.tensor_files import TensorSource, open_tensors
from limner.engine.weights import Part, build_network, fill_network, read_config, require_real
from limner.errors import BrokenCheckpoint, Unsupported


@dataclass(frozen=True, eq=False)
class Components:
    """FLUX's parts with loaded weights, all on one device, and where they came from."""

    files: CheckpointFiles
    transformer: FluxTransformer2DModel
    text_encoder: CLIPTextModel
    text_encoder_2: T5EncoderModel
    tokenizer: CLIPTokenizer
    tokenizer_2: T5Tokenizer
    vae: AutoencoderKL


LAYERS_ARE_CALLED = True


def precision_policy(files: CheckpointFiles) -> PrecisionPolicy:
    """What `choose_precision` needs to know of the checkpoint, from its headers alone."""
    source = open_tensors(files.transformer).under(WHOLE_PREFIX)
    # T5's activations leave float16's range.
    return PrecisionPolicy(stored=source.dtype, parameters=source.parameters, text_encoder_2=True, text_2_float16=False)


def header_targets(files: CheckpointFiles) -> AdapterTargets:
    """The linear layers that adapters may change, from the files' headers alone."""
    source = open_tensors(files.transformer).under(WHOLE_PREFIX)
    clip = open_tensors(files.text_encoder).under(*CLIP_L_PREFIXES)
    t5 = open_tensors(files.parts["text_encoder_2"]).under(*T5_PREFIXES)
    denoiser = header_targets_of(_shapes(source, transformer_parts(source)))
    texts = {
        "text_encoder": header_targets_of(_shapes(clip, network_parts(clip.shapes, CLIPTextModel))),
        "text_encoder_2": header_targets_of(_shapes(t5, t5_parts(t5.tensors))),
    }
    return AdapterTargets(denoiser, texts, original_names(denoiser))


def load_family(
    files: CheckpointFiles, device: torch.device, precision: Precision, shared: SharedNetworks
) -> LoadedFamily:
    """FLUX with its weights; raises as `load_components`."""
    from limner.engine.families.flux import Flux

    return Flux(load_components(files, device, precision, shared))


def load_components(
    files: CheckpointFiles,
    device: torch.device | str = "cpu",
    precision: Precision | None = None,
    shared: SharedNetworks | None = None,
) -> Components:
    """All components, on `device`, in `precision` (the device's default when absent).

    The large transformer comes last, when all that lies beside it is known to be there and to fit.

    Raises:
        BrokenCheckpoint: files are missing, damaged or of other shapes than their configuration says.
        Unsupported: another architecture, one of FLUX's variants that look at more than text, or quantised weights.
    """
    device = torch.device(device)
    precision = precision or choose_precision(device, policy=precision_policy(files))

    shared = shared or OwnNetworks()

    source = open_tensors(files.transformer).under(WHOLE_PREFIX)
    require_family(source)
    parts = transformer_parts(source)
    config = read_config(files.transformer) or infer_config(source, parts)
    transformer = build_network(
        lambda: cast(FluxTransformer2DModel, cast(Any, FluxTransformer2DModel).from_config(config)),
        config,
        files.transformer,
    )
    _require_plain_flux(files, transformer)
    tokenizer, tokenizer_2 = load_clip_tokenizer(files.tokenizer), load_t5_tokenizer(files.parts["tokenizer_2"])
    reader, reader_2, painter = files.text_encoder, files.parts["text_encoder_2"], files.vae
    dtype, dtype_2 = precision.of("text_encoder"), precision.of("text_encoder_2")
    clip = shared.get("clip", reader, dtype, device, lambda: load_clip(reader, dtype, device, CLIP_L_PREFIXES))
    t5 = shared.get("t5", reader_2, dtype_2, device, lambda: load_t5(reader_2, dtype_2, device))
    vae = shared.get("vae", painter, precision.vae, device, lambda: load_vae(painter, precision.vae, device))
    components = Components(files, transformer, clip, t5, tokenizer, tokenizer_2, vae)
    _check_partners(components)
    fill_network(transformer, source, parts, dtype=precision.transformer, device=device)
    require_real(transformer)
    return components


def _shapes(source: TensorSource, parts: Mapping[str, Part]) -> dict[str, tuple[int, ...]]:
    return {name: part.shape(source.tensors[part.name].shape) for name, part in parts.items()}


def _require_plain_flux(files: CheckpointFiles, transformer: FluxTransformer2DModel) -> None:
    config = cast(Any, transformer.config)
    reads, paints = int(config.in_channels), int(config.out_channels or config.in_channels)
    if reads != paints or paints % 4:
        raise Unsupported(
            f"`{files.transformer}` reads {reads} numbers a token and paints {paints}: it is FLUX Fill, Canny or "
            "Depth, which this version does not paint. Choose FLUX.1 dev, schnell, Krea or Kontext.",
            file=str(files.transformer),
            family="flux",
        )


def _check_partners(parts: Components) -> None:
    wants, files = cast(Any, parts.transformer.config), parts.files
    clip, t5, vae = cast(Any, parts.text_encoder.config), parts.text_encoder_2.config, cast(Any, parts.vae.config)
    t5_path = files.parts["text_encoder_2"]
    for path, what, has, reads in (
        (files.text_encoder, "a pooled vector", int(clip.hidden_size), int(wants.pooled_projection_dim)),
        (t5_path, "features", int(t5.d_model), int(wants.joint_attention_dim)),
    ):
        if has != reads:
            raise BrokenCheckpoint(
                f"`{path}` answers {what} of {has} numbers; the transformer reads {reads}. "
                "Choose the text encoders that the checkpoint was published with.",
                file=str(path),
            )
    if int(vae.latent_channels) * 4 != int(wants.in_channels):
        raise BrokenCheckpoint(
            f"`{files.vae}` has {vae.latent_channels} latent channels; the transformer paints "
            f"{int(wants.in_channels) // 4}. Choose the VAE that the checkpoint was published with.",
            file=str(files.vae),
        )
    for path, words, knows in (
        (files.tokenizer, len(cast(Any, parts.tokenizer)), int(clip.vocab_size)),
        (files.parts["tokenizer_2"], len(cast(Any, parts.tokenizer_2)), int(t5.vocab_size)),
    ):
        if words > knows:
            raise BrokenCheckpoint(
                f"The tokenizer in `{path}` has {words} words, but its text encoder knows {knows}. "
                "Choose the tokenizer that the text encoder was published with.",
                file=str(path),
            )
