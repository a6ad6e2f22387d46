"""What stores, sizes and the order of samples take at the size of pre-training.

    python benchmarks/data_scale.py STORE ... [--shrink 1]

STOREs are folders that ``jmp-train data prepare`` wrote; their bytes per system and per
atom are measured. The plan of an epoch is then made for sets of the published sizes
(divided by --shrink) with made-up numbers of atoms and pairs, in a process of its own
whose memory is its peak.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from provenance import write_result

from jmp_calc.models.config import GraphRules
from jmp_train.config import DataConfig, TaskConfig, TrainConfig
from jmp_train.data.store import Store
from jmp_train.plan import TrainingPlan

SETS = {
    "oc20": (100_000_000, 73),
    "oc22": (8_000_000, 80),
    "ani1x": (2_000_000, 15),
    "transition1x": (10_000_000, 14),
}
"""Systems as the paper counts them, and mean atoms."""
_PAIRS_PER_ATOM = 20
_LATE_STEP = 1000


def store_values(path: Path) -> dict[str, Any]:
    """Return how large a store is, its records alone and with what LMDB adds."""
    store = Store(path)
    n_atoms = np.asarray(store.n_atoms, dtype=np.int64)
    records = np.array([len(store.record(i)) for i in range(len(store))])
    files = sum(file.stat().st_blocks * 512 for file in path.rglob("*.lmdb*"))
    slope, rest = (0.0, float(records.mean()))
    if n_atoms.min() < n_atoms.max():
        slope, rest = np.polyfit(n_atoms, records, 1)
    return {
        "n_systems": len(store),
        "mean_atoms": float(n_atoms.mean()),
        "mean_record_bytes": float(records.mean()),
        "record_bytes_per_atom": float(slope),
        "record_bytes_per_system": float(rest),
        "shard_bytes_per_system": files / len(store),
        "index_bytes_per_system": store.n_atoms.itemsize + store.n_pairs.itemsize,
    }


class _Sizes:
    """Stands for a dataset of which only the sizes of samples are known."""

    def __init__(self, shrink: int) -> None:
        generator = np.random.default_rng(0)
        self.sizes = [n // shrink for n, _ in SETS.values()]
        self.n_atoms = np.concatenate(
            [
                generator.integers(mean // 2, 3 * mean // 2, n, dtype=np.int32)
                for n, (_, mean) in zip(self.sizes, SETS.values(), strict=True)
            ]
        )
        self.n_pairs = _PAIRS_PER_ATOM * self.n_atoms

    def mean_pairs(self) -> list[float]:
        return [float(_PAIRS_PER_ATOM * mean) for _, mean in SETS.values()]

    def costs(self, samples: Any, *, max_atoms: int, **_: Any) -> Any:
        return self.n_atoms[samples] / max_atoms


def plan_values(shrink: int, *, is_packed: bool) -> dict[str, Any]:
    """Return time and memory of the plan of an epoch."""
    data = DataConfig(
        stores=Path("stores"),
        tasks=tuple(
            TaskConfig(name=name, graph=GraphRules(cutoff=12.0)) for name in SETS
        ),
        batch_systems=None if is_packed else 4,
        batches_per_step=8,
    )
    config = TrainConfig(name="scale", data=data, out=Path("run"), max_steps=1)
    sizes = _Sizes(shrink)
    before = _peak_bytes()
    plan = TrainingPlan(sizes, config)  # type: ignore[arg-type]
    start = time.perf_counter()
    steps = plan.epoch_steps(0)
    next(steps)
    first = time.perf_counter()
    for _ in range(_LATE_STEP):
        next(steps)
    return {
        "n_samples": plan.mixture.epoch_length,
        "bytes_of_sizes": sizes.n_atoms.nbytes + sizes.n_pairs.nbytes,
        "peak_bytes_without_plan": before,
        "peak_bytes": _peak_bytes(),
        "first_step_s": first - start,
        "next_steps_ms": 1000 * (time.perf_counter() - first) / _LATE_STEP,
    }


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", type=Path, nargs="*")
    parser.add_argument("--shrink", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--plan", choices=["packed", "published"], help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.plan:
        found = plan_values(options.shrink, is_packed=options.plan == "packed")
        print(json.dumps(found))
        return
    values: dict[str, Any] = {
        "stores": {path.name: store_values(path) for path in options.stores},
        "shrink": options.shrink,
        "plans": {},
    }
    for kind in ("published", "packed"):
        words = [sys.executable, __file__, "--plan", kind, "--shrink", options.shrink]
        output = subprocess.run(
            list(map(str, words)), check=True, capture_output=True, text=True
        ).stdout
        values["plans"][kind] = json.loads(output)
    print(json.dumps(values, indent=2))
    write_result("data_scale", values, options.out)


if __name__ == "__main__":
    main()
