"""Errors of correlated series."""

from __future__ import annotations

import numpy as np
import pytest

from jmp_calc.sim.analysis.statistics import (
    BlockedHistogram,
    correlation_time,
    mean_error,
    slope,
)


def correlated(n: int, memory: float, seed: int) -> np.ndarray:
    """x[k] = memory x[k-1] + noise; its correlation time is (1+m) / (1-m) / 2."""
    rng = np.random.default_rng(seed)
    x = np.zeros(n)
    for k in range(1, n):
        x[k] = memory * x[k - 1] + rng.normal()
    return x


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_correlation_time_is_found(memory) -> None:
    found = correlation_time(correlated(20000, memory, seed=0))
    assert found == pytest.approx((1 + memory) / (1 - memory) / 2, rel=0.15)


def test_errors_of_mean_and_slope_are_the_spread_of_many() -> None:
    time = np.arange(1000.0)
    series = [correlated(1000, 0.8, seed) for seed in range(60)]
    spread = np.std([x.mean() for x in series])
    assert np.mean([mean_error(x) for x in series]) == pytest.approx(spread, rel=0.3)
    slopes = [slope(time, x + 0.01 * time) for x in series]
    values = [value for value, _ in slopes]
    assert np.mean(values) == pytest.approx(0.01, abs=0.001)
    assert np.mean([e for _, e in slopes]) == pytest.approx(np.std(values), rel=0.3)


def test_short_and_constant_series() -> None:
    assert mean_error(np.ones(5)) is None
    assert mean_error(np.ones(50)) == 0.0
    assert slope(np.arange(3.0), np.array([1.0, 3.0, 5.0])) == (2.0, None)


@pytest.mark.parametrize("n", [1, 7, 16, 33, 100, 1000])
def test_a_blocked_mean_is_the_mean(n) -> None:
    rows = np.random.default_rng(0).normal(size=(n, 3))
    histogram = BlockedHistogram((3,))
    for row in rows:
        histogram.add(row)
    assert histogram.n_frames == n
    np.testing.assert_allclose(histogram.mean, rows.mean(axis=0), atol=1e-12)
    if n == 1000:
        np.testing.assert_allclose(histogram.error, 1 / np.sqrt(n), rtol=0.6)
        first, second = histogram.halves
        assert np.abs(first - rows[: n // 2].mean(axis=0)).max() < 0.06
        assert np.abs(second - rows[n // 2 :].mean(axis=0)).max() < 0.06
    if n == 1:
        assert histogram.error is None
        assert histogram.halves is None
