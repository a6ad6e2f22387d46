"""Molecules that are the same, and those that only look like it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from jmp_train.data.sample import Sample, molecule_sample
from jmp_train.experiments.identity import LEVELS, Overlap, connectivity, shape


def sample_of(atoms: Atoms) -> Sample:
    return molecule_sample(
        atoms.numbers,
        atoms.positions,
        energy=0.0,
        forces=None,
        source="qm7x",
        group="toy",
    )


def moved(sample: Sample) -> Sample:
    """The same molecule elsewhere, turned, with its atoms in another order."""
    order = np.random.default_rng(0).permutation(sample.n_atoms)
    turn = Rotation.from_euler("xyz", [0.3, 1.1, -2.0]).as_matrix()
    positions = sample.positions[order] @ turn.T + [3.0, -1.0, 7.0]
    return replace(sample, numbers=sample.numbers[order], positions=positions)


def twisted(sample: Sample) -> Sample:
    """Butane turned about its central bond: other distances, the same bonds."""
    carbons = np.flatnonzero(sample.numbers == 6)
    bonded = [
        (i, j)
        for i in carbons
        for j in carbons
        if i < j and np.linalg.norm(sample.positions[i] - sample.positions[j]) < 1.7
    ]
    counts = np.bincount(np.ravel(bonded), minlength=sample.n_atoms)
    (a, b) = next(pair for pair in bonded if counts[list(pair)].min() == 2)
    axis = sample.positions[b] - sample.positions[a]
    axis /= np.linalg.norm(axis)
    ahead = (sample.positions - (sample.positions[a] + sample.positions[b]) / 2) @ axis
    turn = Rotation.from_rotvec(axis * np.deg2rad(110)).as_matrix()
    positions = sample.positions.copy()
    positions[ahead > 0] = (positions[ahead > 0] - positions[a]) @ turn.T + positions[a]
    return replace(sample, positions=positions)


@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "trans-butane"])
def test_a_moved_turned_and_renumbered_molecule_is_the_same_at_every_level(
    name,
) -> None:
    sample = sample_of(molecule(name))
    overlap = Overlap([sample])
    assert overlap.add(moved(sample)) == "geometry"
    assert all(overlap.known(level).all() for level in LEVELS)


@pytest.mark.parametrize(
    ("one", "other"), [("CH3CH2OH", "CH3OCH3"), ("isobutane", "trans-butane")]
)
def test_isomers_have_the_same_composition_only(one, other) -> None:
    overlap = Overlap([sample_of(molecule(one))])
    assert overlap.add(sample_of(molecule(other))) == "composition"
    assert [bool(overlap.known(level)[0]) for level in LEVELS] == [True, False, False]


def test_a_conformer_has_the_same_bonds_and_another_geometry() -> None:
    sample = sample_of(molecule("trans-butane"))
    overlap = Overlap([sample])
    assert overlap.add(twisted(sample)) == "connectivity"
    assert not overlap.known("geometry").any()


def test_a_small_rattle_is_the_same_geometry() -> None:
    sample = sample_of(molecule("CH3CH2OH"))
    noise = np.random.default_rng(0).normal(0, 0.01, sample.positions.shape)
    assert (
        Overlap([sample]).add(replace(sample, positions=sample.positions + noise))
        == "geometry"
    )


def test_another_composition_is_not_known() -> None:
    overlap = Overlap([sample_of(molecule("CH3CH2OH"))])
    assert overlap.add(sample_of(molecule("H2O"))) is None
    assert not any(overlap.known(level).any() for level in LEVELS)


def test_only_the_systems_that_went_by_are_known() -> None:
    overlap = Overlap([sample_of(molecule(n)) for n in ("H2O", "CH4", "H2O")])
    overlap.add(sample_of(molecule("H2O")))
    assert overlap.known("geometry").tolist() == [True, False, True]


def test_a_single_atom_has_a_name_and_no_distances() -> None:
    sample = sample_of(Atoms("He"))
    assert connectivity(sample).startswith("He ")
    assert shape(sample).shape == (0,)
