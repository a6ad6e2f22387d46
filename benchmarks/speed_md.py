"""Time of one molecular dynamics step of jmp-nano: energy, forces, graph, integrator.

    python benchmarks/speed_md.py [--steps 50] [--repeats 5]

Each repeat is a run of its own after a warm-up of 5 steps; the spread is that of the
repeats.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from ase import units
from ase.io import read
from ase.md.verlet import VelocityVerlet
from provenance import write_result

from jmp_calc import JMPCalculator

EXAMPLES = Path(__file__).parents[1] / "examples"


def seconds_per_step(name: str, dtype: str, steps: int) -> float:
    """Return the mean time of a step of one run."""
    atoms = read(EXAMPLES / f"{name}.xyz")
    atoms.calc = JMPCalculator("jmp-nano", dtype=dtype)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    dynamics.run(5)
    start = time.perf_counter()
    dynamics.run(steps)
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    values = {}
    for name in ("methane", "ethanol", "cu_slab_co", "water_box"):
        n_atoms = len(read(EXAMPLES / f"{name}.xyz"))
        for dtype in ("float32", "float64"):
            times = [
                1000 * seconds_per_step(name, dtype, options.steps)
                for _ in range(options.repeats)
            ]
            values[f"{name}, {dtype}"] = {
                "n_atoms": n_atoms,
                "median_ms_per_step": statistics.median(times),
                "min_ms_per_step": min(times),
                "max_ms_per_step": max(times),
            }
            print(f"{name:12s} {dtype} {statistics.median(times):8.1f} ms/step")
    write_result("speed_md", {"repeats": options.repeats, "runs": values}, options.out)


if __name__ == "__main__":
    main()
