"""Energies of many structures at once: a torsion scan, evaluated as one batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.io import read

from jmp_calc import JMPCalculator

ethanol = read(Path(__file__).with_name("ethanol.xyz"))
# atoms 0 to 3 of the file are C, C, O and the hydrogen on the oxygen
angles = np.arange(0, 360, 30)
frames = []
for angle in angles:
    frame = ethanol.copy()
    frame.set_dihedral(0, 1, 2, 3, angle, indices=[3])
    frames.append(frame)

calc = JMPCalculator("jmp-nano")
results = calc.evaluate(frames)
energies = np.array([result["energy"] for result in results])

print("C-C-O-H    energy above the lowest")
for angle, energy in zip(angles, energies - energies.min(), strict=True):
    print(f"{angle:4d} deg   {1000 * energy:7.1f} meV")
