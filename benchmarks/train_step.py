"""What does a training step take, beside the enumerated network of the tests?

    OMP_NUM_THREADS=2 python benchmarks/train_step.py [--batch 8] [--threads 2]

One step of S with gradient forces on aspirin (21 atoms, 7 angstrom and 100 neighbours,
published rules, random weights, float32): the loss of the trainer on energies and
forces, and its derivative by all weights. The other form computes the same numbers
from lists of triplets and quadruplets, layer by layer (``tests/oracle/network.py``).
Both share the loss, the heads and the graphs, which are made before; index lists of the
enumerated form are made before, too. That they agree is asserted first, in float64 on
a small network.

Each form runs in processes of its own, in turn. Memory is the peak of the process above
what it had with the weights loaded; gradients of the weights are part of it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from provenance import write_result
from speed_forces import EXAMPLES, best, peak_memory
from torch import Tensor

from jmp_calc.graph.batch import collate
from jmp_calc.graph.build import build_graph
from jmp_calc.graph.rules import GraphRules
from jmp_calc.models.config import NANO, SIZES, HeadSpec, ModelConfig
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import DataConfig, TaskConfig, TrainConfig
from jmp_train.data.batches import TrainingBatch
from jmp_train.normalize import TaskStatistics
from jmp_train.objective import Divisors, Objective

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracle.network import EnumeratedNetwork

RULES = GraphRules(
    rules="published",
    cutoff=7.0,
    max_neighbors=100,
    atom_edge_cutoff=None,
    radial_cutoff=12.0,
    atom_atom_cutoff=12.0,
    is_periodic=False,
)
FORMS = ("factorised", "enumerated")
EXACT = 1e-10
"""Largest difference in float64, relative to the largest magnitude."""
ROUNDING = 1e-3
"""Largest relative difference of the loss and of the gradient's norm in float32."""


def frames(n: int) -> list[Atoms]:
    """Return frames of aspirin, as often as needed."""
    with np.load(EXAMPLES / "aspirin_rmd17.npz") as data:
        found = data["coords"]
        numbers = data["nuclear_charges"]
        return [Atoms(numbers, found[k % len(found)]) for k in range(n)]


def training_batch(systems: list[Atoms], rules: GraphRules) -> TrainingBatch:
    """Return systems with made-up labels."""
    graph = collate([build_graph(atoms, rules) for atoms in systems])
    n, n_atoms = graph.n_systems, graph.n_atoms
    generator = torch.Generator().manual_seed(0)
    double = {"dtype": torch.float64}
    yes, no = torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    return TrainingBatch(
        graph=graph,
        head=["task"] * n,
        energy=torch.randn(n, generator=generator, **double),
        forces=torch.randn((n_atoms, 3), generator=generator, **double),
        stress=torch.full((n, 3, 3), torch.nan, **double),
        target=torch.full((n,), torch.nan, **double),
        has_energy=yes,
        has_forces=yes,
        has_stress=no,
        has_target=no,
        n_atoms=torch.bincount(graph.system_index),
        is_fixed=torch.zeros(n_atoms, dtype=torch.bool),
        index=torch.arange(n),
    )


def network(config: ModelConfig) -> JMPModel:
    """Return a network with random weights for training."""
    torch.manual_seed(0)
    spec = HeadSpec(name="task", graph=RULES, forces="gradient")
    return JMPModel(config, [spec]).train()


def step_of(model: JMPModel, batch: TrainingBatch) -> Callable[[], float]:
    """Return the trainer's loss of a batch and its derivatives, as a function."""
    task = TaskConfig(name="task", graph=RULES, forces="gradient")
    config = TrainConfig(
        name="step",
        data=DataConfig(stores=Path("."), tasks=(task,)),
        model=model.config,
        out=Path("."),
    )
    n_atoms = batch.graph.n_atoms
    statistics = TaskStatistics(
        references={},
        energy_std=1.0,
        force_rms=1.0,
        mean_atoms=n_atoms / batch.n_systems,
        n_systems=batch.n_systems,
        n_atoms=n_atoms,
        elements=(),
    )
    objective = Objective(model, config, {"task": statistics})
    divisors = Divisors(systems=batch.n_systems, atoms=n_atoms)

    def step() -> float:
        model.zero_grad(set_to_none=True)
        loss: Tensor = objective(batch, divisors)[0]
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    return step


def gradients_of(model: JMPModel) -> dict[str, Tensor]:
    """Return the derivatives by the weights that take part."""
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def gradient_norm(model: JMPModel) -> float:
    """Return the norm of the derivative by all weights."""
    squares = [gradient.square().sum() for gradient in gradients_of(model).values()]
    return float(torch.stack(squares).sum().sqrt())


def check_agreement() -> float:
    """Return the largest relative difference of both forms on a small network.

    Raises:
        AssertionError: If they do not compute the same.
    """
    config = replace(NANO, rules="published", num_blocks=1)
    model = network(config).double()
    batch = training_batch([molecule("CH3CH2OH")], RULES)
    found: list[dict[str, Tensor]] = []
    for form in (model, EnumeratedNetwork(model, batch.graph)):
        loss = step_of(form, batch)()
        gradients = {
            n: p.grad for n, p in form.named_parameters() if p.grad is not None
        }
        found.append({"loss": torch.tensor(loss), **gradients})
    worst = 0.0
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        scale = value.abs().max()
        if scale > 0:
            difference = (value - found[1][name]).abs().max() / scale
            worst = max(worst, float(difference))
    assert worst < EXACT, worst
    return worst


def run_form(form: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return time and memory of the step of one form."""
    model = network(SIZES[options.model])
    batch = training_batch(frames(options.batch), RULES)
    small = training_batch([molecule("H2O")], RULES)
    step = step_of(model, batch)
    if form == "enumerated":
        # what first calls leave behind is not the memory of the step
        step_of(EnumeratedNetwork(model, small.graph), small)()
        model = EnumeratedNetwork(model, batch.graph)
        step = step_of(model, batch)
    else:
        step_of(model, small)()
    model.zero_grad(set_to_none=True)
    # freed memory of what came before would hide that of the step
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    loss = step()
    took = best(step, 0, least=options.steps)
    return {
        "peak_above_weights_MB": peak_memory() - before,
        "wall_s": took["wall"],
        "cpu_s": took["cpu"],
        "loss": loss,
        "gradient_norm": gradient_norm(model),
        "n_edges": batch.graph.main.n_edges,
        "weights_MB": sum(p.nbytes for p in model.parameters()) / 2**20,
        **(
            {"n_quadruplets": model.topology.quadruplets.shape[1]}
            if isinstance(model, EnumeratedNetwork)
            else {}
        ),
    }


def run_in_turn(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Run both forms in processes of their own, and keep the best of each."""
    found: dict[str, dict[str, Any]] = {}
    for form in FORMS * options.rounds:
        command = [sys.executable, __file__, "--one", form]
        for name in ("threads", "batch", "steps", "model"):
            command += [f"--{name}", str(getattr(options, name))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{form}: {done.stderr or 'killed: out of memory?'}")
        new = json.loads(done.stdout.splitlines()[-1])
        old = found.get(form, new)
        for name in ("wall_s", "cpu_s"):
            new[name] = min(new[name], old[name])
        name = "peak_above_weights_MB"
        new[name] = max(new[name], old[name])
        found[form] = new
        print(
            f"{form:12s} {new['wall_s']:7.2f} s (cpu {new['cpu_s']:7.2f} s)  "
            f"{new['peak_above_weights_MB']:7.0f} MB  loss {new['loss']:.6g}",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8, help="Molecules of a step.")
    parser.add_argument("--model", default="S", choices=SIZES)
    parser.add_argument("--steps", type=int, default=3, help="Best of so many steps.")
    parser.add_argument("--rounds", type=int, default=1, help="Processes of each form.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=FORMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(run_form(options.one, options)))
        return
    worst = check_agreement()
    print(f"both forms agree within {worst:.1e} in float64 (a small network)")
    found = run_in_turn(options)
    mine, other = (found[form] for form in FORMS)
    for name in ("loss", "gradient_norm"):
        assert abs(mine[name] / other[name] - 1) < ROUNDING, (name, mine, other)
    ratios = {
        name: mine[key] / other[key]
        for name, key in (
            ("wall", "wall_s"),
            ("cpu", "cpu_s"),
            ("memory", "peak_above_weights_MB"),
        )
    }
    for name, ratio in ratios.items():
        print(f"{name:8s} {100 * ratio:5.1f} % of the enumerated form")
    values = {
        "model": options.model,
        "batch_systems": options.batch,
        "dtype": "float32",
        "largest_difference_float64": worst,
        "forms": found,
        "ratio": ratios,
    }
    write_result("train_step", values, options.out)


if __name__ == "__main__":
    main()
