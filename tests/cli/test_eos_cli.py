"""``jmp-md eos`` as users call it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ase.build import bulk, molecule
from ase.io import write

from jmp_calc.cli import main


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a few structures."""
    monkeypatch.chdir(tmp_path)
    write("cu.xyz", bulk("Cu", cubic=True))
    write("al.xyz", bulk("Al"))
    write("water.xyz", molecule("H2O"))
    return tmp_path


def eos(*words) -> int:
    return main(["eos", *map(str, words)])


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_crystal_gives_table_structures_summary_and_picture(capsys):
    assert eos("cu.xyz", "--calculator", "emt", "--plot") == 0
    folder = Path("runs/cu-eos-1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "cu-eos.csv",
        "cu-eos.png",
        "cu-eos.xyz",
        "cu-equilibrium.xyz",
        "cu-summary.yml",
    ]
    summary = yaml.safe_load((folder / "cu-summary.yml").read_text())
    assert summary["status"] == "completed"
    assert summary["settings"]["equation"] == "birchmurnaghan"
    assert summary["results"]["fit"]["bulk_modulus_GPa"] == pytest.approx(134, abs=1)
    assert summary["inputs"]["command"].startswith("jmp-md eos cu.xyz")
    out = capsys.readouterr().out
    assert "B0          134.4" in out
    assert "picture     runs/cu-eos-1/cu-eos.png" in out


def test_a_bad_structure_does_not_stop_the_others(capsys):
    words = ("--calculator", "emt", "--out", "here")
    assert eos("cu.xyz", "water.xyz", "al.xyz", *words) == 2
    assert "water: error: an equation of state needs a crystal" in error_line(capsys)
    assert Path("here/cu-eos.csv").is_file()
    assert Path("here/al-eos.csv").is_file()


def test_a_minimum_elsewhere_has_an_exit_code(capsys):
    write("wide.xyz", bulk("Cu", a=3.75))
    assert eos("wide.xyz", "--calculator", "emt") == 3
    assert "wide: not converged: the " in error_line(capsys)


def test_a_model_and_a_file_of_options():
    write("si.xyz", bulk("Si"))
    Path("options.yml").write_text("points: 5\nrange-percent: 10\nrelax: none\n")
    words = ("--model", "jmp-nano", "--config", "options.yml", "--points", 6)
    assert eos("si.xyz", *words, "--out", "here") in (0, 3)
    summary = yaml.safe_load(Path("here/si-summary.yml").read_text())
    assert summary["settings"]["points"] == 6
    assert summary["settings"]["relax"] == "none"
    assert len(summary["model"]["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["water.xyz"], "an equation of state needs a crystal"),
        (["cu.xyz", "--points", "3"], "points is 3; give 5 or more"),
        (["cu.xyz", "--range-percent", "-1"], "range_percent is -1.0; give"),
        (["cu.xyz", "--fmax", "0"], "fmax_eV_per_A is 0.0; give a number above 0"),
        (["cu.xyz", "--steps", "0"], "steps is 0; give 1 or more"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, told, capsys):
    assert eos(*words, "--calculator", "emt") == 2
    assert told in error_line(capsys)
    assert not Path("runs").exists()
