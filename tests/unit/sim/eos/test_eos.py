"""Equations of state: what is put in comes out, and EMT's copper."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import read
from ase.units import GPa

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.eos.calculation import run_eos
from jmp_calc.sim.eos.fit import fit_eos
from jmp_calc.sim.eos.settings import EQUATIONS, EosSettings
from toys.volumes import EquationCalculator


def eos(atoms, calculator, out, **settings):
    return run_eos(atoms, EosSettings(**settings), calculator=calculator, out=out)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_constants_of_a_known_curve_come_back(equation, tmp_path):
    atoms = Atoms("Cu", cell=np.eye(3) * 20.3 ** (1 / 3), pbc=True)
    fit = eos(atoms, EquationCalculator(equation), tmp_path, equation=equation).fit
    # least squares on exact data: what is left is scipy's tolerance of 1.5e-8
    assert fit.volume_A3 == pytest.approx(20.0, rel=1e-5)
    assert fit.bulk_modulus_GPa == pytest.approx(150.0, rel=1e-3)
    assert fit.bulk_modulus_derivative == pytest.approx(4.6, abs=0.02)
    assert fit.energy_eV == pytest.approx(-3.0, abs=1e-6)
    assert fit.rms_meV_per_atom < 1e-3


@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_constants_are_derivatives_of_the_curve(equation):
    volumes = np.linspace(18.5, 21.5, 9)
    energies = 0.05 * (volumes - 20) ** 2 - 0.004 * (volumes - 20) ** 3
    fit = fit_eos(volumes, energies, equation, n_atoms=1)
    h = 1e-2
    around = fit.volume_A3 + h * np.arange(-3, 4)
    # sixth-order differences, from the definitions alone
    weights = np.array(
        [[-1, 9, -45, 0, 45, -9, 1], [2, -27, 270, -490, 270, -27, 2]]
    ) / [[60], [180]]
    third = np.array([1, -8, 13, 0, -13, 8, -1]) / 8
    first, second = weights @ fit.energies(around) / [h, h**2]
    assert first == pytest.approx(0, abs=1e-6)
    modulus = fit.volume_A3 * second
    assert fit.bulk_modulus_GPa * GPa == pytest.approx(modulus, rel=1e-4)
    # B' = dB/dp with p = -dE/dV
    slope = -1 - fit.volume_A3 * (third @ fit.energies(around) / h**3) / second
    assert fit.bulk_modulus_derivative == pytest.approx(slope, rel=1e-2)


def test_poor_fits_are_told(tmp_path):
    class Jumping(EMT):
        """Copper with a jump of 50 meV."""

        def calculate(self, atoms=None, *args, **more):
            super().calculate(atoms, *args, **more)
            if atoms.get_volume() > 11.6:
                self.results["energy"] += 0.05

    good = eos(bulk("Cu", a=3.59), EMT(), tmp_path / "1")
    assert good.notes == ()
    jump, slope = eos(bulk("Cu", a=3.59), Jumping(), tmp_path / "2").notes
    assert "the curve is a poor fit: it misses the energies by 9" in jump
    assert "B0' is 27, and crystals have 1 to 10" in slope


def test_a_crystal_that_is_not_cubic_wants_its_shape_relaxed(tmp_path):
    # far from the ratio of its axes
    hcp = bulk("Cu", "hcp", a=2.60, c=3.95)
    (note,) = eos(hcp, EMT(), tmp_path / "1").notes
    assert "not cubic (P6_3/mmc (194)) and the shape of its cell was held" in note
    free = eos(hcp, EMT(), tmp_path / "2", relax="shape")
    assert free.notes == ()
    # close packing of either kind is nearly the same to EMT
    assert free.fit.volume_A3 / 2 == pytest.approx(11.5654, abs=0.01)
    frames = read(free.files["structures"], ":")
    volumes = [frame.cell.volume for frame in frames]
    np.testing.assert_allclose(volumes, free.volumes_A3, rtol=1e-7)


def test_copper_has_the_bulk_modulus_of_its_second_derivative(tmp_path):
    def energy(volume: float) -> float:
        atoms = bulk("Cu", a=(4 * volume) ** (1 / 3))
        atoms.calc = EMT()
        return atoms.get_potential_energy()

    result = eos(bulk("Cu", cubic=True), EMT(), tmp_path, range_percent=3.0)
    v0 = result.fit.volume_A3 / 4
    h = 0.02
    curvature = (energy(v0 + h) - 2 * energy(v0) + energy(v0 - h)) / h**2
    assert result.is_converged
    # the fit sees 3 % of volume, where EMT is not quite of third order
    assert result.fit.bulk_modulus_GPa == pytest.approx(v0 * curvature / GPa, rel=2e-3)
    # ASE's EMT by an independent minimisation: 11.5654 angstrom^3, 134.48 GPa
    assert v0 == pytest.approx(11.5654, abs=2e-4)
    assert result.fit.bulk_modulus_GPa == pytest.approx(134.48, abs=0.3)


def test_the_result_does_not_depend_on_the_size_of_the_cell(tmp_path):
    one = eos(bulk("Cu"), EMT(), tmp_path / "1").fit
    eight = eos(bulk("Cu") * 2, EMT(), tmp_path / "8").fit
    assert eight.volume_A3 == pytest.approx(8 * one.volume_A3, rel=1e-6)
    assert eight.bulk_modulus_GPa == pytest.approx(one.bulk_modulus_GPa, rel=1e-4)
    assert eight.rms_meV_per_atom == pytest.approx(one.rms_meV_per_atom, rel=0.05)


def test_positions_and_shape_are_relaxed_if_asked_for(tmp_path):
    hcp = Atoms(
        "Au2",
        scaled_positions=[[0, 0, 0], [1 / 3, 2 / 3, 0.5]],
        cell=[2.9, 2.9, 4.9, 90, 90, 120],
        pbc=True,
    )
    hcp.rattle(0.05, seed=1)
    energies = {
        relax: eos(hcp, EMT(), tmp_path / relax, relax=relax, points=5).energies_eV
        for relax in ("none", "positions", "shape")
    }
    assert np.all(energies["positions"] < energies["none"] - 1e-4)
    assert np.all(energies["shape"] < energies["positions"] - 1e-4)


def test_table_and_structures_agree(tmp_path):
    result = eos(bulk("Cu", cubic=True), EMT(), tmp_path, points=7)
    with result.files["table"].open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    frames = read(result.files["structures"], ":")
    assert len(rows) == len(frames) == 7
    for row, frame in zip(rows, frames, strict=True):
        assert float(row["volume_A3"]) == pytest.approx(frame.cell.volume, rel=1e-6)
        assert float(row["energy_eV"]) == pytest.approx(frame.get_potential_energy())
        assert row["is_converged"] == "True"
        fitted = float(row["fitted_energy_eV"])
        assert fitted == pytest.approx(float(row["energy_eV"]), abs=1e-4)
    assert float(rows[0]["volume_A3"]) == pytest.approx(0.94 * 3.61**3)
    assert float(rows[-1]["volume_A3"]) == pytest.approx(1.06 * 3.61**3)


def test_the_crystal_at_the_minimum_has_no_stress(tmp_path):
    result = eos(bulk("Cu", cubic=True), EMT(), tmp_path)
    atoms = read(result.files["equilibrium"])
    assert atoms.cell.volume == pytest.approx(result.fit.volume_A3)
    atoms.calc = EMT()
    # 0.01 % of the volume, at 134 GPa
    assert np.abs(atoms.get_stress() / GPa).max() < 0.02


def test_a_minimum_elsewhere_is_told(tmp_path):
    atoms = Atoms("Cu", cell=np.eye(3) * 22.0 ** (1 / 3), pbc=True)
    result = eos(atoms, EquationCalculator("birch"), tmp_path, range_percent=5.0)
    assert not result.is_converged
    assert "20.00 Å^3, is outside of the volumes, 20.90 to 23.10" in result.reason
    assert result.files["table"].is_file()
    assert not (tmp_path / "crystal-equilibrium.xyz").exists()


def test_nothing_of_an_earlier_job_stays(tmp_path):
    run_eos(bulk("Cu", a=3.59), EosSettings(), calculator=EMT(), out=tmp_path)
    assert (tmp_path / "crystal-equilibrium.xyz").is_file()
    wide = bulk("Cu", a=3.75)
    again = run_eos(wide, EosSettings(), calculator=EMT(), out=tmp_path, overwrite=True)
    assert set(tmp_path.iterdir()) == set(again.files.values())
    assert not (tmp_path / "crystal-equilibrium.xyz").exists()


def test_energies_without_minimum_have_no_fit():
    volumes = np.linspace(18, 22, 7)
    assert fit_eos(volumes, -((volumes - 20) ** 2), "birch", n_atoms=1) is None


def test_relaxations_that_do_not_converge_are_told(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    result = eos(atoms, EMT(), tmp_path, steps=1)
    assert "11 of 11 volumes did not converge" in result.reason


def test_a_molecule_is_refused(tmp_path):
    with pytest.raises(UnsupportedSystemError, match="needs a crystal"):
        eos(molecule("H2O"), EMT(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"range_percent": 0.0}, "range_percent is 0.0; give a number above 0"),
        ({"range_percent": 80.0}, "up to 50"),
        ({"points": 4}, "points is 4; give 5 or more"),
        ({"fmax_eV_per_A": -1.0}, "fmax_eV_per_A is -1.0; give"),
        ({"steps": 0}, "steps is 0; give 1 or more"),
    ],
)
def test_settings_are_checked(settings, told):
    with pytest.raises(ArgumentError, match=told):
        EosSettings(**settings)
