"""Equations of state fitted to energies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase.eos
import numpy as np

from jmp_calc.units import GPA


@dataclass(frozen=True, kw_only=True, slots=True)
class EosFit:
    """An equation of state fitted to energies."""

    equation: str
    """Which one."""
    volume_A3: float
    """Volume of lowest energy, angstrom^3."""
    energy_eV: float
    """Energy there, eV."""
    bulk_modulus_GPa: float
    """Bulk modulus there, GPa."""
    bulk_modulus_derivative: float
    """Its derivative with respect to pressure."""
    rms_meV_per_atom: float
    """Root mean square distance of the energies from the curve, meV per atom."""
    parameters: tuple[float, float, float, float]
    """E0, B0, B', V0 in ASE units, in the order of ``ase.eos``."""

    def energies(self, volumes: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the curve at some volumes, eV.

        Args:
            volumes: Volumes of the cell, angstrom^3.
        """
        curve = getattr(ase.eos, self.equation)
        return np.asarray(curve(np.asarray(volumes, dtype=float), *self.parameters))


def fit_eos(
    volumes: np.ndarray, energies: np.ndarray, equation: str, *, n_atoms: int
) -> EosFit | None:
    """Fit an equation of state by least squares.

    Args:
        volumes: Volumes of the cell, angstrom^3.
        energies: Energies of the cell, eV.
        equation: One of ``EQUATIONS``.
        n_atoms: Atoms of the cell, for the error per atom.

    Returns:
        The curve, or None if the energies have no minimum.
    """
    if np.polyfit(volumes - volumes.mean(), energies, 2)[0] <= 0:
        return None
    state = ase.eos.EquationOfState(volumes, energies, eos=equation)
    try:
        # ASE warns where the minimum is outside; the caller tells it in the result
        volume, energy, modulus = state.fit(warn=False)
    except (RuntimeError, ValueError):
        # what scipy's curve_fit raises if it finds nothing
        return None
    parameters = tuple(float(value) for value in state.eos_parameters)
    if not (np.isfinite(parameters).all() and volume > 0 and modulus > 0):
        return None
    residual = getattr(ase.eos, equation)(volumes, *parameters) - energies
    return EosFit(
        equation=equation,
        volume_A3=float(volume),
        energy_eV=float(energy),
        bulk_modulus_GPa=float(modulus / GPA),
        bulk_modulus_derivative=parameters[2],
        rms_meV_per_atom=float(1e3 * np.sqrt(np.mean(residual**2)) / n_atoms),
        parameters=parameters,  # type: ignore[arg-type]  # four, by EQUATIONS
    )
