"""Calculators of others: what is told of them."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule

from jmp_calc.calculator.named import CalculatorChoice


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({"charge": 1}, "charge 1"),
        ({"charge": np.int64(-1), "spin": 2}, "charge -1 and spin 2"),
        ({"spin_multiplicity": 3}, "spin_multiplicity 3"),
    ],
)
def test_a_charge_that_is_not_read_is_told(info, told):
    atoms = molecule("H2O")
    atoms.info |= info
    choice = CalculatorChoice(name="tblite", options={})
    (note,) = choice.describe(atoms)["notes"]
    assert f"atoms.info has {told}, which tblite does not read there" in note
    atoms.set_initial_charges([1, 0, 0])
    assert choice.describe(atoms)["notes"] == []


@pytest.mark.parametrize(
    "info", [{}, {"charge": 0, "spin": 1}, {"charge": 0.0}, {"charge": None}]
)
def test_a_trivial_charge_needs_no_note(info):
    atoms = molecule("H2O")
    atoms.info |= info
    about = CalculatorChoice(name="tblite", options={}).describe(atoms)
    assert about["notes"] == []
    assert about["level_of_theory"] == "GFN2-xTB"


def test_tblite_gives_the_same_whatever_it_computed_before():
    pytest.importorskip("tblite", reason="needs the extra xtb")
    first, second = molecule("CH3OH"), molecule("CH3OH")
    second.rattle(0.1, seed=1)
    alone = CalculatorChoice(name="tblite", options={}).build()
    expected = alone.get_property("forces", second)
    after = CalculatorChoice(name="tblite", options={}).build()
    after.get_property("forces", first)
    assert np.array_equal(after.get_property("forces", second), expected)
