"""A run that is cut and goes on is the run that was never cut."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.sim.dynamics import recorder
from jmp_calc.sim.dynamics.checkpoint import GROUPS, load_checkpoint
from jmp_calc.sim.dynamics.ensembles import ENSEMBLES
from jmp_calc.sim.dynamics.files import MDFiles
from jmp_calc.sim.dynamics.md import (
    MDSettings,
    RecordSettings,
    WatchSettings,
    run_md,
)
from jmp_calc.sim.dynamics.settings import TRAJECTORY_FORMATS
from jmp_calc.sim.trajectories.h5md_frames import H5MDFrames


class FreshEMT(EMT):
    """EMT without memory; ASE's sums in the order of a list of neighbours made earlier,
    so that its last digits depend on where the list was made."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, list(properties), all_changes)


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    atoms.calc = FreshEMT()
    return atoms


def settings_for(ensemble: str, steps: int, **changes) -> MDSettings:
    kind = ENSEMBLES[ensemble]
    if changes.pop("is_ramp", False):
        if kind.has_thermostat:
            changes["temperature_end_K"] = 500.0
        if kind.has_barostat:
            changes["pressure_end_GPa"] = 5.0
    return MDSettings(
        ensemble=ensemble,
        steps=steps,
        timestep_fs=2.0,
        thermostat_time_fs=50.0,
        barostat_time_fs=200.0,
        **changes,
    )


def stop_at(step: int):
    def stop(row):
        if row.step == step:
            signal.raise_signal(signal.SIGINT)

    return stop


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.endswith(("summary.yml", "checkpoint.npz"))
    }


def steps_of(trajectory: Path) -> list[int]:
    if trajectory.suffix == ".h5":
        with H5MDFrames(trajectory) as frames:
            return [frame.info["step"] for frame in frames]
    return [frame.info["step"] for frame in read(trajectory, ":")]


def assert_same_state(one: Path, other: Path) -> None:
    first, second = (load_checkpoint(p / "md-checkpoint.npz") for p in (one, other))
    for field in dataclasses.fields(first):
        if field.name == "wall_seconds":
            continue
        a, b = getattr(first, field.name), getattr(second, field.name)
        if field.name in GROUPS:
            assert a.keys() == b.keys()
            assert all(np.array_equal(a[name], b[name]) for name in a)
        elif isinstance(a, np.ndarray):
            assert np.array_equal(a, b), field.name
        else:
            assert a == b, field.name


@pytest.mark.parametrize("is_ramp", [False, True])
@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_cut_and_resumed_equals_uninterrupted_bit_for_bit(ensemble, is_ramp, tmp_path):
    settings = settings_for(ensemble, 40, is_ramp=is_ramp)
    record = RecordSettings(trajectory_stride=5, log_stride=2, checkpoint_stride=15)
    run_md(copper(), settings, record=record, out=tmp_path / "whole")
    # 23 is on no stride: the extra frame and row of the end must go again
    cut = run_md(
        copper(), settings, record=record, out=tmp_path / "cut", progress=stop_at(23)
    )
    assert (cut.status, cut.n_steps) == ("interrupted", 23)
    resumed = run_md(
        copper(), settings, record=record, out=tmp_path / "cut", resume=True
    )
    assert (resumed.status, resumed.n_steps) == ("completed", 40)
    assert_same_state(tmp_path / "whole", tmp_path / "cut")
    whole, parts = content(tmp_path / "whole"), content(tmp_path / "cut")
    assert whole.keys() == parts.keys()
    for name in whole:
        # ASE's format has no fixed order of bytes after something was dropped
        if not name.endswith(".traj"):
            assert whole[name] == parts[name], name
    frames = [read(tmp_path / p / "md-traj.traj", ":") for p in ("whole", "cut")]
    assert [f.info["step"] for f in frames[1]] == list(range(0, 41, 5))
    for one, other in zip(*frames, strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.get_momenta(), other.get_momenta())
        assert np.array_equal(one.cell, other.cell)
        assert np.array_equal(one.get_forces(), other.get_forces())


def test_a_text_trajectory_of_a_resumed_run_is_the_same_byte_for_byte(tmp_path):
    record = RecordSettings(trajectory_format="xyz", trajectory_stride=3)
    settings = settings_for("nvt", 20)
    run_md(copper(), settings, record=record, out=tmp_path / "whole")
    run_md(copper(), settings, record=record, out=tmp_path / "cut", progress=stop_at(8))
    run_md(copper(), settings, record=record, out=tmp_path / "cut", resume=True)
    assert content(tmp_path / "whole") == content(tmp_path / "cut")


def test_a_finished_run_is_made_longer(tmp_path):
    run_md(copper(), settings_for("nvt-nhc", 10), out=tmp_path / "parts")
    longer = settings_for("nvt-nhc", 20)
    run_md(copper(), longer, out=tmp_path / "parts", resume=True)
    run_md(copper(), longer, out=tmp_path / "whole")
    assert_same_state(tmp_path / "whole", tmp_path / "parts")


def test_fixed_atoms_and_heavy_hydrogens_survive_a_resume(ethanol, tmp_path):
    settings = MDSettings(steps=20, hydrogen_mass_amu=3.0)
    start = ethanol()
    start.set_constraint(FixAtoms([0]))
    run_md(start, settings, out=tmp_path / "whole")
    run_md(start, settings, out=tmp_path / "cut", progress=stop_at(7))
    result = run_md(start, settings, out=tmp_path / "cut", resume=True)
    assert_same_state(tmp_path / "whole", tmp_path / "cut")
    assert np.array_equal(result.atoms.positions[0], start.positions[0])
    assert result.atoms.get_masses()[start.numbers == 1] == pytest.approx(3.0)


KILLED = """
    import os, signal, sys
    from ase.build import bulk
    from ase.calculators.calculator import all_changes
    from ase.calculators.emt import EMT
    from jmp_calc.sim.dynamics.md import MDSettings, RecordSettings, run_md

    class FreshEMT(EMT):
        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            super().calculate(atoms, list(properties), all_changes)

    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    atoms.calc = FreshEMT()
    settings = MDSettings(ensemble="nvt-bussi", steps=60, timestep_fs=2.0)
    record = RecordSettings(
        trajectory_format=sys.argv[2],
        trajectory_stride=1, log_stride=1, checkpoint_stride=8
    )

    def die(row):
        if row.step == 29:
            os.kill(os.getpid(), signal.SIGKILL)

    run_md(atoms, settings, record=record, out=sys.argv[1], progress=die)
"""


@pytest.mark.parametrize("kind", TRAJECTORY_FORMATS)
def test_a_killed_run_goes_on_without_duplicate_frames(kind, tmp_path):
    script = textwrap.dedent(KILLED)
    died = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "cut"), kind], check=False
    )
    assert died.returncode == -signal.SIGKILL
    trajectory = tmp_path / f"cut/md-traj{TRAJECTORY_FORMATS[kind]}"
    # the frame of step 29 was on its way
    assert steps_of(trajectory) in (list(range(29)), list(range(30)))
    assert load_checkpoint(tmp_path / "cut/md-checkpoint.npz").observables.step == 24
    settings = MDSettings(ensemble="nvt-bussi", steps=60, timestep_fs=2.0)
    record = RecordSettings(
        trajectory_format=kind, trajectory_stride=1, log_stride=1, checkpoint_stride=8
    )
    run_md(copper(), settings, record=record, out=tmp_path / "cut", resume=True)
    run_md(copper(), settings, record=record, out=tmp_path / "whole")
    assert steps_of(trajectory) == list(range(61))
    assert_same_state(tmp_path / "whole", tmp_path / "cut")
    rows = (tmp_path / "cut/md-md.csv").read_text()
    assert rows == (tmp_path / "whole/md-md.csv").read_text()


def test_the_summary_of_a_resumed_run_tells_where_it_went_on(tmp_path):
    settings = settings_for("nvt", 20)
    run_md(copper(), settings, out=tmp_path, progress=stop_at(8))
    run_md(copper(), settings, out=tmp_path, resume=True)
    summary = yaml.safe_load((tmp_path / "md-summary.yml").read_text())
    assert summary["resumed_from_step"] == 8
    assert summary["status"] == "completed"
    assert summary["results"]["steps"] == 20


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"temperature_K": 400.0}, "temperature_K was 300.0 and is 400.0; only steps"),
        ({"ensemble": "nve"}, "ensemble was nvt and is nve"),
        ({"timestep_fs": 1.0, "seed": 3}, "timestep_fs was .*; seed was 0 and is 3"),
        ({"steps": 5}, "has done 10 steps, and 5 in total are asked for"),
    ],
)
def test_a_resume_with_changed_physics_is_refused(changes, text, tmp_path):
    settings = settings_for("nvt", 10)
    run_md(copper(), settings, out=tmp_path)
    before = content(tmp_path)
    with pytest.raises(ArgumentError, match=text):
        run_md(
            copper(),
            dataclasses.replace(settings, **changes),
            out=tmp_path,
            resume=True,
        )
    assert content(tmp_path) == before


def test_a_ramp_cannot_change_its_length_on_the_way(tmp_path):
    run_md(
        copper(),
        settings_for("nvt", 20, is_ramp=True),
        out=tmp_path,
        progress=stop_at(5),
    )
    with pytest.raises(ArgumentError, match="lasts 20 steps, and 30 are asked for"):
        run_md(
            copper(), settings_for("nvt", 30, is_ramp=True), out=tmp_path, resume=True
        )


def test_a_resume_with_another_input_or_model_is_refused(tmp_path):
    about = {"model": {"weights_sha256": "aa"}}
    settings = settings_for("nvt", 5)
    run_md(copper(), settings, out=tmp_path, provenance=about)
    other = copper()
    other.positions[0, 0] += 0.1
    with pytest.raises(ArgumentError, match="another structure than this input"):
        run_md(other, settings, out=tmp_path, provenance=about, resume=True)
    about = {"model": {"weights_sha256": "bb"}}
    with pytest.raises(ArgumentError, match="weights aa and the model now has bb"):
        run_md(copper(), settings, out=tmp_path, provenance=about, resume=True)


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(DataError, match=r"no checkpoint .* to resume it"):
        run_md(copper(), settings_for("nvt", 5), out=tmp_path, resume=True)


def test_a_damaged_checkpoint_or_file_is_named(tmp_path):
    settings = settings_for("nvt", 10)
    run_md(copper(), settings, out=tmp_path)
    log = tmp_path / "md-md.csv"
    text = log.read_text()
    log.write_text(text[:40])
    with pytest.raises(DataError, match=r"md-md.csv has 40 bytes and should have"):
        run_md(copper(), settings, out=tmp_path, resume=True)
    log.write_text(text)
    checkpoint = tmp_path / "md-checkpoint.npz"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot read the checkpoint"):
        run_md(copper(), settings, out=tmp_path, resume=True)


def test_a_checkpoint_with_objects_in_it_is_not_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    path = tmp_path / "md-checkpoint.npz"
    header = json.dumps({"format": "jmp-md checkpoint", "version": 1})
    np.savez(path, header=np.array(header), positions=np.array([Bomb()], dtype=object))
    with pytest.raises(DataError, match="cannot read the checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "boom").exists()


def test_a_run_out_of_time_stops_and_can_go_on(tmp_path):
    settings = settings_for("nvt", 50)
    watch = WatchSettings(max_minutes=1e-9)
    result = run_md(copper(), settings, watch=watch, out=tmp_path)
    assert result.status == "stopped"
    assert result.n_steps < 50
    assert run_md(copper(), settings, out=tmp_path, resume=True).n_steps == 50


@pytest.mark.parametrize("kind", TRAJECTORY_FORMATS)
def test_a_frame_that_was_not_written_at_the_end_comes_with_the_resume(
    kind, tmp_path, monkeypatch
):
    record = RecordSettings(trajectory_format=kind, trajectory_stride=5, log_stride=5)
    settings = settings_for("nvt", 20)

    def stop(recorder):
        # a disk that is full after the row of step 10
        if recorder.last.observables.step == 10:
            raise DataError("cannot write the frame")
        write(recorder)

    write = recorder.Recorder._write_frame
    with monkeypatch.context() as patch:
        patch.setattr(recorder.Recorder, "_write_frame", stop)
        with pytest.raises(DataError, match="cannot write the frame"):
            run_md(copper(), settings, record=record, out=tmp_path)
    run_md(copper(), settings, record=record, out=tmp_path, resume=True)
    trajectory = tmp_path / f"md-traj{TRAJECTORY_FORMATS[kind]}"
    assert steps_of(trajectory) == [0, 5, 10, 15, 20]


def test_what_a_killed_run_had_not_finished_writing_is_removed(tmp_path):
    settings = settings_for("nvt", 10)
    run_md(copper(), settings, out=tmp_path)
    left = [".md-checkpoint.npz.4711.tmp", ".md-summary.yml.12.tmp"]
    other = ".mdx-checkpoint.npz.4711.tmp"
    for name in (*left, other):
        (tmp_path / name).touch()
    run_md(copper(), settings_for("nvt", 12), out=tmp_path, resume=True)
    assert not any((tmp_path / name).exists() for name in left)
    assert (tmp_path / other).exists()


def test_a_checkpoint_of_a_version_with_fewer_fields_and_settings_goes_on(tmp_path):
    settings = settings_for("nvt", 20)
    run_md(copper(), settings, out=tmp_path / "whole")
    run_md(copper(), settings, out=tmp_path / "cut", progress=stop_at(8))
    path = tmp_path / "cut/md-checkpoint.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(str(arrays.pop("header")))
    del header["closest_contact"]
    del header["settings"]["fix_rotation"]
    del header["watch"]["min_contact"]
    np.savez(path, header=np.array(json.dumps(header)), **arrays)
    run_md(copper(), settings, out=tmp_path / "cut", resume=True)
    assert_same_state(tmp_path / "whole", tmp_path / "cut")


def test_two_runs_do_not_write_the_same_files(tmp_path):
    settings = settings_for("nvt", 10)
    run_md(copper(), settings, out=tmp_path)

    def second(row):
        for change in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(ArgumentError, match="another run is writing"):
                run_md(copper(), settings, out=tmp_path, **change)

    longer = settings_for("nvt", 12)
    run_md(copper(), longer, out=tmp_path, resume=True, progress=second)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda atoms: atoms.set_masses([60.0] * 8), "other masses"),
        (lambda atoms: atoms.set_pbc([True, True, False]), "other periodicity"),
        (lambda atoms: atoms.set_constraint(FixAtoms([0])), "other constraints"),
        (lambda atoms: atoms.set_cell(1.01 * atoms.cell), "other cell"),
    ],
)
def test_a_resume_of_another_system_is_refused(change, text, tmp_path):
    settings = settings_for("nvt", 5)
    run_md(copper(), settings, out=tmp_path)
    other = copper()
    change(other)
    with pytest.raises(ArgumentError, match=text):
        run_md(other, settings, out=tmp_path, resume=True)


def test_a_resume_with_another_calculator_is_refused(tmp_path):
    settings = settings_for("nvt", 5)
    about = {"model": {"model": "emt", "weights_sha256": None}}
    run_md(copper(), settings, out=tmp_path, provenance=about)
    about = {"model": {"model": "lj", "weights_sha256": None}}
    with pytest.raises(ArgumentError, match=r"other calculator \(was emt, is lj\)"):
        run_md(copper(), settings, out=tmp_path, provenance=about, resume=True)


@pytest.mark.parametrize("damage", [b"", b"PK", b"\x00" * 400])
def test_any_damage_of_a_checkpoint_is_an_input_error(damage, tmp_path):
    path = tmp_path / "md-checkpoint.npz"
    path.write_bytes(damage)
    with pytest.raises(DataError, match="cannot read the checkpoint"):
        load_checkpoint(path)


def test_a_damaged_table_is_an_input_error(tmp_path):
    settings = settings_for("nvt", 20)
    run_md(copper(), settings, out=tmp_path)
    log = tmp_path / "md-md.csv"
    log.write_text(log.read_text().replace("\n10,", "\nx0,"))
    with pytest.raises(DataError, match=r"cannot read .*md-md.csv"):
        run_md(copper(), settings, out=tmp_path, resume=True)


def test_a_resume_with_other_options_of_the_calculator_is_refused(tmp_path):
    few, more = settings_for("nve", 2), settings_for("nve", 4)
    run_md(copper(), few, out=tmp_path, computes={"approximate": None})
    with pytest.raises(ArgumentError, match=r"approximate \(was None, is bf16\)"):
        run_md(
            copper(), more, out=tmp_path, resume=True, computes={"approximate": "bf16"}
        )
    run_md(copper(), more, out=tmp_path, resume=True, computes={"approximate": None})


def test_a_checkpoint_without_options_of_the_calculator_goes_on(tmp_path):
    run_md(copper(), settings_for("nve", 2), out=tmp_path)
    more = settings_for("nve", 4)
    result = run_md(
        copper(), more, out=tmp_path, resume=True, computes={"approximate": None}
    )
    assert result.n_steps == 4


def test_an_error_of_the_last_frame_does_not_replace_what_ended_the_run(
    tmp_path, monkeypatch
):
    def fail(*_):
        raise ValueError("no such frame")

    def explode(row):
        if row.step == 2:
            monkeypatch.setattr(recorder, "frame_from", fail)
        if row.step == 3:
            raise LookupError("first")

    record = RecordSettings(trajectory_stride=3)
    with pytest.raises(LookupError, match="first") as caught:
        run_md(
            copper(),
            settings_for("nve", 6),
            record=record,
            out=tmp_path,
            progress=explode,
        )
    assert any("no such frame" in note for note in caught.value.__notes__)
    files = MDFiles.under(tmp_path, "md", record.trajectory_format)
    summary = yaml.safe_load(files.summary.read_text())
    assert summary["status"] == "failed"
    assert load_checkpoint(files.checkpoint).observables.step == 3
