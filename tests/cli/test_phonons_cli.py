"""``jmp-md phonons`` as users call it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write

from jmp_calc.cli import main
from jmp_calc.cli.options import field_help
from jmp_calc.sim.phonons.settings import ConvergenceSettings, PhononSettings
from toys.runs import DescribedEMT, DirectForAluminium

QUICK = ("--supercell", "2", "--mesh", "3", "--band-points", "4")


def phonons(*words) -> int:
    return main(["phonons", *map(str, words)])


def quick(*words) -> int:
    return phonons(*words, "--calculator", "emt", *QUICK)


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("cu.xyz", bulk("Cu", "fcc", a=3.6))
    write("bcc.xyz", bulk("Cu", "bcc", a=2.87))
    write("water.xyz", molecule("H2O"))
    write("flat.traj", Atoms("Cu", cell=[2, 2, 0], pbc=True))
    write("si.xyz", bulk("Si"))
    return tmp_path


def test_a_call_tells_what_it_found_and_where_it_is(capsys):
    assert quick("cu.xyz", "--plot") == 0
    text = capsys.readouterr().out
    for line in (
        "crystal     Fm-3m (225), 1 atoms in the primitive cell",
        "supercell   2 x 2 x 2, 8 atoms, 1 displacements",
        "residual    force",
        "thermal     at 300 K heat capacity 2.",
    ):
        assert line in text
    names = {path.name for path in Path("runs/cu-phonons-1").iterdir()}
    assert names == {
        "cu-bands.csv",
        "cu-dos.csv",
        "cu-thermal.csv",
        "cu-summary.yml",
        "cu-phonopy",
        "cu-bands.png",
        "cu-thermal.png",
    }
    summary = yaml.safe_load(Path("runs/cu-phonons-1/cu-summary.yml").read_text())
    assert summary["status"] == "completed"
    assert summary["model"]["model"] == "emt"
    assert summary["model"]["dtype"] == "float64"
    assert len(summary["inputs"]["files"][0]["sha256"]) == 64


def test_several_crystals_have_files_of_their_own(capsys):
    assert quick("cu.xyz", "bcc.xyz", "--out", "here") == 0
    assert Path("here/cu-phonopy/FORCE_SETS").is_file()
    assert Path("here/bcc-phonopy/FORCE_SETS").is_file()


def test_crystals_that_are_refused_do_not_stop_the_others(capsys):
    write("many.xyz", bulk("Cu", cubic=True) * 9)
    names = ("si.xyz", "water.xyz", "many.xyz", "cu.xyz")
    assert quick(*names, "--out", "here") == 2
    lines = capsys.readouterr().err
    assert "jmp-md: si: error: Si2 cannot be computed" in lines
    assert "jmp-md: water: error: H2O is not periodic in three directions" in lines
    assert "jmp-md: many: error: the supercell (2 x 2 x 2) has 23328 atoms" in lines
    assert Path("here/cu-summary.yml").is_file()
    assert {path.name[:3] for path in Path("here").iterdir()} == {"cu-", "si-"}


def test_born_charges_are_used_when_they_are_given_and_only_then(capsys):
    alloy = bulk("CuAu", "cesiumchloride", a=3.1)
    write("cuau.xyz", alloy)
    text = "14.4\n4 0 0 0 4 0 0 0 4\n1 0 0 0 1 0 0 0 1\n-1 0 0 0 -1 0 0 0 -1\n"
    Path("BORN").write_text(text)
    assert quick("cuau.xyz", "--out", "a") == 0
    assert "correction" not in capsys.readouterr().out
    assert quick("cuau.xyz", "--out", "b", "--born", "BORN") == 0
    assert "correction  non-analytic, from Born charges" in capsys.readouterr().out
    assert Path("b/cuau-phonopy/BORN").read_text() == text
    assert not Path("a/cuau-phonopy/BORN").exists()
    found = [yaml.safe_load(Path(f"{f}/cuau-summary.yml").read_text()) for f in "ab"]
    assert found[0]["born_sha256"] is None
    assert len(found[1]["born_sha256"]) == 64
    highest = [summary["results"]["highest_frequency_THz"] for summary in found]
    assert highest[1] > highest[0] + 0.1
    for folder, has_born in (("a", False), ("b", True)):
        params = Path(folder, "cuau-phonopy", "phonopy_params.yaml").read_text()
        assert ("born_effective_charge" in params) == has_born


def test_imaginary_modes_are_told_and_can_be_an_error(capsys):
    assert quick("bcc.xyz", "--out", "a") == 0
    captured = capsys.readouterr()
    assert "jmp-md: bcc: warning: imaginary modes: " in captured.err
    assert "the crystal is not stable in this structure" in captured.err
    assert "thermal     none, because of imaginary modes" in captured.out
    assert not Path("a/bcc-thermal.csv").exists()
    assert quick("bcc.xyz", "--out", "b", "--fail-if-imaginary", "--plot") == 4
    assert Path("b/bcc-bands.png").is_file()


def test_an_unrelaxed_crystal_is_told_and_can_be_relaxed(capsys):
    write("wide.xyz", bulk("Cu", "fcc", a=3.75))
    assert quick("wide.xyz", "--out", "a") == 0
    assert "the structure is not relaxed: it has a stress" in capsys.readouterr().err
    assert quick("wide.xyz", "--out", "b", "--relax", "both") == 0
    assert capsys.readouterr().err == ""
    assert Path("b/wide-relaxed.xyz").is_file()


def test_convergence_has_a_table_and_an_exit_code(capsys):
    words = ("--converge", "supercell", "--max-supercell-atoms", "30")
    assert quick("cu.xyz", *words) == 3
    captured = capsys.readouterr()
    assert "  supercell      3 x 3 x 3        27" in captured.out
    assert "jmp-md: cu: not converged: " in captured.err
    assert Path("runs/cu-phonons-1/cu-convergence.csv").is_file()


def test_existing_files_are_kept_unless_allowed(capsys):
    assert quick("cu.xyz", "--out", "a") == 0
    before = Path("a/cu-bands.csv").read_bytes()
    capsys.readouterr()
    assert quick("cu.xyz", "--out", "a") == 2
    assert "exists and would be replaced" in error_line(capsys)
    assert Path("a/cu-bands.csv").read_bytes() == before
    assert quick("cu.xyz", "--out", "a", "--overwrite") == 0


def test_a_config_file_gives_options(capsys):
    Path("p.yaml").write_text("supercell: '3'\ncalculator: emt\nmesh: '3'\n")
    assert phonons("cu.xyz", "--config", "p.yaml", "--supercell", "2") == 0
    assert "supercell   2 x 2 x 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("water.xyz",), "H2O is not periodic in three directions"),
        (("flat.traj",), "has no volume"),
        (("cu.xyz", "--supercell", "0"), "repetitions must be 1 or more"),
        (("cu.xyz", "--supercell", "a b c"), "give one or 3 or 9 whole numbers"),
        (("cu.xyz", "--supercell", "40"), "more than 5000"),
        (("cu.xyz", "--mesh", "2 2"), "give one or 3 whole numbers"),
        (("cu.xyz", "--displacement-A", "-1"), "displacement_A is -1.0"),
        (("cu.xyz", "--temperature-step-K", "0"), "temperature_step_K is 0.0"),
        (("cu.xyz", "--band-points", "1"), "band_points is 1"),
        (("cu.xyz", "--born", "none"), "born is none, which is no file"),
        (("cu.xyz", "--born", "cu.xyz"), "cannot read Born charges from cu.xyz"),
    ],
)
def test_bad_input_is_one_line_and_makes_no_file(words, text, capsys):
    before = set(Path().rglob("*"))
    assert phonons(*words, "--calculator", "emt") == 2
    assert text in error_line(capsys)
    assert set(Path().rglob("*")) == before


def test_an_element_that_the_calculator_lacks_is_one_line(capsys):
    assert quick("si.xyz") == 2
    assert "Si2 cannot be computed: No EMT-potential for Si" in error_line(capsys)
    assert not Path("runs").exists()


def test_direct_forces_need_permission(capsys, monkeypatch):
    monkeypatch.setattr(
        "jmp_calc.cli.job.build_calculator",
        lambda options: DescribedEMT(options, is_conservative=False),
    )
    assert phonons("cu.xyz", *QUICK) == 2
    assert "phonons needs forces that are the gradient" in error_line(capsys)
    assert phonons("cu.xyz", *QUICK, "--allow-direct-forces") == 0


def test_direct_forces_of_a_second_crystal_are_refused(capsys, monkeypatch):
    write("al.xyz", bulk("Al"))
    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", DirectForAluminium)
    assert phonons("cu.xyz", "al.xyz", *QUICK, "--out", "here") == 2
    told = capsys.readouterr().err
    assert "jmp-md: al: error: phonons needs forces that are the gradient" in told
    assert Path("here/cu-bands.csv").exists()
    assert not list(Path("here").glob("al-*"))


def test_an_active_neighbor_cap_needs_permission(capsys, monkeypatch):
    class Capped(DescribedEMT):
        def describe(self, atoms):
            return {**super().describe(atoms), "neighbor_cap": "30 of 42 edges"}

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", Capped)
    assert phonons("cu.xyz", *QUICK) == 2
    assert "phonons needs an energy without jumps" in error_line(capsys)
    assert phonons("cu.xyz", *QUICK, "--allow-neighbor-cap") == 0


def test_a_terminated_call_leaves_only_what_it_can_go_on_with():
    code = (
        "import os, signal, sys; from ase.calculators.emt import EMT\n"
        "from jmp_calc.cli import main\n"
        "calls = []\n"
        "def calculate(self, *args, **more):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    old(self, *args, **more)\n"
        "old, EMT.calculate = EMT.calculate, calculate\n"
        "sys.exit(main(['phonons', 'cu.xyz', '--calculator', 'emt', '--mesh', '3']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 130
    assert "jmp-md: interrupted" in done.stderr
    (kept,) = Path("runs/cu-phonons-1").iterdir()
    assert kept.name == "cu-phonons-evaluations.part"


def test_help_tells_every_setting_and_double_precision(capsys):
    assert phonons("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "[default: float64]" in text
    for settings in (PhononSettings, ConvergenceSettings):
        for line in field_help(settings).values():
            assert line in text


def test_without_phonopy_it_is_said_what_to_install(capsys, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "phonopy" else find(name, *more),
    )
    assert quick("cu.xyz") == 2
    assert "pip install 'jmp-calc[phonons]'" in error_line(capsys)


def test_the_bundled_model_computes_a_crystal():
    words = ("--model", "jmp-nano", "--supercell", "1", "--mesh", "3")
    assert phonons("si.xyz", *words, "--band-points", "3", "--out", "a") == 0
    summary = yaml.safe_load(Path("a/si-summary.yml").read_text())
    gamma = np.array(summary["results"]["frequencies_at_gamma_THz"])
    assert gamma.shape == (6,)
    # the sum rule holds
    assert np.sort(np.abs(gamma))[2] < 1e-2
