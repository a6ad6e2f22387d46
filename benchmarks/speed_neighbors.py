"""What do neighbours and graphs cost, from 20 to 20 000 atoms, and other programs?

    python benchmarks/speed_neighbors.py [--seconds 0.5] [--out FILE]

Periodic boxes of random atoms with the density of water (0.1 atoms per cubic angstrom).

- ``neighbors`` (``--cutoff``): ``ours`` tries all images in small cells, searches with
  matscipy in large ones, and adds the wrapping, checks and canonical order that the
  graph needs; ``matscipy`` and ``vesin`` (if it is installed) are the bare searches.
- ``graph``, by the rules of jmp-nano and the published ones (8 angstrom, nearest 30):
  ``fresh`` builds the whole graph of one structure; ``kept`` is a step of dynamics in
  which no edge changes (jmp_calc.graph.motion), everything but the network included;
  ``changed`` is a step in which edges of all graphs do, without a new search.

Milliseconds of CPU time on one thread; the least of the repeats counts.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from matscipy.neighbours import neighbour_list
from provenance import write_result

from jmp_calc.graph.build import build_graph
from jmp_calc.graph.motion import GraphInMotion
from jmp_calc.graph.neighbors import neighbor_list
from jmp_calc.graph.rules import GraphRules
from jmp_calc.pretrained import load_model

DENSITY = 0.1
SIZES = (20, 200, 2000, 20_000)
PUBLISHED = GraphRules(
    rules="published",
    cutoff=8.0,
    max_neighbors=30,
    radial_cutoff=12.0,
    quadruplet_tags=(1, 2),
)
STEP = {"kept": 1e-7, "changed": 0.01}
"""How far each atom moves from where it started in a step, angstrom."""


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
    """Return the least CPU time of a repeated piece of work, ms."""
    times = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def neighbors(atoms: Atoms, cutoff: float, seconds: float) -> dict[str, float]:
    """Return the times of the searches, ms."""
    arrays = (atoms.positions, atoms.cell.array, atoms.pbc)
    found = {
        "n_edges": float(len(neighbor_list(*arrays, cutoff=cutoff)[0])),
        "ours_ms": least(lambda: neighbor_list(*arrays, cutoff=cutoff), seconds),
        "matscipy_ms": least(lambda: neighbour_list("ijSd", atoms, cutoff), seconds),
    }
    if find_spec("vesin") is not None:
        import vesin

        search = vesin.NeighborList(cutoff=cutoff, full_list=True)
        found["vesin_ms"] = least(
            lambda: search.compute(
                points=atoms.positions,
                box=atoms.cell.array,
                periodic=True,
                quantities="ijSd",
            ),
            seconds,
        )
    return found


def step(motion: GraphInMotion, atoms: Atoms, positions: Iterator[np.ndarray]) -> None:
    """Move the atoms and build their graph."""
    atoms.positions = next(positions)
    motion.build(atoms)


def graphs(atoms: Atoms, rules: GraphRules, seconds: float) -> dict[str, float]:
    """Return the times of graphs by these rules, ms."""
    graph = build_graph(atoms, rules)
    found = {
        "n_main": float(graph.main.n_edges),
        "n_closures": float(graph.quadruplet_closure.shape[1]),
        "fresh_ms": least(lambda: build_graph(atoms, rules), seconds),
    }
    generator, start = np.random.default_rng(1), atoms.positions.copy()
    for name, length_A in STEP.items():
        motion, moving = GraphInMotion(rules), atoms.copy()
        motion.build(moving)
        # made beforehand: the random numbers are not part of a step
        moves = [length_A * generator.standard_normal(start.shape) for _ in range(8)]
        turns = itertools.cycle([start + move for move in moves])
        found[f"{name}_ms"] = least(partial(step, motion, moving, turns), seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cutoff", type=float, default=6.0, help="angstrom")
    parser.add_argument("--seconds", type=float, default=0.5, help="per number")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    nano = load_model("jmp-nano").heads["qm7x"].graph
    values: dict[str, Any] = {}
    for n_atoms in SIZES:
        atoms = box(n_atoms)
        values[str(n_atoms)] = of_size = {
            "neighbors": neighbors(atoms, options.cutoff, options.seconds),
            "graph_jmp_nano": graphs(atoms, nano, options.seconds),
            "graph_published": graphs(atoms, PUBLISHED, options.seconds),
        }
        for name, times in of_size.items():
            print(f"{n_atoms:6d} {name:16}", {k: round(v, 3) for k, v in times.items()})
    write_result(
        "speed_neighbors", {"cutoff_A": options.cutoff, "atoms": values}, options.out
    )


if __name__ == "__main__":
    main()
