"""Scans along bonds, angles and dihedrals of toys whose energies are known."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength
from ase.geometry import get_dihedrals_derivatives
from ase.io import read

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.scan.calculation import run_scan
from jmp_calc.sim.scan.coordinate import Coordinate, side_of
from jmp_calc.sim.scan.held import HeldCoordinate, measured
from jmp_calc.sim.scan.picture import plot_scan
from jmp_calc.sim.scan.settings import ScanSettings
from toys.springs import Bond, SpringCalculator


class Torsion(Calculator):
    """Energy h (1 + cos 3 phi) of the dihedral of the first four atoms."""

    implemented_properties = ("energy", "forces")
    height = 0.07

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        four = (0, 1, 2, 3)
        angle = np.radians(self.atoms.get_dihedral(*four))
        slope = -3 * self.height * np.sin(3 * angle)
        forces = np.zeros((len(self.atoms), 3))
        steps = np.diff(self.atoms.positions[:4], axis=0)[:, None]
        # ASE gives degrees by angstrom
        forces[:4] = -slope * np.radians(get_dihedrals_derivatives(*steps)[0])
        energy = self.height * (1 + np.cos(3 * angle))
        self.results = {"energy": energy, "forces": forces}


def twisted_chain() -> Atoms:
    """Return four atoms with a dihedral of 60 degrees."""
    atoms = Atoms("C4", positions=[[-0.5, 1.4, 0], [0, 0, 0], [1.5, 0, 0], [2, 1.4, 0]])
    atoms.set_dihedral(0, 1, 2, 3, 60, indices=[3])
    return atoms


def scan(system, calculator, out, /, **settings):
    return run_scan(system, ScanSettings(**settings), calculator=calculator, out=out)


@pytest.mark.parametrize("relax", [False, True])
def test_a_torsion_has_its_energy_all_around(relax, tmp_path):
    result = scan(
        twisted_chain(), Torsion(), tmp_path, atoms="0,1,2,3", points=13, relax=relax
    )
    np.testing.assert_allclose(result.values, 60 + 30 * np.arange(13))
    expected = 0.07 * (1 + np.cos(3 * np.radians(result.values)))
    # what the constraint lets the dihedral slip, times the slope
    np.testing.assert_allclose(result.energies_eV, expected, atol=1e-6)
    assert result.present == pytest.approx(60)
    assert result.is_converged


def test_a_bond_is_stretched_as_its_spring_says(tmp_path):
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]])
    spring = SpringCalculator([Bond(first=0, second=1, length=1.1, stiffness=30)])
    result = scan(atoms, spring, tmp_path, atoms="0,1", start=0.9, stop=1.5, points=7)
    np.testing.assert_allclose(result.energies_eV, 15 * (result.values - 1.1) ** 2)
    assert result.values[result.lowest] == pytest.approx(1.1)
    assert result.values[result.highest] == pytest.approx(1.5)
    for value, frame in zip(result.values, result.frames, strict=True):
        assert frame.get_distance(0, 1) == pytest.approx(value)
        np.testing.assert_array_equal(frame.positions[0], [0, 0, 0])


def test_what_is_not_scanned_relaxes(tmp_path):
    # two springs in a row between three atoms; the ends are pulled apart
    atoms = Atoms("C3", positions=[[0, 0, 0], [1.5, 0, 0], [3.0, 0, 0]])
    springs = SpringCalculator(
        [
            Bond(first=0, second=1, length=1.5, stiffness=10),
            Bond(first=1, second=2, length=1.5, stiffness=40),
        ]
    )
    settings = {"atoms": "0,2", "start": 3.0, "stop": 3.3, "points": 4}
    result = scan(atoms, springs, tmp_path, relax=True, fmax_eV_per_A=1e-4, **settings)
    series = 10 * 40 / (10 + 40)
    np.testing.assert_allclose(
        result.energies_eV, series / 2 * (result.values - 3) ** 2, atol=1e-6
    )
    assert result.is_converged
    assert result.moved == (2,)
    with pytest.raises(UnsupportedSystemError, match="are also connected another way"):
        scan(atoms, springs, tmp_path / "rigid", **settings)


def test_an_angle_is_set_and_held(tmp_path):
    water = molecule("H2O")
    result = scan(
        water,
        EMT(),
        tmp_path,
        atoms="1,0,2",
        start=95.0,
        stop=115.0,
        points=3,
        relax=True,
    )
    assert result.is_converged
    for value, frame in zip(result.values, result.frames, strict=True):
        assert frame.get_angle(1, 0, 2) == pytest.approx(value, abs=1e-3)
        assert np.linalg.norm(frame.get_forces(), axis=1).max() > 0


def test_the_half_beyond_the_bond_moves_as_one(tmp_path):
    butane = molecule("trans-butane")
    settings = ScanSettings(atoms="0,1,2,3")
    coordinate = Coordinate(butane, settings)
    turned = coordinate.at(60.0)
    moved = list(coordinate.moved)
    assert len(moved) == 7
    assert {2, 3} <= set(moved)
    still = [n for n in range(len(butane)) if n not in moved]
    np.testing.assert_array_equal(turned.positions[still], butane.positions[still])
    for part in (moved, still):
        before = butane[part].get_all_distances()
        np.testing.assert_allclose(turned[part].get_all_distances(), before, atol=1e-9)
    assert turned.get_dihedral(0, 1, 2, 3) == pytest.approx(60)


def test_the_atoms_that_move_can_be_chosen():
    butane = molecule("trans-butane")
    settings = ScanSettings(atoms="0,1,2,3", moved="3")
    assert Coordinate(butane, settings).moved == (3,)


def test_sides_of_a_bond():
    ethane = molecule("C2H6")
    assert side_of(ethane, (0, 1)) == {1, 5, 6, 7}
    ring = molecule("C6H6")
    assert side_of(ring, (0, 1)) == set(range(12))


def test_fixed_atoms_that_would_move_are_refused(tmp_path):
    ethane = molecule("C2H6")
    ethane.set_constraint(FixAtoms([2, 3, 4]))
    with pytest.raises(UnsupportedSystemError, match="atom 2 is fixed and would have"):
        scan(ethane, EMT(), tmp_path, atoms="5,1,0,2")


COORDINATES = {
    "0,1": {"start": 1.4, "stop": 1.5},
    "0,1,2": {"start": 104.0, "stop": 110.0},
    "0,1,2,3": {"start": 150.0, "stop": 165.0},
}


def springs_of(molecule_):
    """Return springs between all atoms, each 3 % longer than now."""
    lengths = molecule_.get_all_distances()
    pairs = zip(*np.triu_indices(len(molecule_), 1), strict=True)
    return SpringCalculator(
        [
            Bond(first=int(i), second=int(j), length=1.03 * lengths[i, j], stiffness=5)
            for i, j in pairs
        ]
    )


@pytest.mark.parametrize("atoms", COORDINATES)
@pytest.mark.parametrize("fixed", [(), (0,), (8,), (0, 8)])
def test_a_held_coordinate_is_exact_and_leaves_fixed_atoms_alone(
    atoms, fixed, tmp_path
):
    ethanol = molecule("CH3CH2OH")
    if fixed:
        ethanol.set_constraint(FixAtoms(fixed))
    result = scan(
        ethanol,
        springs_of(ethanol),
        tmp_path,
        atoms=atoms,
        points=2,
        relax=True,
        fmax_eV_per_A=1e-3,
        **COORDINATES[atoms],
    )
    assert result.is_converged
    four = [int(atom) for atom in atoms.split(",")]
    for value, frame in zip(result.values, result.frames, strict=True):
        held = list(fixed)
        np.testing.assert_array_equal(frame.positions[held], ethanol.positions[held])
        assert measured(frame, four) == pytest.approx(value, abs=1e-6)
        # what is left of the forces points along the coordinate, and nowhere else
        slope = HeldCoordinate(four, value, frame.constraints)._slope(frame)
        forces = frame.get_forces()
        along = (forces * slope).sum() / (slope**2).sum() * slope
        assert np.abs(along).max() > 0.01
        np.testing.assert_allclose(forces, along, atol=1e-3)


@pytest.mark.parametrize("atoms", COORDINATES)
def test_slopes_are_those_of_finite_differences(atoms):
    ethanol = molecule("CH3CH2OH")
    four = [int(atom) for atom in atoms.split(",")]
    slope = HeldCoordinate(four, 1.0, [FixAtoms([0])])._slope(ethanol)
    for atom, axis in np.ndindex(slope.shape):
        ends = []
        for step in (1e-5, -1e-5):
            moved = ethanol.copy()
            moved.positions[atom, axis] += step
            ends.append(measured(moved, four))
        expected = 0 if atom == 0 else (ends[0] - ends[1]) / 2e-5
        assert slope[atom, axis] == pytest.approx(expected, abs=1e-6)


def test_a_crystal_around_the_coordinate_relaxes_in_full(tmp_path):
    # forces in a crystal have a torque, which must not be taken out of them
    crystal = bulk("Cu", cubic=True) * 2
    first, second = 0, int(crystal.get_distances(0, range(1, 32)).argmin()) + 1
    length = crystal.get_distance(first, second)
    result = scan(
        crystal,
        EMT(),
        tmp_path,
        atoms=f"{first},{second}",
        moved=str(second),
        start=0.95 * length,
        stop=length,
        points=2,
        relax=True,
    )
    assert result.is_converged
    frame = result.frames[0]
    slope = HeldCoordinate((first, second), 1.0, ())._slope(frame)
    forces = frame.get_forces() - (frame.get_forces() * slope).sum() / 2 * slope
    assert np.abs(forces).max() < 0.01


def test_other_constraints_cannot_be_kept_beside_a_held_coordinate(tmp_path):
    ethane = molecule("C2H6")
    ethane.set_constraint(FixBondLength(0, 1))
    with pytest.raises(UnsupportedSystemError, match="the constraint FixBondLengths"):
        scan(ethane, EMT(), tmp_path, atoms="2,0,1,5", relax=True)
    assert scan(ethane, EMT(), tmp_path, atoms="2,0,1,5", points=2).is_converged


def test_dihedrals_have_the_sign_of_iupac():
    # seen from the first atom, along x with y upwards, z is on the right: clockwise
    places = [(0, 1, 0), (0, 0, 0), (1, 0, 0), (1, 0, 1)]
    assert measured(Atoms("H4", places), (0, 1, 2, 3)) == pytest.approx(90)


class Holes(Torsion):
    """A torsion without energy from 200 to 300 degrees."""

    def calculate(self, *arguments, **named):
        super().calculate(*arguments, **named)
        if 200 < self.atoms.get_dihedral(0, 1, 2, 3) < 300:
            raise ValueError("no convergence of the electrons")


@pytest.mark.parametrize("relax", [False, True])
def test_a_point_that_cannot_be_computed_does_not_end_the_others(relax, tmp_path):
    settings = {"atoms": "0,1,2,3", "points": 7, "relax": relax}
    result = scan(twisted_chain(), Holes(), tmp_path, **settings)
    assert not result.is_converged
    assert result.reason == (
        "1 of 7 points could not be computed, the first: dihedral 240 degrees: "
        "no convergence of the electrons"
    )
    assert np.flatnonzero(np.isnan(result.energies_eV)).tolist() == [3]
    assert result.is_point_converged == (True,) * 3 + (False,) + (True,) * 3
    assert result.relative_eV[result.highest] == pytest.approx(0.14, abs=1e-6)
    frames = read(result.files["structures"], ":")
    assert [round(f.info["dihedral_deg"]) for f in frames] == [
        60,
        120,
        180,
        *range(300, 421, 60),
    ]
    plot_scan(result, tmp_path / "holes.svg", title="holes")
    picture = (tmp_path / "holes.svg").read_text("utf-8")
    assert "<!-- not computed -->" in picture
    # 0.14 eV are 3.2 kcal/mol, on the right axis
    for tick in ("0.14", "3.0"):
        assert f"<!-- {tick} -->" in picture


def test_table_and_structures_agree(tmp_path):
    result = scan(twisted_chain(), Torsion(), tmp_path, atoms="0 1 2 3", points=5)
    with result.files["table"].open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    frames = read(result.files["structures"], ":")
    assert len(rows) == len(frames) == 5
    for row, frame in zip(rows, frames, strict=True):
        assert float(row["dihedral_deg"]) == pytest.approx(frame.info["dihedral_deg"])
        assert float(row["energy_eV"]) == pytest.approx(frame.get_potential_energy())
        relative = float(row["relative_energy_eV"])
        # 1 eV is 23.06 kcal/mol
        assert float(row["relative_energy_kcal_per_mol"]) == pytest.approx(
            23.0605 * relative, rel=1e-5
        )
    assert max(float(row["relative_energy_eV"]) for row in rows) > 0.01


def test_relaxations_that_do_not_converge_are_told(tmp_path):
    result = scan(
        molecule("C2H6"),
        EMT(),
        tmp_path,
        atoms="2,0,1,5",
        points=3,
        relax=True,
        steps=1,
    )
    assert not result.is_converged
    assert "3 of 3 points did not converge" in result.reason


@pytest.mark.parametrize(
    ("atoms", "settings", "told"),
    [
        (
            molecule("H2O"),
            {"atoms": "0,7", "start": 1.0, "stop": 2.0},
            "no atom 7; the",
        ),
        (molecule("C6H6"), {"atoms": "0,1,2,3"}, "are also connected another way"),
        (molecule("C2H2"), {"atoms": "2,0,1,3"}, "lie in a line"),
        (
            molecule("CH3CH2OH"),
            {"atoms": "2,1,0,3"},  # that is the hydrogen of the oxygen
            "atom 3 does not hang on atom 0",
        ),
        (
            molecule("CH3CH2OH"),
            {"atoms": "3,0,1,2"},
            "atom 3 would move along with the other half",
        ),
        (Atoms(), {"atoms": "0,1,2,3"}, "has no atoms"),
        (
            Atoms("CO", positions=[[0, 0, 0.2], [0, 0, 8.9]], cell=[9] * 3, pbc=True),
            {"atoms": "0,1", "start": 1.0, "stop": 2.0},
            "lie on two sides of the cell",
        ),
    ],
)
def test_a_coordinate_that_does_not_fit_is_refused(atoms, settings, told, tmp_path):
    with pytest.raises(UnsupportedSystemError, match=told):
        scan(atoms, EMT(), tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "atoms is not given; give two atoms for a bond"),
        ({"atoms": "0"}, "atoms is '0'; give two atoms for a bond"),
        ({"atoms": "0,1,2,3,4"}, "give two atoms for a bond"),
        ({"atoms": "0-1"}, "atoms is '0-1'; give numbers of atoms"),
        ({"atoms": "0,1,0"}, "give each atom once"),
        ({"atoms": "0,1"}, "start is not given; a bond needs start and stop"),
        ({"atoms": "0,1", "start": -1.0, "stop": 2.0}, "start is -1.0; give a length"),
        (
            {"atoms": "0,1,2", "start": 90.0, "stop": 180.0},
            "stop is 180.0; give an angle",
        ),
        ({"atoms": "0,1", "start": 1.0, "stop": 1.0}, "start and stop are both 1"),
        ({"atoms": "0,1,2,3", "start": float("nan")}, "start is nan; give an angle"),
        ({"atoms": "0,1,2,3", "points": 1}, "points is 1; give 2 or more"),
        ({"atoms": "0,1,2,3", "moved": "x"}, "moved is 'x'; give numbers"),
    ],
)
def test_settings_are_checked(settings, told):
    with pytest.raises(ArgumentError, match=told):
        ScanSettings(**settings)


@pytest.mark.slow
def test_ethane_by_xtb_has_its_barrier(tmp_path):
    tblite = pytest.importorskip("tblite.ase", reason="needs tblite")
    xtb = tblite.TBLite(method="GFN2-xTB", verbosity=0, cache_api=False)
    result = scan(
        molecule("C2H6"), xtb, tmp_path, atoms="2,0,1,5", points=13, relax=True
    )
    barrier = result.relative_eV.max()
    # experiment 2.9 kcal/mol; GFN2-xTB has 2.6
    assert barrier / 0.0433641 == pytest.approx(2.6, abs=0.1)
    np.testing.assert_allclose(result.relative_eV[::4], 0, atol=1e-3)
    np.testing.assert_allclose(result.relative_eV[2::4], barrier, atol=1e-3)
