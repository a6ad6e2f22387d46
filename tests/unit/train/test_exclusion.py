from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.formula import Formula
from ase.symbols import symbols2numbers

from jmp_train.data.exclusion import (
    EXCLUDED_FORMULAS,
    excluded_molecule,
)
from jmp_train.data.sample import Sample, molecule_sample

RMD17 = {
    "aspirin": "CC(=O)OC1=CC=CC=C1C(=O)O",
    "azobenzene": "C1=CC=CC=C1N=NC2=CC=CC=C2",
    "benzene": "C1=CC=CC=C1",
    "ethanol": "CCO",
    "malonaldehyde": "C(C=O)C=O",
    "naphthalene": "C1=CC=C2C=CC=CC2=C1",
    "paracetamol": "CC(=O)NC1=CC=C(C=C1)O",
    "salicylic acid": "C1=CC=C(C(=C1)C(=O)O)O",
    "toluene": "CC1=CC=CC=C1",
    "uracil": "C1=CNC(=O)NC1=O",
}


def sample_of(atoms: Atoms) -> Sample:
    return molecule_sample(
        atoms.numbers,
        atoms.positions,
        energy=0.0,
        forces=None,
        source="qm7x",
        group="",
    )


def scattered(formula: str) -> Atoms:
    """Atoms of a formula, far from each other."""
    numbers = symbols2numbers(formula)
    return Atoms(numbers, positions=[[9.0 * i, 0, 0] for i in range(len(numbers))])


def test_all_ten_molecules_of_rmd17_are_listed() -> None:
    assert set(EXCLUDED_FORMULAS.values()) == set(RMD17)


@pytest.mark.parametrize(("formula", "name"), EXCLUDED_FORMULAS.items())
def test_the_heavy_atoms_of_a_formula_are_those_of_the_molecule(formula, name) -> None:
    letters = [c for c in RMD17[name] if c in "CNO"]
    count = Formula(formula).count()
    assert {z: letters.count(z) for z in "CNO" if z in letters} == {
        z: n for z, n in count.items() if z != "H"
    }


@pytest.mark.parametrize(("formula", "name"), EXCLUDED_FORMULAS.items())
def test_a_whole_system_of_the_formula_is_excluded_even_if_broken(
    formula, name
) -> None:
    assert excluded_molecule(sample_of(scattered(formula))) == name


@pytest.mark.parametrize("name", ["C6H6", "CH3CH2OH"])
@pytest.mark.parametrize("distance", [2.6, 4.0, 8.0])
@pytest.mark.parametrize("stretch", [0.93, 1.0, 1.12])
def test_a_molecule_inside_a_dimer_is_excluded(name, distance, stretch) -> None:
    inner = molecule(name)
    inner.positions *= stretch
    partner = molecule("H2O")
    partner.positions[:, 2] += inner.positions[:, 2].max() + distance
    assert excluded_molecule(sample_of(inner + partner)) is not None


def test_an_isomer_goes_with_its_molecule() -> None:
    assert excluded_molecule(sample_of(molecule("CH3OCH3"))) == "ethanol"


@pytest.mark.parametrize("name", ["H2O", "CH4", "C2H6", "CH3OH", "C5H5N", "C4H4NH"])
def test_other_molecules_are_kept(name) -> None:
    assert excluded_molecule(sample_of(molecule(name))) is None


def slab_with(adsorbate: Atoms) -> Sample:
    adsorbate.positions[:, 2] += 3.0
    atoms = Atoms("Pt4", [[0, 0, 0], [2, 0, 0], [0, 2, 0], [2, 2, 0]]) + adsorbate
    sample = sample_of(atoms)
    return replace(
        sample,
        cell=np.diag([12.0, 12.0, 30.0]),
        pbc=np.ones(3, dtype=bool),
        tags=np.where(atoms.numbers == 78, 1, 2),
    )


def test_an_adsorbate_is_looked_at_without_its_slab() -> None:
    assert excluded_molecule(slab_with(molecule("CH3CH2OH"))) == "ethanol"
    assert excluded_molecule(slab_with(molecule("CH3OH"))) is None


def test_a_crystal_without_adsorbate_is_kept() -> None:
    crystal = replace(slab_with(molecule("H2O")), tags=np.ones(7, dtype=np.int64))
    assert excluded_molecule(crystal) is None
