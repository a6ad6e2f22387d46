"""Items of a data set as one batch, without a loader."""

from __future__ import annotations

from collections.abc import Sequence

from torch_geometric.data import Batch

from jmp_train.data.batches import TrainingBatch
from jmp_train.data.container import SystemData, training_batch


def join_systems(items: Sequence[SystemData]) -> TrainingBatch:
    """The batch that a loader would make of these items."""
    return training_batch(Batch.from_data_list(list(items)))
