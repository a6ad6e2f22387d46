"""A function in several processes of torch.distributed on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing


def run_processes(
    n: int, function: Callable[..., None], *arguments: object, folder: Path
) -> None:
    """Call ``function(rank, *arguments)`` in processes of one gloo group.

    The function belongs to a module, because the processes import it.
    """
    meeting = folder / f"meeting-of-{n}"
    torch.multiprocessing.spawn(_enter, (n, meeting, function, arguments), nprocs=n)


def _enter(
    rank: int,
    n: int,
    meeting: Path,
    function: Callable[..., None],
    arguments: tuple[object, ...],
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=n
    )
    try:
        function(rank, *arguments)
    finally:
        dist.destroy_process_group()
