"""What has changed in a structure is what ASE says, and cheaply known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import all_changes, compare_atoms

from jmp_calc.calculator.changes import changes_between

TOLERANCE = 1e-15


def shifted(by: float) -> Callable[[Atoms], None]:
    return lambda atoms: atoms.positions.__setitem__((0, 0), atoms.positions[0, 0] + by)


CHANGES: dict[str, Callable[[Atoms], object]] = {
    "nothing": lambda atoms: None,
    "a last digit": shifted(TOLERANCE / 2),
    "a little": shifted(1e-12),
    "much": shifted(1.0),
    "nan": shifted(float("nan")),
    "the cell": lambda atoms: atoms.set_cell(atoms.cell.array * 1.01),
    "the periodicity": lambda atoms: atoms.set_pbc([True, True, False]),
    "an element": lambda atoms: atoms.numbers.__setitem__(0, 9),
    "an atom more": lambda atoms: atoms.extend(Atoms("H")),
    "moments": lambda atoms: atoms.set_initial_magnetic_moments([1.0] * len(atoms)),
    "charges": lambda atoms: atoms.set_initial_charges([1.0] * len(atoms)),
    "momenta": lambda atoms: atoms.set_momenta(np.ones((len(atoms), 3))),
}


@pytest.mark.parametrize("ignored", [set(), {"initial_magmoms", "initial_charges"}])
@pytest.mark.parametrize("start", [molecule("CH3OH"), bulk("Cu", cubic=True)])
@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_those_that_ase_finds(change, start, ignored) -> None:
    before, now = start.copy(), start.copy()
    CHANGES[change](now)
    found = changes_between(before, now, tolerance=TOLERANCE, ignored=ignored)
    expected = compare_atoms(before, now, TOLERANCE, excluded_properties=ignored)
    assert sorted(found) == sorted(expected)


def test_without_an_earlier_structure_all_has_changed() -> None:
    now = molecule("CH3OH")
    found = changes_between(None, now, tolerance=TOLERANCE, ignored=())
    assert found == list(all_changes)


def test_what_is_the_same_to_the_last_bit_is_not_compared(monkeypatch) -> None:
    atoms = molecule("CH3OH")
    monkeypatch.setattr("jmp_calc.calculator.changes.equal", None)
    assert changes_between(atoms.copy(), atoms, tolerance=0.0, ignored=()) == []
