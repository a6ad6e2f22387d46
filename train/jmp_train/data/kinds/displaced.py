"""Geometries near a given one: perturbed, stretched, strained, turned about bonds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import get_distances

from jmp_calc.errors import DataError
from jmp_train.data.kinds.geometry import (
    BOND_FACTOR,
    TRIES,
    Making,
    bond_counts,
    closest_contact,
    dividing_bonds,
    drawn,
)

STRETCHES = (0.7, 1.8)
"""Smallest and largest factor of a bond."""
SINGLE_BOND = 0.9
"""A bond is turned about if its length is at least this multiple of the sum of the
covalent radii, which double and triple bonds are not (and that of an amide is)."""


def perturbed(atoms: Atoms, making: Making) -> Iterator[Atoms]:
    """Yield geometries in which every atom is displaced at random.

    Args:
        atoms: The structure.
        making: ``n``, ``amplitude`` and ``min_distance``.

    Raises:
        DataError: If atoms overlap whatever is drawn.
    """
    settings, generator = making.settings, making.generator

    def draw() -> Atoms:
        new: Atoms = atoms.copy()
        size = settings.amplitude * generator.uniform(0.1, 1.0)
        new.positions += generator.normal(0.0, size, new.positions.shape)
        new.info["amplitude_A"] = round(float(size), 6)
        return new

    yield from drawn(draw, settings.n, min_distance=settings.min_distance)


def stretched(atoms: Atoms, making: Making) -> Iterator[Atoms]:
    """Yield geometries in which one bond is longer or shorter.

    Args:
        atoms: The structure.
        making: ``n`` and ``min_distance``.

    Raises:
        DataError: If no bond divides the structure.
    """
    settings, generator = making.settings, making.generator
    bonds = dividing_bonds(atoms)
    if not bonds:
        raise DataError(
            f"{atoms.get_chemical_formula()} has no bond that divides it in two parts, "
            "so none can be stretched"
        )

    def draw() -> Atoms:
        first, second, moved = bonds[generator.integers(len(bonds))]
        factor = float(generator.uniform(*STRETCHES))
        new: Atoms = atoms.copy()
        vector = get_distances(
            new.positions[first], new.positions[second], cell=new.cell, pbc=new.pbc
        )[0][0, 0]
        new.positions[moved] += (factor - 1.0) * vector
        new.info["stretch"] = round(factor, 6)
        new.info["bond"] = [int(first), int(second)]
        return new

    # a bond shortened to 0.7 is allowed to be closer than other pairs
    limit = min(settings.min_distance, STRETCHES[0] / BOND_FACTOR)
    yield from drawn(draw, settings.n, min_distance=limit)


def strained(atoms: Atoms, making: Making) -> Iterator[Atoms]:
    """Yield geometries with a deformed cell.

    Args:
        atoms: The structure, periodic in three directions.
        making: ``n``, ``strain`` and ``min_distance``.

    Raises:
        DataError: If the structure has no such cell.
    """
    settings, generator = making.settings, making.generator
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise DataError(
            f"{atoms.get_chemical_formula()} is not periodic in three directions, so "
            "its cell cannot be strained"
        )

    def draw() -> Atoms:
        new: Atoms = atoms.copy()
        strain = generator.uniform(-settings.strain, settings.strain, (3, 3))
        strain = (strain + strain.T) / 2
        new.set_cell(new.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        new.info["strain"] = [
            round(float(strain[i, j]), 6)
            for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
        ]
        return new

    yield from drawn(draw, settings.n, min_distance=settings.min_distance)


def turned(atoms: Atoms, making: Making) -> Iterator[Atoms]:
    """Yield geometries turned at random about one or several single bonds.

    Args:
        atoms: A structure without periodic boundaries.
        making: ``n`` and ``contact``, of which the smaller number is the closest
            contact of atoms that move against each other.

    Raises:
        DataError: If there is no single bond to turn about, the structure is periodic,
            or atoms are too close whatever is drawn.
    """
    settings, generator = making.settings, making.generator
    bonds = _turnable(atoms)
    if not bonds:
        raise DataError(
            f"{atoms.get_chemical_formula()} has no single bond to turn about"
        )
    at_rest = atoms.get_all_distances()
    for _ in range(settings.n):
        for _try in range(TRIES):
            new = _turned_once(atoms, bonds, generator)
            is_moved = np.abs(new.get_all_distances() - at_rest) > 1e-3
            if closest_contact(new, is_moved) >= settings.contact[0]:
                yield new
                break
        else:
            raise DataError(
                f"no geometry without close contacts in {TRIES} tries; make the first "
                "number of contact smaller"
            )


def _turned_once(
    atoms: Atoms,
    bonds: list[tuple[int, int, list[int]]],
    generator: np.random.Generator,
) -> Atoms:
    new: Atoms = atoms.copy()
    is_chosen = generator.random(len(bonds)) < 0.5
    is_chosen[generator.integers(len(bonds))] = True
    for place in np.flatnonzero(is_chosen):
        first, second, moved = bonds[place]
        axis = new.positions[second] - new.positions[first]
        part = new[moved]
        part.rotate(generator.uniform(0.0, 360.0), axis, center=new.positions[second])
        new.positions[moved] = part.positions
    return new


def _turnable(atoms: Atoms) -> list[tuple[int, int, list[int]]]:
    if atoms.pbc.any():
        raise DataError(
            f"{atoms.get_chemical_formula()} is periodic; torsions are those of "
            "molecules"
        )
    degree = Counter(end for pair in bond_counts(atoms) for end in pair)
    found = []
    for first, second, moved in dividing_bonds(atoms):
        radii = covalent_radii[atoms.numbers[[first, second]]].sum()
        is_single = atoms.get_distance(first, second) >= SINGLE_BOND * radii
        if is_single and degree[first] > 1 and degree[second] > 1:
            found.append((first, second, moved))
    return found
