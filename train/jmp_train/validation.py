"""Errors of the averaged weights during a run, shared out over its processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext

from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TrainConfig
from jmp_train.data.batches import GraphDataset
from jmp_train.data.store import open_stores, store_path
from jmp_train.metrics import TaskErrors, choose_samples, evaluate_model
from jmp_train.optim import MovingAverage
from jmp_train.parallel import Group, whole_weights


def open_dataset(config: TrainConfig, split: str) -> GraphDataset:
    """Return the samples of one part of all tasks of a run.

    Args:
        config: Tasks, stores and edge dropout.
        split: ``train``, ``val`` or ``test``.
    """
    data = config.data
    names = {task.name: task.store or task.name for task in data.tasks}
    stores = open_stores(data.stores, list(dict.fromkeys(names.values())), split)
    return GraphDataset(
        {task: stores[name] for task, name in names.items()},
        {task.name: task for task in data.tasks},
        cache=data.graph_cache,
        edge_dropout=data.edge_dropout,
        seed=config.seed,
    )


def has_part(config: TrainConfig, split: str) -> bool:
    """Return whether all tasks of a run have a store of a part.

    Args:
        config: Tasks and stores.
        split: ``train``, ``val`` or ``test``.
    """
    return all(
        store_path(config.data.stores, task.store or task.name, split).exists()
        for task in config.data.tasks
    )


class Validator:
    """Measures errors; keeps data sets open from one validation to the next."""

    def __init__(self, config: TrainConfig, group: Group) -> None:
        """Open nothing yet.

        Args:
            config: Settings.
            group: The processes; each scores a part of the samples.
        """
        self._config, self._group = config, group
        self._datasets: dict[str, GraphDataset] = {}

    def measure(
        self,
        model: JMPModel,
        average: MovingAverage | None,
        split: str,
        *,
        per_task: int | None = None,
    ) -> dict[str, TaskErrors]:
        """Return the errors of the averaged weights, by task.

        Args:
            model: The network.
            average: Weights to measure; None: those of the network.
            split: ``train``, ``val`` or ``test``.
            per_task: Largest number of systems of each task; None: all.

        Raises:
            DataError: If the store is missing or damaged.
        """
        config, group = self._config, self._group
        with group.together():
            if split not in self._datasets:
                self._datasets[split] = open_dataset(config, split)
        dataset = self._datasets[split]
        samples = choose_samples(dataset, per_task)
        with (
            nullcontext() if average is None else average.applied_to(model),
            whole_weights(model),
        ):
            return evaluate_model(
                model,
                dataset,
                samples[group.rank :: group.world_size],
                forces=config.forces,
                max_atoms=config.data.max_atoms,
                device=group.device,
                group=group,
            )


def monitored_error(errors: Mapping[str, TaskErrors], name: str) -> float:
    """Return the error that early stopping watches: the mean over tasks.

    Args:
        errors: Of the validation part, by task.
        name: As for ``StoppingConfig.monitor``.
    """
    return math.fsum(e.monitored(name) for e in errors.values()) / len(errors)
