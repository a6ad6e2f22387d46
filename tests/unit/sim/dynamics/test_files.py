from __future__ import annotations

from pathlib import Path

import pytest
from ase import Atoms
from ase.io import read, ulm

from jmp_calc.sim.dynamics.files import MDFiles
from jmp_calc.sim.trajectories.writers import open_trajectory


def test_files_are_named_after_the_stem():
    files = MDFiles.under("out", "water", "xyz")
    assert files.trajectory == Path("out/water-traj.xyz")
    assert files.observables == Path("out/water-md.csv")
    assert files.final == Path("out/water-final.xyz")
    assert files.summary == Path("out/water-summary.yml")


def test_a_traj_frame_that_was_cut_off_is_never_seen(tmp_path, monkeypatch):
    path = tmp_path / "a.traj"
    trajectory = open_trajectory(path)
    trajectory.write(Atoms("He"))

    def cut(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # the frame's arrays are in the file by then, but not its index entry
        patch.setattr(ulm.Writer, "sync", cut)
        with pytest.raises(KeyboardInterrupt):
            trajectory.write(Atoms("He", positions=[[1.0, 2.0, 3.0]]))
    trajectory.write(Atoms("He"))
    trajectory.close()
    assert trajectory.n_frames == 1
    assert len(read(path, index=":")) == 1
