from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import Trajectory, write

from jmp_calc.errors import DataError
from jmp_train.data.datasets import DATASETS, mlearn, oc20_relaxations
from jmp_train.data.datasets.oc20_relaxations import rebuild_tags
from jmp_train.data.extended_xyz import read_frames


def with_labels(atoms: Atoms, size: float = 1.0) -> Atoms:
    forces = np.full((len(atoms), 3), size / 3**0.5)
    atoms.calc = SinglePointCalculator(atoms, energy=-5.0, forces=forces)
    return atoms


# -- extended XYZ ---------------------------------------------------------------------


def test_frames_become_samples_with_and_without_cell(tmp_path) -> None:
    path = tmp_path / "a.xyz"
    write(path, [with_labels(molecule("H2O")), with_labels(bulk("Cu"))])
    water, copper = read_frames(path, source="threebpa", group="g")
    assert (water.energy, water.source, water.group) == (-5.0, "threebpa", "g")
    np.testing.assert_allclose(water.forces, 1 / 3**0.5, atol=1e-6)
    assert (water.cell == 0).all()
    assert water.tags.tolist() == [2, 2, 2]
    assert copper.pbc.all()
    assert copper.tags.tolist() == [1]
    np.testing.assert_allclose(copper.cell, bulk("Cu").cell.array, atol=1e-6)


def test_forces_may_be_absent_or_have_another_name(tmp_path) -> None:
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=-5.0)
    atoms.arrays["force"] = np.ones((3, 3))
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    (plain,) = read_frames(tmp_path / "a.xyz", source="acac", group="g")
    (named,) = read_frames(
        tmp_path / "a.xyz", source="acac", group="g", forces_key="force"
    )
    assert plain.forces is None
    assert (named.forces == 1).all()


def test_a_frame_without_energy_is_named(tmp_path) -> None:
    write(tmp_path / "a.xyz", [with_labels(molecule("H2O")), molecule("CO")])
    with pytest.raises(
        DataError, match=r"frame 1 of .*a\.xyz has no energy; write ene"
    ):
        list(read_frames(tmp_path / "a.xyz", source="acac", group="g"))


# -- OC20 relaxations ----------------------------------------------------------------


def slab(metal: str = "Cu", adsorbate: str = "CO") -> Atoms:
    atoms = fcc111(metal, (2, 2, 3), vacuum=8.0)
    atoms.set_constraint(FixAtoms(indices=[0, 1, 2, 3, 4, 5, 6, 7]))
    add_adsorbate(atoms, molecule(adsorbate), height=1.9, position="ontop")
    atoms.pbc = True
    return atoms


def test_tags_are_rebuilt_in_the_oc20_convention() -> None:
    """ASE numbers layers the other way round; only the constraint is trusted."""
    assert rebuild_tags(slab()).tolist() == [0] * 8 + [1] * 4 + [2] * 2


def without_constraint() -> Atoms:
    atoms = slab()
    atoms.set_constraint()
    return atoms


def with_fixed_adsorbate() -> Atoms:
    atoms = slab()
    atoms.set_constraint(FixAtoms(indices=[0, 13]))
    return atoms


@pytest.mark.parametrize(
    "atoms",
    [without_constraint(), with_fixed_adsorbate(), slab()[:12], molecule("CO")],
    ids=["no constraint", "fixed adsorbate", "no adsorbate", "no slab"],
)
def test_tags_that_cannot_be_rebuilt_are_an_error(atoms) -> None:
    with pytest.raises(
        DataError, match="needs fixed slab atoms first and a free adsor"
    ):
        rebuild_tags(atoms)


def test_a_slab_with_an_adsorbate_element_is_an_error() -> None:
    atoms = slab()
    atoms.numbers[3] = 8
    with pytest.raises(DataError, match="the start of the adsorbate is unknown"):
        rebuild_tags(atoms)


def test_frames_with_large_forces_are_left_out_and_groups_are_blocks(tmp_path) -> None:
    folder = tmp_path / "oc20_relaxations"
    folder.mkdir()
    with Trajectory(folder / "random1.traj", "w") as frames:
        for i in range(12):
            frames.write(with_labels(slab(), 25.0 if i == 2 else 1.0))
    samples = list(oc20_relaxations.read(tmp_path))
    assert len(samples) == 11
    assert [s.group for s in samples] == ["random1/0"] * 9 + ["random1/1"] * 2
    assert (samples[0].forces[0] != 0).all()  # fixed atoms keep their forces


def test_a_folder_without_trajectories_is_an_error(tmp_path) -> None:
    (tmp_path / "oc20_relaxations").mkdir()
    with pytest.raises(DataError, match=r"there are no \.traj files in"):
        list(oc20_relaxations.read(tmp_path))


# -- others --------------------------------------------------------------------------


def test_a_mixed_site_is_an_error(tmp_path) -> None:
    (tmp_path / "mlearn").mkdir()
    site = {"species": [{"element": "Si"}, {"element": "Ge"}], "xyz": [0, 0, 0]}
    with gzip.open(tmp_path / "mlearn" / "Cu_test.json.gz", "wt") as file:
        json.dump([{"structure": {"sites": [site]}}], file)
    with pytest.raises(DataError, match="a site with more than one element"):
        list(mlearn.read(tmp_path))


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_set_names_the_file_and_what_the_root_must_hold(
    name, tmp_path: Path
) -> None:
    folder = DATASETS[name].folder
    with pytest.raises(
        DataError, match=rf"there is no .*{folder}.*one folder per data"
    ):
        list(DATASETS[name].read(tmp_path))
