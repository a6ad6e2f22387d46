"""What is measured at each step of a run, and what is made of it at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.md.md import MolecularDynamics
from jaxtyping import Float

from jmp_calc.sim.dynamics.ase_state import capture, extended_energy
from jmp_calc.sim.dynamics.ensembles import find_ensemble
from jmp_calc.sim.dynamics.settings import MDSettings
from jmp_calc.units import FS, GPA, KB

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


class Meter:
    """Reads a moving system after each step; keeps the integral of the work done.

    The conserved energy changes in each step by the change of potential energy minus
    the work of the forces along the way (trapezoid rule), plus the change of
    dt^2/8 sum(f^2/m). That is the change of total energy for velocity Verlet; with a
    Langevin thermostat it leaves the heat out. It drifts if the time step is too long
    or if the forces are not the gradient of the energy.

    Source:
        Bussi and Parrinello, Phys. Rev. E 75, 056707 (2007), eqs. 19 and 20.
    """

    def __init__(
        self,
        dynamics: MolecularDynamics,
        settings: MDSettings,
        rng: np.random.Generator,
        *,
        degrees_of_freedom: int,
        conserved_energy_eV: float | None = None,
    ) -> None:
        """Take what is read from.

        Args:
            dynamics: The integrator and its atoms.
            settings: Of the run.
            rng: What the thermostat draws from.
            degrees_of_freedom: Number that temperatures refer to.
            conserved_energy_eV: Where the conserved energy goes on from; None: the
                total energy.
        """
        self._dynamics = dynamics
        self._atoms = dynamics.atoms
        self._timestep_fs = settings.timestep_fs
        self._has_barostat = find_ensemble(settings).has_barostat
        self._degrees_of_freedom = degrees_of_freedom
        self._rng = rng
        self._conserved = conserved_energy_eV
        self._before: tuple[np.ndarray, np.ndarray, float] | None = None

    def read(self, step: int) -> Snapshot:
        """Return the state of the system, which has done ``step`` steps."""
        atoms = self._atoms
        potential = float(atoms.get_potential_energy())
        kinetic = float(atoms.get_kinetic_energy())
        if self._has_barostat:
            extended = extended_energy(self._dynamics)
            self._conserved = potential + kinetic + extended
        else:
            self._add_step(potential, potential + kinetic)
        assert self._conserved is not None
        observables = Observables(
            step=step,
            time_ps=step * self._timestep_fs / 1000.0,
            potential_energy_eV=potential,
            kinetic_energy_eV=kinetic,
            total_energy_eV=potential + kinetic,
            conserved_energy_eV=self._conserved,
            temperature_K=2.0 * kinetic / (self._degrees_of_freedom * KB),
            **(self._cell_observables() if self._has_barostat else {}),
        )
        return Snapshot(
            observables=observables,
            positions=atoms.get_positions(),
            momenta=atoms.get_momenta(),
            energy=float(atoms.get_potential_energy(apply_constraint=False)),
            forces=atoms.get_forces(apply_constraint=False),
            cell=np.array(atoms.cell),
            stress=atoms.get_stress() if self._has_barostat else None,
            integrator=capture(self._dynamics),
            computed=atoms.calc.capture(),
            random=dict(self._rng.bit_generator.state),
            force_spread=atoms.calc.force_spread,
        )

    def _cell_observables(self) -> dict[str, float]:
        stress = self._atoms.get_stress(include_ideal_gas=True)
        return {
            "pressure_GPa": -float(stress[:3].mean()) / GPA,
            "volume_A3": float(self._atoms.get_volume()),
        }

    def _add_step(self, potential: float, total: float) -> None:
        atoms = self._atoms
        positions = atoms.get_positions()
        forces = atoms.get_forces(md=True)
        masses = atoms.get_masses()[:, None]
        half_kick = float(
            np.sum(self._allowed(forces) ** 2 / masses)
            * (self._timestep_fs * FS) ** 2
            / 8.0
        )
        potential_and_kick = potential + half_kick
        if self._conserved is None:
            self._conserved = total
        elif self._before is not None:
            positions_before, forces_before, energy_before = self._before
            path = positions - positions_before
            work = 0.5 * float(np.sum((forces + forces_before) * path))
            self._conserved += potential_and_kick - energy_before + work
        self._before = (positions, forces, potential_and_kick)

    def _allowed(self, forces: Float[np.ndarray, "atoms 3"]) -> np.ndarray:
        # a force changes the momentum, so the constraints act on it as on a momentum
        # (FixCom.adjust_forces does something else)
        allowed = forces.copy()
        for constraint in self._atoms.constraints:
            if hasattr(constraint, "adjust_momenta"):
                constraint.adjust_momenta(self._atoms, allowed)
        return allowed


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
