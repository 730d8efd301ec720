"""Attached adapters: each row is as if it ran alone over merged weights, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from limner.engine.adapters import Adapter
from limner.engine.attached import adapters_key, attached
from limner.engine.deltas import Bias, Decomposed, Delta, Full, LowRank
from limner.engine.families.port import AppliedAdapters


class Network(nn.Module):
    """A picture goes through convolutions, its pixels through linear layers, as in a UNet."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.point = nn.Conv2d(4, 6, 1)
        self.wide = nn.Conv2d(6, 6, 3, padding=2, dilation=2, bias=False)
        self.linear = nn.Linear(6, 5)
        self.pooled = nn.Linear(5, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, h, w)
        x = self.wide(self.point(self.strided(x)).tanh()).tanh()
        tokens = self.linear(x.flatten(2).transpose(1, 2))  # (B, tokens, 5)
        return self.pooled(tokens.mean(1))


RANDOM = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM) * 0.5


def low_rank(out: int, into: int, *kernel: int) -> LowRank:
    return LowRank(drawn(2, into, *kernel), drawn(out, 2), 0.7)


NETWORK = Network().requires_grad_(False)
for each in NETWORK.parameters():
    each.copy_(drawn(*each.shape))
PICTURES = drawn(5, 3, 6, 8)
BASE = NETWORK(PICTURES)
INK = Adapter(
    "ink",
    "",
    {
        "strided": (low_rank(4, 3, 3, 3),),
        "wide": (LowRank(drawn(2, 6), drawn(6, 2), 0.4, mid=drawn(2, 2, 3, 3)),),
        "linear": (low_rank(5, 6), low_rank(5, 6), Bias(drawn(5), 0.5)),
    },
    {"text_encoder_2": {"linear": (low_rank(5, 6),)}},
)
OIL = Adapter("oil", "", {"point": (low_rank(6, 4, 1, 1),), "linear": (Full(drawn(5, 6)),)})
CHALK = Adapter(
    "chalk",
    "",
    {
        "strided": (Decomposed(low_rank(4, 3, 3, 3), drawn(4).abs()),),
        "point": (Decomposed(low_rank(6, 4, 1, 1), drawn(4).abs(), by_rows=False),),
        "linear": (Decomposed(low_rank(5, 6), drawn(5).abs()),),
        "pooled": (Decomposed(low_rank(4, 5), drawn(5).abs(), by_rows=False),),
    },
)
ROWS: tuple[AppliedAdapters, ...] = (
    ((INK, 0.8),),
    ((INK, 0.8), (OIL, -0.4), (CHALK, 0.6)),
    (),
    ((CHALK, 1.0),),
    ((CHALK, 1.0),),
)


def dense(delta: Delta, layer: Any) -> Tensor:
    """What a delta makes of a layer's weight, minus that weight."""
    if not isinstance(delta, Decomposed):
        return delta.matrix()
    whole = layer.weight + delta.inner.matrix()
    dims = tuple(d for d in range(whole.ndim) if d != (0 if delta.by_rows else 1))
    lengths = whole.square().sum(dims, keepdim=True).sqrt()
    return whole * delta.magnitude.view(lengths.shape) / lengths - layer.weight


def merged(adapters: AppliedAdapters, picture: Tensor) -> Tensor:
    """The answer for one picture of a copy whose weights were changed."""
    network: Any = Network().requires_grad_(False)
    network.load_state_dict(NETWORK.state_dict())
    for adapter, weight in adapters:
        for path, deltas in adapter.deltas.items():
            mine = network.get_submodule(path)
            for delta in deltas:
                if isinstance(delta, Bias):
                    mine.bias += weight * delta.scale * delta.bias
                else:
                    mine.weight += weight * dense(delta, NETWORK.get_submodule(path))
    return network(picture[None])[0]


def hooks(network: nn.Module) -> int:
    return sum(len(cast(Any, module)._forward_hooks) for module in network.modules())


def test_every_row_is_as_alone_with_merged_weights() -> None:
    with attached(NETWORK, ROWS):
        answers = NETWORK(PICTURES)
    for row, (adapters, picture) in enumerate(zip(ROWS, PICTURES, strict=True)):
        torch.testing.assert_close(answers[row], merged(adapters, picture), atol=1e-5, rtol=1e-5)
        assert torch.equal(answers[row], BASE[row]) is not bool(adapters)


def test_afterwards_the_network_is_as_it_was() -> None:
    with attached(NETWORK, ROWS):
        NETWORK(PICTURES)
    assert hooks(NETWORK) == 0
    assert torch.equal(NETWORK(PICTURES), BASE)


def test_only_changed_layers_are_hooked() -> None:
    with attached(NETWORK, [(), ((OIL, 1.0),)]):
        assert hooks(NETWORK) == 2
    for rows in ([(), ()], [((INK, 0.0),)]):
        with attached(NETWORK, rows):
            assert hooks(NETWORK) == 0


def test_hooks_are_taken_off_after_an_error_too() -> None:
    with pytest.raises(ValueError, match="stop"), attached(NETWORK, ROWS):
        raise ValueError("stop")
    stranger = Adapter("stranger", "", {"linear": (low_rank(5, 6),), "nowhere": (low_rank(5, 6),)})
    with pytest.raises(AttributeError), attached(NETWORK, [((stranger, 1.0),)]):
        pass
    assert hooks(NETWORK) == 0


def test_a_batch_of_another_size_is_refused() -> None:
    says = r"Layer `strided` got a batch of 4, but adapters were attached for 2 rows"
    with pytest.raises(RuntimeError, match=says), attached(NETWORK, [((INK, 1.0),), ()]):
        NETWORK(PICTURES[:4])


def test_rows_of_equal_adapters_side_by_side_cost_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def count(self: Full, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        seen.append(len(x))
        return torch.zeros(())

    monkeypatch.setattr(Full, "change", count)
    rows: Sequence[AppliedAdapters] = [((OIL, 1.0),), ((OIL, 1.0),), (), ((OIL, 0.5),), ((OIL, 1.0),)]
    with attached(NETWORK, rows):
        NETWORK(PICTURES)
    assert seen == [2, 1, 1]


def test_a_text_encoder_takes_its_own_deltas_only() -> None:
    encoder = nn.ModuleDict({"linear": nn.Linear(6, 5)}).requires_grad_(False)
    layer, x = encoder["linear"], drawn(2, 7, 6)
    plain = layer(x)
    with attached(encoder, [((INK, 1.0),), ((OIL, 1.0),)], "text_encoder_2"):
        changed = layer(x)
    (delta,) = INK.text_deltas["text_encoder_2"]["linear"]
    torch.testing.assert_close(changed[0], plain[0] + x[0] @ delta.matrix().T)
    assert torch.equal(changed[1], plain[1])
    with attached(encoder, [((INK, 1.0),)], "text_encoder"):
        assert hooks(encoder) == 0


def test_deltas_follow_the_inputs_precision_and_are_moved_once() -> None:
    layer = nn.Linear(6, 5).requires_grad_(False).to(torch.bfloat16)
    holder = nn.ModuleDict({"linear": layer})
    delta = low_rank(5, 6)
    adapter = Adapter("ink", "", {"linear": (delta,)})
    x = drawn(1, 6).to(torch.bfloat16)
    with attached(holder, [((adapter, 1.0),)]):
        answer = layer(x)
    assert answer.dtype is torch.bfloat16
    assert (answer - layer(x)).abs().max() > 0
    assert delta.like(x) is delta.like(x)
    assert delta.up.dtype is torch.float32


def test_the_key_tells_adapters_and_strengths_apart() -> None:
    keys = {adapters_key(adapters) for adapters in (*ROWS, ((INK, 0.7),))}
    assert len(keys) == 5
