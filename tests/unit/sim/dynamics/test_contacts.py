"""Atoms that come close although they were apart."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.data import atomic_numbers, covalent_radii

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.dynamics.md import (
    MDSettings,
    RecordSettings,
    WatchSettings,
    run_md,
)
from jmp_calc.sim.dynamics.settings import SHORTEST_BOND


class Pull(Calculator):
    """A constant force that draws two atoms together; nothing repels them."""

    implemented_properties = ("energy", "forces")

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.pair = (first, second)

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        i, j = self.pair
        vector = self.atoms.get_distance(i, j, mic=True, vector=True)
        length = np.linalg.norm(vector)
        forces = np.zeros((len(self.atoms), 3))
        forces[i], forces[j] = vector / length, -vector / length
        self.results = {"energy": float(length), "forces": forces}


def waters() -> Atoms:
    """Two molecules; the oxygens are 2.8 angstrom apart across the cell."""
    first, second = molecule("H2O"), molecule("H2O")
    second.rotate(180, "x")
    second.positions += [0, 0, 9.0 - 2.8] + first.positions[0] - second.positions[0]
    pair = first + second
    pair.set_cell([9.0, 9.0, 9.0])
    pair.pbc = True
    return pair


def collide(tmp_path, **watch):
    atoms = waters()
    atoms.calc = Pull(0, 3)
    settings = MDSettings(ensemble="nve", temperature_K=0.0, steps=400)
    record = RecordSettings(log_stride=1)
    watch = WatchSettings(max_temperature_K=1e9, **watch)
    return run_md(atoms, settings, record=record, watch=watch, out=tmp_path)


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_molecules_that_collide_are_found_across_the_cell(factor, tmp_path):
    result = collide(tmp_path, min_contact=factor)
    assert result.status == "unstable"
    assert "two atoms (O0-O3, " in result.reason
    assert f"closer than min_contact = {factor:g} times the sum" in result.reason
    # the step before it was not yet too close
    reach = 2 * factor * covalent_radii[8]
    assert reach < result.atoms.get_distance(0, 3, mic=True) < 1.1 * reach
    assert "at step" in result.closest_atoms


def test_the_closest_contact_is_told_and_stays_known_in_a_resume(tmp_path):
    result = collide(tmp_path, min_contact=0.0)
    assert result.status == "completed"
    assert result.closest_new_contact < 0.1
    atoms = waters()
    atoms.calc = Pull(0, 3)
    settings = MDSettings(ensemble="nve", temperature_K=0.0, steps=400)
    watch = WatchSettings(max_temperature_K=1e9, min_contact=0.0)
    again = run_md(atoms, settings, watch=watch, out=tmp_path, resume=True)
    assert again.closest_new_contact == result.closest_new_contact
    assert again.closest_atoms is None


def test_atoms_on_top_of_each_other_are_no_start(tmp_path):
    atoms = Atoms("ArOH", [[0, 0, 0], [9, 0, 0], [9, 0, 0.3]])
    atoms.calc = Pull(0, 1)
    with pytest.raises(UnsupportedSystemError, match=r"two atoms .O1-H2, 0\.30 A at"):
        run_md(atoms, MDSettings(), out=tmp_path)


@pytest.mark.parametrize(
    ("pair", "length_A"),
    [
        ("Cr-Cr", 1.679),  # dimer, the shortest for its radii
        ("Mo-Mo", 1.938),
        ("H-H", 0.741),
        ("N-N", 1.098),
        ("C-O", 1.128),
        ("C-C", 1.203),
        ("U-O", 1.70),
        ("V-O", 1.57),
        ("Re-N", 1.64),
        ("H-F", 0.917),
    ],
)
def test_no_bond_is_as_short_as_the_limit(pair, length_A):
    radii = sum(covalent_radii[atomic_numbers[symbol]] for symbol in pair.split("-"))
    # a tenth is more than the amplitude of such a bond at 3000 K
    assert 0.9 * length_A > SHORTEST_BOND * radii


def test_neighbours_that_change_place_are_no_alarm(tmp_path):
    # copper far above its melting point
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.calc = EMT()
    settings = MDSettings(temperature_K=3000.0, timestep_fs=4.0, steps=150)
    result = run_md(atoms, settings, out=tmp_path)
    assert result.status == "completed"
    assert SHORTEST_BOND < result.closest_new_contact < 1.2
