"""End points of a path, checked and brought together, and what lies between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.constraints import FixAtoms
from ase.geometry import find_mic, get_distances
from ase.mep import NEB
from scipy.optimize import linear_sum_assignment

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.neb.settings import NebSettings
from jmp_calc.sim.output import without_results

SAME_A = 1e-3
"""Distance below which two places are the same, angstrom."""
FAR_A = 0.5
"""Atoms that move less do not take the place of another, angstrom."""


def check_path(systems: Sequence[Atoms]) -> None:
    """Check that structures can lie on one path.

    Args:
        systems: End points, or a whole path.

    Raises:
        ArgumentError: If there are fewer than two.
        UnsupportedSystemError: If they differ in more than positions, or in nothing.
    """
    if len(systems) < 2:
        raise ArgumentError(
            "a path needs two end points and there is one structure; give two files, "
            "or one file of several structures with --frame ':'"
        )
    first = systems[0]
    if len(first) == 0:
        raise UnsupportedSystemError("the first structure has no atoms")
    for number, system in enumerate(systems[1:], 2):
        problem = _difference(first, system)
        if problem:
            raise UnsupportedSystemError(
                f"structure {number} cannot lie on a path with structure 1: {problem}"
            )


def _difference(first: Atoms, other: Atoms) -> str | None:
    if len(first) != len(other):
        return f"it has {len(other)} atoms, not {len(first)}"
    if (first.numbers != other.numbers).any():
        atom = int(np.flatnonzero(first.numbers != other.numbers)[0])
        return (
            f"atom {atom} is {other.symbols[atom]}, not {first.symbols[atom]}; put the "
            "atoms in the same order"
        )
    if (first.pbc != other.pbc).any():
        return f"its pbc is {other.pbc.tolist()}, not {first.pbc.tolist()}"
    if not np.allclose(first.cell[first.pbc], other.cell[first.pbc], atol=SAME_A):
        return "its cell is another one; a path has one cell"
    return None


def joined(systems: Sequence[Atoms]) -> list[Atoms]:
    """Return structures such that no atom jumps from one to the next.

    Atoms that went through the cell are put back by whole lattice vectors; molecules
    without cell and constraints are turned onto each other. All get the constraints of
    the first.

    Args:
        systems: Checked by :func:`check_path`; not changed.

    Raises:
        UnsupportedSystemError: If a fixed atom moves, or nothing does.
    """
    path = [without_results(systems[0])]
    for system in systems[1:]:
        image = without_results(system)
        image.set_constraint(path[0].constraints)
        image.set_cell(path[0].cell)
        move, _ = find_mic(image.positions - path[-1].positions, image.cell, image.pbc)
        image.set_positions(path[-1].positions + move, apply_constraint=False)
        if is_free(image):
            minimize_rotation_and_translation(path[-1], image)
        path.append(image)
    _check_moves(path)
    return path


def is_free(atoms: Atoms) -> bool:
    """Return whether a structure can turn in space without changing its energy.

    Args:
        atoms: Any structure.
    """
    return not atoms.pbc.any() and not atoms.constraints and len(atoms) > 1


def _check_moves(path: Sequence[Atoms]) -> None:
    moves = np.array([image.positions - path[0].positions for image in path[1:]])
    lengths = np.linalg.norm(moves, axis=2).max(axis=0)
    held = [c.get_indices() for c in path[0].constraints if isinstance(c, FixAtoms)]
    for atom in np.unique(np.concatenate(held)).astype(int) if held else ():
        if lengths[atom] > SAME_A:
            raise UnsupportedSystemError(
                f"atom {atom} is fixed and lies {lengths[atom]:.3g} Å apart in the end "
                "points; take both from the same fixed part"
            )
    if lengths.max() <= SAME_A:
        raise UnsupportedSystemError(
            "the end points are the same structure; give two that differ"
        )


def exchanged(first: Atoms, last: Atoms) -> list[int]:
    """Return atoms that go to each other's places, as if numbered in another order.

    Args:
        first: One end.
        last: The other, from :func:`joined`.

    Returns:
        Atoms of one element with which the way is less than half as long, by squares,
        if each goes to the nearest places; empty if there are none.
    """
    moves = last.positions - first.positions
    moved = np.flatnonzero(np.linalg.norm(moves, axis=1) > FAR_A)
    found: list[int] = []
    for number in np.unique(first.numbers[moved]):
        atoms = moved[first.numbers[moved] == number]
        _, ways = get_distances(
            first.positions[atoms], last.positions[atoms], first.cell, first.pbc
        )
        _, order = linear_sum_assignment(ways**2)
        mine = np.arange(len(atoms))
        if (ways[mine, order] ** 2).sum() < 0.5 * (ways[mine, mine] ** 2).sum():
            found += atoms[order != mine].tolist()
    return found


def interpolated(first: Atoms, last: Atoms, settings: NebSettings) -> list[Atoms]:
    """Return a first path between two end points, both included.

    Args:
        first: One end.
        last: The other, from :func:`joined`.
        settings: How many images, and how.

    Source:
        Image dependent pair potential: Smidstrup et al., J. Chem. Phys. 140, 214106
        (2014), as in ASE.
    """
    between = [first.copy() for _ in range(settings.images)]
    path = [first.copy(), *between, last.copy()]
    band = NEB(path, method="improvedtangent")
    # a single atom has no distances to others
    method = settings.interpolation if len(first) > 1 else "linear"
    # fixed atoms are where they are in both ends; other constraints act in the band
    band.interpolate(
        method=method,
        mic=bool(first.pbc.any()),
        apply_constraint=False,
    )
    for image in path:
        image.calc = None
    return path
