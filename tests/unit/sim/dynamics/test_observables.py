from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from jmp_calc.sim.dynamics.held import Held
from jmp_calc.sim.dynamics.integrators import build_dynamics, prepare
from jmp_calc.sim.dynamics.md import run_md
from jmp_calc.sim.dynamics.observables import (
    Observables,
    Statistics,
    canonical_error,
    summarize,
)
from jmp_calc.sim.dynamics.settings import MDSettings, RecordSettings


def read_csv(path):
    return np.genfromtxt(path, delimiter=",", names=True)


def rows(n, **changes):
    defaults = {
        "potential_energy_eV": 0.0,
        "kinetic_energy_eV": 0.0,
        "total_energy_eV": 0.0,
        "conserved_energy_eV": 0.0,
        "temperature_K": 300.0,
    }
    return [
        Observables(
            step=i,
            time_ps=0.001 * i,
            **{**defaults, **{name: of(i) for name, of in changes.items()}},
        )
        for i in range(n)
    ]


def summary_of(series, *, n_atoms=1, **settings) -> Statistics:
    chosen = MDSettings(**{"ensemble": "nve", **settings})
    return summarize(series, n_atoms=n_atoms, degrees_of_freedom=24, settings=chosen)


def test_drift_is_the_slope_of_the_conserved_energy_per_atom():
    # 2 meV a step of 1 fs over 4 atoms
    series = rows(50, conserved_energy_eV=lambda i: -100.0 + 0.002 * i)
    statistics = summary_of(series, n_atoms=4)
    assert statistics.energy_drift_meV_per_atom_per_ps == pytest.approx(500.0)
    change = statistics.conserved_energy_change_meV_per_atom
    assert change == pytest.approx(0.5 * 49)


def test_mean_temperature_is_that_of_the_second_half():
    series = rows(40, temperature_K=lambda i: 100.0 if i < 20 else 200.0)
    statistics = summary_of(series)
    assert statistics.mean_temperature_K == pytest.approx(200.0)
    assert statistics.mean_temperature_error_K == pytest.approx(0.0)


def test_a_short_series_has_a_mean_but_no_drift_or_error():
    statistics = summary_of(rows(5))
    assert statistics.mean_temperature_K == 300.0
    assert statistics.mean_temperature_error_K is None
    assert statistics.energy_drift_meV_per_atom_per_ps is None


def test_a_time_step_that_vanishes_gives_no_drift():
    series = [dataclasses.replace(row, time_ps=1e-300 * row.step) for row in rows(50)]
    assert summary_of(series).energy_drift_meV_per_atom_per_ps is None


def test_with_a_thermostat_the_error_is_at_least_the_canonical_one():
    series = rows(41, temperature_K=lambda i: 250.0)
    error = summary_of(series, ensemble="nvt").mean_temperature_error_K
    # 20 fs are no more than one relaxation of 100 fs
    assert error == pytest.approx(300.0 * np.sqrt(2.0 / 24.0))


def test_the_canonical_error_is_the_scatter_of_the_means_of_short_runs(ethanol):
    settings = MDSettings(timestep_fs=1.0, friction_per_fs=0.02, steps=400)
    means = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        system, _ = prepare(ethanol(), settings, rng)
        dynamics = build_dynamics(system, settings, rng)
        series = [system.get_temperature() for _ in dynamics.irun(settings.n_steps)]
        means.append(np.mean(series[200:]))
    # a scatter of 30 numbers is known to 13 %; blocks would find half of it
    scatter = np.sqrt(np.mean((np.array(means) - 300.0) ** 2))
    expected = canonical_error(settings, 24, 0.2)
    assert 0.6 * expected < scatter < 1.3 * expected


@pytest.mark.parametrize("name", ["ethanol", "slab", "crystal"])
def test_conserved_energy_is_the_total_energy_for_nve(name, request, tmp_path):
    atoms = request.getfixturevalue(name)()
    settings = MDSettings(ensemble="nve", steps=100, timestep_fs=4.0)
    record = RecordSettings(log_stride=1)
    data = read_csv(
        run_md(atoms, settings, record=record, out=tmp_path).files.observables
    )
    # the coarse time step makes the total energy swing by far more than the tolerance
    assert np.ptp(data["total_energy_eV"]) > 1e-4
    assert data["conserved_energy_eV"] == pytest.approx(
        data["total_energy_eV"], abs=1e-11
    )


def test_conserved_energy_leaves_out_the_heat_of_the_thermostat(ethanol, tmp_path):
    settings = MDSettings(steps=400, friction_per_fs=0.05)
    record = RecordSettings(log_stride=1)
    data = read_csv(
        run_md(ethanol(), settings, record=record, out=tmp_path).files.observables
    )
    assert np.ptp(data["total_energy_eV"]) > 0.1
    assert np.ptp(data["conserved_energy_eV"]) < 0.005


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_forces_that_are_no_gradient_show_as_drift(ensemble, ethanol, tmp_path):
    settings = MDSettings(ensemble=ensemble, steps=500)
    record = RecordSettings(log_stride=5)
    good = run_md(ethanol(), settings, record=record, out=tmp_path / "good")
    bad = run_md(ethanol(swirl=0.2), settings, out=tmp_path / "bad")
    assert abs(good.energy_drift_meV_per_atom_per_ps) < 0.1
    assert bad.energy_drift_meV_per_atom_per_ps > 5.0


def test_results_are_new_when_only_the_cell_has_changed():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Held(EMT(), has_stress=True)
    before = atoms.get_potential_energy()
    atoms.set_cell(1.05 * atoms.cell.array)
    assert abs(atoms.get_potential_energy() - before) > 0.1
