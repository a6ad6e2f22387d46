"""What verbs do with a part of a campaign, where that is not what they do alone."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read

from jmp_calc.cli.campaigns.works import RunWork
from jmp_calc.cli.job import Allowed, Job
from jmp_calc.cli.options import ModelOptions, OutputOptions
from jmp_calc.cli.run import Asked
from jmp_calc.cli.structures import Structure
from jmp_calc.sim.dynamics.settings import MDSettings, RecordSettings, WatchSettings


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def run_attempt(folder: Path, steps: int):
    """One attempt at a run, in a folder as the ledger makes it."""
    folder.mkdir(parents=True)
    crystal = bulk("Cu", cubic=True) * (2, 2, 2)
    structure = Structure(path=Path("cu.xyz"), frame=0, name="cu", atoms=crystal)
    work = RunWork(
        asked=Asked(
            settings=MDSettings(steps=steps, time_ps=None, temperature_K=300.0, seed=1),
            record=RecordSettings(log_stride=1, trajectory_stride=2),
            watch=WatchSettings(),
            names=("cu",),
        ),
        allowed=Allowed(direct_forces=False, neighbor_cap=False),
        output=OutputOptions(),
    )
    about = {"is_conservative": True, "neighbor_cap": None}
    job = Job(
        calculator=EMT(),
        options=ModelOptions(calculator="emt"),
        about=about,
        folder=folder,
        provenance={"model": about},
    )
    (ended,) = work.do([structure], job, "cu")
    return ended


def test_a_run_goes_on_where_the_worker_before_was_killed(tmp_path):
    # the first attempt ends after 8 steps; a kill leaves a checkpoint in the same way
    assert run_attempt(tmp_path / "cu.0123.000000", 8).status == "completed"
    (tmp_path / "cu.0123.000001").mkdir()
    assert run_attempt(tmp_path / "cu.0123.000002", 20).status == "completed"
    run_attempt(tmp_path / "whole" / "cu.0123.000000", 20)
    on, whole = tmp_path / "cu.0123.000002", tmp_path / "whole/cu.0123.000000"
    log, expected = rows(on / "cu-md.csv"), rows(whole / "cu-md.csv")
    assert [row["step"] for row in log] == [str(n) for n in range(21)]
    # EMT's neighbour list is not in a checkpoint, and its sums round differently; the
    # same temperatures mean the same velocities and random numbers
    for row, other in zip(log, expected, strict=True):
        temperature = float(other["temperature_K"])
        assert float(row["temperature_K"]) == pytest.approx(temperature, abs=1e-8)
    frames = read(on / "cu-traj.traj", ":")
    assert len(frames) == 11
    end = read(whole / "cu-traj.traj")
    assert frames[-1].positions == pytest.approx(end.positions, abs=1e-9)


def test_a_run_of_another_part_or_other_settings_is_not_taken(tmp_path):
    run_attempt(tmp_path / "cu.0123.000000", 8)
    run_attempt(tmp_path / "cu.4567.000000", 4)
    log = rows(tmp_path / "cu.4567.000000/cu-md.csv")
    assert [row["step"] for row in log] == ["0", "1", "2", "3", "4"]
