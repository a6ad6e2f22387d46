from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLengths, FixedLine
from ase.io import read, ulm

from jmp_calc.errors import ArgumentError, DataError, UnsupportedSystemError
from jmp_calc.sim.dynamics import recorder
from jmp_calc.sim.dynamics.md import (
    MDSettings,
    RecordSettings,
    run_md,
)
from jmp_calc.sim.dynamics.motion import Motion

needs_full_device = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="this system has no /dev/full"
)


def summary_of(folder):
    return yaml.safe_load((folder / "md-summary.yml").read_text())


def rows_of(folder):
    with (folder / "md-md.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def at_step(step, action):
    """A fault of the calculator at its evaluation for a step."""

    def fault(results, n_calls):
        if n_calls == step:
            action(results)

    return fault


def raises(error):
    def action(results):
        raise error

    return action


@pytest.mark.parametrize("kind", ["traj", "xyz"])
def test_frames_and_rows_follow_their_strides_and_include_the_last_step(
    kind, ethanol, tmp_path
):
    settings = MDSettings(steps=23)
    record = RecordSettings(trajectory_format=kind, trajectory_stride=5, log_stride=4)
    result = run_md(ethanol(), settings, record=record, out=tmp_path)
    frames = read(result.files.trajectory, index=":")
    assert [f.info["step"] for f in frames] == [0, 5, 10, 15, 20, 23]
    assert result.n_frames == 6
    assert [int(r["step"]) for r in rows_of(tmp_path)] == [0, 4, 8, 12, 16, 20, 23]


@pytest.mark.parametrize("kind", ["traj", "xyz"])
def test_a_frame_holds_the_state_and_results_of_its_step(kind, slab, tmp_path):
    atoms = slab()
    result = run_md(
        atoms,
        MDSettings(steps=10),
        record=RecordSettings(trajectory_format=kind),
        out=tmp_path,
    )
    frame = read(result.files.trajectory, index=-1)
    assert frame.positions == pytest.approx(result.atoms.positions, abs=1e-8)
    assert frame.get_momenta() == pytest.approx(result.atoms.get_momenta(), abs=1e-8)
    assert [type(c) for c in frame.constraints] == [FixAtoms]
    fresh = result.atoms.copy()
    fresh.calc = atoms.calc
    assert frame.get_potential_energy() == pytest.approx(fresh.get_potential_energy())
    raw = fresh.get_forces(apply_constraint=False)
    assert frame.get_forces(apply_constraint=False) == pytest.approx(raw, abs=1e-7)


def test_the_traj_format_is_exact(ethanol, tmp_path):
    result = run_md(ethanol(), MDSettings(steps=10), out=tmp_path)
    frame = read(result.files.trajectory, index=-1)
    assert np.array_equal(frame.positions, result.atoms.positions)
    assert np.array_equal(frame.get_momenta(), result.atoms.get_momenta())


def test_a_frame_does_not_hold_the_constraint_that_the_run_added(ethanol, tmp_path):
    result = run_md(ethanol(), MDSettings(steps=2), out=tmp_path)
    assert not read(result.files.trajectory).constraints


def test_the_csv_reads_back_exactly(ethanol, tmp_path):
    seen = []
    settings = MDSettings(steps=5)
    record = RecordSettings(log_stride=1)
    run_md(ethanol(), settings, record=record, out=tmp_path, progress=seen.append)
    written = [float(row["total_energy_eV"]) for row in rows_of(tmp_path)]
    assert written == [row.total_energy_eV for row in seen]


@pytest.mark.parametrize("kind", ["traj", "xyz"])
def test_results_of_the_input_are_not_taken_for_those_of_a_frame(
    kind, ethanol, tmp_path
):
    atoms = ethanol()
    atoms.info.update(energy=-999.0, REF_energy=-999.0, stress=[0.0] * 6, source="x")
    atoms.arrays["REF_forces"] = np.ones((9, 3))
    atoms.arrays["forces"] = np.ones((9, 3))
    result = run_md(
        atoms,
        MDSettings(steps=3),
        record=RecordSettings(trajectory_format=kind),
        out=tmp_path,
    )
    frame = read(result.files.trajectory, index=-1)
    assert frame.info["source"] == "x"
    assert "REF_energy" not in frame.info
    assert "REF_forces" not in frame.arrays
    assert frame.get_potential_energy() == pytest.approx(
        result.atoms.calc.results["energy"]
    )


@pytest.mark.parametrize("kind", ["traj", "xyz"])
def test_any_texts_of_the_input_leave_readable_files(kind, ethanol, tmp_path):
    atoms = ethanol()
    atoms.info.update(note="two\nlines", quoted='a "b" = c', empty="")
    atoms.set_array("residuenames", np.array(["", " ", *["ETH"] * 7]))
    atoms.set_array("names", np.array([f"a{i}" for i in range(9)]))
    atoms.set_array("tensors", np.zeros((9, 3, 3)))
    result = run_md(
        atoms,
        MDSettings(steps=2),
        record=RecordSettings(trajectory_format=kind),
        out=tmp_path,
    )
    for path in (result.files.trajectory, result.files.final):
        assert read(path).info["note"] == "two lines"
        assert read(path).info["quoted"] == 'a "b" = c'
    assert list(read(result.files.final).arrays["names"]) == list(atoms.arrays["names"])


def test_the_summary_tells_inputs_settings_versions_and_results(ethanol, tmp_path):
    about = {
        "model": {"name": "m", "weights_sha256": "00"},
        "inputs": {"file": Path("a")},
    }
    settings = MDSettings(steps=100)
    record = RecordSettings(log_stride=2)
    result = run_md(ethanol(), settings, record=record, out=tmp_path, provenance=about)
    summary = summary_of(tmp_path)
    assert summary["status"] == "completed"
    assert summary["model"]["weights_sha256"] == "00"
    assert summary["inputs"]["file"] == "a"
    assert summary["settings"]["timestep_fs"] == 0.5
    assert summary["system"]["degrees_of_freedom"] == 24
    assert summary["system"]["is_center_of_mass_fixed"] is True
    assert {"python", "ase", "numpy"} <= summary["versions"].keys()
    assert summary["started"] <= summary["ended"]
    results = summary["results"]
    assert results["steps"] == 100
    assert results["mean_temperature_K"] == result.mean_temperature_K
    drift = "energy_drift_meV_per_atom_per_ps"
    assert results[drift] == getattr(result, drift)


def test_it_runs_a_real_potential(tmp_path, slab):
    atoms = slab()
    atoms.calc = EMT()
    settings = MDSettings(ensemble="nve", steps=150, timestep_fs=2.0)
    record = RecordSettings(log_stride=1)
    result = run_md(atoms, settings, record=record, out=tmp_path)
    energies = [float(row["total_energy_eV"]) for row in rows_of(tmp_path)]
    assert np.ptp(energies) < 2e-3
    assert result.status == "completed"


@pytest.mark.parametrize("kind", ["traj", "xyz"])
def test_an_interrupt_leaves_valid_files_and_says_so(kind, ethanol, tmp_path):
    def stop(row):
        if row.step == 17:
            signal.raise_signal(signal.SIGINT)

    settings = MDSettings(steps=100)
    record = RecordSettings(trajectory_format=kind)
    result = run_md(ethanol(), settings, record=record, out=tmp_path, progress=stop)
    assert result.status == "interrupted"
    assert result.n_steps == 17
    frames = read(result.files.trajectory, index=":")
    assert [f.info["step"] for f in frames] == [0, 10, 17]
    assert [int(row["step"]) for row in rows_of(tmp_path)] == [0, 10, 17]
    assert read(result.files.final).info["step"] == 17
    assert summary_of(tmp_path)["status"] == "interrupted"


def test_an_interrupt_while_a_frame_is_written_does_not_cut_it(
    ethanol, tmp_path, monkeypatch
):
    sync = ulm.Writer.sync
    synced = []

    def interrupted(self):
        synced.append(self)
        # three frames are older
        if len(synced) == 4:
            signal.raise_signal(signal.SIGINT)
        sync(self)

    monkeypatch.setattr(ulm.Writer, "sync", interrupted)
    settings = MDSettings(steps=100)
    record = RecordSettings(trajectory_stride=1)
    result = run_md(ethanol(), settings, record=record, out=tmp_path)
    assert result.status == "interrupted"
    assert result.n_steps == 3
    steps = [f.info["step"] for f in read(result.files.trajectory, index=":")]
    assert steps == [0, 1, 2, 3]


def test_a_second_interrupt_at_the_end_waits_for_the_files(
    ethanol, tmp_path, monkeypatch
):
    save = recorder.save_structure

    def interrupted(frame, path):
        signal.raise_signal(signal.SIGINT)
        save(frame, path)

    monkeypatch.setattr(recorder, "save_structure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_md(ethanol(), MDSettings(steps=3), out=tmp_path)
    assert summary_of(tmp_path)["status"] == "completed"
    assert read(tmp_path / "md-final.xyz").info["step"] == 3


def test_an_interrupt_within_a_step_keeps_the_step_before(ethanol, tmp_path):
    atoms = ethanol(fault=at_step(6, raises(KeyboardInterrupt())))
    result = run_md(
        atoms,
        MDSettings(steps=100),
        record=RecordSettings(trajectory_stride=1),
        out=tmp_path,
    )
    assert result.n_steps == 5
    last = read(result.files.trajectory, index=-1)
    assert np.array_equal(last.positions, result.atoms.positions)
    assert result.reason == "Ctrl-C after step 5"


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, ZeroDivisionError])
def test_a_calculator_that_fails_on_the_way_ends_a_run_that_can_go_on(
    kind, ethanol, tmp_path
):
    settings = MDSettings(steps=20)
    atoms = ethanol(fault=at_step(12, raises(kind("no\nconvergence"))))
    result = run_md(atoms, settings, out=tmp_path / "cut")
    assert (result.status, result.n_steps) == ("unstable", 11)
    why = f"after step 11: the calculator failed ({kind.__name__}: no convergence); "
    assert result.reason.startswith(why)
    steps = [f.info["step"] for f in read(result.files.trajectory, index=":")]
    assert steps == [0, 10, 11]
    resumed = run_md(ethanol(), settings, out=tmp_path / "cut", resume=True)
    whole = run_md(ethanol(), settings, out=tmp_path / "whole")
    assert np.array_equal(resumed.atoms.positions, whole.atoms.positions)


def test_an_error_that_nobody_foresaw_is_raised_and_what_is_done_is_kept(
    ethanol, tmp_path
):
    atoms = ethanol(fault=at_step(12, raises(KeyError("a bug"))))
    with pytest.raises(KeyError, match="a bug") as caught:
        run_md(atoms, MDSettings(steps=100), out=tmp_path)
    assert "stopped after step 11" in caught.value.__notes__[0]
    steps = [f.info["step"] for f in read(tmp_path / "md-traj.traj", index=":")]
    assert steps == [0, 10, 11]
    summary = summary_of(tmp_path)
    assert summary["status"] == "failed"
    assert summary["reason"] == "KeyError: 'a bug'"


def test_a_failure_at_the_start_leaves_no_files(ethanol, tmp_path):
    atoms = ethanol(fault=at_step(0, raises(RuntimeError("no"))))
    with pytest.raises(UnsupportedSystemError, match=r"failed .RuntimeError: no"):
        run_md(atoms, MDSettings(), out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def nan_energy(results):
    results["energy"] = float("nan")


def infinite_force(results):
    results["forces"][4, 1] = float("inf")


def huge_force(results):
    results["forces"][4, 1] = 1e5


def deep_hole(results):
    results["energy"] -= 30.0


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (nan_energy, r"step 12 \(0.006 ps\): the potential energy is nan eV"),
        (infinite_force, "step 12.*the force on atom 4 is not finite"),
        (huge_force, "step 12.*temperature is .* above max_temperature_K = 3000"),
        (deep_hole, "step 12.*changed by -3.3 eV/atom.*_eV_per_atom = 2;"),
        (
            raises(UnsupportedSystemError("atoms overlap")),
            "after step 11: atoms overlap",
        ),
    ],
)
def test_an_exploding_run_stops_says_why_and_keeps_the_good_steps(
    action, text, ethanol, tmp_path
):
    atoms = ethanol(fault=at_step(12, action))
    result = run_md(atoms, MDSettings(steps=100), out=tmp_path)
    assert result.status == "unstable"
    assert result.n_steps == 11
    summary = summary_of(tmp_path)
    assert summary["status"] == "unstable"
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(summary["reason"])
    last = read(tmp_path / "md-traj.traj", index=-1)
    assert last.info["step"] == 11
    assert np.isfinite(last.positions).all()


def test_one_degree_of_freedom_is_not_called_unstable_when_it_swings(springs, tmp_path):
    atoms = Atoms("Ar", constraint=FixedLine([0], (0, 0, 1)))
    atoms.calc = springs(atoms.positions, is_free=False)
    settings = MDSettings(steps=4000, timestep_fs=5.0, friction_per_fs=0.1)
    record = RecordSettings(log_stride=1)
    assert run_md(atoms, settings, record=record, out=tmp_path).status == "completed"
    # what ten times the target would have stopped
    assert max(float(row["temperature_K"]) for row in rows_of(tmp_path)) > 3000.0


def test_bond_lengths_that_cannot_be_kept_are_an_unstable_run(springs, tmp_path):
    atoms = molecule("H2", constraint=FixBondLengths([[0, 1]]))
    atoms.calc = springs(atoms.positions)
    settings = MDSettings(steps=50, timestep_fs=60.0, ensemble="nve")
    result = run_md(atoms, settings, out=tmp_path)
    assert result.status == "unstable"
    assert "fixed bond lengths cannot be kept; use a shorter" in result.reason


def test_a_reason_says_what_to_do(ethanol, tmp_path):
    atoms = ethanol(fault=at_step(3, nan_energy))
    result = run_md(atoms, MDSettings(), out=tmp_path)
    assert "relax the input first, use a shorter timestep_fs" in result.reason


def test_late_in_a_run_the_input_is_not_blamed(ethanol, tmp_path):
    atoms = ethanol(fault=at_step(150, nan_energy))
    result = run_md(atoms, MDSettings(timestep_fs=2.0), out=tmp_path)
    assert result.reason.startswith("step 150 (0.3 ps): the potential energy is nan eV")
    assert "look at the last frames" in result.reason
    assert "relax" not in result.reason


def test_reading_a_step_costs_no_comparison_of_structures(ethanol, monkeypatch):
    # four of ASE's a step were a fifth of the cost of EMT on 21 atoms
    motion = Motion.begin(ethanol(), MDSettings(), None)
    motion.step()

    def compare(*_, **__):
        raise AssertionError("compared")

    monkeypatch.setattr("ase.calculators.calculator.compare_atoms", compare)
    motion.meter.read(1)


def test_a_start_without_finite_energy_is_refused(ethanol, tmp_path):
    atoms = ethanol(fault=at_step(0, nan_energy))
    with pytest.raises(UnsupportedSystemError, match="starting structure is unusable"):
        run_md(atoms, MDSettings(), out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["traj", "xyz"])
@pytest.mark.parametrize("name", ["md-md.csv", "md-traj"])
def test_a_file_that_another_run_makes_at_the_same_moment_is_left_alone(
    name, kind, ethanol, tmp_path
):
    path = tmp_path / (name if name.endswith("csv") else f"{name}.{kind}")

    def appear(results):
        path.write_text("precious")

    atoms = ethanol(fault=at_step(0, appear))
    settings = MDSettings(steps=1)
    record = RecordSettings(trajectory_format=kind)
    with pytest.raises(ArgumentError, match=rf"{path.name} exists and would be"):
        run_md(atoms, settings, record=record, out=tmp_path)
    assert path.read_text() == "precious"


def test_existing_files_are_not_replaced_unasked(ethanol, tmp_path):
    (tmp_path / "md-md.csv").write_text("precious")
    with pytest.raises(ArgumentError, match=r"md-md.csv exists.*--overwrite"):
        run_md(ethanol(), MDSettings(steps=1), out=tmp_path)
    assert (tmp_path / "md-md.csv").read_text() == "precious"
    run_md(ethanol(), MDSettings(steps=1), out=tmp_path, overwrite=True)
    assert len(rows_of(tmp_path)) == 2


def test_atoms_without_calculator_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"no calculator; set atoms.calc"):
        run_md(Atoms("He"), MDSettings(), out=tmp_path)


def test_an_empty_structure_is_refused(tmp_path):
    with pytest.raises(UnsupportedSystemError, match="has no atoms"):
        run_md(Atoms(), MDSettings(), out=tmp_path)


@needs_full_device
@pytest.mark.parametrize(
    ("name", "kind"),
    [("md-md.csv", "traj"), ("md-traj.xyz", "xyz"), ("md-traj.traj", "traj")],
)
def test_a_full_disk_is_named_with_what_to_do(name, kind, ethanol, tmp_path):
    (tmp_path / name).symlink_to("/dev/full")
    settings = MDSettings(steps=20)
    record = RecordSettings(trajectory_format=kind)
    with pytest.raises(
        DataError, match=rf"cannot write .*{name}: No space left.*--out"
    ):
        run_md(ethanol(), settings, record=record, out=tmp_path, overwrite=True)
    summary = summary_of(tmp_path)
    assert summary["status"] == "failed"
    assert "No space left" in summary["reason"]
    assert read(tmp_path / "md-final.xyz").info["step"] == summary["results"]["steps"]


def test_a_folder_that_cannot_be_made_is_named(ethanol, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*file"):
        run_md(ethanol(), MDSettings(steps=1), out=tmp_path / "file" / "sub")
