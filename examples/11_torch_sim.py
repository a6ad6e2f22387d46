"""torch-sim moves many systems at once, jmp-nano computes them in one batch.

Needs pip install 'jmp-calc[interop]'. Crystals are relaxed with their cells, conformers
of ethanol run at constant energy. Units of torch-sim are eV, angstrom, ps and K. Names
are those of torch-sim 0.3; later versions have Integrator.nve and Optimizer.fire.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch_sim
from ase.build import bulk
from ase.io import read

from jmp_calc.calculator.torch_sim import JMPTorchSimModel

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
model = JMPTorchSimModel("jmp-nano")

crystals = [bulk("Cu", a=3.4), bulk("Cu", a=3.8), bulk("Si", a=5.2)]
relaxed = torch_sim.optimize(
    crystals,
    model,
    optimizer=torch_sim.frechet_cell_fire,
    convergence_fn=torch_sim.generate_force_convergence_fn(force_tol=0.02),
    max_steps=300,
)
for crystal, after in zip(crystals, relaxed.to_atoms(), strict=True):
    stretch = (after.get_volume() / crystal.get_volume()) ** (1 / 3)
    before = 2**0.5 * crystal.cell.lengths()[0]
    name = crystal.get_chemical_formula()
    print(f"{name:4s}lattice constant {before:.2f} -> {before * stretch:.3f} Å")

folder = Path(__file__).parent
conformers = [read(folder / name) for name in ("ethanol.xyz", "ethanol_gauche.xyz")]
settings = {"integrator": torch_sim.nve, "timestep": 0.0005, "temperature": 300}


def total_energies(state: torch_sim.SimState) -> torch.Tensor:
    """Potential and kinetic energy of each system, eV."""
    return state.energy + torch_sim.calc_kinetic_energy(
        masses=state.masses, momenta=state.momenta, system_idx=state.system_idx
    )


state = torch_sim.integrate(conformers, model, n_steps=1, seed=1, **settings)
start = total_energies(state)
state = torch_sim.integrate(state, model, n_steps=steps, **settings)
change = 1000 * (total_energies(state) - start) / len(conformers[0])
for name, energy, drift in zip(("trans", "gauche"), start, change, strict=True):
    print(f"{name:7s} {energy:.3f} eV in total, {drift:+.3f} meV/atom after the run")
