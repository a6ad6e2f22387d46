"""Size of a checkpoint, and time to save it in the background and to read it again.

    python benchmarks/checkpoint_speed.py [--sizes nano S L] [--folder DIR]

A checkpoint holds weights, their average and both moments of AdamW, 16 bytes per
parameter. Training stands still while they are copied; the rest is written in the
background. The page cache is warm when they are read. One process on one disk.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from provenance import write_result
from torch import Tensor

from jmp_calc.models.config import SIZES, GraphRules, HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_train.checkpoint import AVERAGE, MODEL, OPTIMIZER, Checkpointer, read_tensors

TASKS = ("oc20", "oc22", "ani1x", "transition1x")


def training_tensors(size: str) -> dict[str, Tensor]:
    """Return what a pre-training run of four tasks with direct forces would save."""
    heads = [
        HeadSpec(
            name=name,
            graph=GraphRules(cutoff=12.0),
            forces="direct",
            has_direct_forces=True,
        )
        for name in TASKS
    ]
    with torch.device("meta"):
        model = JMPModel(replace(SIZES[size], has_direct_forces=True), heads)
    state = {
        MODEL + name: torch.rand(v.shape) for name, v in model.state_dict().items()
    }
    for name, parameter in model.named_parameters():
        state[AVERAGE + name] = torch.rand(parameter.shape)
        for moment in ("exp_avg", "exp_avg_sq"):
            state[f"{OPTIMIZER}{name}.{moment}"] = torch.rand(parameter.shape)
    return state


def measure(size: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Return size and times of a checkpoint of a network."""
    tensors = training_tensors(size)
    checkpointer = Checkpointer(folder, keep=1)
    copying, writing, reading = [], [], []
    for step in range(repeats):
        start = time.perf_counter()
        checkpointer.save(step, {}, tensors)
        copied = time.perf_counter()
        checkpointer.wait()
        written = time.perf_counter()
        path = checkpointer.latest()
        assert path is not None
        read_tensors(path, tensors)
        reading.append(time.perf_counter() - written)
        copying.append(copied - start)
        writing.append(written - copied)
    n_bytes = sum(file.stat().st_size for file in path.iterdir())
    n_parameters = sum(
        tensor.numel() for name, tensor in tensors.items() if name.startswith(AVERAGE)
    )
    values: dict[str, Any] = {
        "n_parameters": n_parameters,
        "n_tensors": len(tensors),
        "bytes": n_bytes,
        "bytes_per_parameter": n_bytes / n_parameters,
    }
    for name, times in (("copy", copying), ("write", writing), ("read", reading)):
        values[f"median_{name}_s"] = statistics.median(times)
        values[f"min_{name}_s"], values[f"max_{name}_s"] = min(times), max(times)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["nano", "S", "L"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="default: for temporary files")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    values = {}
    for size in options.sizes:
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            values[size] = measure(size, folder, options.repeats)
        finally:
            shutil.rmtree(folder)
        print(f"{size:5s} {values[size]['bytes'] / 1e6:8.1f} MB", end="")
        for name in ("copy", "write", "read"):
            print(f"  {name} {values[size][f'median_{name}_s']:.2f} s", end="")
        print()
    write_result(
        "checkpoint_speed", {"repeats": options.repeats, "sizes": values}, options.out
    )


if __name__ == "__main__":
    main()
