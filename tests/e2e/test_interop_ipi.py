"""i-PI itself, driven by ``jmp-md serve``."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write

from jmp_calc.cli import main

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
CRYSTAL = """
<simulation verbosity='low'>
  <output prefix='cu'>
    <properties stride='1' filename='out'>
      [conserved{electronvolt}, potential{electronvolt}, pressure_md]
    </properties>
  </output>
  <total_steps> 20 </total_steps>
  <ffsocket name='emt' mode='inet'>
    <address> localhost </address> <port> 31415 </port>
  </ffsocket>
  <system>
    <initialize nbeads='1'><file mode='ase'> cu.xyz </file></initialize>
    <forces><force forcefield='emt'/></forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'><timestep units='femtosecond'> 2 </timestep></dynamics>
    </motion>
  </system>
</simulation>
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_both(text: str, *words: str) -> None:
    """Run i-PI and serve it, at a port that is free."""
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        port = taken.getsockname()[1]
    Path("input.xml").write_text(text.replace("31415", str(port)), encoding="utf-8")
    program = Path(sys.executable).with_name("i-pi")
    with subprocess.Popen([program, "input.xml"], stdout=subprocess.PIPE) as ipi:
        try:
            assert main(["serve", *words, "--port", str(port)]) == 0
            ipi.communicate(timeout=60)
        finally:
            ipi.kill()
    assert ipi.returncode == 0


def test_energy_is_conserved_and_the_pressure_is_that_of_the_calculator():
    # i-PI wants the first vector along x and the second in the plane of x and y
    atoms = bulk("Cu", cubic=True, a=3.55)
    atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [0.05, 1, 0], [0.02, 0.03, 1]], True)
    atoms.rattle(0.1, seed=1)
    write("cu.xyz", atoms)
    run_both(CRYSTAL, "cu.xyz", "--calculator", "emt")
    conserved, potential, pressure = np.loadtxt("cu.out").T
    atoms = read("cu.xyz")
    atoms.calc = EMT()
    # i-PI's constants are not those of ASE
    assert potential[0] == pytest.approx(atoms.get_potential_energy(), rel=1e-6)
    expected = -atoms.get_stress()[:3].mean()
    assert expected > 1.0 * units.GPa
    # atoms are at rest at the start
    found = pressure[0] * units.Hartree / units.Bohr**3
    assert found == pytest.approx(expected, rel=1e-6)
    assert np.ptp(potential) > 0.1
    assert np.ptp(conserved) < 0.02 * np.ptp(potential)


def test_the_example_runs_at_small_size(capsys):
    text = (EXAMPLES / "ipi_ethanol.xml").read_text(encoding="utf-8")
    for old, new in (
        ("<total_steps> 2000", "<total_steps> 2"),
        ("nbeads='16'", "nbeads='2'"),
        ("<batch_size> 16", "<batch_size> 2"),
        ("stride='10'", "stride='1'"),
    ):
        assert old in text
        text = text.replace(old, new)
    shutil.copy(EXAMPLES / "ethanol.xyz", ".")
    run_both(text, "ethanol.xyz")
    assert "served      6 structures" in capsys.readouterr().out
    rows = np.loadtxt("ipi.out")
    assert rows.shape == (3, 6)
    assert abs(rows[:, 5] - -310.0).max() < 0.5
