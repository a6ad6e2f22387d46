"""Ensembles: one builder each, and the velocities and constraints that they need."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet

from jmp_calc.errors import ArgumentError, UnsupportedSystemError, did_you_mean
from jmp_calc.sim.dynamics.constraints import check_constraints, fix_center_of_mass
from jmp_calc.sim.dynamics.settings import MDSettings
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
        UnsupportedSystemError: If nothing can move, or masses or velocities are no
            numbers to start from.
        ArgumentError: If the constraints are not for dynamics
            (:func:`check_constraints`).
    """
    system = atoms.copy()
    system.calc = atoms.calc
    _check_masses_and_momenta(system)
    fix_center_of_mass(system)
    check_constraints(system)
    has_velocities = bool(np.any(system.get_momenta()))
    if has_velocities:
        # again, now under the constraints
        system.set_momenta(system.get_momenta())
    else:
        set_velocities(system, temperature_K=settings.temperature_K, rng=rng)
    return system, not has_velocities


def _check_masses_and_momenta(atoms: Atoms) -> None:
    masses = atoms.get_masses()
    is_bad = ~(np.isfinite(masses) & (masses > 0))
    if is_bad.any():
        atom = int(np.argmax(is_bad))
        raise UnsupportedSystemError(
            f"atom {atom} has mass {masses[atom]}; give all atoms masses above 0"
        )
    is_bad = ~np.isfinite(atoms.get_momenta()).all(axis=1)
    if is_bad.any():
        raise UnsupportedSystemError(
            f"the velocity of atom {int(np.argmax(is_bad))} in the input is not "
            "finite; remove the velocities, and new ones are drawn"
        )


def usual_timestep_fs(atoms: Atoms) -> float:
    """Return the longest time step that is usual for the lightest atom, fs.

    A tenth of the period of its fastest bond: 1 fs for hydrogen (10 fs, O-H), and more
    by the root of the mass for others.

    Args:
        atoms: A system; fixed atoms count as well.

    Source:
        Frequency of a bond, sqrt(k / m), with the force constant of O-H.
    """
    return float(np.sqrt(atoms.get_masses().min()))


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
