"""``jmp-md vibrations`` as users call it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ase.build import molecule
from ase.constraints import FixAtoms
from ase.io import write

from jmp_calc.cli import main


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a few structures."""
    monkeypatch.chdir(tmp_path)
    write("n2.xyz", molecule("N2"))
    write("water.xyz", molecule("H2O"))
    held = molecule("N2")
    held.set_constraint(FixAtoms([0, 1]))
    write("held.xyz", held)
    return tmp_path


def vibrations(*words) -> int:
    return main(["vibrations", *map(str, words)])


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_molecule_gives_table_data_structure_summary_and_picture(capsys):
    words = ("--calculator", "emt", "--relax", "--plot")
    assert vibrations("n2.xyz", *words) == 0
    folder = Path("runs/n2-vibrations-1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "n2-structure.xyz",
        "n2-summary.yml",
        "n2-vibrations.csv",
        "n2-vibrations.json",
        "n2-vibrations.png",
    ]
    results = yaml.safe_load((folder / "n2-summary.yml").read_text())["results"]
    assert results["thermochemistry"]["model"] == "ideal-gas"
    assert len(results["frequencies_per_cm"]) == 1
    captured = capsys.readouterr()
    assert (
        "thermo      ideal-gas, linear, symmetry number 2, spin 0, at 298.15 K and "
        "101325 Pa"
    ) in captured.out
    assert captured.err == ""


def test_modes_to_look_at_are_written_on_request(capsys):
    words = ("--calculator", "emt", "--relax", "--mode-trajectories", "--out", "here")
    assert vibrations("water.xyz", *words) == 0
    assert len(list(Path("here").glob("water-mode-*.xyz"))) == 3
    out = capsys.readouterr().out
    assert "modes       here/water-mode-007.xyz to water-mode-009.xyz" in out


def test_a_structure_that_is_not_at_rest_is_warned_about(capsys):
    assert vibrations("n2.xyz", "--calculator", "emt") == 0
    assert "n2: warning: the structure is not at rest" in capsys.readouterr().err


def test_a_relaxation_that_does_not_converge_has_an_exit_code(capsys):
    words = ("--calculator", "emt", "--relax", "--steps", 1, "--fmax", 1e-6)
    assert vibrations("n2.xyz", *words) == 3
    assert "n2: not converged: 1 steps were not enough" in capsys.readouterr().err


def test_a_model_gives_vibrations():
    words = ("--model", "jmp-nano", "--relax", "--fmax", 0.05, "--out", "here")
    assert vibrations("water.xyz", *words) == 0
    summary = yaml.safe_load(Path("here/water-summary.yml").read_text())
    assert len(summary["model"]["weights_sha256"]) == 64
    waves = summary["results"]["frequencies_per_cm"]
    # PBE0 water has 1634, 3860 and 3963
    assert 1400 < waves[0] < 1900
    assert all(3500 < wave < 4300 for wave in waves[1:])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["held.xyz"], "all atoms are fixed, so nothing can vibrate"),
        (["n2.xyz", "--displacement-A", "2"], "displacement_A is 2.0; give a number"),
        (["n2.xyz", "--temperature-K", "0"], "temperature_K is 0.0; give a number"),
        (["n2.xyz", "--spin", "0.7"], "spin is 0.7; give the total spin"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, told, capsys):
    assert vibrations(*words, "--calculator", "emt") == 2
    assert told in error_line(capsys)
    assert not Path("runs").exists()
