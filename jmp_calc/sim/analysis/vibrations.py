"""Velocity autocorrelation and vibrational density of states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from jaxtyping import Float

from jmp_calc.sim.analysis.diffusion import ATOMS_AT_ONCE, correlate

PADDING = 4
"""Zeros make the grid of frequencies this much finer than the resolution."""
LEAST_LAGS = 16
"""Fewer frames give no spectrum."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spectrum:
    """Velocity autocorrelation and its Fourier transform."""

    time: Float[np.ndarray, "lags"]
    """Time, in the unit given."""
    correlation: Mapping[str, Float[np.ndarray, "lags"]]
    """Autocorrelation of the velocities, weighted with the masses, by element and in
    total; each 1 at time 0."""
    frequency: Float[np.ndarray, "frequencies"]
    """Frequency, one over the unit of time."""
    density: Mapping[str, Float[np.ndarray, "frequencies"]]
    """Density of states: the integral of "total" is 1, and the elements add up to
    it."""


def internal_velocities(atoms: Atoms) -> Float[np.ndarray, "atoms 3"]:
    """Return velocities without the motion of the whole, ASE units.

    The centre of mass is brought to rest, and a molecule stops rotating; nothing is
    changed if atoms are fixed.

    Args:
        atoms: A frame with velocities.
    """
    velocities = atoms.get_velocities()
    if atoms.constraints:
        return np.asarray(velocities)
    masses = atoms.get_masses()
    velocities = velocities - masses @ velocities / masses.sum()
    if atoms.pbc.any() or len(atoms) < 2:
        return np.asarray(velocities)
    arms = atoms.positions - atoms.get_center_of_mass()
    angular = np.sum(masses[:, None] * np.cross(arms, velocities), axis=0)
    inertia = np.einsum("n,nk,nk->", masses, arms, arms) * np.eye(3) - np.einsum(
        "n,ni,nj->ij", masses, arms, arms
    )
    # pinv: a linear molecule has no inertia around its axis
    spin = np.linalg.pinv(inertia, rcond=1e-8) @ angular
    return np.asarray(velocities - np.cross(spin, arms))


def velocity_spectrum(
    velocities: Float[np.ndarray, "frames atoms 3"],
    symbols: list[str],
    masses: Float[np.ndarray, "atoms"],
    *,
    timestep: float,
    resolution: float,
) -> Spectrum | None:
    """Return autocorrelation and density of states.

    The autocorrelation, averaged over all origins, is damped by a Hann window that ends
    after one over the resolution (at most half the trajectory) and transformed.

    Args:
        velocities: At equal steps of time.
        symbols: Element of each atom.
        masses: Of each atom, amu.
        timestep: Time between frames.
        resolution: Full width at half maximum of a sharp line, one over time.

    Returns:
        The spectrum; None if there are too few frames, or nothing moves.

    Source:
        Dickey and Paskin, Phys. Rev. 188, 1407 (1969), eq. 8: the density of states is
        the Fourier transform of the velocity autocorrelation.
    """
    n_frames = len(velocities)
    n_lags = min(n_frames // 2, round(1.0 / (resolution * timestep)))
    if n_lags < LEAST_LAGS:
        return None
    elements = np.array(symbols)
    parts = {}
    for element in dict.fromkeys(symbols):
        atoms = np.flatnonzero(elements == element)
        total = np.zeros(n_frames)
        for start in range(0, len(atoms), ATOMS_AT_ONCE):
            some = atoms[start : start + ATOMS_AT_ONCE]
            total += correlate(velocities[:, some] * np.sqrt(masses[some])[:, None])
        parts[element] = (total / (n_frames - np.arange(n_frames)))[:n_lags]
    whole = sum(parts.values(), np.zeros(n_lags))
    if whole[0] <= 0:
        return None
    curves = {"total": whole, **parts}
    window = 0.5 * (1.0 + np.cos(np.pi * np.arange(n_lags) / n_lags))
    length = 2 * PADDING * n_lags
    frequency = np.fft.rfftfreq(length, timestep)
    density = {
        name: _cosine_transform(curve * window, length) * 2.0 * timestep / whole[0]
        for name, curve in curves.items()
    }
    return Spectrum(
        time=timestep * np.arange(n_lags),
        correlation={
            name: curve / curve[0] if curve[0] > 0 else curve
            for name, curve in curves.items()
        },
        frequency=frequency,
        density=density,
    )


def _cosine_transform(curve: Float[np.ndarray, "lags"], length: int) -> np.ndarray:
    # twice the cosine series, with the first term once: the transform of an even curve
    return np.asarray(2.0 * np.fft.rfft(curve, length).real - curve[0])


def peaks_of(
    spectrum: Spectrum, *, most: int = 10, least: float = 0.03
) -> list[tuple[float, float]]:
    """Return frequencies and heights of the highest maxima, by frequency.

    Args:
        spectrum: A spectrum.
        most: How many.
        least: Smallest prominence as a fraction of the highest maximum.
    """
    from scipy.signal import find_peaks

    curve = spectrum.density["total"]
    places, _ = find_peaks(curve, prominence=least * curve.max())
    highest = sorted(places, key=lambda place: -curve[place])[:most]
    return [(float(spectrum.frequency[k]), float(curve[k])) for k in sorted(highest)]
