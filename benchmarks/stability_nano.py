"""Does dynamics on jmp-nano stay together, and does it conserve energy?

    python benchmarks/stability_nano.py [--steps 4000]

For each example a run in the nve ensemble (float64, 0.5 fs) that starts from the
relaxed structure with velocities of 600 K, about half of which become potential energy:
drift of the total energy, mean temperature, and the longest stretch of a bond relative
to its length at the start.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from ase.io import read
from ase.neighborlist import build_neighbor_list, natural_cutoffs
from ase.optimize import BFGS
from provenance import write_result

from jmp_calc import JMPCalculator
from jmp_calc.sim.dynamics.md import MDSettings, run_md

EXAMPLES = Path(__file__).parents[1] / "examples"


def largest_stretch(frames: list, bonds: np.ndarray) -> float:
    """Return the largest length of a bond over its length in the first frame."""
    lengths = np.array(
        [
            [f.get_distance(a, b, mic=bool(f.pbc.any())) for a, b in bonds]
            for f in frames
        ]
    )
    return float((lengths / lengths[0]).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--systems", nargs="+", default=["ethanol", "methane"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    values = {}
    for name in options.systems:
        atoms = read(EXAMPLES / f"{name}.xyz")
        atoms.calc = JMPCalculator("jmp-nano", dtype="float64")
        BFGS(atoms, logfile=None).run(fmax=0.02, steps=200)
        neighbors = build_neighbor_list(
            atoms, natural_cutoffs(atoms), self_interaction=False, bothways=False
        )
        bonds = np.stack(neighbors.get_connectivity_matrix().nonzero(), axis=1)
        with tempfile.TemporaryDirectory() as folder:
            settings = MDSettings(
                ensemble="nve", temperature_K=600, timestep_fs=0.5, steps=options.steps
            )
            result = run_md(atoms, settings, out=folder)
            frames = read(result.files.trajectory, ":")
        values[name] = {
            "status": result.status,
            "picoseconds": result.n_steps * 0.5e-3,
            "head": atoms.calc.describe(atoms)["head"],
            "mean_temperature_K": result.mean_temperature_K,
            "drift_meV_per_atom_per_ps": result.energy_drift_meV_per_atom_per_ps,
            "n_bonds": len(bonds),
            "largest_bond_stretch": largest_stretch(frames, bonds),
        }
        print(name, values[name])
    write_result("stability_nano", values, options.out)


if __name__ == "__main__":
    main()
