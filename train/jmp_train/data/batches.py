"""Samples -> graphs -> training batches, in the loader's worker processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from jmp_calc.errors import ArgumentError
from jmp_calc.graph.batch import AtomGraph
from jmp_calc.graph.build import build_graph
from jmp_train.config import TaskConfig
from jmp_train.data.sample import Sample
from jmp_train.data.store import Store

if TYPE_CHECKING:
    # torch-geometric takes seconds to import, and most users of a batch need none of it
    from jmp_train.data.container import SystemData


@dataclass(frozen=True, slots=True)
class Draw:
    """One visit of a sample in training."""

    index: int
    """Number of the sample."""
    epoch: int | None = None
    """Pass over the mixed epoch; None: validation, where no edge is dropped."""
    number: int = 0
    """Number of the batch in the epoch."""
    place: int = 0
    """Place in the batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingBatch:
    """Graphs and labels of several systems, eV and Å; nothing is normalised."""

    graph: AtomGraph
    """The joined graph."""
    head: list[str]
    """Task of each system."""
    energy: Float[Tensor, " systems"]
    """Total energy, eV, float64; NaN where not labelled."""
    forces: Float[Tensor, "atoms 3"]
    """Forces, eV/Å, float64; NaN where not labelled."""
    stress: Float[Tensor, "systems 3 3"]
    """Stress, eV/Å³, float64, tension positive; NaN where not labelled."""
    target: Float[Tensor, " systems"]
    """Label of the target of the task, in the unit of the set, float64; NaN where not
    labelled or the task has none."""
    has_energy: Bool[Tensor, " systems"]
    """Whether a system has an energy label."""
    has_forces: Bool[Tensor, " systems"]
    """Whether a system has force labels."""
    has_stress: Bool[Tensor, " systems"]
    """Whether a system has a stress label."""
    has_target: Bool[Tensor, " systems"]
    """Whether a system has a label of the target of its task."""
    n_atoms: Int[Tensor, " systems"]
    """Number of atoms of each system."""
    is_fixed: Bool[Tensor, " atoms"]
    """Atoms that were held fixed in the source."""
    index: Int[Tensor, " systems"]
    """Number of each sample in its data set."""

    @property
    def n_systems(self) -> int:
        """Number of systems."""
        return len(self.head)

    def to(self, device: torch.device | str) -> TrainingBatch:
        """Return the batch with every tensor on ``device``."""
        moved = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if field.name != "head"
        }
        return replace(self, **moved)


LABELS = (
    "energy",
    "forces",
    "stress",
    "target",
    "has_energy",
    "has_forces",
    "has_stress",
    "has_target",
    "n_atoms",
    "is_fixed",
)
"""Fields of a batch that come from the sample, not from its graph."""


@runtime_checkable
class BatchLoader(Protocol):
    """An iterable of training batches with a length."""

    def __iter__(self) -> Iterator[TrainingBatch]:
        """Begin a new pass."""

    def __len__(self) -> int:
        """Return the number of batches."""


class GraphDataset(Dataset[Any]):
    """The samples of several tasks, one after the other, as systems to be joined."""

    def __init__(
        self,
        stores: Mapping[str, Store],
        tasks: Mapping[str, TaskConfig],
        *,
        cache: int = 0,
        edge_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Join the stores.

        Args:
            stores: Store by task; the samples count through them in this order.
            tasks: Graph rules and target, by task.
            cache: Graphs to keep in memory (in each worker process). Graphs with
                dropped edges are never kept.
            edge_dropout: Part of the atom–atom edges that a draw of training loses.
            seed: What the choice of these edges follows from, with the draw.
        """
        self.stores = dict(stores)
        self.tasks = {task: tasks[task] for task in self.stores}
        self.edge_dropout = edge_dropout
        self.seed = seed
        self.sizes = tuple(len(store) for store in self.stores.values())
        self.n_atoms = np.concatenate([s.n_atoms for s in self.stores.values()])
        self.n_pairs = np.concatenate([s.n_pairs for s in self.stores.values()])
        self._names = list(self.stores)
        self._ends = np.cumsum(self.sizes)
        self._cache_size = cache
        self._cache: dict[int, SystemData] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def task_of(self, index: int) -> str:
        """Return the task of a sample.

        Args:
            index: Number of the sample, from 0.
        """
        return self._names[int(np.searchsorted(self._ends, index, side="right"))]

    def sample(self, index: int) -> Sample:
        """Return a sample as it is in its store.

        Args:
            index: Number of the sample, from 0.

        Raises:
            IndexError: If there is no such sample.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        place = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[place]) - self.sizes[place]
        return self.stores[self._names[place]][index - start]

    def mean_pairs(self) -> list[float]:
        """Return the mean number of ordered pairs within 5 Å, by task."""
        return [float(store.n_pairs.mean()) for store in self.stores.values()]

    def costs(
        self,
        samples: Int[np.ndarray, " samples"],
        *,
        max_atoms: int,
        max_pairs: int | None = None,
    ) -> Float[np.ndarray, " samples"]:
        """Return the part of a batch that each sample fills.

        Args:
            samples: Their numbers.
            max_atoms: Atoms that fill a batch.
            max_pairs: Ordered pairs of atoms within 5 Å that fill a batch, closer to
                the cost of a step than atoms; None: do not look at them.
        """
        by_atoms: Float[np.ndarray, " samples"] = self.n_atoms[samples] / max_atoms
        if max_pairs is None:
            return by_atoms
        both: Float[np.ndarray, " samples"]
        both = np.maximum(by_atoms, self.n_pairs[samples] / max_pairs)
        return both

    def __getitem__(self, draw: int | Draw) -> SystemData:
        """Return the graph and the labels of a sample; of a draw, with dropped edges.

        Raises:
            IndexError: If there is no such sample.
        """
        draw = draw if isinstance(draw, Draw) else Draw(draw)
        if draw.epoch is not None and self.edge_dropout > 0:
            seed = (self.seed, draw.epoch, draw.number, draw.place)
            return self._build(draw.index, np.random.default_rng(seed))
        if draw.index in self._cache:
            return self._cache[draw.index]
        item = self._build(draw.index, None)
        if len(self._cache) < self._cache_size:
            self._cache[draw.index] = item
        return item

    def _build(self, index: int, generator: np.random.Generator | None) -> SystemData:
        from jmp_train.data.container import SystemData

        sample, task = self.sample(index), self.tasks[self.task_of(index)]
        graph = build_graph(
            sample.to_atoms(),
            task.graph,
            tags=sample.tags,
            edge_dropout=0.0 if generator is None else self.edge_dropout,
            generator=generator,
        )
        target = None if task.target is None else sample.targets.get(task.target)
        return SystemData.of(
            graph,
            head=task.name,
            energy=_label(sample.energy, 1),
            forces=_label(sample.forces, sample.n_atoms, 3),
            stress=_label(sample.stress, 1, 3, 3),
            target=_label(target, 1),
            has_energy=torch.tensor([sample.energy is not None]),
            has_forces=torch.tensor([sample.forces is not None]),
            has_stress=torch.tensor([sample.stress is not None]),
            has_target=torch.tensor([target is not None]),
            n_atoms=torch.tensor([sample.n_atoms]),
            is_fixed=torch.tensor(sample.is_fixed),
            sample=torch.tensor([index]),
        )


def _label(value: Any, *shape: int) -> Float[Tensor, "..."]:
    """Return a label as float64 of this shape; NaN throughout where there is none."""
    if value is None:
        return torch.full(shape, torch.nan, dtype=torch.float64)
    return torch.tensor(value, dtype=torch.float64).reshape(shape)


def build_loader(
    dataset: GraphDataset,
    batches: Iterable[list[int]],
    *,
    workers: int = 0,
    epoch: int | None = None,
    numbers: Iterable[int] | None = None,
) -> BatchLoader:
    """Return an iterable of the joined batches, in this order.

    Which edges are dropped follows from the seed of the data set, the epoch, the number
    of the batch and the place in it: it is the same whoever builds the graph, and
    after an interruption.

    Args:
        dataset: The samples.
        batches: Samples of each batch, taken when it is their turn; to resume, leave
            out those already done.
        workers: Processes that read and build graphs; 0: the calling process.
        epoch: Pass over the mixed epoch, in training; None: no edge is dropped.
        numbers: Number of each batch in the epoch; None: 0, 1, 2, ...

    Raises:
        ArgumentError: If there is not one number per batch.
    """
    from jmp_train.data.container import TrainingLoader

    lengths = [len(x) for x in (numbers, batches) if isinstance(x, Collection)]
    if len(set(lengths)) > 1:
        raise ArgumentError(
            f"{lengths[0]} numbers for {lengths[1]} batches; give one per batch"
        )
    draws = _Draws(batches=batches, epoch=epoch, numbers=numbers)
    loader: BatchLoader = TrainingLoader(dataset, draws, workers=workers)
    return loader


@dataclass(frozen=True, kw_only=True, slots=True)
class _Draws:
    """The draws of each batch, made when it is its turn: an epoch may be long."""

    batches: Iterable[list[int]]
    epoch: int | None
    numbers: Iterable[int] | None

    def __len__(self) -> int:
        assert isinstance(self.batches, Collection)
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        numbers = count() if self.numbers is None else self.numbers
        for number, batch in zip(numbers, self.batches, strict=False):
            yield [Draw(index, self.epoch, number, k) for k, index in enumerate(batch)]
