"""Every example script runs as written, in a folder of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGUMENTS = {
    "03_dynamics.py": ["40", "out"],
    "04_aspirin.py": ["20", "out"],
    "05_tetrapeptide.py": ["10", "out"],
    "06_dipeptide.py": ["3", "out"],
    "07_water.py": ["2", "out"],
    "08_oc20_slab.py": ["3", "out"],
    "09_phonons.py": ["5", "out"],
    "10_openmm.py": ["20"],
    "11_torch_sim.py": ["5"],
}
"""Smaller sizes for the tests, where the script takes one."""
EXPECTED = {
    "01_relax.py": "converged   True",
    "02_compare_many.py": "330 deg",
    "03_dynamics.py": "completed after 40 steps",
    "04_aspirin.py": "MAE of h(r) against the reference, total",
    "05_tetrapeptide.py": "radius of gyration 3.3",
    "06_dipeptide.py": "N-H, C-H    ",
    "07_water.py": "nearest O-O 2.67 Å at the start",
    "08_oc20_slab.py": "fixed atoms   24, moved by 0.0 Å",
    "09_phonons.py": "lattice constant 5.47",
    "10_openmm.py": "OpenMM  -29910.4 kJ/mol",
    "11_torch_sim.py": "lattice constant 3.80 -> 3.681 Å",
}
"""Part of the output of each script; a new script joins here."""
PICTURES = {
    "04_aspirin.py": "aspirin-distances.png",
    "05_tetrapeptide.py": "peptide-md.png",
    "06_dipeptide.py": "dipeptide-phi.png",
    "08_oc20_slab.py": "slab-relax.png",
    "09_phonons.py": "silicon-bands.png",
}
"""Picture that a script makes, if it makes one."""
INTEROP = ("10_openmm.py", "11_torch_sim.py")
"""Examples with other programs, which take long to import."""
QUIET = [
    *("-W", "error"),
    # torch-sim 0.3 compiles with torch.jit and imports vesin_torch by its old name
    *("-W", "ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    *("-W", "ignore:`vesin.torch` is deprecated:DeprecationWarning"),
]
"""Warnings are errors, but for those of other packages."""
ALLOWED = {
    "jmp_calc.sim.": r"(\w*Settings|run_\w+|plot_\w+)",
    "jmp_calc.calculator.torch_sim": "JMPTorchSimModel",
}
"""What examples may use of modules: settings, the work, its picture, an adapter."""


DRIVER = """
import contextlib, io, json, os, runpy, sys
printed = {}
for name, arguments in json.loads(sys.argv[1]).items():
    os.makedirs(name)
    os.chdir(name)
    sys.argv = arguments
    with contextlib.redirect_stdout(io.StringIO()) as text:
        runpy.run_path(arguments[0], run_name="__main__")
    printed[name] = text.getvalue()
    os.chdir("..")
print(json.dumps(printed))
"""
"""Runs all scripts in one process: imports would take longer than most of them. It is
not the process of pytest, whose checks of types forbid 300 where 300.0 is meant."""


def test_every_script_has_an_expected_output() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(EXPECTED)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([n for n in EXPECTED if n not in INTEROP], id="own"),
        pytest.param(INTEROP, id="interop", marks=pytest.mark.slow),
    ],
)
def test_every_example_runs_and_prints_its_result(names, tmp_path: Path) -> None:
    jobs = {name: [str(EXAMPLES / name), *ARGUMENTS.get(name, [])] for name in names}
    done = subprocess.run(
        [sys.executable, *QUIET, "-c", DRIVER, json.dumps(jobs)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed.keys() == set(names)
    missing = [name for name in names if EXPECTED[name] not in printed[name]]
    assert missing == [], "\n".join(printed[name] for name in missing)
    for name in PICTURES.keys() & set(names):
        assert (tmp_path / name / "out" / PICTURES[name]).stat().st_size > 0


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_is_short_and_uses_public_names_only(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    imports = re.findall(
        r"^from (jmp_calc\S*) import (?:\(([^)]*)\)|(.*))", text, flags=re.MULTILINE
    )
    assert imports
    for module, several, one in imports:
        names = [word.strip() for word in (several or one).split(",") if word.strip()]
        if module != "jmp_calc":
            (allowed,) = (
                ALLOWED[start] for start in ALLOWED if module.startswith(start)
            )
            assert [word for word in names if not re.fullmatch(allowed, word)] == []
