"""Structure files that ``jmp-md run`` is given, good and bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.constraints import FixedLine
from ase.io import read, write

from jmp_calc.cli.structures import Source
from jmp_calc.errors import DataError
from toys.runs import EXAMPLES, DescribedEMT, error_line, run


def test_a_folder_that_appears_meanwhile_is_not_used(slab, monkeypatch):
    def build(options):
        # what another run does while this one loads its model
        Path("runs/slab-1").mkdir(parents=True)
        return DescribedEMT(options)

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", build)
    assert run(slab, "--steps", 1) == 0
    assert not list(Path("runs/slab-1").iterdir())
    assert Path("runs/slab-2/slab-summary.yml").is_file()


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("POSCAR", "poscar"),
        ("a.vasp", "a"),
        ("a@1.xyz", "a@1"),
        ("b.xyz.gz", "b"),
        ("Ätha nol*[1].xyz", "Ätha nol*[1]"),
        ("c.traj", "c"),
        ("c.cif", "c"),
        ("c.db", "c"),
        ("c.json", "c"),
    ],
)
def test_any_name_and_format_gives_files_that_read_back(name, stem, asked, slab):
    write(name, read(slab))
    assert run(name, "--steps", 2, "--out", "here") == 0
    for file in (f"here/{stem}-traj.traj", f"here/{stem}-final.xyz"):
        atoms = read(file, do_not_split_by_at_sign=True)
        assert atoms.get_chemical_formula() == "CCu12O"
        assert atoms.info["step"] == 2


def test_a_pdb_file_with_blank_residues_gives_files_that_read_back(asked, slab):
    line = "HETATM{:5d} CU           1    {:8.3f}   0.000   0.000  1.00  0.00{:>12}\n"
    atoms = [line.format(i, 2.6 * i, "CU") for i in range(1, 4)]
    Path("a.pdb").write_text("".join([*atoms, "END\n"]))
    assert run("a.pdb", "--steps", 2, "--out", "here") == 0
    assert len(read("here/a-final.xyz")) == 3


def test_constraints_that_extended_xyz_loses_are_told(asked, slab, capsys):
    atoms = read(slab)
    run(slab, "--steps", 1)
    assert "cannot hold" not in capsys.readouterr().out
    atoms.set_constraint(FixedLine([0], (0, 0, 1)))
    write("line.traj", atoms)
    run("line.traj", "--steps", 1)
    assert "cannot hold FixedLine; to go on" in capsys.readouterr().out


def test_a_frame_can_be_chosen(asked, slab):
    frames = read(slab), read(slab)
    frames[0].positions += 0.5
    write("two.xyz", frames)
    assert Source(path=Path("two.xyz")).load().positions[0, 0] < 1.5
    assert Source(path=Path("two.xyz"), frame=0).load().positions[0, 0] > 1.5


def test_a_frame_that_is_not_there_is_named(asked, slab, capsys):
    assert run(slab, "--frame", 7) == 2
    assert f"{slab} has no structure 7; count from 0" in error_line(capsys)


def test_a_disordered_crystal_is_refused(asked, slab, capsys):
    sites = {"0": {"Cu": 0.6, "Au": 0.4}}
    atoms = bulk("Cu", cubic=True)
    atoms.info["occupancy"] = sites
    atoms.set_array("spacegroup_kinds", np.zeros(4, int))
    write("alloy.cif", atoms)
    assert read("alloy.cif").info["occupancy"]["0"] == sites["0"]
    assert run("alloy.cif") == 2
    assert "sites that are shared by elements or partly empty" in error_line(capsys)


def test_an_ordered_crystal_is_read(asked, slab):
    write("copper.cif", bulk("Cu", cubic=True))
    assert "occupancy" in read("copper.cif").info
    assert run("copper.cif", "--steps", 1) == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xyz", "this is not a structure\n"),
        ("a.xyz", ""),
        ("a.cif", "data_x\n"),
        ("a.traj", "nonsense"),
        ("a.foo", "nonsense"),
        ("a.json", "{"),
        ("POSCAR", "x\n1.0\n"),
        ("a.pdb", "HEADER\n"),
        ("a.xyz", b"\xff\xfe\x00\x01"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_formats(
    name, content, asked, slab, capsys
):
    data = content if isinstance(content, bytes) else content.encode()
    Path(name).write_bytes(data)
    assert run(name) == 2
    line = error_line(capsys)
    assert line.startswith("jmp-md: error: ")
    assert name in line
    assert "structure" in line
    assert not asked


def test_a_file_that_is_not_a_structure_is_told_which_formats_will_do(slab):
    Path("a.foo").write_text("nonsense")
    with pytest.raises(
        DataError, match=r"cannot read structure -1 of a.foo.*\.cif.*ase"
    ):
        Source(path=Path("a.foo")).load()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none.xyz", "does not exist"),
        (".", "is a folder"),
        ("-", "is not a regular file, and structures are not read from a pipe"),
    ],
)
def test_a_missing_file_is_one_line(name, problem, asked, slab, capsys):
    assert run(name) == 2
    assert f"{name} {problem}; give a structure file" in error_line(capsys)


@pytest.mark.parametrize("name", ["ethanol", "methane", "cu_slab_co", "water_box"])
def test_the_examples_are_structures_without_close_contacts(name):
    atoms = Source(path=EXAMPLES / f"{name}.xyz").load()
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
    assert distances[distances > 0].min() > 0.9
    assert bool(atoms.constraints) == (name == "cu_slab_co")
