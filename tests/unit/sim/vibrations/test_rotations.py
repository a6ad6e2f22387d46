"""Symmetry numbers of molecules, which every textbook lists."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from jmp_calc.sim.vibrations.rotations import symmetry_number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("H2O", 2),
        ("NH3", 3),
        ("CH4", 12),
        ("BF3", 6),
        ("C2H4", 4),
        ("C2H6", 6),
        ("C3H4_D2d", 4),
        ("C6H6", 12),
        ("CO2", 2),
        ("C2H2", 2),
        ("HCN", 1),
        ("CH3OH", 1),
        ("CH3Cl", 3),
        ("C60", 60),
    ],
)
def test_molecules_have_the_rotations_of_their_point_group(name, number):
    atoms = molecule(name)
    atoms.rotate(40, (1, 2, 3))
    # as exact as a relaxation
    atoms.rattle(0.005, seed=1)
    assert symmetry_number(atoms) == number


def test_an_octahedron_has_24():
    sides = np.concatenate([np.eye(3), -np.eye(3)]) * 1.56
    assert symmetry_number(Atoms("SF6", positions=[[0, 0, 0], *sides])) == 24


def test_isotopes_are_told_apart():
    atoms = molecule("H2O")
    atoms.set_masses([16, 2.014, 1.008])
    assert symmetry_number(atoms) == 1


def test_a_molecule_that_is_bent_out_of_its_symmetry_has_less():
    atoms = molecule("H2O")
    atoms.set_distance(0, 1, 1.2, fix=0)
    assert symmetry_number(atoms) == 1


def test_mirrors_do_not_count():
    # a hand and its image: CHFClBr has no rotation, and water's mirror is none
    atoms = Atoms(
        "CHFClBr",
        positions=[[0, 0, 0], [1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]],
    )
    assert symmetry_number(atoms) == 1
    atoms.symbols = "CFFClBr"
    assert symmetry_number(atoms) == 1
