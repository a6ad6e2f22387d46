"""``jmp-md energy`` as users call it."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import read, write

from jmp_calc.cli import main
from jmp_calc.cli.frames import FrameChoice
from jmp_calc.errors import ArgumentError, DataError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a few structures."""
    monkeypatch.chdir(tmp_path)
    frames = []
    for seed in range(5):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        atoms.get_potential_energy()
        atoms.get_forces()
        frames.append(atoms)
    write("cu.xyz", frames)
    write("cu.traj", frames)
    write("water.xyz", molecule("H2O"))
    return tmp_path


def energy(*words) -> int:
    return main(["energy", *map(str, words)])


def emt(*words) -> int:
    return energy(*words, "--calculator", "emt")


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def rows(path) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_whole_file_is_computed_and_compared_with_its_labels(capsys):
    assert emt("cu.xyz", "--plot") == 0
    folder = Path("runs/cu-1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "cu-energy.csv",
        "cu-energy.png",
        "cu-energy.xyz",
        "cu-summary.yml",
    ]
    table = rows(folder / "cu-energy.csv")
    assert [row["frame"] for row in table] == list("01234")
    # the labels are EMT's own, at positions with eight decimals
    worst = max(abs(float(row["energy_error_meV_per_atom"])) for row in table)
    assert worst < 1e-4
    written = read(folder / "cu-energy.xyz", ":")
    assert all(
        atoms.info["jmp_energy"] == pytest.approx(atoms.info["REF_energy"])
        for atoms in written
    )
    summary = yaml.safe_load((folder / "cu-summary.yml").read_text())
    assert summary["inputs"]["frames"] == ":"
    assert summary["results"]["structures"] == 5
    out = capsys.readouterr().out
    assert "structures  5\n" in out
    assert "energy (meV/atom)" in out
    assert "done        5 structures" in out
    assert "picture     runs/cu-1/cu-energy.png" in out


def test_several_files_share_a_table(capsys):
    assert emt("cu.traj", "water.xyz", "--out", "here", "--plot") == 0
    names = [path.name for path in sorted(Path("here").iterdir())]
    assert names == [
        "all-energy.csv",
        "all-energy.png",
        "all-summary.yml",
        "cu-energy.xyz",
        "water-energy.xyz",
    ]
    assert [row["source"] for row in rows("here/all-energy.csv")][-1] == "water"
    out = capsys.readouterr().out
    assert "structures  6 in 2 files" in out
    assert "results     here/NAME-energy.xyz" in out


def test_files_of_one_name_are_numbered():
    assert emt("cu.xyz", "cu.traj", "--out", "here") == 0
    assert len(read("here/cu-1-energy.xyz", ":")) == 5
    assert len(read("here/cu-2-energy.xyz", ":")) == 5


@pytest.mark.parametrize("plot", [["--energies-only"], ["--skip-stress"]])
def test_a_picture_without_labels(plot):
    assert emt("water.xyz", "--plot", *plot, "--picture-format", "svg") == 0
    text = Path("runs/water-1/water-energy.svg").read_text()
    assert "<svg" in text


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (":", [0, 1, 2, 3, 4]),
        ("2", [2]),
        ("-1", [-1]),
        ("1:3", [1, 2]),
        ("::2", [0, 2, 4]),
        ("3:", [3, 4]),
        (":99", [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("file", ["cu.xyz", "cu.traj"])
def test_frames_are_chosen_counted_and_numbered(frame, expected, file):
    choice = FrameChoice.from_text(frame)
    whole = read("cu.traj", ":")
    found = list(choice.read(Path(file)))
    assert [number for number, _ in found] == expected
    assert choice.count(Path(file)) == len(expected)
    for number, atoms in found:
        assert atoms.positions == pytest.approx(whole[number].positions, abs=1e-8)


@pytest.mark.parametrize("frame", ["a", "1:b", "-2:", "::0", "1:2:3:4", ""])
def test_a_wrong_choice_of_frames_is_told(frame):
    with pytest.raises(ArgumentError, match=r"--frame is .*give a number \(0 first"):
        FrameChoice.from_text(frame)


def test_other_formats_are_read_and_not_counted():
    write("cu.cif", bulk("Cu", cubic=True))
    choice = FrameChoice.from_text(":")
    assert choice.count(Path("cu.cif")) is None
    assert emt("cu.cif") == 0
    assert len(rows("runs/cu-1/cu-energy.csv")) == 1


def test_a_file_that_is_damaged_farther_down_keeps_what_was_done(capsys):
    text = Path("cu.xyz").read_text().splitlines()
    # the third structure of six lines each loses its coordinates
    text[15] = "Cu nowhere"
    Path("cu.xyz").write_text("\n".join(text) + "\n")
    assert emt("cu.xyz", "--chunk", 2, "--out", "here") == 2
    line = error_line(capsys)
    assert "cannot read structure 2 of cu.xyz" in line
    assert "the first 2 structures are in here" in line
    assert len(rows("here/cu-energy.csv")) == 2
    with pytest.raises(DataError, match="cannot read structure 2"):
        list(FrameChoice.from_text(":").read(Path("cu.xyz")))


def test_a_structure_that_cannot_be_computed_is_told(capsys):
    write("mixed.xyz", [bulk("Cu"), molecule("CH3Cl"), bulk("Al")])
    assert emt("mixed.xyz", "--out", "here") == 2
    assert error_line(capsys) == (
        "jmp-md: 1 of 3 structures could not be computed; the first: mixed, frame 1: "
        "No EMT-potential for Cl"
    )
    assert len(read("here/mixed-energy.xyz", ":")) == 3


def test_a_model_gives_what_its_calculator_gives():
    from jmp_calc import JMPCalculator

    frames = [molecule("CH3OH"), molecule("CH3CH2OH")]
    write("molecules.xyz", frames)
    assert energy("molecules.xyz", "--model", "jmp-nano", "--out", "here") == 0
    written = read("here/molecules-energy.xyz", ":")
    calculator = JMPCalculator("jmp-nano")
    for atoms, found in zip(frames, written, strict=True):
        atoms.calc = calculator
        # float32 sums of a batch and of one structure differ in the last digits
        assert found.info["jmp_energy"] == pytest.approx(
            atoms.get_potential_energy(), abs=1e-3
        )
        error = np.abs(found.arrays["jmp_forces"] - atoms.get_forces()).max()
        assert error < 1e-4
        assert found.info["jmp_head"] == "xtb"


def test_the_help_has_units_and_an_example_and_needs_no_torch(capsys):
    assert energy("--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Example: jmp-md energy test.xyz --model jmp-nano" in out
    assert "jmp_stress (eV/angstrom^3, Voigt)" in out
    code = (
        "import sys; from jmp_calc.cli import main; main(['energy', '--help']); "
        "sys.exit(int(bool({'torch', 'matplotlib', 'phonopy'} & set(sys.modules))))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none.xyz"], "none.xyz does not exist; give a structure file"),
        (["."], ". is a folder"),
        (["empty.xyz"], "cannot read structure 0 of empty.xyz"),
        (["noise.xyz"], "cannot read structure 0 of noise.xyz"),
        (["cu.xyz", "--frame", "7"], "cu.xyz has no structure 7"),
        (["cu.xyz", "--frame", "7:9"], "cu.xyz has no structure 7"),
        (["cu.xyz", "--frame", "x"], "--frame is 'x'; give a number"),
        (["cu.xyz", "--chunk", "0"], "chunk is 0; give 1 or more"),
        (["cu.xyz", "--energy-key", "E"], "has energy called 'E' (--energy-key)"),
        (["chloride.xyz"], "No EMT-potential for Cl"),
        (["cu.xyz", "--out", "old"], "cu-energy.xyz exists and would be replaced"),
        (["cu.xyz", "--calculator", "no:where"], "calculator 'no:where' cannot be"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, told, capsys):
    Path("empty.xyz").write_text("")
    Path("noise.xyz").write_text("this is no structure\n")
    write("chloride.xyz", molecule("CH3Cl"))
    Path("old").mkdir()
    Path("old/cu-energy.xyz").write_text("precious")
    extra = [] if "--calculator" in words else ["--calculator", "emt"]
    assert energy(*words, *extra) == 2
    assert told in error_line(capsys)
    assert not Path("runs").exists()
    assert Path("old/cu-energy.xyz").read_text() == "precious"
