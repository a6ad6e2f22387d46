"""One system as a torch-geometric ``Data``, and its batches as training batches.

torch-geometric joins the systems and runs the loader; its ``Batch`` is turned once, in
the process that joins, into the graph of the model. Nothing else of it is used.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from threading import Thread
from typing import Any

import torch
from torch.utils.data import Dataset
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from jmp_calc.errors import JMPError
from jmp_calc.graph.batch import GRAPHS, INDEX_LISTS, AtomGraph, EdgeSet
from jmp_train.data.batches import LABELS, Draw, GraphDataset, TrainingBatch

_EDGE_FIELDS = tuple(field.name for field in fields(EdgeSet))
_EDGE_ENDS = {f"{name}_{end}" for name in GRAPHS for end in ("source", "target")}
_ATOM_FIELDS = ("positions", "numbers", "tags", "cell")


class SystemData(Data):  # type: ignore[misc]  # upstream is not typed
    """Graph and labels of one system under flat names, such as ``main_source``."""

    @classmethod
    def of(cls, graph: AtomGraph, **more: Any) -> SystemData:
        """Lay out the graph of one system.

        Args:
            graph: The graph; its tensors are shared, not copied.
            more: Labels and other fields of the system.
        """
        values: dict[str, Any] = {
            name: getattr(graph, name) for name in (*_ATOM_FIELDS, *INDEX_LISTS)
        }
        for name in GRAPHS:
            edges: EdgeSet = getattr(graph, name)
            values |= {f"{name}_{part}": getattr(edges, part) for part in _EDGE_FIELDS}
        return cls(num_nodes=graph.n_atoms, **values, **more)

    def n_edges(self, name: str) -> int:
        """Return the number of edges of a graph.

        Args:
            name: One of ``GRAPHS``.
        """
        return int(self[f"{name}_source"].shape[0])

    def __cat_dim__(self, key: str, value: Any, *_: Any, **__: Any) -> Any:
        """Return the axis along which systems are joined."""
        return -1 if key in INDEX_LISTS else 0

    def __inc__(self, key: str, value: Any, *_: Any, **__: Any) -> Any:
        """Return what to add to the entries of the next system."""
        if key in INDEX_LISTS:
            counts = [self.n_edges(name) for name in INDEX_LISTS[key]]
            return counts[0] if len(counts) == 1 else torch.tensor(counts)[:, None]
        if key in _EDGE_ENDS:
            return self.num_nodes
        return 0


def graph_of(batch: Batch) -> AtomGraph:
    """Return the joined graph of systems that torch-geometric has put together.

    Args:
        batch: Made of :class:`SystemData`.
    """
    parts: dict[str, Any] = {n: batch[n] for n in (*_ATOM_FIELDS, *INDEX_LISTS)}
    for name in GRAPHS:
        edges = {part: batch[f"{name}_{part}"] for part in _EDGE_FIELDS}
        parts[name] = EdgeSet(**edges)
    return AtomGraph(system_index=batch.batch, **parts)


def training_batch(batch: Batch) -> TrainingBatch:
    """Return graph and labels of systems that torch-geometric has put together.

    Args:
        batch: Made of the items of a ``GraphDataset``.
    """
    return TrainingBatch(
        graph=graph_of(batch),
        head=list(batch.head),
        index=batch.sample,
        **{name: batch[name] for name in LABELS},
    )


class TrainingLoader(DataLoader):  # type: ignore[misc]  # upstream is not typed
    """The loader of torch-geometric, which hands out training batches."""

    collate_fn: Any

    def __init__(
        self, dataset: GraphDataset, draws: Iterable[list[Draw]], *, workers: int
    ) -> None:
        """Prepare the loader.

        Args:
            dataset: The samples.
            draws: Samples of each batch.
            workers: Processes that read and build graphs; 0: the calling process.
        """
        super().__init__(
            _Readable(dataset),
            batch_sampler=draws,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_work_until_told,
            # Without it, an iterator draws from the random state of the process.
            generator=torch.Generator(),
            persistent_workers=False,
        )
        # The worker converts: a Batch has thrice as many tensors, each of which would
        # take a file descriptor on its way to the training process.
        self.collate_fn = _Converted(self.collate_fn)

    def __iter__(self) -> Iterator[TrainingBatch]:
        """Yield the batches.

        Raises:
            JMPError: As it was raised in a worker, which would wrap it otherwise.
        """
        for batch in super().__iter__():
            if isinstance(batch, JMPError):
                raise batch
            yield batch


class _Readable(Dataset[Any]):
    """A data set that returns its errors, so that they leave workers as they are."""

    def __init__(self, dataset: GraphDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, draw: Draw) -> SystemData | JMPError:
        try:
            return self._dataset[draw]
        except JMPError as error:
            return error


def _work_until_told(_worker: int) -> None:
    """Let only the training process end this worker.

    A terminal, SLURM and containers tell all processes of a job at once to stop. The
    training process then finishes its step and saves, for which it needs its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        # Of a handler nobody learns who has sent the signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_end_when_parent_says_so, daemon=True).start()


def _end_when_parent_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class _Converted:
    """Join with torch-geometric, then convert; a class, so that it can be pickled."""

    def __init__(self, join: Callable[[list[SystemData]], Batch]) -> None:
        self._join = join

    def __call__(self, items: list[SystemData | JMPError]) -> TrainingBatch | JMPError:
        systems = []
        for item in items:
            if isinstance(item, JMPError):
                return item
            systems.append(item)
        return training_batch(self._join(systems))
