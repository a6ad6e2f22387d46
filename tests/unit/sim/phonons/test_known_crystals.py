"""Phonons through a calculator against exact formulas and another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.phonons import Phonons

from jmp_calc.sim.phonons.analysis import frequencies_at
from jmp_calc.sim.phonons.calculation import run_phonons
from jmp_calc.sim.phonons.crystal import space_group
from jmp_calc.sim.phonons.settings import PhononSettings
from jmp_calc.units import GAS_CONSTANT, KB
from toys.spring_crystals import STIFFNESS, NeighborSprings, fcc_frequencies, terahertz

HPLANCK = units._hplanck / units._e
"""Planck's constant, eV s."""
# springs are harmonic in their length and not in the displacements: relative error
# (displacement / length)^2, here 1e-7
EXACT = 1e-5
SMALL = {"displacement_A": 0.001, "mesh": "5", "band_points": 7}


@pytest.fixture(scope="module")
def fcc(tmp_path_factory):
    """An fcc crystal of springs, given as its cubic cell."""
    atoms = bulk("Cu", "fcc", a=4.0, cubic=True)
    return run_phonons(
        atoms,
        PhononSettings(supercell="2", **SMALL),
        calculator=NeighborSprings(length=4.0 / np.sqrt(2)),
        out=tmp_path_factory.mktemp("fcc"),
        stem="fcc",
    )


@pytest.mark.parametrize("q", [(0.5, 0.5, 0.0), (0.5, 0.5, 0.5), (0.1, 0.23, -0.4)])
def test_an_fcc_crystal_of_springs_has_its_exact_frequencies(fcc, q):
    reciprocal = np.linalg.inv(fcc.phonon.primitive.cell)
    expected = fcc_frequencies(reciprocal @ np.array(q), 4.0, fcc.phonon.masses[0])
    found = frequencies_at(fcc.phonon, np.array([q]))[0]
    np.testing.assert_allclose(found, expected, rtol=EXACT, atol=EXACT)


def test_bands_are_exact_along_the_whole_path(fcc):
    reciprocal = np.linalg.inv(fcc.phonon.primitive.cell)
    bands = fcc.analysis.bands
    for line, frequencies in zip(bands.path.lines, bands.frequencies_THz, strict=True):
        expected = [
            fcc_frequencies(reciprocal @ q, 4.0, fcc.phonon.masses[0]) for q in line
        ]
        np.testing.assert_allclose(frequencies, expected, atol=1e-4)


def test_the_acoustic_modes_at_gamma_have_no_frequency(fcc):
    # the square root of rounding errors of 1e-10 THz^2
    np.testing.assert_allclose(fcc.analysis.gamma_THz, 0.0, atol=1e-4)


def test_one_displacement_is_enough_for_a_cubic_crystal(fcc):
    assert fcc.n_displacements == 1
    assert len(fcc.phonon.primitive) == 1
    assert len(fcc.phonon.supercell) == 32


def test_the_densities_of_states_count_all_modes(fcc):
    states = fcc.analysis.states
    # 200 samples of the sharp peaks that tetrahedra of a 5 x 5 x 5 mesh have
    total = np.trapezoid(states.total, states.frequency_THz)
    assert total == pytest.approx(3.0, rel=0.05)
    np.testing.assert_allclose(states.by_element["Cu"], states.total, atol=1e-6)


def test_the_heat_capacity_tends_to_that_of_dulong_and_petit(fcc):
    thermal = fcc.analysis.thermal
    assert thermal.heat_capacity_J_per_K_per_mol[0] == 0
    # the mean of the squared frequencies is a third of the trace of 12 neighbours
    mean_square = terahertz(4 * STIFFNESS / fcc.phonon.masses[0]) ** 2
    quantum = mean_square * (1e12 * HPLANCK / (1000.0 * KB)) ** 2 / 12
    # three modes at Gamma of 5 x 5 x 5 q-points are left out
    expected = 3 * GAS_CONSTANT * (1 - 1 / 125 - quantum)
    # the next term of the expansion is 2e-4
    found = thermal.heat_capacity_J_per_K_per_mol[-1]
    assert found == pytest.approx(expected, rel=3e-4)
    assert (np.diff(thermal.entropy_J_per_K_per_mol) > 0).all()


def test_the_zero_point_energy_is_half_a_quantum_of_each_mode(fcc):
    grid = np.stack(np.meshgrid(*3 * [np.arange(5) / 5], indexing="ij"), -1)
    frequencies = frequencies_at(fcc.phonon, grid.reshape(-1, 3)).clip(0)
    expected = 0.5 * frequencies.sum() / 125 * 1e12 * HPLANCK
    assert fcc.analysis.thermal.zero_point_energy == pytest.approx(expected, rel=1e-4)


def test_a_chain_of_atoms_has_its_sine(tmp_path):
    chain = Atoms("Ar", cell=[2.0, 9.0, 9.5], pbc=True)
    result = run_phonons(
        chain,
        PhononSettings(supercell="8 1 1", primitive="input", mesh="5 1 1"),
        calculator=NeighborSprings(length=2.0, axis=0),
        out=tmp_path,
        stem="chain",
    )
    q = np.array([[k / 8, 0.0, 0.0] for k in range(5)])
    expected = terahertz(4 * STIFFNESS / chain.get_masses()[0]) * np.sin(
        np.pi * q[:, 0]
    )
    found = frequencies_at(result.phonon, q)[:, -1]
    np.testing.assert_allclose(found, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(("symbol", "a"), [("Cu", 3.61), ("Al", 4.0)])
def test_emt_metals_agree_with_another_implementation(symbol, a, tmp_path):
    atoms = bulk(symbol, "fcc", a=a)
    result = run_phonons(
        atoms,
        PhononSettings(supercell="4", mesh="3", band_points=3),
        calculator=EMT(),
        out=tmp_path,
        stem="m",
    )
    other = Phonons(atoms, EMT(), supercell=(4, 4, 4), delta=0.01, name=tmp_path / "p")
    other.run()
    other.read(acoustic=True)
    # only q-points that fit into the supercell: between them conventions differ
    q = np.array(
        [[0.5, 0.5, 0.0], [0.5, 0.5, 0.5], [0.25, 0.0, 0.0], [0.5, 0.25, 0.75]]
    )
    expected = np.array(other.band_structure(q, verbose=False)) / (1e12 * HPLANCK)
    # both have errors of second order in 0.01 angstrom, with other directions
    np.testing.assert_allclose(frequencies_at(result.phonon, q), expected, rtol=2e-3)


def test_a_relaxed_crystal_is_written_and_used(tmp_path):
    result = run_phonons(
        bulk("Cu", "fcc", a=3.5),
        PhononSettings(relax="both", supercell="2", mesh="3", band_points=3),
        calculator=EMT(),
        out=tmp_path,
        stem="cu",
    )
    assert result.residual.max_stress_GPa < 0.011
    assert not result.notes
    # EMT's own lattice constant of copper
    assert result.atoms.cell.volume == pytest.approx(3.59**3 / 4, rel=3e-3)
    assert result.files.relaxed.is_file()


def test_a_crystal_that_has_lost_its_symmetry_is_relaxed_all_the_way(tmp_path):
    places = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    atoms = Atoms("AuCu3", scaled_positions=places, cell=[3.72] * 3, pbc=True)
    # symmetrizing at 0.01 angstrom gives Cm, and doing so again Amm2; with operations
    # of the second and places of the first a force of 0.04 would be hidden
    atoms.rattle(0.003, seed=1)
    result = run_phonons(
        atoms,
        PhononSettings(relax="both", supercell="2", mesh="3", band_points=3),
        calculator=EMT(),
        out=tmp_path,
        stem="alloy",
    )
    assert result.residual.max_force_eV_per_A < 1e-3
    assert result.residual.max_stress_GPa < 0.01
    assert space_group(result.phonon) == "Amm2 (38)"
    # the potential has its minimum at the ordered cubic structure
    assert "Pm-3m (221) at a tolerance of 0.01" in result.notes[0]


def test_a_strained_crystal_is_told_and_not_relaxed(tmp_path):
    result = run_phonons(
        bulk("Cu", "fcc", a=3.5),
        PhononSettings(supercell="2", mesh="3", band_points=3),
        calculator=EMT(),
        out=tmp_path,
        stem="cu",
    )
    assert "not relaxed: it has a stress of up to 1" in result.notes[0]
    assert result.atoms.cell.volume == pytest.approx(3.5**3 / 4)
    assert not result.files.relaxed.exists()
