"""FLUX.1 (dev, schnell, Krea) and Kontext: one forward for rows of one size, each with its own time and text.

The network is diffusers' `FluxTransformer2DModel`. It shares the places of its tokens over a batch, so rows share a
forward when they are of one size and look at references of equal sizes; times, guidance, texts and adapters may differ.
A reference's tokens follow the picture's own: their first coordinate is 1, and where there are several they lie on a
common plane, each beside or below the ones before it (ComfyUI's "offset" method; with one it is diffusers' Kontext).
Invariant: a row's answer does not depend on the rows beside it (to rounding).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Generator, Hashable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from limner.engine.adapter_targets import AdapterTargets, network_targets
from limner.engine.attached import adapters_key, attached
from limner.engine.checkpoints import CheckpointFiles
from limner.engine.families.autoencoder import VAE_FACTOR, Autoencoder
from limner.engine.families.flux_names import original_names
from limner.engine.families.flux_weights import Components
from limner.engine.families.port import AppliedAdapters, Encoding, Row
from limner.engine.parameterization import Flow
from limner.errors import InvalidRequest

PATCH = 2
TIME_SCALE = 1000.0
DEFAULT_GUIDANCE = 3.5
TEXT_TOKENS, SCHNELL_TEXT_TOKENS = 512, 256
LEVELS = 10_000
# Where mu lies on a line through these (image tokens, mu).
SHIFT_LOW, SHIFT_HIGH = (256, 0.5), (4096, 1.15)
PROMPT_CACHE = 64
POOLED = "pooled"


@dataclass(frozen=True)
class FluxFlow(Flow):
    """Rectified flow as ComfyUI samples FLUX dev: a table of 10,000 levels, sigma = shift / (shift + 1/t - 1)."""

    @property
    def table(self) -> Tensor:
        return _levels(self.shift)

    def sigmas_at(self, times: Tensor) -> Tensor:
        return self.shift / (self.shift + (1 / times - 1))


@lru_cache(maxsize=64)
def _levels(shift: float) -> Tensor:
    return FluxFlow(shift).sigmas_at(torch.arange(1, LEVELS + 1, device="cpu") / LEVELS)


class Flux:
    """The FLUX.1 family with loaded weights."""

    name = "flux"

    def __init__(self, components: Components) -> None:
        self.components = components
        self.transformer: Any = components.transformer
        self.device = next(components.transformer.parameters()).device
        self.dtype = next(components.transformer.parameters()).dtype
        config = self.transformer.config
        self.distilled = bool(config.guidance_embeds)
        self._channels = int(config.in_channels) // PATCH**2
        self._autoencoder = Autoencoder(components.vae, self.device)
        self._encodings: OrderedDict[Hashable, Encoding] = OrderedDict()

    def parameterization(self, shift: float | None, width: int, height: int) -> Flow:
        """Rectified flow.

        `shift` is exp(mu) of FLUX's papers and of ComfyUI's `ModelSamplingFlux`, where mu is what that node calls
        shift. Without one, schnell is not shifted at all; for the others mu grows with the picture, from 0.5 at 256
        image tokens to 1.15 at 4096 (a megapixel) and on along that line.
        """
        if not self.distilled:
            return Flow(1.0 if shift is None else shift)
        if shift is None:
            (tokens_low, mu_low), (tokens_high, mu_high) = SHIFT_LOW, SHIFT_HIGH
            slope = (mu_high - mu_low) / (tokens_high - tokens_low)
            tokens = (width // (VAE_FACTOR * PATCH)) * (height // (VAE_FACTOR * PATCH))
            shift = math.exp(tokens * slope + mu_low - slope * tokens_low)
        return FluxFlow(shift)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(16, H/8, W/8)."""
        return (self._channels, height // VAE_FACTOR, width // VAE_FACTOR)

    def batch_key(self, shape: tuple[int, int, int], references: tuple[Tensor, ...] = ()) -> Hashable:
        """One size, and references of equal sizes."""
        return (shape, tuple(tuple(reference.shape) for reference in references))

    def row_tokens(self, shape: tuple[int, int, int], encoding: Encoding, references: tuple[Tensor, ...] = ()) -> int:
        """Text, picture and references."""
        seen = (shape, *(reference.shape for reference in references))
        return encoding.tokens + sum(height * width // PATCH**2 for _, height, width in seen)

    def adapter_targets(self) -> AdapterTargets:
        """Every linear layer of the transformer and of both text encoders."""
        parts = self.components
        denoiser = network_targets(parts.transformer)
        texts = {
            "text_encoder": network_targets(parts.text_encoder),
            "text_encoder_2": network_targets(parts.text_encoder_2),
        }
        return AdapterTargets(denoiser, texts, original_names(denoiser))

    @property
    def files(self) -> CheckpointFiles:
        """Where the weights came from."""
        return self.components.files

    def networks(self) -> dict[str, nn.Module]:
        """Transformer, CLIP, T5, VAE."""
        parts = self.components
        return {
            "transformer": parts.transformer,
            "text_encoder": parts.text_encoder,
            "text_encoder_2": parts.text_encoder_2,
            "vae": parts.vae,
        }

    @torch.inference_mode()
    def encode_text(self, text: str, adapters: AppliedAdapters = (), clip_skip: int | None = None) -> Encoding:
        """T5's features, padded to 512 tokens (schnell's: 256), and CLIP's pooled vector in `extra`.

        The network attends to the padding as to words. CLIP reads the first 77 tokens; its last layer is always taken.
        """
        adapters = tuple((adapter, weight) for adapter, weight in adapters if adapter.text_deltas)
        key = (text, adapters_key(adapters))
        if (known := self._encodings.get(key)) is not None:
            self._encodings.move_to_end(key)
            return known
        features, unknown = self._read_t5(text, adapters)
        encoding = Encoding(features, len(features), unknown, {POOLED: self._read_clip(text, adapters)})
        self._encodings[key] = encoding
        while len(self._encodings) > PROMPT_CACHE:
            self._encodings.popitem(last=False)
        return encoding

    @torch.inference_mode()
    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        """The velocity (noise minus picture) of every row, float32; one forward for rows of one `batch_key`.

        Raises:
            InvalidRequest: a reference's latent has an odd side.
        """
        # Rows of equal adapters lie side by side: they cost one product.
        order = sorted(range(len(rows)), key=lambda i: adapters_key(rows[i].adapters))
        answers = self._forward([rows[i] for i in order])
        placed = dict(zip(order, answers, strict=True))
        return [placed[i] for i in range(len(rows))]

    def encode_picture(self, pixels: Tensor) -> Tensor:
        """The mode of the VAE's posterior, shifted and scaled: (z - shift) * scale."""
        return self._autoencoder.encode(pixels)

    def decode(self, latent: Tensor, tiled: bool = False) -> Tensor:
        """Pixels (3, H, W) in [-1, 1]; large ones in overlapping tiles."""
        return self._autoencoder.decode(latent, tiled)

    def preview(self, latent: Tensor) -> Tensor:
        """A linear map from latent channels to RGB, fitted to this VAE."""
        return self._autoencoder.preview(latent)

    def _forward(self, rows: list[Row]) -> list[Tensor]:
        first = rows[0]
        tokens = torch.stack([torch.cat([_packed(x) for x in (row.x, *row.references)]) for row in rows])
        shapes = [first.x.shape, *(reference.shape for reference in first.references)]
        places = _places([(height // PATCH, width // PATCH) for _, height, width in shapes])
        text = torch.stack([row.encoding.features for row in rows])
        times = self._numbers([row.timestep for row in rows])
        guidance = None
        if self.distilled:
            given = [DEFAULT_GUIDANCE if row.guidance is None else row.guidance for row in rows]
            guidance = self._numbers(given)
        with attached(self.transformer, [row.adapters for row in rows]), self._exact(times, guidance):
            answer = self.transformer(
                hidden_states=tokens.to(self.device, self.dtype),
                encoder_hidden_states=text,
                pooled_projections=torch.stack([row.encoding.extra[POOLED] for row in rows]),
                timestep=times,
                guidance=guidance,
                img_ids=places.to(self.device),
                txt_ids=torch.zeros(text.shape[1], 3, device=self.device),
                return_dict=False,
            )[0]
        own = first.x.shape[1] * first.x.shape[2] // PATCH**2
        return [_unpacked(tokens[:own], first.x.shape) for tokens in cast(Tensor, answer).float()]

    def _numbers(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    @contextmanager
    def _exact(self, times: Tensor, guidance: Tensor | None) -> Generator[None]:
        # The network's forward rounds times and guidance to its own precision before it embeds them; bfloat16 tells
        # only every fourth of a thousand times apart.
        scaled = [number * TIME_SCALE for number in (times, guidance) if number is not None]

        def replaced(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (*scaled, inputs[-1])

        hook = cast(nn.Module, self.transformer.time_text_embed).register_forward_pre_hook(replaced)
        try:
            yield
        finally:
            hook.remove()

    def _read_t5(self, text: str, adapters: AppliedAdapters) -> tuple[Tensor, tuple[str, ...]]:
        """Features (tokens, dim), and the pieces that T5 has no word for."""
        tokenizer, encoder = cast(Any, self.components.tokenizer_2), self.components.text_encoder_2
        batch = tokenizer(
            text,
            padding="max_length",
            max_length=TEXT_TOKENS if self.distilled else SCHNELL_TEXT_TOKENS,
            truncation=True,
            return_offsets_mapping=True,
        )
        offsets, ids = batch["offset_mapping"], list(batch["input_ids"])
        unknown = [text[a:b] for (a, b), i in zip(offsets, ids, strict=True) if i == tokenizer.unk_token_id]
        with attached(encoder, [adapters], "text_encoder_2"):
            features = cast(Any, encoder)(torch.tensor([ids], device=encoder.device)).last_hidden_state[0]
        return features.to(self.device, self.dtype), tuple(dict.fromkeys(unknown))

    def _read_clip(self, text: str, adapters: AppliedAdapters) -> Tensor:
        tokenizer, encoder = cast(Any, self.components.tokenizer), cast(Any, self.components.text_encoder)
        longest = min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))
        ids = tokenizer(text, padding="max_length", max_length=longest, truncation=True)["input_ids"]
        with attached(encoder, [adapters], "text_encoder"):
            pooled = encoder(torch.tensor([ids], device=encoder.device)).pooler_output[0]
        return pooled.to(self.device, self.dtype)


def _packed(x: Tensor) -> Tensor:
    """(C, h, w) to tokens (h/2*w/2, 4C), channels outermost."""
    c, h, w = x.shape
    if h % PATCH or w % PATCH:
        sides = f"{w * VAE_FACTOR}x{h * VAE_FACTOR}"
        raise InvalidRequest(f"A picture of {sides} does not fit FLUX. Choose sides that are multiples of 16.")
    return x.reshape(c, h // PATCH, PATCH, w // PATCH, PATCH).permute(1, 3, 0, 2, 4).reshape(-1, c * PATCH**2)


def _unpacked(tokens: Tensor, shape: torch.Size) -> Tensor:
    c, h, w = shape
    return tokens.view(h // PATCH, w // PATCH, c, PATCH, PATCH).permute(2, 0, 3, 1, 4).reshape(c, h, w)


def _places(grids: Sequence[tuple[int, int]]) -> Tensor:
    """Where the tokens of a picture and its references lie: (tokens, 3) of (which, row, column).

    Args:
        grids: (rows, columns) of the picture, then of each reference.
    """
    placed = [_grid(0, 0, 0, *grids[0])]
    below = right = 0
    for rows, columns in grids[1:]:
        # A reference goes to the side where the plane that all of them cover stays nearer to a square.
        beside = rows + below > columns + right
        top, left = (0, right) if beside else (below, 0)
        placed.append(_grid(1, top, left, rows, columns))
        below, right = max(below, top + rows), max(right, left + columns)
    return torch.cat(placed)


def _grid(which: int, top: int, left: int, rows: int, columns: int) -> Tensor:
    return torch.cartesian_prod(
        torch.tensor([float(which)]),
        torch.arange(float(top), float(top + rows)),
        torch.arange(float(left), float(left + columns)),
    )
