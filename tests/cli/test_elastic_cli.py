"""``jmp-md elastic`` as users call it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ase.build import bulk, molecule
from ase.io import write

from jmp_calc.cli import main
from toys.runs import DescribedEMT


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a few structures."""
    monkeypatch.chdir(tmp_path)
    write("cu.xyz", bulk("Cu", cubic=True))
    write("water.xyz", molecule("H2O"))
    return tmp_path


def elastic(*words) -> int:
    return main(["elastic", *map(str, words)])


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_crystal_gives_constants_stresses_summary_and_picture(capsys):
    assert elastic("cu.xyz", "--calculator", "emt", "--plot", "--relax", "cell") == 0
    folder = Path("runs/cu-elastic-1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "cu-elastic.csv",
        "cu-elastic.png",
        "cu-stresses.csv",
        "cu-summary.yml",
    ]
    results = yaml.safe_load((folder / "cu-summary.yml").read_text())["results"]
    assert results["elastic_constants_GPa"][0][0] == pytest.approx(172.6, abs=0.2)
    assert results["is_stable"] is True
    assert results["space_group"] == "Fm-3m (225)"
    captured = capsys.readouterr()
    assert "  xx     172.5" in captured.out
    assert "Poisson     0.314" in captured.out
    assert captured.err == ""


def test_a_crystal_under_stress_is_warned_about(capsys):
    assert elastic("cu.xyz", "--calculator", "emt", "--points", 2) == 0
    assert "cu: warning: the unstrained crystal has a stress" in error_line(capsys)


def test_direct_forces_are_refused_unless_allowed(monkeypatch, capsys):
    monkeypatch.setattr(
        "jmp_calc.cli.job.build_calculator",
        lambda options: DescribedEMT(options, is_conservative=False),
    )
    assert elastic("cu.xyz", "--points", 2) == 2
    assert "elastic needs forces that are the gradient" in error_line(capsys)
    assert not Path("runs").exists()
    assert elastic("cu.xyz", "--points", 2, "--allow-direct-forces") == 0


def test_an_active_neighbor_cap_is_refused_unless_allowed(monkeypatch, capsys):
    class Capped(DescribedEMT):
        def describe(self, atoms):
            return {**super().describe(atoms), "neighbor_cap": "main (nearest 30)"}

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", Capped)
    assert elastic("cu.xyz", "--points", 2) == 2
    assert "elastic needs an energy without jumps" in error_line(capsys)
    assert not Path("runs").exists()
    assert elastic("cu.xyz", "--points", 2, "--allow-neighbor-cap") == 0


def test_a_relaxation_that_does_not_converge_has_an_exit_code(capsys):
    loose = bulk("Cu", cubic=True, a=3.59)
    loose.rattle(0.05, seed=0)
    write("loose.xyz", loose)
    words = ("--calculator", "emt", "--points", 2, "--steps", 1)
    assert elastic("loose.xyz", *words, "--residual-stress-GPa", 99) == 3
    assert "loose: not converged: 13 relaxations" in error_line(capsys)


def test_a_model_gives_constants():
    write("si.xyz", bulk("Si"))
    words = ("--model", "jmp-nano", "--points", 2, "--relax", "none")
    assert elastic("si.xyz", *words, "--strain-percent", 1, "--out", "here") == 0
    summary = yaml.safe_load(Path("here/si-summary.yml").read_text())
    assert len(summary["model"]["weights_sha256"]) == 64
    assert summary["settings"]["strain_percent"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["water.xyz"], "a matrix of elastic constants needs a crystal"),
        (["cu.xyz", "--points", "3"], "points is 3; give an even number"),
        (["cu.xyz", "--strain-percent", "50"], "strain_percent is 50.0; give"),
        (["cu.xyz", "--fmax", "0"], "fmax_eV_per_A is 0.0; give a number above 0"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, told, capsys):
    assert elastic(*words, "--calculator", "emt") == 2
    assert told in error_line(capsys)
    assert not Path("runs").exists()
