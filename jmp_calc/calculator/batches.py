"""Many systems in few evaluations: which of them are computed together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from jmp_calc.calculator.evaluation import Task, numbered
from jmp_calc.calculator.room import LackOfMemoryError, free_memory
from jmp_calc.models.config import ForceKind
from jmp_calc.models.footprint import bytes_per_main_edge
from jmp_calc.models.jmp import JMPModel

MAX_BATCH_ATOMS = 2000
"""Atoms of a batch, unless one system alone has more."""

MAX_BATCH_BYTES = {"cpu": 2**28, "cuda": 2**32}
"""Memory of a batch by kind of device, unless one system alone takes more. On CPUs it
pays off up to about here; beyond, arrays fall out of the cache. That of CUDA is not
measured."""

_PART_OF_FREE = 0.25
"""Part of the free memory that a batch may take, by what its main edges keep."""

_SORTED_TOGETHER = 4
"""Batches that are filled at the same time."""

MAX_WAITING = 2000
"""Systems that wait for their batch; atoms without neighbors never fill one."""

Numbered = tuple[int, Task]
T = TypeVar("T")


def in_batches(
    model: JMPModel,
    tasks: Iterable[Numbered],
    compute: Callable[[Sequence[Task]], Sequence[T]],
) -> Iterator[tuple[int, T]]:
    """Compute numbered tasks in batches; give results with their number, in any order.

    Where memory does not suffice for a batch, its halves are computed.

    Args:
        model: The network that is to compute them.
        tasks: Tasks with their number; any iterable.
        compute: Computes systems that want the same.

    Raises:
        UnsupportedSystemError: If memory does not suffice for one system alone; its
            number is added as a note.
    """
    for batch in split_into_batches(model, tasks):
        yield from _computed(batch, compute)


def _computed(
    batch: list[Numbered], compute: Callable[[Sequence[Task]], Sequence[T]]
) -> Iterator[tuple[int, T]]:
    numbers, tasks = zip(*batch, strict=True)
    if len(batch) == 1:
        with numbered(numbers[0]):
            results = compute(tasks)
    else:
        try:
            results = compute(tasks)
        except LackOfMemoryError:
            results = None
    # outside of the handler, whose error holds what has been computed
    if results is None:
        half = len(batch) // 2
        yield from _computed(batch[:half], compute)
        yield from _computed(batch[half:], compute)
    else:
        yield from zip(numbers, results, strict=True)


def split_into_batches(
    model: JMPModel, tasks: Iterable[Numbered]
) -> Iterator[list[Numbered]]:
    """Group numbered tasks into batches of one kind and of limited size.

    Systems of another kind (force kind, stress or not) are in batches of their own. The
    tables of a batch are as wide as the atom with the most neighbors needs, so systems
    that are alike in that go together. Numbers are not in order. The first batch is
    given before all tasks are taken.

    Args:
        model: The network that is to compute them.
        tasks: Tasks with their number; any iterable.
    """
    most = _most_bytes(model) // bytes_per_main_edge(model.config, model.dtype)
    waiting: dict[tuple[ForceKind | None, bool], list[Numbered]] = {}
    n_edges: dict[tuple[ForceKind | None, bool], int] = {}
    for number, task in tasks:
        kind = (task.forces, task.has_stress)
        waiting.setdefault(kind, []).append((number, task))
        n_edges[kind] = n_edges.get(kind, 0) + task.graph.main.n_edges
        is_full = n_edges[kind] >= _SORTED_TOGETHER * most
        if is_full or len(waiting[kind]) >= MAX_WAITING:
            n_edges[kind] = 0
            yield from _cut(waiting.pop(kind), most)
    for left in waiting.values():
        yield from _cut(left, most)


def _most_bytes(model: JMPModel) -> int:
    device = next(model.parameters()).device
    most = MAX_BATCH_BYTES[device.type]
    free = free_memory(device)
    return most if free is None else min(most, int(_PART_OF_FREE * free))


def _cut(tasks: list[Numbered], most: int) -> Iterator[list[Numbered]]:
    """Sort tasks by how many neighbors atoms have, and cut them into batches."""
    batch: list[Numbered] = []
    n_atoms = n_edges = 0
    for number, task in sorted(tasks, key=_neighbors):
        atoms, edges = task.graph.n_atoms, task.graph.main.n_edges
        if batch and (n_atoms + atoms > MAX_BATCH_ATOMS or n_edges + edges > most):
            yield batch
            batch, n_atoms, n_edges = [], 0, 0
        batch.append((number, task))
        n_atoms, n_edges = n_atoms + atoms, n_edges + edges
    yield batch


def _neighbors(task: Numbered) -> float:
    graph = task[1].graph
    return graph.main.n_edges / graph.n_atoms
