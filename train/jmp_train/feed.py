"""The batches of a run, step by step: each process loads its share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, pairwise, tee

from jmp_train.data.batches import GraphDataset, TrainingBatch, build_loader
from jmp_train.parallel import Group
from jmp_train.plan import Step, TrainingPlan
from jmp_train.progress import StepResult
from jmp_train.run_state import Position


@dataclass(frozen=True, kw_only=True, slots=True)
class FedStep:
    """One step and what this process has of it."""

    epoch: int
    """Number of the epoch."""
    place: int
    """Number of the step in the epoch."""
    samples: Step
    """Samples of all batches of the step, in all processes."""
    batches: list[TrainingBatch]
    """The batches of this process, on the CPU."""
    numbers: list[int]
    """Their numbers in the step."""
    n_rounds: int
    """Largest number of batches that a process has in this step."""
    is_last_of_epoch: bool
    """Whether the next step belongs to another epoch."""
    waiting: float
    """Time until the batches were there, s."""


def feed_steps(
    dataset: GraphDataset,
    plan: TrainingPlan,
    group: Group,
    *,
    epoch: int,
    place: int,
    workers: int,
) -> Iterator[FedStep]:
    """Yield the steps of a run without end, from a place on.

    Args:
        dataset: Training samples.
        plan: Which samples make which step.
        group: The processes.
        epoch: Where to begin.
        place: Number of the first step in that epoch; it may be its end.
        workers: Processes that load, for each process that computes.

    Raises:
        DataError: If a sample cannot be read.
    """
    while True:
        ahead, steps = tee(plan.epoch_steps(epoch, place))
        own, same = tee(_own_batches(ahead, plan, group, place))
        loader = iter(
            build_loader(
                dataset,
                (batch for _, batch in own),
                workers=workers,
                epoch=epoch,
                numbers=(number for number, _ in same),
            )
        )
        following = pairwise(chain(steps, [None]))
        for index, (step, after) in enumerate(following, start=place):
            assert step is not None
            began = time.monotonic()
            shares = plan.shares(step, group.world_size)
            numbers = shares[group.rank]
            with group.together():
                batches = [next(loader) for _ in numbers]
            yield FedStep(
                epoch=epoch,
                place=index,
                samples=step,
                batches=batches,
                numbers=numbers,
                n_rounds=max(map(len, shares)),
                is_last_of_epoch=after is None,
                waiting=time.monotonic() - began,
            )
        epoch, place = epoch + 1, 0


def _own_batches(
    steps: Iterator[Step], plan: TrainingPlan, group: Group, place: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield number in the epoch and samples of each batch of this process."""
    for index, step in enumerate(steps, start=place):
        for number in plan.shares(step, group.world_size)[group.rank]:
            yield index * plan.batches_per_step + number, step[number]


def position_after(
    position: Position, fed: FedStep, result: StepResult, dataset: GraphDataset
) -> Position:
    """Return how far a run is after one more step.

    Args:
        position: How far it was.
        fed: The step.
        result: What it did.
        dataset: Training samples.
    """
    tasks = list(dataset.stores)
    seen = list(position.seen)
    for batch in fed.samples:
        for sample in batch:
            seen[tasks.index(dataset.task_of(sample))] += 1
    return replace(
        position,
        step=position.step + 1,
        epoch=fed.epoch,
        place=fed.place + 1,
        seconds=position.seconds + result.seconds,
        seen=tuple(seen),
        skipped=position.skipped + result.is_skipped,
    )
