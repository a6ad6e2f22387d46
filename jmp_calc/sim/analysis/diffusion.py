"""Mean squared displacements and diffusion coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ATOMS_AT_ONCE = 256
"""Atoms whose paths are Fourier transformed together, to bound memory."""
BLOCKS = 5
"""Parts of a trajectory whose diffusion coefficients give the error."""
LEAST_LAGS = 6
"""Points of a fit, so that both its halves tell a power of time."""


def mean_squared_displacement(
    paths: Float[np.ndarray, "frames atoms dim"],
) -> Float[np.ndarray, "frames"]:
    """Return the squared displacement by time, averaged over origins and atoms.

    Args:
        paths: Unwrapped positions at equal steps of time.

    Source:
        Calandrini et al., Collection SFN 12, 201 (2011), section 4.2: by Fourier
        transforms.
    """
    n_frames, n_atoms, _ = paths.shape
    total = np.zeros(n_frames)
    lags = np.arange(n_frames)
    for start in range(0, n_atoms, ATOMS_AT_ONCE):
        part = paths[:, start : start + ATOMS_AT_ONCE]
        # squares of large numbers would lose the differences
        part = part - part.mean(axis=0)
        squares = np.concatenate([[0.0], np.cumsum(np.sum(part**2, axis=(1, 2)))])
        ends = squares[n_frames - lags] + squares[-1] - squares[lags]
        total += (ends - 2.0 * correlate(part)) / (n_frames - lags)
    # rounding may leave -1e-12 at lag 0
    return np.asarray(np.maximum(total / n_atoms, 0.0))


def correlate(
    series: Float[np.ndarray, "frames atoms dim"],
) -> Float[np.ndarray, "frames"]:
    """Return the sum over origins, atoms and components of the autocorrelation.

    Args:
        series: Vectors of atoms at equal steps of time.

    Returns:
        Sum of n - k products at lag k of n frames.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    n_frames = len(series)
    length = next_fast_len(2 * n_frames, real=True)
    spectrum = rfft(series.reshape(n_frames, -1), length, axis=0)
    power = np.sum(spectrum.real**2 + spectrum.imag**2, axis=1)
    return np.asarray(irfft(power, length)[:n_frames])


@dataclass(frozen=True, kw_only=True, slots=True)
class Diffusion:
    """Diffusion coefficient from the slope of a mean squared displacement."""

    coefficient: float
    """Slope over twice the number of dimensions, square angstrom per unit of time."""
    error: float | None
    """Standard error from the coefficients of parts of the trajectory."""
    exponent: float
    """Slope in the double logarithmic plot over the same range: 1 for diffusion, 2 for
    free flight, 0 for atoms that stay at their places. That of the half of the range
    that is further from 1: in between a vibration passes 1 on its way from 2 to 0."""
    reach: float
    """Root of the mean squared displacement at the end of the range, angstrom."""


def fit_diffusion(
    paths: Float[np.ndarray, "frames atoms dim"],
    timestep: float,
    start: float,
    stop: float,
) -> Diffusion | None:
    """Fit a diffusion coefficient.

    Args:
        paths: Unwrapped positions at equal steps of time, angstrom.
        timestep: Time between frames.
        start: Shortest time of the fit.
        stop: Longest time of the fit.

    Returns:
        The coefficient; None if the trajectory has too few frames for the range.

    Source:
        Einstein relation, <r^2> = 2 d D t.
    """
    curve = mean_squared_displacement(paths)
    lags = _lags(timestep, start, stop)
    if len(lags) < LEAST_LAGS or lags[-1] >= len(curve):
        return None
    dim = paths.shape[2]
    error = None
    if len(paths) // BLOCKS > lags[-1]:
        parts = np.array_split(paths, BLOCKS)
        found = [
            _slope(mean_squared_displacement(part), lags, timestep) for part in parts
        ]
        error = float(np.std(found, ddof=1) / np.sqrt(BLOCKS)) / (2 * dim)
    middle = len(lags) // 2
    exponents = [_exponent(curve, part) for part in (lags[:middle], lags[middle:])]
    return Diffusion(
        coefficient=_slope(curve, lags, timestep) / (2 * dim),
        error=error,
        exponent=max(exponents, key=lambda power: abs(power - 1.0)),
        reach=float(np.sqrt(curve[lags[-1]])),
    )


def _lags(timestep: float, start: float, stop: float) -> np.ndarray:
    first = max(1, int(np.ceil(start / timestep - 1e-6)))
    return np.arange(first, int(np.floor(stop / timestep + 1e-6)) + 1)


def _exponent(curve: np.ndarray, lags: np.ndarray) -> float:
    logarithm = np.log(np.maximum(curve[lags], 1e-300))
    return float(np.polyfit(np.log(lags), logarithm, 1)[0])


def _slope(curve: np.ndarray, lags: np.ndarray, timestep: float) -> float:
    return float(np.polyfit(lags * timestep, curve[lags], 1)[0])
