"""Phonons of silicon: relaxed cell, bands, density of states, heat capacity."""

from __future__ import annotations

import sys
from pathlib import Path

from ase.build import bulk

from jmp_calc import JMPCalculator
from jmp_calc.sim.phonons.calculation import PhononSettings, run_phonons
from jmp_calc.sim.phonons.picture import plot_bands

width = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
out = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/silicon")
out.mkdir(parents=True, exist_ok=True)

settings = PhononSettings(relax="both", supercell_width_A=width)
result = run_phonons(
    bulk("Si", cubic=True),
    settings,
    # differences of forces: double precision
    calculator=JMPCalculator("jmp-nano", head="pbe", dtype="float64"),
    out=out,
    stem="silicon",
    overwrite=True,
)
analysis = result.analysis
plot_bands(
    analysis,
    out / "silicon-bands.png",
    title="Phonons of silicon, jmp-nano",
    tolerance_THz=settings.imaginary_tolerance_THz,
)

atoms_in_supercell = len(result.phonon.supercell)
print(f"lattice constant {result.atoms.cell.lengths()[0]:.3f} Å (PBE 5.47)")
print(f"displacements    {result.n_displacements}, {atoms_in_supercell} atoms each")
print(f"optical at Gamma {analysis.gamma_THz[-1]:.1f} THz (measured 15.5)")
if analysis.imaginary is not None:
    print("there are imaginary modes")
if analysis.thermal is not None:
    at_300 = abs(analysis.thermal.temperature_K - 300).argmin()
    heat = analysis.thermal.heat_capacity_J_per_K_per_mol[at_300] / 2
    print(f"heat capacity    {heat:.1f} J/K per mole of atoms at 300 K (measured 20)")
for note in result.notes:
    print(note)
