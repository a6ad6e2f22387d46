"""``jmp-md scan`` as users call it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ase.build import molecule
from ase.io import write

from jmp_calc.cli import main


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a few structures."""
    monkeypatch.chdir(tmp_path)
    write("ethane.xyz", molecule("C2H6"))
    write("benzene.xyz", molecule("C6H6"))
    write("chloride.xyz", molecule("CH3Cl"))
    Path("empty.xyz").write_text("")
    return tmp_path


def scan(*words) -> int:
    return main(["scan", *map(str, words)])


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_dihedral_gives_table_structures_summary_and_picture(capsys):
    words = ("--atoms", "2,0,1,5", "--calculator", "emt", "--points", 7, "--plot")
    assert scan("ethane.xyz", *words) == 0
    folder = Path("runs/ethane-scan-1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "ethane-scan.csv",
        "ethane-scan.png",
        "ethane-scan.xyz",
        "ethane-summary.yml",
    ]
    summary = yaml.safe_load((folder / "ethane-summary.yml").read_text())
    assert summary["results"]["coordinate"] == "dihedral"
    assert summary["results"]["moved_atoms"] == [1, 5, 6, 7]
    out = capsys.readouterr().out
    assert "scan        dihedral H2-C0-C1-H5, now 180 degrees" in out
    assert "moved       atoms 1, 5, 6, 7" in out


def test_several_molecules_one_of_them_bad(capsys):
    words = ("--atoms", "2,0,1,5", "--calculator", "emt", "--points", 3)
    assert scan("ethane.xyz", "benzene.xyz", *words, "--out", "here") == 2
    assert "benzene: error: atoms 0 and 1 are also connected" in error_line(capsys)
    assert Path("here/ethane-scan.csv").is_file()


def test_a_relaxation_that_does_not_converge_has_an_exit_code(capsys):
    words = ("--atoms", "0,1", "--start", 1.4, "--stop", 1.6, "--relax", "--steps", 1)
    assert scan("ethane.xyz", *words, "--points", 2, "--calculator", "emt") == 3
    assert "2 of 2 points did not converge" in error_line(capsys)


def test_a_model_scans_a_bond():
    words = ("--atoms", "0,1", "--start", 1.45, "--stop", 1.65, "--points", 3)
    assert scan("ethane.xyz", "--model", "jmp-nano", *words, "--out", "here") == 0
    summary = yaml.safe_load(Path("here/ethane-summary.yml").read_text())
    assert len(summary["model"]["weights_sha256"]) == 64
    assert summary["results"]["bond_A_lowest"] == pytest.approx(1.55)


def test_the_help_has_units_and_an_example_and_needs_no_torch(capsys):
    assert scan("--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Example: jmp-md scan butane.xyz --atoms 0,1,2,3" in out
    assert "First value: Å for a bond, degrees for an angle" in out
    code = (
        "import sys; from jmp_calc.cli import main; main(['scan', '--help']); "
        "sys.exit(int(bool({'torch', 'matplotlib', 'phonopy'} & set(sys.modules))))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


TURN = ["--atoms", "2,0,1,5"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none.xyz", *TURN], "none.xyz does not exist; give a structure file"),
        (["empty.xyz", *TURN], "cannot read structure -1 of empty.xyz"),
        (["ethane.xyz"], "atoms is not given; give two atoms for a bond"),
        (["ethane.xyz", "--atoms", "0,1"], "start is not given; a bond needs"),
        (["ethane.xyz", "--atoms", "0,1,2,99"], "there is no atom 99"),
        (["ethane.xyz", *TURN, "--points", "1"], "points is 1; give 2 or more"),
        (["benzene.xyz", "--atoms", "0,1,2,3"], "are also connected another way"),
        (
            ["chloride.xyz", "--atoms", "1,0,2", "--start", "90", "--stop", "99"],
            "for Cl",
        ),
        (["ethane.xyz", *TURN, "--out", "old"], "ethane-scan.csv exists and would be"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, told, capsys):
    Path("old").mkdir()
    Path("old/ethane-scan.csv").write_text("precious")
    assert scan(*words, "--calculator", "emt") == 2
    assert told in error_line(capsys)
    assert not Path("runs").exists()
    assert Path("old/ethane-scan.csv").read_text() == "precious"
