"""What is measured at each step of a run, and what is made of it at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from jmp_calc.sim.dynamics.settings import MDSettings

MIN_ROWS = 20
"""Fewer logged steps give neither a drift nor an error of the mean temperature."""
BLOCKS = 10
"""Blocks for the error of the mean of a correlated series."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observables:
    """Scalars of one step; the columns of the CSV in this order."""

    step: int
    """Number of time steps done."""
    time_ps: float
    """Simulated time, ps."""
    potential_energy_eV: float
    """Energy from the calculator, eV."""
    kinetic_energy_eV: float
    """Kinetic energy, eV."""
    total_energy_eV: float
    """Potential plus kinetic energy, eV."""
    conserved_energy_eV: float
    """Total energy at the start plus the integration error so far, eV: the total energy
    for nve; constant for exact integration of conservative forces in any ensemble."""
    temperature_K: float
    """Kinetic temperature over the degrees of freedom that can hold energy, K."""
    pressure_GPa: float | None = None
    """Pressure with that of the ideal gas, GPa; None and no column if the cell is
    fixed."""
    volume_A3: float | None = None
    """Volume of the cell, cubic angstrom; None and no column if the cell is fixed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """State of a system after one step, independent of what it does next."""

    observables: Observables
    """Its scalars."""
    positions: Float[np.ndarray, "atoms 3"]
    """Angstrom."""
    momenta: Float[np.ndarray, "atoms 3"]
    """ASE units."""
    energy: float
    """Energy from the calculator, without terms of constraints, eV."""
    forces: Float[np.ndarray, "atoms 3"]
    """Forces from the calculator, without the constraints, eV/angstrom."""
    cell: Float[np.ndarray, "3 3"]
    """Cell vectors as rows, angstrom."""
    stress: Float[np.ndarray, "6"] | None
    """Stress from the calculator, Voigt, eV/angstrom^3; None if the cell is fixed."""
    integrator: Mapping[str, np.ndarray]
    """State of thermostat and barostat; see :func:`ase_state.capture`."""
    computed: Mapping[str, np.ndarray]
    """Results and what they were computed for; see :class:`held.Held`."""
    random: Mapping[str, Any]
    """State of the random numbers, as numpy's bit generators tell it."""
    force_spread: float | None = None
    """Largest spread of a force, eV/angstrom; see :attr:`held.Held.force_spread`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Summary of a series of observables; None where the series is too short."""

    mean_temperature_K: float
    """Mean over the second half of the series, K."""
    mean_temperature_error_K: float | None
    """Standard error of that mean, K; see :func:`summarize`; None in a ramp."""
    energy_drift_meV_per_atom_per_ps: float | None
    """Slope of the conserved energy by least squares; None in a ramp with a barostat,
    where nothing is conserved."""
    conserved_energy_change_meV_per_atom: float
    """Conserved energy at the end minus that at the start."""
    mean_pressure_GPa: float | None
    """Mean over the second half of the series, GPa; None if the cell is fixed."""
    mean_volume_A3: float | None
    """Mean over the second half of the series; None if the cell is fixed."""


def summarize(
    rows: Sequence[Observables],
    *,
    n_atoms: int,
    degrees_of_freedom: int,
    settings: MDSettings,
) -> Statistics:
    """Return mean temperature and energy drift of a series.

    The error of the mean comes from block averages. In a short run they cannot see
    that the total energy relaxes as slowly as the thermostat works, so with a
    thermostat the error is never below the canonical one (:func:`canonical_error`).

    Args:
        rows: Observables in the order of time; at least one.
        n_atoms: Number of atoms, for energies per atom.
        degrees_of_freedom: Number that the temperatures refer to.
        settings: Those of the run.
    """
    second_half = rows[len(rows) // 2 :]
    temperature = np.array([row.temperature_K for row in second_half])
    error = drift = None
    has_barostat = rows[0].volume_A3 is not None
    if len(rows) >= MIN_ROWS and not settings.is_ramp:
        means = [float(np.mean(block)) for block in np.array_split(temperature, BLOCKS)]
        error = float(np.std(means, ddof=1) / np.sqrt(BLOCKS))
        if settings.ensemble == "nvt":
            duration_ps = second_half[-1].time_ps - second_half[0].time_ps
            least = canonical_error(settings, degrees_of_freedom, duration_ps)
            error = max(error, least)
    if len(rows) >= MIN_ROWS and not (has_barostat and settings.is_ramp):
        drift = _slope(rows)
    change = rows[-1].conserved_energy_eV - rows[0].conserved_energy_eV
    return Statistics(
        mean_temperature_K=float(temperature.mean()),
        mean_temperature_error_K=error,
        energy_drift_meV_per_atom_per_ps=None
        if drift is None
        else 1000.0 * drift / n_atoms,
        conserved_energy_change_meV_per_atom=1000.0 * change / n_atoms,
        mean_pressure_GPa=_mean([row.pressure_GPa for row in second_half]),
        mean_volume_A3=_mean([row.volume_A3 for row in second_half]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def canonical_error(
    settings: MDSettings, degrees_of_freedom: int, duration_ps: float
) -> float:
    """Return the standard error that a mean kinetic temperature must have, K.

    Kinetic energy fluctuates by T sqrt(2 / n) for n degrees of freedom. Under Langevin
    dynamics with friction g its correlation time is 1 / (2 g), for free particles and
    for harmonic ones with g below their frequency.

    Args:
        settings: Temperature and friction of the thermostat.
        degrees_of_freedom: Number n that the temperature refers to.
        duration_ps: Time averaged over, ps.

    Source:
        Autocorrelation of the kinetic energy from the Langevin equation of a harmonic
        oscillator, exp(-g t) cos^2(w t); Chandrasekhar, Rev. Mod. Phys. 15, 1 (1943).
    """
    spread_K = settings.temperature_K * math.sqrt(2.0 / degrees_of_freedom)
    relaxations = 1000.0 * settings.friction_per_fs * duration_ps
    return spread_K / math.sqrt(max(relaxations, 1.0))


def _slope(rows: Sequence[Observables]) -> float | None:
    """Return the slope of the conserved energy, eV/ps; None if time stands still."""
    time = np.array([row.time_ps for row in rows])
    energy = np.array([row.conserved_energy_eV for row in rows])
    time -= time.mean()
    norm = float(time @ time)
    return float(time @ (energy - energy.mean())) / norm if norm > 0 else None
