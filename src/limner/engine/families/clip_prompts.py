"""Turn prompts into CLIP's features: weights, chunks, and the layer that is read.

The syntax and its arithmetic are ComfyUI's: `(words:1.2)` weighs words, `(words)` by 1.1, `\\(` is a parenthesis. A
prompt of any length is read in chunks of 75 tokens whose features are laid one after another; `BREAK` begins a chunk.
This module knows tokenizers and text encoders, no denoiser. Invariant: a prompt's features depend on nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from limner.engine.attached import attached
from limner.engine.families.port import AppliedAdapters
from limner.errors import InvalidRequest

STRONGER = 1.1
"""What a pair of parentheses without a number multiplies the weight by."""
LONG_PIECE = 8
"""Pieces of fewer tokens are not torn between two chunks."""
_OPEN, _CLOSE = "\ue000", "\ue001"
_BREAK = re.compile(r"\bBREAK\b")

Piece = tuple[str, float]


@dataclass(frozen=True)
class Chunk:
    """Up to 75 tokens and the weight of each."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Tower:
    """A text encoder and how a family reads it.

    Args:
        component: what diffusers calls it.
        network: its weights.
        pad: the token that fills a chunk; None for that which ends a text.
        layer: which layer is read where nobody asks for another, counted from the end.
        normed: whether what is read passes the final norm.
    """

    component: str
    network: CLIPTextModel | CLIPTextModelWithProjection
    pad: int | None
    layer: int
    normed: bool


def weighted_pieces(prompt: str) -> list[Piece]:
    """A prompt's pieces with their weights.

    Parentheses without a number multiply the weight around them, a number replaces it. What is opened and never closed
    is read as it stands.
    """
    hidden = re.sub(f"[{_OPEN}{_CLOSE}]", "", prompt).replace("\\(", _OPEN).replace("\\)", _CLOSE)
    return [(text.replace(_OPEN, "(").replace(_CLOSE, ")"), weight) for text, weight in _weigh(hidden, 1.0)]


def chunks_of(tokenizer: CLIPTokenizer, prompt: str, size: int = 75) -> list[Chunk]:
    """A prompt's chunks, at least one; each holds `size` tokens at most.

    A piece of fewer than eight tokens that does not fit the rest of a chunk goes to the next one whole.
    """
    chunks: list[Chunk] = []
    tokens: list[int] = []
    weights: list[float] = []

    def close() -> None:
        if tokens:
            chunks.append(Chunk(tuple(tokens), tuple(weights)))
            tokens.clear()
            weights.clear()

    for piece, weight in weighted_pieces(prompt):
        for place, part in enumerate(_BREAK.split(piece)):
            if place:
                close()
            rest = _tokens(tokenizer, part)
            torn = len(rest) >= LONG_PIECE
            while rest:
                free = size - len(tokens)
                if len(rest) > free and not torn:
                    close()
                    free = size
                tokens += rest[:free]
                weights += [weight] * min(free, len(rest))
                rest = rest[free:]
                if rest:
                    close()
    close()
    return chunks or [Chunk((), ())]


class PromptReader:
    """Reads prompts with one CLIP or with two whose features lie side by side."""

    def __init__(self, tokenizer: CLIPTokenizer, towers: Sequence[Tower]) -> None:
        self._tokenizer = tokenizer
        self._towers = tuple(towers)
        named: Any = tokenizer
        self._first, self._last = int(named.bos_token_id), int(named.eos_token_id)

    @torch.inference_mode()
    def read(
        self, prompt: str, adapters: AppliedAdapters = (), clip_skip: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Features (77 * chunks, width) and the first chunk's pooled vector (dim), float32; None without projection.

        A token's features are moved away from those of an empty prompt at its place, by its weight.

        Raises:
            InvalidRequest: `clip_skip` goes beyond an encoder's layers.
        """
        features: list[Tensor] = []
        pooled: Tensor | None = None
        length = min(int(tower.network.config.max_position_embeddings) for tower in self._towers)
        chunks = chunks_of(self._tokenizer, prompt, length - 2)
        weights = torch.tensor([_padded([1.0, *chunk.weights], 1.0, length) for chunk in chunks])
        weighted = bool((weights != 1).any())
        rows = [*chunks, Chunk((), ())] if weighted else chunks
        for tower in self._towers:
            ids = [self._ids(chunk, tower, length) for chunk in rows]
            hidden, vectors = _run(tower, torch.tensor(ids), adapters, clip_skip)  # (rows, 77, width)
            if weighted:
                empty, hidden = hidden[-1:], hidden[:-1]
                hidden = torch.where(weights[..., None] == 1, hidden, (hidden - empty) * weights[..., None] + empty)
            features.append(hidden.flatten(0, 1))
            pooled = pooled if vectors is None else vectors[0]
        return torch.cat(features, dim=-1), pooled

    def _ids(self, chunk: Chunk, tower: Tower, length: int) -> list[int]:
        pad = self._last if tower.pad is None else tower.pad
        return _padded([self._first, *chunk.tokens, self._last], pad, length)


def _run(tower: Tower, ids: Tensor, adapters: AppliedAdapters, clip_skip: int | None) -> tuple[Tensor, Tensor | None]:
    network: Any = tower.network
    layers = int(network.config.num_hidden_layers)
    layer = tower.layer if clip_skip is None else clip_skip
    if not 1 <= layer <= layers:
        raise InvalidRequest(f"clip_skip is {layer}, but a text encoder has {layers} layers. Choose 1 to {layers}.")
    with attached(network, [adapters] * len(ids), component=tower.component):
        answer = network(input_ids=ids.to(network.device), output_hidden_states=True)
    hidden = answer.hidden_states[-layer]
    if tower.normed:
        hidden = getattr(network, "text_model", network).final_layer_norm(hidden)
    vectors = cast("Tensor | None", getattr(answer, "text_embeds", None))
    return hidden.float().cpu(), None if vectors is None else vectors.float().cpu()


def _weigh(text: str, weight: float) -> list[Piece]:
    pieces: list[Piece] = []
    for item, grouped in _groups(text):
        if not grouped:
            pieces.append((item, weight))
            continue
        inner, mark, number = item.rpartition(":")
        absolute = _number(number) if mark and inner else None
        if absolute is None:
            pieces += _weigh(item, weight * STRONGER)
        else:
            pieces += _weigh(inner, absolute)
    return pieces


def _groups(text: str) -> list[tuple[str, bool]]:
    """The text cut into what lies in outermost parentheses (True, without them) and what lies between."""
    found: list[tuple[str, bool]] = []
    start = opened = depth = 0
    for place, sign in enumerate(text):
        if sign == "(":
            opened = place if depth == 0 else opened
            depth += 1
        elif sign == ")" and depth:
            depth -= 1
            if depth == 0:
                found += [(text[start:opened], False), (text[opened + 1 : place], True)]
                start = place + 1
    found.append((text[start:], False))
    return [(item, grouped) for item, grouped in found if item]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _tokens(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    named: Any = tokenizer
    return list(named(text, add_special_tokens=False, verbose=False)["input_ids"])


def _padded(values: list[Any], pad: Any, length: int) -> list[Any]:
    return values + [pad] * (length - len(values))
