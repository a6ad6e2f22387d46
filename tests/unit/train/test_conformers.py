"""From SMILES to molecules, and RDKit's force fields on them."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from jmp_calc.errors import DataError
from jmp_train.data.conformers import (
    conformers,
    connectivity,
    molecule_of,
    read_list,
)
from jmp_train.data.kinds.geometry import bond_counts
from jmp_train.data.rdkit_force_field import force_field

pytest.importorskip("rdkit", reason="needs the extra rdkit")


def one(smiles: str) -> Atoms:
    return next(conformers(smiles, 1, seed=0))


def side_by_side(*smiles: str, distance: float = 4.0) -> Atoms:
    """Molecules in a row, as the kind 'complex' writes them."""
    whole = Atoms()
    for place, each in enumerate(smiles):
        part = one(each)
        part.positions[:, 0] += place * distance
        whole += part
    whole.info = {"smiles": ".".join(smiles)}
    return whole


def test_a_list_has_categories_comments_and_words_behind_the_smiles(tmp_path):
    path = tmp_path / "list.smi"
    path.write_text("# mine\nO water\n\n# category: alcohols\nCO\nCCCO\n")
    found = [(entry.smiles, entry.category) for entry in read_list(path)]
    assert found == [("O", ""), ("CO", "alcohols"), ("CCCO", "alcohols")]


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_a_list_without_molecules_is_an_error(tmp_path, text):
    path = tmp_path / "list.smi"
    path.write_text(text)
    with pytest.raises(DataError, match="holds no SMILES; write one a line"):
        read_list(path)


def test_a_list_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read as a list of SMILES"):
        read_list(tmp_path / "absent.smi")


def test_a_conformer_has_the_bonds_of_its_smiles():
    atoms = one("CC(=O)N")
    assert atoms.get_chemical_formula() == "C2H5NO"
    assert len(bond_counts(atoms)) == 8
    assert atoms.info == {"smiles": "CC(=O)N", "group": "CC(N)=O", "is_lowest": True}


def test_conformers_differ_and_the_lowest_is_first():
    found = list(conformers("CCCCO", 12, seed=3))
    energies = []
    for atoms in found:
        atoms.calc = force_field()
        energies.append(atoms.get_potential_energy())
    assert len(found) > 3
    assert energies == sorted(energies)
    assert [atoms.info.get("is_lowest", False) for atoms in found].count(True) == 1


def test_a_seed_gives_the_same_conformers_and_another_seed_others():
    first, again, other = (
        next(conformers("CCCCO", 1, seed=seed)).positions for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize(
    ("smiles", "problem"),
    [
        ("C1CC", "RDKit cannot read the SMILES 'C1CC'"),
        ("[NH4+]", "has charge 1 and 0 unpaired electrons"),
        ("[CH3]", "has charge 0 and 1 unpaired electrons"),
    ],
)
def test_what_cannot_be_made_says_why(smiles, problem):
    with pytest.raises(DataError, match=problem.replace("[", r"\[")):
        one(smiles)


def test_connectivity_is_the_same_for_all_ways_to_write_a_molecule():
    assert connectivity("OCC") == connectivity("CCO") == connectivity("[H]OCC")
    assert connectivity(r"F/C=C/F") == connectivity(r"F/C=C\F")
    assert connectivity("O.N") == connectivity("N.O") == "N.O"
    assert connectivity("CCO") != connectivity("COC")


def test_hydrogen_fluoride_is_not_read_as_false(tmp_path):
    """A lone F in extended XYZ is a truth value."""
    import ase.io

    path = tmp_path / "hf.xyz"
    ase.io.write(path, one("F"))
    info = ase.io.read(path).info
    assert (info["smiles"], info["group"]) == ("[H]F", "[H]F")
    assert molecule_of(info["smiles"]).GetNumAtoms() == 2


# -- force fields --------------------------------------------------------------------


@pytest.mark.parametrize("smiles", [("CCO",), ("FP(F)F",), ("[H]F",), ("O", "O")])
def test_forces_are_minus_the_slope_of_the_energy(smiles):
    atoms = side_by_side(*smiles, distance=3.0)
    atoms.rattle(0.05, seed=1)
    atoms.calc = force_field()
    forces, positions = atoms.get_forces(), atoms.positions.copy()
    step = 1e-4
    for index in range(len(atoms)):
        energies = []
        for sign in (1, -1):
            atoms.positions = positions
            atoms.positions[index, 0] += sign * step
            energies.append(atoms.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2 * step)
        assert -slope == pytest.approx(forces[index, 0], abs=1e-5)


def test_molecules_of_a_complex_act_on_each_other():
    near, far = (side_by_side("O", "O", distance=d) for d in (2.0, 50.0))
    for atoms in (near, far):
        atoms.calc = force_field()
    assert near.get_potential_energy() > far.get_potential_energy() + 0.1


def test_one_calculator_follows_from_molecule_to_molecule():
    calculator = force_field()
    water, ammonia = one("O"), one("N")
    found = []
    for atoms in (water, ammonia, water):
        atoms.rattle(0.01, seed=2)
        atoms.calc = calculator
        found.append(atoms.get_potential_energy())
        fresh = atoms.copy()
        fresh.calc = force_field()
        assert fresh.get_potential_energy() == found[-1]


def test_a_structure_without_smiles_is_an_error_that_says_where_to_start():
    atoms = one("O")
    del atoms.info["smiles"]
    atoms.calc = force_field()
    with pytest.raises(DataError, match=r"H2O has no 'smiles'.*data conformers"):
        atoms.get_potential_energy()


def test_atoms_that_are_not_those_of_the_smiles_are_an_error():
    atoms = one("O")
    atoms.info["smiles"] = "N"
    atoms.calc = force_field()
    with pytest.raises(DataError, match="are not those of its smiles 'N'"):
        atoms.get_potential_energy()


def test_a_molecule_without_parameters_is_an_error():
    with pytest.raises(DataError, match="neither MMFF94 nor UFF has parameters"):
        one("FS(F)(F)(F)(F)F")
