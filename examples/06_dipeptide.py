"""Alanine dipeptide, a molecule of SPICE: relaxation, vibrations, a torsion scan."""

from __future__ import annotations

import sys
from pathlib import Path

from ase.io import read

from jmp_calc import JMPCalculator
from jmp_calc.sim.scan.calculation import ScanSettings, run_scan
from jmp_calc.sim.scan.picture import plot_scan
from jmp_calc.sim.vibrations.calculation import VibrationsSettings, run_vibrations

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
out = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/dipeptide")

start = read(Path(__file__).with_name("alanine_dipeptide.xyz"))
calculator = JMPCalculator("jmp-nano", dtype="float64")

# relax, and move each atom both ways: 132 geometries, in batches
vibrations = run_vibrations(
    start,
    VibrationsSettings(relax=True, steps=steps),
    calculator=calculator,
    out=out,
    stem="dipeptide-modes",
    overwrite=True,
)
print(f"relaxation  {vibrations.status}, {vibrations.n_imaginary} imaginary modes")
wavenumbers = vibrations.modes.vibrations_per_cm
highest = ", ".join(f"{number:.0f}" for number in wavenumbers[-3:])
print(f"N-H, C-H    {highest} 1/cm (harmonic)")
if vibrations.thermochemistry is not None:
    print(f"entropy     {vibrations.thermochemistry.entropy_eV_per_K:.5f} eV/K")

# phi of the backbone, C-N-CA-C; all points are computed in one call
scan = run_scan(
    vibrations.atoms,
    ScanSettings(atoms="1,3,4,6", start=-180.0, stop=180.0, points=25),
    calculator=calculator,
    out=out,
    stem="dipeptide-phi",
    overwrite=True,
)
plot_scan(scan, out / "dipeptide-phi.png", title="phi of alanine dipeptide, rigid")
for value, energy in zip(scan.values, scan.relative_eV, strict=True):
    print(f"phi {value:5.0f} deg  {1000 * energy:7.0f} meV")
