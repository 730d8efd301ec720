"""SDXL and SD 1.5: a convolutional UNet that reads CLIP's features.

The forward is that of diffusers' `UNet2DConditionModel`. Rows of one size share a batch; rows whose prompts take
different numbers of chunks go into calls of their own, since features that were padded to one length would be attended.
Invariant: a row's answer does not depend on the rows beside it (to rounding).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from limner.engine.adapter_targets import AdapterTargets, network_targets
from limner.engine.attached import adapters_key, attached
from limner.engine.checkpoints import CheckpointFiles
from limner.engine.families.autoencoder import VAE_FACTOR, Autoencoder
from limner.engine.families.clip_prompts import PromptReader, Tower
from limner.engine.families.port import AppliedAdapters, Encoding, Row
from limner.engine.families.unet_names import original_places
from limner.engine.families.unet_weights import Components
from limner.engine.parameterization import Epsilon, VPrediction

PROMPT_CACHE = 256
PATCH_AREA = 4
"""Latent cells that count as one token, as in the transformers that take 2x2 of them."""
POOLED = "pooled"
_OPENCLIP_PAD = 0


class Unet:
    """SDXL or SD 1.5 with loaded weights; `name` says which."""

    def __init__(self, components: Components) -> None:
        self.components = components
        self.name = components.files.family
        self.unet: Any = components.unet
        parameter = next(components.unet.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self._channels = int(self.unet.config.in_channels)
        self._autoencoder = Autoencoder(components.vae, self.device)
        self._reader = PromptReader(components.tokenizer, _towers(components))
        self._encodings: OrderedDict[Hashable, Encoding] = OrderedDict()
        prediction = components.prediction
        kind = VPrediction if prediction.prediction_type == "v_prediction" else Epsilon
        self._parameterization = kind(prediction.rescale_betas_zero_snr)

    def parameterization(self, shift: float | None, width: int, height: int) -> Epsilon:
        """Noise or v prediction over Stable Diffusion's betas, at every size; a shift has no meaning here."""
        return self._parameterization

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(4, H/8, W/8)."""
        return (self._channels, height // VAE_FACTOR, width // VAE_FACTOR)

    def batch_key(self, shape: tuple[int, int, int], references: tuple[Tensor, ...] = ()) -> Hashable:
        """One size a forward."""
        return shape

    def row_tokens(self, shape: tuple[int, int, int], encoding: Encoding, references: tuple[Tensor, ...] = ()) -> int:
        """A quarter of the latent's cells and the prompt's tokens."""
        return shape[1] * shape[2] // PATCH_AREA + encoding.tokens

    def adapter_targets(self) -> AdapterTargets:
        """Every linear layer and convolution of the UNet, every linear layer of the text encoders."""
        denoiser = network_targets(self.components.unet)
        texts = {component: network_targets(network) for component, network in self.components.text_encoders.items()}
        return AdapterTargets(denoiser, texts, original_places(denoiser))

    @property
    def files(self) -> CheckpointFiles:
        """Where the weights came from."""
        return self.components.files

    def networks(self) -> Mapping[str, nn.Module]:
        """UNet (as `transformer`), text encoders, VAE."""
        parts = self.components
        return {"transformer": parts.unet, **parts.text_encoders, "vae": parts.vae}

    def encode_text(self, text: str, adapters: AppliedAdapters = (), clip_skip: int | None = None) -> Encoding:
        """CLIP's features (77 * chunks, width), with SDXL's pooled vector beside them.

        Raises:
            InvalidRequest: `clip_skip` goes beyond an encoder's layers.
        """
        adapters = tuple((adapter, weight) for adapter, weight in adapters if adapter.text_deltas)
        key = (text, adapters_key(adapters), clip_skip)
        if (known := self._encodings.get(key)) is not None:
            self._encodings.move_to_end(key)
            return known
        features, pooled = self._reader.read(text, adapters, clip_skip)
        extra = {} if pooled is None else {POOLED: pooled.to(self.device, self.dtype)}
        encoding = Encoding(features.to(self.device, self.dtype), len(features), extra=extra)
        self._encodings[key] = encoding
        while len(self._encodings) > PROMPT_CACHE:
            self._encodings.popitem(last=False)
        return encoding

    @torch.inference_mode()
    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        """The noise (or v) that the network sees in every row, float32; one call for each length of text."""
        by_length: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            by_length.setdefault(row.encoding.tokens, []).append(place)
        answers: dict[int, Tensor] = {}
        for places in by_length.values():
            answers |= zip(places, self._forward([rows[place] for place in places]), strict=True)
        return [answers[place] for place in range(len(rows))]

    def encode_picture(self, pixels: Tensor) -> Tensor:
        """The mode of the VAE's posterior, scaled."""
        return self._autoencoder.encode(pixels)

    def decode(self, latent: Tensor, tiled: bool = False) -> Tensor:
        """Pixels (3, H, W) in [-1, 1]; large ones in overlapping tiles."""
        return self._autoencoder.decode(latent, tiled)

    def preview(self, latent: Tensor) -> Tensor:
        """A linear map from latent channels to RGB, fitted to this VAE."""
        return self._autoencoder.preview(latent)

    def _forward(self, rows: Sequence[Row]) -> list[Tensor]:
        x = torch.stack([row.x for row in rows]).to(self.device, self.dtype)  # (B, C, h, w)
        times = torch.tensor([row.timestep for row in rows], dtype=torch.float32, device=self.device)
        text = torch.stack([row.encoding.features for row in rows])  # (B, tokens, width)
        added = self._sizes_and_pooled(rows) if self.name == "sdxl" else None
        with attached(self.components.unet, [row.adapters for row in rows]):
            output = self.unet(x, times, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False)[0]
        return list(cast(Tensor, output).float())

    def _sizes_and_pooled(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        height, width = (side * VAE_FACTOR for side in rows[0].x.shape[1:])
        # The original size, how much was cropped, the size that is wanted.
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=self.device)
        pooled = torch.stack([row.encoding.extra[POOLED] for row in rows])  # (B, pooled)
        return {"text_embeds": pooled, "time_ids": sizes.repeat(len(rows), 1)}


def _towers(components: Components) -> list[Tower]:
    encoders = components.text_encoders
    if components.files.family == "sd15":
        return [Tower("text_encoder", encoders["text_encoder"], None, layer=1, normed=True)]
    return [
        Tower("text_encoder", encoders["text_encoder"], None, layer=2, normed=False),
        Tower("text_encoder_2", encoders["text_encoder_2"], _OPENCLIP_PAD, layer=2, normed=False),
    ]
