"""Frames of files of all formats."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from jmp_calc.errors import DataError
from jmp_calc.sim.trajectories.frames import FrameFile
from jmp_calc.sim.trajectories.h5md import H5MDWriter


def frames(number: int) -> list:
    found = []
    for k in range(number):
        atoms = molecule("H2O")
        atoms.positions += k
        atoms.info["step"] = k
        found.append(atoms)
    return found


def save(path, atoms_list) -> None:
    if path.suffix == ".npz":
        positions = np.array([atoms.positions for atoms in atoms_list])
        np.savez(path, nuclear_charges=atoms_list[0].numbers, coords=positions)
    elif path.suffix == ".h5":
        writer = H5MDWriter(path)
        for atoms in atoms_list:
            writer.write(atoms)
        writer.close()
    else:
        ase.io.write(path, atoms_list)


@pytest.mark.parametrize("ending", ["traj", "xyz", "h5", "npz", "xyz.gz", "db"])
def test_frames_are_chosen_as_slices_do(ending, tmp_path) -> None:
    path = tmp_path / f"a.{ending}"
    save(path, frames(9))
    file = FrameFile(path=path, start=1, stop=8, stride=3)
    found = [(number, atoms.positions[0, 0]) for number, atoms in file]
    start = molecule("H2O").positions[0, 0]
    assert [number for number, _ in found] == [1, 4, 7]
    # extended XYZ has eight decimals
    np.testing.assert_allclose([x - start for _, x in found], [1, 4, 7], atol=1e-7)
    assert file.n_frames in (0, 3)


def test_arrays_of_md17_are_known(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", z=[8, 1, 1], R=np.zeros((2, 3, 3)))
    assert len(list(FrameFile(path=tmp_path / "a.npz"))) == 2
    np.savez(tmp_path / "b.npz", x=[1])
    with pytest.raises(DataError, match="has the arrays x; it needs nuclear_charges"):
        list(FrameFile(path=tmp_path / "b.npz"))


def test_a_file_that_was_cut_off_gives_the_frames_before(tmp_path) -> None:
    path = tmp_path / "a.xyz"
    save(path, frames(3))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    file = FrameFile(path=path)
    assert len(list(file)) == 2
    assert "ends within frame 2" in file.notes[0]


def test_other_atoms_are_refused(tmp_path) -> None:
    ase.io.write(tmp_path / "a.xyz", [molecule("H2O"), molecule("CH4")])
    with pytest.raises(DataError, match=r"frame 1 of .* has other atoms than frame 0"):
        list(FrameFile(path=tmp_path / "a.xyz"))


def test_positions_must_be_numbers(tmp_path) -> None:
    bad = frames(2)
    bad[1].positions[0, 0] = np.nan
    ase.io.write(tmp_path / "a.traj", bad)
    with pytest.raises(DataError, match=r"frame 1 .* not finite; leave .* --stop 1"):
        list(FrameFile(path=tmp_path / "a.traj"))


@pytest.mark.parametrize("ending", ["traj", "xyz", "h5", "npz"])
def test_a_file_that_is_none_is_told(ending, tmp_path) -> None:
    with pytest.raises(DataError, match="does not exist; give a trajectory"):
        list(FrameFile(path=tmp_path / f"a.{ending}"))
    with pytest.raises(DataError, match="is a folder"):
        list(FrameFile(path=tmp_path))
    (tmp_path / f"b.{ending}").write_text("nonsense\n")
    with pytest.raises(DataError, match=r"cannot read|as an H5MD"):
        list(FrameFile(path=tmp_path / f"b.{ending}"))


def test_a_start_beyond_the_end_is_told(tmp_path) -> None:
    save(tmp_path / "a.traj", frames(2))
    with pytest.raises(DataError, match="no frames from frame 5 on"):
        list(FrameFile(path=tmp_path / "a.traj", start=5))
