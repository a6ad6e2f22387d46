"""Ac-Ala3-NHMe, the peptide of MD22: does it keep its bonds and its shape?

The molecules that jmp-nano learned from have at most a third of its atoms. The start
was built with RDKit; it is not a frame of MD22.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase.io import read

from jmp_calc import JMPCalculator
from jmp_calc.sim.dynamics.md import MDSettings, WatchSettings, run_md
from jmp_calc.sim.dynamics.picture import plot_md

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
out = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/tetrapeptide")

atoms = read(Path(__file__).with_name("alanine_tetrapeptide.xyz"))
atoms.calc = JMPCalculator("jmp-nano", dtype="float64")
settings = MDSettings(ensemble="nvt", temperature_K=300, timestep_fs=0.5, steps=steps)
# usual in tests of molecular dynamics: a bond beyond 1.5 times its length ends the run
watch = WatchSettings(max_bond_stretch=1.5)
run = run_md(atoms, settings, watch=watch, out=out, stem="peptide", overwrite=True)
plot_md(
    run.files.observables,
    out / "peptide-md.png",
    title="Ac-Ala3-NHMe",
    settings=settings,
)

print(f"{run.status} after {run.n_steps} steps, {run.mean_temperature_K:.0f} K")
print(f"longest stretch of a bond {run.largest_bond_stretch:.2f} of its length")

frames = read(run.files.trajectory, index=":")
for frame in frames[:: max(1, len(frames) // 4)]:
    offsets = frame.positions - frame.get_center_of_mass()
    radius = np.sqrt(np.average((offsets**2).sum(axis=1), weights=frame.get_masses()))
    # carbonyl oxygens to hydrogens of amide groups, beyond their own residue
    distances = frame.get_all_distances()
    is_nitrogen, is_hydrogen = frame.numbers == 7, frame.numbers == 1
    amide = is_hydrogen & (distances[:, is_nitrogen].min(axis=1) < 1.3)
    to_oxygen = distances[np.ix_(frame.numbers == 8, amide)]
    n_bonds = int((to_oxygen < 2.3).sum())
    print(f"radius of gyration {radius:.2f} Å, {n_bonds} hydrogen bonds")
