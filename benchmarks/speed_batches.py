"""How many small molecules per second, one at a time and in batches?

    python benchmarks/speed_batches.py [--threads 1 2] [--molecules 200] ...

Energy and forces of molecules of ten atoms (C, H, N, O; rattled), float32: one after
the other as ASE calls a calculator, by ``JMPCalculator.evaluate`` in batches of several
sizes and of its own choice, and as ``jmp-md energy`` does it, files and table included.
Each time they are other objects with atoms a little elsewhere, of which nothing is
known from before. Each is the best of some repeats, in one process per number of
threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from provenance import write_result
from speed_forces import best, calculator

from jmp_calc import JMPCalculator, keep_freed_memory
from jmp_calc.calculator import batches
from jmp_calc.models.footprint import bytes_per_main_edge
from jmp_calc.sim.energy import EnergySettings, run_energy

N_ATOMS = 10
BATCHES = (1, 5, 20, 50, 100, 200)
"""Molecules per batch."""


def molecules(n: int) -> list[Atoms]:
    """Return molecules of ten atoms, each another geometry."""
    kinds = [
        atoms
        for atoms in map(molecule, g2.names)
        if len(atoms) == N_ATOMS and set(atoms.symbols) <= set("CHNO")
    ]
    found = [kinds[k % len(kinds)].copy() for k in range(n)]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.03, seed=seed)
    return found


def moved(frames: list[Atoms], generator: np.random.Generator) -> list[Atoms]:
    """Return new molecules, with atoms a little elsewhere."""
    found = [atoms.copy() for atoms in frames]
    for atoms in found:
        atoms.positions += 1e-4 * generator.standard_normal(atoms.positions.shape)
    return found


def with_batches_of(calc: JMPCalculator, n: int, frames: list[Atoms]) -> dict[str, int]:
    """Return the limit that makes batches of about so many of these molecules."""
    graphs = [calc._numbered_task(0, a, ("energy",), []).graph for a in frames[:10]]
    edges = sum(graph.main.n_edges for graph in graphs) / len(graphs)
    per_edge = bytes_per_main_edge(calc.model.config, calc.model.dtype)
    return {"cpu": int(n * edges * 1.001 * per_edge)}


def run_size(size: str, n: int, seconds: float) -> dict[str, Any]:
    """Return molecules per second by way."""
    calc, frames = calculator(size, "molecule", "gradient", "float32"), molecules(n)
    generator = np.random.default_rng(0)

    def rate(work: Callable[[], Any], of: int) -> dict[str, float]:
        work()
        took = best(work, seconds)
        return {"per_s": of / took["wall"], "per_cpu_s": of / took["cpu"]}

    some = frames[: max(n // 5, 1)]

    def alone() -> None:
        for atoms in moved(some, generator):
            atoms.calc = calc
            atoms.get_forces()

    def together() -> None:
        calc.evaluate(moved(frames, generator))

    def verb() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sources = {"molecules": enumerate(moved(frames, generator))}
            run_energy(
                sources, EnergySettings(), calculator=calc, out=folder, overwrite=True
            )

    values = {"one at a time": rate(alone, len(some))}
    own = batches.MAX_BATCH_BYTES
    for per_batch in (k for k in BATCHES if k <= n):
        batches.MAX_BATCH_BYTES = with_batches_of(calc, per_batch, frames)
        values[f"batches of {per_batch}"] = rate(together, n)
    batches.MAX_BATCH_BYTES = own
    values["evaluate"] = rate(together, n)
    values["jmp-md energy"] = rate(verb, n)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--molecules", type=int, default=200)
    parser.add_argument("--sizes", nargs="+", default=["nano"], choices=("nano", "S"))
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(options.threads[0])
        keep_freed_memory()  # as jmp-md does
        print(json.dumps(run_size(options.one, options.molecules, options.seconds)))
        return
    values: dict[str, Any] = {"molecules": options.molecules, "n_atoms": N_ATOMS}
    for size in options.sizes:
        for threads in options.threads:
            command = [sys.executable, __file__, "--one", size]
            command += ["--threads", str(threads)]
            for name in ("molecules", "seconds"):
                command += [f"--{name}", str(getattr(options, name))]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            values[f"{size}, {threads} threads"] = found
            alone = found["one at a time"]
            for way, of in found.items():
                print(
                    f"{size:5s} {threads} threads  {way:16s} {of['per_s']:8.1f} per s  "
                    f"{of['per_s'] / alone['per_s']:5.2f} x  "
                    f"(cpu {of['per_cpu_s'] / alone['per_cpu_s']:5.2f} x)",
                    flush=True,
                )
    write_result("speed_batches", values, options.out)


if __name__ == "__main__":
    main()
