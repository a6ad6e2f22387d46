"""What does the neighbour list cost, from 20 to 20 000 atoms, and with other programs?

    python benchmarks/speed_neighbors.py [--cutoff 6]

Periodic boxes of random atoms with the density of water (0.1 atoms per cubic angstrom).
Ours searches with matscipy and adds the wrapping, checks and canonical order that the
graph needs; ``matscipy`` and ``vesin`` are the bare searches; ``in motion`` is a step
of molecular dynamics in which the topology stays (jmp_calc.graph.motion), everything
but the network included. The least of the repeats counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import vesin
from ase import Atoms
from matscipy.neighbours import neighbour_list
from provenance import write_result

from jmp_calc.graph.build import build_graph
from jmp_calc.graph.motion import GraphInMotion
from jmp_calc.graph.neighbors import neighbor_list
from jmp_calc.graph.rules import GraphRules

DENSITY = 0.1
SIZES = (20, 200, 2000, 20_000)
GRAPH_LIMIT = 2000
"""Largest system whose whole graph is built; larger ones take a minute."""


def box(n_atoms: int) -> Atoms:
    """Return atoms on a jittered grid, so that none overlap."""
    generator = np.random.default_rng(0)
    side = (n_atoms / DENSITY) ** (1 / 3)
    per_side = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(per_side)] * 3), -1).reshape(-1, 3)
    chosen = generator.permutation(len(grid))[:n_atoms]
    positions = grid[chosen] * side / per_side
    positions += generator.uniform(-0.3, 0.3, positions.shape)
    return Atoms(["O"] * n_atoms, positions, cell=[side] * 3, pbc=True)


def least(work: Callable[[], Any], seconds: float) -> float:
    """Return the least time of a repeated piece of work, ms."""
    times = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def measure(n_atoms: int, cutoff: float, seconds: float) -> dict[str, float]:
    """Return the times of one size, ms."""
    atoms, rules = box(n_atoms), GraphRules(cutoff=cutoff)
    arrays = (atoms.positions, atoms.cell.array, atoms.pbc)
    search = vesin.NeighborList(cutoff=cutoff, full_list=True)
    found = {
        "n_edges": float(len(neighbor_list(*arrays, cutoff=cutoff)[0])),
        "ours_ms": least(lambda: neighbor_list(*arrays, cutoff=cutoff), seconds),
        "matscipy_ms": least(lambda: neighbour_list("ijSd", atoms, cutoff), seconds),
        "vesin_ms": least(
            lambda: search.compute(
                points=atoms.positions,
                box=atoms.cell.array,
                periodic=True,
                quantities="ijSd",
            ),
            seconds,
        ),
    }
    if n_atoms <= GRAPH_LIMIT:
        generator, motion = np.random.default_rng(1), GraphInMotion(rules)
        start = atoms.positions.copy()

        def step() -> None:
            atoms.positions = start + 1e-6 * generator.standard_normal(start.shape)
            motion.build(atoms)

        found["graph_ms"] = least(lambda: build_graph(atoms, rules), seconds)
        found["in_motion_ms"] = least(step, seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cutoff", type=float, default=6.0)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    values = {}
    for n_atoms in SIZES:
        values[str(n_atoms)] = measure(n_atoms, options.cutoff, options.seconds)
        print(n_atoms, {k: round(v, 3) for k, v in values[str(n_atoms)].items()})
    write_result(
        "speed_neighbors", {"cutoff_A": options.cutoff, "atoms": values}, options.out
    )


if __name__ == "__main__":
    main()
