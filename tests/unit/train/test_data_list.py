"""The molecules of the recipe 'xtb': what is among them, and what is not."""

from __future__ import annotations

from collections import Counter

import pytest

from jmp_train.data.conformers import connectivity, molecule_of, read_list
from jmp_train.data.exclusion import EXCLUDED_FORMULAS
from jmp_train.data.molecule_split import ALWAYS_TRAIN, n_heavy, split_of_molecules
from jmp_train.data.recipes import DATA_RECIPES
from jmp_train.data.recipes.steps import START
from jmp_train.data.sampling_settings import NEED_CALCULATOR

pytest.importorskip("rdkit", reason="needs the extra rdkit")

from rdkit.Chem.rdMolDescriptors import CalcMolFormula

# other ways to write them than in test_exclusion, so that connectivity is compared
KEPT_OUT = {
    "aspirin": "O=C(C)Oc1ccccc1C(O)=O",
    "azobenzene": "c1ccc(cc1)N=Nc1ccccc1",
    "benzene": "c1ccccc1",
    "ethanol": "OCC",
    "malonaldehyde": "O=CCC=O",
    "malonaldehyde (enol)": "OC=CC=O",
    "naphthalene": "c1cccc2ccccc12",
    "paracetamol": "Oc1ccc(NC(C)=O)cc1",
    "salicylic acid": "OC(=O)c1ccccc1O",
    "toluene": "Cc1ccccc1",
    "uracil": "O=c1cc[nH]c(=O)[nH]1",
}
WANTED = {
    "H2": "[H][H]",
    "methane": "C",
    "ammonia": "N",
    "water": "O",
    "hydrogen chloride": "Cl",
    "hydrogen sulfide": "S",
    "phosphine": "P",
    "carbon monoxide": "[C-]#[O+]",
    "carbon dioxide": "O=C=O",
    "nitrogen": "N#N",
    "butane": "CCCC",
    "octane": "CCCCCCCC",
    "glycine": "NCC(=O)O",
    "tryptophan": "NC(Cc1c[nH]c2ccccc12)C(=O)O",
    "alanine dipeptide": "CC(=O)NC(C)C(=O)NC",
    "trimethyl phosphate": "COP(=O)(OC)OC",
    "caffeine": "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
}
AMINO_ACIDS = 20


@pytest.fixture(scope="module")
def smiles() -> list[str]:
    return [entry.smiles for entry in read_list(DATA_RECIPES["xtb"].smiles)]


@pytest.fixture(scope="module")
def groups(smiles) -> list[str]:
    return [connectivity(each) for each in smiles]


def test_no_molecule_of_rmd17_is_in_the_list(groups):
    kept_out = {connectivity(each): name for name, each in KEPT_OUT.items()}
    assert not kept_out.keys() & set(groups)


def test_no_formula_of_rmd17_is_in_the_list(smiles):
    formulas = {CalcMolFormula(molecule_of(each)) for each in smiles}
    assert len(formulas) > 500
    assert not formulas & EXCLUDED_FORMULAS.keys()


def test_the_kept_out_molecules_have_the_kept_out_formulas():
    found = {CalcMolFormula(molecule_of(each)) for each in KEPT_OUT.values()}
    assert found == set(EXCLUDED_FORMULAS)


def test_every_molecule_is_there_once(groups):
    assert [name for name, count in Counter(groups).items() if count > 1] == []
    assert 600 <= len(groups) <= 1520


def test_molecules_are_neutral_closed_shells_of_the_eight_elements(smiles):
    """``molecule_of`` refuses charges and unpaired electrons."""
    molecules = [molecule_of(each) for each in smiles]
    elements = {a.GetSymbol() for molecule in molecules for a in molecule.GetAtoms()}
    assert elements == {"H", "C", "N", "O", "F", "S", "Cl", "P"}
    sizes = [molecule.GetNumAtoms() for molecule in molecules]
    assert 12 < sum(sizes) / len(sizes) < 17
    assert max(molecule.GetNumHeavyAtoms() for molecule in molecules) <= 25


@pytest.mark.parametrize("name", WANTED)
def test_common_molecules_are_in_the_list(groups, name):
    assert connectivity(WANTED[name]) in groups


def test_all_amino_acids_are_in_the_list():
    entries = read_list(DATA_RECIPES["xtb"].smiles)
    count = Counter(entry.category for entry in entries)
    assert count["amino acids"] in (AMINO_ACIDS - 1, AMINO_ACIDS)
    assert all(count[name] >= 5 for name in count)


def test_each_element_is_in_dozens_of_molecules(groups):
    for symbol in ("F", "S", "Cl", "P"):
        assert sum(symbol in group for group in groups) > 60


def test_heavy_atoms_are_counted_as_rdkit_counts_them(groups):
    for group in groups:
        molecule = molecule_of(group)
        heavy = sum(atom.GetAtomicNum() > 1 for atom in molecule.GetAtoms())
        assert n_heavy(group) == heavy, group


def test_a_twentieth_of_the_molecules_is_held_out_for_each_part(groups):
    larger = [group for group in groups if n_heavy(group) > ALWAYS_TRAIN]
    parts = Counter(split_of_molecules(group) for group in larger)
    assert parts["val"] / len(larger) == pytest.approx(0.05, abs=0.02)
    assert parts["test"] / len(larger) == pytest.approx(0.05, abs=0.02)


RECORDED = {
    "CCCC": "train",
    "NCC(=O)O": "train",
    "CNC(C)=O": "val",
    "NC(N)=O": "val",
    "Clc1ccccc1": "val",
    "Nc1ccccc1": "test",
    "CC(C)C=O": "test",
    "CC(F)(F)F": "test",
}


def test_parts_are_the_same_on_every_machine_and_day(groups):
    """Recorded once; a change would put test molecules into training."""
    assert RECORDED.keys() <= set(groups)
    assert {group: split_of_molecules(group) for group in RECORDED} == RECORDED


def test_small_molecules_are_always_trained_on(groups):
    small = [group for group in groups if n_heavy(group) <= ALWAYS_TRAIN]
    assert "O" in small
    assert {split_of_molecules(group) for group in small} == {"train"}


def test_a_complex_is_held_out_with_its_molecules(groups):
    by_part: dict[str, str] = {}
    for group in groups:
        by_part.setdefault(split_of_molecules(group), group)
    train, val, test = (by_part[part] for part in ("train", "val", "test"))
    assert split_of_molecules(f"{train}.O") == "train"
    assert split_of_molecules(f"O.{val}") == "val"
    assert split_of_molecules(f"{train}.{test}.{val}") == "test"


# -- the steps -----------------------------------------------------------------------


@pytest.mark.parametrize("name", DATA_RECIPES)
def test_each_step_starts_from_one_before_it(name):
    known = {START}
    for step in DATA_RECIPES[name].steps:
        assert step.choice.step in known
        assert step.name not in known
        known.add(step.name)


@pytest.mark.parametrize("name", DATA_RECIPES)
def test_no_two_steps_share_their_random_numbers(name):
    seeds = [step.settings.seed for step in DATA_RECIPES[name].steps]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("name", DATA_RECIPES)
def test_steps_have_a_calculator_if_they_need_one(name):
    for step in DATA_RECIPES[name].steps:
        assert (step.calculator is not None) == (step.settings.kind in NEED_CALCULATOR)
