"""Relax a molecule with ASE and look at its energy, forces and geometry."""

from __future__ import annotations

from pathlib import Path

from ase.io import read
from ase.optimize import BFGS

from jmp_calc import JMPCalculator

atoms = read(Path(__file__).with_name("ethanol.xyz"))
# a relaxation has small energy differences: double precision costs little here
atoms.calc = JMPCalculator("jmp-nano", dtype="float64")

start = atoms.get_potential_energy()
is_converged = BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
largest = abs(atoms.get_forces()).max()

print(f"converged   {is_converged}, largest force component {largest:.4f} eV/Å")
print(f"energy      {atoms.get_potential_energy() - start:.4f} eV from the start")
print(f"C-C         {atoms.get_distance(0, 1):.3f} Å")
print(f"C-O         {atoms.get_distance(1, 2):.3f} Å")
