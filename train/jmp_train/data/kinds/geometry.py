"""What the kinds of geometry share: bonds, distances, and drawing until atoms fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.vdw import vdw_radii
from ase.neighborlist import natural_cutoffs, neighbor_list
from jaxtyping import Bool, Float
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from jmp_calc.calculator.named import ELECTRON_KEYS, CalculatorChoice
from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.sampling_settings import SamplingSettings

TRIES = 50
"""How often a geometry with atoms too close is drawn again."""
BOND_FACTOR = 1.2
"""Atoms are bonded within this multiple of the sum of their covalent radii."""
SMILES = "smiles"
"""Entry of ``info`` with the SMILES of the molecules; atoms are in its order, the
hydrogens of each molecule behind its other atoms."""
_KEPT = (*ELECTRON_KEYS, SMILES)
_VDW_UNKNOWN = 2.0
"""Van der Waals radius of elements that have none in the table, Å."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Making:
    """What a maker is given besides the structure."""

    settings: SamplingSettings
    """Kind and number of geometries."""
    generator: np.random.Generator
    """The random numbers of the structure."""
    calculator: CalculatorChoice | None
    """What computes forces, for kinds that need them."""
    partners: tuple[Atoms, ...] = ()
    """Other structures to put beside it, for kinds that need them."""

    def chosen_calculator(self) -> CalculatorChoice:
        """Return the calculator.

        Raises:
            ArgumentError: If there is none.
        """
        if self.calculator is None:
            raise ArgumentError(
                f"the kind {self.settings.kind!r} needs a calculator (--calculator)"
            )
        return self.calculator


Maker = Callable[[Atoms, Making], Iterator[Atoms]]
"""Yields the geometries of a structure."""


def bare(atoms: Atoms) -> Atoms:
    """Return a copy without labels and constraints.

    Args:
        atoms: Any structure; charge, spin and SMILES of ``info`` are kept.
    """
    copy = Atoms(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell,
        pbc=atoms.pbc,
        tags=atoms.get_tags(),
    )
    for key in _KEPT:
        if key in atoms.info:
            copy.info[key] = atoms.info[key]
    return copy


def overlap(atoms: Atoms) -> float:
    """Return the smallest distance of two atoms over the sum of their covalent radii.

    Infinity if there is no pair.

    Args:
        atoms: Any structure; periodic images count.
    """
    radius = covalent_radii[atoms.numbers]
    reach = 2.0 * float(radius.max())
    first, second, distance = neighbor_list("ijd", atoms, reach)
    if not len(first):
        return float("inf")
    return float((distance / (radius[first] + radius[second])).min())


def drawn(draw: Callable[[], Atoms], n: int, *, min_distance: float) -> Iterator[Atoms]:
    """Yield n drawn geometries whose atoms do not overlap.

    Args:
        draw: Returns a new geometry each time.
        n: How many to yield.
        min_distance: Smallest :func:`overlap`.

    Raises:
        DataError: If ``TRIES`` geometries in a row have overlapping atoms.
    """
    for _ in range(n):
        for _try in range(TRIES):
            atoms = draw()
            if overlap(atoms) >= min_distance:
                yield atoms
                break
        else:
            raise DataError(
                f"no geometry without overlapping atoms in {TRIES} tries; make the "
                "amplitude, strain or min_distance smaller"
            )


def bond_counts(atoms: Atoms) -> Counter[tuple[int, int]]:
    """Return how often each pair of atoms is bonded, through images of the cell.

    Args:
        atoms: Any structure; the first atom of a pair has the smaller number.
    """
    cutoffs = natural_cutoffs(atoms, mult=BOND_FACTOR)
    first, second = neighbor_list("ij", atoms, cutoffs)
    ends = zip(first.tolist(), second.tolist(), strict=True)
    return Counter((i, j) for i, j in ends if i < j)


def dividing_bonds(atoms: Atoms) -> list[tuple[int, int, list[int]]]:
    """Return bonds that divide a part of the structure, and the atoms behind each.

    Args:
        atoms: Any structure.
    """
    times = bond_counts(atoms)
    # a pair that is bonded through several images of the cell is held by the others
    pairs = sorted(times)
    n = len(atoms)
    found = []
    for pair in pairs:
        others = [other for other in pairs if other != pair]
        rows = [i for i, _ in others]
        columns = [j for _, j in others]
        graph = coo_matrix((np.ones(len(others)), (rows, columns)), shape=(n, n))
        label = connected_components(graph, directed=False)[1]
        if times[pair] == 1 and label[pair[0]] != label[pair[1]]:
            moved = np.flatnonzero(label == label[pair[1]]).tolist()
            found.append((*pair, moved))
    return found


def contact_radii(atoms: Atoms) -> Float[np.ndarray, " atoms"]:
    """Return the van der Waals radius of each atom, Å.

    Args:
        atoms: Any structure.
    """
    radius = vdw_radii[atoms.numbers]
    return np.where(np.isfinite(radius), radius, _VDW_UNKNOWN)


def closest_contact(atoms: Atoms, is_pair: Bool[np.ndarray, "atoms atoms"]) -> float:
    """Return the smallest distance over the sum of van der Waals radii.

    Args:
        atoms: A structure without periodic boundaries.
        is_pair: Which pairs count; infinity if none does.
    """
    radius = contact_radii(atoms)
    distance = cdist(atoms.positions, atoms.positions)
    ratio = distance / (radius[:, None] + radius)
    return float(ratio[is_pair].min(initial=np.inf))
