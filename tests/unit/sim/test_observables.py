from __future__ import annotations

import numpy as np
import pytest

from jmp_calc.sim.md import run_md
from jmp_calc.sim.observables import Observables, summarize
from jmp_calc.sim.settings import MDSettings


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


def test_drift_is_the_slope_of_the_conserved_energy_per_atom():
    # 2 meV a step of 1 fs over 4 atoms
    series = rows(50, conserved_energy_eV=lambda i: -100.0 + 0.002 * i)
    drift = summarize(series, 4).energy_drift_meV_per_atom_per_ps
    assert drift == pytest.approx(500.0)


def test_mean_temperature_is_that_of_the_second_half():
    series = rows(40, temperature_K=lambda i: 100.0 if i < 20 else 200.0)
    statistics = summarize(series, 1)
    assert statistics.mean_temperature_K == pytest.approx(200.0)
    assert statistics.mean_temperature_error_K == pytest.approx(0.0)


def test_a_short_series_has_a_mean_but_no_drift_or_error():
    statistics = summarize(rows(5), 1)
    assert statistics.mean_temperature_K == 300.0
    assert statistics.mean_temperature_error_K is None
    assert statistics.energy_drift_meV_per_atom_per_ps is None


@pytest.mark.parametrize("name", ["ethanol", "slab", "crystal"])
def test_conserved_energy_is_the_total_energy_for_nve(name, request, tmp_path):
    atoms = request.getfixturevalue(name)()
    settings = MDSettings(ensemble="nve", steps=100, timestep_fs=4.0, log_stride=1)
    data = read_csv(run_md(atoms, settings, out=tmp_path).files.observables)
    # the coarse time step makes the total energy swing by far more than the tolerance
    assert np.ptp(data["total_energy_eV"]) > 1e-4
    assert data["conserved_energy_eV"] == pytest.approx(
        data["total_energy_eV"], abs=1e-11
    )


def test_conserved_energy_leaves_out_the_heat_of_the_thermostat(ethanol, tmp_path):
    settings = MDSettings(steps=400, friction_per_fs=0.05, log_stride=1)
    data = read_csv(run_md(ethanol(), settings, out=tmp_path).files.observables)
    assert np.ptp(data["total_energy_eV"]) > 0.1
    assert np.ptp(data["conserved_energy_eV"]) < 0.005


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_forces_that_are_no_gradient_show_as_drift(ensemble, ethanol, tmp_path):
    settings = MDSettings(ensemble=ensemble, steps=500, log_stride=5)
    good = run_md(ethanol(), settings, out=tmp_path / "good")
    bad = run_md(ethanol(swirl=0.2), settings, out=tmp_path / "bad")
    assert abs(good.energy_drift_meV_per_atom_per_ps) < 0.1
    assert bad.energy_drift_meV_per_atom_per_ps > 5.0
