"""One picture's random numbers: reproducible, apart from each other, and nobody else's business."""

from __future__ import annotations

import math

import pytest
import torch

from limner.engine.noise import Noise

SHAPE = (4, 6, 5)
LARGEST = 2**64 - 1


def _noise(seed: int = 1234, shape: tuple[int, ...] = SHAPE, stream_seed: int | None = None) -> Noise:
    return Noise(seed, shape, 0.03, 14.6, stream_seed=stream_seed)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_initial_noise_is_what_manual_seed_gives_and_can_be_asked_again() -> None:
    noise = _noise()
    assert torch.equal(noise.initial(), torch.randn(SHAPE, generator=_seeded(1234)))
    noise.ancestral()
    assert torch.equal(noise.initial(), _noise().initial())
    state = torch.random.get_rng_state()
    torch.default_generator.manual_seed(1234)
    assert torch.equal(noise.initial(), torch.randn(SHAPE))
    torch.random.set_rng_state(state)


def test_leading_one_gives_the_same_numbers() -> None:
    one, two = _noise(), _noise(shape=(1, *SHAPE))
    assert torch.equal(one.initial(), two.initial()[0])
    assert torch.equal(one.ancestral(), two.ancestral()[0])
    assert torch.equal(one.brownian(2.0, 1.0), two.brownian(2.0, 1.0)[0])


def test_global_random_state_is_not_touched() -> None:
    before = torch.random.get_rng_state()
    noise = _noise()
    for draw in (noise.initial, noise.ancestral, lambda: noise.brownian(3.0, 1.0)):
        assert bool(draw().any())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_numbers_are_float32_whatever_the_default() -> None:
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        noise = _noise()
        drawn = (noise.initial(), noise.ancestral(), noise.brownian(3.0, 1.0), noise.brownian(1.0, 1.0))
    finally:
        torch.set_default_dtype(default)
    assert all(tensor.dtype == torch.float32 and tensor.shape == SHAPE for tensor in drawn)


def test_ancestral_stream_is_the_next_seed_s_and_runs_on() -> None:
    noise, generator = _noise(), _seeded(1235)
    for _ in range(3):
        assert torch.equal(noise.ancestral(), torch.randn(SHAPE, generator=generator))


def test_stream_seed_moves_both_streams_and_leaves_the_initial_noise() -> None:
    plain, moved = _noise(), _noise(stream_seed=99)
    assert torch.equal(plain.initial(), moved.initial())
    assert torch.equal(moved.ancestral(), torch.randn(SHAPE, generator=_seeded(99)))
    assert torch.equal(moved.brownian(2.0, 1.0), _noise(seed=99).brownian(2.0, 1.0))
    assert not torch.equal(moved.brownian(2.0, 1.0), plain.brownian(2.0, 1.0))


def test_largest_seed_works_in_every_stream() -> None:
    noise = _noise(LARGEST)
    assert torch.equal(noise.initial(), torch.randn(SHAPE, generator=_seeded(LARGEST)))
    assert torch.equal(noise.ancestral(), torch.randn(SHAPE, generator=_seeded(0)))
    assert bool(torch.isfinite(noise.brownian(2.0, 1.0)).all())
    assert torch.equal(_noise(0, stream_seed=0).ancestral(), torch.randn(SHAPE, generator=_seeded(0)))


@pytest.mark.parametrize("seed", [-1, LARGEST + 1])
def test_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        _noise(seed)
    with pytest.raises(ValueError, match="out of range"):
        _noise(stream_seed=seed)


def test_brownian_parts_add_up_to_the_whole() -> None:
    noise = _noise()
    whole = noise.brownian(9.0, 1.0) * math.sqrt(8.0)
    parts = noise.brownian(9.0, 4.0) * math.sqrt(5.0) + noise.brownian(4.0, 1.0) * math.sqrt(3.0)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert torch.allclose(noise.brownian(4.0, 9.0), -noise.brownian(9.0, 4.0))


def test_brownian_path_does_not_depend_on_the_order_of_questions() -> None:
    one, two = _noise(), _noise()
    spans = [(14.6, 8.0), (8.0, 3.0), (14.6, 3.0), (3.0, 0.03)]
    first = {span: one.brownian(*span) for span in spans}
    assert all(torch.allclose(two.brownian(*span), first[span], atol=1e-5) for span in reversed(spans))


def test_brownian_increment_has_unit_deviation() -> None:
    noise = _noise(shape=(16, 64, 64))
    for span in ((14.6, 0.03), (5.0, 4.9), (0.04, 0.03)):
        increment = noise.brownian(*span)
        assert abs(float(increment.mean())) < 0.02
        assert float(increment.std()) == pytest.approx(1.0, abs=0.02)


def test_brownian_span_without_length_is_zero() -> None:
    assert not _noise().brownian(2.0, 2.0).any()
    assert not _noise().brownian(2.0, 2.0 + 1e-8).any()
    assert not Noise(1, SHAPE, 1.0, 1.0).brownian(1.0, 1.0).any()


@pytest.mark.filterwarnings("error")
def test_brownian_path_reaches_its_ends_and_not_beyond() -> None:
    sigma_min, sigma_max = (float(torch.tensor(sigma)) for sigma in (0.0291671582, 14.6146411896))
    noise = Noise(1, SHAPE, sigma_min, sigma_max)
    assert bool(torch.isfinite(noise.brownian(sigma_max, sigma_min)).all())
    with pytest.raises(ValueError, match="spans"):
        noise.brownian(15.0, 1.0)
    with pytest.raises(ValueError, match="spans"):
        noise.brownian(1.0, 0.01)
