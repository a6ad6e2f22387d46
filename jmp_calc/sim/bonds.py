"""Which atoms of a structure are bonded."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list

BOND_TOLERANCE = 1.2
"""Atoms closer than this factor times the sum of their covalent radii are bonded.

Source:
    Covalent radii as tabulated by ASE: Cordero et al., Dalton Trans. 2832 (2008).
"""


def bond_cutoffs(atoms: Atoms) -> list[float]:
    """Return a radius for each atom; atoms are bonded if these spheres touch.

    Args:
        atoms: A structure.
    """
    cutoffs: list[float] = natural_cutoffs(atoms, mult=BOND_TOLERANCE)
    return cutoffs


def bonds_of(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the bonds of a structure, their lengths and periodic images.

    Args:
        atoms: A structure, periodic or not.

    Returns:
        Pairs of atoms (bonds x 2; the lower number first, bonds to several images of an
        atom each for itself), lengths (angstrom), and the cells (bonds x 3, whole
        numbers) that the second atom is away by.
    """
    first, second, length, image = neighbor_list("ijdS", atoms, bond_cutoffs(atoms))
    is_once = first < second
    pairs = np.column_stack([first[is_once], second[is_once]])
    return pairs, length[is_once], image[is_once]
