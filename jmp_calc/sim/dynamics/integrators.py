"""Integrators: one builder per ensemble, and what the system that they move must be.

What is known of an ensemble without any of this is in :mod:`ensembles`, so that a
command line can name them all before the integrators of ASE (and with them scipy) are
imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT
from ase.md.verlet import VelocityVerlet

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.dynamics import ase_state
from jmp_calc.sim.dynamics.constraints import (
    INTERNAL,
    check_constraints,
    fix_center_of_mass,
    fix_rotation,
)
from jmp_calc.sim.dynamics.ensembles import find_ensemble
from jmp_calc.sim.dynamics.settings import MDSettings
from jmp_calc.sim.dynamics.velocities import (
    check_masses_and_momenta,
    repartition_hydrogen_mass,
    set_velocities,
)
from jmp_calc.units import FS, GPA, KB

Builder = Callable[[Atoms, MDSettings, np.random.Generator], MolecularDynamics]


def build_nve(
    atoms: Atoms,
    settings: MDSettings,
    rng: np.random.Generator,  # noqa: ARG001 (the table's signature; nothing random)
) -> MolecularDynamics:
    """Return velocity Verlet dynamics: constant energy.

    Source:
        ``ase.md.verlet``; Swope et al., J. Chem. Phys. 76, 637 (1982).
    """
    return VelocityVerlet(atoms, settings.timestep_fs * FS)


def build_langevin(
    atoms: Atoms, settings: MDSettings, rng: np.random.Generator
) -> MolecularDynamics:
    """Return Langevin dynamics: constant temperature.

    ``fixcm=False``: ASE's own way to hold the centre of mass samples a wrong ensemble;
    :func:`fix_center_of_mass` does it by a constraint.

    Source:
        ``ase.md.langevin``; Vanden-Eijnden and Ciccotti, Chem. Phys. Lett. 429, 310
        (2006), eq. 23.
    """
    return Langevin(
        atoms,
        settings.timestep_fs * FS,
        temperature_K=settings.temperature_K,
        friction=settings.friction_per_fs / FS,
        fixcm=False,
        rng=rng,
    )


def build_bussi(
    atoms: Atoms, settings: MDSettings, rng: np.random.Generator
) -> MolecularDynamics:
    """Return dynamics with stochastic velocity rescaling: constant temperature.

    Source:
        ``ase.md.bussi``; Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101
        (2007).
    """
    return Bussi(
        atoms,
        settings.timestep_fs * FS,
        temperature_K=settings.temperature_K,
        taut=settings.thermostat_time_fs * FS,
        rng=rng,
    )


def build_nose_hoover(
    atoms: Atoms,
    settings: MDSettings,
    rng: np.random.Generator,  # noqa: ARG001 (deterministic)
) -> MolecularDynamics:
    """Return dynamics with a Nose-Hoover chain of three: constant temperature.

    Source:
        ``ase.md.nose_hoover_chain``; Martyna, Klein and Tuckerman, J. Chem. Phys. 97,
        2635 (1992).
    """
    return ase_state.ConstrainedNoseHooverChain(
        atoms,
        settings.timestep_fs * FS,
        temperature_K=settings.temperature_K,
        tdamp=settings.thermostat_time_fs * FS,
    )


def build_npt(
    atoms: Atoms,
    settings: MDSettings,
    rng: np.random.Generator,  # noqa: ARG001 (deterministic)
) -> MolecularDynamics:
    """Return dynamics at constant temperature and pressure; the cell keeps its shape.

    Source:
        ``ase.md.nose_hoover_chain``; Martyna, Tobias and Klein, J. Chem. Phys. 101,
        4177 (1994).
    """
    return IsotropicMTKNPT(atoms, **_coupling(settings))


def build_npt_full(
    atoms: Atoms,
    settings: MDSettings,
    rng: np.random.Generator,  # noqa: ARG001 (deterministic)
) -> MolecularDynamics:
    """Return dynamics at constant temperature and pressure; all of the cell moves.

    Source:
        As for :func:`build_npt`.
    """
    return MTKNPT(atoms, **_coupling(settings))


def _coupling(settings: MDSettings) -> dict[str, Any]:
    return {
        "timestep": settings.timestep_fs * FS,
        "temperature_K": settings.temperature_K,
        "pressure_au": settings.pressure_GPa * GPA,
        "tdamp": settings.thermostat_time_fs * FS,
        "pdamp": settings.barostat_time_fs * FS,
    }


BUILDERS: dict[str, Builder] = {
    "nve": build_nve,
    "nvt": build_langevin,
    "nvt-bussi": build_bussi,
    "nvt-nhc": build_nose_hoover,
    "npt": build_npt,
    "npt-full": build_npt_full,
    # the same equations with thermostats that never move; the temperature in the
    # settings sets the inertia of the cell
    "nph": build_npt,
    "nph-full": build_npt_full,
}
"""Builders by the names of ``ENSEMBLES``."""


def build_dynamics(
    atoms: Atoms, settings: MDSettings, rng: np.random.Generator
) -> MolecularDynamics:
    """Return the ASE integrator for the chosen ensemble.

    Args:
        atoms: Prepared by :func:`prepare`; the integrator moves it in place.
        settings: Ensemble, time step, temperature, friction.
        rng: Source of the thermostat's random numbers.

    Raises:
        ArgumentError: If the ensemble is unknown, or needs another version of ASE.
    """
    ensemble = find_ensemble(settings)
    dynamics = BUILDERS[settings.ensemble](atoms, settings, rng)
    ase_state.check_version(dynamics)
    ase_state.set_degrees_of_freedom(dynamics, degrees_of_freedom(atoms, settings))
    if ensemble.has_barostat and not ensemble.has_thermostat:
        ase_state.freeze_chains(dynamics)
    return dynamics


def degrees_of_freedom(atoms: Atoms, settings: MDSettings) -> int:
    """Return the number of degrees of freedom that hold kinetic energy.

    ASE's count knows the constraints. With a barostat there can be none, and the
    centre of mass rests because it did so at the start.

    Args:
        atoms: Prepared by :func:`prepare`.
        settings: Of the run.
    """
    number = int(atoms.get_number_of_degrees_of_freedom())
    if find_ensemble(settings).has_barostat and len(atoms) > 1:
        number -= 3
    return number


def prepare(
    atoms: Atoms, settings: MDSettings, rng: np.random.Generator
) -> tuple[Atoms, bool]:
    """Return a copy that is ready to move, and whether its velocities are new.

    The copy shares the calculator, has its centre of mass fixed where that is right
    (:func:`fix_center_of_mass`), and keeps the velocities of the input if there are
    any; otherwise it gets new ones at ``settings.temperature_K``.

    Raises:
        UnsupportedSystemError: If nothing can move, or masses or velocities are no
            numbers to start from, or the cell cannot move.
        ArgumentError: If the constraints are not for dynamics
            (:func:`check_constraints`).
    """
    ensemble = find_ensemble(settings)
    system = atoms.copy()
    system.calc = atoms.calc
    check_masses_and_momenta(system)
    if settings.hydrogen_mass_amu is not None:
        repartition_hydrogen_mass(system, settings.hydrogen_mass_amu)
    if ensemble.has_barostat:
        _check_cell(system, settings)
    else:
        fix_center_of_mass(system)
    if settings.fix_rotation:
        fix_rotation(system, settings.ensemble)
    if not ensemble.has_barostat:
        check_constraints(system)
        _check_lengths(system, settings)
    has_velocities = bool(np.any(system.get_momenta()))
    if has_velocities:
        # again, now under the constraints
        system.set_momenta(system.get_momenta())
    else:
        set_velocities(system, temperature_K=settings.temperature_K, rng=rng)
    if ensemble.has_barostat and len(system) > 1:
        _rest(system, None if has_velocities else settings.temperature_K)
    return system, not has_velocities


def _check_lengths(atoms: Atoms, settings: MDSettings) -> None:
    # ASE's chain keeps momenta of its own, which the impulses along bonds never reach
    kinds = {type(c).__name__ for c in atoms.constraints if isinstance(c, INTERNAL)}
    if settings.ensemble == "nvt-nhc" and kinds:
        raise ArgumentError(
            f"nvt-nhc cannot keep {', '.join(sorted(kinds))}; use nvt or nvt-bussi"
        )


def _check_cell(atoms: Atoms, settings: MDSettings) -> None:
    name = settings.ensemble
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise UnsupportedSystemError(
            f"{name} changes the cell, and the structure is periodic in "
            f"{int(atoms.pbc.sum())} of 3 directions; use nvt, or give it a cell that "
            "is periodic in all"
        )
    if atoms.constraints:
        kinds = ", ".join(sorted({type(c).__name__ for c in atoms.constraints}))
        raise ArgumentError(
            f"{name} moves all atoms with the cell and cannot keep {kinds}; remove the "
            "constraints, or use nvt"
        )
    if settings.ensemble.endswith("-full") and len(atoms) < 2:
        raise UnsupportedSystemError(
            f"{name} needs more than one atom in the cell; repeat the cell"
        )


def _rest(atoms: Atoms, temperature_K: float | None) -> None:
    """Let the centre of mass rest; keep the temperature of what still moves."""
    momenta, masses = atoms.get_momenta(), atoms.get_masses()[:, None]
    momenta -= masses * momenta.sum(axis=0) / masses.sum()
    if temperature_K is not None:
        kinetic = 0.5 * float(np.sum(momenta**2 / masses))
        target = 0.5 * (3 * len(atoms) - 3) * KB * temperature_K
        momenta *= np.sqrt(target / kinetic) if kinetic > 0 else 0.0
    atoms.set_momenta(momenta)
