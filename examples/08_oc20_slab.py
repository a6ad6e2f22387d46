"""Relaxation of an adsorbate on a slab, from a start structure of OC20.

CH2OH on an Os-Ru surface; the lower layers are fixed, as in OC20. RPBE lowers the
energy by 5.02 eV, jmp-nano by 3.0 eV, although this relaxation is one of the 16 that it
was trained on: it does not know how high the unrelaxed start lies. So this shows how to
relax a slab, not what comes out; for that, use larger weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase.io import read

from jmp_calc import JMPCalculator
from jmp_calc.sim.relax.picture import plot_relax
from jmp_calc.sim.relax.relaxation import RelaxSettings, run_relax

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
out = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/slab")

start = read(Path(__file__).with_name("oc20_slab.xyz"))
# 0.03 eV/Å is OC20's own limit
settings = RelaxSettings(fmax_eV_per_A=0.03, steps=steps)
result = run_relax(
    {"slab": start},
    settings,
    calculator=JMPCalculator("jmp-nano", head="oc20"),
    out=out,
    stem="oc20",
    overwrite=True,
)
(outcome,) = result.outcomes
plot_relax(outcome.steps, settings, out / "slab-relax.png", title="CH2OH on Os-Ru")

print(f"{outcome.status} after {outcome.n_steps} steps")
print(f"energy        {outcome.energy_change:.2f} eV from the start")
print(f"largest force {outcome.steps[-1].max_force_eV_per_A:.3f} eV/Å")
final = outcome.atoms
is_slab = np.isin(final.symbols, ["Os", "Ru"])
carbon = int(np.flatnonzero(final.numbers == 6)[0])
slab = np.flatnonzero(is_slab)
distances = final.get_distances(carbon, slab, mic=True)
nearest = int(slab[distances.argmin()])
print(f"nearest metal {final.symbols[nearest]}, {distances.min():.2f} Å from carbon")
moved = np.linalg.norm(final.positions - start.positions, axis=1)
(fixed,) = (constraint.index for constraint in start.constraints)
print(f"fixed atoms   {len(fixed)}, moved by {moved[fixed].max():.1f} Å")
