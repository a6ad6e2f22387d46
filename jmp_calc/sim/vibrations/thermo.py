"""Thermochemistry of a structure from its vibrations, by ASE."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.thermochemistry import HarmonicThermo, IdealGasThermo
from jaxtyping import Float

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.vibrations.hessian import Modes, rigid_motions
from jmp_calc.sim.vibrations.rotations import symmetry_number
from jmp_calc.sim.vibrations.settings import VibrationsSettings
from jmp_calc.units import KB, PER_CM

SOFT_PER_CM = 50.0
"""Vibration below which the harmonic entropy means little, 1/cm."""

_GEOMETRIES: dict[int, Literal["monatomic", "linear", "nonlinear"]] = {
    3: "monatomic",
    5: "linear",
    6: "nonlinear",
}
"""Motions of the whole body -> what ASE calls such a molecule."""

# Motions of the whole body are left out already. Older versions of ASE take no more
# energies than there are vibrations, and need not be told.
_TAKE_ALL: dict[str, Any] = (
    {"vib_selection": "all"}
    if "vib_selection" in inspect.signature(IdealGasThermo).parameters
    else {}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Thermochemistry:
    """Energies at a temperature, potential energy included, eV."""

    model: str
    """``ideal-gas`` or ``harmonic``."""
    geometry: str | None
    """monatomic, linear or nonlinear; None for the harmonic model."""
    symmetry_number: int | None
    """Rotations that turn the molecule into itself; None for the harmonic model."""
    spin: float | None
    """Total electron spin; None for the harmonic model."""
    temperature_K: float
    """Temperature, K."""
    pressure_Pa: float | None
    """Pressure, Pa; None for the harmonic model."""
    potential_energy_eV: float
    """Energy of the structure at rest, eV."""
    zero_point_energy_eV: float
    """Half a quantum of every vibration, eV."""
    internal_energy_eV: float
    """Internal energy U, eV."""
    enthalpy_eV: float | None
    """Enthalpy H, eV; None for the harmonic model."""
    entropy_eV_per_K: float
    """Entropy S, eV/K."""
    free_energy_eV: float
    """Gibbs energy G of the ideal gas, or Helmholtz energy F, eV."""


def compute_thermochemistry(
    atoms: Atoms, modes: Modes, energy: float, settings: VibrationsSettings
) -> Thermochemistry | None:
    """Return the thermochemistry of a structure, imaginary modes left out.

    Args:
        atoms: The structure at rest.
        modes: Its modes.
        energy: Its potential energy, eV.
        settings: Model and conditions.

    Returns:
        The energies, or None if none are asked for.

    Raises:
        UnsupportedSystemError: If the model does not fit the structure.
    """
    model = settings.thermo
    is_free = rigid_motions(atoms).shape[1] in _GEOMETRIES and not atoms.pbc.any()
    if model == "auto":
        model = "ideal-gas" if is_free else "harmonic"
    if model == "none":
        return None
    quanta = usable_quanta(modes)
    if model == "harmonic":
        return _harmonic(quanta, energy, settings.temperature_K)
    if not is_free:
        raise UnsupportedSystemError(
            "an ideal gas needs a molecule without fixed atoms and without periodic "
            "directions; remove pbc and constraints, or use thermo=harmonic "
            "(--thermo harmonic)"
        )
    return _ideal_gas(atoms, quanta, energy, settings)


def _harmonic(
    quanta: Float[np.ndarray, "vibrations"], energy: float, temperature: float
) -> Thermochemistry:
    internal, entropy, free = energy, 0.0, energy
    # ASE takes an empty list for none given
    if len(quanta):
        thermo = HarmonicThermo(list(quanta), potentialenergy=energy)
        internal = float(thermo.get_internal_energy(temperature, verbose=False))
        entropy = float(thermo.get_entropy(temperature, verbose=False))
        free = float(thermo.get_helmholtz_energy(temperature, verbose=False))
    return Thermochemistry(
        model="harmonic",
        geometry=None,
        symmetry_number=None,
        spin=None,
        temperature_K=temperature,
        pressure_Pa=None,
        potential_energy_eV=energy,
        zero_point_energy_eV=float(quanta.sum() / 2),
        internal_energy_eV=internal,
        enthalpy_eV=None,
        entropy_eV_per_K=entropy,
        free_energy_eV=free,
    )


def _ideal_gas(
    atoms: Atoms,
    quanta: Float[np.ndarray, "vibrations"],
    energy: float,
    settings: VibrationsSettings,
) -> Thermochemistry:
    geometry = _GEOMETRIES[rigid_motions(atoms).shape[1]]
    rotations = settings.symmetry_number or symmetry_number(atoms)
    temperature = settings.temperature_K
    gas = IdealGasThermo(
        list(quanta),
        geometry,
        potentialenergy=energy,
        atoms=atoms,
        symmetrynumber=rotations,
        spin=settings.spin,
        **_TAKE_ALL,
    )
    enthalpy = float(gas.get_enthalpy(temperature, verbose=False))
    conditions = {"temperature": temperature, "pressure": settings.pressure_Pa}
    return Thermochemistry(
        model="ideal-gas",
        geometry=geometry,
        symmetry_number=rotations,
        spin=settings.spin,
        temperature_K=temperature,
        pressure_Pa=settings.pressure_Pa,
        potential_energy_eV=energy,
        zero_point_energy_eV=float(quanta.sum() / 2),
        internal_energy_eV=enthalpy - KB * temperature,
        enthalpy_eV=enthalpy,
        entropy_eV_per_K=float(gas.get_entropy(**conditions, verbose=False)),
        free_energy_eV=float(gas.get_gibbs_energy(**conditions, verbose=False)),
    )


def usable_quanta(modes: Modes) -> Float[np.ndarray, "vibrations"]:
    """Return the energies of the vibrations that are not imaginary, eV.

    Args:
        modes: Of the structure.
    """
    waves = modes.vibrations_per_cm
    return waves[waves > 0] * PER_CM
