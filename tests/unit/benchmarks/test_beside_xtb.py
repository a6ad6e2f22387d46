"""What benchmarks/beside_xtb.py compares, and on which molecules."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_numbers

from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_train.data.conformers import connectivity, molecule_of
from jmp_train.data.exclusion import EXCLUDED_FORMULAS
from jmp_train.data.molecule_split import split_of_molecules
from jmp_train.data.sample import hill_formula

FOLDER = Path(__file__).parents[3] / "benchmarks"
EXACT = 1e-9
"""Rounding of a few operations in float64."""


def loaded(name: str) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(FOLDER / f"{name}.py")))


COMPARE = loaded("beside_xtb_compare")


@pytest.fixture(scope="module")
def molecules() -> SimpleNamespace:
    pytest.importorskip("rdkit", reason="molecules come from SMILES")
    return loaded("beside_xtb_molecules")


def turned_and_moved(positions: np.ndarray) -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    return positions @ (turn * np.linalg.det(turn)) + [1.0, -2.0, 3.0]


def test_a_molecule_turned_and_moved_is_at_no_distance() -> None:
    ethanol = molecule("CH3CH2OH").positions
    assert COMPARE.superposed_rmsd(turned_and_moved(ethanol), ethanol) < EXACT


def test_a_mirror_image_is_another_molecule() -> None:
    chiral = np.array([[0, 0, 0], [1, 0, 0], [0, 1.3, 0], [0, 0, 1.6]])
    assert COMPARE.superposed_rmsd(chiral * [1, 1, -1], chiral) > 0.1


def test_the_distance_is_the_root_mean_square_over_atoms() -> None:
    short, long = (
        np.array([[-1.0, 0, 0], [1.0, 0, 0]]),
        np.array([[0, 0, 0], [0, 2.2, 0]]),
    )
    assert COMPARE.superposed_rmsd(short, long) == pytest.approx(0.1, abs=EXACT)


def test_what_could_not_be_computed_is_beyond_every_limit() -> None:
    assert COMPARE.share_within([0.01, 0.05, 0.06, None], 0.05) == 0.5


def test_there_is_no_share_of_nothing() -> None:
    assert COMPARE.share_within([], 0.05) is None


def test_errors_of_bonds_are_of_the_named_pairs_in_any_orientation() -> None:
    water = molecule("H2O")
    stretched = water.copy()
    stretched.set_distance(0, 2, water.get_distance(0, 2) + 0.03, fix=0)
    errors = COMPARE.bond_length_errors(
        np.array([[0, 1], [0, 2]]),
        turned_and_moved(stretched.positions),
        water.positions,
    )
    assert errors == pytest.approx([0.0, 0.03], abs=EXACT)


def test_a_minimum_between_points_is_found() -> None:
    x = np.linspace(2.4, 6.0, 37)
    place, height = COMPARE.lowest_point(x, 40 * (x - 2.873) ** 2 - 217)
    assert (place, height) == pytest.approx((2.873, -217), abs=1e-7)


@pytest.mark.parametrize(("slope", "place"), [(1.0, 0.0), (-1.0, 3.0)])
def test_a_curve_without_a_minimum_is_lowest_at_its_end(slope, place) -> None:
    x = np.arange(4.0)
    assert COMPARE.lowest_point(x, slope * x) == (place, slope * place)


def test_a_slope_through_a_window_has_no_minimum_beyond_it() -> None:
    x = np.arange(6.0)
    assert COMPARE.lowest_point(x, (x - 5) ** 2, window=(1, 3)) == (3.0, 4.0)


def test_a_window_without_points_is_refused() -> None:
    x = np.arange(3.0)
    with pytest.raises(ValueError, match="no point of the curve is within 5 and 6"):
        COMPARE.lowest_point(x, x, window=(5, 6))


# syn is the highest point with the one, and anti not the lowest with the other
@pytest.mark.parametrize("once", [30.0, -30.0])
def test_barriers_are_counted_from_anti(once) -> None:
    angles = np.linspace(0, 180, 13)
    phi = np.radians(angles)
    fine = np.radians(np.linspace(0, 180, 18001))

    def energy(x: np.ndarray) -> np.ndarray:
        return 7 + once * np.cos(x) - 10 * np.cos(2 * x) + 60 * np.cos(3 * x)

    exact = energy(fine) - energy(fine)[-1]
    found = COMPARE.torsion_barriers(angles, energy(phi))
    # the parabola through points 15 degrees apart leaves out the fourth derivative
    near = pytest.approx(
        {
            "eclipsed_above_anti_meV": exact[9000:15001].max(),
            "gauche_above_anti_meV": exact[3000:9001].min(),
            "syn_above_anti_meV": exact[0],
        },
        abs=0.5,
    )
    assert found == near


def test_a_torsion_that_does_not_end_at_anti_is_refused() -> None:
    with pytest.raises(ValueError, match="goes from 0 to 150 degrees; give a curve"):
        COMPARE.torsion_barriers(np.linspace(0, 150, 11), np.zeros(11))


def test_errors_are_mean_and_largest() -> None:
    assert COMPARE.errors_of([1.0, 2.0], [2.0, -1.0]) == {"mae": 2.0, "largest": 3.0}


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        COMPARE.errors_of([1.0, 2.0], [1.0])


def test_the_molecules_of_rmd17_are_those_that_are_excluded(molecules) -> None:
    formulas = {}
    for name, smiles in molecules.RMD17.items():
        symbols = [atom.GetSymbol() for atom in molecule_of(smiles).GetAtoms()]
        formulas[hill_formula(np.array([atomic_numbers[s] for s in symbols]))] = name
    assert formulas == EXCLUDED_FORMULAS


def test_held_out_molecules_are_excluded_or_of_the_test_part(molecules) -> None:
    found = {connectivity(smiles) for smiles in molecules.held_out_smiles()}
    excluded = {connectivity(smiles) for smiles in molecules.RMD17.values()}
    assert excluded < found
    assert {split_of_molecules(group) for group in found - excluded} == {"test"}


def test_butane_was_trained_on_and_no_held_out_molecule_was(molecules) -> None:
    assert molecules.was_trained_on("C(C)CC", "xtb") is True
    assert molecules.was_trained_on(molecules.held_out_smiles()[0], "xtb") is False


def test_a_molecule_that_is_not_listed_was_not_trained_on(molecules) -> None:
    eicosane = "C" * 20
    assert split_of_molecules(eicosane) == "train"
    assert molecules.was_trained_on(eicosane, "xtb") is False


def test_of_heads_of_other_sets_it_is_not_known(molecules) -> None:
    assert molecules.was_trained_on("CCCC", "qm7x") is None


def test_what_is_kept_is_computed_once_for_each_geometry(molecules, tmp_path) -> None:
    calls = []

    def compute() -> list[float]:
        calls.append(len(calls))
        return [0.1, calls[-1]]

    kept = molecules.Kept(folder=tmp_path / "new")
    water = molecule("H2O")
    first = kept.get("minimum", water, compute)
    assert kept.get("minimum", water, compute) == first
    assert kept.get("minimum with other settings", water, compute) != first
    water.positions[0, 0] += 1e-6
    assert kept.get("minimum", water, compute) != first
    assert kept.get("frequencies", water, compute) != first
    assert len(calls) == 4


def test_nothing_is_kept_without_a_folder(molecules) -> None:
    results = iter([1, 2])
    kept = molecules.Kept(folder=None)
    found = [kept.get("minimum", molecule("H2O"), lambda: next(results)) for _ in "ab"]
    assert found == [1, 2]


@pytest.mark.parametrize(
    ("smiles", "n"),
    [
        ("CC", 0),  # three alike
        ("Cc1ccccc1", 0),
        ("N#CCCl", 0),  # linear, and a lone atom
        ("C1CCNCC1", 0),  # in a ring
        ("C=C", 0),  # double
        ("CCO", 1),  # the hydroxyl
        ("CCCC", 1),
        ("c1ccc(-c2ccccc2)cc1", 1),
        ("CC(C)(C)N", 1),  # the amine; tert-butyl is not three alike atoms behind it
        ("CC(=O)Nc1ccccc1", 2),  # the amide
    ],
)
def test_bonds_turn_that_change_the_geometry(molecules, smiles, n) -> None:
    assert molecules.n_turning_bonds(smiles) == n


class Springs(Calculator):
    """Springs between all atoms of NH3 that make it a pyramid 0.5 Å high."""

    implemented_properties = ("energy", "forces")
    lengths = np.array([[0.0, 1.0, 1.0, 1.0]] + [[1.0, 1.5, 1.5, 1.5]] * 3)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        arms = atoms.positions[:, None] - atoms.positions
        apart = np.linalg.norm(arms, axis=2) + np.eye(4)
        stretch = (apart - self.lengths) * (1 - np.eye(4))
        pull = -30.0 * (stretch / apart)[:, :, None] * arms
        self.results = {
            "energy": 7.5 * float((stretch**2).sum()),
            "forces": pull.sum(axis=1),
        }


def flat_ammonia() -> Atoms:
    angles = np.radians([0, 120, 240])
    hydrogen = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    return Atoms("NH3", np.vstack([np.zeros(3), 0.9 * hydrogen]))


def test_a_relaxation_that_ends_on_a_saddle_point_goes_on(molecules) -> None:
    found = molecules.minimum(flat_ammonia(), Springs())
    heights = np.array(found["positions"])[:, 2]
    assert np.abs(heights[1:] - heights[0]) == pytest.approx([0.5] * 3, abs=1e-3)
    assert len(found["frequencies_per_cm"]) == 6
    assert min(found["frequencies_per_cm"]) > 100


def test_saddle_points_again_and_again_are_no_minimum(molecules, monkeypatch) -> None:
    monkeypatch.setitem(molecules.minimum.__globals__, "SADDLE_STEP_A", 0.0)
    assert molecules.minimum(flat_ammonia(), Springs()) is None


def test_a_relaxation_that_is_not_done_gives_no_minimum(molecules, monkeypatch) -> None:
    short = RelaxSettings(fmax_eV_per_A=0.002, steps=1)
    monkeypatch.setitem(molecules.minimum.__globals__, "RELAXATION", short)
    pyramid = flat_ammonia()
    pyramid.positions[0, 2] = 0.6
    assert molecules.minimum(pyramid, Springs()) is None
