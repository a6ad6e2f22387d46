"""Ensembles: one builder each, and the velocities and constraints that they need."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet

from jmp_calc.errors import ArgumentError, UnsupportedSystemError, did_you_mean
from jmp_calc.sim.settings import MDSettings
from jmp_calc.units import FS, KB


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


def build_nvt(
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


ENSEMBLES: dict[
    str, Callable[[Atoms, MDSettings, np.random.Generator], MolecularDynamics]
] = {"nve": build_nve, "nvt": build_nvt}
"""Builders by the name that ``MDSettings.ensemble`` takes."""


def build_dynamics(
    atoms: Atoms, settings: MDSettings, rng: np.random.Generator
) -> MolecularDynamics:
    """Return the ASE integrator for the chosen ensemble.

    Args:
        atoms: Prepared by :func:`prepare`; the integrator moves it in place.
        settings: Ensemble, time step, temperature, friction.
        rng: Source of the thermostat's random numbers.

    Raises:
        ArgumentError: If the ensemble is unknown.
    """
    try:
        build = ENSEMBLES[settings.ensemble]
    except KeyError:
        raise ArgumentError(
            f"unknown ensemble {settings.ensemble!r}; choose one of "
            f"{', '.join(ENSEMBLES)}{did_you_mean(settings.ensemble, ENSEMBLES)}"
        ) from None
    return build(atoms, settings, rng)


def prepare(
    atoms: Atoms, settings: MDSettings, rng: np.random.Generator
) -> tuple[Atoms, bool]:
    """Return a copy that is ready to move, and whether its velocities are new.

    The copy shares the calculator, has its centre of mass fixed where that is right
    (:func:`fix_center_of_mass`), and keeps the velocities of the input if there are
    any; otherwise it gets new ones at ``settings.temperature_K``.

    Raises:
        UnsupportedSystemError: If nothing can move.
        ArgumentError: If FixCom is combined with other constraints.
    """
    system = atoms.copy()
    system.calc = atoms.calc
    fix_center_of_mass(system)
    if system.get_number_of_degrees_of_freedom() < 1:
        raise UnsupportedSystemError(
            f"all {len(system)} atoms are fixed, so nothing can move; "
            "remove constraints from the input"
        )
    has_velocities = bool(np.any(system.get_momenta()))
    if has_velocities:
        # again, now under the constraints
        system.set_momenta(system.get_momenta())
    else:
        set_velocities(system, temperature_K=settings.temperature_K, rng=rng)
    return system, not has_velocities


def fix_center_of_mass(atoms: Atoms) -> None:
    """Fix the centre of mass by a constraint if nothing else ties the atoms down.

    With fixed atoms the centre of mass must move, and ASE's FixCom beside another
    constraint either moves the fixed atoms or does nothing, and miscounts the degrees
    of freedom; so it is added to unconstrained systems only. A lone atom stays free:
    without its centre of mass it would have no degree of freedom left.

    Raises:
        ArgumentError: If FixCom is already combined with other constraints.
    """
    has_center_fixed = any(isinstance(c, FixCom) for c in atoms.constraints)
    if has_center_fixed and len(atoms.constraints) > 1:
        names = ", ".join(type(c).__name__ for c in atoms.constraints)
        raise ArgumentError(
            f"the input combines constraints {names}; FixCom next to others is applied "
            "wrongly by ASE and gives a wrong temperature: remove FixCom"
        )
    if not atoms.constraints and len(atoms) > 1:
        atoms.set_constraint(FixCom())


def set_velocities(
    atoms: Atoms, *, temperature_K: float, rng: np.random.Generator
) -> None:
    """Draw Maxwell-Boltzmann velocities of exactly the given temperature.

    The constraints act on the draw, then it is scaled so that the kinetic energy is
    k T / 2 for each degree of freedom that they leave.

    Args:
        atoms: Its momenta are replaced.
        temperature_K: Temperature of the velocities, K.
        rng: Source of random numbers.
    """
    masses = atoms.get_masses()[:, None]
    draw = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * KB * temperature_K)
    atoms.set_momenta(draw)
    if temperature_K > 0:
        scale = np.sqrt(temperature_K / atoms.get_temperature())
        atoms.set_momenta(atoms.get_momenta() * scale)
