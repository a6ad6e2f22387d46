"""OpenMM moves ethanol, jmp-nano gives the forces: through openmmml's ASE potential.

Needs pip install 'jmp-calc[interop]'. OpenMM works in nm, ps and kJ/mol; openmmml
converts. What is periodic in OpenMM is periodic in three directions.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ase.io import read
from openmm import LangevinMiddleIntegrator, Platform, unit
from openmm.app import Element, Simulation, StateDataReporter, Topology
from openmmml import MLPotential

from jmp_calc import JMPCalculator

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000

atoms = read(Path(__file__).with_name("ethanol.xyz"))
atoms.calc = JMPCalculator("jmp-nano")

topology = Topology()
residue = topology.addResidue("ETH", topology.addChain())
for symbol in atoms.get_chemical_symbols():
    topology.addAtom(symbol, Element.getBySymbol(symbol), residue)

# OpenMM moves a copy of these atoms, with their calculator
system = MLPotential("ase").createSystem(topology, aseAtoms=atoms)
integrator = LangevinMiddleIntegrator(
    300 * unit.kelvin, 10 / unit.picosecond, 0.5 * unit.femtosecond
)
integrator.setRandomNumberSeed(1)
# the network takes nearly all the time: OpenMM's part may be in double precision
platform = Platform.getPlatformByName("Reference")
simulation = Simulation(topology, system, integrator, platform)
simulation.context.setPositions(atoms.positions * unit.angstrom)

state = simulation.context.getState(energy=True)
per_mol = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
print(f"ASE     {atoms.get_potential_energy():.4f} eV")
print(f"OpenMM  {per_mol:.1f} kJ/mol")

simulation.context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
every = max(steps // 10, 1)
simulation.reporters.append(
    StateDataReporter(
        sys.stdout, every, step=True, potentialEnergy=True, temperature=True
    )
)
simulation.step(steps)
