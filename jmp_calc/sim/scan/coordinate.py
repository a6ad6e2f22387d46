"""A bond, angle or dihedral of a structure: measured, set, and held."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.neighborlist import neighbor_list
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.bonds import bond_cutoffs
from jmp_calc.sim.scan.held import HeldCoordinate, measured
from jmp_calc.sim.scan.settings import ScanSettings, parsed_atoms

STRAIGHT_DEG = 175.0
"""Angle beyond which a dihedral along it means nothing, degrees."""


class Coordinate:
    """The coordinate of one structure that a scan moves along.

    Args:
        atoms: The structure.
        settings: Which coordinate, and which atoms move with it.

    Raises:
        UnsupportedSystemError: If there are no such atoms, they lie across the cell or
            in a line, or the structure does not fall into two halves.
    """

    def __init__(self, atoms: Atoms, settings: ScanSettings) -> None:
        self.indices = settings.indices
        self.kind = settings.kind
        self._atoms = atoms
        self._check_atoms(settings)
        self._moved = self._find_moved(settings)
        self._check_moved()
        held = [c.get_indices() for c in atoms.constraints if isinstance(c, FixAtoms)]
        both = set(self._moved) & set(np.concatenate(held).tolist() if held else [])
        if both:
            raise UnsupportedSystemError(
                f"atom {min(both)} is fixed and would have to move; remove the "
                "constraint, or turn the order of the atoms around"
            )

    @property
    def moved(self) -> tuple[int, ...]:
        """Atoms that move with the last one."""
        return self._moved

    def value(self, atoms: Atoms) -> float:
        """Return the coordinate, angstrom or degrees (dihedrals from 0 to 360).

        Args:
            atoms: A geometry of the structure.
        """
        return measured(atoms, self.indices)

    def at(self, value: float) -> Atoms:
        """Return the structure with its moved half where the coordinate has a value.

        Args:
            value: Angstrom or degrees.
        """
        system: Atoms = self._atoms.copy()
        system.set_constraint()
        moved, indices = list(self._moved), self.indices
        if self.kind == "bond":
            system.set_distance(indices[0], indices[1], value, fix=0, indices=moved)
        elif self.kind == "angle":
            first, middle, last = indices
            system.set_angle(first, middle, last, angle=value, indices=moved)
        else:
            first, second, third, fourth = indices
            system.set_dihedral(
                first, second, third, fourth, angle=value, indices=moved
            )
        system.set_constraint(self._atoms.constraints)
        return system

    def hold(self, system: Atoms, value: float) -> None:
        """Add a constraint that holds the coordinate.

        Args:
            system: From :meth:`at`; changed.
            value: The same value.

        Raises:
            UnsupportedSystemError: If that does not go beside its constraints.
        """
        others = system.constraints
        system.set_constraint([*others, HeldCoordinate(self.indices, value, others)])

    def difference(self, atoms: Atoms, value: float) -> float:
        """Return how far a geometry is from a value, angstrom or degrees.

        Args:
            atoms: A geometry of the structure.
            value: What the coordinate should be.
        """
        gap = self.value(atoms) - value
        if self.kind == "dihedral":
            gap = (gap + 180) % 360 - 180
        return float(abs(gap))

    def _check_atoms(self, settings: ScanSettings) -> None:
        atoms, indices = self._atoms, self.indices
        for index in (*indices, *parsed_atoms("moved", settings.moved)):
            if index >= len(atoms):
                raise UnsupportedSystemError(
                    f"there is no atom {index}; the {len(atoms)} atoms are counted "
                    f"from 0 to {len(atoms) - 1}"
                )
        for first, second in pairwise(indices):
            plain = atoms.get_distance(first, second)
            near = atoms.get_distance(first, second, mic=True)
            if plain > near + 1e-3:
                raise UnsupportedSystemError(
                    f"atoms {first} and {second} lie on two sides of the cell; put the "
                    "molecule together first"
                )
        angles = list(zip(indices, indices[1:], indices[2:], strict=False))
        for angle in angles:
            if not STRAIGHT_DEG > atoms.get_angle(*angle) > 180 - STRAIGHT_DEG:
                raise UnsupportedSystemError(
                    f"atoms {angle[0]}, {angle[1]} and {angle[2]} lie in a line, which "
                    f"leaves the {self.kind} undefined; choose others"
                )

    def _check_moved(self) -> None:
        """Refuse a coordinate that does not change when its half moves."""
        if self.indices[-1] not in self._moved:
            raise UnsupportedSystemError(
                f"atom {self.indices[-1]} does not hang on atom {self.indices[-2]}, so "
                f"that it would stay where it is while the {self.kind} is set; name "
                "atoms each of which is bonded to the next (--atoms), or the atoms "
                "that move (--moved)"
            )
        if self.indices[0] in self._moved:
            raise UnsupportedSystemError(
                f"atom {self.indices[0]} would move along with the other half, so that "
                f"the {self.kind} would stay as it is; name atoms each of which is "
                "bonded to the next (--atoms), or the atoms that move (--moved)"
            )

    def _find_moved(self, settings: ScanSettings) -> tuple[int, ...]:
        if settings.moved:
            chosen = {*parsed_atoms("moved", settings.moved), self.indices[-1]}
            return tuple(sorted(chosen - set(self.indices[:-1])))
        # a dihedral turns all that hangs on its third atom
        pair = self.indices[-2:] if self.kind != "dihedral" else self.indices[1:3]
        side = side_of(self._atoms, pair)
        if pair[0] not in side:
            return tuple(sorted(side))
        if settings.relax:
            # the rest follows in the relaxation
            return (self.indices[-1],)
        raise UnsupportedSystemError(
            f"atoms {pair[0]} and {pair[1]} are also connected another way (a ring?), "
            "so that there are no two halves to move; use relax (--relax), or choose "
            "the atoms that move (--moved)"
        )


def side_of(atoms: Atoms, pair: Sequence[int]) -> set[int]:
    """Return the atoms that hang on the second of a pair once its bond is cut.

    Args:
        atoms: Any structure.
        pair: Two atoms, bonded or not.

    Returns:
        Their indices; the first of the pair is among them if another way leads there.
    """
    first, second = neighbor_list("ij", atoms, bond_cutoffs(atoms))
    is_cut = np.isin(first, pair) & np.isin(second, pair)
    first, second = first[~is_cut], second[~is_cut]
    n_atoms = len(atoms)
    bonds = coo_array((np.ones(len(first)), (first, second)), shape=(n_atoms, n_atoms))
    _, part = connected_components(bonds, directed=False)
    return {int(atom) for atom in np.flatnonzero(part == part[pair[1]])}
