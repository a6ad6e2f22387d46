"""Molecular dynamics from Python, with the results at hand."""

from __future__ import annotations

import sys
from pathlib import Path

from ase.io import read

from jmp_calc import JMPCalculator
from jmp_calc.sim.dynamics.md import MDSettings, run_md

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
out = sys.argv[2] if len(sys.argv) > 2 else "runs/methane"

atoms = read(Path(__file__).with_name("methane.xyz"))
atoms.calc = JMPCalculator("jmp-nano", dtype="float64")
result = run_md(
    atoms,
    MDSettings(ensemble="nve", temperature_K=300, timestep_fs=0.5, steps=steps),
    out=out,
    overwrite=True,
)

print(f"{result.status} after {result.n_steps} steps")
print(f"temperature {result.mean_temperature_K:.0f} K")
if result.energy_drift_meV_per_atom_per_ps is not None:
    print(f"drift       {result.energy_drift_meV_per_atom_per_ps:.2g} meV/atom/ps")
print(f"trajectory  {result.files.trajectory}")
