from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmp_calc.errors import ArgumentError
from jmp_train.data import mixture as mixture_module
from jmp_train.data.mixture import balanced_batches, build_mixture, epoch_batches

SMALL = (1000, 100, 10, 40)
FULL = (100_000_000, 8_000_000, 2_000_000, 10_000_000)

# Training specification, section 1.5.
VECTORS = [
    (SMALL, 2.0, (0.618725, 0.195658, 0.061872, 0.123745), (1000, 317, 100, 200), 1617),
    (SMALL, 1.0, (0.869565, 0.086957, 0.008696, 0.034783), SMALL, 1150),
    (
        FULL,
        2.0,
        (0.5746, 0.1625, 0.0813, 0.1817),
        (100_000_000, 28_284_272, 14_142_136, 31_622_777),
        174_049_185,
    ),
    (
        FULL,
        3.0,
        (0.4616, 0.1989, 0.1253, 0.2142),
        (100_000_000, 43_088_694, 27_144_177, 46_415_889),
        216_648_760,
    ),
    (FULL, math.inf, (0.25,) * 4, (100_000_000,) * 4, 400_000_000),
]


@pytest.mark.parametrize(("sizes", "temperature", "shares", "expanded", "n"), VECTORS)
def test_mixtures_are_those_of_the_specification(
    sizes, temperature, shares, expanded, n
) -> None:
    mixture = build_mixture(sizes, temperature)
    assert mixture.probabilities == pytest.approx(shares, abs=5e-5)
    assert mixture.expanded == expanded
    assert mixture.epoch_length == n


def test_rounding_noise_does_not_add_a_sample() -> None:
    sizes = (133_934_018, 8_225_293, 3_952_056, 9_000_000)
    assert build_mixture(sizes, 1.0).expanded == sizes


def test_the_epoch_visits_the_largest_set_once_and_cycles_through_the_others() -> None:
    mixture = build_mixture((100, 10), 2.0)
    order = mixture.epoch_order(seed=0, epoch=0)
    visits = np.bincount(order, minlength=110)
    assert mixture.expanded == (100, 32)
    assert (visits[:100] == 1).all()
    assert visits[100:].tolist() == [4, 4, 3, 3, 3, 3, 3, 3, 3, 3]


def test_the_order_follows_from_seed_and_epoch() -> None:
    mixture = build_mixture((50, 20), 2.0)
    first = mixture.epoch_order(seed=1, epoch=0)
    assert (first == mixture.epoch_order(seed=1, epoch=0)).all()
    assert (first != mixture.epoch_order(seed=1, epoch=1)).any()
    assert (first != mixture.epoch_order(seed=2, epoch=0)).any()


def test_an_empty_set_and_a_temperature_of_zero_are_errors() -> None:
    with pytest.raises(ArgumentError, match=r"\[3, 0\]; each set needs at least one"):
        build_mixture((3, 0), 2.0)
    with pytest.raises(ArgumentError, match=r"temperature is 0\.0; it must be pos"):
        build_mixture((3, 1), 0.0)
    with pytest.raises(ArgumentError, match=r"1e-09, at which the smallest of sets"):
        build_mixture((3, 1), 1e-9)


def batches_of(
    order: np.ndarray, cost: np.ndarray, *, max_cost: float, seed: int = 0
) -> list[list[int]]:
    return list(
        epoch_batches(
            order, lambda i: cost[i].astype(float), max_cost=max_cost, seed=seed
        )
    )


@given(
    costs=st.lists(st.integers(1, 200), min_size=1, max_size=200),
    max_cost=st.floats(1, 150),
    seed=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_sample_of_the_order_is_in_exactly_one_batch_and_batches_fit(
    costs, max_cost, seed
) -> None:
    order = np.random.default_rng(seed).integers(0, len(costs), 2 * len(costs))
    cost = np.array(costs)
    batches = batches_of(order, cost, max_cost=max_cost, seed=seed)
    assert sorted(i for batch in batches for i in batch) == sorted(order.tolist())
    for batch in batches:
        assert cost[batch].sum() <= max_cost or len(batch) == 1


def test_batches_cost_nearly_the_same() -> None:
    cost = np.random.default_rng(0).integers(5, 30, 5000)
    batches = batches_of(np.arange(5000), cost, max_cost=200.0)
    spent = np.array([cost[batch].sum() for batch in batches])
    assert spent.mean() > 170
    assert np.percentile(spent, 2) > 150


def test_a_large_system_is_joined_by_few_small_ones() -> None:
    cost = np.array([150] + [10] * 45)
    batches = batches_of(np.arange(46), cost, max_cost=200.0)
    (with_slab,) = [batch for batch in batches if 0 in batch]
    assert len(with_slab) <= 6
    assert max(len(batch) for batch in batches) >= 14


def test_batches_follow_from_their_arguments_and_stay_near_the_order() -> None:
    cost = np.full(10_000, 10)
    order = np.arange(10_000)
    batches = batches_of(order, cost, max_cost=100.0, seed=3)
    assert batches == batches_of(order, cost, max_cost=100.0, seed=3)
    assert batches != batches_of(order, cost, max_cost=100.0, seed=4)
    assert max(max(batch) - min(batch) for batch in batches) < 400


def test_a_batch_must_be_allowed_some_cost() -> None:
    with pytest.raises(ArgumentError, match=r"max_cost is 0\.0; it must be positive"):
        batches_of(np.arange(2), np.ones(2), max_cost=0.0)


def test_windows_do_not_depend_on_the_pieces_in_which_the_order_is_read(
    monkeypatch,
) -> None:
    order = np.random.default_rng(0).permutation(3000)
    cost = np.random.default_rng(1).integers(1, 90, 3000)
    whole = batches_of(order, cost, max_cost=100.0)
    monkeypatch.setattr(mixture_module, "_CHUNK", 77)
    assert batches_of(order, cost, max_cost=100.0) == whole


def test_a_balanced_step_gives_the_dearest_systems_a_batch_each() -> None:
    """Training specification, 1.6, by hand: 9, 8, 7, then 4 joins 7, 3 joins 8, ..."""
    cost = np.array([3.0, 9.0, 4.0, 7.0, 8.0, 1.0])
    batches = balanced_batches(np.arange(10, 16), cost, 3)
    assert batches == [[11, 15], [14, 10], [13, 12]]


def test_a_step_of_fewer_systems_than_batches_has_fewer_batches() -> None:
    assert balanced_batches(np.array([5, 7]), np.array([1.0, 2.0]), 4) == [[7], [5]]
