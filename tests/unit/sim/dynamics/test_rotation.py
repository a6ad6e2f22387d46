"""Molecules that are kept from turning, and those that turn at a wrong temperature."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.dynamics.md import MDSettings, RecordSettings, run_md
from jmp_calc.sim.dynamics.motion import Motion
from toys.springs import springs_between_neighbors

TURNLESS = ("nve", "nvt-bussi", "nvt-nhc")


def on_bonds(name: str, *, cutoff: float = 2.3) -> Atoms:
    """A molecule of springs between bonded atoms and their neighbours; it can turn."""
    atoms = molecule(name)
    atoms.calc = springs_between_neighbors(atoms, cutoff=cutoff, stiffness=30.0)
    return atoms


def spin(atoms: Atoms) -> np.ndarray:
    arms = atoms.positions - atoms.get_center_of_mass()
    return np.cross(arms, atoms.get_momenta()).sum(axis=0)


@pytest.mark.parametrize("ensemble", TURNLESS)
def test_the_molecule_never_turns_and_has_three_degrees_less(ensemble):
    settings = MDSettings(ensemble=ensemble, fix_rotation=True, timestep_fs=0.1)
    motion = Motion.begin(on_bonds("CH3CH2OH"), settings, None)
    assert motion.degrees_of_freedom == 3 * 9 - 6
    first = motion.meter.read(0).observables
    # the kinetic energy that rotation would have had is in the vibrations
    assert first.temperature_K == pytest.approx(300.0)
    for _ in range(100):
        row = motion.step().observables
    assert np.abs(spin(motion.atoms)).max() < 1e-10
    assert np.abs(motion.atoms.get_momenta().sum(axis=0)).max() < 1e-10
    # the constraint does no work
    assert row.conserved_energy_eV == pytest.approx(first.total_energy_eV, abs=3e-4)


def test_without_it_the_molecule_keeps_the_spin_that_it_began_with():
    motion = Motion.begin(on_bonds("CH3CH2OH"), MDSettings(ensemble="nve"), None)
    assert motion.degrees_of_freedom == 3 * 9 - 3
    before = spin(motion.atoms)
    for _ in range(100):
        motion.step()
    assert np.abs(before).max() > 0.1
    assert spin(motion.atoms) == pytest.approx(before, abs=1e-10)


@pytest.mark.parametrize(("name", "expected"), [("H2", 1), ("CO2", 3), ("H2O", 3)])
def test_two_atoms_have_two_rotations_and_more_have_three(name, expected):
    settings = MDSettings(ensemble="nve", fix_rotation=True)
    motion = Motion.begin(on_bonds(name), settings, None)
    assert motion.degrees_of_freedom == expected
    assert motion.meter.read(0).observables.temperature_K == pytest.approx(300.0)
    for _ in range(50):
        motion.step()
    assert np.abs(spin(motion.atoms)).max() < 1e-10


@pytest.mark.parametrize("ensemble", ["nvt-bussi", "nvt-nhc"])
@pytest.mark.slow  # 12000 steps for an error of some percent
def test_the_mean_temperature_is_the_target_within_three_sigma(ensemble, tmp_path):
    settings = MDSettings(
        ensemble=ensemble,
        fix_rotation=True,
        steps=12000,
        thermostat_time_fs=50.0,
        seed=2,
    )
    record = RecordSettings(log_stride=1, trajectory_stride=12000)
    # stiff: with springs to second neighbours alone its ends swing into each other
    atoms = on_bonds("CH3CH2OH", cutoff=3.2)
    result = run_md(atoms, settings, record=record, out=tmp_path)
    assert result.status == "completed"
    assert result.degrees_of_freedom == 21
    with result.files.observables.open(newline="") as lines:
        rows = [float(row["temperature_K"]) for row in csv.DictReader(lines)]
    blocks = np.array(rows[2000:12000]).reshape(20, -1).mean(axis=1)
    error = blocks.std(ddof=1) / np.sqrt(20)
    # 21 degrees scatter by 92 K over some 50 independent times; with 24 degrees for 21
    # the mean would be off by 43 K
    assert error < 14.0
    assert abs(blocks.mean() - 300.0) < 3.0 * error


def test_a_resumed_run_goes_on_without_turning(tmp_path):
    def go(folder: str, steps: int, *, resume: bool = False) -> Atoms:
        settings = MDSettings(ensemble="nvt-nhc", fix_rotation=True, steps=steps)
        out = tmp_path / folder
        return run_md(on_bonds("H2O"), settings, out=out, resume=resume).atoms

    go("cut", 10)
    cut = go("cut", 25, resume=True)
    assert np.array_equal(cut.positions, go("whole", 25).positions)
    assert cut.constraints == []


@pytest.mark.parametrize(
    ("ensemble", "change", "why"),
    [
        ("nvt", lambda a: None, "the Langevin thermostat turns a molecule as it must"),
        ("nve", lambda a: a.set_constraint(FixAtoms([0])), "has constraints"),
        ("nve", lambda a: a.set_pbc([True, False, False]), "is periodic"),
    ],
)
def test_what_cannot_be_kept_from_turning_is_refused(ensemble, change, why):
    atoms = on_bonds("H2O")
    change(atoms)
    settings = MDSettings(ensemble=ensemble, fix_rotation=True)
    with pytest.raises(ArgumentError, match=f"nve, nvt-bussi or nvt-nhc: .*{why}"):
        Motion.begin(atoms, settings, None)


def test_a_crystal_under_pressure_does_not_turn_either():
    settings = MDSettings(ensemble="npt", fix_rotation=True)
    with pytest.raises(ArgumentError, match="is periodic; leave it out"):
        Motion.begin(bulk("Cu", cubic=True), settings, None)
