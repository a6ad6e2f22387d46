"""How much memory do energy and gradient forces of S take, from 24 to 2000 atoms?

    python benchmarks/memory_forces.py [--atoms 24 96 2016] [--most-GB 16] ...

Supercells of rutile TiO2 (12 angstrom, 30 neighbours), random weights, float32, with
the form of the network for inference: once keeping what the blocks made for the
derivative, once computing it again (``JMPCalculator(..., recompute=True)``). Each point
is a process of its own; memory is its peak above what it had with the model loaded,
graph building included. Points expected above ``--most-GB`` are left out.

Memory does not depend on what else the machine does, the times (processor time of one
evaluation) do: compare the two ways of one size only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.spacegroup import crystal
from provenance import write_result
from speed_forces import calculator, peak_memory

from jmp_calc.graph.batch import GRAPHS
from jmp_calc.graph.build import build_graph
from jmp_calc.models.footprint import Footprint
from jmp_calc.pictures import color, legend_above, new_figure, save_figure, tidy

CELLS = {
    24: (2, 1, 2),
    48: (2, 2, 2),
    96: (2, 2, 4),
    216: (3, 3, 4),
    432: (3, 4, 6),
    768: (4, 4, 8),
    1200: (5, 5, 8),
    2016: (6, 7, 8),
}
"""Unit cells along each direction by number of atoms."""
WAYS = ("keeping", "recomputing")


def rutile(cells: tuple[int, int, int]) -> Atoms:
    """Return a supercell of rutile without ties between distances."""
    unit = crystal(
        ["Ti", "O"],
        basis=[(0, 0, 0), (0.305, 0.305, 0)],
        spacegroup=136,
        cellpar=[4.594, 4.594, 2.959, 90, 90, 90],
    )
    atoms = unit * cells
    atoms.rattle(0.02, seed=0)
    return atoms


def run_point(n_atoms: int, way: str) -> dict[str, Any]:
    """Return memory and time of one evaluation."""
    calc = calculator("S", "cell", "gradient", "float32")
    model, rules = calc.model, calc.model.heads["task"].graph

    def evaluate(atoms: Atoms) -> None:
        graph = build_graph(atoms, rules)
        model(graph, "task", forces="gradient", recompute=way == "recomputing")

    # what first calls leave behind is not the memory of the point
    evaluate(rutile((1, 1, 1)))
    atoms = rutile(CELLS[n_atoms])
    # freed memory of loading would hide what comes
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = peak_memory(), time.process_time()
    evaluate(atoms)
    took, peak = time.process_time() - start, peak_memory() - before
    graph = build_graph(atoms, rules)
    expected = getattr(Footprint.of(graph, model.config, model.dtype), way)
    return {
        "n_atoms": n_atoms,
        "edges": {name: getattr(graph, name).n_edges for name in GRAPHS},
        "peak_above_weights_MB": peak,
        "expected_MB": expected / 2**20,
        "cpu_s": took,
    }


def measure(sizes: list[int], threads: int, most_gb: float) -> dict[str, Any]:
    """Return all points by way, and how memory grows with main edges."""
    values: dict[str, Any] = {}
    for way in WAYS:
        points: list[dict[str, Any]] = []
        for n_atoms in sorted(sizes):
            if points:
                last = points[-1]
                per_atom = last["peak_above_weights_MB"] / last["n_atoms"]
                if per_atom * n_atoms > 1024 * most_gb:
                    print(f"{way:12s} {n_atoms:5d} atoms left out: more than allowed")
                    break
            command = [sys.executable, __file__, "--one", str(n_atoms), way]
            command += ["--threads", str(threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            points.append(found)
            print(
                f"{way:12s} {n_atoms:5d} atoms {found['edges']['main']:7d} main edges "
                f"{found['peak_above_weights_MB']:8.0f} MB "
                f"(expected {found['expected_MB']:8.0f}) {found['cpu_s']:7.1f} s",
                flush=True,
            )
        edges = np.array([point["edges"]["main"] for point in points])
        peak = np.array([point["peak_above_weights_MB"] for point in points])
        slope, base = np.polyfit(edges, peak, 1)
        values[way] = {
            "points": points,
            "kB_per_main_edge": 1024 * slope,
            "MB_at_no_edge": base,
            "largest_departure_from_line": float(
                np.abs(peak / (slope * edges + base) - 1).max()
            ),
        }
        print(f"{way:12s} {1024 * slope:.0f} kB per main edge + {base:.0f} MB")
    return values


def plot(values: dict[str, Any], path: Path) -> None:
    """Draw memory over the number of atoms, both ways."""
    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    for place, (way, label) in enumerate(
        zip(WAYS, ("default", "recompute"), strict=True)
    ):
        points = values[way]["points"]
        atoms = np.array([point["n_atoms"] for point in points])
        peak = np.array([point["peak_above_weights_MB"] for point in points]) / 1024
        axes.plot(atoms, peak, "o-", color=color(place), label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    shown, gigabytes = (24, 96, 432, 2016), (0.25, 1, 4, 16)
    axes.set_xticks(shown, [str(x) for x in shown], minor=False)
    axes.set_yticks(gigabytes, [str(y) for y in gigabytes], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("atoms of rutile TiO$_2$")
    axes.set_ylabel("memory above the weights (GB)")
    tidy(axes)
    legend_above(axes)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", nargs="+", type=int, default=CELLS, choices=CELLS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--most-GB", type=float, default=16, dest="most_gb")
    parser.add_argument("--without-times", action="store_true", help="busy machine")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        n_atoms, way = options.one
        print(json.dumps(run_point(int(n_atoms), way)))
        return
    values = measure(list(options.atoms), options.threads, options.most_gb)
    if options.without_times:
        for way in WAYS:
            for point in values[way]["points"]:
                del point["cpu_s"]
    if options.plot:
        plot(values, options.plot)
    write_result("memory_forces", values, options.out)


if __name__ == "__main__":
    main()
