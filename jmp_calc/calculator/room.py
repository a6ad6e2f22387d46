"""Is there memory for what is to be computed: asked before, and told after.

On Linux a process that takes more memory than there is gets killed without a word. So
the need is estimated: where it may not fit, blocks of the network are computed again
for the derivative rather than kept, what even then might not fit is warned of, and what
cannot fit is refused. A process may hold
the memory of what it has computed, which then is not free for anyone else; so what is
not larger is computed as it was, whatever seems to be free.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.graph.batch import GRAPHS, AtomGraph
from jmp_calc.models.footprint import Footprint
from jmp_calc.models.frozen.freeze import is_frozen
from jmp_calc.models.jmp import JMPModel

_logger = logging.getLogger(__name__)

_ALWAYS_FITS = 2**28
"""Bytes that are not worth looking for."""

_CERTAIN = 0.8
"""Part of the estimate that is needed in any case to keep what the blocks made."""

_CERTAIN_AGAIN = 1.0
"""Likewise where blocks are computed again: estimates of that are closer, and no
process took less than 1.09 times as much."""

_MARGIN, _MARGIN_TRAINED = 1.4, 2.4
"""Free memory, in estimates, with which what the blocks made is kept, of a network in
its form for inference and as it was trained. Estimates count live tensors; the C
library holds what is freed in pieces between them. Processes were seen to take up to
1.35 and 2.3 times as much."""

_MARGIN_AGAIN, _MARGIN_AGAIN_TRAINED = (1.1, 2**29), (5.7, 0)
"""Estimates and bytes that computing blocks again may take, likewise; 1.09 and up to
0.45 GB, whatever the size, and 5.6 times were seen."""

_ALIKE = 1.1
"""How much larger than what has been computed something may be that is like it: in
dynamics edges come and go."""

T = TypeVar("T")


class LackOfMemoryError(UnsupportedSystemError):
    """There is too little memory; for a part of a batch it may suffice."""


_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
_VERSION_2 = ("memory.max", "memory.current", "")
"""Files of a group with its limit and what it has, and what sums with the groups in it
start with."""


@dataclass(slots=True)
class _Done:
    """What this process has computed, and may still hold the memory of."""

    most: int = 0
    """The largest estimate for which memory was looked for, and did, bytes."""
    doubted: int = 0
    """The largest need of which was said that memory might not suffice, bytes."""


_on_cpu = _Done()  # memory of GPUs that is held counts as free


def must_recompute(model: JMPModel, graph: AtomGraph, *, always: bool = False) -> bool:
    """Return whether blocks are to be computed again for the derivative.

    On a CPU a warning says if even that might not fit: nobody else would tell.

    Args:
        model: The network, on the device that does the work.
        graph: One system or a batch.
        always: Whether the user wants it in any case.

    Raises:
        LackOfMemoryError: If there is clearly too little memory even then. Never for
            what is not larger than something that :func:`has_fitted`.
    """
    need = Footprint.of(graph, model.config, model.dtype)
    wanted = need.recomputing if always else need.keeping
    device = next(model.parameters()).device
    done = 0 if device.type == "cuda" else _on_cpu.most
    if wanted <= max(_ALWAYS_FITS, _ALIKE * done):
        return always
    free = free_memory(device)
    if free is None:
        return always
    least = min(need.keeping, need.recomputing)
    certain = min(_CERTAIN * need.keeping, _CERTAIN_AGAIN * need.recomputing)
    if certain > free + done:
        raise LackOfMemoryError(
            f"energy and gradient forces of {size_of(graph)} need about "
            f"{_in_gb(least)} GB of memory, and {_in_gb(free)} GB of "
            f"{device} are free; use a smaller structure, a smaller model, "
            "dtype='float32', or a device with more memory"
        )
    with_margin = need.keeping * (_MARGIN if is_frozen(model) else _MARGIN_TRAINED)
    again = always or (with_margin > free and need.keeping > need.recomputing)
    if again:
        times, more = _MARGIN_AGAIN if is_frozen(model) else _MARGIN_AGAIN_TRAINED
        with_margin = need.recomputing * times + more
    if device.type != "cuda" and with_margin > free + done:
        _doubt(int(with_margin), free, graph)
    return again


def _doubt(need: int, free: int, graph: AtomGraph) -> None:
    """Warn once, and again of what is larger."""
    if need > _ALIKE * _on_cpu.doubted:
        _on_cpu.doubted = need
        _logger.warning(
            "energy and gradient forces of %s may take %s GB of memory, and %s GB are "
            "free; if they do, the system ends this process without a word; with "
            "recompute=True (--recompute) and MALLOC_MMAP_THRESHOLD_=1048576 in the "
            "environment they take less, and more time",
            size_of(graph),
            _in_gb(need),
            _in_gb(free),
        )


def has_fitted(model: JMPModel, graph: AtomGraph, *, recompute: bool) -> None:
    """Take note that something was computed: on CPUs its memory may be held from now.

    Args:
        model: The network that did it.
        graph: What it was done with.
        recompute: Whether blocks were computed again for the derivative.
    """
    if next(model.parameters()).device.type == "cuda":
        return
    need = Footprint.of(graph, model.config, model.dtype)
    found = need.recomputing if recompute else need.keeping
    # what is just a little larger was not looked for: the limit does not creep
    if found > _ALIKE * _on_cpu.most:
        _on_cpu.most = found


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
        LackOfMemoryError: If memory runs out.
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
    raise LackOfMemoryError(
        f"{device} ran out of memory on {size_of(graph)} ({reason}); use {helps}a "
        "smaller structure, dtype='float32', a smaller model, or a device with more "
        "memory"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    return (
        isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
        or "can't allocate memory" in str(error)
        or "out of memory" in str(error)
        or "ALLOC_FAILED" in str(error)  # of CUDA libraries
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
    limit (containers, jobs of a cluster; control groups of version 1 or 2). What this
    process has freed and not given back is not in it.

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
    return max(0, min([found, *_left_in_groups()]))  # usage may exceed a limit


def _left_in_groups() -> list[int]:
    """Return what is left of the memory limits of the groups of this process, bytes."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        # 4:memory:/PATH of version 1, the one line 0::/PATH of version 2
        number, controllers, path = line.split(":", maxsplit=2)
        if number == "0" and not controllers:
            root, names = _CGROUP, _VERSION_2
        elif "memory" in controllers.split(","):
            root, names = _CGROUP / "memory", _VERSION_1
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            if (found := _left_in(folder, *names)) is not None:
                left.append(found)
    return left


def _left_in(group: Path, limit_file: str, usage_file: str, prefix: str) -> int | None:
    try:
        limit = int((group / limit_file).read_text())
        used = int((group / usage_file).read_text())
        of = dict(
            line.split() for line in (group / "memory.stat").read_text().splitlines()
        )
        # pages of files that can be read again are free to be had
        cached = (of.get(f"{prefix}{x}_file", 0) for x in ("inactive", "active"))
        return limit - used + sum(map(int, cached))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None


def _in_gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f}"
