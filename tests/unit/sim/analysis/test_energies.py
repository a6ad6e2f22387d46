"""Temperature and drift, from frames and from the CSV of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLengths, FixCom

from jmp_calc.errors import DataError
from jmp_calc.sim.analysis.energies import Energies
from jmp_calc.sim.analysis.settings import AnalysisSettings
from jmp_calc.units import KB


def frames_of(
    start: Atoms, number: int, drift: float = 0.0, seed: int = 0
) -> list[Atoms]:
    """Frames 0.01 ps apart whose total energy rises by ``drift`` eV/ps."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(number):
        atoms = start.copy()
        atoms.set_momenta(
            rng.normal(0, 1, (len(atoms), 3)) * atoms.get_masses()[:, None]
        )
        for _ in range(3):
            velocities = atoms.get_velocities()
            if not atoms.constraints:
                share = atoms.get_masses() @ velocities / atoms.get_masses().sum()
                atoms.set_velocities(velocities - share)
        atoms.info = {"step": 10 * k, "time_ps": 0.01 * k}
        energy = 0.01 * k * drift - atoms.get_kinetic_energy()
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        frames.append(atoms)
    return frames


def facts_of(frames, path=Path("a.traj"), skip=0, **settings) -> tuple[dict, list]:
    energies = Energies(path, AnalysisSettings(**settings))
    for k, atoms in enumerate(frames):
        energies.add(atoms, atoms.info["time_ps"], is_averaged=k >= skip)
    (section,) = energies.sections("ps")
    return {fact.name: fact for fact in section.facts}, list(section.notes)


def log_of(path: Path, frames) -> None:
    lines = ["step,time_ps,potential_energy_eV,temperature_K,conserved_energy_eV"]
    for atoms in frames:
        # five rows per frame
        for k in range(5):
            step = atoms.info["step"] + 2 * k
            energy = atoms.calc.results["energy"] + k
            lines.append(f"{step},{step / 1000},{energy},{300 + k},{0.002 * step}")
    path.write_text("\n".join(lines) + "\n")


def test_the_drift_is_per_atom_and_picosecond() -> None:
    facts, _ = facts_of(frames_of(bulk("Cu", cubic=True), 50, drift=0.4))
    drift = facts["drift of the total energy"]
    # 0.4 eV/ps over four atoms
    assert drift.value == pytest.approx(100.0)
    assert drift.unit == "meV/atom/ps"
    assert drift.error < 1e-6


def test_the_drift_sees_the_equilibration_too() -> None:
    frames = frames_of(bulk("Cu", cubic=True), 50, drift=0.4)
    for atoms in frames[25:]:
        # no drift from here on
        energy = 0.1 - atoms.get_kinetic_energy()
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    facts, _ = facts_of(frames, skip=25)
    assert facts["drift of the total energy"].value > 20.0


def freedom(start: Atoms) -> float:
    frames = frames_of(start, 30)
    facts, _ = facts_of(frames)
    kinetic = np.mean([atoms.get_kinetic_energy() for atoms in frames])
    return 2 * kinetic / KB / facts["temperature"].value


def test_temperatures_refer_to_the_degrees_of_freedom_that_move() -> None:
    crystal = bulk("Cu", cubic=True)
    assert freedom(crystal) == pytest.approx(9)
    crystal.set_constraint(FixAtoms([0]))
    assert freedom(crystal) == pytest.approx(9)
    # it turns, so only three are at rest
    assert freedom(molecule("H2O")) == pytest.approx(6)
    still = molecule("CO2")
    still.positions -= still.get_center_of_mass()
    frames = frames_of(still, 30)
    for atoms in frames:
        # along the axis only: no angular momentum
        atoms.set_velocities(atoms.get_velocities() * [0, 0, 1])
        atoms.info["kinetic"] = atoms.get_kinetic_energy()
    facts, _ = facts_of(frames)
    kinetic = np.mean([atoms.get_kinetic_energy() for atoms in frames])
    assert 2 * kinetic / KB / facts["temperature"].value == pytest.approx(4)


def test_rigid_bonds_take_degrees_of_freedom_away() -> None:
    water = molecule("H2O")
    water.set_constraint(FixBondLengths([(0, 1), (0, 2), (1, 2)]))
    # the momenta drawn have no sum: 9 - 3 bonds - 3; FixCom says the same again
    frames = frames_of(water, 5)
    for atoms in frames:
        atoms.set_constraint([FixBondLengths([(0, 1), (0, 2), (1, 2)]), FixCom()])
        momenta = atoms.get_momenta()
        atoms.set_momenta(momenta - momenta.mean(axis=0), apply_constraint=False)
    facts, _ = facts_of(frames)
    kinetic = np.mean([atoms.get_kinetic_energy() for atoms in frames])
    assert 2 * kinetic / KB / facts["temperature"].value == pytest.approx(3)


def test_a_cell_that_changes_has_a_mean_volume_and_density() -> None:
    frames = frames_of(bulk("Cu", cubic=True, a=3.6), 40)
    facts, _ = facts_of(frames)
    # four atoms of 63.546 u; 1 u/A^3 is 1.66054 g/cm^3
    assert facts["density"].value == pytest.approx(4 * 63.546 * 1.66054 / 3.6**3)
    assert "mean volume" not in facts
    for k, atoms in enumerate(frames):
        atoms.set_cell(3.6 * (1 + 0.01 * (k % 2)) * np.eye(3))
    facts, _ = facts_of(frames)
    volumes = np.array([3.6, 3.636]) ** 3
    assert facts["mean volume"].value == pytest.approx(volumes.mean())
    density = np.mean(4 * 63.546 * 1.66054 / volumes)
    assert facts["density"].value == pytest.approx(density)
    assert facts["density"].unit == "g/cm³"
    assert facts["density"].error > 0


def test_means_leave_the_equilibration_out() -> None:
    frames = frames_of(bulk("Cu", cubic=True), 60)
    for atoms in frames[:30]:
        atoms.set_momenta(10 * atoms.get_momenta())
    whole, _ = facts_of(frames)
    late, _ = facts_of(frames, skip=30)
    assert whole["temperature"].value > 10 * late["temperature"].value
    assert late["temperature"].error is not None


def test_the_csv_beside_a_trajectory_is_used_if_it_belongs_to_it(tmp_path) -> None:
    frames = frames_of(bulk("Cu", cubic=True), 40)
    log_of(tmp_path / "cu-md.csv", frames)
    facts, notes = facts_of(frames, tmp_path / "cu-traj.traj")
    assert facts["from"].value == "cu-md.csv"
    assert facts["temperature"].value == pytest.approx(302.0, abs=0.1)
    # 2 eV/ps over four atoms
    assert facts["drift of the conserved energy"].value == pytest.approx(500.0)
    assert not notes
    other = frames_of(bulk("Cu", cubic=True), 40, seed=1)
    facts, notes = facts_of(other, tmp_path / "cu-traj.traj")
    assert facts["from"].value == "the frames"
    assert notes == ["cu-md.csv is of another run than this trajectory; not used"]


def test_a_log_that_is_asked_for_must_fit(tmp_path) -> None:
    frames = frames_of(bulk("Cu", cubic=True), 40)
    log_of(tmp_path / "a.csv", frames_of(bulk("Cu", cubic=True), 40, seed=1))
    with pytest.raises(DataError, match="does not belong to"):
        facts_of(frames, log=tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("step,time_ps\n1,x\n")
    with pytest.raises(DataError, match=r"cannot read .* as the CSV of a run"):
        facts_of(frames, log=tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("step\n")
    with pytest.raises(DataError, match="has no rows"):
        facts_of(frames, log=tmp_path / "c.csv")
    with pytest.raises(DataError, match="No such file"):
        facts_of(frames, log=tmp_path / "d.csv")


def test_frames_without_energies_say_so() -> None:
    atoms = molecule("H2O")
    atoms.info = {"time_ps": 0.0}
    _, notes = facts_of([atoms])
    assert "left out: neither energies nor velocities" in notes[0]
