from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from jmp_calc.errors import DataError
from jmp_calc.models import references
from jmp_calc.models.references import ReferenceFit, energy_label

TRUE = {1: -13.6, 6: -1036.2, 8: -2043.9}
WATER, METHANE, CO2, METHANOL = (
    molecule(name).numbers for name in ("H2O", "CH4", "CO2", "CH3OH")
)


def flat(systems: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    index = np.repeat(np.arange(len(systems)), [len(of) for of in systems])
    return np.concatenate([*systems, np.zeros(0, dtype=np.int64)]), index


def fit_references(systems: list[np.ndarray], energy: np.ndarray) -> ReferenceFit:
    return references.fit_references(*flat(systems), energy)


def sum_of_references(systems: list[np.ndarray], of: dict[int, float]) -> np.ndarray:
    return references.sum_of_references(*flat(systems), of)


def test_the_references_behind_exact_energies_are_found():
    numbers = [WATER, METHANE, CO2, METHANOL]
    fit = fit_references(numbers, sum_of_references(numbers, TRUE))
    assert fit.references == pytest.approx(TRUE, rel=1e-12)
    assert fit.is_unique
    assert abs(fit.residual).max() < 1e-10


def test_noise_is_left_in_the_residual_and_sums_to_zero_per_element():
    rng = np.random.default_rng(0)
    numbers = [WATER, METHANE, CO2, METHANOL] * 5
    energies = sum_of_references(numbers, TRUE) + rng.normal(0, 0.1, 20)
    fit = fit_references(numbers, energies)
    counts = np.array([[(of == z).sum() for z in TRUE] for of in numbers])
    assert abs(counts.T @ fit.residual).max() < 1e-8
    again = sum_of_references(numbers, fit.references)
    np.testing.assert_allclose(energies - again, fit.residual, atol=1e-9)


def test_elements_that_never_occur_get_no_reference():
    fit = fit_references([WATER, METHANE, CO2], np.zeros(3))
    assert list(fit.references) == [1, 6, 8]


def test_fixed_proportions_give_the_least_norm_and_the_right_sum():
    numbers = [WATER, WATER, np.tile(WATER, 2)]
    fit = fit_references(numbers, np.array([-10.0, -10.0, -20.0]))
    assert (fit.rank, fit.is_unique) == (1, False)
    # the norm is least along the composition (2 H, 1 O): -10 * (2, 1) / 5
    assert fit.references == pytest.approx({1: -4.0, 8: -2.0})


def test_fewer_structures_than_elements_are_an_error():
    with pytest.raises(DataError, match="2 structures with 3 elements: at least one"):
        fit_references([METHANOL, WATER], np.zeros(2))


def test_no_structures_are_an_error():
    with pytest.raises(DataError, match="0 structures with 0 elements"):
        fit_references([], np.zeros(0))


def test_an_energy_that_is_not_finite_is_named():
    with pytest.raises(DataError, match="energy of structure 1 is nan"):
        fit_references([WATER, METHANE, CO2], np.array([0.0, np.nan, 0.0]))


def test_elements_without_reference_count_zero():
    assert sum_of_references([WATER], {1: -1.5}).tolist() == [-3.0]


def labelled(**energies: float) -> Atoms:
    atoms = Atoms("H", info={k: v for k, v in energies.items() if k != "calculator"})
    if "calculator" in energies:
        atoms.calc = SinglePointCalculator(atoms, energy=energies["calculator"])
    return atoms


@pytest.mark.parametrize(
    ("atoms", "label"),
    [
        (labelled(REF_energy=1.0, calculator=2.0, energy=3.0), 1.0),
        (labelled(calculator=2.0, energy=3.0), 2.0),
        (labelled(energy=3.0), 3.0),
    ],
)
def test_the_label_is_the_reference_then_the_calculator_then_info(atoms, label):
    assert energy_label(atoms) == label


def test_a_named_key_is_the_only_one_looked_at():
    assert energy_label(labelled(dft=4.0, REF_energy=1.0), key="dft") == 4.0
    with pytest.raises(DataError, match=r"no energy label \(dft\); found are REF_"):
        energy_label(labelled(REF_energy=1.0), key="dft")


def test_a_missing_label_lists_the_keys_found():
    atoms = labelled(E_dft=1.0, name=2.0)
    atoms.calc = SinglePointCalculator(atoms, forces=np.zeros((1, 3)))
    with pytest.raises(
        DataError, match="found are E_dft, name in its info and forces in its calcul"
    ):
        energy_label(atoms)


def test_a_label_that_is_text_is_an_error():
    with pytest.raises(DataError, match="label 'REF_energy' is 'unknown', not"):
        energy_label(Atoms("H", info={"REF_energy": "unknown"}))
