"""Z-Image: one packed forward for rows of mixed sizes, prompts, times and adapters.

The weights live in diffusers' `ZImageTransformer2DModel`; the forward is ours. The tokens of all rows lie one after
another in a single sequence, every linear layer runs once over all of them, and attention is kept within each row. A
caption's refined features depend on nothing but the caption, so they are computed once per prompt, not once per step.
Invariant: a row's answer does not depend on the rows beside it (to rounding).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.engine.adapters import AdapterTargets
from limner.engine.attached import adapters_key, attached
from limner.engine.checkpoints import CheckpointFiles
from limner.engine.deltas import add_changes
from limner.engine.families.autoencoder import VAE_FACTOR, Autoencoder
from limner.engine.families.port import AppliedAdapters, Encoding, Row
from limner.engine.families.zimage_weights import Components, original_places, text_targets
from limner.engine.parameterization import Flow

PAD_MULTIPLE = 32
PATCH = 2
DEFAULT_SHIFT = 3.0
PROMPT_CACHE = 256

Spans = list[tuple[slice, AppliedAdapters]]


@dataclass(frozen=True)
class Layout:
    """Where each row's tokens lie in a packed sequence.

    Rows of one length are seen as a batch (rows, length, dim), others as a single sequence (1, total, dim): the same
    arithmetic broadcasts over both.
    """

    lengths: tuple[int, ...]

    @property
    def uniform(self) -> bool:
        return len(set(self.lengths)) == 1

    @property
    def slices(self) -> list[slice]:
        slices: list[slice] = []
        start = 0
        for length in self.lengths:
            slices.append(slice(start, start + length))
            start += length
        return slices

    def shape(self, packed: Tensor) -> Tensor:
        """(total, …) to (rows, length, …) or (1, total, …)."""
        rows = len(self.lengths) if self.uniform else 1
        return packed.view(rows, -1, *packed.shape[1:])

    def per_token(self, per_row: Tensor) -> Tensor:
        """(rows, dim) to something that broadcasts against `shape`'s result."""
        if self.uniform:
            return per_row.unsqueeze(1)
        repeats = torch.tensor(self.lengths, device=per_row.device)
        return per_row.repeat_interleave(repeats, dim=0, output_size=sum(self.lengths)).unsqueeze(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention within rows; (…, …, heads, head_dim) in and out, shaped as `shape` says."""
        if self.uniform:
            mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
            return mixed.transpose(1, 2)
        if q.is_cuda and q.dtype in (torch.float16, torch.bfloat16):
            return self._attend_varlen(q, k, v)
        answers: list[Tensor] = []
        for piece in self.slices:
            a, b, c = (t[:, piece].transpose(1, 2) for t in (q, k, v))
            answers.append(F.scaled_dot_product_attention(a, b, c).transpose(1, 2))
        return torch.cat(answers, dim=1)

    def _attend_varlen(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        bounds = torch.tensor([0, *self.lengths], dtype=torch.int32, device=q.device).cumsum(0, dtype=torch.int32)
        longest = max(self.lengths)
        mixed = varlen_attn(q[0], k[0], v[0], bounds, bounds, longest, longest)
        return cast(Tensor, mixed).unsqueeze(0)


def _padded(count: int) -> int:
    return -(-count // PAD_MULTIPLE) * PAD_MULTIPLE


class ZImage:
    """The Z-Image family with loaded weights."""

    name = "zimage"

    def __init__(self, components: Components) -> None:
        self.components = components
        self.transformer: Any = components.transformer
        self.device = next(self.transformer.parameters()).device
        self.dtype = next(self.transformer.parameters()).dtype
        config = self.transformer.config
        self._axes = tuple(int(d) for d in config.axes_dims)
        self._theta = float(config.rope_theta)
        self._time_scale = float(config.t_scale)
        self._channels = int(config.in_channels)
        self._autoencoder = Autoencoder(components.vae, self.device)
        self._encodings: OrderedDict[Hashable, Encoding] = OrderedDict()
        self._refined: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._ropes: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._linears: dict[str, nn.Linear] = {
            path: module for path, module in self.transformer.named_modules() if isinstance(module, nn.Linear)
        }
        self._fused = _fuse(self.transformer)

    # --- what the engine asks ----------------------------------------------------------------------------------------

    def parameterization(self, shift: float | None, width: int, height: int) -> Flow:
        """Rectified flow with the given shift, 3 at every size when there is none."""
        return Flow(DEFAULT_SHIFT if shift is None else shift)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(16, H/8, W/8)."""
        return (self._channels, height // VAE_FACTOR, width // VAE_FACTOR)

    def batch_key(self, shape: tuple[int, int, int], references: tuple[Tensor, ...] = ()) -> Hashable:
        """All sizes share a forward."""
        return "packed"

    def row_tokens(self, shape: tuple[int, int, int], encoding: Encoding, references: tuple[Tensor, ...] = ()) -> int:
        """Padded image tokens plus padded caption tokens."""
        return _padded(shape[1] * shape[2] // PATCH**2) + _padded(encoding.tokens)

    def adapter_targets(self) -> AdapterTargets:
        """Every linear layer of the transformer and of the text encoder."""
        denoiser = {path: (m.out_features, m.in_features) for path, m in self._linears.items()}
        texts = {"text_encoder": text_targets(self.components.text_encoder)}
        return AdapterTargets(denoiser, texts, original_places(denoiser))

    @property
    def files(self) -> CheckpointFiles:
        """Where the weights came from."""
        return self.components.files

    def networks(self) -> dict[str, nn.Module]:
        """Transformer, text encoder, VAE."""
        parts = self.components
        return {"transformer": parts.transformer, "text_encoder": parts.text_encoder, "vae": parts.vae}

    @torch.inference_mode()
    def encode_text(self, text: str, adapters: AppliedAdapters = (), clip_skip: int | None = None) -> Encoding:
        """Hidden states before Qwen3's last layer, (tokens, dim), unpadded; words it does not know are left out."""
        adapters = tuple((adapter, weight) for adapter, weight in adapters if adapter.of("text_encoder"))
        key = (text, adapters_key(adapters))
        if (known := self._encodings.get(key)) is not None:
            self._encodings.move_to_end(key)
            return known
        tokenizer = self.components.tokenizer
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        batch = tokenizer(prompt, truncation=True, max_length=512, return_offsets_mapping=True)
        ids, unknown = list(batch["input_ids"]), []
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            offsets = batch["offset_mapping"]
            unknown = [prompt[a:b] for (a, b), i in zip(offsets, ids, strict=True) if i == tokenizer.unk_token_id]
            ids = [i for i in ids if i != tokenizer.unk_token_id]
        encoder = self.components.text_encoder
        with attached(encoder, [adapters], "text_encoder"):
            hidden = encoder(
                input_ids=torch.tensor([ids], device=encoder.device), output_hidden_states=True, use_cache=False
            ).hidden_states
        features = hidden[-2][0].to(self.device, self.dtype)
        encoding = Encoding(features, len(ids), tuple(dict.fromkeys(unknown)))
        return _remember(self._encodings, key, encoding)

    @torch.inference_mode()
    def predict(self, rows: Sequence[Row]) -> list[Tensor]:
        """The velocity (noise minus picture) of every row, float32; one forward for all of them."""
        order = sorted(range(len(rows)), key=lambda i: (adapters_key(rows[i].adapters), rows[i].x.shape))
        answers = self._forward([rows[i] for i in order])
        result: list[Tensor] = [answers[0]] * len(rows)
        for place, answer in zip(order, answers, strict=True):
            result[place] = answer
        return result

    def encode_picture(self, pixels: Tensor) -> Tensor:
        """The mode of the VAE's posterior, shifted and scaled: (z - shift) * scale."""
        return self._autoencoder.encode(pixels)

    def decode(self, latent: Tensor, tiled: bool = False) -> Tensor:
        """Pixels (3, H, W) in [-1, 1]; large ones in overlapping tiles."""
        return self._autoencoder.decode(latent, tiled)

    def preview(self, latent: Tensor) -> Tensor:
        """A linear map from latent channels to RGB, fitted to this VAE."""
        return self._autoencoder.preview(latent)

    # --- the forward -------------------------------------------------------------------------------------------------

    def _forward(self, rows: list[Row]) -> list[Tensor]:
        net = self.transformer
        # This network counts time from noise to picture.
        times = torch.tensor([1.0 - row.timestep for row in rows], dtype=torch.float32, device=self.device)
        row_spans: Spans = [(slice(i, i + 1), row.adapters) for i, row in enumerate(rows) if row.adapters]
        condition = self._embed_time(times, row_spans)  # (rows, min(dim, 256))

        counts = [row.x.shape[1] * row.x.shape[2] // PATCH**2 for row in rows]
        images = Layout(tuple(_padded(count) for count in counts))
        captions = [self._refine_caption(row.encoding, row.adapters) for row in rows]
        x = self._embed_images(rows, counts, images)
        ropes = [
            self._rope(row.x.shape[1] // PATCH, row.x.shape[2] // PATCH, len(caption))
            for row, caption in zip(rows, captions, strict=True)
        ]
        spans = _spans(images, rows)
        rope = images.shape(torch.cat([image for image, _ in ropes]) if len(ropes) > 1 else ropes[0][0])
        x = images.shape(x)
        for index, block in enumerate(net.noise_refiner):
            x = self._block(f"noise_refiner.{index}", block, x, rope, images, condition, spans, row_spans)

        whole = Layout(tuple(i + len(c) for i, c in zip(images.lengths, captions, strict=True)))
        flat = x.reshape(-1, x.shape[-1])
        pieces = [flat[piece] for piece in images.slices]
        x = torch.cat([part for pair in zip(pieces, captions, strict=True) for part in pair])
        rope = whole.shape(torch.cat([part for pair in ropes for part in pair]))
        spans = _spans(whole, rows)
        x = whole.shape(x)
        for index, block in enumerate(net.layers):
            x = self._block(f"layers.{index}", block, x, rope, whole, condition, spans, row_spans)
        return self._unembed(x, rows, counts, whole, condition, spans, row_spans)

    def _linear(self, path: str, x: Tensor, spans: Spans) -> Tensor:
        """The linear layer at `path` over (total, in), plus the adapters of the rows in `spans`."""
        module = self._linears[path]
        y = F.linear(x, module.weight, module.bias)
        self._adapt(path, y, x, spans)
        return y

    def _fused_linear(self, prefix: str, names: tuple[str, ...], x: Tensor, spans: Spans) -> list[Tensor]:
        """Several layers that read the same input, as one product; answers one (total, out) a name."""
        whole = F.linear(x, self._fused[prefix])
        parts: list[Tensor] = []
        start = 0
        for name in names:
            part = whole.narrow(-1, start, self._linears[f"{prefix}.{name}"].out_features)
            self._adapt(f"{prefix}.{name}", part, x, spans)
            parts.append(part)
            start += part.shape[-1]
        return parts

    def _adapt(self, path: str, y: Tensor, x: Tensor, spans: Spans) -> None:
        for piece, adapters in spans:
            changes = [(deltas, weight) for adapter, weight in adapters if (deltas := adapter.deltas.get(path))]
            if changes:
                own = y[..., piece, :]
                y[..., piece, :] = add_changes(own, x[..., piece, :], changes, self._linears[path])

    def _embed_time(self, times: Tensor, row_spans: Spans) -> Tensor:
        embedder = self.transformer.t_embedder
        wave = embedder.timestep_embedding(times * self._time_scale, embedder.frequency_embedding_size)
        hidden = self._linear("t_embedder.mlp.0", wave.to(self.dtype), row_spans)
        return self._linear("t_embedder.mlp.2", F.silu(hidden), row_spans)

    def _embed_images(self, rows: list[Row], counts: list[int], images: Layout) -> Tensor:
        """Tokens (total, dim) of all rows, each padded with the learned pad token."""
        packed = torch.cat([_patchify(row.x) for row in rows]).to(self.dtype)
        spans = _spans(Layout(tuple(counts)), rows)
        x = self._linear(f"all_x_embedder.{PATCH}-1", packed, spans)
        if tuple(counts) == images.lengths:
            return x
        pad = self.transformer.x_pad_token
        parts: list[Tensor] = []
        for piece, length in zip(Layout(tuple(counts)).slices, images.lengths, strict=True):
            parts += [x[piece], pad.expand(length - (piece.stop - piece.start), -1)]
        return torch.cat(parts)

    def _refine_caption(self, encoding: Encoding, adapters: AppliedAdapters) -> Tensor:
        """The caption after its refiner, (padded tokens, dim), remembered per prompt and adapters."""
        key = (encoding, adapters_key(adapters))
        if (known := self._refined.get(key)) is not None:
            self._refined.move_to_end(key)
            return known
        net = self.transformer
        length = _padded(encoding.tokens)
        spans: Spans = [(slice(0, length), adapters)] if adapters else []
        real_spans: Spans = [(slice(0, encoding.tokens), adapters)] if adapters else []
        real = self._linear("cap_embedder.1", _rms(net.cap_embedder[0], encoding.features), real_spans)
        x = torch.cat([real, net.cap_pad_token.expand(length - encoding.tokens, -1)])
        rope = self._rope_at(torch.stack([torch.arange(1, length + 1), torch.zeros(length), torch.zeros(length)], 1))
        layout = Layout((length,))
        x = layout.shape(x)
        for index, block in enumerate(net.context_refiner):
            x = self._block(f"context_refiner.{index}", block, x, rope[None], layout, None, spans, [])
        return _remember(self._refined, key, x[0])

    def forget_captions(self) -> None:
        """Drop what is remembered of captions; needed after the network's weights were changed in place."""
        self._refined.clear()

    def _rope(self, height: int, width: int, caption: int) -> tuple[Tensor, Tensor]:
        """Complex rotations (tokens, head_dim/2) of an image behind `caption` tokens, and of those tokens."""
        key = (height, width, caption)
        if (known := self._ropes.get(key)) is None:
            grid = torch.cartesian_prod(
                torch.tensor([float(caption + 1)]), torch.arange(float(height)), torch.arange(float(width))
            )
            padding = torch.zeros(_padded(len(grid)) - len(grid), 3)
            image = self._rope_at(torch.cat([grid, padding]))
            index = torch.arange(1.0, caption + 1)
            text = self._rope_at(torch.stack([index, index * 0, index * 0], 1))
            known = torch.cat([image, text])
            _remember(self._ropes, key, known, 64)
        return known[:-caption], known[-caption:]

    def _rope_at(self, positions: Tensor) -> Tensor:
        angles = [
            positions[:, axis, None].double() / self._theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
            for axis, dim in enumerate(self._axes)
        ]
        angle = torch.cat(angles, 1).float()
        return torch.polar(torch.ones_like(angle), angle).to(self.device)

    def _block(
        self,
        path: str,
        block: Any,
        x: Tensor,
        rope: Tensor,
        layout: Layout,
        condition: Tensor | None,
        spans: Spans,
        row_spans: Spans,
    ) -> Tensor:
        """One transformer block over (rows, length, dim) or (1, total, dim)."""
        attention = block.attention
        modulation: list[Tensor] = []
        if condition is not None:
            per_row = self._linear(f"{path}.adaLN_modulation.0", condition, row_spans)
            scale_a, gate_a, scale_f, gate_f = per_row.chunk(4, dim=1)
            modulation = [layout.per_token(m) for m in (1.0 + scale_a, gate_a.tanh(), 1.0 + scale_f, gate_f.tanh())]
        y = _rms(block.attention_norm1, x, modulation[0] if modulation else None)
        q, k, v = self._over_tokens(
            lambda t: self._fused_linear(f"{path}.attention", ("to_q", "to_k", "to_v"), t, spans), y
        )
        heads = attention.heads
        q, k, v = _heads(q, heads), _heads(k, heads), _heads(v, heads)
        q, k = _rotate(_rms(attention.norm_q, q), rope), _rotate(_rms(attention.norm_k, k), rope)
        mixed = layout.attend(q, k, v).flatten(2)
        (y,) = self._over_tokens(lambda t: [self._linear(f"{path}.attention.to_out.0", t, spans)], mixed)
        y = _rms(block.attention_norm2, y)
        x = torch.addcmul(x, modulation[1], y) if modulation else x + y
        y = _rms(block.ffn_norm1, x, modulation[2] if modulation else None)
        gate, up = self._over_tokens(lambda t: self._fused_linear(f"{path}.feed_forward", ("w1", "w3"), t, spans), y)
        hidden = F.silu(gate) * up
        (y,) = self._over_tokens(lambda t: [self._linear(f"{path}.feed_forward.w2", t, spans)], hidden)
        y = _rms(block.ffn_norm2, y)
        return torch.addcmul(x, modulation[3], y) if modulation else x + y

    @staticmethod
    def _over_tokens(run: Callable[[Tensor], list[Tensor]], x: Tensor) -> list[Tensor]:
        """Run a layer over the flat sequence, which spans count in, and give its answers x's leading shape."""
        lead = x.shape[:2]
        return [y.view(*lead, y.shape[-1]) for y in run(x.flatten(0, 1))]

    def _unembed(
        self,
        x: Tensor,
        rows: list[Row],
        counts: list[int],
        whole: Layout,
        condition: Tensor,
        spans: Spans,
        row_spans: Spans,
    ) -> list[Tensor]:
        path = f"all_final_layer.{PATCH}-1"
        norm = self.transformer.all_final_layer[f"{PATCH}-1"].norm_final
        scale = 1.0 + self._linear(f"{path}.adaLN_modulation.1", F.silu(condition), row_spans)
        x = norm(x) * whole.per_token(scale)
        flat = self._linear(f"{path}.linear", x.flatten(0, 1), spans).float()
        answers: list[Tensor] = []
        for row, piece, count in zip(rows, whole.slices, counts, strict=True):
            tokens = flat[piece.start : piece.start + count]
            # The network answers picture minus noise; the velocity that samplers use points the other way.
            answers.append(_unpatchify(tokens, row.x.shape).neg_())
        return answers


def _spans(layout: Layout, rows: Sequence[Row]) -> Spans:
    """Runs of tokens whose rows carry the same adapters; rows without adapters need none."""
    spans: Spans = []
    for piece, row in zip(layout.slices, rows, strict=True):
        if not row.adapters:
            continue
        if spans and spans[-1][0].stop == piece.start and adapters_key(spans[-1][1]) == adapters_key(row.adapters):
            spans[-1] = (slice(spans[-1][0].start, piece.stop), row.adapters)
        else:
            spans.append((piece, row.adapters))
    return spans


def _rms(norm: Any, x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Root-mean-square norm, its weight times `scale` if there is one."""
    weight = norm.weight if scale is None else norm.weight * scale
    if x.is_cuda or x.dtype is not torch.float32:
        return F.rms_norm(x, (x.shape[-1],), None, norm.eps) * weight
    # On a CPU `rms_norm` is seven passes over memory; these are three.
    length = cast(Tensor, cast(Any, torch.linalg).vector_norm(x, dim=-1, keepdim=True))
    return x * torch.rsqrt(length.square() / x.shape[-1] + norm.eps) * weight


def _rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotary embedding of (…, tokens, heads, head_dim) by complex (…, tokens, head_dim/2)."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rope.unsqueeze(-2)).flatten(-2).to(x.dtype)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(…, heads * head_dim) to (…, heads, head_dim)."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads)


def _patchify(x: Tensor) -> Tensor:
    """(C, h, w) to tokens (h/2*w/2, 4C), patch row first, channels innermost."""
    c, h, w = x.shape
    return x.view(c, h // PATCH, PATCH, w // PATCH, PATCH).permute(1, 3, 2, 4, 0).reshape(-1, PATCH * PATCH * c)


def _unpatchify(tokens: Tensor, shape: torch.Size) -> Tensor:
    c, h, w = shape
    return tokens.view(h // PATCH, w // PATCH, PATCH, PATCH, c).permute(4, 0, 2, 1, 3).reshape(c, h, w)


def _fuse(transformer: Any) -> dict[str, Tensor]:
    """Lay the weights of layers that read the same input side by side in memory, the modules keep views of them."""
    fused: dict[str, Tensor] = {}
    for path, module in transformer.named_modules():
        for owner, names in (("attention", ("to_q", "to_k", "to_v")), ("feed_forward", ("w1", "w3"))):
            if not path.endswith("." + owner):
                continue
            layers = [cast(nn.Linear, getattr(module, name)) for name in names]
            weight = torch.cat([layer.weight.data for layer in layers])
            start = 0
            for layer in layers:
                layer.weight = nn.Parameter(weight[start : start + layer.out_features], requires_grad=False)
                start += layer.out_features
            fused[path] = weight
    return fused


def _remember(cache: OrderedDict[Hashable, Any], key: Hashable, value: Any, limit: int = PROMPT_CACHE) -> Any:
    cache[key] = value
    while len(cache) > limit:
        cache.popitem(last=False)
    return value
