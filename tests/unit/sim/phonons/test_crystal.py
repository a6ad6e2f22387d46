"""Which structures can have phonons, and which supercell, mesh and path they get."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.phonons.band_path import BandPath, standard_path
from jmp_calc.sim.phonons.crystal import (
    build_phonopy,
    check_crystal,
    check_size,
    choose_mesh,
    choose_supercell,
    larger_supercell,
    phonopy_atoms,
    space_group,
    supercells,
    symmetry_notes,
    widths,
)
from jmp_calc.sim.phonons.settings import PhononSettings

ONE = np.eye(3, dtype=int)
PLAIN = PhononSettings()


def test_a_molecule_is_refused():
    with pytest.raises(UnsupportedSystemError, match="not periodic in three dir"):
        check_crystal(molecule("H2O"))


def test_a_flat_cell_is_refused():
    with pytest.raises(UnsupportedSystemError, match="has no volume"):
        check_crystal(Atoms("Cu", cell=[2, 2, 0], pbc=True))


def test_left_handed_lattice_vectors_are_refused():
    atoms = bulk("Cu")
    atoms.set_cell(atoms.cell[[1, 0, 2]])
    with pytest.raises(UnsupportedSystemError, match="are left-handed"):
        check_crystal(atoms)


def test_isotopes_of_one_element_are_refused():
    atoms = bulk("Cu", cubic=True)
    atoms.set_masses([63, 65, 63, 63])
    with pytest.raises(UnsupportedSystemError, match="masses from 63 to 65 amu"):
        check_crystal(atoms)


def test_masses_of_the_file_are_kept():
    atoms = bulk("Cu")
    atoms.set_masses([65])
    assert phonopy_atoms(atoms).masses[0] == 65


def test_atoms_of_supercells_keep_what_calculators_ask_for():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.set_tags(range(1, 9))
    atoms.set_initial_charges([0.1 * n for n in range(8)])
    atoms.set_masses([23.5 if symbol == "Na" else 36 for symbol in atoms.symbols])
    # an atom outside of the cell
    atoms.positions[5] += 3 * atoms.cell[0]
    phonon = build_phonopy(atoms, np.diag([1, 2, 1]), PLAIN)
    phonon.generate_displacements(distance=0.02)
    perfect, *displaced = supercells(phonon, atoms)
    assert len(displaced) == len(phonon.supercells_with_displacements)
    for place, position in enumerate(perfect.positions):
        steps = (atoms.positions - position) @ np.linalg.inv(atoms.cell.array)
        (origin,) = np.flatnonzero(np.abs(steps - steps.round()).max(axis=1) < 1e-6)
        for name in ("numbers", "tags", "initial_charges", "masses"):
            assert perfect.get_array(name)[place] == atoms.get_array(name)[origin]
    moved = np.linalg.norm(displaced[0].positions - perfect.positions, axis=1)
    assert np.count_nonzero(moved) == 1
    assert moved.max() == pytest.approx(0.02)
    assert all(perfect.pbc)


def test_magnetic_moments_count_in_the_symmetry():
    atoms = bulk("Cu", cubic=True)
    atoms.set_initial_magnetic_moments([1, 1, -1, -1])
    phonon = build_phonopy(atoms, ONE, PLAIN)
    # layers that alternate: two atoms in a tetragonal cell in place of one
    assert len(phonon.primitive) == 2
    assert len(phonon.symmetry.pointgroup_operations) == 16
    assert "magnetic moments of the file count" in symmetry_notes(atoms, phonon)[0]
    phonon.generate_displacements()
    found = supercells(phonon, atoms)[1].get_initial_magnetic_moments()
    np.testing.assert_array_equal(found, [1, 1, -1, -1])
    atoms.set_initial_magnetic_moments([1, 1, 1, 1])
    assert len(build_phonopy(atoms, ONE, PLAIN).primitive) == 1


def test_atoms_at_one_place_are_refused():
    atoms = Atoms("CuCu", positions=np.zeros((2, 3)), cell=3 * ONE, pbc=True)
    with pytest.raises(UnsupportedSystemError, match="no atoms coincide"):
        build_phonopy(atoms, ONE, PLAIN)


def test_the_supercell_is_wide_enough_in_every_direction():
    cell = np.array([[4.0, 0, 0], [3.0, 4.0, 0], [0, 0, 11.0]])
    supercell = choose_supercell(cell, 10.0)
    assert widths(supercell @ cell).min() >= 10.0
    # the first vector is 4 angstrom long, and its faces 3.2 apart
    np.testing.assert_array_equal(np.diag(supercell), [4, 3, 1])


def test_a_larger_supercell_grows_where_it_is_narrowest():
    cell = np.diag([3.0, 3.0, 5.0])
    larger = larger_supercell(cell, np.diag([2, 2, 2]))
    np.testing.assert_array_equal(larger, np.diag([3, 3, 2]))


def test_a_supercell_that_is_not_diagonal_keeps_its_shape():
    shape = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    np.testing.assert_array_equal(larger_supercell(ONE * 2.0, 2 * shape), 3 * shape)


def test_rows_of_the_supercell_are_its_vectors():
    rows = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    atoms = Atoms("Cu", cell=np.diag([3.0, 4.0, 5.0]), pbc=True)
    phonon = build_phonopy(atoms, rows, PLAIN)
    np.testing.assert_allclose(phonon.supercell.cell, rows @ np.diag([3.0, 4.0, 5.0]))


def test_a_huge_supercell_is_refused():
    with pytest.raises(ArgumentError, match=r"\(20 x 20 x 20\) has 64000 atoms"):
        check_size(8, 20 * ONE)


@pytest.mark.parametrize(
    ("atoms", "is_equal"),
    [
        (bulk("Cu", "fcc", a=3.6), True),
        # the primitive cell of a body-centred tetragonal lattice, which the same length
        # would give unequal numbers
        (bulk("In", "bct", a=3.3, c=4.9), True),
        (bulk("Zn", "hcp", a=2.7, c=4.9), False),
    ],
)
def test_meshes_are_odd_and_keep_the_symmetry_of_the_lattice(atoms, is_equal):
    phonon = build_phonopy(atoms, ONE, PLAIN)
    mesh = choose_mesh(phonon, PLAIN)
    assert all(n % 2 == 1 for n in mesh)
    assert mesh[0] == mesh[1]
    assert (mesh[1] == mesh[2]) == is_equal


def test_the_mesh_of_the_user_is_taken():
    phonon = build_phonopy(bulk("Cu"), ONE, PLAIN)
    assert choose_mesh(phonon, PhononSettings(mesh="4 5 6")) == (4, 5, 6)


def test_a_cubic_cell_has_a_primitive_one_and_can_keep_itself():
    atoms = bulk("Cu", cubic=True)
    assert len(build_phonopy(atoms, ONE, PLAIN).primitive) == 1
    as_given = PhononSettings(primitive="input")
    assert len(build_phonopy(atoms, ONE, as_given).primitive) == 4


def test_symmetry_that_rounding_hides_is_told():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.positions[0] += 0.002
    phonon = build_phonopy(atoms, ONE, PLAIN)
    (note,) = symmetry_notes(atoms, phonon)
    assert "Fm-3m (225) at a tolerance of 0.01" in note
    loose = PhononSettings(symmetry_tolerance_A=0.01)
    again = build_phonopy(atoms, ONE, loose)
    assert space_group(again) == "Fm-3m (225)"
    assert not symmetry_notes(atoms, again)


def test_a_supercell_with_less_symmetry_is_told():
    atoms = bulk("Cu", cubic=True)
    phonon = build_phonopy(atoms, np.diag([2, 1, 1]), PLAIN)
    (note,) = symmetry_notes(atoms, phonon)
    assert "supercell has less symmetry than the crystal (Fm-3m" in note


def test_the_path_of_fcc_has_its_known_points():
    path = standard_path(build_phonopy(bulk("Cu"), ONE, PLAIN).primitive, 11)
    assert path.source.startswith("seekpath")
    assert path.ends[:3] == (("Γ", "X"), ("X", "U"), ("K", "Γ"))
    assert path.connections[:3] == [True, False, True]
    assert path.labels[:4] == [
        r"$\Gamma$",
        r"$\mathrm{X}$",
        r"$\mathrm{U}$",
        r"$\mathrm{K}$",
    ]
    assert max(len(line) for line in path.lines) == 11


@pytest.fixture(params=["seekpath", "ASE"])
def convention(request, monkeypatch):
    find = importlib.util.find_spec
    if request.param == "ASE":
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name: None if name == "seekpath" else find(name),
        )
    return request.param


@pytest.mark.parametrize(
    "vectors",
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        # other vectors of the same lattice, as databases have them
        [[1, 1, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [-1, 0, 1], [0, -1, 0]],
    ],
)
def test_special_points_are_where_they_belong_for_any_cell(vectors, convention):
    a = 3.6
    atoms = bulk("Cu", "fcc", a=a)
    atoms.set_cell(np.array(vectors) @ atoms.cell.array)
    atoms.rotate(33, (1, 2, 3), rotate_cell=True)
    primitive = build_phonopy(atoms, ONE, PhononSettings(primitive="input")).primitive
    path = standard_path(primitive, 11)
    assert path.source.startswith(convention)
    reciprocal = np.linalg.inv(primitive.cell)
    lengths = {
        name: np.linalg.norm(reciprocal @ line[place])
        for line, pair in zip(path.lines, path.ends, strict=True)
        for place, name in ((0, pair[0]), (-1, pair[1]))
    }
    # in units of 2 pi / a: X is 1 0 0, L is 1/2 1/2 1/2, W is 1 1/2 0
    assert lengths["Γ"] == 0
    assert lengths["X"] * a == pytest.approx(1)
    assert lengths["L"] * a == pytest.approx(np.sqrt(0.75))
    assert lengths["W"] * a == pytest.approx(np.sqrt(1.25))


def test_the_path_has_the_symmetry_that_the_tolerance_allows():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.001, seed=0)
    loose = PhononSettings(symmetry_tolerance_A=0.01)
    primitive = build_phonopy(atoms, ONE, loose).primitive
    assert standard_path(primitive, 5, 0.01).ends[0] == ("Γ", "X")
    assert len(primitive) == 2


def test_labels_with_numbers_are_drawn_as_subscripts():
    line = np.zeros((2, 3))
    path = BandPath(lines=(line, line), ends=(("Γ", "S_0"), ("X", "Σ_1")), source="")
    assert path.connections == [False, False]
    assert path.labels == [
        r"$\Gamma$",
        r"$\mathrm{S}_{0}$",
        r"$\mathrm{X}$",
        r"$\Sigma_{1}$",
    ]
