"""A Lennard-Jones fluid that is fast enough for ensemble averages."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

EPSILON_eV, SIGMA_A, CUTOFF = 0.0104, 3.4, 2.5


class ShiftedForceFluid(Calculator):
    """Lennard-Jones with energy and force shifted to zero at 2.5 sigma.

    All pairs in minimum image, for orthogonal cells of more than 5 sigma.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        first, second = _pairs(len(atoms))
        sides = atoms.cell.lengths()
        assert sides.min() > 2 * CUTOFF * SIGMA_A
        vector = atoms.positions[second] - atoms.positions[first]
        vector -= sides * np.round(vector / sides)
        distance = np.sqrt(np.einsum("ij,ij->i", vector, vector))
        is_near = distance < CUTOFF * SIGMA_A
        first, second = first[is_near], second[is_near]
        vector, distance = vector[is_near], distance[is_near]
        energy, slope = _lennard_jones(distance / SIGMA_A)
        edge_energy, edge_slope = _lennard_jones(np.array(CUTOFF))
        energy = energy - edge_energy - edge_slope * (distance / SIGMA_A - CUTOFF)
        slope = (slope - edge_slope) / SIGMA_A
        pull = (slope / distance)[:, None] * vector
        forces = np.zeros((len(atoms), 3))
        for axis in range(3):
            forces[:, axis] = np.bincount(first, pull[:, axis], len(atoms))
            forces[:, axis] -= np.bincount(second, pull[:, axis], len(atoms))
        stress = np.einsum("ij,ik->jk", pull, vector) / atoms.get_volume()
        self.results = {
            "energy": float(energy.sum()),
            "free_energy": float(energy.sum()),
            "forces": forces,
            "stress": stress.flat[[0, 4, 8, 5, 2, 1]],
        }


def _lennard_jones(x):
    six = x**-6
    return (
        4 * EPSILON_eV * (six**2 - six),
        -24 * EPSILON_eV * (2 * six**2 - six) / x,
    )


def _pairs(n):
    return np.triu_indices(n, 1)


def fluid(density: float) -> Atoms:
    """108 atoms of mass 40 amu on a lattice, at a number density in 1 / sigma^3."""
    side = SIGMA_A * (4 / density) ** (1 / 3)
    atoms = bulk("Ar", "fcc", a=side, cubic=True) * (3, 3, 3)
    atoms.rattle(0.1, seed=0)
    atoms.calc = ShiftedForceFluid()
    return atoms
