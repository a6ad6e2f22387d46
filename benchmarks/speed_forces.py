"""How long do energy and forces take, how near is that to the floor, what memory?

    python benchmarks/speed_forces.py [--cases S-molecule-gradient ...] [--threads 2]
    python benchmarks/speed_forces.py --vs mymodule:make_calculator

The floor is the time of the products of the network with its own weights (the weights
themselves, as many rows, forward and, for gradient forces, backward to the inputs; no
angular contractions, no graph, no activations), run back to back in the same process
by ``torch.mm``; the efficiency is floor / time. It holds across machines. Where the
network keeps weights in a layout that makes products faster, the floor of such
products is given beside it. Structures are those of the published measurements:
aspirin (21 atoms; 8 angstrom and 30 neighbours for direct forces, 7 and 100 for
gradient forces) and a 96-atom cell of rutile (12 angstrom, 30 neighbours); jmp-nano
with its own rules. Weights of S and L are random. Graph building is part of the time,
anew in each evaluation. Freed memory stays with the process, as in ``jmp-md``.

Each case runs in processes of its own, three where it is short, and the median of
their times counts. Memory is the peak of that process above what it
had with the model loaded. ``--vs`` names a function that returns any ASE calculator, to
be timed on the same structures in turn with jmp-nano, by ``atoms.get_forces()`` on
atoms that move a little (others may compute stress in the same call).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import read
from ase.spacegroup import crystal
from provenance import write_result
from torch.utils._python_dispatch import TorchDispatchMode

from jmp_calc import JMPCalculator, keep_freed_memory
from jmp_calc.graph.rules import GraphRules
from jmp_calc.models.config import SIZES, HeadSpec
from jmp_calc.models.frozen.block import Weights
from jmp_calc.models.frozen.products import packed, product
from jmp_calc.models.jmp import JMPModel

EXAMPLES = Path(__file__).parents[1] / "examples"
RULES = {
    ("molecule", "direct"): {"cutoff": 8.0, "max_neighbors": 30, "is_periodic": False},
    ("molecule", "gradient"): {
        "cutoff": 7.0,
        "max_neighbors": 100,
        "is_periodic": False,
    },
    ("cell", "direct"): {"cutoff": 12.0, "max_neighbors": 30, "is_periodic": True},
    ("cell", "gradient"): {"cutoff": 12.0, "max_neighbors": 30, "is_periodic": True},
}
"""Graph rules of S and L by structure and kind of forces."""


def structure(name: str) -> Atoms:
    """Return one of the structures by name."""
    if name == "molecule":
        with np.load(EXAMPLES / "aspirin_rmd17.npz") as frames:
            return Atoms(frames["nuclear_charges"], frames["coords"][0])
    if name == "cell":
        rutile = crystal(
            ["Ti", "O"],
            basis=[(0, 0, 0), (0.305, 0.305, 0)],
            spacegroup=136,
            cellpar=[4.594, 4.594, 2.959, 90, 90, 90],
        )
        atoms = rutile * (2, 2, 4)
        # no ties between distances, as in dynamics
        atoms.rattle(0.02, seed=0)
        return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    return read(EXAMPLES / f"{name}.xyz")


def calculator(size: str, name: str, forces: str, dtype: str) -> JMPCalculator:
    """Return a calculator of a size: jmp-nano, or S and L with random weights."""
    if size == "nano":
        head = "pbe" if name == "cell" else "qm7x"
        return JMPCalculator("jmp-nano", head=head, dtype=dtype)
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
    return JMPCalculator(model, head="task", dtype=dtype)


PRODUCTS = (
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.addmm_.default,
)


class Products(TorchDispatchMode):
    """Records all matrix products with a weight: number of rows, and the weight.

    Products of the forward pass that are made again in the backward pass, to save
    memory, are not counted: they are no part of what has to be done.
    """

    def __init__(self, model: JMPModel) -> None:
        super().__init__()
        # blocks of the form for inference keep their weights as buffers
        weights = [*model.parameters(), *model.buffers()]
        self._weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self._ways: dict[tuple[int, int], bool] = {}
        self.found: list[tuple[int, torch.Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in PRODUCTS:
            left, right = args[-2:]
            is_weight = right.untyped_storage().data_ptr() in self._weights
            # in the backward pass a weight is transposed against the forward pass
            way = right.is_contiguous()
            key = right.untyped_storage().data_ptr(), right.storage_offset()
            is_backward = torch._C._current_graph_task_id() != -1
            if is_weight and not is_backward:
                self._ways[key] = way
            if is_weight and not (is_backward and self._ways.get(key) == way):
                self.found.append((left.shape[0], right))
        return func(*args, **(kwargs or {}))


def best(work: Callable[[], Any], seconds: float, least: int = 3) -> dict[str, float]:
    """Return the least wall and processor time of a repeated piece of work, s."""
    walls, cpus = [], []
    begin = time.perf_counter()
    while len(walls) < least or time.perf_counter() - begin < seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall": min(walls), "cpu": min(cpus)}


def products(atoms: Atoms, calc: JMPCalculator) -> list[tuple[int, torch.Tensor]]:
    """Return the number of rows and the weight of all products with weights.

    The network has plain weights afterwards.
    """
    calc.model.cpu()  # what moves is unpacked
    with Products(calc.model) as seen:
        calc.calculate(atoms, ["energy", "forces"])
    return seen.found


def multiply(
    found: list[tuple[int, torch.Tensor]], *, is_packed: bool = False
) -> Callable[[], None]:
    """Return work that does nothing but these products.

    Args:
        found: Number of rows and weight of each.
        is_packed: With weights as the network keeps them, instead of ``torch.mm``.
    """
    left = {
        (rows, weight.shape[0]): torch.randn(rows, weight.shape[0], dtype=weight.dtype)
        for rows, weight in found
    }
    packs = {id(w): packed(w, transposed=False) if is_packed else w for _, w in found}
    todo = [(left[rows, w.shape[0]], packs[id(w)]) for rows, w in found]

    def work() -> None:
        for x, weight in todo:
            product(x, weight)

    return work


def nbytes_of_weights(model: JMPModel) -> int:
    """Return the bytes of all weights, in whatever layout."""
    plain = sum(weight.nbytes for weight in (*model.parameters(), *model.buffers()))
    return plain + sum(m.nbytes() for m in model.modules() if isinstance(m, Weights))


def product_rate(dtype: torch.dtype) -> float:
    """Return the rate of a large matrix product, GFLOP/s, for comparing machines."""
    a, b = torch.randn(2, 2000, 1000, dtype=dtype).unbind()
    took = best(lambda: torch.mm(a, b.T), 1.0)["wall"]
    return 2e-9 * 2000 * 2000 * 1000 / took


def peak_memory() -> float:
    """Return the peak memory of this process since the last reset, MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_case(case: str, dtype: str, seconds: float) -> dict[str, Any]:
    """Return time, floor and memory of one case."""
    size, name, forces = case.split("-")
    atoms, calc = structure(name), calculator(size, name, forces, dtype)
    generator = np.random.default_rng(0)

    def evaluate() -> None:
        moved = atoms.copy()
        moved.positions += 1e-4 * generator.standard_normal(moved.positions.shape)
        # each graph is made anew, unlike in dynamics
        calc.evaluate([moved], ["energy", "forces"])

    # what imports, loading and first calls leave behind is not the memory of the case
    calculator("nano", "ethanol", "gradient", dtype).calculate(
        structure("ethanol"), ["energy", "forces"]
    )
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    first = time.perf_counter()
    evaluate()
    first = time.perf_counter() - first
    took = best(evaluate, seconds)
    peak = peak_memory()
    weights_MB = nbytes_of_weights(calc.model) / 2**20
    found = products(atoms, calc)
    floor = best(multiply(found), seconds / 3)
    floor_packed = best(multiply(found, is_packed=True), seconds / 3)
    return {
        "n_atoms": len(atoms),
        "first_s": first,
        "time_s": took["wall"],
        "floor_s": floor["wall"],
        "efficiency": floor["wall"] / took["wall"],
        "floor_packed_s": floor_packed["wall"],
        "cpu_s": took["cpu"],
        "floor_cpu_s": floor["cpu"],
        "efficiency_cpu": floor["cpu"] / took["cpu"],
        "peak_of_process_MB": peak,
        "peak_above_weights_MB": peak - before,
        "weights_MB": weights_MB,
    }


def median_of_processes(command: list[str]) -> dict[str, Any]:
    """Run a case in three processes and return what the one of median time found.

    Where arrays happen to lie in memory changes times by several percent. One process
    is enough where an evaluation takes seconds.
    """
    found: list[dict[str, Any]] = []
    while len(found) < 3 and not (found and found[0]["time_s"] > 1):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    found.sort(key=lambda one: one["time_s"])
    return found[len(found) // 2]


def compare(names: list[str], dtype: str, seconds: float) -> dict[str, Any]:
    """Time jmp-nano and other calculators in turn on the same structures."""
    values: dict[str, Any] = {}
    for system in ("ethanol", "molecule", "cell"):
        atoms = structure(system)
        if not atoms.pbc.any():
            atoms.center(vacuum=10)  # some cannot do without a cell
        calcs = {"jmp-nano": calculator("nano", system, "gradient", dtype)}
        for name in names:
            module, _, function = name.partition(":")
            calcs[function] = getattr(importlib.import_module(module), function)()
        times: dict[str, list[float]] = {name: [] for name in calcs}
        # in turn, so that whatever else the machine does meets all of them
        for turn in range(4):
            for name, calc in calcs.items():
                moved = atoms.copy()
                moved.calc = calc

                def step(moved: Atoms = moved) -> None:
                    moved.rattle(1e-4, rng=np.random.default_rng())
                    moved.get_forces()

                step()
                took = best(step, seconds / 4)["wall"]
                if turn:  # the first is for warming up
                    times[name].append(took)
        values[system] = rates = {name: 1 / min(took) for name, took in times.items()}
        fastest = max(rate for name, rate in rates.items() if name != "jmp-nano")
        for name, rate in rates.items():
            print(f"{system:10s} {name:20s} {rate:8.2f} evaluations/s", flush=True)
        print(f"{system:10s} ratio {rates['jmp-nano'] / fastest:.2f}", flush=True)
    return values


CASES = tuple(
    f"{size}-{name}-{forces}"
    for size in ("S", "L")
    for name in ("molecule", "cell")
    for forces in ("direct", "gradient")
) + tuple(f"nano-{name}-gradient" for name in ("ethanol", "molecule", "cell"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--vs", nargs="+", default=[], metavar="MODULE:FUNCTION")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # for all calculators alike
    if options.one:
        print(json.dumps(run_case(options.one, options.dtype, options.seconds)))
        return
    rate = product_rate(getattr(torch, options.dtype))
    values: dict[str, Any] = {
        "dtype": options.dtype,
        "product_GFLOP_per_s": rate,
        "cases": {},
    }
    print(f"products of large matrices: {rate:.0f} GFLOP/s")
    for case in options.cases if not options.vs else ():
        command = [sys.executable, __file__, "--one", case]
        for name in ("threads", "dtype", "seconds"):
            command += [f"--{name}", str(getattr(options, name))]
        found = median_of_processes(command)
        values["cases"][case] = found
        print(
            f"{case:24s} {found['time_s']:8.3f} s  floor {found['floor_s']:8.3f} s  "
            f"({found['floor_packed_s']:.3f} packed)  "
            f"efficiency {found['efficiency']:.2f} (cpu {found['efficiency_cpu']:.2f})"
            f"  memory {found['peak_above_weights_MB']:7.0f} MB",
            flush=True,
        )
    if options.vs:
        found = compare(options.vs, options.dtype, options.seconds)
        values = {"dtype": options.dtype, "evaluations_per_s": found}
    write_result("speed_vs" if options.vs else "speed_forces", values, options.out)


if __name__ == "__main__":
    main()
