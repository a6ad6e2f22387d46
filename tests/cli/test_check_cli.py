"""``jmp-md check`` as users call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ase.build import bulk, molecule
from ase.io import write

from jmp_calc.cli import main
from jmp_calc.models.weights import save_weights
from jmp_calc.sim.check.settings import TEST_NAMES
from toys import broken
from toys.models import published_model

FAST = ("--quick", "--only", "forces", "--only", "rotation")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a few structures."""
    monkeypatch.chdir(tmp_path)
    write("cu.xyz", bulk("Cu", cubic=True))
    write("ethanol.xyz", molecule("CH3CH2OH"))
    write("iron.xyz", bulk("Fe"))
    Path("empty.xyz").write_text("")
    return tmp_path


def check(*words) -> int:
    return main(["check", *map(str, words)])


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_calculator_is_checked_with_a_system_that_it_covers(capsys):
    assert check("--calculator", "emt", "--quick") == 0
    out = capsys.readouterr().out
    assert "system      Cu: Cu4, 4 atoms" in out
    for name in TEST_NAMES:
        assert f"\n  {name} " in out
    assert "torque                                    not applicable  (periodic)" in out
    assert "all tests pass (Cu)" in out


def test_a_failing_test_has_an_exit_code_and_says_where(capsys):
    words = ("--calculator", "toys.broken:scaled_emt", "cu.xyz")
    assert check(*words, *FAST) == 3
    out = capsys.readouterr().out
    assert "cu: NOT safe: forces failed" in out
    assert "FAIL  (eV/Å; worst Cu" in out
    assert "by differences)" in out


def test_a_report_holds_inputs_settings_versions_and_every_number(capsys):
    words = ("--calculator", "toys.broken:scaled_emt", "cu.xyz", "ethanol.xyz")
    assert check(*words, *FAST, "--out", "report.yml") == 3
    report = yaml.safe_load(Path("report.yml").read_text())
    assert report["status"] == "fail"
    assert report["inputs"]["files"][0]["file"] == "cu.xyz"
    assert report["settings"]["quick"] is True
    assert report["versions"]["ase"]
    first, second = report["systems"]
    assert (first["name"], second["name"]) == ("cu", "ethanol")
    assert first["failed"] == ["forces"]
    row = first["tests"][0]
    assert row["test"] == "forces"
    assert row["status"] == "FAIL"
    assert row["value"] > row["limit"]
    assert row["unit"] == "eV/Å"
    assert "report      report.yml" in capsys.readouterr().out


def test_a_report_can_be_json():
    words = ("--calculator", "emt", "cu.xyz", *FAST)
    assert check(*words, "--out", "report.json") == 0
    report = json.loads(Path("report.json").read_text())
    assert report["status"] == "pass"
    assert report["systems"][0]["formula"] == "Cu4"


def test_a_model_is_checked_by_its_name(capsys):
    assert check("jmp-nano", "ethanol.xyz", *FAST, "--only", "collinear") == 0
    captured = capsys.readouterr()
    assert "jmp-nano, head xtb" in captured.out
    assert "all tests pass (ethanol)" in captured.out
    assert captured.err == ""


def test_a_model_without_a_file_is_checked_on_what_each_head_covers(capsys):
    assert check("jmp-nano", "--quick", "--only", "elements") == 0
    out = capsys.readouterr().out
    assert "all tests pass (ethanol, Cu-slab-CO, Cu)" in out
    for head in ("xtb", "oc20", "pbe"):
        assert f"jmp-nano, head {head}" in out


@pytest.mark.slow
def test_the_bundled_model_passes_everything(capsys):
    assert check("jmp-nano", "--quick") == 0
    assert "all tests pass (ethanol, Cu-slab-CO, Cu)" in capsys.readouterr().out


def test_a_named_head_is_checked_on_its_domain_only(capsys):
    assert check("jmp-nano", "--head", "wb97x", "--only", "elements") == 0
    assert "all tests pass (ethanol, water-box)" in capsys.readouterr().out


def test_direct_forces_are_found_out(capsys):
    save_weights(published_model(), Path("toy.safetensors"))
    words = ("toy.safetensors", "ethanol.xyz", *FAST, "--only", "curl")
    assert check(*words, "--only", "net-force") == 3
    out = capsys.readouterr().out
    assert "forces      direct, not conservative" in out
    assert "ethanol: NOT safe: forces, curl, net-force failed" in out


def test_an_active_neighbor_cap_is_told(capsys):
    save_weights(published_model(), Path("toy.safetensors"))
    assert check("toy.safetensors", "--quick", "--only", "elements") == 0
    out = capsys.readouterr().out
    assert "cap         quadruplet (nearest 32, " in out
    assert "all tests pass (ethanol, Cu-slab-CO)" in out


def test_a_hard_cap_on_neighbors_of_a_perfect_crystal_is_found_out(capsys):
    # ties at the cap: which neighbours count depends on the last digit
    save_weights(published_model(), Path("toy.safetensors"))
    words = ("toy.safetensors", "cu.xyz", "--head", "oc20", "--forces", "gradient")
    assert check(*words, "--quick", "--only", "rotation") == 3
    out = capsys.readouterr().out
    assert "cu: noise hides what these look for: rotation" in out
    assert "cu: NOT safe: noise failed" in out


def test_a_long_check_says_so(capsys, monkeypatch):
    monkeypatch.setattr("jmp_calc.cli.check.LONG_SECONDS", 0.0)
    assert check("--calculator", "emt", "cu.xyz", "--only", "forces") == 0
    out = capsys.readouterr().out
    # 32 to know the noise, 12 coordinates back and forth, and where they are
    assert "(about 0 min for 57 evaluations; --quick, --only and smaller" in out


def test_an_element_that_is_not_covered_is_a_failed_test(capsys):
    assert check("jmp-nano", "iron.xyz", "ethanol.xyz", "--only", "elements") == 3
    out = capsys.readouterr().out
    assert "covered                                   FAIL  (atom 0 is Fe (26)" in out
    assert "iron: NOT safe: elements failed" in out
    assert "ethanol: NOT" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give the MODEL to check, a name from 'jmp-md models'"),
        (("no-such-model",), "no-such-model"),
        (("ethanol.xyz",), "give the MODEL first: jmp-md check jmp-nano ethanol.xyz"),
        (("jmp-nano", "missing.xyz"), "missing.xyz does not exist"),
        (("jmp-nano", "empty.xyz"), "empty.xyz"),
        (("jmp-nano", "cu.xyz", "--frame", "x"), "--frame is 'x'"),
        (("jmp-nano", "cu.xyz", "--frame", "7"), "cu.xyz has no structure 7"),
        (("jmp-nano", "--out", "report.txt"), "a report ends in .yml, .yaml, .json"),
        (("jmp-nano", "--out", "cu.xyz/r.yml"), "cu.xyz"),
        (("jmp-nano", "--out", "old.yml"), "old.yml exists and would be replaced"),
        (("jmp-nano", "--shake-A", "-1"), "shake_A is -1.0; give a number above 0"),
        (("jmp-nano", "--nve-steps", "5"), "nve_steps is 5; give 100 or more"),
        (("jmp-nano", "--timestep-fs", "0"), "timestep_fs is 0.0"),
        (("jmp-nano", "--head", "qm7"), "did you mean 'qm7x'"),
        (("--calculator", "toys.broken:scaled_emt"), "give a FILE with a structure"),
        (("--calculator", "nothing:there"), "cannot be imported"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, capsys):
    Path("old.yml").write_text("kept")
    assert check(*words, *([] if "--only" in words else ["--only", "elements"])) == 2
    assert message in error_line(capsys)
    assert Path("old.yml").read_text() == "kept"


def test_an_unknown_test_is_refused(capsys):
    assert check("jmp-nano", "--only", "speed") == 2
    assert "'speed' is not one of" in capsys.readouterr().err


def test_help_tells_exit_codes_and_an_example_without_torch():
    code = (
        "import sys; from jmp_calc.cli import main; main(['check', '--help']); "
        "print('torch' in sys.modules, 'phonopy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("False False\n")
    assert "3 a test fails" in done.stdout
    assert "Example: jmp-md check jmp-nano --quick" in done.stdout


def test_the_toy_calculator_is_what_the_tests_say():
    assert broken.scaled_emt().change is broken.scaled
