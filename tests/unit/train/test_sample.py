from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import molecule

from jmp_calc.errors import DataError
from jmp_train.data.sample import Sample, hill_formula, structure_hash
from toys.training import labelled


@pytest.fixture
def sample(water) -> Sample:
    return labelled(water, group="water")


def test_a_sample_becomes_atoms_with_its_tags(sample) -> None:
    atoms = sample.to_atoms()
    assert atoms.get_chemical_formula() == "H2O"
    assert atoms.get_tags().tolist() == [2, 2, 2]
    assert atoms.calc is None


def check(sample: Sample, **changes: object) -> None:
    """The check at construction, past the type hook that would catch shapes first."""
    values = {f.name: getattr(sample, f.name) for f in fields(Sample)} | changes
    Sample.__post_init__(SimpleNamespace(**values))


@pytest.mark.parametrize("field", ["positions", "forces"])
def test_arrays_must_fit_the_number_of_atoms(sample, field) -> None:
    message = rf"{field} of sample 'water' of 'qm7x' have shape \(2, 3\).*\(3, 3\)"
    check(sample)
    with pytest.raises(DataError, match=message):
        check(sample, **{field: getattr(sample, field)[:2]})


@pytest.mark.parametrize("field", ["positions", "forces", "cell"])
def test_numbers_must_be_finite(sample, field) -> None:
    value = getattr(sample, field).copy()
    value[0, 0] = np.nan
    with pytest.raises(DataError, match="not finite; skip it in the reader"):
        replace(sample, **{field: value})


def test_the_energy_must_be_finite(sample) -> None:
    with pytest.raises(DataError, match="not finite"):
        replace(sample, energy=float("inf"))


def test_a_sample_has_atoms(sample) -> None:
    with pytest.raises(DataError, match="has no atoms; skip it"):
        check(sample, numbers=sample.numbers[:0])


def test_formulas_are_in_hill_order() -> None:
    assert hill_formula(molecule("CH3CH2OH").numbers) == "C2H6O"
    assert hill_formula(np.array([17, 11])) == "ClNa"


def test_the_hash_ignores_labels_source_and_translation(sample) -> None:
    moved = replace(
        sample,
        positions=sample.positions + 1.5,
        energy=0.0,
        forces=None,
        source="other",
        group="other",
    )
    assert structure_hash(moved) == structure_hash(sample)


def test_the_hash_sees_a_moved_atom_another_element_and_a_cell(sample) -> None:
    positions = sample.positions.copy()
    positions[1, 0] += 1e-3
    others = [
        replace(sample, positions=positions),
        replace(sample, numbers=np.array([16, 1, 1])),
        replace(sample, cell=5.0 * np.eye(3)),
    ]
    names = {structure_hash(other) for other in [sample, *others]}
    assert len(names) == 4
