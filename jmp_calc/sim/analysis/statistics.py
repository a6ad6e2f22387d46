"""Errors of averages over correlated series."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

MIN_POINTS = 20
"""Shorter series get no error."""
WINDOW = 5.0
"""The sum over correlations ends at this multiple of the correlation time."""


def correlation_time(series: Float[np.ndarray, "points"]) -> float:
    """Return the integrated autocorrelation time, in points; 0.5 without correlation.

    A mean over n points has the error of n / (2 t) independent ones.

    Args:
        series: Equally spaced in time.

    Source:
        Sokal, in Functional Integration (1997), section 3, with its automatic window.
    """
    deviation = series - series.mean()
    n = len(deviation)
    spectrum = np.fft.rfft(deviation, 2 * n)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:n] / np.arange(n, 0, -1)
    if correlation[0] <= 0:
        return 0.5
    times = 0.5 + np.cumsum(correlation[1:] / correlation[0])
    ends = np.flatnonzero(np.arange(1, n) >= WINDOW * times)
    time = times[ends[0]] if len(ends) else times[-1]
    return float(max(time, 0.5))


def mean_error(series: Float[np.ndarray, "points"]) -> float | None:
    """Return the standard error of the mean of a correlated series.

    Args:
        series: Equally spaced in time.

    Returns:
        The error; None if the series is too short to tell.
    """
    n = len(series)
    if n < MIN_POINTS:
        return None
    independent = n / (2.0 * correlation_time(series))
    return float(series.std(ddof=1) / np.sqrt(max(independent, 1.0)))


def slope(
    time: Float[np.ndarray, "points"], series: Float[np.ndarray, "points"]
) -> tuple[float, float | None]:
    """Return the slope by least squares and its standard error.

    Args:
        time: Abscissa, equally spaced.
        series: Ordinate; its deviations from the line may be correlated.
    """
    centred = time - time.mean()
    norm = float(centred @ centred)
    value = float(centred @ (series - series.mean())) / norm
    if len(series) < MIN_POINTS:
        return value, None
    rest = series - series.mean() - value * centred
    variance = float(rest @ rest) / (len(rest) - 2)
    return value, float(np.sqrt(2.0 * correlation_time(rest) * variance / norm))


class BlockedHistogram:
    """A mean over frames that remembers its parts, in bounded memory.

    Args:
        shape: Of what one frame adds.
        blocks: Number of parts kept; at twice as many, neighbours are merged.
    """

    def __init__(self, shape: tuple[int, ...], *, blocks: int = 16) -> None:
        self._shape = shape
        self._blocks = blocks
        self._frames_per_part = 1
        self._parts: list[np.ndarray] = []
        self._filling = np.zeros(shape)
        self._n_filling = 0

    @property
    def n_frames(self) -> int:
        """Number of frames so far."""
        return len(self._parts) * self._frames_per_part + self._n_filling

    def add(self, values: np.ndarray) -> None:
        """Take in one frame.

        Args:
            values: Of the shape given.
        """
        self._filling += values
        self._n_filling += 1
        if self._n_filling < self._frames_per_part:
            return
        self._parts.append(self._filling)
        self._filling, self._n_filling = np.zeros(self._shape), 0
        if len(self._parts) == 2 * self._blocks:
            pairs = zip(self._parts[::2], self._parts[1::2], strict=True)
            self._parts = [first + second for first, second in pairs]
            self._frames_per_part *= 2

    @property
    def mean(self) -> np.ndarray:
        """Mean over all frames."""
        return (sum(self._parts) + self._filling) / max(self.n_frames, 1)

    @property
    def error(self) -> np.ndarray | None:
        """Standard error of the mean from the spread of its parts; None: too few."""
        if len(self._parts) < self._blocks // 2:
            return None
        parts = np.array(self._parts) / self._frames_per_part
        error: np.ndarray = parts.std(axis=0, ddof=1) / np.sqrt(len(parts))
        return error

    @property
    def halves(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Means of the first and the second half; None: there is only one part."""
        half = len(self._parts) // 2
        if half == 0:
            return None
        count = half * self._frames_per_part
        first = sum(self._parts[:half]) / count
        second = sum(self._parts[half : 2 * half]) / count
        return np.asarray(first), np.asarray(second)
