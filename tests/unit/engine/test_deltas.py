"""Deltas: every kind answers as its own weight says, as peft's layers do, and part by part as the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.engine.adapter_kinds import Unfit, build, dense_shape, fit
from limner.engine.deltas import Bias, Decomposed, Delta, Full, LowRank, add_changes

RANDOM = torch.Generator().manual_seed(0)
LINEAR, CONV = (8, 12), (8, 12, 3, 3)
R = 2


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM)


def _loha(out: int, into: int) -> dict[str, Tensor]:
    halves = {"hada_w1_a": (out, R), "hada_w1_b": (R, into), "hada_w2_a": (out, R), "hada_w2_b": (R, into)}
    return {name: drawn(*shape) for name, shape in halves.items()}


KINDS: dict[str, tuple[tuple[int, ...], dict[str, Tensor]]] = {
    "lora": (LINEAR, {"down": drawn(R, 12), "up": drawn(8, R)}),
    "lora, written as a kernel": (LINEAR, {"down": drawn(R, 12, 1, 1), "up": drawn(8, R, 1, 1)}),
    "locon": (CONV, {"down": drawn(R, 12, 3, 3), "up": drawn(8, R, 1, 1)}),
    "locon, written flat": (CONV, {"down": drawn(R, 108), "up": drawn(8, R)}),
    "locon of 1x1": ((8, 12, 1, 1), {"down": drawn(R, 12), "up": drawn(8, R)}),
    "locon with a middle": (CONV, {"down": drawn(R, 12, 1, 1), "mid": drawn(3, R, 3, 3), "up": drawn(8, 3, 1, 1)}),
    "loha": (LINEAR, _loha(8, 12)),
    "loha of a kernel": (CONV, _loha(8, 108)),
    "loha, tucker": (
        CONV,
        {f"hada_w{i}_a": drawn(R, 8) for i in "12"}
        | {f"hada_w{i}_b": drawn(R, 12) for i in "12"}
        | {f"hada_t{i}": drawn(R, R, 3, 3) for i in "12"},
    ),
    "lokr": (LINEAR, {"lokr_w1": drawn(2, 4), "lokr_w2": drawn(4, 3)}),
    "lokr, second a product": (LINEAR, {"lokr_w1": drawn(2, 4), "lokr_w2_a": drawn(4, R), "lokr_w2_b": drawn(R, 3)}),
    "lokr, both products": (
        LINEAR,
        {"lokr_w1_a": drawn(2, 1), "lokr_w1_b": drawn(1, 4), "lokr_w2_a": drawn(4, R), "lokr_w2_b": drawn(R, 3)},
    ),
    "lokr of a kernel": (CONV, {"lokr_w1": drawn(2, 4), "lokr_w2": drawn(4, 3, 3, 3)}),
    "lokr of a kernel, a product": (
        CONV,
        {"lokr_w1": drawn(2, 4), "lokr_w2_a": drawn(4, R), "lokr_w2_b": drawn(R, 27)},
    ),
    "lokr, tucker": (
        CONV,
        {"lokr_w1": drawn(2, 4), "lokr_w2_a": drawn(R, 4), "lokr_w2_b": drawn(R, 3), "lokr_t2": drawn(R, R, 3, 3)},
    ),
    "full": (LINEAR, {"diff": drawn(8, 12)}),
    "full kernel": (CONV, {"diff": drawn(8, 12, 3, 3)}),
}


def layer_of(shape: tuple[int, ...]) -> nn.Linear | nn.Conv2d:
    layer = nn.Linear(12, 8) if len(shape) == 2 else nn.Conv2d(12, 8, shape[2], stride=2, padding=1)
    return layer.requires_grad_(False)


def input_of(shape: tuple[int, ...]) -> Tensor:
    return drawn(2, 5, 12) if len(shape) == 2 else drawn(2, 12, 6, 7)


def made(shape: tuple[int, ...], tensors: dict[str, Tensor], scale: float = 0.3) -> tuple[Delta, ...]:
    return build(fit({name: tuple(t.shape) for name, t in tensors.items()}, shape), tensors, scale, shape)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_is_that_of_its_weight(kind: str) -> None:
    shape, tensors = KINDS[kind]
    (delta,) = made(shape, tensors)
    layer, x = layer_of(shape), input_of(shape)
    y = layer(x)
    changed = add_changes(y, x, [((delta,), -0.7)], layer)
    layer.weight += -0.7 * delta.matrix()
    assert delta.matrix().shape == shape
    torch.testing.assert_close(changed, layer(x), atol=1e-4, rtol=1e-4)
    assert (changed - y).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_change_are_parts_of_its_weight(kind: str) -> None:
    shape, tensors = KINDS[kind]
    (delta,) = made(shape, tensors)
    part = delta.rows(lambda t: t[3:7])
    torch.testing.assert_close(part.matrix(), delta.matrix()[3:7])
    assert not torch.allclose(part.matrix(), delta.matrix()[:4])


@pytest.mark.parametrize("kind", KINDS)
def test_the_shape_that_a_module_is_meant_for_is_known_from_its_factors(kind: str) -> None:
    shape, tensors = KINDS[kind]
    told = dense_shape({name: tuple(t.shape) for name, t in tensors.items()})
    assert told is not None
    assert told[0] == shape[0]


@pytest.mark.parametrize("kind", KINDS)
def test_dora_goes_around_every_kind(kind: str) -> None:
    shape, tensors = KINDS[kind]
    layer, x = layer_of(shape), input_of(shape)
    (inner,) = made(shape, tensors)
    for name, magnitude in (("dora", drawn(8, 1)), ("dora", drawn(1, 12)), ("magnitude", drawn(8))):
        (delta,) = made(shape, tensors | {name: magnitude})
        assert isinstance(delta, Decomposed)
        whole = layer.weight + inner.matrix()
        kept = 0 if magnitude.shape[0] == 8 else 1
        lengths = whole.square().sum([d for d in range(whole.ndim) if d != kept], keepdim=True).sqrt()
        target = whole * magnitude.view(lengths.shape) / lengths
        changed = add_changes(layer(x), x, [((delta,), 0.4)], layer)
        merged = layer_of(shape)
        merged.load_state_dict(layer.state_dict())
        merged.weight += 0.4 * (target - layer.weight)
        torch.testing.assert_close(changed, merged(x), atol=1e-4, rtol=1e-4)


def test_dora_of_some_rows_is_that_of_the_whole() -> None:
    shape, tensors = KINDS["lora"]
    layer, x = nn.Linear(12, 8), drawn(3, 12)
    (delta,) = made(shape, tensors | {"magnitude": drawn(8)})
    part = nn.Linear(12, 4)
    part.load_state_dict({name: t[2:6] for name, t in layer.state_dict().items()})
    taken = delta.rows(lambda t: t[2:6])
    torch.testing.assert_close(
        add_changes(part(x), x, [((taken,), 1.0)], part), add_changes(layer(x), x, [((delta,), 1.0)], layer)[:, 2:6]
    )
    (columns,) = made(shape, tensors | {"dora": drawn(1, 12)})
    with pytest.raises(RuntimeError):
        columns.rows(lambda t: t)


@pytest.mark.parametrize("by_rows", [True, False])
def test_dora_in_half_precision_adds_no_noise_where_magnitudes_all_but_equal_the_norms(by_rows: bool) -> None:
    layer, x = nn.Linear(64, 64, bias=False).requires_grad_(False), drawn(5, 64)
    inner = LowRank(0.001 * drawn(R, 64), drawn(64, R), 1.0)
    whole = layer.weight + inner.matrix()
    delta = Decomposed(inner, 1.001 * whole.square().sum(1 if by_rows else 0).sqrt(), by_rows)
    exact = delta.change(x, layer(x), layer)
    half, fine = nn.Linear(64, 64, bias=False).to(torch.bfloat16), x.to(torch.bfloat16)
    half.weight.data.copy_(layer.weight)
    coarse = delta.like(fine).change(fine, half(fine), half).float()
    assert (coarse - exact).abs().max() < 0.03 * exact.abs().max()


def test_biases_may_lie_beside() -> None:
    shape, tensors = KINDS["lora"]
    deltas = made(shape, tensors | {"bias": torch.ones(8), "diff_b": torch.full((8,), 2.0)})
    assert [type(delta) for delta in deltas] == [LowRank, Bias, Bias]
    x, layer = torch.zeros(1, 12), nn.Linear(12, 8, bias=False)
    torch.testing.assert_close(add_changes(layer(x), x, [(deltas, 0.5)], layer), torch.full((1, 8), 0.5 * 2.3))
    assert [type(delta) for delta in made(shape, {"diff_b": torch.ones(8)})] == [Bias]


@pytest.mark.parametrize(
    ("shape", "factors", "says"),
    [
        (LINEAR, {"down": (2, 12)}, "half of the pair missing"),
        (LINEAR, {"alpha": ()}, "half of the pair missing"),
        (LINEAR, {"down": (2, 12), "up": (8, 3)}, "ranks that contradict each other"),
        (LINEAR, {"down": (0, 12), "up": (8, 0)}, "ranks that contradict each other"),
        (LINEAR, {"down": (12,), "up": (8, 1)}, "ranks that contradict each other"),
        (LINEAR, {"down": (2, 12, 3, 3), "up": (8, 2, 1, 1)}, "of other sizes"),
        (CONV, {"down": (2, 12, 1, 1), "up": (8, 2, 1, 1)}, "of other sizes"),
        (CONV, {"down": (2, 12), "mid": (2, 2, 5, 5), "up": (8, 2)}, "of other sizes"),
        (CONV, {"down": (2, 12), "mid": (3, 2, 3, 3), "up": (8, 2)}, "ranks that contradict each other"),
        (LINEAR, {"down": (2, 12), "up": (8, 2), "diff": (8, 12)}, "several kinds at once"),
        (LINEAR, {"down": (2, 12), "up": (8, 2), "bias": (7,)}, "of other sizes"),
        (LINEAR, {"down": (2, 12), "up": (8, 2), "magnitude": (12,)}, "of other sizes"),
        (LINEAR, {"hada_w1_a": (8, 2), "hada_w1_b": (2, 12)}, "factors of LoHa missing"),
        (LINEAR, dict.fromkeys(("hada_w1_a", "hada_w2_a"), (8, 2)) | dict.fromkeys(("hada_w1_b", "hada_w2_b"), (3, 12)),
         "ranks that contradict each other"),
        (LINEAR, {"lokr_w1": (2, 4)}, "factors of LoKr missing"),
        (LINEAR, {"lokr_w1": (2, 4), "lokr_w2": (4, 4)}, "of other sizes"),
        (LINEAR, {"lokr_w1": (2,), "lokr_w2": (4, 4)}, "factors of LoKr that contradict each other"),
        (LINEAR, {"lokr_w1": (2, 4), "lokr_w2_a": (4, 2), "lokr_w2_b": (3, 3)}, "ranks that contradict each other"),
        (LINEAR, {"diff": (12, 8)}, "of other sizes"),
    ],
)  # fmt: skip
def test_factors_that_make_no_change_of_the_layer_are_told(
    shape: tuple[int, ...], factors: dict[str, tuple[int, ...]], says: str
) -> None:
    with pytest.raises(Unfit) as caught:
        fit(factors, shape)
    assert says in caught.value.what


NAMES = st.sampled_from(
    ["down", "up", "mid", "dora", "magnitude", "bias", "diff", "diff_b"]
    + [f"hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")]
    + [f"lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")]
)
SIDES = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@settings(max_examples=100)
@given(st.dictionaries(NAMES, SIDES, max_size=5), st.sampled_from([(2, 3), (3, 3), (2, 3, 2, 2), (2, 2, 1, 1)]))
def test_whatever_shapes_a_file_holds_they_fit_or_are_told(
    factors: dict[str, tuple[int, ...]], shape: tuple[int, ...]
) -> None:
    dense_shape(factors)
    try:
        found = fit(factors, shape)
    except Unfit:
        return
    deltas = build(found, {name: torch.ones(side) for name, side in factors.items()}, 1.0, shape)
    layer = nn.Linear(shape[1], shape[0]) if len(shape) == 2 else nn.Conv2d(shape[1], shape[0], shape[2])
    x = torch.ones(2, shape[1]) if len(shape) == 2 else torch.ones(2, shape[1], 3, 3)
    with torch.no_grad():
        assert add_changes(layer(x), x, [(deltas, 1.0)], layer).shape == layer(x).shape


@settings(max_examples=25)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(1, 6), st.floats(-4, 4)), max_size=3),
    st.floats(-2, 2),
    st.integers(0, 100),
)
def test_low_rank_changes_add_up(rows: int, changes: list[tuple[int, float]], weight: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    x, layer = torch.randn(rows, 7, generator=random), nn.Linear(7, 5).requires_grad_(False)
    deltas = tuple(
        LowRank(torch.randn(r, 7, generator=random), torch.randn(5, r, generator=random), scale) for r, scale in changes
    )
    y = layer(x)
    kept = y.clone()
    whole = sum((delta.matrix() for delta in deltas), torch.zeros(()))
    expected = F.linear(x, layer.weight + weight * whole, layer.bias)
    torch.testing.assert_close(add_changes(y, x, [(deltas, weight)], layer), expected, atol=1e-3, rtol=1e-4)
    assert torch.equal(y, kept)


def test_at_weight_zero_the_output_is_the_very_same() -> None:
    y, layer = torch.randn(3, 5), nn.Linear(7, 5)
    assert add_changes(y, torch.randn(3, 7), [((Full(torch.ones(5, 7)),), 0.0)], layer) is y


# --- as peft answers --------------------------------------------------------------------------------------------------


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(12, 8, 3, stride=2, padding=1), nn.Flatten(2), nn.Linear(12, 8))


PEFT: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoraConfig", {"r": 3, "lora_alpha": 5}),
    "lora with biases": ("LoraConfig", {"r": 3, "lora_alpha": 5, "lora_bias": True}),
    "rslora": ("LoraConfig", {"r": 3, "lora_alpha": 5, "use_rslora": True}),
    "dora": ("LoraConfig", {"r": 3, "lora_alpha": 5, "use_dora": True}),
    "loha": ("LoHaConfig", {"r": 3, "alpha": 5}),
    "loha, tucker": ("LoHaConfig", {"r": 3, "alpha": 5, "use_effective_conv2d": True}),
    "lokr": ("LoKrConfig", {"r": 1, "alpha": 5}),
    "lokr, both": ("LoKrConfig", {"r": 1, "alpha": 5, "decompose_both": True, "decompose_factor": 3}),
    "lokr, tucker": ("LoKrConfig", {"r": 1, "alpha": 5, "use_effective_conv2d": True}),
    "lokr of whole factors": ("LoKrConfig", {"r": 8, "alpha": 5}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PEFT)
def test_a_network_answers_as_with_peft(kind: str, tmp_path: Any) -> None:
    peft: Any = pytest.importorskip("peft")
    from limner.engine.adapter_targets import AdapterTargets, network_targets
    from limner.engine.adapters import load_adapter
    from limner.engine.attached import attached

    network = _network().requires_grad_(False)
    x = drawn(2, 12, 5, 8)
    name, options = PEFT[kind]
    targets = network_targets(network)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    wrapped = peft.get_peft_model(network, getattr(peft, name)(target_modules=["0", "2"], **options))
    for key, parameter in wrapped.named_parameters():
        if any(part in key for part in ("lora_", "hada_", "lokr_")):
            parameter.data += 0.3 * drawn(*parameter.shape)
    wrapped.save_pretrained(tmp_path)
    theirs = wrapped(x).detach()
    plain = _network().requires_grad_(False)
    plain.load_state_dict(state)
    loaded = load_adapter(tmp_path, AdapterTargets(targets, {}))
    assert (loaded.status, loaded.matched, loaded.total) == ("applied", 2, 2)
    assert loaded.adapter is not None
    before = plain(x)
    with attached(plain, [((loaded.adapter, 1.0),)] * 2):
        ours = plain(x)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert (ours - before).abs().max() > 0.01
