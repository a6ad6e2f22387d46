"""Reads a moving system after each step."""

from __future__ import annotations

import numpy as np
from ase.md.md import MolecularDynamics
from jaxtyping import Float

from jmp_calc.sim.dynamics.ase_state import capture, extended_energy
from jmp_calc.sim.dynamics.ensembles import find_ensemble
from jmp_calc.sim.dynamics.observables import Observables, Snapshot
from jmp_calc.sim.dynamics.settings import MDSettings
from jmp_calc.units import FS, GPA, KB


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
