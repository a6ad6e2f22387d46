"""Vibrations of springs, worked out by hand, and gases of the tables."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import yaml
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixCartesian, FixedPlane
from ase.io import read
from ase.io.jsonio import read_json
from ase.vibrations import Vibrations

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.vibrations.calculation import run_vibrations
from jmp_calc.sim.vibrations.hessian import rigid_motions
from jmp_calc.sim.vibrations.settings import VibrationsSettings
from toys.springs import Bond, SpringCalculator

# wavenumber of the square root of 1 eV/angstrom^2/amu, 1/cm
PER_CM = units._hbar * units.m / np.sqrt(units._e * units._amu) / units.invcm
J_PER_MOL = units.kJ / units.mol / 1000


def vibrations(atoms, calculator, out, **settings):
    return run_vibrations(
        atoms, VibrationsSettings(**settings), calculator=calculator, out=out
    )


def diatomic(
    symbols: str, length: float, wave: float
) -> tuple[Atoms, SpringCalculator]:
    """Return a molecule and the spring that gives it a wavenumber."""
    atoms = Atoms(symbols, positions=[[0, 0, 0], [0.6 * length, 0, 0.8 * length]])
    first, second = atoms.get_masses()
    stiffness = (wave / PER_CM) ** 2 * first * second / (first + second)
    bond = Bond(first=0, second=1, length=length, stiffness=stiffness)
    return atoms, SpringCalculator([bond])


def test_a_diatomic_has_the_wavenumber_of_its_spring(tmp_path):
    atoms, spring = diatomic("CO", 1.128, 2170.0)
    result = vibrations(atoms, spring, tmp_path)
    # bonds of springs are not harmonic across: the error of the differences is
    # (displacement/length)^2/6 of a part in 1e5
    assert result.modes.vibrations_per_cm == pytest.approx([2170.0], rel=1e-4)
    assert result.modes.is_rigid.sum() == 5
    assert np.abs(result.modes.rigid_per_cm).max() < 25
    assert spring.n_calls == 13
    with result.files["table"].open(encoding="utf-8", newline="") as lines:
        row = list(csv.DictReader(lines))[-1]
    assert row["kind"] == "vibration"
    assert float(row["energy_meV"]) == pytest.approx(2170 / 8.065544, rel=1e-4)
    # each atom moves as far as the other one is heavy
    m_c, m_o = atoms.get_masses()
    moved = m_c * m_o * (m_c + m_o) / (m_c**2 + m_o**2)
    assert float(row["reduced_mass_amu"]) == pytest.approx(moved, rel=1e-6)


def test_a_linear_triatomic_has_its_textbook_modes(tmp_path):
    atoms = Atoms("OCO", positions=[[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0]])
    k = 90.0
    bonds = [Bond(first=n, second=n + 1, length=1.16, stiffness=k) for n in (0, 1)]
    result = vibrations(
        atoms, SpringCalculator(bonds), tmp_path, displacement_A=1e-4, thermo="none"
    )
    m_o, m_c = atoms.get_masses()[:2]
    symmetric = PER_CM * np.sqrt(k / m_o)
    asymmetric = PER_CM * np.sqrt(k * (1 / m_o + 2 / m_c))
    waves = result.modes.vibrations_per_cm
    # Wilson, Decius and Cross: springs between neighbours do not resist bending
    assert len(waves) == 4
    np.testing.assert_allclose(waves[:2], 0, atol=1.0)
    np.testing.assert_allclose(waves[2:], [symmetric, asymmetric], rtol=1e-5)


def test_a_bent_triatomic_agrees_with_its_matrix_and_with_ase(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atoms = molecule("H2O")
    bonds = [
        Bond(first=i, second=j, length=atoms.get_distance(i, j), stiffness=k)
        for i, j, k in ((0, 1, 50.0), (0, 2, 50.0), (1, 2, 10.0))
    ]
    result = vibrations(atoms, SpringCalculator(bonds), tmp_path / "ours")
    matrix = np.zeros((9, 9))
    for bond in bonds:
        step = np.zeros((3, 3))
        along = atoms.get_distance(bond.first, bond.second, vector=True) / bond.length
        step[bond.first], step[bond.second] = -along, along
        matrix += bond.stiffness * np.outer(step, step)
    roots = np.repeat(np.sqrt(atoms.get_masses()), 3)
    squares = np.linalg.eigvalsh(matrix / np.outer(roots, roots))[-3:]
    np.testing.assert_allclose(
        result.modes.vibrations_per_cm, PER_CM * np.sqrt(squares), rtol=2e-4
    )
    atoms.calc = SpringCalculator(bonds)
    ase = Vibrations(atoms, name="ase")
    ase.run()
    np.testing.assert_allclose(
        result.modes.vibrations_per_cm, ase.get_frequencies()[-3:].real, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("symbols", "length", "wave", "sigma", "spin", "entropy"),
    [
        # NIST-JANAF tables, 298.15 K and 1 bar, J/mol/K
        ("N2", 1.0977, 2358.6, 2, 0.0, 191.609),
        ("CO", 1.1283, 2169.8, 1, 0.0, 197.653),
        ("O2", 1.2075, 1580.2, 2, 1.0, 205.147),
    ],
)
def test_entropies_of_gases_are_those_of_the_tables(
    symbols, length, wave, sigma, spin, entropy, tmp_path
):
    atoms, spring = diatomic(symbols, length, wave)
    thermo = vibrations(
        atoms,
        spring,
        tmp_path,
        spin=spin,
        pressure_Pa=1e5,
    ).thermochemistry
    assert thermo.symmetry_number == sigma
    # rigid rotor and harmonic oscillator are good to 0.1 J/mol/K for these
    assert thermo.entropy_eV_per_K / J_PER_MOL == pytest.approx(entropy, abs=0.1)
    assert thermo.geometry == "linear"
    assert thermo.zero_point_energy_eV == pytest.approx(
        wave * units.invcm / 2, rel=1e-4
    )
    # H = E + ZPE + 7/2 kT, the vibration being frozen
    expected = thermo.zero_point_energy_eV + 3.5 * units.kB * 298.15
    assert thermo.enthalpy_eV == pytest.approx(expected, rel=2e-3)
    assert thermo.internal_energy_eV == pytest.approx(
        thermo.enthalpy_eV - units.kB * 298.15
    )
    gibbs = thermo.enthalpy_eV - 298.15 * thermo.entropy_eV_per_K
    assert thermo.free_energy_eV == pytest.approx(gibbs)


def test_symmetry_number_and_spin_of_the_user_count(tmp_path):
    atoms, spring = diatomic("N2", 1.1, 2358.6)
    plain = vibrations(atoms, spring, tmp_path / "1").thermochemistry
    told = vibrations(atoms, spring, tmp_path / "2", symmetry_number=1, spin=1.0)
    thermo = told.thermochemistry
    assert (thermo.symmetry_number, thermo.spin) == (1, 1.0)
    # twice as many rotations, and three spin states
    gain = thermo.entropy_eV_per_K - plain.entropy_eV_per_K
    assert gain == pytest.approx(units.kB * np.log(2 * 3))


@pytest.mark.parametrize(
    ("charge", "spin", "is_told"), [(0, 0.0, True), (0, 0.5, False), (-1, 0.0, False)]
)
def test_a_spin_that_the_electrons_cannot_have_is_told(charge, spin, is_told, tmp_path):
    atoms, spring = diatomic("OH", 0.97, 3700.0)
    atoms.info["charge"] = charge
    notes = vibrations(atoms, spring, tmp_path, spin=spin).notes
    assert any("9 electrons cannot have a spin of 0" in n for n in notes) == is_told


def test_an_atom_is_a_gas_too(tmp_path):
    thermo = vibrations(Atoms("Ar"), SpringCalculator([]), tmp_path, pressure_Pa=1e5)
    entropy = thermo.thermochemistry.entropy_eV_per_K / J_PER_MOL
    assert entropy == pytest.approx(154.846, abs=0.05)  # NIST-JANAF, 1 bar
    assert thermo.thermochemistry.geometry == "monatomic"


def test_fixed_atoms_do_not_vibrate(tmp_path):
    atoms, spring = diatomic("CO", 1.128, 2170.0)
    atoms.set_constraint(FixAtoms([0]))
    result = vibrations(atoms, spring, tmp_path, displacement_A=1e-3)
    heavy = atoms.get_masses()[0] / atoms.get_masses().sum()
    assert result.modes.vibrations_per_cm[-1] == pytest.approx(
        2170.0 * np.sqrt(heavy), rel=1e-4
    )
    assert len(result.modes.vibrations_per_cm) == 3
    summary = yaml.safe_load(result.files["summary"].read_text())["results"]
    assert result.hessian.free == summary["free_atoms"] == [1]
    assert result.thermochemistry.model == "harmonic"


def test_atoms_that_are_held_in_part_are_refused(tmp_path):
    atoms, spring = diatomic("CO", 1.128, 2170.0)
    for constraint in (
        FixCartesian([0], (True, False, True)),
        FixedPlane(0, (0, 0, 1)),
    ):
        atoms.set_constraint(constraint)
        with pytest.raises(UnsupportedSystemError, match="does not hold whole atoms"):
            vibrations(atoms, spring, tmp_path)
    atoms.set_constraint(FixCartesian([0]))
    assert vibrations(atoms, spring, tmp_path).hessian.free == [1]


def test_an_atom_of_a_crystal_has_no_vibration_and_its_energy(tmp_path):
    atoms = Atoms("Ar", cell=[4, 4, 4], pbc=True)
    bond = Bond(first=0, second=0, length=3.9, stiffness=2, cells=(1, 0, 0))
    result = vibrations(atoms, SpringCalculator([bond]), tmp_path)
    assert len(result.modes.vibrations_per_cm) == 0
    thermo = result.thermochemistry
    assert thermo.free_energy_eV == thermo.internal_energy_eV == pytest.approx(0.01)
    assert thermo.entropy_eV_per_K == 0


def test_all_fixed_is_refused(tmp_path):
    atoms, spring = diatomic("CO", 1.128, 2170.0)
    atoms.set_constraint(FixAtoms([0, 1]))
    with pytest.raises(UnsupportedSystemError, match="nothing can vibrate"):
        vibrations(atoms, spring, tmp_path)


def test_a_structure_that_is_not_at_rest_is_told_or_relaxed(tmp_path):
    atoms, spring = diatomic("CO", 1.128, 2170.0)
    atoms.set_distance(0, 1, 1.2)
    told = vibrations(atoms, spring, tmp_path / "1")
    assert "is not at rest: the largest force is" in told.notes[0]
    # a spring that pulls holds its direction as one of pull/length would
    turning = 2170.0 * np.sqrt((1.2 - 1.128) / 1.2)
    assert told.modes.rigid_per_cm.max() == pytest.approx(turning, rel=1e-3)
    assert "translations and rotations have up to 532 cm^-1" in told.notes[1]
    relaxed = vibrations(atoms, spring, tmp_path / "2", relax=True)
    assert relaxed.notes == ()
    assert relaxed.atoms.get_distance(0, 1) == pytest.approx(1.128, abs=1e-3)
    assert atoms.get_distance(0, 1) == pytest.approx(1.2)
    short = vibrations(atoms, spring, tmp_path / "3", relax=True, steps=1)
    assert not short.is_converged


def test_imaginary_modes_are_told_and_left_out(tmp_path):
    # three atoms in a row, pushed from both ends, want to fold
    atoms = Atoms("OCO", positions=[[-1.1, 0, 0], [0, 0, 0], [1.1, 0, 0]])
    bonds = [Bond(first=n, second=n + 1, length=1.16, stiffness=90) for n in (0, 1)]
    result = vibrations(atoms, SpringCalculator(bonds), tmp_path)
    assert result.n_imaginary == 2
    assert any("2 of 4 vibrations are imaginary" in note for note in result.notes)
    waves = result.modes.vibrations_per_cm
    half = waves[2:].sum() * units.invcm / 2
    assert result.thermochemistry.zero_point_energy_eV == pytest.approx(half)
    with result.files["table"].open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    kinds = [row["kind"] for row in rows]
    assert kinds.count("imaginary") == 2
    assert kinds.count("whole body") == 5
    assert float(rows[0]["frequency_per_cm"]) < -100


def test_soft_modes_are_told_where_entropy_counts_them(tmp_path):
    atoms, spring = diatomic("CO", 3.0, 40.0)
    told = vibrations(atoms, spring, tmp_path / "1").notes
    assert "1 vibrations are below 50 cm^-1" in told[0]
    assert vibrations(atoms, spring, tmp_path / "2", thermo="none").notes == ()


def test_an_ideal_gas_must_be_free(tmp_path):
    atoms, spring = diatomic("CO", 1.128, 2170.0)
    atoms.set_cell([9, 9, 9])
    atoms.pbc = True
    with pytest.raises(UnsupportedSystemError, match="an ideal gas needs a molecule"):
        vibrations(atoms, spring, tmp_path / "1", thermo="ideal-gas")
    result = vibrations(atoms, spring, tmp_path / "2")
    assert any("only translations are taken out" in note for note in result.notes)
    assert result.thermochemistry.model == "harmonic"


@pytest.mark.parametrize(("name", "n_motions"), [("CO2", 5), ("H2O", 6), ("C2H2", 5)])
def test_motions_of_the_whole_body_are_orthonormal_and_as_many_as_there_are(
    name, n_motions
):
    atoms = molecule(name)
    atoms.rotate(40, (1, 2, 3))
    basis = rigid_motions(atoms)
    assert basis.shape == (3 * len(atoms), n_motions)
    np.testing.assert_allclose(basis.T @ basis, np.eye(n_motions), atol=1e-12)


def test_files_can_be_read_by_ase(tmp_path):
    result = vibrations(
        molecule("H2O"), EMT(), tmp_path, relax=True, mode_trajectories=True
    )
    data = read_json(result.files["data"])
    np.testing.assert_allclose(
        np.sort(data.get_frequencies().real)[-1], result.modes.vibrations_per_cm[-1]
    )
    assert all(path.is_file() for path in result.files.values())
    trajectories = sorted(tmp_path.glob("*-mode-*.xyz"))
    assert len(trajectories) == 3
    frames = read(trajectories[-1], ":")
    assert frames[0].info["frequency_per_cm"] == pytest.approx(
        result.modes.vibrations_per_cm[-1]
    )
    # a quarter of a period on, the atoms are at their farthest
    moved = frames[6].positions - frames[0].positions
    assert np.linalg.norm(moved, axis=1).max() == pytest.approx(0.25)
    # the centre of mass stays
    np.testing.assert_allclose(frames[0].get_masses() @ moved, 0, atol=1e-5)


def test_modes_of_an_earlier_job_do_not_stay(tmp_path):
    atoms, spring = diatomic("CO", 1.128, 2170.0)
    vibrations(atoms, spring, tmp_path, mode_trajectories=True)
    assert (tmp_path / "molecule-mode-006.xyz").is_file()
    again = run_vibrations(
        atoms, VibrationsSettings(), calculator=spring, out=tmp_path, overwrite=True
    )
    assert set(tmp_path.iterdir()) == set(again.files.values())
    assert len(again.files) == 4


@pytest.mark.slow
def test_water_by_xtb_agrees_with_ase(tmp_path, monkeypatch):
    tblite = pytest.importorskip("tblite.ase", reason="needs tblite")
    monkeypatch.chdir(tmp_path)
    xtb = tblite.TBLite(method="GFN2-xTB", verbosity=0, cache_api=False)
    result = vibrations(molecule("H2O"), xtb, tmp_path, relax=True, fmax_eV_per_A=1e-4)
    atoms = result.atoms.copy()
    atoms.calc = xtb
    ase = Vibrations(atoms, name="ase")
    ase.run()
    ours = result.modes.vibrations_per_cm
    np.testing.assert_allclose(ours, ase.get_frequencies()[-3:].real, atol=0.5)
    # GFN2-xTB has 1539, 3643 and 3651; experiment has 1595, 3657 and 3756
    np.testing.assert_allclose(ours, [1539, 3643, 3651], atol=5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"displacement_A": 0.0}, "displacement_A is 0.0; give a number above 0"),
        ({"displacement_A": 1.0}, "displacement_A is 1.0; give a number up to 0.1"),
        ({"temperature_K": -1.0}, "temperature_K is -1.0; give a number above 0"),
        ({"pressure_Pa": 0.0}, "pressure_Pa is 0.0; give a number above 0"),
        ({"symmetry_number": 0}, "symmetry_number is 0; give 1 or more"),
        ({"spin": 0.3}, "spin is 0.3; give the total spin"),
        ({"spin": -0.5}, "spin is -0.5; give the total spin"),
    ],
)
def test_settings_are_checked(settings, told):
    with pytest.raises(ArgumentError, match=told):
        VibrationsSettings(**settings)
