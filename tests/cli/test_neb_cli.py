"""``jmp-md neb`` as users call it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ase.build import add_adsorbate, fcc100, molecule
from ase.constraints import FixAtoms
from ase.io import read, write

from jmp_calc.cli import main
from toys.runs import DescribedEMT


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a few structures."""
    monkeypatch.chdir(tmp_path)
    slab = fcc100("Al", size=(1, 1, 2))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.info.clear()
    slab.center(axis=2, vacuum=4.0)
    slab.set_constraint(FixAtoms([0, 1]))
    other = slab.copy()
    other.positions[-1, 0] += slab.cell[0, 0]
    half = slab.copy()
    half.positions[-1, 0] += slab.cell[0, 0] / 2
    write("initial.xyz", slab)
    write("half.xyz", half)
    write("both.xyz", [slab, half])
    write("water.xyz", molecule("H2O"))
    write("chloride.xyz", molecule("CH3Cl"))
    stretched = molecule("CH3Cl")
    stretched.set_distance(0, 1, 2.2)
    write("chloride2.xyz", stretched)
    Path("empty.xyz").write_text("")
    return tmp_path


def neb(*words) -> int:
    return main(["neb", *map(str, words)])


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_two_end_points_give_table_path_saddle_steps_summary_and_picture(capsys):
    words = ("--calculator", "emt", "--images", 3, "--plot", "--relax-ends")
    assert neb("initial.xyz", "half.xyz", *words) in (0, 3)
    folder = Path("runs/initial-neb-1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "initial-neb.csv",
        "initial-neb.png",
        "initial-path.xyz",
        "initial-saddle.xyz",
        "initial-steps.csv",
        "initial-summary.yml",
    ]
    summary = yaml.safe_load((folder / "initial-summary.yml").read_text())
    assert summary["results"]["images_with_ends"] == 5
    assert len(summary["inputs"]["files"]) == 2
    assert "eV forward," in capsys.readouterr().out


def test_one_file_can_hold_both_ends_and_not_converged_has_an_exit_code(capsys):
    words = ("--frame", ":", "--calculator", "emt", "--steps", 1, "--images", 2)
    assert neb("both.xyz", *words, "--relax-ends", "--fmax", 1e-3) == 3
    assert "both-0: not converged: 1 steps were not enough" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt("SIGTERM"), 130, "initial: interrupted: SIGTERM in step 0"),
        (ValueError("too hot"), 4, "initial: unstable: after step 0: too hot"),
    ],
)
def test_what_was_done_is_kept(error, code, told, monkeypatch, capsys):
    class Tired(DescribedEMT):
        n_calls = 0

        def calculate(self, *arguments, **named):
            Tired.n_calls += 1
            # two end points and two images; then the first step
            if Tired.n_calls > 4:
                raise error
            super().calculate(*arguments, **named)

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", Tired)
    assert neb("initial.xyz", "half.xyz", "--images", 2, "--out", "here") == code
    assert told in capsys.readouterr().err
    summary = yaml.safe_load(Path("here/initial-summary.yml").read_text())
    assert summary["reason"] in told
    assert len(read("here/initial-path.xyz", ":")) == 4


def test_a_model_finds_a_path():
    water = molecule("H2O")
    write("bent.xyz", water)
    water.set_angle(1, 0, 2, 120)
    write("open.xyz", water)
    words = ("--model", "jmp-nano", "--images", 1, "--steps", 2, "--out", "here")
    assert neb("bent.xyz", "open.xyz", *words) in (0, 3)
    summary = yaml.safe_load(Path("here/bent-summary.yml").read_text())
    assert len(summary["model"]["weights_sha256"]) == 64
    assert summary["results"]["reaction_energy_eV"] > 0


def test_the_help_has_units_and_an_example_and_needs_no_torch(capsys):
    assert neb("--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Example: jmp-md neb initial.xyz final.xyz" in out
    assert "Stiffness of the springs between images, eV/angstrom^2." in out
    code = (
        "import sys; from jmp_calc.cli import main; main(['neb', '--help']); "
        "sys.exit(int(bool({'torch', 'matplotlib', 'phonopy'} & set(sys.modules))))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["initial.xyz", "none.xyz"], "none.xyz does not exist; give a structure file"),
        (["initial.xyz", "empty.xyz"], "cannot read structure -1 of empty.xyz"),
        (["initial.xyz"], "a path needs two end points"),
        (["initial.xyz", "initial.xyz"], "the end points are the same structure"),
        (["initial.xyz", "water.xyz"], "structure 2 cannot lie on a path"),
        (["chloride.xyz", "chloride2.xyz"], "No EMT-potential for Cl"),
        (["initial.xyz", "half.xyz", "--images", "0"], "images is 0; give 1 or more"),
        (["initial.xyz", "half.xyz", "--fmax", "-1"], "fmax_eV_per_A is -1.0; give"),
        (
            ["initial.xyz", "half.xyz", "--out", "old"],
            "initial-neb.csv exists and would",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, told, capsys):
    Path("old").mkdir()
    Path("old/initial-neb.csv").write_text("precious")
    assert neb(*words, "--calculator", "emt") == 2
    assert told in error_line(capsys)
    assert not Path("runs").exists()
    assert Path("old/initial-neb.csv").read_text() == "precious"
