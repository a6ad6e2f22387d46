"""Is there memory for what is to be computed: asked before, and told after.

On Linux a process that takes more memory than there is gets killed without a word. So
the need is estimated: where it is large, blocks of the network are computed again for
the derivative rather than kept, and what cannot fit is refused.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.graph.batch import GRAPHS, AtomGraph
from jmp_calc.models.footprint import Footprint
from jmp_calc.models.jmp import JMPModel

_ALWAYS_FITS = 2**28
"""Bytes that are not worth looking for."""

_CERTAIN = 0.8
"""Part of an estimate that is needed in any case."""

T = TypeVar("T")

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def must_recompute(model: JMPModel, graph: AtomGraph, *, always: bool = False) -> bool:
    """Return whether blocks are to be computed again for the derivative.

    Args:
        model: The network, on the device that does the work.
        graph: One system or a batch.
        always: Whether the user wants it in any case.

    Raises:
        UnsupportedSystemError: If there is clearly too little memory even then.
    """
    need = Footprint.of(graph, model.config, model.dtype)
    if (need.recomputing if always else need.keeping) <= _ALWAYS_FITS:
        return always
    device = next(model.parameters()).device
    free = free_memory(device)
    if free is None:
        return always
    least = min(need.keeping, need.recomputing)
    if least * _CERTAIN > free:
        raise UnsupportedSystemError(
            f"energy and gradient forces of {size_of(graph)} need about "
            f"{_in_gb(least)} GB of memory, and {_in_gb(free)} GB of "
            f"{device} are free; use a smaller structure, a smaller model, "
            "dtype='float32', or a device with more memory"
        )
    return always or need.keeping > max(free, need.recomputing)


def with_memory(
    work: Callable[[], T], model: JMPModel, graph: AtomGraph, *, may_recompute: bool
) -> T:
    """Do some work; make a lack of memory a clear error.

    Args:
        work: What to do.
        model: The network that does it.
        graph: What it is done with.
        may_recompute: Whether ``recompute`` would help and is not on.

    Raises:
        UnsupportedSystemError: If memory runs out.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = str(error).split("\n", maxsplit=1)[0]
    device = next(model.parameters()).device
    # outside of the handler, so that the traceback no longer holds the tensors
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    helps = "recompute=True (--recompute), " if may_recompute else ""
    raise UnsupportedSystemError(
        f"{device} ran out of memory on {size_of(graph)} ({reason}); use {helps}a "
        "smaller structure, dtype='float32', a smaller model, or a device with more "
        "memory"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    return (
        isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
        or "can't allocate memory" in str(error)
        or "out of memory" in str(error)
    )


def size_of(graph: AtomGraph) -> str:
    """Return in words how large a graph is.

    Args:
        graph: One system or a batch.
    """
    counts = {name: getattr(graph, name).n_edges for name in GRAPHS}
    kinds = ", ".join(f"{name} {n}" for name, n in counts.items())
    return f"{graph.n_atoms} atoms with {sum(counts.values())} edges ({kinds})"


def free_memory(device: torch.device) -> int | None:
    """Return how much memory can be had, bytes; None where that is not known.

    On the CPU it is what Linux calls available, or less if the group of processes has a
    limit (containers, jobs of a cluster).

    Args:
        device: Where.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    try:
        lines = (_PROC / "meminfo").read_text().splitlines()
        of = {line.split(":")[0]: line.split()[1] for line in lines}
        found = 1024 * int(of["MemAvailable"])
    except (OSError, KeyError, IndexError, ValueError):
        return None
    return min([found, *_left_in_groups()])


def _left_in_groups() -> list[int]:
    """Return what is left of the memory limits of the groups of this process, bytes."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    # the one line of version 2 is 0::/PATH
    paths = [line[3:].lstrip("/") for line in lines if line.startswith("0::")]
    left = []
    for path in paths:
        group = _CGROUP / path
        for folder in (group, *group.parents):
            if not folder.is_relative_to(_CGROUP):
                break
            if (found := _left_in(folder)) is not None:
                left.append(found)
    return left


def _left_in(group: Path) -> int | None:
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        of = dict(
            line.split() for line in (group / "memory.stat").read_text().splitlines()
        )
        # pages of files that can be read again are free to be had
        return limit - used + int(of.get("inactive_file", 0))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None


def _in_gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f}"
