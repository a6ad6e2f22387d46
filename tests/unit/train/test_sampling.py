from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.sampling import MAKERS, overlap, sample_geometries
from jmp_train.data.sampling_settings import KINDS, SamplingSettings


def made(atoms, calculator=None, **settings):
    return list(
        sample_geometries(
            [atoms] if isinstance(atoms, Atoms) else atoms,
            SamplingSettings(**settings),
            calculator=calculator,
        )
    )


def test_every_kind_has_a_maker():
    assert tuple(MAKERS) == KINDS


def test_a_structure_gives_the_same_geometries_whatever_stands_beside_it():
    water, ethanol = molecule("H2O"), molecule("CH3CH2OH")
    alone = made([water], n=3, seed=5)
    together = made([water, ethanol], n=3, seed=5)
    for first, second in zip(alone, together[:3], strict=True):
        assert np.array_equal(first.positions, second.positions)


def test_another_seed_gives_other_geometries():
    first, second = (made(molecule("H2O"), n=1, seed=s)[0] for s in (0, 1))
    assert not np.allclose(first.positions, second.positions)


def test_displacements_have_the_size_that_is_noted():
    atoms = molecule("C60")
    for new in made(atoms, n=5, amplitude=0.08):
        size = (new.positions - atoms.positions).std()
        # 180 numbers: their standard deviation is known to about 1/sqrt(360) = 5 %
        assert size == pytest.approx(new.info["amplitude_A"], rel=0.2)
        assert 0.008 <= new.info["amplitude_A"] <= 0.08


def test_atoms_never_overlap():
    for new in made(molecule("CH3CH2OH"), n=20, amplitude=0.4, min_distance=0.7):
        assert overlap(new) >= 0.7


def test_impossible_distances_are_an_error_that_names_the_structure():
    with pytest.raises(DataError, match="structure 0: no geometry without overlapping"):
        made(molecule("C60"), n=1, min_distance=0.99)


def test_a_stretched_bond_moves_the_fragment_as_a_whole():
    atoms = molecule("CH3CH2OH")
    for new in made(atoms, kind="stretch", n=8):
        first, second = new.info["bond"]
        ratio = new.get_distance(first, second) / atoms.get_distance(first, second)
        assert ratio == pytest.approx(new.info["stretch"], rel=1e-5)
        shift = new.positions - atoms.positions
        is_moved = np.linalg.norm(shift, axis=1) > 1e-9
        assert is_moved[second]
        assert not is_moved[first]
        assert np.allclose(shift[is_moved], shift[second])


def test_a_ring_has_no_bond_to_stretch_but_those_to_hydrogen():
    for new in made(molecule("C6H6"), kind="stretch", n=6):
        numbers = new.numbers[new.info["bond"]]
        assert sorted(numbers.tolist()) == [1, 6]


def test_a_lone_atom_cannot_be_stretched():
    with pytest.raises(DataError, match="no bond that divides"):
        made(Atoms("Ar"), kind="stretch")


def test_a_strained_cell_keeps_fractional_coordinates_and_is_not_rotated():
    atoms = bulk("Cu", cubic=True)
    for new in made(atoms, kind="strain", n=4, strain=0.03):
        assert np.allclose(new.get_scaled_positions(), atoms.get_scaled_positions())
        deformation = np.linalg.inv(atoms.cell.array) @ new.cell.array
        assert np.allclose(deformation, deformation.T)
        assert np.abs(deformation - np.eye(3)).max() <= 0.03


def test_a_molecule_has_no_cell_to_strain():
    with pytest.raises(DataError, match="not periodic in three directions"):
        made(molecule("H2O"), kind="strain")


def test_dynamics_gives_every_temperature_its_turn():
    atoms = bulk("Cu", cubic=True)
    frames = made(
        atoms, EMT(), kind="md", n=5, temperature_K=(200.0, 400.0), spacing_fs=5.0
    )
    assert [f.info["temperature_K"] for f in frames] == [200.0] * 3 + [400.0] * 2
    assert [f.info["time_fs"] for f in frames] == [5.0, 10.0, 15.0, 5.0, 10.0]
    assert not np.allclose(frames[0].positions, frames[1].positions)


def test_dynamics_needs_a_calculator():
    with pytest.raises(ArgumentError, match="needs a calculator"):
        made(molecule("H2O"), kind="md")


def test_geometries_name_their_start_and_carry_no_labels():
    atoms = molecule("H2O")
    atoms.info |= {"group": "mine", "energy": -3.0}
    new = made(atoms, n=1)[0]
    assert new.info["group"] == "mine"
    assert new.info["origin"] == "perturb"
    assert "energy" not in new.info


def test_an_unknown_kind_is_an_error_with_a_suggestion():
    with pytest.raises(ArgumentError, match="did you mean 'strain'"):
        SamplingSettings(kind="strian")
