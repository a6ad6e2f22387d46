"""Many structures shared out among the processes of torch.distributed.

For screening on several GPUs or machines, one process each. ``torchrun`` starts them:

    # screen.py; torchrun --nproc-per-node 4 screen.py
    with processes() as device:
        calculator = JMPCalculator("jmp-large", device=device)
        results = compute_together(calculator.evaluate, read("all.xyz", ":"))
        if results is not None:  # the first process
            ...

Results travel as numpy arrays in the memory of the host, by gloo, also where the work
is done on GPUs. Replicas of dynamics need no communication: ``jmp-md run --workers``
gives each process (with ``--device cuda`` each GPU) runs of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from ase import Atoms

from jmp_calc.errors import ArgumentError, JMPError

PATIENCE = timedelta(days=30)
"""How long a process that is done waits for the others; torch would end all after half
an hour, and their work be lost."""

T = TypeVar("T")


@contextmanager
def processes() -> Iterator[str]:
    """Join the processes that ``torchrun`` has started, inside a block.

    Gives the device of this process: "cuda:N" with the number among the processes of
    its machine, or "cpu" where there is no CUDA.

    Raises:
        ArgumentError: If it was not started by torchrun, or there are more processes
            than GPUs on this machine.
    """
    if "LOCAL_RANK" not in os.environ:
        raise ArgumentError(
            "this process was not started with others; run the script by torchrun "
            "--nproc-per-node N script.py"
        )
    rank, n_devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if n_devices and rank >= n_devices:
        raise ArgumentError(
            f"process {rank} of this machine has no GPU: there are {n_devices}; start "
            f"torchrun with --nproc-per-node {n_devices}"
        )
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield f"cuda:{rank}" if n_devices else "cpu"
    finally:
        dist.destroy_process_group()


def compute_together(
    compute: Callable[[list[Atoms]], Sequence[T]],
    list_of_atoms: Sequence[Atoms],
    *,
    group: Any = None,
) -> list[T] | None:
    """Compute each structure in one of the processes; all of them must call this.

    Process r of n takes structures r, r + n, r + 2 n, ... so that lists sorted by size
    are shared out evenly.

    Args:
        compute: Computes some structures, such as ``Predictor.predict`` or
            ``JMPCalculator.evaluate``; results in order.
        list_of_atoms: All structures, the same in each process.
        group: Processes of torch.distributed that can exchange objects on the CPU
            (gloo); None: all.

    Returns:
        In the first process of the group the results of all structures in order, in the
        others None.

    Raises:
        ArgumentError: If there is no group of processes.
        JMPError: In every process, where one of them cannot compute its part. An error
            of another kind is told in the others by its type and text, and raised as
            it is in its own.
    """
    if not dist.is_initialized():
        raise ArgumentError(
            "there are no processes to share the work out to; enter "
            "jmp_calc.calculator.distributed.processes() first"
        )
    rank, n = dist.get_rank(group), dist.get_world_size(group)
    frames = list(list_of_atoms)
    results: list[T] = []
    problem: JMPError | None = None
    own: Exception | None = None
    place = f"its list is {rank}, {rank + n}, {rank + 2 * n}, ... of all"
    try:
        results = list(compute(frames[rank::n]))
    except JMPError as error:
        # the others wait for this process, and are told
        error.add_note(place)
        problem = error
    except Exception as error:  # noqa: BLE001 (raised below, once all are told)
        error.add_note(place)
        own = error
        # others might not be able to unpickle it
        problem = JMPError(f"process {rank} failed: {type(error).__name__}: {error}")
        problem.add_note(place)
    problems: list[JMPError | None] = [None] * n
    dist.all_gather_object(problems, problem, group=group)
    if own is not None:
        raise own
    for found in problems:
        if found is not None:
            raise found
    parts: list[list[T]] | None = [[]] * n if rank == 0 else None
    dist.gather_object(results, parts, group=group, group_dst=0)
    if parts is None:
        return None
    return [parts[k % n][k // n] for k in range(len(frames))]
