from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc110, fcc111, graphene, molecule
from ase.spacegroup import crystal

from jmp_calc.calculator.domains import classify, find_bonds
from jmp_calc.calculator.tags import guess_tags, read_tags
from jmp_calc.errors import ArgumentError, UnsupportedSystemError


def guess(atoms: Atoms) -> list[int]:
    bonds = find_bonds(atoms)
    return guess_tags(atoms, bonds, classify(atoms, bonds)).tolist()


def slab(n_layers: int = 4, **settings: object) -> Atoms:
    """Four atoms a layer, off their places."""
    atoms = fcc111("Cu", (2, 2, n_layers), vacuum=8.0, **settings)
    atoms.rattle(0.05, seed=2)
    return atoms


@pytest.mark.parametrize("periodic", [True, False])
def test_a_slab_with_an_adsorbate_gets_the_tags_of_oc20_and_not_of_ase(
    periodic,
) -> None:
    atoms = slab(periodic=periodic)
    add_adsorbate(atoms, molecule("CO"), 1.9, "ontop", mol_index=1)
    ase_tags = atoms.get_tags()
    assert guess(atoms) == [0] * 12 + [1] * 4 + [2] * 2
    assert ase_tags.tolist() == [4] * 4 + [3] * 4 + [2] * 4 + [1] * 4 + [0] * 2


def test_the_surface_is_where_the_adsorbate_is() -> None:
    atoms = slab()
    atoms += Atoms("OH", positions=atoms.positions[0] + [[0, 0, -1.8], [0, 0.5, -2.6]])
    assert guess(atoms) == [1] * 4 + [0] * 12 + [2] * 2


def test_a_clean_slab_has_its_surface_on_top() -> None:
    assert guess(slab()) == [0] * 12 + [1] * 4


def test_a_molecule_in_the_vacuum_is_an_adsorbate() -> None:
    atoms = slab()
    add_adsorbate(atoms, molecule("CH4"), 5.0)
    assert guess(atoms) == [0] * 12 + [1] * 4 + [2] * 5


def test_hydrogen_in_a_hollow_is_an_adsorbate() -> None:
    atoms = slab()
    add_adsorbate(atoms, "H", 0.9, "fcc")
    assert guess(atoms)[-1] == 2


def test_what_lies_under_an_adatom_is_still_surface() -> None:
    atoms = slab()
    add_adsorbate(atoms, "Cu", 1.9, "fcc")
    assert guess(atoms) == [0] * 12 + [1] * 5


def test_an_open_surface_has_one_layer() -> None:
    assert guess(fcc110("Cu", (1, 2, 5), vacuum=8.0)) == [0] * 8 + [1] * 2


def test_the_oxygen_that_ends_an_oxide_is_slab_and_carbon_monoxide_is_not() -> None:
    oxide = bulk("MgO", "rocksalt", a=4.21, cubic=True) * (1, 1, 2)
    oxide.center(vacuum=8.0, axis=2)
    top = oxide.positions[:, 2].argmax()
    co = Atoms("CO", positions=oxide.positions[top] + [[0, 0, 2.0], [0, 0, 3.13]])
    tags = guess(oxide + co)
    assert tags[-2:] == [2, 2]
    is_top = oxide.positions[:, 2] > oxide.positions[top, 2] - 0.1
    np.testing.assert_array_equal(tags[:-2], is_top.astype(int))


def test_bridging_oxygen_of_rutile_is_surface() -> None:
    rutile = crystal(
        ["Ti", "O"],
        [(0, 0, 0), (0.305, 0.305, 0)],
        spacegroup=136,
        cellpar=[4.594, 4.594, 2.959, 90, 90, 90],
    )
    layers = rutile * (1, 1, 3)
    layers.center(vacuum=8.0, axis=0)
    highest = int(layers.positions[:, 0].argmax())
    assert layers.numbers[highest] == 8
    assert guess(layers)[highest] == 1


def test_a_single_layer_is_all_surface() -> None:
    assert guess(graphene(vacuum=6.0)) == [1, 1]


@pytest.mark.parametrize(
    "atoms", [molecule("CH3OH"), bulk("Cu"), bulk("Cu") * (2, 2, 2)]
)
def test_molecules_and_crystals_are_2_throughout(atoms: Atoms) -> None:
    assert guess(atoms) == [2] * len(atoms)


def test_given_tags_must_be_those_of_oc20() -> None:
    assert read_tags((0, 1, 2), 3, has_filter=True).tolist() == [0, 1, 2]
    with pytest.raises(ArgumentError, match=r"shape \(3,\) for 2 atoms"):
        read_tags([0, 1, 2], 2, has_filter=True)
    with pytest.raises(
        ArgumentError, match=r"atom 1 has tag 3.*other way round.*'auto'"
    ):
        read_tags([0, 3, 2], 3, has_filter=True)


def test_tags_that_empty_the_quadruplets_are_an_error() -> None:
    with pytest.raises(UnsupportedSystemError, match=r"every atom has tag 0.*'auto'"):
        read_tags([0, 0], 2, has_filter=True)
    assert read_tags([0, 0], 2, has_filter=False).tolist() == [0, 0]
