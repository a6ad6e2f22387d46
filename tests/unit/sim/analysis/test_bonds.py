"""Bonds through boundaries and in small cells, and their distributions."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from jmp_calc.sim.analysis.bonding import Bonding
from jmp_calc.sim.analysis.bonds import BondFollower, KindHistogram
from jmp_calc.sim.analysis.settings import AnalysisSettings


def facts_of(frames, **settings) -> dict:
    bonding = Bonding(frames[0], AnalysisSettings(**settings))
    for number, atoms in enumerate(frames):
        bonding.add(atoms, float(number), "frame", is_averaged=True)
    return {
        fact.name: fact.value for s in bonding.sections("frame") for fact in s.facts
    }


def test_bonds_and_angles_of_water() -> None:
    follower = BondFollower(molecule("H2O"))
    assert follower.kinds == ["H-O", "H-O"]
    np.testing.assert_allclose(
        follower.lengths(molecule("H2O")), molecule("H2O").get_distance(0, 1)
    )
    assert follower.angle_kinds == ["H-O-H"]
    assert follower.angles()[0] == pytest.approx(molecule("H2O").get_angle(1, 0, 2))


@pytest.mark.parametrize("pbc", [True, [True, True, False]])
def test_bonds_hold_when_atoms_are_wrapped(pbc) -> None:
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([[7.0, 0, 0], [2.0, 8, 0], [1, -1, 9.0]])
    atoms.set_pbc(pbc)
    follower = BondFollower(atoms)
    wanted = follower.lengths(atoms)
    for shift in ([3.0, 1.0, 0.0], [6.5, 4.0, 0.0], [20.0, -9.0, 0.0]):
        moved = atoms.copy()
        moved.positions += shift
        moved.wrap()
        np.testing.assert_allclose(follower.lengths(moved), wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("atoms", "n_bonds", "n_angles"),
    [
        (bulk("Cu"), 6, 66),
        (bulk("Cu", cubic=True), 24, 4 * 66),
        (bulk("Si"), 4, 12),
        (bulk("Po", "sc", a=3.3), 3, 15),
    ],
    ids=["fcc, 1 atom", "fcc, 4 atoms", "diamond", "sc"],
)
def test_small_cells_have_all_their_bonds(atoms, n_bonds, n_angles) -> None:
    follower = BondFollower(atoms)
    assert len(follower.atoms) == n_bonds
    assert len(follower.angle_kinds) == n_angles
    swollen = atoms.copy()
    swollen.set_cell(1.1 * atoms.cell, scale_atoms=True)
    np.testing.assert_allclose(
        follower.lengths(swollen), 1.1 * follower.first_lengths, rtol=1e-9
    )


def test_a_bond_that_breaks_is_told_with_time_and_atoms() -> None:
    frames = [
        Atoms("H2", positions=[[0, 0, 0], [0, 0, r]]) for r in (0.74, 0.9, 1.2, 0.8)
    ]
    facts = facts_of(frames)
    assert facts["stable to the end"] is False
    assert facts["largest bond stretch"] == pytest.approx(1.2 / 0.74)
    assert facts["first above 1.5 times"].startswith("frame 2 (H0-H1, 1.20 Å")
    facts = facts_of(frames, max_bond_stretch=1.7)
    assert facts["stable to the end"] is True


def test_equilibrium_lengths_are_those_of_the_reference(tmp_path) -> None:
    positions = np.zeros((2, 2, 3))
    positions[:, 1, 2] = [0.7, 0.9]
    np.savez(tmp_path / "a.npz", nuclear_charges=[1, 1], coords=positions)
    frames = [Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]])]
    facts = facts_of(frames, reference=tmp_path / "a.npz")
    assert facts["largest bond stretch"] == pytest.approx(0.74 / 0.8)
    assert "(reference: 0.8000 Å, spread 0.1000 Å)" in facts["H-H, mean"]


def test_a_histogram_has_the_integral_one_and_the_right_moments() -> None:
    rng = np.random.default_rng(0)
    histogram = KindHistogram(["a", "b", "a"], 0.01, 8.0)
    values = rng.normal([1.0, 2.0, 1.0], [0.1, 0.2, 0.1], (5000, 3))
    for row in values:
        histogram.add(row)
    for curve in histogram.densities().values():
        assert curve.sum() * 0.01 == pytest.approx(1.0)
    moments = histogram.moments()
    # 5000 samples: 0.003 for the mean
    assert moments["a"] == pytest.approx((1.0, 0.1), abs=0.01)
    assert moments["b"] == pytest.approx((2.0, 0.2), abs=0.01)


def test_atoms_without_bonds_are_told() -> None:
    bonding = Bonding(Atoms("He"), AnalysisSettings())
    bonding.add(Atoms("He"), 0.0, "ps", is_averaged=True)
    (section,) = bonding.sections("ps")
    assert "no two atoms of the first frame are closer" in section.notes[0]


def test_a_reference_with_other_numbers_for_its_atoms_is_not_taken_for_lengths(
    tmp_path,
):
    atoms = molecule("CH3CH2OH")
    other = atoms.copy()
    # both carbons change places: the same elements in the same order, other bonds
    first, second = np.flatnonzero(atoms.numbers == 6)
    other.positions[[first, second]] = other.positions[[second, first]]
    np.savez(
        tmp_path / "a.npz", nuclear_charges=other.numbers, coords=[other.positions]
    )
    bonding = Bonding(atoms, AnalysisSettings(reference=tmp_path / "a.npz"))
    bonding.add(atoms, 0.0, "ps", is_averaged=True)
    stability, bonds, angles = bonding.sections("ps")
    assert "numbered in another way" in stability.notes[0]
    facts = {fact.name: fact.value for fact in stability.facts}
    assert facts["largest bond stretch"] == pytest.approx(1.0)
    # distributions do not depend on the order
    for section in (bonds, angles):
        for name, curve in section.columns.items():
            if f"reference_{name}" in section.columns:
                np.testing.assert_allclose(curve, section.columns[f"reference_{name}"])


def test_equilibration_counts_for_stability_only() -> None:
    start = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]])
    stretched = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.4]])
    bonding = Bonding(start, AnalysisSettings())
    bonding.add(stretched, 0.0, "ps", is_averaged=False)
    bonding.add(start, 0.1, "ps", is_averaged=True)
    sections = {section.key: section for section in bonding.sections("ps")}
    facts = {f.name: f.value for s in sections.values() for f in s.facts}
    assert facts["C-O, mean"].startswith("1.1000 Å, spread 0.0000")
    assert facts["largest bond stretch"] == pytest.approx(1.4 / 1.1)
