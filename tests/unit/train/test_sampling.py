from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from jmp_calc.calculator.named import CalculatorChoice
from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.kinds import MAKERS
from jmp_train.data.kinds.geometry import overlap
from jmp_train.data.sampling import sample_geometries
from jmp_train.data.sampling_settings import KINDS, SamplingSettings

EMT_CHOICE = CalculatorChoice(name="emt", options={})


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
        atoms, EMT_CHOICE, kind="md", n=5, temperature_K=(200.0, 400.0), spacing_fs=5.0
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


@pytest.mark.parametrize("kind", ["perturb", "md"])
def test_two_processes_make_the_geometries_of_one(kind):
    structures = [bulk(name, cubic=True) for name in ("Cu", "Al", "Cu", "Ni")]
    settings = SamplingSettings(kind=kind, n=2, spacing_fs=5.0)
    one, two = (
        list(
            sample_geometries(
                structures, settings, calculator=EMT_CHOICE, processes=processes
            )
        )
        for processes in (1, 2)
    )
    assert len(one) == len(two) == 8
    for first, second in zip(one, two, strict=True):
        assert np.array_equal(first.positions, second.positions)
        assert first.info == second.info


@pytest.mark.parametrize("processes", [1, 2])
def test_a_structure_that_gives_none_is_told_and_costs_no_other(processes):
    failed = []
    found = list(
        sample_geometries(
            [molecule("H2O"), Atoms("Ar"), molecule("CH4")],
            SamplingSettings(kind="stretch", n=2),
            processes=processes,
            on_failure=lambda number, why: failed.append((number, why)),
        )
    )
    assert [atoms.info["group"] for atoms in found] == ["H2O-0"] * 2 + ["CH4-2"] * 2
    ((number, why),) = failed
    assert number == 1
    assert "no bond that divides" in why


def test_a_calculator_that_fails_is_an_error_that_names_the_structure():
    with pytest.raises(
        DataError, match="structure 0: the calculator failed after 0 st"
    ):
        made(molecule("SiH4"), EMT_CHOICE, kind="md", n=1)


def test_a_bond_through_several_images_holds_and_is_not_stretched():
    with pytest.raises(DataError, match="no bond that divides"):
        made(bulk("NaCl", "rocksalt", a=5.64), kind="stretch")


def test_charge_and_spin_go_with_the_geometries():
    atoms = molecule("CH3CH2OH")
    atoms.info |= {"charge": 1, "spin_multiplicity": 2}
    new = made(atoms, n=1)[0]
    assert (new.info["charge"], new.info["spin_multiplicity"]) == (1, 2)


def test_dynamics_moves_the_charged_species():
    ion = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1})
    with pytest.raises(DataError, match=r"charge -1 .* calculator 'emt' does not"):
        made(ion, EMT_CHOICE, kind="md", n=1)


def test_dynamics_has_the_temperature_that_is_noted():
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    # Mean squared displacements of a harmonic crystal grow with the temperature.
    cold, hot = (
        np.mean(
            [
                (new.positions - new.positions.mean(0) - at_rest).var()
                for new in made(
                    atoms,
                    EMT_CHOICE,
                    kind="md",
                    n=12,
                    temperature_K=(kelvin,),
                    timestep_fs=4.0,
                    spacing_fs=200.0,
                )[2:]
            ]
        )
        for kelvin in (100.0, 300.0)
        for at_rest in [atoms.positions - atoms.positions.mean(0)]
    )
    # 10 frames of 96 numbers, little correlated: about 10 %; anharmonicity adds some
    assert hot / cold == pytest.approx(3.0, rel=0.35)


@pytest.mark.parametrize("name", ["amplitude", "strain", "timestep_fs"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_size_must_be_positive_and_finite(name, value):
    with pytest.raises(ArgumentError, match=f"{name} is .* must be positive and fin"):
        SamplingSettings(**{name: value})


def test_a_temperature_must_be_a_number():
    with pytest.raises(ArgumentError, match="give positive temperatures"):
        SamplingSettings(temperature_K=(300.0, float("nan")))
