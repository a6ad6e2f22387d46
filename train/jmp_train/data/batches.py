"""Samples -> graphs -> training batches, in the loader's worker processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from jmp_calc.graph.batch import AtomGraph, collate
from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import GraphRules
from jmp_train.data.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingBatch:
    """Graphs and labels of several systems, eV and Å; nothing is normalised."""

    graph: AtomGraph
    """The joined graph."""
    head: list[str]
    """Task of each system."""
    energy: Float[Tensor, " systems"]
    """Total energy, eV, float64."""
    forces: Float[Tensor, "atoms 3"]
    """Forces, eV/Å, float64; NaN where not labelled."""
    has_forces: Bool[Tensor, " systems"]
    """Whether a system has force labels."""
    n_atoms: Int[Tensor, " systems"]
    """Number of atoms of each system."""
    index: Int[Tensor, " systems"]
    """Number of each sample in its data set."""

    @property
    def n_systems(self) -> int:
        """Number of systems."""
        return len(self.head)

    def to(self, device: torch.device | str) -> TrainingBatch:
        """Return the batch with every tensor on ``device``."""
        return TrainingBatch(
            graph=self.graph.to(device),
            head=self.head,
            energy=self.energy.to(device),
            forces=self.forces.to(device),
            has_forces=self.has_forces.to(device),
            n_atoms=self.n_atoms.to(device),
            index=self.index.to(device),
        )


class GraphDataset(Dataset[TrainingBatch]):
    """The samples of several tasks, one after the other, as batches of one system."""

    def __init__(
        self,
        stores: Mapping[str, Store],
        rules: Mapping[str, GraphRules],
        *,
        cache: int = 0,
    ) -> None:
        """Join the stores.

        Args:
            stores: Store by task; the samples count through them in this order.
            rules: Graph rules by task.
            cache: Graphs to keep in memory (in each worker process).
        """
        self.stores = dict(stores)
        self.rules = {task: rules[task] for task in self.stores}
        self.sizes = tuple(len(store) for store in self.stores.values())
        self.n_atoms = np.concatenate([s.n_atoms for s in self.stores.values()])
        self.n_pairs = np.concatenate([s.n_pairs for s in self.stores.values()])
        self._tasks = list(self.stores)
        self._ends = np.cumsum(self.sizes)
        self._cache_size = cache
        self._cache: dict[int, TrainingBatch] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def task_of(self, index: int) -> str:
        """Return the task of a sample.

        Args:
            index: Number of the sample, from 0.
        """
        return self._tasks[int(np.searchsorted(self._ends, index, side="right"))]

    def mean_pairs(self) -> list[float]:
        """Return the mean number of ordered pairs within 5 Å, by task."""
        return [float(store.n_pairs.mean()) for store in self.stores.values()]

    def costs(
        self, *, max_atoms: int, max_pairs: int | None = None
    ) -> Float[np.ndarray, " samples"]:
        """Return the part of a batch that each sample fills.

        Args:
            max_atoms: Atoms that fill a batch.
            max_pairs: Ordered pairs of atoms within 5 Å that fill a batch, closer to
                the cost of a step than atoms; None: do not look at them.
        """
        by_atoms = self.n_atoms / max_atoms
        if max_pairs is None:
            return by_atoms
        return np.maximum(by_atoms, self.n_pairs / max_pairs)

    def __getitem__(self, index: int) -> TrainingBatch:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        if index in self._cache:
            return self._cache[index]
        task = self.task_of(index)
        start = int(self._ends[self._tasks.index(task)]) - len(self.stores[task])
        sample = self.stores[task][index - start]
        graph = build_graph(sample.to_atoms(), self.rules[task], tags=sample.tags)
        forces = sample.forces
        labels = np.full((sample.n_atoms, 3), np.nan) if forces is None else forces
        item = TrainingBatch(
            graph=graph,
            head=[task],
            energy=torch.tensor([sample.energy], dtype=torch.float64),
            forces=torch.from_numpy(labels),
            has_forces=torch.tensor([forces is not None]),
            n_atoms=torch.tensor([sample.n_atoms]),
            index=torch.tensor([index]),
        )
        if len(self._cache) < self._cache_size:
            self._cache[index] = item
        return item


def join_batches(items: Sequence[TrainingBatch]) -> TrainingBatch:
    """Join batches into one.

    Args:
        items: At least one batch, on the same device.
    """
    return TrainingBatch(
        graph=collate([item.graph for item in items]),
        head=[name for item in items for name in item.head],
        energy=torch.cat([item.energy for item in items]),
        forces=torch.cat([item.forces for item in items]),
        has_forces=torch.cat([item.has_forces for item in items]),
        n_atoms=torch.cat([item.n_atoms for item in items]),
        index=torch.cat([item.index for item in items]),
    )


def build_loader(
    dataset: GraphDataset, batches: Sequence[list[int]], *, workers: int = 0
) -> DataLoader[TrainingBatch]:
    """Return an iterable of the joined batches, in this order.

    Args:
        dataset: The samples.
        batches: Samples of each batch; to resume, leave out those already done.
        workers: Processes that read and build graphs; 0: the calling process.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=join_batches,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        # Without it, an iterator draws from the random state of the process.
        generator=torch.Generator(),
        persistent_workers=False,
    )
