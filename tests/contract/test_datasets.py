"""Every data set: schema, units and one published number; the real files are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import ase.io
import numpy as np
import pytest

from jmp_calc.units import HARTREE
from jmp_train.data.datasets import DATASETS
from jmp_train.data.exclusion import EXCLUDED_FORMULAS, excluded_molecule
from jmp_train.data.hashed_split import split_of
from jmp_train.data.sample import (
    Sample,
    hill_formula,
    molecule_sample,
    structure_hash,
)
from jmp_train.data.splits import SPLITS
from jmp_train.data.tasks import TASKS

ROOT = Path(__file__).parents[3] / "shared" / "data"
KEPT_FOR_PROOFS = ("rmd17", "md17_ccsd", "ethanol_pbe")
COPYLEFT = ("transition1x_horm", "bh9", "water")

pytestmark = pytest.mark.skipif(
    not ROOT.is_dir(), reason="the reference data are not beside the project"
)

# Systems, lowest and highest energy in eV, as the index of the reference data states
# them (measured there by another program); systems are fewer where some are left out.
KNOWN = {
    "threebpa": (500, -17660.814, -17659.766),
    "ani1x": (8, -15812.647, -13218.262),
    "ani2x_diatomics": (216, -21667.741, -2731.258),
    "s66x8": (400, -22570.828, -4157.302),
    "qm7x": (2500, -27544.607, -1099.695),
    "oc20_relaxations": (2079, -795.669, -57.749),
    "mlearn": (487, -585.910, -21.697),
    "bo2_oxides": (237, -230.268, -19.937),
    "carbon_gap17": (100, -633.177, -630.080),
    "acac": (1165, -9392.076, -9390.760),
    "spice": (55, -10080.843, -6517.675),
}

# Energies of free atoms at wB97X/6-31G(d), eV: Schreiner et al., Sci. Data 9, 779
# (2022), in the loader of Transition1x.
ATOMS_WB97X = {1: -13.62222754, 6: -1029.41308397, 7: -1484.87103581}
ATOMS_WB97X |= {8: -2041.83962771, 9: -2712.82131469}

# Dimers of S66 with benzene or uracil, numbered as published from 1: Rezac, Riley and
# Hobza, J. Chem. Theory Comput. 7, 2427 (2011), table 1.
S66_WITH_KEPT_MOLECULE = {17, 22, 23, 24, 26, 27, 28, 29, 30, 31, 32, 39, 40, 41, 42}
S66_WITH_KEPT_MOLECULE |= {43, 47, 49, 50, 52, 53, 54, 55, 56, 57, 63}


@cache
def samples_of(name: str) -> list[Sample]:
    return list(DATASETS[name].read(ROOT))


@cache
def kept_in(name: str) -> list[Sample]:
    """Samples of a set that may be trained on."""
    return [s for s in samples_of(name) if excluded_molecule(s) is None]


every_set = pytest.mark.parametrize("name", DATASETS)


@every_set
def test_energies_in_ev_are_the_published_ones(name) -> None:
    assert name in KNOWN, f"add the published size and energies of {name} to KNOWN"
    n_systems, lowest, highest = KNOWN[name]
    energy = np.array([s.energy for s in samples_of(name)])
    assert len(energy) == n_systems
    assert energy.min() == pytest.approx(lowest, abs=1e-3)
    assert energy.max() == pytest.approx(highest, abs=1e-3)


@every_set
def test_samples_follow_the_schema(name) -> None:
    for sample in samples_of(name):
        assert sample.source == name
        assert sample.group
        assert sample.positions.dtype == sample.cell.dtype == np.float64
        assert sample.numbers.min() >= 1
        assert sample.forces is None or sample.forces.dtype == np.float64
        if sample.is_periodic:
            assert abs(np.linalg.det(sample.cell)) > 1
            assert set(sample.tags) <= {0, 1, 2}
        else:
            assert (sample.cell == 0).all()
            assert (sample.tags == 2).all()


@every_set
def test_forces_sum_to_zero_and_have_the_size_of_forces(name) -> None:
    labelled = [s.forces for s in samples_of(name) if s.forces is not None]
    for forces in labelled:
        assert np.abs(forces.sum(axis=0)).max() < 5e-3
    rms = np.sqrt(np.square(np.concatenate(labelled)).mean())
    assert 0.01 < rms < 3.0


@every_set
def test_atoms_are_as_far_apart_as_atoms_in_angstrom(name) -> None:
    nearest = []
    for sample in samples_of(name)[:200]:
        distances = sample.to_atoms().get_all_distances(mic=sample.is_periodic)
        nearest.append((distances + 1e3 * np.eye(sample.n_atoms)).min())
    assert min(nearest) > 0.6
    assert np.median(nearest) < 3.0


@every_set
def test_facts_about_the_set_are_complete(name) -> None:
    info = DATASETS[name]
    assert info.name == name
    for field in ("title", "level_of_theory", "licence", "units", "citation"):
        assert getattr(info, field)
    assert "GPL" not in info.licence


@every_set
def test_no_set_is_one_that_is_kept_out(name) -> None:
    assert DATASETS[name].folder not in KEPT_FOR_PROOFS + COPYLEFT


@every_set
def test_each_structure_is_in_one_part_only(name) -> None:
    part: dict[str, str] = {}
    for sample in samples_of(name):
        assert part.setdefault(structure_hash(sample), split_of(sample)) == split_of(
            sample
        )


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_training_validation_and_test_samples(task) -> None:
    samples = [s for name in TASKS[task].datasets for s in kept_in(name)]
    parts = [split_of(s) for s in samples]
    n = len(parts)
    assert parts.count("train") > 0.7 * n
    assert all(parts.count(part) > 0.03 * n for part in SPLITS)


@pytest.mark.parametrize("task", TASKS)
def test_held_out_parts_have_no_element_that_training_lacks(task) -> None:
    seen: dict[str, set[int]] = {part: set() for part in SPLITS}
    for name in TASKS[task].datasets:
        for sample in kept_in(name):
            seen[split_of(sample)] |= set(sample.numbers.tolist())
    assert seen["val"] | seen["test"] <= seen["train"]


# -- no frame of the sets kept for proofs --------------------------------------------


def frames_kept_for_proofs() -> Iterator[Sample]:
    """Every frame of the sets that later proofs need untouched."""
    for path in sorted((ROOT / "rmd17").glob("*.npz")):
        with np.load(path) as file:
            yield from map(_frame(file["nuclear_charges"]), file["coords"])
    with np.load(ROOT / "md17_ccsd" / "ethanol_ccsd_t-train.npz") as file:
        yield from map(_frame(file["z"]), file["R"])
    for name in ("train", "test_MD", "test_H_removal"):
        for atoms in ase.io.iread(ROOT / "ethanol_pbe" / f"{name}.xyz", ":"):
            yield _frame(atoms.numbers)(atoms.positions)


def _frame(numbers: np.ndarray) -> Callable[[np.ndarray], Sample]:
    return lambda positions: molecule_sample(
        numbers, positions, energy=0.0, forces=None, source="", group=""
    )


@pytest.fixture(scope="module")
def kept() -> list[Sample]:
    return list(frames_kept_for_proofs())


def training_samples() -> Iterator[Sample]:
    for task in TASKS.values():
        for name in task.datasets:
            yield from kept_in(name)


def test_the_hash_finds_frames_that_two_sets_share(kept) -> None:
    """Two of the sets hold the same frames, so a shared frame would be noticed."""
    ethanol = [structure_hash(s) for s in kept if hill_formula(s.numbers) == "C2H6O"]
    assert len(ethanol) > 5000
    assert len(set(ethanol)) < len(ethanol)


def test_no_frame_of_the_kept_sets_is_trained_on(kept) -> None:
    hashes = {structure_hash(s) for s in kept}
    trained = {structure_hash(s) for s in training_samples()}
    assert len(kept) == 17_060
    assert len(trained) > 5000
    assert not hashes & trained


def test_no_molecule_of_the_kept_sets_is_trained_on(kept) -> None:
    """Stronger than the hash: it holds for any geometry, rotation and atom order."""
    formulas = {hill_formula(s.numbers) for s in kept}
    assert formulas <= EXCLUDED_FORMULAS.keys()
    trained = {hill_formula(s.numbers[s.tags == 2]) for s in training_samples()}
    assert not formulas & trained


def test_every_kept_frame_would_be_excluded(kept) -> None:
    assert all(excluded_molecule(s) for s in kept[::50])


def test_exclusion_takes_the_dimers_with_a_kept_molecule_and_no_others() -> None:
    """Groups of the file are numbered from 0, those of the publication from 1."""
    groups = {s.group for s in samples_of("s66x8")}
    excluded = {g for g in groups if g not in {s.group for s in kept_in("s66x8")}}
    listed = {f"mol{number - 1:02d}" for number in S66_WITH_KEPT_MOLECULE}
    assert excluded == listed & groups
    assert len(kept_in("s66x8")) == 8 * (50 - len(excluded))


def test_exclusion_takes_little_of_the_largest_set() -> None:
    assert 2400 < len(kept_in("qm7x")) < 2500


# -- published numbers of single systems ---------------------------------------------


def binding(sample: Sample, atoms: dict[int, float]) -> float:
    return sample.energy - sum(atoms[int(z)] for z in sample.numbers)


@pytest.mark.parametrize(
    ("numbers", "length", "depth"),
    [((9, 1), 0.917, 6.1), ((8, 6), 1.128, 11.2), ((7, 7), 1.098, 9.9)],
)
def test_diatomic_curves_have_the_measured_length_and_depth(
    numbers, length, depth
) -> None:
    """Huber and Herzberg, Constants of Diatomic Molecules (1979); small basis set."""
    curve = [s for s in samples_of("ani2x_diatomics") if set(s.numbers) == set(numbers)]
    best = min(curve, key=lambda s: s.energy)
    found = np.linalg.norm(best.positions[1] - best.positions[0])
    assert found == pytest.approx(length, abs=0.02)
    assert -binding(best, ATOMS_WB97X) == pytest.approx(depth, abs=0.7)


def test_forces_of_diatomics_are_minus_the_slope_of_their_energy() -> None:
    curve = [s for s in samples_of("ani2x_diatomics") if set(s.numbers) == {1, 9}]
    arms = [s.positions[1] - s.positions[0] for s in curve]
    length = np.linalg.norm(arms, axis=1)
    along = np.array(
        [s.forces[1] @ arm / r for s, arm, r in zip(curve, arms, length, strict=True)]
    )
    order = np.argsort(length)
    energy = np.array([s.energy for s in curve])[order]
    middle = (along[order][1:] + along[order][:-1]) / 2
    slope = np.diff(energy) / np.diff(length[order])
    np.testing.assert_allclose(-slope, middle, atol=0.15)


def test_methane_has_nearly_its_exact_energy() -> None:
    """Exactly -40.515 hartree; functionals differ from it by about an electronvolt."""
    methane = [s for s in samples_of("qm7x") if s.group == "CH4"]
    best = min(methane, key=lambda s: s.energy)
    assert best.energy == pytest.approx(-40.515 * HARTREE, abs=1.5)


@pytest.mark.parametrize("name", ["threebpa", "ani1x", "s66x8"])
def test_wb97x_molecules_are_bound_by_some_ev_per_atom(name) -> None:
    per_atom = [binding(s, ATOMS_WB97X) / s.n_atoms for s in samples_of(name)]
    assert min(per_atom) > -7.0
    assert max(per_atom) < -2.5


def test_energy_falls_along_the_forces_of_a_relaxation() -> None:
    """Work of the mean force equals the drop in energy between small steps."""
    frames = [
        s
        for s in samples_of("oc20_relaxations")
        if s.group.startswith("random1000110/")
    ]
    compared = 0
    for before, after in pairwise(frames[20:]):
        step = after.positions - before.positions
        if np.abs(step).max() < 0.05:
            work = ((before.forces + after.forces) / 2 * step).sum()
            drop = before.energy - after.energy
            assert work == pytest.approx(drop, abs=0.02 + 0.1 * abs(drop))
            compared += 1
    assert compared > 20


def test_gradients_are_turned_into_forces() -> None:
    """One hartree/bohr is 51.4 eV/Å; the largest gradient of the file is 0.0975."""
    largest = max(np.abs(s.forces).max() for s in samples_of("spice"))
    assert largest == pytest.approx(5.05, abs=0.01)
    assert pytest.approx(27.2114, abs=1e-4) == HARTREE
