"""What an adapter may change in a checkpoint, and what the names in a file mean there.

Networks are known here as tables of module paths and weight shapes; a family adds the names that its original code has
for them, since many adapters are trained and published under those. This module knows no family by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from torch import Tensor, nn

from limner.engine.weights import Part

Targets = Mapping[str, tuple[int, ...]]
"""Module path to the shape of its weight: (out, in) of a linear layer, (out, in, kh, kw) of a convolution."""


class Place(NamedTuple):
    """Where a module of the original code is in the network: a path, and which of its outputs lie there.

    Args:
        path: the network's own name.
        rows: the original's outputs that are found at `path`; all when absent.
        swapped: whether the second half of these outputs comes first there.
    """

    path: str
    rows: slice | None = None
    swapped: bool = False

    def take(self, stored: Tensor) -> Tensor:
        """The part of a tensor (original outputs, …) that belongs here."""
        part = stored if self.rows is None else stored[self.rows]
        return part.roll(part.shape[0] // 2, 0) if self.swapped else part


Originals = Mapping[str, tuple[Place, ...]]
"""Original module path, dotted (`double_blocks.0.img_attn.qkv`), to its places in the order of their rows."""


@dataclass(frozen=True)
class AdapterTargets:
    """What an adapter may change in a checkpoint.

    Args:
        denoiser: the layers of the denoising network.
        texts: those of each text encoder, by component (`text_encoder`, `text_encoder_2`).
        originals: original names of the denoiser's layers, where they differ from the network's own.
        text_originals: the same for text encoders, by component.
    """

    denoiser: Targets
    texts: Mapping[str, Targets]
    originals: Originals = field(default_factory=dict[str, tuple[Place, ...]])
    text_originals: Mapping[str, Originals] = field(default_factory=dict[str, Originals])


def originals_of(parts: Mapping[str, Part]) -> dict[str, tuple[Place, ...]]:
    """Original names from a loader's map of the original layout.

    Args:
        parts: the network's tensor names (`transformer_blocks.0.attn.to_q.weight`) to the original tensors that they
            are made of (`double_blocks.0.img_attn.qkv.weight`, rows 0 to 3072).

    Returns:
        A fused original once, with all its places; names that are the same on both sides are left out.
    """
    found: dict[str, list[Place]] = {}
    for name, part in parts.items():
        path, original = _module_path(name), _module_path(part.name)
        if path and original and not part.transposed:
            found.setdefault(original, []).append(Place(path, part.rows, part.swapped))
    return {
        original: tuple(sorted(places, key=lambda place: place.rows.start or 0 if place.rows else 0))
        for original, places in found.items()
        if places != [Place(original)]
    }


def _module_path(tensor: str) -> str:
    for end in (".weight", "_weight"):
        if tensor.endswith(end):
            return tensor.removesuffix(end)
    return ""


def network_targets(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every linear layer and convolution of a network, with the shapes of their weights."""
    named = cast("Iterable[tuple[str, nn.Module]]", network.named_modules())
    return {path: tuple(m.weight.shape) for path, m in named if isinstance(m, nn.Linear | nn.Conv2d)}


_TABLES = (
    "embed_tokens",
    "token_embedding",
    "position_embedding",
    "relative_attention_bias",
    "shared",
    "lm_head",
)


def header_targets_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """What `network_targets` would answer, from the names and shapes of a network's tensors.

    Tables of words and positions are matrices too, but no layers; they are told by their names.
    """
    paths = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if name.endswith(".weight")}
    return {
        path: shape for path, shape in paths.items() if len(shape) in (2, 4) and path.rpartition(".")[2] not in _TABLES
    }


def place_names(targets: Targets, originals: Originals) -> Callable[[str], tuple[Place, ...]]:
    """A function from a file's module path to the places that it means; () when there are none.

    Targets are known by their own paths and by their originals' names. Dots and underscores are alike, since kohya's
    names have no dots; `to_out` stands for `to_out.0`, and a text encoder's paths may or may not begin with `model.` or
    `text_model.`, which differs between versions of transformers.
    """
    known: dict[str, tuple[Place, ...]] = {_flat(alias): (Place(path),) for path in targets for alias in _aliases(path)}
    for original, places in originals.items():
        if all(place.path in targets for place in places):
            known.setdefault(_flat(original), places)

    def find(path: str) -> tuple[Place, ...]:
        flat = _flat(path)
        bare = next((flat.removeprefix(p) for p in ("text_model_", "model_") if flat.startswith(p)), flat)
        return known.get(flat) or known.get(bare, ())

    return find


def whole_shape(places: tuple[Place, ...], targets: Targets) -> tuple[int, ...]:
    """The shape of the module that a file's tensors are made for, all of its places together."""
    shapes = [targets[place.path] for place in places]
    ends = [place.rows.stop for place in places if place.rows and place.rows.stop is not None]
    return (max((sum(shape[0] for shape in shapes), *ends)), *shapes[0][1:])


def _aliases(path: str) -> set[str]:
    shorter = path.removesuffix(".0") if path.endswith(".to_out.0") else path
    return {name.removeprefix(prefix) for name in (path, shorter) for prefix in ("", "text_model.", "model.")}


def _flat(path: str) -> str:
    return path.replace(".", "_")
