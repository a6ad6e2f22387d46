"""What processes do with checkpoints in tests: each a function for spawning."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from jmp_calc.errors import CheckpointError
from jmp_train.checkpoint import Checkpointer, read_facts, read_tensors


def whole_tensors() -> dict[str, Tensor]:
    """Five rows do not divide evenly, and two leave processes without any."""
    generator = torch.Generator().manual_seed(5)
    return {
        "replicated": torch.randn(300, generator=generator),
        "replicated too": torch.randn(200, generator=generator),
        "sharded": torch.randn(5, 4, generator=generator),
        "short": torch.randn(2, 3, generator=generator),
    }


def cut(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Divide all but the replicated one over the processes."""
    mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
    return {
        name: value
        if name.startswith("replicated")
        else distribute_tensor(value, mesh, [Shard(0)])
        for name, value in tensors.items()
    }


def save_cut(rank: int, folder: Path) -> None:
    """Save one checkpoint from all processes, its facts from the first."""
    checkpointer = Checkpointer(folder, keep=1)
    checkpointer.save(1, {"rank": rank}, cut(whole_tensors()))
    checkpointer.wait()


def load_cut(rank: int, folder: Path, results: Path) -> None:
    """Read a checkpoint into shards, and tell whether they are right."""
    path = folder / "step-00000001"
    found = cut({k: torch.zeros_like(v) for k, v in whole_tensors().items()})
    read_tensors(path, found)
    right = {
        name: bool(
            (value.full_tensor() if isinstance(value, DTensor) else value).equal(
                whole_tensors()[name]
            )
        )
        for name, value in found.items()
    }
    facts = {"right": right, "facts": read_facts(path)}
    (results / f"loaded-{rank}.json").write_text(json.dumps(facts))


def fail_in_one(rank: int, folder: Path, results: Path) -> None:
    """Fill the disk of the second process only, and tell what either hears."""
    checkpointer = Checkpointer(folder, keep=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    tensors = {str(i): torch.zeros(50_000) for i in range(4)}
    checkpointer.save(2, {}, tensors)
    try:
        checkpointer.wait()
        text = "nothing"
    except CheckpointError as error:
        text = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (results / f"heard-{rank}.json").write_text(json.dumps(text))
    # The processes are still in step, and the next checkpoint is written.
    checkpointer.save(3, {}, cut(whole_tensors()))
    checkpointer.wait()


def save_load_and_fail(rank: int, folder: Path, alone: Path, results: Path) -> None:
    """All of the above in one pair of processes, which take seconds to start."""
    save_cut(rank, folder)
    load_cut(rank, alone, results)
    fail_in_one(rank, results / "failing", results)
