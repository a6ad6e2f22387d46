"""A system in motion: integrator, random numbers and measurement, begun or restored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.md.md import MolecularDynamics

from jmp_calc.sim.dynamics import ase_state
from jmp_calc.sim.dynamics.checkpoint import Checkpoint
from jmp_calc.sim.dynamics.ensembles import find_ensemble
from jmp_calc.sim.dynamics.held import Held
from jmp_calc.sim.dynamics.integrators import (
    build_dynamics,
    degrees_of_freedom,
    prepare,
)
from jmp_calc.sim.dynamics.meter import Meter
from jmp_calc.sim.dynamics.observables import Snapshot
from jmp_calc.sim.dynamics.settings import MDSettings
from jmp_calc.sim.output import without_results


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """A system that can do steps."""

    atoms: Atoms
    """The moving system."""
    dynamics: MolecularDynamics
    """ASE's integrator."""
    meter: Meter
    """Reads the system after each step."""
    settings: MDSettings
    """Physics."""
    degrees_of_freedom: int
    """Number that temperatures refer to."""
    has_new_velocities: bool
    """Whether the velocities at the start of the run were drawn."""

    @classmethod
    def begin(
        cls, atoms: Atoms, settings: MDSettings, resumed: Checkpoint | None
    ) -> Motion:
        """Make a system ready to move.

        Args:
            atoms: The input, with its calculator; not changed.
            settings: Physics.
            resumed: State to go on from; None: begin with the input.

        Raises:
            ArgumentError: If settings or constraints are not for dynamics.
            UnsupportedSystemError: If the system cannot move.
        """
        rng = np.random.default_rng(settings.seed)
        system, has_new_velocities = prepare(atoms, settings, rng)
        has_stress = find_ensemble(settings).has_barostat
        system.calc = held = Held(atoms.calc, has_stress=has_stress)
        if resumed is not None:
            has_new_velocities = resumed.has_new_velocities
            system.set_cell(resumed.cell, apply_constraint=False)
            system.set_positions(resumed.positions, apply_constraint=False)
            system.set_momenta(resumed.momenta, apply_constraint=False)
            rng.bit_generator.state = dict(resumed.random)
            held.restore(system, resumed.computed)
        dynamics = build_dynamics(system, settings, rng)
        number = degrees_of_freedom(system, settings)
        motion = cls(
            atoms=system,
            dynamics=dynamics,
            meter=Meter(
                dynamics,
                settings,
                rng,
                degrees_of_freedom=number,
                conserved_energy_eV=None
                if resumed is None
                else resumed.observables.conserved_energy_eV,
            ),
            settings=settings,
            degrees_of_freedom=number,
            has_new_velocities=has_new_velocities,
        )
        if resumed is not None:
            dynamics.nsteps = resumed.observables.step
            motion._set_targets(dynamics.nsteps)
            ase_state.restore(dynamics, resumed.integrator)
        return motion

    def step(self) -> Snapshot:
        """Do one step and return the state after it."""
        self._set_targets(self.dynamics.nsteps + 1)
        self.dynamics.step()  # type: ignore[attr-defined]  # of each integrator
        self.dynamics.nsteps += 1
        return self.meter.read(self.dynamics.nsteps)

    def template(self, atoms: Atoms) -> Atoms:
        """Return the system as it is written: with the constraints of the input.

        It has nothing that trajectories cannot hold; see ``output.without_results``.

        Args:
            atoms: The input.
        """
        template = without_results(self.atoms)
        template.set_constraint(atoms.constraints)
        return template

    def _set_targets(self, step: int) -> None:
        """Let thermostat and barostat follow their ramps."""
        settings = self.settings
        if settings.temperature_end_K is not None:
            ase_state.set_temperature(self.dynamics, settings.temperature_at(step))
        if settings.pressure_end_GPa is not None:
            ase_state.set_pressure(self.dynamics, settings.pressure_at(step))
