"""Aspirin, a molecule of rMD17: dynamics, then h(r) beside frames of the data set.

jmp-nano has never seen aspirin: its training left out the molecules of rMD17.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase import Atoms

from jmp_calc import JMPCalculator
from jmp_calc.sim.analysis.analyze import AnalysisSettings, run_analysis
from jmp_calc.sim.dynamics.md import MDSettings, RecordSettings, run_md

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
out = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/aspirin")

# 200 frames of rMD17: dynamics at 500 K, labelled with PBE
reference = Path(__file__).with_name("aspirin_rmd17.npz")
with np.load(reference) as frames:
    atoms = Atoms(frames["nuclear_charges"], frames["coords"][0])
atoms.calc = JMPCalculator("jmp-nano", dtype="float64")
settings = MDSettings(ensemble="nvt", temperature_K=500, timestep_fs=0.5, steps=steps)
record = RecordSettings(trajectory_stride=5)
run = run_md(atoms, settings, record=record, out=out, stem="aspirin", overwrite=True)

print(f"{run.status} after {run.n_steps} steps, {run.mean_temperature_K:.0f} K")
print(f"longest stretch of a bond {run.largest_bond_stretch:.2f} of its length")

analysis = run_analysis(
    [run.files.trajectory],
    # the first fifth of the run is still on its way to 500 K
    AnalysisSettings(
        only=("structure",),
        pairs=("C-C", "C-H"),
        reference=reference,
        equilibration_ps=0.2 * settings.duration_ps,
    ),
    out=out,
    names=["aspirin"],
    picture_format="png",
    overwrite=True,
)
for section in analysis.trajectories[0].sections:
    for fact in section.facts:
        print(f"{fact.name}: {fact.text} {fact.unit}".rstrip())
print(f"pictures    {', '.join(str(path) for path in analysis.pictures)}")
