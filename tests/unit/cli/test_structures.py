"""Structures of the command line: each with a name of its own, each in order."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from jmp_calc.cli.frames import FrameChoice
from jmp_calc.cli.structures import read_structures, unique_names
from jmp_calc.errors import ArgumentError, DataError


@pytest.mark.parametrize(
    ("stems", "names"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "b", "a"], ["a-1", "b", "a-2"]),
        # files that have the numbered names themselves
        (["a", "a", "a-1"], ["a-2", "a-3", "a-1"]),
        (["a", "a", "a-1", "a-1"], ["a-1", "a-2", "a-1-1", "a-1-2"]),
        (["a-1", "a", "a-1", "a", "a-1-1"], ["a-1-2", "a-1", "a-1-3", "a-2", "a-1-1"]),
    ],
)
def test_names_differ(stems, names):
    assert unique_names(stems) == names


def test_files_of_equal_names_lose_no_structure(tmp_path):
    paths = [tmp_path / "x/a.xyz", tmp_path / "y/a.xyz", tmp_path / "a-1.xyz"]
    for n_atoms, path in enumerate(paths, start=1):
        path.parent.mkdir(exist_ok=True)
        write(path, Atoms(f"H{n_atoms}"))
    found = read_structures(paths, "-1")
    assert {s.name: len(s.atoms) for s in found} == {"a-2": 1, "a-3": 2, "a-1": 3}
    write(paths[0], [Atoms("H"), Atoms("H2")])
    names = [s.name for s in read_structures(paths, ":")]
    assert names == ["a-0", "a-1-1", "a", "a-1-2"]


def test_a_disordered_crystal_is_refused_whichever_frames_are_taken(tmp_path):
    alloy = bulk("Cu", cubic=True)
    alloy.info["occupancy"] = {"0": {"Cu": 0.6, "Au": 0.4}}
    alloy.set_array("spacegroup_kinds", np.zeros(4, int))
    path = tmp_path / "alloy.cif"
    write(path, alloy)
    for read in (
        lambda: read_structures([path], "-1"),
        lambda: read_structures([path], ":"),
        lambda: list(FrameChoice.from_text(":").read(path)),
    ):
        with pytest.raises(DataError, match="shared by elements or partly empty"):
            read()


@pytest.mark.parametrize("frame", ["--1", " 1", "1.0", "a", "²", ""])
def test_a_frame_that_is_no_number_is_refused(frame, tmp_path):
    with pytest.raises(ArgumentError, match="give a number"):
        read_structures([tmp_path / "a.xyz"], frame)


def test_an_index_as_ase_takes_it_is_told_as_an_option(tmp_path):
    path = tmp_path / "a.xyz"
    write(path, [Atoms("H"), Atoms("H2")])
    with pytest.raises(DataError, match="--frame 1 takes structures"):
        read_structures([path.with_name("a.xyz@1")], "-1")
