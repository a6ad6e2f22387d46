"""Steps made of samples by hand, for trainers under test."""

from __future__ import annotations

from collections.abc import Sequence

from jmp_train.feed import FedStep
from jmp_train.trainer import Trainer
from toys.joined import join_systems


def fed_step(trainer: Trainer, *batches: Sequence[int]) -> FedStep:
    """A step of a trainer that is alone, with batches of these samples."""
    dataset = trainer.dataset
    return FedStep(
        epoch=0,
        place=trainer.position.place,
        samples=[list(batch) for batch in batches],
        batches=[join_systems([dataset[i] for i in batch]) for batch in batches],
        numbers=list(range(len(batches))),
        n_rounds=len(batches),
        is_last_of_epoch=False,
        waiting=0.0,
    )
