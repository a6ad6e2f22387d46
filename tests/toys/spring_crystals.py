"""Crystals of springs, whose frequencies are known exactly."""

from __future__ import annotations

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

STIFFNESS = 2.0
"""Of every spring, eV/angstrom^2."""


class NeighborSprings(Calculator):
    """Springs between all nearest neighbours, none of them stretched.

    Args:
        length: Length of a spring at rest, angstrom.
        axis: Springs push along this Cartesian axis only; None: along themselves.
    """

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012

    def __init__(self, length: float, axis: int | None = None) -> None:
        super().__init__()
        self.length = length
        self.axis = axis

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        source, distance, vector = neighbor_list("idD", atoms, 1.2 * self.length)
        if self.axis is None:
            stretch = distance - self.length
            direction = vector / distance[:, None]
        else:
            along = vector[:, self.axis]
            is_bond = np.abs(along) > 0.5 * self.length
            sign = np.sign(along) * is_bond
            stretch = np.where(is_bond, np.abs(along) - self.length, 0.0)
            direction = np.eye(3)[self.axis] * sign[:, None]
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, source, STIFFNESS * stretch[:, None] * direction)
        energy = 0.25 * STIFFNESS * float((stretch**2).sum())
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


def terahertz(stiffness_over_mass: np.ndarray) -> np.ndarray:
    """Return frequencies from eigenvalues in eV/angstrom^2/amu."""
    # ASE's time unit is angstrom sqrt(amu/eV)
    per_fs = np.sqrt(stiffness_over_mass) * units.fs
    return 1000.0 * per_fs / (2.0 * np.pi)


def fcc_frequencies(q: np.ndarray, a: float, mass: float) -> np.ndarray:
    """Return the frequencies of an fcc crystal of nearest-neighbour springs, THz.

    Args:
        q: Wave vector, Cartesian, without 2 pi, 1/angstrom.
        a: Lattice constant, angstrom.
        mass: Of an atom, amu.
    """
    matrix = np.zeros((3, 3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        for sign in (1, -1):
            bond = np.zeros(3)
            bond[i], bond[j] = 0.5 * a, 0.5 * a * sign
            n = bond / np.linalg.norm(bond)
            # a neighbour on each side
            weight = 2.0 * (1.0 - np.cos(2.0 * np.pi * q @ bond))
            matrix += STIFFNESS / mass * weight * np.outer(n, n)
    return terahertz(np.clip(np.linalg.eigvalsh(matrix), 0.0, None))
