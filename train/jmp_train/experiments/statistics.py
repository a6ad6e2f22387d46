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
RESAMPLES = 2000
"""Draws of a bootstrap."""

_CHUNK = 2_000_000


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
        return f"{self.mean:.4g} ± {float(f'{self.std:.2g}'):g} ({self.n} seeds)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A difference and the interval that holds it with 95 % confidence."""

    mean: float
    """Mean difference; NaN if there is nothing to compare."""
    low: float
    """Lower end; NaN if there are too few values to say."""
    high: float
    """Upper end; NaN if there are too few values to say."""

    @property
    def is_resolved(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "not measured"
        # three digits, without the exponent that .3g gives to thousands
        mean, low, high = (
            f"{float(f'{value:.3g}'):+g}" for value in (self.mean, self.low, self.high)
        )
        if math.isnan(self.low):
            return f"{mean} (one pair, no interval)"
        verdict = "" if self.is_resolved else ", not resolved"
        return f"{mean} [{low}, {high}]{verdict}"


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
        reference: Of the arm that it is compared with.

    Returns:
        NaN if either was not measured or the reference is zero.

    Source:
        Training specification, section 7: 100 (1 - MAE_A / MAE_B).
    """
    return 100.0 * (1.0 - error / reference) if reference else math.nan


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the mean of first - second over pairs, with Student's interval.

    Pairs of which one value was not measured (NaN) are left out.

    Args:
        first: One value per seed.
        second: The values of the same seeds.

    Raises:
        ArgumentError: If the lengths differ.
    """
    if len(first) != len(second):
        raise ArgumentError(
            f"{len(first)} values cannot be paired with {len(second)}; give one of "
            "each per seed"
        )
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, np.float64)
    difference = difference[np.isfinite(difference)]
    if len(difference) == 0:
        return Interval(mean=math.nan, low=math.nan, high=math.nan)
    mean = float(difference.mean())
    if len(difference) < 2:
        return Interval(mean=mean, low=math.nan, high=math.nan)
    half = _student(len(difference) - 1) * float(
        difference.std(ddof=1) / math.sqrt(len(difference))
    )
    return Interval(mean=mean, low=mean - half, high=mean + half)


def difference_in_differences(
    inside: tuple[Float[np.ndarray, " inside"], Float[np.ndarray, " inside"]],
    outside: tuple[Float[np.ndarray, " outside"], Float[np.ndarray, " outside"]],
    *,
    seed: int = 0,
) -> Interval:
    """Return how much more a change helps inside a group than outside, bootstrapped.

    Systems that were not measured (NaN) are left out.

    Args:
        inside: Absolute errors of the systems of the group, before and after.
        outside: Those of all other systems.
        seed: Seed of the resampling.

    Returns:
        (before - after) inside minus (before - after) outside, with the percentile
        interval over resampled systems; NaN ends if a group has fewer than two.
    """
    gains = [np.asarray(pair[0]) - np.asarray(pair[1]) for pair in (inside, outside)]
    gains = [gain[np.isfinite(gain)] for gain in gains]
    if min(map(len, gains)) == 0:
        return Interval(mean=math.nan, low=math.nan, high=math.nan)
    mean = float(gains[0].mean() - gains[1].mean())
    if min(map(len, gains)) < 2:
        return Interval(mean=mean, low=math.nan, high=math.nan)
    generator = np.random.default_rng(seed)
    means = [_resampled_means(gain, generator) for gain in gains]
    low, high = np.quantile(
        means[0] - means[1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    )
    return Interval(mean=mean, low=float(low), high=float(high))


def _resampled_means(
    values: Float[np.ndarray, " values"], generator: np.random.Generator
) -> Float[np.ndarray, " resamples"]:
    means = np.empty(RESAMPLES)
    step = max(1, _CHUNK // len(values))
    for first in range(0, RESAMPLES, step):
        n = min(step, RESAMPLES - first)
        drawn = generator.integers(len(values), size=(n, len(values)))
        means[first : first + n] = values[drawn].mean(axis=1)
    return means


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
    covariances = [_covariance(cloud) for cloud in (first, second)]
    # trace of the root of C1 C2, which has the eigenvalues of the symmetric form below
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ covariances[1] @ root)
    trace = sum(float(np.trace(c)) for c in covariances)
    gap = float(np.square(means[0] - means[1]).sum())
    return max(gap + trace - 2 * float(np.sqrt(mixed.clip(min=0)).sum()), 0.0)


def _covariance(cloud: Float[np.ndarray, "systems dim"]) -> Float[np.ndarray, "a a"]:
    if len(cloud) < 2:
        return np.zeros((cloud.shape[1],) * 2)
    return np.asarray(np.atleast_2d(np.cov(cloud, rowvar=False)))


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerLaw:
    """The fit error = factor size^-exponent, a straight line in logarithms."""

    factor: float
    """Error at size 1."""
    exponent: float
    """How steeply the error falls."""
    spread: float
    """Standard error of the exponent; NaN with fewer than three points."""
    scatter: float
    """Standard deviation of the points about the line, in natural logarithms; NaN with
    fewer than three points."""
    center: float
    """Mean of the logarithms of the sizes."""
    width: float
    """Root of the sum of squares about it."""
    n: int
    """Points."""

    def at(self, sizes: Float[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
        """Return the fitted errors.

        Args:
            sizes: Positive.
        """
        return np.asarray(self.factor * np.asarray(sizes) ** -self.exponent)

    def band(
        self, sizes: Float[np.ndarray, " sizes"]
    ) -> tuple[Float[np.ndarray, " sizes"], Float[np.ndarray, " sizes"]] | None:
        """Return the ends of the 95 % band of the line; None with too few points.

        Args:
            sizes: Positive.
        """
        if self.n < 3:
            return None
        away = (np.log(sizes) - self.center) / self.width
        half = _student(self.n - 2) * self.scatter * np.sqrt(1 / self.n + away**2)
        line = self.at(sizes)
        return line * np.exp(-half), line * np.exp(half)

    def __str__(self) -> str:
        if self.n < 3:
            return f"error ∝ n^{-self.exponent:.2g} (two points, no interval)"
        half = _student(self.n - 2) * self.spread
        return f"error ∝ n^({-self.exponent:.2g} ± {half:.2g})"


def power_law(sizes: Sequence[float], errors: Sequence[float]) -> PowerLaw | None:
    """Fit error = factor size^-exponent; None with fewer than two sizes.

    Args:
        sizes: Such as parameters or training systems, positive; seeds repeat a size.
        errors: Of each; those that are not positive or not measured are left out.
    """
    pairs = [(s, e) for s, e in zip(sizes, errors, strict=True) if e > 0 and e < np.inf]
    if len({s for s, _ in pairs}) < 2:
        return None
    x, y = np.log(np.array(pairs, dtype=np.float64)).T
    slope, intercept = np.polyfit(x, y, 1)
    width = float(np.sqrt(np.square(x - x.mean()).sum()))
    scatter = math.nan
    if len(x) > 2:
        left = y - (slope * x + intercept)
        scatter = float(np.sqrt(np.square(left).sum() / (len(x) - 2)))
    return PowerLaw(
        factor=float(np.exp(intercept)),
        exponent=float(-slope),
        spread=scatter / width,
        scatter=scatter,
        center=float(x.mean()),
        width=width,
        n=len(x),
    )


def _student(freedom: int) -> float:
    """Return the two-sided quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
