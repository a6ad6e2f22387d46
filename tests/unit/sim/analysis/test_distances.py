"""g(r) and h(r) against brute force, ASE, and systems whose answers are known."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.geometry.rdf import get_rdf

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.analysis.distances import (
    DistanceCounts,
    choose_r_max,
    distance_between,
    first_shell,
    pairs_within,
)
from jmp_calc.sim.analysis.settings import AnalysisSettings
from jmp_calc.sim.analysis.structure import Structure


def counts_of(frames, r_max, **settings) -> DistanceCounts:
    counts = DistanceCounts(frames[0], r_max, AnalysisSettings(**settings))
    for atoms in frames:
        counts.add(atoms)
    return counts


def brute_force(atoms: Atoms, r_max: float, reach: int = 4) -> np.ndarray:
    """Sorted distances of all ordered pairs, over many images."""
    ranges = [range(-reach, reach + 1) if on else [0] for on in atoms.pbc]
    shifts = np.array(np.meshgrid(*ranges)).reshape(3, -1).T @ np.array(atoms.cell)
    apart = atoms.positions[None] - atoms.positions[:, None]
    distance = np.linalg.norm(apart[:, :, None] + shifts, axis=-1).ravel()
    return np.sort(distance[(distance > 1e-9) & (distance < r_max)])


def skewed() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.set_cell(atoms.cell @ [[1, 0.2, 0], [0, 1, 0.1], [0, 0, 1]], scale_atoms=True)
    atoms.rattle(0.2, seed=1)
    return atoms


def outside() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 2), vacuum=3.0)
    atoms.positions += [7.0, -30.0, 11.0]
    atoms.rattle(0.1, seed=2)
    return atoms


def no_height() -> Atoms:
    atoms = fcc111("Cu", (1, 2, 2))
    atoms.set_cell([*np.array(atoms.cell)[:2], [0, 0, 0]])
    return atoms


@pytest.mark.parametrize(
    "atoms",
    [
        skewed(),
        skewed() * (4, 4, 4),
        outside(),
        outside() * (3, 3, 1),
        no_height(),
        molecule("CH3CH2OH"),
        Atoms("He"),
    ],
    ids=[
        "skewed, small",
        "skewed, large",
        "slab, outside of its cell",
        "large slab",
        "no height",
        "molecule",
        "atom",
    ],
)
def test_pairs_are_those_of_brute_force(atoms) -> None:
    r_max = 4.0 if len(atoms) > 50 else 6.0
    first, second, distance = pairs_within(atoms, r_max)
    reach = 2 if len(atoms) > 50 else 4
    wanted = brute_force(atoms, r_max, reach)
    np.testing.assert_allclose(np.sort(distance), wanted, atol=1e-9)
    assert len(first) == len(second) == len(distance)


@pytest.mark.parametrize("elements", [None, ("Na", "Cl"), ("Cl", "Cl")])
def test_g_is_that_of_ase(elements) -> None:
    frames = []
    for seed in range(3):
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (2, 2, 2)
        # the volume differs from frame to frame
        atoms.set_cell(atoms.cell * (1 + 0.01 * seed), scale_atoms=True)
        atoms.rattle(0.2, seed=seed)
        frames.append(atoms)
    wanted, r = get_rdf(frames, 5.0, 100, elements=elements)
    counts = counts_of(frames, 5.0, bin_width_A=0.05, pairs=("Na-Cl", "Cl-Cl"))
    np.testing.assert_allclose(counts.r, r)
    pair = "total" if elements is None else "-".join(elements)
    # a distance at the edge of a bin may go to either side
    np.testing.assert_allclose(counts.curves()[pair], wanted, atol=1e-9)


def test_partial_curves_are_symmetric_and_add_up() -> None:
    atoms = skewed() * (2, 2, 1)
    del atoms[0]
    curves = counts_of(
        [atoms], 5.0, pairs=("Na-Na", "Na-Cl", "Cl-Na", "Cl-Cl")
    ).curves()
    np.testing.assert_allclose(curves["Na-Cl"], curves["Cl-Na"])
    share = {
        s: np.mean(np.array(atoms.get_chemical_symbols()) == s) for s in ("Na", "Cl")
    }
    total = sum(share[a] * share[b] * curves[f"{a}-{b}"] for a in share for b in share)
    np.testing.assert_allclose(curves["total"], total)


def test_an_ideal_gas_has_one() -> None:
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(200):
        atoms = Atoms("Ar60Ne40", cell=[6.0, 7.0, 8.0], pbc=True)
        atoms.set_scaled_positions(rng.random((100, 3)))
        frames.append(atoms)
    # the range goes beyond half the cell
    counts = counts_of(frames, 5.0, bin_width_A=0.5)
    curves = counts.curves()
    # 200 frames and 100^2/2 pairs: 0.1 % in the outer bins, and some for self images
    wanted = {"total": 1 - 1 / 100, "Ar-Ar": 1 - 1 / 60, "Ar-Ne": 1.0}
    for pair, value in wanted.items():
        np.testing.assert_allclose(curves[pair][2:5], value, atol=0.03)
    # the error is that of the counts
    expected = curves["total"] / np.sqrt(200 * 100 * 99 / 2 * counts._shells / 336.0)
    np.testing.assert_allclose(counts.errors()["total"][2:5], expected[2:5], rtol=0.8)


@pytest.mark.parametrize("cells", [1, 3])
def test_neighbours_of_a_crystal_are_counted(cells) -> None:
    frames = []
    for scale in (1.0, 1.02):
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * cells
        atoms.set_cell(scale * atoms.cell, scale_atoms=True)
        frames.append(atoms)
    counts = counts_of(frames, 5.0)
    found = {name: number for name, _, number in counts.neighbors()}
    assert set(found) == {
        *("all", "Na around Cl", "Cl around Na", "Na around Na", "Cl around Cl")
    }
    # 6 at 2.8 and 2.856 A, 12 at 3.96 and 4.04 A, 8 at 4.85 and 4.95 A
    at = {r: int(np.searchsorted(counts.r, r)) for r in (2.82, 3.5, 4.5)}
    for name in ("Na around Cl", "Cl around Na"):
        assert [found[name][k] for k in at.values()] == [3, 6, 6]
    assert found["Na around Na"][at[4.5]] == pytest.approx(12)
    assert found["all"][at[4.5]] == pytest.approx(18)
    structure = Structure(frames[0], AnalysisSettings(r_max_A=5.0))
    structure.add(frames[0])
    (section,) = structure.sections()
    facts = {fact.name: fact.value for fact in section.facts}
    assert facts["neighbours in the first shell, Na around Cl"].startswith("6.00 up to")
    assert section.columns["neighbors_Na_around_Cl"][-1] == pytest.approx(14)


def test_the_first_shell_ends_in_the_valley_behind_the_peak() -> None:
    assert first_shell(np.array([0, 3, 2, 0.8, 0.5, 0.7, 1.1, 0.4])) == 4
    # it stays low, or never falls
    assert first_shell(np.array([0, 3, 2, 0.8, 0.5])) is None
    assert first_shell(np.array([0.0, 1.0, 1.0])) is None
    assert first_shell(np.zeros(5)) is None


def test_distances_beyond_the_range_are_told() -> None:
    atoms = Atoms("He3", positions=[[0, 0, 0], [0, 0, 1], [0, 0, 9]])
    structure = Structure(atoms, AnalysisSettings(r_max_A=5.0))
    structure.add(atoms)
    (section,) = structure.sections()
    assert section.notes[0].startswith("67 % of the distances are beyond 5 Å")


def test_half_of_the_smallest_cell_is_told() -> None:
    atoms = bulk("Cu", cubic=True) * 3
    structure = Structure(atoms, AnalysisSettings(r_max_A=5.0))
    for scale in (1.0, 0.9):
        frame = atoms.copy()
        frame.set_cell(scale * atoms.cell, scale_atoms=True)
        structure.add(frame)
    (section,) = structure.sections()
    assert section.notes[0].startswith("beyond 4.87 Å, half the cell")


def test_a_cell_smaller_than_the_range_gives_what_a_large_one_gives() -> None:
    small = bulk("Cu", cubic=True)
    one, eight = counts_of([small], 6.0), counts_of([small * (4, 4, 4)], 6.0)
    np.testing.assert_allclose(
        one.curves()["total"], eight.curves()["total"], rtol=1e-9
    )


def test_h_of_a_molecule_has_the_integral_one() -> None:
    atoms = molecule("CH3CH2OH")
    counts = counts_of([atoms], choose_r_max(atoms, AnalysisSettings()))
    assert not counts.is_rdf
    for curve in counts.curves().values():
        # there is one O, so no O-O
        assert np.sum(curve) * counts.bin_width == pytest.approx(1.0) or not curve.any()


def test_the_distance_of_curves_is_two_without_overlap() -> None:
    one = counts_of([Atoms("He2", positions=[[0, 0, 0], [0, 0, 1]])], 4.0)
    far = counts_of([Atoms("He2", positions=[[0, 0, 0], [0, 0, 3]])], 4.0)
    first, second = one.curves()["total"], far.curves()["total"]
    assert distance_between(first, second, one.bin_width) == pytest.approx(2.0)
    assert distance_between(first, first, one.bin_width) == 0.0


def test_the_default_range_fits_the_cell() -> None:
    settings = AnalysisSettings()
    assert choose_r_max(bulk("Cu"), settings) == 5.0
    assert choose_r_max(Atoms("H", cell=[14, 16, 18], pbc=True), settings) == 7.0
    assert choose_r_max(Atoms("H", cell=[50, 50, 50], pbc=True), settings) == 10.0


def test_a_period_without_vector_is_refused() -> None:
    with pytest.raises(ArgumentError, match="has no cell vector; give a cell"):
        choose_r_max(Atoms("H", cell=[1, 1, 0], pbc=True), AnalysisSettings())


def test_an_unknown_pair_is_refused() -> None:
    with pytest.raises(
        ArgumentError, match="there is no Na; the trajectory has C, H, O"
    ):
        counts_of([molecule("CH3CH2OH")], 3.0, pairs=("Na-O",))


def test_bins_must_fit_the_range() -> None:
    with pytest.raises(ArgumentError, match="bin width below half the range"):
        counts_of([bulk("Cu")], 3.0, bin_width_A=3.0)


def reference_facts(first: Atoms, reference: list[Atoms], tmp_path) -> dict:
    ase.io.write(tmp_path / "reference.traj", reference)
    settings = AnalysisSettings(reference=tmp_path / "reference.traj")
    structure = Structure(first, settings)
    structure.add(first)
    (section,) = structure.sections()
    return {fact.name: fact for fact in section.facts}


def test_a_reference_may_have_its_atoms_in_another_order(tmp_path) -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (2, 1, 1)
    atoms.rattle(0.1, seed=0)
    facts = reference_facts(atoms, [atoms[::-1]] * 20, tmp_path)
    for pair in ("total", "Na-Na", "Cl-Na", "Cl-Cl"):
        found = facts[f"MAE of g(r) against the reference, {pair}"]
        assert found.value == pytest.approx(0.0, abs=1e-9)
        assert found.unit == "Å"
    halves = facts["the same between the halves of the reference, total"]
    assert halves.value == pytest.approx(0.0, abs=1e-9)
    other = atoms.copy()
    other.set_cell(1.05 * other.cell, scale_atoms=True)
    facts = reference_facts(atoms, [other], tmp_path)
    assert facts["MAE of g(r) against the reference, total"].value > 0.5


def test_a_reference_of_another_system_is_refused(tmp_path) -> None:
    for other in (bulk("Cu"), molecule("H2O")):
        with pytest.raises(ArgumentError, match="give one of the same system"):
            reference_facts(bulk("NaCl", "rocksalt", a=5.6), [other], tmp_path)
