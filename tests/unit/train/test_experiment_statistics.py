"""Means, intervals and fits against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jmp_calc.errors import ArgumentError
from jmp_train.experiments.statistics import (
    Interval,
    difference_in_differences,
    estimate,
    frechet_distance,
    paired_difference,
    power_law,
    relative_improvement,
)


def test_an_estimate_has_the_standard_deviation_of_a_sample() -> None:
    found = estimate([1.0, 2.0, 6.0])
    assert found.mean == 3.0
    # squares 4 + 1 + 9 over n - 1 = 2
    assert found.std == pytest.approx(math.sqrt(7.0), rel=1e-15)
    assert str(found) == "3 ± 2.6 (3 seeds)"


def test_a_single_seed_has_no_spread_and_says_so() -> None:
    assert str(estimate([12.5])) == "12.5 (1 seed)"


def test_large_numbers_are_written_without_an_exponent() -> None:
    assert str(estimate([100.0, 300.0])) == "200 ± 140 (2 seeds)"
    gap = Interval(mean=-254.3, low=-1812.0, high=1303.0)
    assert str(gap) == "-254 [-1810, +1300], not resolved"


def test_nothing_cannot_be_averaged() -> None:
    with pytest.raises(ArgumentError, match="no values to average; train at least one"):
        estimate([])


def test_the_paired_difference_has_students_interval() -> None:
    found = paired_difference([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])
    # differences 2, 3, 1: mean 2, s = 1, t(0.975, 2) = 4.302653 (tables)
    half = 4.302653 / math.sqrt(3)
    assert found.mean == 2.0
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-6)
    assert not found.is_resolved
    assert str(found).endswith("not resolved")


def test_pairs_that_differ_by_the_same_amount_are_resolved() -> None:
    assert paired_difference([3.0, 4.0], [1.0, 2.0]).is_resolved


def test_pairs_without_a_measurement_are_left_out() -> None:
    found = paired_difference([3.0, math.nan, 5.0], [1.0, 2.0, math.nan])
    assert (found.mean, found.low) == (2.0, pytest.approx(math.nan, nan_ok=True))
    assert str(found) == "+2 (one pair, no interval)"


def test_a_difference_of_nothing_is_not_measured() -> None:
    assert str(paired_difference([math.nan], [1.0])) == "not measured"


def test_lists_of_different_length_are_no_pairs() -> None:
    with pytest.raises(ArgumentError, match="2 values cannot be paired with 1"):
        paired_difference([1.0, 2.0], [1.0])


def test_the_paired_interval_holds_the_truth_in_about_95_percent_of_cases() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        noise = generator.normal(0.3, 1.0, 5)
        found = paired_difference(noise.tolist(), [0.0] * 5)
        hits += found.low <= 0.3 <= found.high
    # 950 expected, standard deviation of a binomial count: 6.9
    assert abs(hits - 950) < 4 * 6.9


def test_improvement_is_relative_to_the_reference() -> None:
    assert relative_improvement(3.0, 4.0) == 25.0


def test_improvement_over_no_error_is_not_measured() -> None:
    assert math.isnan(relative_improvement(3.0, 0.0))


def test_the_difference_in_differences_and_its_bootstrap_hold_a_known_effect() -> None:
    generator = np.random.default_rng(1)
    n, effect = 400, 2.0
    before = generator.normal(10.0, 1.0, (2, n))
    gain = generator.normal(1.0, 1.0, (2, n))
    gain[0] += effect
    after = before - gain
    found = difference_in_differences((before[0], after[0]), (before[1], after[1]))
    assert found.mean == pytest.approx(gain[0].mean() - gain[1].mean(), rel=1e-12)
    assert found.low < effect < found.high
    # normal theory: 1.96 sqrt(1/n + 1/n) on either side; a bootstrap is within 10 %
    half = 1.96 * math.sqrt(2 / n)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)


def test_an_empty_group_has_no_difference() -> None:
    none, some = np.zeros(0), np.ones(3)
    assert math.isnan(difference_in_differences((none, none), (some, some)).mean)


def test_systems_that_were_not_measured_do_not_spoil_the_difference() -> None:
    inside = (np.array([3.0, np.nan, 3.0]), np.array([1.0, 1.0, 1.0]))
    outside = (np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    assert difference_in_differences(inside, outside).mean == 2.0


def test_the_frechet_distance_of_two_gaussians_is_the_closed_form() -> None:
    """Diagonal covariances: |m1 - m2|^2 + sum of (s1 - s2)^2."""
    # four points at +-s in each direction have exactly this covariance
    first, second = _cloud([1.0, 2.0]), _cloud([3.0, 0.5]) + np.array([1.0, -2.0])
    expected = 1.0 + 4.0 + (1.0 - 3.0) ** 2 + (2.0 - 0.5) ** 2
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-12)


def test_the_frechet_distance_does_not_depend_on_the_axes() -> None:
    first, second = _cloud([1.0, 2.0]), _cloud([3.0, 0.5]) + 1.0
    angle = 0.7
    turn = np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    turned = frechet_distance(first @ turn, second @ turn)
    assert turned == pytest.approx(frechet_distance(first, second), rel=1e-10)


def test_a_cloud_has_no_distance_from_itself() -> None:
    cloud = np.random.default_rng(0).normal(size=(20, 5))
    # roots of eigenvalues that cancel: square root of the rounding of doubles
    assert frechet_distance(cloud, cloud) < 1e-6


def _cloud(deviations: list[float]) -> np.ndarray:
    """Points whose covariance (n - 1) is diagonal with these deviations."""
    d = len(deviations)
    factor = math.sqrt((2 * d - 1) / 2)
    return np.concatenate([s * factor * np.diag(deviations) for s in (1, -1)])


def test_a_power_law_is_found_exactly() -> None:
    sizes = [10.0, 100.0, 1000.0]
    fit = power_law(sizes, [5.0 * s**-0.25 for s in sizes])
    assert fit is not None
    assert (fit.factor, fit.exponent) == pytest.approx((5.0, 0.25), rel=1e-12)


def test_the_uncertainty_of_a_power_law_is_that_of_linear_regression() -> None:
    fit = power_law([1.0, math.e, math.e**2], [1.0, math.e, 1.0])
    # x = 0, 1, 2 and y = 0, 1, 0: slope 0, residual sum 2/3, one degree of freedom
    assert fit is not None
    assert fit.exponent == pytest.approx(0.0, abs=1e-12)
    assert fit.scatter == pytest.approx(math.sqrt(2 / 3), rel=1e-12)
    assert fit.spread == pytest.approx(math.sqrt(2 / 3) / math.sqrt(2), rel=1e-12)


def test_the_band_of_a_power_law_is_narrowest_in_the_middle() -> None:
    fit = power_law([1.0, 10.0, 100.0], [1.0, 0.4, 0.11])
    assert fit is not None
    band = fit.band(np.array([1.0, 10.0, 1000.0]))
    assert band is not None
    width = np.log(band[1] / band[0])
    assert width[1] < width[0] < width[2]


@pytest.mark.parametrize("errors", [[1.0, math.nan], [1.0, 0.0]])
def test_one_size_with_an_error_gives_no_power_law(errors) -> None:
    assert power_law([1.0, 10.0], errors) is None
