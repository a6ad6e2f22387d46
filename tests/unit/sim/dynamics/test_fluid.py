"""Constant pressure gives the density and fluctuations that constant volume implies."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from jmp_calc.sim.dynamics.md import MDSettings, RecordSettings, run_md
from jmp_calc.units import GPA, KB
from toys.fluids import fluid

TEMPERATURE_K = 300.0


def run(density, out, **settings):
    """Return temperature, pressure (GPa) and volume of a run after equilibration."""
    settings = MDSettings(
        temperature_K=TEMPERATURE_K,
        timestep_fs=8.0,
        thermostat_time_fs=200.0,
        barostat_time_fs=800.0,
        seed=1,
        **settings,
    )
    record = RecordSettings(log_stride=4, trajectory_stride=4)
    result = run_md(fluid(density), settings, record=record, out=out)
    return result


def series(result, name):
    with result.files.observables.open(newline="") as lines:
        rows = [float(row[name]) for row in csv.DictReader(lines)]
    return np.array(rows[len(rows) // 5 :])


def error_of(values):
    blocks = values[: len(values) // 20 * 20].reshape(20, -1).mean(axis=1)
    return blocks.std(ddof=1) / np.sqrt(20)


def pressures_of(result):
    """Pressures of the frames of a run with a fixed cell, GPa."""
    from ase.io import read

    found = []
    for frame in read(result.files.trajectory, ":")[500:]:
        momenta = frame.get_momenta()
        frame.calc = fluid(0.5).calc
        frame.set_momenta(momenta)
        stress = frame.get_stress(include_ideal_gas=True)
        found.append(-stress[:3].mean() / GPA)
    return np.array(found)


def test_the_toy_fluid_has_forces_and_stress_of_its_energy():
    atoms = fluid(0.5)
    forces = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 50])
    assert atoms.get_forces()[[0, 50]] == pytest.approx(forces, abs=1e-7)
    stress = calculate_numerical_stress(atoms, eps=1e-5)
    assert atoms.get_stress()[:3] == pytest.approx(stress[:3], abs=1e-8)


@pytest.mark.slow
def test_pressure_density_and_fluctuations_of_a_fluid_are_consistent(tmp_path):
    # a supercritical fluid (T* = 2.5): it forgets within a picosecond
    low, high = (
        pressures_of(run(d, tmp_path / f"nvt-{d}", ensemble="nvt-bussi", steps=10000))
        for d in (0.48, 0.52)
    )
    target = float(low.mean() + high.mean()) / 2
    npt = run(0.5, tmp_path / "npt", ensemble="npt", steps=20000, pressure_GPa=target)
    temperature = series(npt, "temperature_K")
    assert abs(temperature.mean() - TEMPERATURE_K) < 3 * error_of(temperature)
    pressure = series(npt, "pressure_GPa")
    assert abs(pressure.mean() - target) < 3 * error_of(pressure)
    volume = series(npt, "volume_A3")
    expected = fluid(0.5).get_volume()
    # the pressures of the two densities are known to about 1 %, and d ln V / d ln P is
    # about 1/3
    assert volume.mean() == pytest.approx(expected, rel=0.015)
    # <dV^2> = k T V kappa, with kappa from the two densities
    compressibility = np.log(0.52 / 0.48) / ((high.mean() - low.mean()) * GPA)
    fluctuation = KB * TEMPERATURE_K * expected * compressibility
    assert volume.var() == pytest.approx(fluctuation, rel=0.35)
