"""Many structures of which some are bad."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.evaluation import OneByOne, evaluate_each

COPPER = bulk("Cu", cubic=True)
CHLORIDE = molecule("CH3Cl")


class Batched(OneByOne):
    """Counts calls; refuses all structures for one, as JMPCalculator does."""

    def __init__(self) -> None:
        super().__init__(EMT())
        self.sizes: list[int] = []

    def evaluate(self, list_of_atoms, properties=("energy", "forces")):
        self.sizes.append(len(list_of_atoms))
        return super().evaluate(list_of_atoms, properties)


def test_good_structures_take_one_call():
    calculator = Batched()
    found = evaluate_each(calculator, [COPPER, COPPER * 2], ["energy"])
    assert calculator.sizes == [2]
    assert found[1]["energy"] == pytest.approx(8 * found[0]["energy"])
    assert evaluate_each(calculator, []) == []
    assert calculator.sizes == [2]


def test_a_bad_one_is_told_and_the_others_are_computed():
    calculator = Batched()
    found = evaluate_each(calculator, [COPPER, CHLORIDE, COPPER], ["energy"])
    assert calculator.sizes == [3, 1, 1, 1]
    assert isinstance(found[1], UnsupportedSystemError)
    assert str(found[1]) == "No EMT-potential for Cl"
    assert found[0] == found[2]


def test_what_follows_a_refusal_is_computed_afresh():
    # ASE's EMT keeps the structure that it refused, and the neighbours of another
    twin = CHLORIDE.copy()
    found = evaluate_each(EMT(), [CHLORIDE, twin, COPPER], ["energy"])
    assert [type(item) for item in found[:2]] == [UnsupportedSystemError] * 2
    copper = COPPER.copy()
    copper.calc = EMT()
    assert found[2]["energy"] == pytest.approx(copper.get_potential_energy())


def test_results_that_are_not_finite_are_told():
    class Bad(Batched):
        def evaluate(self, list_of_atoms, properties=("energy", "forces")):
            found = super().evaluate(list_of_atoms, properties)
            found[0]["forces"][2, 1] = np.nan
            return found

    found = evaluate_each(Bad(), [COPPER, COPPER])
    assert str(found[0]) == "its forces came out not finite"
    assert np.isfinite(found[1]["forces"]).all()


def test_an_error_without_words_is_told_by_its_kind():
    class Silent(Batched):
        def evaluate(self, list_of_atoms, properties=("energy", "forces")):
            raise PropertyNotImplementedError

    (found,) = evaluate_each(Silent(), [COPPER])
    assert str(found) == "PropertyNotImplementedError"


class Failing(EMT):
    """Breaks down over aluminium, as codes do that are not ours."""

    def __init__(self, error) -> None:
        super().__init__()
        self.error = error

    def calculate(self, atoms=None, *args):
        super().calculate(atoms, *args)
        if "Al" in atoms.symbols:
            raise self.error


@pytest.mark.parametrize(
    "error", [RuntimeError("SCF failed"), KeyError("x"), AssertionError()]
)
def test_a_foreign_calculator_that_fails_does_not_take_the_others_along(error):
    systems = [COPPER, bulk("Al"), COPPER]
    found = evaluate_each(Failing(error), systems, ["energy"])
    assert isinstance(found[1], UnsupportedSystemError)
    assert f"the calculator failed ({type(error).__name__}: " in str(found[1])
    assert found[0] == found[2]


def test_a_mistake_in_a_foreign_calculator_is_not_hidden():
    with pytest.raises(TypeError, match="wrong"):
        evaluate_each(Failing(TypeError("wrong")), [bulk("Al")], ["energy"])


def test_a_stress_that_is_refused_costs_nothing():
    class WithoutStress(EMT):
        implemented_properties = ("energy", "forces")
        n_calls = 0

        def calculate(self, *args):
            self.n_calls += 1
            super().calculate(*args)

    calculator = WithoutStress()
    (found,) = evaluate_each(calculator, [COPPER], ["energy", "stress"])
    assert isinstance(found.__cause__, PropertyNotImplementedError)
    assert calculator.n_calls == 0
