"""Means, paired differences and their uncertainties; nothing is rounded away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jmp_calc.errors import ArgumentError

CONFIDENCE = 0.95
"""Level of every interval."""

_RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean over repeats, with what is known about its spread."""

    mean: float
    """Mean."""
    std: float
    """Standard deviation of the repeats (n - 1); NaN for a single one."""
    n: int
    """Repeats."""

    def __str__(self) -> str:
        if self.n < 2:
            return f"{self.mean:.4g} (1 seed)"
        return f"{self.mean:.4g} ± {self.std:.2g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A difference and the interval that holds it with 95 % confidence."""

    mean: float
    """Mean difference."""
    low: float
    """Lower end; NaN if there are too few values to say."""
    high: float
    """Upper end; NaN if there are too few values to say."""

    @property
    def is_resolved(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:+.3g} (too few repeats for an interval)"
        verdict = "" if self.is_resolved else ", not resolved"
        return f"{self.mean:+.3g} [{self.low:+.3g}, {self.high:+.3g}]{verdict}"


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and standard deviation.

    Args:
        values: At least one.

    Raises:
        ArgumentError: If there are none.
    """
    if not values:
        raise ArgumentError("there are no values to average; train at least one seed")
    array = np.asarray(values, dtype=np.float64)
    std = float(array.std(ddof=1)) if len(array) > 1 else math.nan
    return Estimate(mean=float(array.mean()), std=std, n=len(array))


def relative_improvement(error: float, reference: float) -> float:
    """Return by how much an error is smaller than another, in percent.

    Args:
        error: Of the arm in question.
        reference: Of the arm that it is compared with, not zero.

    Source:
        Training specification, section 7: 100 (1 - MAE_A / MAE_B).
    """
    return 100.0 * (1.0 - error / reference)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the mean of first - second over pairs, with Student's interval.

    Args:
        first: One value per seed.
        second: The values of the same seeds.

    Raises:
        ArgumentError: If the lengths differ or there are no values.
    """
    if len(first) != len(second) or not first:
        raise ArgumentError(
            f"{len(first)} values cannot be paired with {len(second)}; give one of "
            "each per seed"
        )
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second)
    mean = float(difference.mean())
    if len(difference) < 2:
        return Interval(mean=mean, low=math.nan, high=math.nan)
    from scipy.stats import t

    half = float(
        t.ppf((1 + CONFIDENCE) / 2, len(difference) - 1)
        * difference.std(ddof=1)
        / math.sqrt(len(difference))
    )
    return Interval(mean=mean, low=mean - half, high=mean + half)


def difference_in_differences(
    inside: tuple[Float[np.ndarray, " inside"], Float[np.ndarray, " inside"]],
    outside: tuple[Float[np.ndarray, " outside"], Float[np.ndarray, " outside"]],
    *,
    seed: int = 0,
) -> Interval:
    """Return how much more a change helps inside a group than outside, bootstrapped.

    Args:
        inside: Absolute errors of the systems of the group, before and after.
        outside: Those of all other systems.
        seed: Seed of the resampling.

    Returns:
        (before - after) inside minus (before - after) outside, with the percentile
        interval over resampled systems; NaN ends if a group has fewer than two.
    """
    gains = [np.asarray(pair[0]) - np.asarray(pair[1]) for pair in (inside, outside)]
    if min(len(gain) for gain in gains) == 0:
        return Interval(mean=math.nan, low=math.nan, high=math.nan)
    mean = float(gains[0].mean() - gains[1].mean())
    if min(len(gain) for gain in gains) < 2:
        return Interval(mean=mean, low=math.nan, high=math.nan)
    generator = np.random.default_rng(seed)
    drawn = [
        np.array(
            [
                generator.choice(gain, len(gain)).mean()
                for _ in range(_RESAMPLES // 10 if len(gain) > 1000 else _RESAMPLES)
            ]
        )
        for gain in gains
    ]
    n = min(len(means) for means in drawn)
    low, high = np.quantile(
        drawn[0][:n] - drawn[1][:n], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    )
    return Interval(mean=mean, low=float(low), high=float(high))


def frechet_distance(
    first: Float[np.ndarray, "first dim"], second: Float[np.ndarray, "second dim"]
) -> float:
    """Return the squared Fréchet distance of two clouds of features as Gaussians.

    Args:
        first: One row per system.
        second: One row per system.

    Source:
        Dowson and Landau, J. Multivar. Anal. 12, 450 (1982).
    """
    means = [cloud.mean(axis=0) for cloud in (first, second)]
    covariances = [
        np.cov(cloud, rowvar=False)
        if len(cloud) > 1
        else np.zeros((cloud.shape[1],) * 2)
        for cloud in (first, second)
    ]
    # trace of the root of C1 C2, which has the eigenvalues of the symmetric form below
    values, vectors = np.linalg.eigh(np.atleast_2d(covariances[0]))
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ np.atleast_2d(covariances[1]) @ root)
    trace = sum(float(np.trace(np.atleast_2d(c))) for c in covariances)
    gap = float(np.square(means[0] - means[1]).sum())
    return max(gap + trace - 2 * float(np.sqrt(mixed.clip(min=0)).sum()), 0.0)


def power_law(
    sizes: Sequence[float], errors: Sequence[float]
) -> tuple[float, float] | None:
    """Return (a, b) of the fit error = a size^-b in logarithms; None below 2 sizes.

    Args:
        sizes: Such as parameters or training systems, positive.
        errors: Positive.
    """
    if len(set(sizes)) < 2 or min(errors) <= 0:
        return None
    slope, intercept = np.polyfit(np.log(sizes), np.log(errors), 1)
    return float(np.exp(intercept)), float(-slope)
