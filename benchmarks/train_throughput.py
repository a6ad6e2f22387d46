"""Speed and memory of training: systems per second, peak memory, waiting for data.

    OMP_NUM_THREADS=2 python benchmarks/train_throughput.py [--quick] [--device cuda]

Each case is a process of its own, so that its peak memory is its own, and runs the
trainer as it is: store, loader, graphs, loss, optimizer, moving average. Graphs are not
kept in memory between epochs. Systems are made up, because speed depends on sizes
and densities alone: hexanol (21 atoms, 8 in a batch) and CO on copper (66 atoms, 1 in
a batch). jmp-nano has its own graphs, S the published ones. The loader alone is
measured, too: how many systems a second one process can read and turn into graphs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule
from provenance import write_result

from jmp_calc.models.config import SIZES
from jmp_train.config import DataConfig, OptimConfig, TaskConfig, TrainConfig
from jmp_train.data.batches import build_loader
from jmp_train.data.sample import Sample
from jmp_train.data.store import Store, StoreWriter, store_path
from jmp_train.normalize import StatisticsAccumulator
from jmp_train.plan import TrainingPlan
from jmp_train.progress import StepResult, Watcher
from jmp_train.recipes.nano import GRAPH
from jmp_train.recipes.published import published_task
from jmp_train.trainer import Trainer
from jmp_train.validation import open_dataset

BATCHES = {"molecule": 8, "slab": 1}
"""Systems of a batch."""
_N_SYSTEMS = 64
_SPACING = {"x": 1.27, "z": 0.42}


def hexanol() -> Atoms:
    """Return a straight chain of 21 atoms with typical bond lengths."""
    symbols, positions = [], []
    for k in range(6):
        side = 1 if k % 2 else -1
        x, z = k * _SPACING["x"], side * _SPACING["z"]
        symbols += ["C", "H", "H"]
        positions += [
            (x, 0, z),
            (x, 0.89, z + 0.62 * side),
            (x, -0.89, z + 0.62 * side),
        ]
    symbols += ["H", "O", "H"]
    last = 5 * _SPACING["x"]
    positions += [(-0.89, 0, 0.21), (last + 1.17, 0, -0.38), (last + 1.95, 0, 0.18)]
    return Atoms(symbols, positions)


def copper_slab() -> Atoms:
    """Return CO on four layers of copper, tagged as in OC20."""
    slab = fcc111("Cu", (4, 4, 4), vacuum=8.0)
    layers = slab.get_tags()
    add_adsorbate(slab, molecule("CO"), height=1.9, position="ontop", mol_index=1)
    tags = np.where(np.append(layers, [0, 0]) > 2, 0, 1)
    tags[-2:] = 2
    slab.set_tags(tags)
    return slab


def write_stores(folder: Path, kind: str) -> None:
    """Write rattled copies with made-up labels of plausible size."""
    start = hexanol() if kind == "molecule" else copper_slab()
    tags = start.get_tags() if start.pbc.any() else np.full(len(start), 2)
    for place, (split, n) in enumerate((("train", _N_SYSTEMS), ("val", 1))):
        counted = StatisticsAccumulator()
        with StoreWriter(store_path(folder, kind, split)) as writer:
            for k in range(n):
                generator = np.random.default_rng([place, k])
                noise = generator.normal(0, 0.05, (len(start), 3))
                sample = Sample(
                    numbers=start.numbers,
                    positions=start.positions + noise,
                    cell=start.cell.array.copy(),
                    pbc=start.pbc.copy(),
                    energy=float(generator.normal()) + float(start.numbers.sum()),
                    forces=generator.normal(0, 1, (len(start), 3)),
                    tags=tags,
                    source="made up",
                    group=str(k),
                )
                writer.add(sample)
                counted.add(sample)
            writer.finish(
                {
                    "task": kind,
                    "split": split,
                    "domain": "molecule" if kind == "molecule" else "surface",
                    "level_of_theory": "none",
                    "licence": "none",
                    "coverage": "",
                    "is_default": False,
                    "datasets": [],
                    "statistics": counted.finish().to_json(),
                }
            )


def config_of(case: Mapping[str, Any], folder: Path) -> TrainConfig:
    """Return the run of a case."""
    kind, forces = case["system"], case["forces"]
    model, graph = SIZES[case["model"]], GRAPH
    if case["model"] != "nano":
        graph = published_task("ani1x" if kind == "molecule" else "oc20").graph
    return TrainConfig(
        name="throughput",
        data=DataConfig(
            stores=folder,
            tasks=(TaskConfig(name=kind, graph=graph, forces=forces),),
            batch_systems=BATCHES[kind],
            workers=case["workers"],
        ),
        model=replace(model, has_direct_forces=forces == "direct"),
        optim=OptimConfig(warmup_steps=2),
        out=folder / "run",
        max_steps=case["steps"],
        device=case["device"],
        evaluate_systems=1,
        scale_batches=0,  # fitting takes longer than the steps, and changes no time
        checkpoint_every=10**9,
        evaluate_every=10**9,
        log_every=10**9,
    )


def run_case(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one case gives; the first steps are not counted."""
    found: list[StepResult] = []
    clock: list[float] = []
    memory: dict[str, float] = {}

    def watch(_step: int, _total: int, result: StepResult) -> None:
        found.append(result)
        clock.append(time.process_time())
        memory["peak_memory_GB"] = peak_memory(case["device"])  # before the checkpoint

    with TemporaryDirectory() as name:
        folder = Path(name)
        write_stores(folder, case["system"])
        config = config_of(case, folder)
        if case["is_loader"]:
            return loader_speed(config)
        trainer = Trainer.build(config)
        n_parameters = sum(p.numel() for p in trainer.model.parameters())
        trainer.run(Watcher(on_step=watch))
    counted = found[case["warmup"] :]
    seconds = [result.seconds for result in counted]
    return {
        "n_parameters": n_parameters,
        "steps": len(counted),
        "systems_per_second": BATCHES[case["system"]] / statistics.median(seconds),
        "median_s_per_step": statistics.median(seconds),
        "min_s_per_step": min(seconds),
        "max_s_per_step": max(seconds),
        "median_cpu_s_per_step": statistics.median(
            np.diff(clock)[case["warmup"] - 1 :].tolist()
        ),
        "waiting_share": sum(r.waiting for r in counted) / sum(seconds),
        "skipped_steps": sum(r.is_skipped for r in counted),
        **memory,
    }


def peak_memory(device: str) -> float:
    """Return the largest memory of this process, or on the GPU, in GB."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated() / 1e9)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def loader_speed(config: TrainConfig) -> dict[str, Any]:
    """Return how many systems a second are read and made into batches of graphs."""
    dataset = open_dataset(config, "train")
    plan = TrainingPlan(dataset, config)
    steps = plan.steps_from(0, 0)
    batches = [
        batch for _, _, step in islice(steps, config.max_steps) for batch in step
    ]
    loader = iter(build_loader(dataset, batches, workers=config.data.workers))
    next(loader)  # processes start, files open
    start = time.perf_counter()
    n_systems = sum(batch.n_systems for batch in loader)
    seconds = time.perf_counter() - start
    record = len(
        Store(
            store_path(config.data.stores, config.data.tasks[0].name, "train")
        ).record(0)
    )
    return {"systems_per_second": n_systems / seconds, "bytes_per_record": record}


def cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return all cases; quick ones are those of nano without processes."""
    found = []
    models = ("nano",) if options.quick else ("nano", "S")
    systems = ("molecule",) if options.quick else ("molecule", "slab")
    for model, system in product(models, systems):
        shared = {"model": model, "system": system, "device": options.device}
        n = 4 if model == "S" else options.steps
        for forces, workers in product(("direct", "gradient"), (0, 2)):
            case = {"forces": forces, "workers": workers, "steps": n + 2, "warmup": 2}
            found.append(shared | case | {"is_loader": False})
        for workers in (0, 2):
            case = {"forces": "gradient", "workers": workers, "steps": 24, "warmup": 1}
            found.append(shared | case | {"is_loader": True})
    return found


def measured(case: Mapping[str, Any]) -> dict[str, Any]:
    """Run a case in a process of its own."""
    load = os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(case)],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    found = {"error": done.stderr.strip().splitlines()[-1:]}
    if done.returncode == 0 and lines:
        found = json.loads(lines[-1])
    return {**case, "load_before": round(load, 2), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Nano and molecules only.")
    parser.add_argument("--steps", type=int, default=10, help="Steps of nano.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(json.loads(options.case))))
        return
    results = []
    for case in cases(options):
        result = measured(case)
        results.append(result)
        what = "loader" if case["is_loader"] else f"{case['forces']} forces"
        speed = result.get("systems_per_second", float("nan"))
        print(
            f"{case['model']:5s} {case['system']:9s} {what:16s} "
            f"{case['workers']} workers {speed:9.3g} systems/s  "
            f"waiting {100 * result.get('waiting_share', 0):5.1f} %  "
            f"{result.get('peak_memory_GB', 0):5.2f} GB  {result.get('error', '')}",
            flush=True,
        )
    values = {
        "cores": os.cpu_count(),
        "note": "load_before is the mean number of busy processes before the case; "
        "where others shared the cores, times are too long, and cpu_s (processor time "
        "of all threads of the training process) says more",
        "batch_systems": BATCHES,
        "cases": results,
    }
    write_result("train_throughput", values, options.out)


if __name__ == "__main__":
    main()
