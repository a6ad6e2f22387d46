"""Whether forces are those of an energy: drift at constant energy, and a curl."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from jaxtyping import Float

from jmp_calc.units import FS

_DISPLACEMENT = 1e-3
_SETTLING = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Conservation:
    """What a short simulation and finite differences say about forces."""

    drift_meV_per_atom_per_ps: float
    """Slope of the total energy at constant energy; NaN if it was not finite."""
    asymmetry: float
    """|J - J^T| / |J + J^T| of the derivative of the forces by the positions; zero for
    the forces of an energy."""
    milliseconds_per_step: float
    """Time of an energy and its forces."""


def conservation(
    weights: str | Path,
    atoms: Atoms,
    *,
    head: str,
    n_steps: int,
    timestep_fs: float = 0.5,
    temperature_K: float = 300.0,
) -> Conservation:
    """Run a molecule at constant energy and differentiate its forces.

    Args:
        weights: Name or file.
        atoms: A molecule, near a minimum.
        head: Head to use.
        n_steps: Steps of the simulation.
        timestep_fs: Length of a step.
        temperature_K: Of the first velocities.
    """
    from ase.md.verlet import VelocityVerlet

    from jmp_calc import JMPCalculator
    from jmp_calc.sim.dynamics.velocities import set_velocities

    atoms = atoms.copy()
    atoms.calc = JMPCalculator(weights, head=head, tags="atoms", dtype="float64")
    asymmetry = jacobian_asymmetry(atoms)
    rng = np.random.default_rng(0)
    set_velocities(atoms, temperature_K=temperature_K, rng=rng)
    energies: list[float] = []
    dynamics = VelocityVerlet(atoms, timestep=timestep_fs * FS)
    dynamics.attach(lambda: energies.append(float(atoms.get_total_energy())))
    began = time.perf_counter()
    dynamics.run(n_steps)
    seconds = time.perf_counter() - began
    slope = energy_slope(np.array(energies), 1e-3 * timestep_fs)
    return Conservation(
        drift_meV_per_atom_per_ps=1000 * slope / len(atoms),
        asymmetry=asymmetry,
        milliseconds_per_step=1000 * seconds / n_steps,
    )


def energy_slope(energies: Float[np.ndarray, " steps"], timestep_ps: float) -> float:
    """Return the slope of a straight line through energies after they have settled.

    Args:
        energies: Total energy of each step, eV; the first fifth is left out.
        timestep_ps: Time between them.

    Returns:
        eV/ps; NaN if an energy is not finite.
    """
    if not np.isfinite(energies).all():
        return float("nan")
    first = int(len(energies) * _SETTLING)
    times = timestep_ps * np.arange(len(energies))
    return float(np.polyfit(times[first:], energies[first:], 1)[0])


def jacobian_asymmetry(atoms: Atoms) -> float:
    """Return |J - J^T| / |J + J^T| of the derivative J of the forces.

    Args:
        atoms: With a calculator; they are where they were afterwards.
    """
    start = atoms.positions.copy()
    rows = []
    for k in range(start.size):
        ends = []
        for sign in (1, -1):
            moved = start.copy()
            moved.flat[k] += sign * _DISPLACEMENT
            atoms.positions = moved
            ends.append(atoms.get_forces().ravel())
        rows.append((ends[0] - ends[1]) / (2 * _DISPLACEMENT))
    atoms.positions = start
    jacobian = np.array(rows)
    size = float(np.linalg.norm(jacobian + jacobian.T))
    return float(np.linalg.norm(jacobian - jacobian.T)) / size if size else 0.0
