"""A calculator of harmonic bonds, for answers that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress


@dataclass(frozen=True, kw_only=True)
class Bond:
    """A spring between two atoms, also across the cell."""

    first: int
    second: int
    length: float
    stiffness: float
    cells: tuple[int, int, int] = (0, 0, 0)


class SpringCalculator(Calculator):
    """Energy k/2 (r - r0)^2 of each bond.

    Args:
        bonds: Which; they never change.
    """

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, bonds: Sequence[Bond]) -> None:
        super().__init__()
        self.bonds = list(bonds)
        self.n_calls = 0

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        self.n_calls += 1
        energy, virial = 0.0, np.zeros((3, 3))
        forces = np.zeros((len(self.atoms), 3))
        for bond in self.bonds:
            vector = (
                self.atoms.positions[bond.second] - self.atoms.positions[bond.first]
            )
            vector = vector + np.asarray(bond.cells) @ self.atoms.cell.array
            distance = np.linalg.norm(vector)
            stretch = distance - bond.length
            energy += 0.5 * bond.stiffness * stretch**2
            force = bond.stiffness * stretch * vector / distance
            forces[bond.first] += force
            forces[bond.second] -= force
            virial += np.outer(force, vector)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        if self.atoms.cell.rank == 3:
            stress = full_3x3_to_voigt_6_stress(virial / self.atoms.cell.volume)
            self.results["stress"] = stress


def springs_between_neighbors(
    atoms: Atoms, cutoff: float, stiffness: float
) -> SpringCalculator:
    """Return springs at rest between all atoms closer than a cutoff."""
    first, second, length, cells = neighbor_list("ijdS", atoms, cutoff)
    bonds = [
        Bond(
            first=int(i),
            second=int(j),
            length=float(d),
            # each pair is found from both ends
            stiffness=stiffness / 2,
            cells=tuple(int(n) for n in shift),
        )
        for i, j, d, shift in zip(first, second, length, cells, strict=True)
    ]
    return SpringCalculator(bonds)
