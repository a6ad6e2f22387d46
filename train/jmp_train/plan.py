"""Which samples make which optimizer step: the whole run is decided in advance."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from jmp_train.config import TrainConfig
from jmp_train.data.batches import GraphDataset
from jmp_train.data.mixture import build_mixture, epoch_batches

Step = list[list[int]]
"""Samples of each batch of an optimizer step."""


class TrainingPlan:
    """The steps of a run by epoch and place; a function of configuration and sizes.

    Nothing about the order of samples needs to be saved but the place: a resumed run
    works out the same plan again.
    """

    def __init__(self, dataset: GraphDataset, config: TrainConfig) -> None:
        """Plan a run.

        Args:
            dataset: All training samples.
            config: Mixture, batch size, seed and length.
        """
        data = config.data
        self.mixture = build_mixture(
            dataset.sizes,
            data.temperature,
            costs=dataset.mean_pairs(),
            max_share=data.max_task_share,
        )
        self._costs = dataset.costs(max_atoms=data.max_atoms, max_pairs=data.max_pairs)
        self._per_step = data.batches_per_step
        self._seed = config.seed
        self.epoch_steps = lru_cache(maxsize=2)(self._epoch_steps)
        if config.max_steps is None:
            self.n_steps = sum(len(self.epoch_steps(e)) for e in range(config.epochs))
        else:
            self.n_steps = config.max_steps

    def _epoch_steps(self, epoch: int) -> list[Step]:
        order = self.mixture.epoch_order(seed=self._seed, epoch=epoch)
        batches = epoch_batches(
            order, self._costs, max_cost=1.0, seed=self._seed + epoch
        )
        n = self._per_step
        # The last step of an epoch may have fewer batches.
        return [batches[i : i + n] for i in range(0, len(batches), n)]

    def steps_from(self, epoch: int, place: int) -> Iterator[tuple[int, int, Step]]:
        """Yield (epoch, place in the epoch, step) without end, from a place on.

        Args:
            epoch: Number of the epoch, from 0.
            place: Number of the first step in it, from 0.
        """
        while True:
            steps = self.epoch_steps(epoch)
            for index in range(place, len(steps)):
                yield epoch, index, steps[index]
            epoch, place = epoch + 1, 0
