"""Liquid water, which jmp-nano has not seen: a run that watches over itself.

The head xtb has learned from water clusters of 2 to 21 molecules without a box. Here
1.5 ps at 300 K (3000 steps) ended with no bond longer than 1.17 of its length; that is
no proof of a right liquid. The watches over bonds and over atoms that come close end a
run that goes wrong. Use both with every model that is new to you, and weights that are
fine-tuned on water for results.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase.io import read

from jmp_calc import JMPCalculator
from jmp_calc.sim.dynamics.md import (
    MDSettings,
    RecordSettings,
    WatchSettings,
    run_md,
)

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
out = sys.argv[2] if len(sys.argv) > 2 else "runs/water"

atoms = read(Path(__file__).with_name("water_box.xyz"))
atoms.calc = JMPCalculator("jmp-nano", head="xtb")
run = run_md(
    atoms,
    MDSettings(ensemble="nvt", temperature_K=300, timestep_fs=0.5, steps=steps),
    record=RecordSettings(trajectory_stride=1, log_stride=1),
    watch=WatchSettings(max_bond_stretch=1.5, min_contact=1.3),
    out=out,
    stem="water",
    overwrite=True,
)

print(f"{run.status} after {run.n_steps} steps")
if run.reason is not None:
    print(run.reason)
print(f"longest stretch of a bond {run.largest_bond_stretch:.2f} of its length")
print(f"temperature {run.atoms.get_temperature():.0f} K at the end")


def nearest_oxygens(frame) -> float:
    """Shortest distance of two oxygen atoms, Å; 2.5 or more in water."""
    oxygens = frame[frame.numbers == 8]
    distances = oxygens.get_all_distances(mic=True)
    return float(distances[np.triu_indices(len(oxygens), 1)].min())


print(f"nearest O-O {nearest_oxygens(atoms):.2f} Å at the start")
print(f"nearest O-O {nearest_oxygens(run.atoms):.2f} Å at the end")
