"""Relaxed cells: known lattice constants, pressure, and what is held fixed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixCartesian
from ase.eos import EquationOfState
from ase.spacegroup.symmetrize import check_symmetry

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.evaluation import OneByOne
from jmp_calc.sim.relax.relaxation import run_relax
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.units import GPA


def relax(atoms, out, calculator=None, **settings):
    settings = {"move": "both", "trajectory_format": "none", **settings}
    result = run_relax(
        {"x": atoms},
        RelaxSettings(**settings),
        calculator=calculator or EMT(),
        out=out,
    )
    outcome = result.outcomes[0]
    assert outcome.status == "converged", outcome.reason
    return outcome


def distorted(symbol: str = "Cu") -> Atoms:
    atoms = bulk(symbol, cubic=True)
    strain = np.array([[0.02, 0.01, 0], [0, -0.03, 0.015], [0, 0, 0.01]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.rattle(0.05, seed=3)
    return atoms


def test_the_lattice_constant_is_that_of_the_equation_of_state(tmp_path):
    volumes, energies = [], []
    for scale in np.linspace(0.98, 1.02, 7):
        atoms = bulk("Ag", a=4.06 * scale)
        atoms.calc = EMT()
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
    expected, *_ = EquationOfState(volumes, energies).fit()
    start = bulk("Ag", a=4.25)
    found = relax(start, tmp_path, stress_tolerance_GPa=1e-3).atoms.get_volume()
    # 100 GPa bulk modulus: 1e-3 GPa are 1e-5 of the volume; the fit is worth 1e-4
    assert found == pytest.approx(expected, rel=2e-4)


def test_outer_pressure_is_balanced_and_the_enthalpy_falls(tmp_path):
    outcome = relax(distorted(), tmp_path, pressure_GPa=10.0, stress_tolerance_GPa=0.01)
    stress = outcome.atoms.get_stress() / GPA
    assert stress[:3] == pytest.approx(-10, abs=0.011)
    assert stress[3:] == pytest.approx(0, abs=0.011)
    last = outcome.steps[-1]
    enthalpy = last.energy_eV + 10 * GPA * last.volume_A3
    assert last.enthalpy_eV == pytest.approx(enthalpy)
    assert outcome.enthalpy_change < 0
    # 134 GPa bulk modulus of EMT copper
    assert -9 < outcome.volume_change_percent < -3


def test_a_hydrostatic_change_keeps_the_shape(tmp_path):
    start = distorted()
    outcome = relax(start, tmp_path, cell_change="hydrostatic")
    ratio = outcome.atoms.cell.lengths() / start.cell.lengths()
    assert ratio == pytest.approx(ratio[0])
    assert outcome.atoms.cell.angles() == pytest.approx(start.cell.angles())
    trace = outcome.atoms.get_stress()[:3].mean() / GPA
    assert abs(trace) <= 0.05
    # shear is not relaxed
    assert np.abs(outcome.atoms.get_stress()[3:]).max() / GPA > 0.05


def test_constant_volume_keeps_the_volume_and_relaxes_the_shape(tmp_path):
    start = distorted()
    outcome = relax(start, tmp_path, cell_change="constant-volume")
    assert outcome.atoms.get_volume() == pytest.approx(start.get_volume(), rel=1e-6)
    stress = outcome.atoms.get_stress() / GPA
    assert stress[:3] - stress[:3].mean() == pytest.approx(0, abs=0.06)
    assert outcome.energy_change < 0


def test_a_fixed_axis_is_neither_stretched_nor_tilted(tmp_path):
    start = distorted()
    outcome = relax(start, tmp_path, fixed_axes="z")
    change = outcome.atoms.cell.array - start.cell.array
    assert change[:, 2] == pytest.approx(0, abs=1e-9)
    assert np.abs(change).max() > 0.05
    stress = outcome.atoms.get_stress() / GPA
    assert stress[[0, 1, 5]] == pytest.approx(0, abs=0.05)
    assert abs(stress[2]) > 0.05


def test_a_cell_alone_carries_its_atoms_along(tmp_path):
    start = distorted()
    outcome = relax(start, tmp_path, move="cell")
    carried = outcome.atoms.get_scaled_positions(wrap=False)
    assert carried == pytest.approx(start.get_scaled_positions(wrap=False), abs=1e-9)
    assert outcome.max_move_A == pytest.approx(0, abs=1e-9)
    assert np.abs(outcome.atoms.get_stress()).max() / GPA <= 0.05
    # the forces are told although they are not relaxed
    assert outcome.steps[-1].max_force_eV_per_A > 0.01
    assert not outcome.atoms.constraints


def test_a_cell_carries_fixed_atoms_along_and_the_others_relax(tmp_path):
    start = distorted()
    start.set_constraint(FixAtoms([0, 1]))
    outcome = relax(start, tmp_path)
    scaled = [a.get_scaled_positions()[:2] for a in (start, outcome.atoms)]
    assert scaled[1] == pytest.approx(scaled[0], abs=1e-9)
    free = outcome.atoms.get_forces(apply_constraint=False)[2:]
    assert np.linalg.norm(free, axis=1).max() <= 0.01
    assert np.abs(outcome.atoms.get_stress()).max() / GPA <= 0.05
    assert outcome.atoms.constraints[0].get_indices().tolist() == [0, 1]


class NoisyEMT(OneByOne):
    """Forces and stresses that break the symmetry, as those of float32 do."""

    def __init__(self) -> None:
        super().__init__(EMT())
        self._rng = np.random.default_rng(0)

    def evaluate(self, list_of_atoms, properties=("energy", "forces")):
        found = super().evaluate(list_of_atoms, properties)
        for results in found:
            for name in ("forces", "stress"):
                shape = np.shape(results[name])
                results[name] = results[name] + self._rng.normal(0, 2e-3, shape)
        return found


def test_the_symmetry_is_kept_if_asked_for(tmp_path):
    start = bulk("Cu", cubic=True, a=3.75)
    # the noise is above these limits unless symmetry averages it out
    limits = {"fmax_eV_per_A": 0.05, "stress_tolerance_GPa": 0.9}
    kept = relax(start, tmp_path / "kept", NoisyEMT(), keep_symmetry=True, **limits)
    free = relax(start, tmp_path / "free", NoisyEMT(), **limits)
    assert kept.symmetry == "Fm-3m (225)"
    assert kept.atoms.cell.angles() == pytest.approx(90, abs=1e-9)
    assert kept.atoms.cell.lengths() == pytest.approx(kept.atoms.cell[0, 0])
    assert not kept.atoms.constraints
    assert free.symmetry is None
    assert check_symmetry(free.atoms, symprec=1e-6).number < 225


@pytest.mark.parametrize("move", ["both", "cell"])
def test_a_cell_needs_a_crystal(move, tmp_path):
    for atoms in (molecule("H2O"), fcc111("Cu", (1, 1, 3), vacuum=5)):
        with pytest.raises(UnsupportedSystemError, match="needs a crystal, periodic"):
            relax(atoms, tmp_path, move=move)
    slab = fcc111("Cu", (1, 1, 3), vacuum=5)
    with pytest.raises(UnsupportedSystemError, match=r"make the vacuum .*fixed-axes"):
        relax(slab, tmp_path, move=move)
    slab.pbc = True
    relax(slab, tmp_path, move=move, fixed_axes="z", fmax_eV_per_A=0.05)


def test_symmetry_needs_a_crystal_without_constraints(tmp_path):
    with pytest.raises(UnsupportedSystemError, match="keep_symmetry needs a crystal"):
        relax(molecule("H2O"), tmp_path, move="positions", keep_symmetry=True)
    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(UnsupportedSystemError, match=r"constraints .*\(FixAtoms\)"):
        relax(atoms, tmp_path, keep_symmetry=True)


def test_symmetry_without_spglib_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spglib", None)
    with pytest.raises(ArgumentError, match="needs spglib, which is not installed"):
        relax(bulk("Cu"), tmp_path, keep_symmetry=True)


def test_an_impossible_step_ends_alone(tmp_path):
    class Tearing(OneByOne):
        def evaluate(self, list_of_atoms, properties=("energy", "forces")):
            found = super().evaluate(list_of_atoms, properties)
            for results in found:
                results["stress"] = np.array([-30.0, -30, -30, 0, 0, 0])
            return found

    # ASE keeps the symmetry only in steps of less than a quarter of the cell
    settings = RelaxSettings(move="cell", keep_symmetry=True, max_step_A=1.0)
    result = run_relax(
        {"cu": bulk("Cu", cubic=True)},
        settings,
        calculator=Tearing(EMT()),
        out=tmp_path,
    )
    assert result.outcomes[0].status == "unstable"
    assert "the optimizer cannot make a step" in result.outcomes[0].reason


def test_what_cannot_move_is_told(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint(FixAtoms(range(4)))
    with pytest.raises(UnsupportedSystemError, match="all atoms are fixed"):
        relax(atoms, tmp_path, move="positions")
    atoms.set_constraint(
        [FixAtoms([0]), FixCartesian([1, 2, 3]), FixCartesian([0], (1, 0, 0))]
    )
    with pytest.raises(UnsupportedSystemError, match="all atoms are fixed"):
        relax(atoms, tmp_path, move="positions")
    with pytest.raises(UnsupportedSystemError, match="has no atoms"):
        relax(Atoms(), tmp_path, move="positions")


def test_symmetry_that_appears_in_symmetrizing_hides_no_force(tmp_path):
    # refined once it is Cm, which is within the tolerance of Amm2
    atoms = bulk("Au", "fcc", a=3.72, cubic=True)
    atoms.symbols[1:] = "Cu"
    atoms.rattle(0.003, seed=1)
    limits = {"fmax_eV_per_A": 1e-3, "symmetry_tolerance_A": 0.01}
    free = relax(atoms, tmp_path, keep_symmetry=True, **limits).atoms.copy()
    free.calc = EMT()
    assert np.linalg.norm(free.get_forces(), axis=1).max() < 2e-3
