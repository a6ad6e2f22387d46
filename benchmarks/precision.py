"""How far are forces and energies in float32, and in fewer digits, from float64?

    OMP_NUM_THREADS=2 python benchmarks/precision.py [--device cuda] [--cases ...]

Structures are those of ``speed_forces.py``, a few times rattled. The reference is the
same network in float64. ``bf16``, and ``tf32`` on CUDA, are what ``JMPCalculator`` does
with ``approximate=``. Weights of S are random: its forces are small, so the relative
error (of the root mean square) counts there; of jmp-nano it is the absolute one.

The drift is that of the total energy of ethanol on jmp-nano in NVE at 0.5 fs, which
starts at 300 K: the slope of a line through it, and how far it strays from the line.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet
from provenance import write_result
from speed_forces import RULES, structure

from jmp_calc import JMPCalculator
from jmp_calc.graph.rules import GraphRules
from jmp_calc.models.config import SIZES, HeadSpec
from jmp_calc.models.jmp import JMPModel

CASES = (
    "nano-ethanol-gradient",
    "nano-molecule-gradient",
    "nano-cell-gradient",
    "S-molecule-gradient",
    "S-cell-gradient",
    "S-molecule-direct",
)
RATTLE = 0.05
"""Standard deviation of what moves the atoms of each structure, angstrom."""
TIMESTEP_FS = 0.5
TEMPERATURE_K = 300.0


def calculators(case: str, kinds: list[str], device: str) -> dict[str, JMPCalculator]:
    """Return calculators with the same weights, by kind of arithmetic."""
    size, name, forces = case.split("-")
    if size == "nano":
        model: JMPModel | str = "jmp-nano"
        head = "pbe" if name == "cell" else "qm7x"
    else:
        torch.manual_seed(0)
        is_direct = forces == "direct"
        spec = HeadSpec(
            name="task",
            graph=GraphRules(
                rules="published",
                atom_edge_cutoff=None,
                radial_cutoff=12.0,
                atom_atom_cutoff=12.0,
                **RULES[name, forces],
            ),
            forces=forces,
            has_direct_forces=is_direct,
            domain="molecule" if name == "molecule" else "crystal",
        )
        model = JMPModel(replace(SIZES[size], has_direct_forces=is_direct), [spec])
        head = "task"
    found = {}
    for kind in kinds:
        is_plain = kind.startswith("float")
        found[kind] = JMPCalculator(
            model,
            head=head,
            device=device,
            dtype=kind if is_plain else "float32",
            approximate=None if is_plain else kind,
        )
    return found


def evaluated(calc: JMPCalculator, frames: list[Atoms]) -> tuple[np.ndarray, ...]:
    """Return energies per atom, meV, and forces, meV per angstrom."""
    energies, forces = [], []
    for atoms in frames:
        calc.calculate(atoms, ["energy", "forces"])
        energies.append(1e3 * calc.results["energy"] / len(atoms))
        forces.append(1e3 * calc.results["forces"])
    return np.array(energies), np.array(forces)


def errors(case: str, kinds: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Return the errors of each kind of arithmetic on one case."""
    frames = []
    for seed in range(options.frames):
        atoms = structure(case.split("-")[1])
        atoms.rattle(RATTLE, seed=seed)
        frames.append(atoms)
    calcs = calculators(case, ["float64", *kinds], options.device)
    energy, force = evaluated(calcs.pop("float64"), frames)
    rms = float(np.sqrt(np.mean(force**2)))
    rows: dict[str, Any] = {"n_atoms": len(frames[0]), "force_rms_meV_per_A": rms}
    for kind, calc in calcs.items():
        mine, forces = evaluated(calc, frames)
        rms_error = float(np.sqrt(np.mean((forces - force) ** 2)))
        rows[kind] = {
            "force_rms_error_meV_per_A": rms_error,
            "force_max_error_meV_per_A": float(np.abs(forces - force).max()),
            "force_relative_error": rms_error / rms,
            "energy_max_error_meV_per_atom": float(np.abs(mine - energy).max()),
        }
    return rows


def drift(calc: JMPCalculator, steps: int) -> dict[str, float]:
    """Return how the total energy of ethanol moves in NVE."""
    atoms = structure("ethanol")
    generator = np.random.default_rng(0)
    spread = np.sqrt(atoms.get_masses() * units.kB * TEMPERATURE_K)[:, None]
    atoms.set_momenta(generator.standard_normal((len(atoms), 3)) * spread)
    Stationary(atoms)
    atoms.calc = calc
    times, energies = [], []

    def look() -> None:
        times.append(dynamics.get_time() / (1000 * units.fs))
        energies.append(1e3 * atoms.get_total_energy() / len(atoms))

    dynamics = VelocityVerlet(atoms, timestep=TIMESTEP_FS * units.fs)
    dynamics.attach(look, interval=10)
    dynamics.run(steps)
    slope, start = np.polyfit(times, energies, 1)
    rest = np.array(energies) - slope * np.array(times) - start
    return {
        "drift_meV_per_atom_per_ps": float(slope),
        "fluctuation_meV_per_atom": float(rest.std()),
        "final_change_meV_per_atom": energies[-1] - energies[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=CASES, choices=CASES)
    parser.add_argument("--frames", type=int, default=3, help="Rattled copies of each.")
    parser.add_argument("--ps", type=float, default=2.0, help="Length of NVE; 0: none.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kinds = ["float32", "bf16"]
    if options.device.startswith("cuda"):
        kinds.insert(1, "tf32")
    values: dict[str, Any] = {
        "device": options.device,
        "frames": options.frames,
        "rattle_A": RATTLE,
        "cases": {},
        "nve": {},
    }
    print(
        f"{'':24s} {'':8s} {'force error, meV/A':>20s} {'relative':>9s} "
        f"{'energy error':>13s}\n{'case':24s} {'':8s} {'rms':>9s} {'largest':>10s} "
        f"{'':9s} {'meV/atom':>13s}"
    )
    for case in options.cases:
        rows = errors(case, kinds, options)
        values["cases"][case] = rows
        for kind in kinds:
            force_rms, force_max, relative, energy = rows[kind].values()
            print(
                f"{case:24s} {kind:8s} {force_rms:9.2g} {force_max:10.2g} "
                f"{relative:9.1e} {energy:13.2g}",
                flush=True,
            )
        print(f"{'':33s} {rows['force_rms_meV_per_A']:9.2g} is the rms force itself")
    n_steps = round(options.ps * 1000 / TIMESTEP_FS)
    if n_steps:
        kinds.insert(0, "float64")
        values["nve"] = {"length_ps": options.ps, "timestep_fs": TIMESTEP_FS}
        print(f"\nNVE, ethanol, {options.ps} ps: drift and fluctuation")
        for kind, calc in calculators(CASES[0], kinds, options.device).items():
            found = drift(calc, n_steps)
            values["nve"][kind] = found
            print(
                f"{kind:8s} {found['drift_meV_per_atom_per_ps']:9.4f} meV/atom/ps  "
                f"{found['fluctuation_meV_per_atom']:8.4f} meV/atom",
                flush=True,
            )
    write_result("precision", values, options.out)


if __name__ == "__main__":
    main()
