"""Forces of published DFT calculations give the published phonons."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from jmp_calc.errors import DataError
from jmp_calc.sim.phonons.analysis import (
    analyze,
    find_imaginary,
    frequencies_at,
    run_bands,
    run_mesh,
    run_thermal,
)
from jmp_calc.sim.phonons.band_path import standard_path
from jmp_calc.sim.phonons.force_constants import add_born_charges

CRYSTALS = ("Si", "NaCl", "MgO", "Al2O3", "ZnO")
# masses of ASE and phonopy differ by up to 9e-5 (Cl), frequencies by half of that
MASSES = 5e-5
# published ones have five decimals; at Gamma the acoustic ones are rounding errors
ROUNDING_THz = 1e-4


@pytest.mark.parametrize("name", CRYSTALS)
def test_frequencies_are_the_published_ones(name, published):
    crystal = published(name)
    q_points = np.array(crystal.reference["q_points_reduced"], dtype=float)
    found = frequencies_at(crystal.phonon(), q_points)
    np.testing.assert_allclose(
        found, crystal.reference["frequencies_THz"], rtol=MASSES, atol=ROUNDING_THz
    )


@pytest.mark.parametrize("name", CRYSTALS)
def test_thermal_properties_are_the_published_ones(name, published):
    crystal = published(name)
    phonon, reference = crystal.phonon(), crystal.reference["thermal"]
    run_mesh(phonon, (15, 15, 15) if name != "Al2O3" else (9, 9, 9), with_symmetry=True)
    thermal = run_thermal(phonon, np.array(reference["temperatures"]))
    # the published mesh is 12 x 12 x 12 and does not have Gamma, whose three acoustic
    # modes are left out: 3 R / 9^3 = 0.034 J/K/mol, 600 K of which are 0.08 kJ/mol
    for found, expected, tolerance in (
        (thermal.free_energy_kJ_per_mol, reference["free_energy"], 0.08),
        (thermal.entropy_J_per_K_per_mol, reference["entropy"], 0.16),
        (thermal.heat_capacity_J_per_K_per_mol, reference["heat_capacity"], 0.04),
    ):
        np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("name", ["NaCl", "MgO"])
def test_born_charges_split_the_optical_modes_by_the_exact_amount(name, published):
    crystal = published(name)
    phonon = crystal.phonon()
    plain = frequencies_at(phonon, np.zeros((1, 3)))[0]
    assert np.ptp(plain[3:]) < 1e-3
    add_born_charges(phonon, crystal.folder / "BORN")
    band = phonon.run_band_structure(
        [np.array([[0.0, 0.0, 0.0], [0.05, 0.0, 0.05], [0.1, 0.0, 0.1]])]
    )
    split = np.array(band.frequencies[0][0])
    # Born and Huang: w_LO^2 - w_TO^2 = Z^2 e^2 / (eps_0 eps V mu) of a cubic crystal
    lines = (crystal.folder / "BORN").read_text().splitlines()
    epsilon = float(lines[1].split()[0])
    charges = [float(line.split()[0]) for line in lines[2:4]]
    # the sum rule takes the mean of both charges from each
    charge = (charges[0] - charges[1]) / 2
    masses = phonon.primitive.masses
    mu = masses[0] * masses[1] / masses.sum()
    e2 = 4 * np.pi * units.Hartree * units.Bohr  # e^2 / eps_0 in eV angstrom
    shift = e2 * charge**2 / (epsilon * phonon.primitive.volume * mu)
    expected = np.sqrt(plain[-1] ** 2 + shift * (1000 * units.fs / 2 / np.pi) ** 2)
    # BORN files have 14.400 for e^2 / 4 pi eps_0, which is 14.39964
    assert split[-1] == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(split[3:5], plain[3:5], atol=1e-4)


def test_a_born_file_nearby_is_not_used(published, tmp_path, monkeypatch):
    crystal = published("NaCl")
    (tmp_path / "BORN").write_bytes((crystal.folder / "BORN").read_bytes())
    monkeypatch.chdir(tmp_path)
    phonon = crystal.phonon()
    path = standard_path(phonon.primitive, 5)
    analysis = analyze(phonon, crystal.settings, path, (3, 3, 3))
    assert phonon.nac_params is None
    gamma = analysis.bands.frequencies_THz[0][0]
    assert np.ptp(gamma[3:]) < 1e-3


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "line 1 is incorrect"),
        ("14.4\n1 0 0\n", "line 2 is incorrect"),
        ("14.4\n1 0 0 0 1 0 0 0 one\n", "could not convert"),
        ("14.4\n2 0 0 0 2 0 0 0 2\n1 0 0 0 1 0 0 0 1\n", "not enough"),
        (
            "14.4\n2 0 0 0 2 0 0 0 2\n1 0 0 0 1 0 0 0 1\n-3 0 0 0 -3 0 0 0 -3\n",
            "add up to 2 e",
        ),
    ],
)
def test_a_wrong_born_file_is_refused(content, text, published, tmp_path):
    path = tmp_path / "BORN"
    path.write_text(content)
    phonon = published("NaCl").phonon()
    with pytest.raises(DataError, match=text):
        add_born_charges(phonon, path)
    assert phonon.nac_params is None


def test_published_crystals_have_no_imaginary_modes(published):
    phonon = published("MgO").phonon()
    bands = run_bands(phonon, standard_path(phonon.primitive, 11))
    sampled = run_mesh(phonon, (5, 5, 5), with_symmetry=True)
    assert find_imaginary(phonon, bands, sampled, 0.05) is None


def test_a_soft_crystal_tells_where_it_is_unstable(published):
    phonon = published("MgO").phonon()
    highest = run_mesh(phonon, (5, 5, 5)).frequencies_THz.max()
    # springs of the wrong sign make every frequency imaginary
    phonon.force_constants = -phonon.force_constants
    bands = run_bands(phonon, standard_path(phonon.primitive, 11))
    sampled = run_mesh(phonon, (5, 5, 5), with_symmetry=True)
    found = find_imaginary(phonon, bands, sampled, 0.05)
    assert found.is_computed
    # bands may go beyond the mesh
    assert -1.05 * highest < found.lowest_THz <= -highest + 1e-6
    # all but the acoustic modes at Gamma
    assert (found.n_modes, found.n_mesh_modes) == (6 * 125 - 3, 6 * 125)
    assert "the crystal is not stable" in found.text
