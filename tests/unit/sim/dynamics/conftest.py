"""Cheap calculators whose statistics and failures are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms


class Springs(Calculator):
    """Each atom on a spring (2 eV/A^2) to its place, in the frame of their mean.

    ``swirl`` adds a force around z that no energy belongs to. ``fault`` is called
    with the results and the number of the evaluation, and may change them or raise.
    """

    def __init__(
        self,
        places: np.ndarray,
        *,
        is_free: bool = True,
        swirl: float = 0.0,
        fault: Callable[[dict, int], None] | None = None,
    ) -> None:
        super().__init__()
        self.implemented_properties = ["energy", "forces"]
        self.places = places.copy()
        self.is_free = is_free
        self.swirl = swirl
        self.fault = fault
        self.n_calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        shift = self.atoms.positions - self.places
        if self.is_free:
            shift = shift - shift.mean(axis=0)
        around = np.cross([0.0, 0.0, 1.0], shift)
        self.results = {
            "energy": float(np.sum(shift**2)),
            "forces": -2.0 * shift + self.swirl * around,
        }
        if self.fault is not None:
            self.fault(self.results, self.n_calls)
        self.n_calls += 1


def on_springs(atoms: Atoms, **options) -> Atoms:
    is_free = not atoms.constraints
    atoms.calc = Springs(atoms.positions, is_free=is_free, **options)
    return atoms


@pytest.fixture
def ethanol() -> Callable[..., Atoms]:
    return lambda **options: on_springs(molecule("CH3CH2OH"), **options)


@pytest.fixture
def slab() -> Callable[..., Atoms]:
    def build(**options) -> Atoms:
        atoms = fcc111("Cu", (2, 2, 3), vacuum=8.0)
        atoms.set_constraint(FixAtoms(mask=atoms.get_tags() >= 2))
        return on_springs(atoms, **options)

    return build


@pytest.fixture
def crystal() -> Callable[..., Atoms]:
    return lambda **options: on_springs(bulk("Cu") * (2, 2, 2), **options)


@pytest.fixture
def springs() -> type[Springs]:
    """For systems that a test builds itself."""
    return Springs
