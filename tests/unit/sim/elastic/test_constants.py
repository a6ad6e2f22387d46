"""Elastic constants of springs, worked out by hand, and of EMT's copper."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.stress import get_elasticity_tensor, voigt_6_to_full_3x3_strain
from ase.units import GPa

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.elastic.constants import run_elastic
from jmp_calc.sim.elastic.settings import ElasticSettings
from jmp_calc.sim.elastic.symmetry import find_point_group
from toys.springs import Bond, SpringCalculator, springs_between_neighbors
from toys.volumes import EquationCalculator

# lattice constant of ASE's EMT copper at rest
CU_A = (4 * 11.565384) ** (1 / 3)


def elastic(atoms, calculator, out, **settings):
    return run_elastic(
        atoms, ElasticSettings(**settings), calculator=calculator, out=out
    )


def test_springs_between_neighbours_of_an_fcc_crystal(tmp_path):
    a, stiffness = 4.0, 2.0
    atoms = bulk("Cu", a=a, cubic=True)
    springs = springs_between_neighbors(atoms, 1.2 * a / np.sqrt(2), stiffness)
    result = elastic(atoms, springs, tmp_path)
    # central forces k between nearest neighbours: C11 = 2 k/a, C12 = C44 = k/a
    # (Born and Huang 1954); what is left is of fourth order in the strain
    unit = stiffness / a / GPa
    expected = unit * (np.eye(6) * [1, 1, 1, 1, 1, 1])
    expected[:3, :3] = unit * (np.ones((3, 3)) + np.eye(3))
    np.testing.assert_allclose(result.constants_GPa, expected, atol=1e-6 * unit)
    assert result.moduli.is_stable
    assert result.moduli.bulk_hill_GPa == pytest.approx(4 / 3 * unit)
    assert result.notes == ()


@pytest.mark.parametrize(("relax", "factor"), [("none", 1.25), ("positions", 0.8)])
def test_atoms_relax_under_the_strain_unless_they_are_clamped(relax, factor, tmp_path):
    # two atoms on a line with springs of 1 and 4 in turn, each 2 angstrom long
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [2, 0, 0]], cell=[4, 3, 3], pbc=True)
    springs = SpringCalculator(
        [
            Bond(first=0, second=1, length=2, stiffness=1),
            Bond(first=1, second=0, length=2, stiffness=4, cells=(1, 0, 0)),
        ]
    )
    result = elastic(
        atoms, springs, tmp_path, relax=relax, fmax_eV_per_A=1e-7, skip_symmetry=True
    )
    # clamped: both are stretched alike, (1 + 4)/4; free: in series, 1/(1 + 1/4);
    # times length over area
    expected = factor * 4 / 9 / GPa
    assert result.constants_GPa[0, 0] == pytest.approx(expected, rel=1e-5)
    assert not result.moduli.is_stable
    assert result.moduli.bulk_hill_GPa is None
    assert "the crystal is not stable" in result.notes[-1]


def constants_from_energies(atoms, springs):
    """Return the constants of clamped and of free ions, GPa, without any stress."""
    n, h = 6 + 3 * len(atoms), 1e-3

    def energy(x):
        system = atoms.copy()
        deformation = voigt_6_to_full_3x3_strain(x[:6])
        system.set_cell(atoms.cell @ deformation, scale_atoms=True)
        system.positions += x[6:].reshape(-1, 3)
        system.calc = springs
        return system.get_potential_energy()

    # second derivatives by strains and places
    steps = h * np.eye(n)
    matrix = np.array(
        [
            [
                energy(a + b) - energy(a - b) - energy(b - a) + energy(-a - b)
                for b in steps
            ]
            for a in steps
        ]
    ) / (4 * h**2)
    clamped, mixed, inner = matrix[:6, :6], matrix[:6, 6:], matrix[6:, 6:]
    free = clamped - mixed @ np.linalg.pinv(inner, rcond=1e-6) @ mixed.T
    return {
        "none": clamped / atoms.cell.volume / GPa,
        "positions": free / atoms.cell.volume / GPa,
    }


@pytest.mark.parametrize(
    ("places", "cell", "cutoff"),
    [
        # bismuth in its rhombohedral cell, turned so that C14 is not zero
        ([[0.234] * 3, [0.766] * 3], [4.746, 4.746, 4.746, 57.3, 57.3, 57.3], 3.8),
        ([[0.05, 0.1, 0.2], [0.55, 0.48, 0.71]], [3.1, 3.3, 3.9, 80, 97, 104], 4.6),
    ],
)
@pytest.mark.parametrize("relax", ["none", "positions"])
def test_trigonal_and_triclinic_constants_are_second_derivatives_of_the_energy(
    places, cell, cutoff, relax, tmp_path
):
    atoms = Atoms("Bi2", scaled_positions=places, cell=cell, pbc=True)
    springs = springs_between_neighbors(atoms, cutoff, 2.0)
    expected = constants_from_energies(atoms, springs)[relax]
    result = elastic(atoms, springs, tmp_path, relax=relax, fmax_eV_per_A=1e-6)
    # differences of energies are good to 1e-6
    np.testing.assert_allclose(result.constants_GPa, expected, atol=1e-3)
    assert np.abs(expected[:3, 3:]).max() > 1


def test_copper_agrees_with_ase_and_with_the_equation_of_state(tmp_path):
    atoms = bulk("Cu", a=CU_A, cubic=True)
    result = elastic(atoms, EMT(), tmp_path)
    atoms.calc = EMT()
    tensor = get_elasticity_tensor(atoms, h=1e-4) / GPa
    c = result.constants_GPa
    # ASE's single central difference against a fit through four strains
    assert c[0, 0] == pytest.approx(tensor[0, 0, 0, 0], rel=2e-4)
    assert c[0, 1] == pytest.approx(tensor[0, 0, 1, 1], rel=2e-4)
    assert c[3, 3] == pytest.approx(tensor[1, 2, 1, 2], rel=2e-4)
    assert result.moduli.bulk_hill_GPa == pytest.approx(134.48, abs=0.05)
    # EMT copper: 172.6, 115.4, 89.9 GPa; experiment 168, 121, 75
    np.testing.assert_allclose(
        [c[0, 0], c[0, 1], c[3, 3]], [172.6, 115.4, 89.9], atol=0.1
    )
    assert result.space_group == "Fm-3m (225)"
    assert result.asymmetry_GPa < 1e-3


def test_aluminium_agrees_with_energies_of_another_program(tmp_path):
    result = elastic(bulk("Al", a=4.0, cubic=True), EMT(), tmp_path)
    c, tension = result.constants_GPa, result.stress_GPa[0]
    # atomistics of pyiron, tests of its elastic workflow: derivatives of EMT's energy
    # by finite strain, from strains of up to 0.5 %
    c11, c12, c44 = 52.6244, 32.6744, 35.5868
    # Wallace: slopes of the stress of a crystal under tension
    expected = [c11 + tension, c12 - tension, c44 + tension]
    assert tension == pytest.approx(0.17, abs=0.001)
    np.testing.assert_allclose([c[0, 0], c[0, 1], c[3, 3]], expected, atol=0.03)


@pytest.mark.parametrize("repetitions", [(1, 1, 1), (1, 2, 3)])
def test_the_symmetry_does_not_depend_on_the_shape_of_the_cell(repetitions):
    atoms = bulk("Cu", cubic=True) * repetitions
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    group = find_point_group(atoms, 0.01)
    assert group.space_group == "Fm-3m (225)"
    assert len(group.rotations) == 48
    turned = np.einsum("nij,nkj->nik", group.rotations, group.rotations)
    np.testing.assert_allclose(turned, [np.eye(3)] * 48, atol=1e-6)


def test_a_turned_crystal_has_the_same_moduli(tmp_path):
    atoms = bulk("Cu", a=CU_A)
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    one = elastic(atoms, EMT(), tmp_path / "1")
    other = elastic(turned, EMT(), tmp_path / "2")
    np.testing.assert_allclose(
        other.moduli.eigenvalues_GPa, one.moduli.eigenvalues_GPa, rtol=1e-5
    )
    assert other.moduli.young_GPa == pytest.approx(one.moduli.young_GPa, rel=1e-5)
    assert not np.allclose(other.constants_GPa, one.constants_GPa, atol=1)


def test_the_cell_is_relaxed_first_if_asked_for(tmp_path):
    atoms = bulk("Cu", a=3.61)
    here = elastic(atoms, EMT(), tmp_path / "1")
    assert "has a stress of up to" in here.notes[0]
    pressed = elastic(bulk("Cu", a=3.55), EMT(), tmp_path / "3", relax="none")
    assert "has a stress of up to" in pressed.notes[0]
    relaxed = elastic(atoms, EMT(), tmp_path / "2", relax="cell")
    assert relaxed.notes == ()
    assert relaxed.constants_GPa[0, 0] == pytest.approx(172.6, abs=0.2)
    assert here.constants_GPa[0, 0] < 165


def test_noise_is_averaged_over_the_symmetry(tmp_path):
    class Noisy(EMT):
        """Copper with errors of some GPa in its constants."""

        def calculate(self, atoms=None, *args, **more):
            super().calculate(atoms, *args, **more)
            seed = int(1e6 * np.abs(atoms.cell.array).sum())
            noise = np.random.default_rng(seed).normal(size=6)
            self.results["stress"] = self.results["stress"] + 1e-4 * noise

    result = elastic(bulk("Cu", a=CU_A), Noisy(), tmp_path, relax="none")
    c, raw = result.constants_GPa, result.raw_constants_GPa
    assert result.asymmetry_GPa == np.abs(raw - c).max() > 1
    # three constants, each the mean of those that should be alike
    np.testing.assert_allclose(c[0, 0], np.diag(raw)[:3].mean())
    np.testing.assert_allclose(c[3, 3], np.diag(raw)[3:].mean())
    off = raw[:3, :3][~np.eye(3, dtype=bool)]
    np.testing.assert_allclose(c[:3, :3][~np.eye(3, dtype=bool)], off.mean())
    np.testing.assert_allclose(c[:3, 3:], 0, atol=1e-9)


def test_symmetry_can_be_left_alone(tmp_path):
    atoms = bulk("Cu", a=CU_A, cubic=True)
    atoms.rattle(0.02, seed=1)
    result = elastic(atoms, EMT(), tmp_path, relax="none", skip_symmetry=True)
    assert result.space_group is None
    c = result.constants_GPa
    assert abs(c[0, 0] - c[1, 1]) > 1e-3
    np.testing.assert_allclose(c, c.T, atol=1e-12)


def test_files_hold_what_the_result_has(tmp_path):
    result = elastic(bulk("Cu", a=CU_A), EMT(), tmp_path, points=2)
    with result.files["constants"].open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))
    assert rows[0] == ["GPa", "xx", "yy", "zz", "yz", "xz", "xy"]
    values = np.array([row[1:] for row in rows[1:]], dtype=float)
    np.testing.assert_array_equal(values, result.constants_GPa)
    with result.files["stresses"].open(encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    assert len(table) == 12
    assert float(table[-1]["stress_xy_GPa"]) == result.stresses_GPa[5, 1, 5]


def test_relaxations_that_do_not_converge_are_told(tmp_path):
    atoms = bulk("Cu", cubic=True, a=CU_A)
    atoms.rattle(0.1, seed=0)
    result = elastic(atoms, EMT(), tmp_path, steps=1, points=2)
    assert not result.is_converged
    assert "13 relaxations did not converge" in result.reason


def test_what_has_no_stress_or_no_cell_is_refused(tmp_path):
    with pytest.raises(UnsupportedSystemError, match="needs a crystal"):
        elastic(molecule("H2O"), EMT(), tmp_path)
    with pytest.raises(UnsupportedSystemError, match="need stresses, which the"):
        elastic(bulk("Cu"), EquationCalculator("birch"), tmp_path, relax="none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"strain_percent": 0.0}, "strain_percent is 0.0; give a number above 0"),
        ({"strain_percent": 20.0}, "up to 5"),
        ({"points": 3}, "points is 3; give an even number, 2 or more"),
        ({"points": 0}, "points is 0; give an even number"),
        ({"fmax_eV_per_A": -1.0}, "fmax_eV_per_A is -1.0; give"),
        ({"steps": 0}, "steps is 0; give 1 or more"),
        ({"residual_stress_GPa": float("nan")}, "residual_stress_GPa is nan; give"),
    ],
)
def test_settings_are_checked(settings, told):
    with pytest.raises(ArgumentError, match=told):
        ElasticSettings(**settings)
