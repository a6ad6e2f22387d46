"""Every example script runs as written, in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGUMENTS = {"03_dynamics.py": ["40", "out"]}
"""Smaller sizes for the tests, where the script takes one."""
EXPECTED = {
    "01_relax.py": "converged   True",
    "02_compare_many.py": "330 deg",
    "03_dynamics.py": "completed after 40 steps",
}
"""Part of the output of each script; a new script joins here."""


def test_every_script_has_an_expected_output() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_runs_and_prints_its_result(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *ARGUMENTS.get(name, [])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert EXPECTED[name] in done.stdout


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_is_short_and_uses_public_names_only(name: str) -> None:
    lines = (EXAMPLES / name).read_text().splitlines()
    assert len(lines) < 60
    imports = [line for line in lines if line.startswith("from jmp_calc")]
    allowed = ("from jmp_calc import ", "from jmp_calc.sim.dynamics.md import ")
    assert imports
    assert all(line.startswith(allowed) for line in imports)
