"""What a step costs: one evaluation, and no file where none is due."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from ase.calculators.calculator import Calculator
from ase.io import read

from jmp_calc.calculator import JMPCalculator
from jmp_calc.errors import DataError
from jmp_calc.models.jmp import JMPModel
from jmp_calc.sim.dynamics import files, recorder
from jmp_calc.sim.dynamics.checkpoint import load_checkpoint
from jmp_calc.sim.dynamics.ensembles import ENSEMBLES
from jmp_calc.sim.dynamics.md import run_md
from jmp_calc.sim.dynamics.settings import (
    TRAJECTORY_FORMATS,
    MDSettings,
    RecordSettings,
)
from jmp_calc.sim.trajectories.frames import FrameFile
from toys.models import smooth_model

PATIENCE_S = 20.0
"""How long a test waits for what has to come."""


class Counting(Calculator):
    """Weak springs to the places at the start, with stress; counts evaluations."""

    def __init__(self) -> None:
        super().__init__()
        self.implemented_properties = ["energy", "forces", "stress"]
        self.n_calls = 0
        self.start: np.ndarray | None = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.n_calls += 1
        self.start = atoms.positions.copy() if self.start is None else self.start
        shift = atoms.positions - self.start
        energy, forces = 0.05 * float(np.sum(shift**2)), -0.1 * shift
        self.results = {"energy": energy, "forces": forces, "stress": np.zeros(6)}


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("log_stride", [1, 7])
def test_a_step_computes_the_forces_once(ensemble, log_stride, crystal, tmp_path):
    atoms = crystal()
    atoms.calc = Counting()
    settings = MDSettings(ensemble=ensemble, steps=20)
    record = RecordSettings(log_stride=log_stride, trajectory_stride=3)
    result = run_md(atoms, settings, record=record, out=tmp_path)
    assert result.status == "completed"
    # one for the start
    assert atoms.calc.n_calls == 21


def test_a_step_calls_the_network_once(ethanol, tmp_path, monkeypatch):
    calls = []
    forward = JMPModel.forward

    def counted(self, *args, **options):
        calls.append(options.get("forces"))
        return forward(self, *args, **options)

    monkeypatch.setattr(JMPModel, "forward", counted)
    atoms = ethanol()
    atoms.calc = JMPCalculator(smooth_model(), head="organic")
    run_md(atoms, MDSettings(steps=5, temperature_K=10.0), out=tmp_path)
    assert calls == ["gradient"] * 6


def test_no_file_changes_between_the_strides(ethanol, tmp_path):
    record = RecordSettings(log_stride=10, trajectory_stride=10, checkpoint_stride=20)
    seen = []

    def look(row):
        facts = {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in folder}
        seen.append((row.step, facts))

    settings = MDSettings(steps=30)
    run_md(ethanol(), settings, record=record, out=tmp_path)
    folder = list(tmp_path.iterdir())
    run_md(
        ethanol(),
        settings,
        record=record,
        out=tmp_path,
        overwrite=True,
        progress=lambda row: look(row) if row.step else None,
    )
    for (step, facts), (_, after) in pairwise(seen):
        # a frame of step 10 may be on its way until step 11 is recorded
        if step % 10 not in (0, 9):
            assert facts == after
    assert seen[0][1] != seen[-1][1]


@pytest.mark.parametrize("kind", TRAJECTORY_FORMATS)
def test_a_frame_is_written_while_the_next_step_is_computed(
    kind, ethanol, tmp_path, monkeypatch
):
    is_computing, writers = threading.Event(), []

    def waiting(template, shot):
        if shot.observables.step == 5 and len(writers) < 1:
            writers.append(threading.current_thread())
            # written by who computes, it would wait for itself
            assert is_computing.wait(PATIENCE_S)
        return files.frame_from(template, shot)

    def fault(results, n_calls):
        if n_calls == 6:
            is_computing.set()

    monkeypatch.setattr(recorder, "frame_from", waiting)
    record = RecordSettings(trajectory_stride=5, trajectory_format=kind)
    result = run_md(
        ethanol(fault=fault), MDSettings(steps=12), record=record, out=tmp_path
    )
    assert writers[0] is not threading.current_thread()
    steps = [f.info["step"] for _, f in FrameFile(path=result.files.trajectory)]
    assert steps == [0, 5, 10, 12]


def test_a_checkpoint_waits_for_the_frames_before_it(ethanol, tmp_path, monkeypatch):
    found = []
    save = recorder.save_checkpoint

    def slow(template, shot):
        time.sleep(0.05)
        return files.frame_from(template, shot)

    def saved(checkpoint, path):
        found.append((checkpoint.observables.step, checkpoint.framed_step))
        assert len(read(tmp_path / "md-traj.traj", ":")) == checkpoint.n_frames
        save(checkpoint, path)

    monkeypatch.setattr(recorder, "frame_from", slow)
    monkeypatch.setattr(recorder, "save_checkpoint", saved)
    record = RecordSettings(trajectory_stride=4, checkpoint_stride=4)
    run_md(ethanol(), MDSettings(steps=9), record=record, out=tmp_path)
    assert found == [(0, 0), (4, 4), (8, 8), (9, 8)]


@pytest.mark.parametrize("kind", TRAJECTORY_FORMATS)
def test_a_frame_that_cannot_be_written_ends_the_run_at_its_step(
    kind, ethanol, tmp_path, monkeypatch
):
    record = RecordSettings(trajectory_stride=5, trajectory_format=kind)

    def full(template, shot):
        if shot.observables.step == 10:
            raise DataError("no space left")
        return files.frame_from(template, shot)

    settings = MDSettings(steps=20)
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "frame_from", full)
        with pytest.raises(DataError, match="no space left") as caught:
            run_md(ethanol(), settings, record=record, out=tmp_path)
    assert "stopped after step 10" in caught.value.__notes__[0]
    stopped = load_checkpoint(tmp_path / "md-checkpoint.npz")
    assert (stopped.observables.step, stopped.framed_step) == (10, 5)
    result = run_md(ethanol(), settings, record=record, out=tmp_path, resume=True)
    steps = [f.info["step"] for _, f in FrameFile(path=result.files.trajectory)]
    assert steps == [0, 5, 10, 15, 20]


def test_an_error_while_a_frame_is_on_its_way_writes_the_frame_once(
    ethanol, tmp_path, monkeypatch
):
    def slow(template, shot):
        time.sleep(0.05)
        return files.frame_from(template, shot)

    def fault(results, n_calls):
        if n_calls == 11:
            raise KeyError("a bug")

    monkeypatch.setattr(recorder, "frame_from", slow)
    with pytest.raises(KeyError, match="a bug"):
        run_md(ethanol(fault=fault), MDSettings(steps=20), out=tmp_path)
    steps = [f.info["step"] for f in read(tmp_path / "md-traj.traj", ":")]
    assert steps == [0, 10]


def test_a_run_leaves_no_thread_behind(ethanol, tmp_path):
    before = threading.active_count()
    result = run_md(ethanol(), MDSettings(steps=20), out=tmp_path)
    assert threading.active_count() == before
    assert result.n_frames == 3
