"""``jmp-md relax`` as users call it."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.constraints import FixedLine
from ase.io import read, write
from ase.optimize import LBFGS

from jmp_calc.cli import main
from jmp_calc.cli.relax import exit_code
from jmp_calc.sim.relax.relaxation import run_relax
from jmp_calc.sim.relax.settings import RelaxSettings


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a few structures."""
    monkeypatch.chdir(tmp_path)
    copper = bulk("Cu", cubic=True, a=3.7)
    copper.rattle(0.05, seed=0)
    write("cu.xyz", copper)
    write("metals.xyz", [copper, bulk("Al", cubic=True), copper])
    write("ethanol.xyz", molecule("CH3CH2OH"))
    return tmp_path


def relax(*words) -> int:
    return main(["relax", *map(str, words)])


def emt(*words) -> int:
    return relax(*words, "--calculator", "emt")


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def rows(path) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_one_structure_gives_steps_last_structure_table_and_summary(capsys):
    assert emt("cu.xyz", "--move", "both", "--plot") == 0
    folder = Path("runs/cu-1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "cu-final.xyz",
        "cu-relax.csv",
        "cu-relax.png",
        "cu-relax.traj",
        "cu-summary.yml",
        "cu-table.csv",
    ]
    final = read(folder / "cu-final.xyz")
    assert np.linalg.norm(final.get_forces(), axis=1).max() <= 0.01
    (row,) = rows(folder / "cu-table.csv")
    assert row["status"] == "converged"
    assert float(row["final_energy_eV"]) == pytest.approx(final.get_potential_energy())
    summary = yaml.safe_load((folder / "cu-summary.yml").read_text())
    assert summary["results"]["counts"] == {"converged": 1}
    assert summary["results"]["evaluation_rounds"] == int(row["steps"]) + 1
    assert summary["settings"]["move"] == "both"
    assert summary["inputs"]["command"].startswith("jmp-md relax cu.xyz --move both")
    out = capsys.readouterr().out
    assert "relax       positions and cell by lbfgs, forces to 0.01" in out
    assert "1 converged" in out
    assert "picture     runs/cu-1/cu-relax.png" in out


def test_many_structures_share_a_table(capsys):
    assert emt("metals.xyz", "cu.xyz", "--frame", ":", "--out", "here") == 0
    table = rows("here/all-table.csv")
    assert [row["name"] for row in table] == ["metals-0", "metals-1", "metals-2", "cu"]
    assert {row["status"] for row in table} == {"converged"}
    finals = read("here/all-relaxed.xyz", ":")
    assert [atoms.info["relax_name"] for atoms in finals] == [r["name"] for r in table]
    assert Path("here/metals-1-relax.traj").is_file()
    out = capsys.readouterr().out
    assert "cu.xyz" not in out.splitlines()[0]
    assert "and 3 more" in out
    assert "final       here/all-relaxed.xyz" in out


def test_not_converged_has_an_exit_code_and_is_told(capsys):
    assert emt("cu.xyz", "--steps", 2) == 3
    assert error_line(capsys) == "jmp-md: cu: not converged: 2 steps were not enough"


def test_a_refused_structure_does_not_stop_the_others(capsys):
    write("bad.xyz", molecule("CH3Cl"))
    assert emt("cu.xyz", "bad.xyz", "--out", "here") == 2
    assert "bad: refused: No EMT-potential for Cl" in error_line(capsys)
    assert read("here/cu-final.xyz").info["relax_status"] == "converged"


def test_the_worst_status_decides_the_exit_code():
    assert exit_code(["converged", "converged"]) == 0
    assert exit_code(["converged", "not converged"]) == 3
    assert exit_code(["unstable", "not converged"]) == 4
    assert exit_code(["unstable", "refused"]) == 2
    assert exit_code(["not started", "interrupted", "refused", "converged"]) == 130


def test_a_model_relaxes_molecules_together(capsys):
    ethanol, water = molecule("CH3CH2OH"), molecule("CH3OH")
    write("two.xyz", [ethanol, water])
    words = ("--frame", ":", "--fmax", 0.05, "--out", "here")
    assert relax("two.xyz", "--model", "jmp-nano", *words) == 0
    table = rows("here/all-table.csv")
    assert [row["head"] for row in table] == ["xtb", "xtb"]
    assert all(float(row["max_force_eV_per_A"]) <= 0.05 for row in table)
    assert all(float(row["energy_change_eV"]) < 0 for row in table)
    summary = yaml.safe_load(Path("here/all-summary.yml").read_text())
    assert len(summary["model"]["weights_sha256"]) == 64


def test_what_extended_xyz_loses_and_a_vacuum_are_noted(capsys):
    slab = fcc111("Cu", (1, 1, 3), vacuum=6, periodic=True)
    slab.set_constraint(FixedLine([0], (0, 0, 1)))
    write("slab.traj", slab)
    words = ("--move", "both", "--steps", 1)
    assert emt("slab.traj", *words) == 3
    out = capsys.readouterr().out
    assert "extended XYZ cannot hold FixedLine; the .traj files can" in out
    assert "seems to have a vacuum along z" in out
    assert emt("slab.traj", *words, "--fixed-axes", "xyz"[1:]) == 3
    assert "vacuum" not in capsys.readouterr().out


def test_options_can_come_from_a_file():
    Path("options.yml").write_text("move: both\nfmax-eV-per-A: 0.05\nsteps: 400\n")
    assert emt("cu.xyz", "--config", "options.yml", "--steps", 300) == 0
    summary = yaml.safe_load(Path("runs/cu-1/cu-summary.yml").read_text())
    settings = summary["settings"]
    assert settings["move"] == "both"
    assert settings["fmax_eV_per_A"] == 0.05
    assert settings["steps"] == 300


def test_the_help_has_units_and_an_example_and_needs_no_torch(capsys):
    assert relax("--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Example: jmp-md relax crystal.cif --move both" in out
    assert "structure, eV/angstrom" in out
    code = (
        "import sys; from jmp_calc.cli import main; main(['relax', '--help']); "
        "sys.exit(int(bool({'torch', 'matplotlib', 'phonopy'} & set(sys.modules))))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none.xyz"], "none.xyz does not exist; give a structure file"),
        (["empty.xyz"], "cannot read structure -1 of empty.xyz"),
        (["cu.xyz", "--frame", "5"], "cu.xyz has no structure 5"),
        (["cu.xyz", "--frame", "first"], "--frame is 'first'; give a number"),
        (["cu.xyz", "--fmax", "0"], "fmax_eV_per_A is 0.0; give a number above 0"),
        (["cu.xyz", "--fmax", "-0.1"], "fmax_eV_per_A is -0.1; give a number"),
        (["cu.xyz", "--steps", "0"], "steps is 0; give 1 or more"),
        (["cu.xyz", "--together", "0"], "together is 0; give 1 or more"),
        (["cu.xyz", "--pressure-GPa", "5"], "the cell is not relaxed; use move=both"),
        (["cu.xyz", "--move", "both", "--fixed-axes", "c"], "fixed_axes is 'c'; give"),
        (["ethanol.xyz", "--move", "cell"], "move=cell needs a crystal"),
        (["ethanol.xyz", "--keep-symmetry"], "keep_symmetry needs a crystal"),
        (["chloride.xyz"], "No EMT-potential for Cl"),
        (["cu.xyz", "--out", "old"], "cu-final.xyz exists and would be replaced"),
        (["cu.xyz", "--calculator", "no:where"], "calculator 'no:where' cannot be"),
        (["flat.xyz", "--move", "both"], "move=both needs a crystal"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, told, capsys):
    Path("empty.xyz").write_text("")
    write("chloride.xyz", molecule("CH3Cl"))
    write("flat.xyz", Atoms("Cu", cell=[3, 3, 0], pbc=[True, True, False]))
    Path("old").mkdir()
    Path("old/cu-final.xyz").write_text("precious")
    extra = [] if "--calculator" in words else ["--calculator", "emt"]
    assert relax(*words, *extra) == 2
    assert told in error_line(capsys)
    assert not Path("runs").exists()
    assert [path.name for path in Path("old").iterdir()] == ["cu-final.xyz"]
    assert Path("old/cu-final.xyz").read_text() == "precious"


def test_names_of_other_programs_are_understood(capsys):
    assert emt("cu.xyz", "--opt-cell") == 2
    assert "did you mean --move?" in capsys.readouterr().err
    # what this verb does not have is not suggested
    assert emt("cu.xyz", "--thermostat", "nhc") == 2
    assert "--ensemble" not in capsys.readouterr().err


def test_a_batch_of_a_model_goes_the_way_of_each_structure_alone(tmp_path):
    from jmp_calc import JMPCalculator

    systems = {name: molecule(name) for name in ("CH3OH", "CH3CH2OH", "CH4", "H2O")}
    calculator = JMPCalculator("jmp-nano", head="qm7x", dtype="float64")
    settings = RelaxSettings(steps=4, fmax_eV_per_A=1e-6, trajectory_format="none")
    result = run_relax(systems, settings, calculator=calculator, out=tmp_path)
    assert result.n_rounds == 5
    for outcome in result.outcomes:
        atoms = systems[outcome.name].copy()
        atoms.calc = calculator
        energies: list[float] = []
        alone = LBFGS(atoms, logfile=None)
        alone.attach(lambda a=atoms, e=energies: e.append(a.get_potential_energy()))
        alone.run(fmax=1e-6, steps=4)
        # float64 sums of a batch and of one structure differ in the last digits
        ours = [step.energy_eV for step in outcome.steps]
        assert ours == pytest.approx(energies, abs=1e-9)


def test_of_many_structures_those_that_need_a_look_are_shown(capsys, monkeypatch):
    monkeypatch.setattr("jmp_calc.cli.relax.ROWS_SHOWN", 2)
    copper = read("cu.xyz")
    write("many.xyz", [bulk("Cu"), bulk("Cu"), bulk("Cu"), copper])
    assert emt("many.xyz", "--frame", ":", "--steps", 1) == 3
    out = capsys.readouterr().out
    assert "many-3     not converged" in out
    assert "many-0     converged" in out
    assert "many-1" not in out
    assert "... and 2 more, see the table" in out
    assert "3 converged, 1 not converged" in out


def test_an_interrupt_is_told_once(capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt("SIGTERM")

    monkeypatch.setattr("jmp_calc.sim.evaluation.OneByOne.evaluate", interrupt)
    assert emt("metals.xyz", "--frame", ":") == 130
    assert error_line(capsys) == "jmp-md: interrupted: SIGTERM in round 1"
