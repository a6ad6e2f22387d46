"""Predictions of a model for labelled systems, in batches, and their errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int

from jmp_calc.models.config import ForceKind
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.physical import targets_to_physical, to_physical
from jmp_train.data.batches import GraphDataset, TrainingBatch, build_loader
from jmp_train.metrics.errors import TaskErrors
from jmp_train.metrics.meter import ErrorMeter
from jmp_train.metrics.terms import BatchPrediction
from jmp_train.parallel import Group

Samples = Sequence[int] | Int[np.ndarray, " samples"]
"""Numbers of samples in a data set."""


def evaluate_model(
    model: JMPModel,
    dataset: GraphDataset,
    samples: Samples,
    *,
    forces: ForceKind | None,
    max_atoms: int = 256,
    device: torch.device | str = "cpu",
    group: Group | None = None,
) -> dict[str, TaskErrors]:
    """Return the errors of a model on some samples, by task.

    A data set with a cache (``GraphDataset(..., cache=n)``) that is kept from one
    validation to the next builds the graphs of its first n samples only once.

    Args:
        model: The network.
        dataset: Labelled systems.
        samples: Numbers of those to score; with several processes, those of this one.
        forces: Which forces to score; None: none.
        max_atoms: Atoms in a batch.
        device: Where the model is.
        group: The processes, which all call this; None: this one alone.

    Raises:
        DataError: If a sample is damaged, also for another process.
    """
    group = Group.single(device) if group is None else group
    meter = ErrorMeter(model, dataset.tasks)
    with group.together():
        for batch, prediction in predictions(
            model, dataset, samples, forces=forces, max_atoms=max_atoms, device=device
        ):
            meter.add(batch, prediction)
    if group.has_processes:
        meter.sum_over_processes(group.sum, dataset, device)
    found = meter.errors()
    return {name: found[name,] for name in model.heads if (name,) in found}


def predictions(
    model: JMPModel,
    dataset: GraphDataset,
    samples: Samples,
    *,
    forces: ForceKind | None,
    max_atoms: int = 256,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[TrainingBatch, BatchPrediction]]:
    """Yield labels and predictions of one batch after the other, both on ``device``.

    The model is in evaluation mode meanwhile, and as it was afterwards.

    Args:
        model: The network.
        dataset: Labelled systems.
        samples: Numbers of those to predict.
        forces: Which forces to predict; None: none.
        max_atoms: Atoms in a batch.
        device: Where the model is.
    """
    batches = list(_batches_by_size(dataset, samples, max_atoms))
    was_training = model.training
    model.eval()
    try:
        for batch in build_loader(dataset, batches):
            moved = batch.to(device)
            yield moved, predict_batch(model, moved, forces=forces)
    finally:
        model.train(was_training)


def predict_batch(
    model: JMPModel, batch: TrainingBatch, *, forces: ForceKind | None
) -> BatchPrediction:
    """Return the prediction for a batch in the units of its labels.

    Stress is predicted where some system of the batch has it as a label and forces are
    gradients; direct forces have no stress that fits them.

    Args:
        model: The network.
        batch: On the device of the network; heads of energies and of targets do not
            share a batch.
        forces: Which forces to predict; None: none.
    """
    graph, specs = batch.graph, [model.heads[name] for name in batch.head]
    with torch.no_grad():
        if specs[0].target is not None:
            raw = model.predict_targets(graph, batch.head)
            return BatchPrediction(target=targets_to_physical(raw, graph, specs))
        has_stress = forces == "gradient" and bool(batch.has_stress.any())
        network = model(graph, batch.head, forces=forces, stress=has_stress)
        found = to_physical(network, graph, specs, forces=forces)
        stress = None
        if found.virial is not None:
            volume = torch.linalg.det(graph.cell).abs()
            stress = found.virial / volume[:, None, None]
    return BatchPrediction(energy=found.energy, forces=found.forces, stress=stress)


def choose_samples(
    dataset: GraphDataset, per_task: int | None
) -> Int[np.ndarray, " samples"]:
    """Return up to so many samples of each task, always the same ones.

    Args:
        dataset: Labelled systems.
        per_task: Largest number of each task; None: all.
    """
    chosen, start = [], 0
    for size in dataset.sizes:
        order = np.arange(size)
        if per_task is not None and per_task < size:
            order = np.sort(np.random.default_rng(0).permutation(size)[:per_task])
        chosen.append(start + order)
        start += size
    return np.concatenate(chosen)


def _batches_by_size(
    dataset: GraphDataset, samples: Samples, max_atoms: int
) -> Iterator[list[int]]:
    """Yield batches of neighbouring samples of one task each."""
    batch: list[int] = []
    n_atoms, task = 0, ""
    for sample in map(int, samples):
        size, of = int(dataset.n_atoms[sample]), dataset.task_of(sample)
        if batch and (n_atoms + size > max_atoms or of != task):
            yield batch
            batch, n_atoms = [], 0
        batch.append(sample)
        n_atoms, task = n_atoms + size, of
    if batch:
        yield batch
