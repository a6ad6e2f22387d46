from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import (
    add_adsorbate,
    bulk,
    fcc100,
    fcc110,
    fcc111,
    graphene,
    molecule,
    mx2,
    nanotube,
    surface,
)
from ase.spacegroup import crystal

from jmp_calc.calculator.domains import classify, find_bonds, layer_heights
from jmp_calc.calculator.tags import guess_tags
from jmp_calc.errors import UnsupportedSystemError


def kind_of(atoms: Atoms) -> str:
    return classify(atoms, find_bonds(atoms))


def in_cell(atoms: Atoms, length: float = 12.0) -> Atoms:
    """The same atoms in a fully periodic cube."""
    atoms.set_cell([length] * 3)
    atoms.pbc = True
    return atoms


def water_box() -> Atoms:
    box = in_cell(molecule("H2O"), 3.1) * (3, 3, 3)
    box.rattle(0.05, seed=1)
    # atoms far outside of the cell are still in the same molecules
    box.positions += 7.7
    box.positions[:3] += 2 * box.cell[0]
    return box


def graphite() -> Atoms:
    return Atoms(
        "C4",
        scaled_positions=[
            [0, 0, 0.25],
            [1 / 3, 2 / 3, 0.25],
            [0, 0, 0.75],
            [2 / 3, 1 / 3, 0.75],
        ],
        cell=[2.46, 2.46, 6.7, 90, 90, 120],
        pbc=True,
    )


def slab_under_water(pbc: object) -> Atoms:
    """A slab whose vacuum is full of water."""
    slab = fcc111("Cu", (2, 2, 3), vacuum=5.0)
    for k in range(3):
        add_adsorbate(slab, molecule("H2O"), 2.8 + 2.2 * k, offset=(k % 2, 0))
    slab.pbc = pbc
    return slab


@pytest.mark.parametrize(
    ("atoms", "kind"),
    [
        (molecule("CH3CH2OH"), "molecule"),
        (in_cell(molecule("CH3CH2OH")), "molecule"),
        (in_cell(Atoms("Cu")), "molecule"),
        (water_box(), "molecule"),
        (bulk("Ar", "fcc", a=5.3), "molecule"),
        (nanotube(4, 4, length=1, vacuum=5), "wire"),
        (fcc111("Cu", (1, 1, 3), vacuum=8), "surface"),
        (fcc111("Cu", (1, 1, 3), vacuum=8, periodic=True), "surface"),
        (fcc100("Al", (2, 2, 3)), "surface"),
        (graphene(vacuum=5), "surface"),
        (mx2(vacuum=7), "surface"),
        (slab_under_water(True), "surface"),
        (slab_under_water((True, True, False)), "surface"),
        (graphite(), "bulk"),
        (bulk("Al"), "bulk"),
        (bulk("Cs"), "bulk"),
        (bulk("NaCl", "rocksalt", a=5.64), "bulk"),
        (bulk("CsCl", "cesiumchloride", a=4.12), "bulk"),
        (bulk("Si", cubic=True) * (2, 1, 1), "bulk"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.symbols),
)
def test_bonds_say_what_kind_of_structure_it_is(atoms: Atoms, kind: str) -> None:
    assert kind_of(atoms) == kind


def tellurium() -> Atoms:
    """Chains along the third axis, 3.5 angstrom apart."""
    cell = [4.456, 4.456, 5.921, 90, 90, 120]
    return crystal("Te", [(0.2636, 0, 1 / 3)], spacegroup=152, cellpar=cell)


def test_wires_that_touch_are_what_they_make_together() -> None:
    chains = tellurium()
    assert kind_of(chains) == "bulk"
    slab = surface(chains, (1, 0, 0), 3, vacuum=8.0, periodic=True)
    assert kind_of(slab) == "surface"
    bonds = find_bonds(slab)
    assert layer_heights(slab, bonds)[1] > 15
    assert set(guess_tags(slab, bonds, "surface")) <= {0, 1, 2}
    chains.translate(chains.cell.array[:2].sum(axis=0) / 2)
    chains.wrap()
    chains.set_cell(chains.cell.array * [[3], [3], [1]])
    assert kind_of(chains) == "wire"


def test_an_adsorbate_beside_a_wire_does_not_make_it_touch_its_image() -> None:
    tube = nanotube(4, 4, length=1, vacuum=5)
    tube.pbc = True
    tube += Atoms("He3", [[-2, 8, 0.5], [0.5, 8, 0.5], [tube.cell[0, 0] + 1, 8, 0.5]])
    assert kind_of(tube) == "wire"


def test_the_kind_does_not_depend_on_the_orientation_of_the_cell() -> None:
    slab = fcc111("Cu", (2, 2, 3), vacuum=8, periodic=True)
    turned = Atoms(
        slab.numbers,
        slab.positions[:, [2, 0, 1]],
        cell=slab.cell.array[:, [2, 0, 1]][[2, 0, 1]],
        pbc=True,
    )
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    assert kind_of(turned) == "surface"


def test_fragments_and_bonds_of_molecules_are_found() -> None:
    two = in_cell(molecule("H2O") + Atoms("H2", [[5, 5, 5], [5, 5, 5.74]]))
    bonds = find_bonds(two)
    assert bonds.fragment.tolist() == [0, 0, 0, 1, 1]
    assert len(bonds.source) == 6
    assert bonds.rank == 0
    assert not bonds.is_endless.any()
    expected = two.positions[bonds.source] - two.positions[bonds.target]
    np.testing.assert_allclose(bonds.vector, expected)


def test_only_the_endless_fragment_is_endless() -> None:
    slab = slab_under_water(True)
    np.testing.assert_array_equal(find_bonds(slab).is_endless, slab.numbers == 29)


def test_heights_over_a_layer_are_cut_open_in_the_gap() -> None:
    slab = fcc110("Cu", (1, 1, 3), vacuum=6, periodic=True)
    expected = slab.positions[:, 2] - slab.positions[0, 2]
    slab.positions[:, 2] += 14.0
    slab.wrap()
    height, gap, normal = layer_heights(slab, find_bonds(slab))
    np.testing.assert_allclose(height - height[0], expected, atol=1e-9)
    assert gap == pytest.approx(12.0)
    np.testing.assert_allclose(normal, [0, 0, 1], atol=1e-12)


def test_overlapping_atoms_are_an_error() -> None:
    with pytest.raises(UnsupportedSystemError, match="atoms 0 and 1 overlap"):
        find_bonds(Atoms("H2"))
