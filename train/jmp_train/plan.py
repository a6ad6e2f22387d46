"""Which samples make which optimizer step: the whole run is decided in advance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import islice

import numpy as np
from jaxtyping import Int

from jmp_calc.errors import ArgumentError
from jmp_train.config import TrainConfig
from jmp_train.data.batches import GraphDataset
from jmp_train.data.mixture import balanced_batches, build_mixture, epoch_batches

Step = list[list[int]]
"""Samples of each batch of an optimizer step."""


class TrainingPlan:
    """The steps of a run by epoch and place; a function of configuration and sizes.

    Nothing about the order of samples needs to be saved but the place: a resumed run
    works out the same plan again. Nor does it depend on the number of processes, which
    only share the batches of each step. Steps are made one window of samples at a time;
    the order of an epoch, 8 bytes per sample, is the only thing that grows with it.
    """

    n_steps: int
    """Optimizer steps of the run."""
    batches_per_step: int
    """Batches of a step; the last one of an epoch may have fewer."""

    def __init__(
        self, dataset: GraphDataset, config: TrainConfig, *, n_steps: int | None = None
    ) -> None:
        """Plan a run.

        Args:
            dataset: All training samples.
            config: Mixture, batch size, seed and length, with ``batches_per_step``.
            n_steps: Steps of the run if another process has counted them; None: count
                them, which takes about a microsecond per sample of an epoch unless
                ``batch_systems`` or ``max_steps`` is given.

        Raises:
            ArgumentError: If ``batches_per_step`` is left to the number of processes.
        """
        data = config.data
        if data.batches_per_step is None:
            raise ArgumentError(
                "batches_per_step is not known yet; it is the number of processes that "
                "the run starts with"
            )
        self.mixture = build_mixture(
            dataset.sizes,
            data.temperature,
            costs=dataset.mean_pairs(),
            max_share=[min(task.max_share, data.max_task_share) for task in data.tasks],
        )
        self._costs = partial(
            dataset.costs, max_atoms=data.max_atoms, max_pairs=data.max_pairs
        )
        self.batches_per_step = data.batches_per_step
        self._batch_systems = data.batch_systems
        self._seed = config.seed
        self._order = lru_cache(maxsize=1)(self._epoch_order)
        self.epoch_length = lru_cache(maxsize=None)(self._count)
        if n_steps is None:
            n_steps = config.max_steps
        if n_steps is None:
            n_steps = sum(self.epoch_length(epoch) for epoch in range(config.epochs))
        self.n_steps = n_steps

    def _epoch_order(self, epoch: int) -> Int[np.ndarray, " samples"]:
        return self.mixture.epoch_order(seed=self._seed, epoch=epoch)

    def _count(self, epoch: int) -> int:
        """Return the number of steps of an epoch."""
        if self._batch_systems is not None:
            n_systems = self._batch_systems * self.batches_per_step
            return math.ceil(self.mixture.epoch_length / n_systems)
        n_batches = sum(1 for _ in self._packed(epoch))
        return math.ceil(n_batches / self.batches_per_step)

    def _packed(self, epoch: int) -> Iterator[list[int]]:
        return epoch_batches(
            self._order(epoch), self._costs, max_cost=1.0, seed=self._seed + epoch
        )

    def epoch_steps(self, epoch: int, first: int = 0) -> Iterator[Step]:
        """Yield the steps of an epoch; the last one may have fewer batches.

        Args:
            epoch: Number of the epoch, from 0.
            first: Steps to leave out at the beginning.
        """
        if self._batch_systems is None:
            batches = islice(self._packed(epoch), first * self.batches_per_step, None)
            while step := list(islice(batches, self.batches_per_step)):
                yield step
            return
        order, n = self._order(epoch), self._batch_systems * self.batches_per_step
        for start in range(first * n, len(order), n):
            members = order[start : start + n]
            yield balanced_batches(members, self._costs(members), self.batches_per_step)

    def steps_from(self, epoch: int, place: int) -> Iterator[tuple[int, int, Step]]:
        """Yield (epoch, place in the epoch, step) without end, from a place on.

        Args:
            epoch: Number of the epoch, from 0.
            place: Number of the first step in it, from 0.
        """
        while True:
            for index, step in enumerate(self.epoch_steps(epoch, place), start=place):
                yield epoch, index, step
            epoch, place = epoch + 1, 0

    def shares(self, step: Step, world_size: int) -> list[list[int]]:
        """Return which batches of a step each process computes.

        The dearest batch goes first, each to the process with the least to do.

        Args:
            step: Samples of each batch.
            world_size: Number of processes; some have none if there are more of them
                than batches.
        """
        costs = np.array([self._costs(np.array(batch)).sum() for batch in step])
        shares = balanced_batches(np.arange(len(step)), costs, world_size)
        none: list[list[int]] = [[] for _ in range(world_size - len(shares))]
        return [sorted(share) for share in shares] + none
