"""Velocities and masses that a run starts with."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.bonds import bonds_of
from jmp_calc.units import KB


def check_masses_and_momenta(atoms: Atoms) -> None:
    """Check that masses and velocities are numbers to start from.

    Args:
        atoms: The input.

    Raises:
        UnsupportedSystemError: If they are not.
    """
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


def repartition_hydrogen_mass(atoms: Atoms, mass_amu: float) -> None:
    """Make hydrogens heavier by what the atoms that they are bonded to become lighter.

    The total mass, so the density and diffusion of whole molecules, stay; velocities
    are kept.

    Args:
        atoms: Its masses are changed.
        mass_amu: New mass of every hydrogen, amu.

    Raises:
        ArgumentError: If a hydrogen has no neighbour to take mass from, or the
            neighbour would become lighter than the hydrogens.

    Source:
        Feenstra, Hess and Berendsen, J. Comput. Chem. 20, 786 (1999).
    """
    masses, velocities = atoms.get_masses(), atoms.get_velocities()
    is_hydrogen = atoms.numbers == 1
    pairs, lengths, _ = bonds_of(atoms)
    for hydrogen in np.flatnonzero(is_hydrogen):
        touches = (pairs == hydrogen).any(axis=1)
        partners = pairs[touches].sum(axis=1) - hydrogen
        is_heavy = ~is_hydrogen[partners]
        if not is_heavy.any():
            raise ArgumentError(
                f"hydrogen_mass_amu: hydrogen atom {hydrogen} is bonded to no heavier "
                "atom that could give it mass; leave the setting out"
            )
        nearest = partners[is_heavy][np.argmin(lengths[touches][is_heavy])]
        masses[nearest] -= mass_amu - masses[hydrogen]
        masses[hydrogen] = mass_amu
        if masses[nearest] < mass_amu:
            raise ArgumentError(
                f"hydrogen_mass_amu {mass_amu:g} would leave atom {nearest} "
                f"({atoms.symbols[int(nearest)]}) {masses[nearest]:.2f} amu, lighter "
                "than its hydrogens; 1.5 to 3 is usual"
            )
    atoms.set_masses(masses)
    if velocities is not None and np.any(velocities):
        atoms.set_velocities(velocities)
