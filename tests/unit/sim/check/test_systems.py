"""The systems that ``check`` brings along are sane."""

from __future__ import annotations

import numpy as np
import pytest
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from jmp_calc.sim.check.systems import SYSTEMS, covered_slab


def test_no_atoms_of_a_built_in_system_overlap() -> None:
    for system in SYSTEMS:
        atoms = system.build()
        reach = [0.7 * covalent_radii[number] for number in atoms.numbers]
        assert len(neighbor_list("i", atoms, reach)) == 0, system.name


def test_carbon_monoxide_stands_on_its_carbon() -> None:
    slab = covered_slab()
    (carbon,), (oxygen,) = (np.flatnonzero(slab.symbols == s) for s in "CO")
    assert slab.positions[oxygen, 2] > slab.positions[carbon, 2]
    copper = np.flatnonzero(slab.symbols == "Cu")
    nearest = slab.get_distances(carbon, copper, mic=True).min()
    assert nearest == pytest.approx(1.9)
