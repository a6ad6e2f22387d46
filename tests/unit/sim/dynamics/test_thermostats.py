"""Thermostats and barostats hold what they are asked to, over what can hold it."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLengths
from ase.md.nose_hoover_chain import IsotropicMTKNPT

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.dynamics import ase_state
from jmp_calc.sim.dynamics.ensembles import ENSEMBLES
from jmp_calc.sim.dynamics.integrators import build_dynamics, prepare
from jmp_calc.sim.dynamics.md import MDSettings, RecordSettings, run_md
from jmp_calc.units import KB

WITH_CHAINS = [n for n in ENSEMBLES if n == "nvt-nhc" or n.startswith("npt")]
WITH_CELL = [name for name, kind in ENSEMBLES.items() if kind.has_barostat]
THERMOSTATS = [name for name, kind in ENSEMBLES.items() if kind.has_thermostat]


def copper(repeat=(2, 1, 1)) -> Atoms:
    atoms = bulk("Cu", cubic=True) * repeat
    atoms.calc = EMT()
    return atoms


def rows_of(result) -> list[dict[str, float]]:
    with result.files.observables.open(newline="") as lines:
        return [
            {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(lines)
        ]


@pytest.mark.parametrize("ensemble", WITH_CHAINS)
def test_a_chain_rests_at_the_kinetic_energy_of_the_true_degrees_of_freedom(ensemble):
    settings = MDSettings(ensemble=ensemble, timestep_fs=1e-9)
    system, _ = prepare(copper(), settings, np.random.default_rng(0))
    # prepare draws exactly 3 N - 3 halves of k T
    assert system.get_kinetic_energy() == pytest.approx(0.5 * 21 * KB * 300.0)
    dynamics = build_dynamics(system, settings, np.random.default_rng(0))
    dynamics.step()
    push = ase_state.capture(dynamics)["_thermostat._p_eta"][0] / dynamics.dt
    # with 3 N = 24 degrees of freedom the chain would pull with 3 k T
    assert abs(push) < 1e-6 * KB * 300.0


@pytest.mark.parametrize("ensemble", WITH_CELL)
def test_the_conserved_energy_is_that_with_thermostat_and_barostat(ensemble, tmp_path):
    atoms = copper()
    atoms.rattle(0.05, seed=2)
    settings = MDSettings(
        ensemble=ensemble,
        pressure_GPa=2.0,
        timestep_fs=1.0,
        steps=300,
        thermostat_time_fs=50.0,
        barostat_time_fs=150.0,
    )
    rows = rows_of(run_md(atoms, settings, out=tmp_path))
    assert np.ptp([row["total_energy_eV"] for row in rows]) > 0.02
    assert np.ptp([row["volume_A3"] for row in rows]) > 1.0
    assert np.ptp([row["conserved_energy_eV"] for row in rows]) < 2e-3


@pytest.mark.parametrize("ensemble", WITH_CELL)
def test_the_center_of_mass_rests_under_a_barostat(ensemble, tmp_path):
    settings = MDSettings(ensemble=ensemble, timestep_fs=2.0, steps=50)
    end = run_md(copper(), settings, out=tmp_path).atoms
    assert np.abs(end.get_momenta().sum(axis=0)).max() < 1e-9


def test_nph_exchanges_no_heat_and_nve_is_its_limit_of_a_slow_cell(tmp_path):
    atoms = copper()
    atoms.rattle(0.05, seed=2)
    common = {"timestep_fs": 1.0, "steps": 50}
    slow = MDSettings(ensemble="nph", barostat_time_fs=1e6, **common)
    nph = run_md(atoms, slow, out=tmp_path / "nph")
    nve = run_md(atoms, MDSettings(ensemble="nve", **common), out=tmp_path / "nve")
    # NVE draws the same velocities, with the centre of mass fixed by a constraint
    assert nph.atoms.positions == pytest.approx(nve.atoms.positions, abs=1e-5)


def test_the_pressure_of_a_barostat_has_the_sign_of_compression(tmp_path):
    atoms = copper()
    volume = atoms.get_volume()
    settings = MDSettings(
        ensemble="npt",
        pressure_GPa=20.0,
        timestep_fs=2.0,
        steps=400,
        barostat_time_fs=100.0,
    )
    result = run_md(atoms, settings, out=tmp_path)
    assert result.mean_volume_A3 < 0.95 * volume
    assert result.mean_pressure_GPa == pytest.approx(20.0, abs=4.0)


def test_a_temperature_ramp_ends_at_its_end(tmp_path):
    settings = MDSettings(
        ensemble="nvt",
        temperature_K=50.0,
        temperature_end_K=800.0,
        friction_per_fs=0.1,
        timestep_fs=2.0,
        steps=600,
    )
    rows = rows_of(run_md(copper((2, 2, 2)), settings, out=tmp_path))
    temperature = np.array([row["temperature_K"] for row in rows])
    expected = np.linspace(50.0, 800.0, len(rows))
    # 93 degrees of freedom: 15 % for one row, 6 % for the mean of six correlated ones
    assert temperature[-6:].mean() == pytest.approx(expected[-6:].mean(), rel=0.2)
    assert temperature[:6].mean() == pytest.approx(expected[:6].mean(), rel=0.4)


def test_a_chain_sees_no_heat_in_forces_on_fixed_atoms(tmp_path):
    atoms = copper()
    atoms.rattle(0.05, seed=2)
    atoms.set_constraint(FixAtoms([0, 1]))
    settings = MDSettings(
        ensemble="nvt-nhc", timestep_fs=4.0, steps=500, thermostat_time_fs=60.0
    )
    result = run_md(atoms, settings, out=tmp_path)
    # with the raw forces it is 100 K and falling
    assert result.mean_temperature_K == pytest.approx(300.0, rel=0.15)


@pytest.mark.parametrize("fix", [False, True])
@pytest.mark.parametrize("ensemble", THERMOSTATS)
@pytest.mark.slow
def test_the_mean_temperature_is_the_target_within_three_sigma(ensemble, fix, tmp_path):
    if fix and ENSEMBLES[ensemble].has_barostat:
        pytest.skip("barostats refuse fixed atoms; another test says so")
    atoms = copper()
    atoms.rattle(0.05, seed=2)
    expected = 21
    if fix:
        atoms.set_constraint(FixAtoms([0, 1]))
        expected = 18
    settings = MDSettings(
        ensemble=ensemble,
        friction_per_fs=0.02,
        timestep_fs=4.0,
        steps=6000,
        thermostat_time_fs=60.0,
        barostat_time_fs=500.0,
        seed=3,
    )
    record = RecordSettings(log_stride=1, trajectory_stride=1000)
    result = run_md(atoms, settings, record=record, out=tmp_path)
    assert result.degrees_of_freedom == expected
    temperature = np.array([row["temperature_K"] for row in rows_of(result)])[1000:]
    blocks = temperature[: len(temperature) // 20 * 20].reshape(20, -1).mean(axis=1)
    error = blocks.std(ddof=1) / np.sqrt(20)
    assert error < 8.0
    assert abs(temperature.mean() - 300.0) < 3.0 * error
    if fix:
        assert np.array_equal(result.atoms.positions[:2], atoms.positions[:2])


@pytest.mark.parametrize(
    ("ensemble", "change", "error", "text"),
    [
        ("npt", "molecule", UnsupportedSystemError, "periodic in 0 of 3 directions"),
        ("nph", "fixed", ArgumentError, "cannot keep FixAtoms; remove the constraints"),
        ("nvt-nhc", "bonds", ArgumentError, "nvt-nhc cannot keep FixBondLengths"),
    ],
)
def test_an_ensemble_refuses_what_it_would_do_wrong(ensemble, change, error, text):
    atoms = copper()
    if change == "molecule":
        atoms.pbc = False
    elif change == "fixed":
        atoms.set_constraint(FixAtoms([0]))
    else:
        atoms.set_constraint(FixBondLengths([[0, 1]]))
    with pytest.raises(error, match=text):
        prepare(atoms, MDSettings(ensemble=ensemble), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"ensemble": "nve", "temperature_end_K": 5.0}, "nve has no thermostat"),
        ({"pressure_GPa": 1.0}, "nvt has no barostat; choose one of npt, npt-full"),
        ({"ensemble": "npt", "temperature_K": 0.0}, "0 K, which npt cannot hold"),
    ],
)
def test_settings_that_an_ensemble_cannot_follow_are_refused(settings, text):
    with pytest.raises(ArgumentError, match=text):
        prepare(copper(), MDSettings(**settings), np.random.default_rng(0))


def test_an_unknown_version_of_ase_is_refused_where_its_inner_state_matters(
    monkeypatch,
):
    monkeypatch.setattr(ase_state.ase, "__version__", "3.99.0")
    with pytest.raises(ArgumentError, match=r"ASE 3\.29, and 3\.99\.0 is installed"):
        build_dynamics(copper(), MDSettings(ensemble="npt"), np.random.default_rng(0))
    system, _ = prepare(copper(), MDSettings(), np.random.default_rng(0))
    build_dynamics(system, MDSettings(), np.random.default_rng(0))


def test_the_isotropic_barostat_counts_the_same_degrees_of_freedom():
    settings = MDSettings(ensemble="npt")
    system, _ = prepare(copper(), settings, np.random.default_rng(0))
    dynamics = build_dynamics(system, settings, np.random.default_rng(0))
    assert isinstance(dynamics, IsotropicMTKNPT)
    assert 3 * dynamics._num_atoms_global == pytest.approx(21)
