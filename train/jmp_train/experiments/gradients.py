"""Which task pulls how hard: shares of the gradient norm under trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from jmp_train.config import TrainConfig
from jmp_train.data.batches import GraphDataset, TrainingBatch, build_loader


def gradient_shares(
    config: TrainConfig, weights: Path, *, n_steps: int = 4
) -> dict[str, float]:
    """Return the share of each task in the gradient norm of the shared parameters.

    For each of the first steps of the run, the gradient of the systems of one task
    alone is taken, with the same divisors; its norm over the sum of the norms of all
    tasks is the share, and shares are averaged over steps. Parameters of the heads,
    which no other task has, do not count.

    Args:
        config: Of the pre-training.
        weights: Its weights file.
        n_steps: Steps to look at.
    """
    from jmp_calc.models.weights import load_weights
    from jmp_train.normalize import TaskStatistics
    from jmp_train.objective import Divisors, Objective
    from jmp_train.plan import TrainingPlan
    from jmp_train.validation import open_dataset

    dataset = open_dataset(config, "train")
    statistics = {
        task: TaskStatistics.from_json(store.header["statistics"])
        for task, store in dataset.stores.items()
    }
    model = load_weights(weights).train()
    objective = Objective(model, config, statistics)
    shared = [
        p for n, p in model.named_parameters() if not n.startswith("head_layers.")
    ]
    steps = TrainingPlan(dataset, config).steps_from(0, 0)
    shares = []
    for _, _, step in islice(steps, n_steps):
        samples = [sample for batch in step for sample in batch]
        (whole,) = build_loader(dataset, [samples])
        systems, atoms = objective.counts(whole)
        divisors = Divisors(systems=float(systems), atoms=float(max(atoms, 1)))
        norms = dict.fromkeys(dataset.stores, 0.0)
        for task, batch in _by_task(dataset, samples):
            model.zero_grad()
            objective(batch, divisors)[0].backward()
            norms[task] = float(
                sum(float(p.grad.square().sum()) for p in shared if p.grad is not None)
                ** 0.5
            )
        total = sum(norms.values())
        shares.append([norm / total if total else np.nan for norm in norms.values()])
    means = np.nanmean(np.array(shares), axis=0)
    return dict(zip(dataset.stores, map(float, means), strict=True))


def _by_task(
    dataset: GraphDataset, samples: list[int]
) -> Iterator[tuple[str, TrainingBatch]]:
    for task in dataset.stores:
        own = [sample for sample in samples if dataset.task_of(sample) == task]
        if own:
            (batch,) = build_loader(dataset, [own])
            yield task, batch
