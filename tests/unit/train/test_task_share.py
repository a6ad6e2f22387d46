"""The ceiling on one task's share of the compute."""

from __future__ import annotations

import numpy as np
import pytest

from jmp_calc.errors import ArgumentError
from jmp_train.config import DataConfig, TaskConfig, TrainConfig
from jmp_train.data.batches import GraphDataset
from jmp_train.data.mixture import build_mixture
from jmp_train.plan import TrainingPlan
from toys.training import RULES

SIZES = (1000, 100, 40)
COSTS = (1.0, 4.0, 50.0)


class _Sets(GraphDataset):
    """Of these sizes and costs, without samples."""

    sizes = SIZES

    def __init__(self) -> None:
        pass

    def mean_pairs(self) -> list[float]:
        return list(COSTS)


def shares(mixture) -> np.ndarray:
    spent = np.array(mixture.expanded) * COSTS
    return spent / spent.sum()


def test_without_a_ceiling_the_cost_changes_nothing() -> None:
    assert build_mixture(SIZES, 2.0, costs=COSTS) == build_mixture(SIZES, 2.0)


def test_a_dear_set_is_cut_to_its_share_and_cheap_ones_keep_their_length() -> None:
    free = build_mixture(SIZES, 2.0)
    capped = build_mixture(SIZES, 2.0, costs=COSTS, max_share=0.5)
    assert shares(free)[2] > 0.8
    # whole samples: a share may stay below the limit by the cost of one sample
    assert 0.47 < shares(capped)[2] <= 0.5
    assert capped.expanded[:2] == free.expanded[:2]


def test_cutting_one_set_may_bring_the_next_above_the_limit() -> None:
    capped = build_mixture(SIZES, 2.0, costs=COSTS, max_share=0.35)
    assert (shares(capped) <= 0.355).all()
    assert (np.array(capped.expanded) < build_mixture(SIZES, 2.0).expanded).sum() == 2


def test_every_sample_of_a_cut_set_gets_its_turn() -> None:
    mixture = build_mixture(SIZES, 1.0, costs=COSTS, max_share=0.4)
    n = mixture.expanded[2]
    assert n < SIZES[2]
    seen = np.concatenate(
        [mixture.epoch_order(seed=3, epoch=e) for e in range(-(-SIZES[2] // n))]
    )
    assert set(seen[seen >= 1100]) == set(range(1100, 1140))


def test_a_cut_epoch_has_no_sample_twice() -> None:
    mixture = build_mixture(SIZES, 1.0, costs=COSTS, max_share=0.4)
    order = mixture.epoch_order(seed=0, epoch=5)
    cut = order[order >= 1100]
    assert len(set(cut)) == len(cut) == mixture.expanded[2]


def test_shares_that_cannot_fill_an_epoch_are_an_error() -> None:
    with pytest.raises(
        ArgumentError, match=r"of 3 tasks are 0\.3, 0\.3, 0\.3, which.*"
    ):
        build_mixture(SIZES, 2.0, costs=COSTS, max_share=0.3)


def test_each_set_can_have_a_ceiling_of_its_own() -> None:
    free = build_mixture(SIZES, 2.0)
    limits = (1.0, 0.08, 0.25)
    capped = build_mixture(SIZES, 2.0, costs=COSTS, max_share=limits)
    assert capped.expanded[0] == free.expanded[0]
    assert 0.2 < shares(capped)[2] <= 0.25
    assert 0.07 < shares(capped)[1] <= 0.08


def test_the_limit_of_a_task_is_a_part_of_one() -> None:
    with pytest.raises(ArgumentError, match="max_share of task 'a' is 0"):
        TaskConfig(name="a", graph=RULES, max_share=0.0)


def test_the_smaller_of_both_limits_of_a_task_counts(tmp_path) -> None:
    limits = {"a": 1.0, "b": 0.08, "c": 1.0}
    tasks = tuple(
        TaskConfig(name=name, graph=RULES, max_share=limit)
        for name, limit in limits.items()
    )
    config = TrainConfig(
        name="toy",
        data=DataConfig(stores=tmp_path, tasks=tasks, max_task_share=0.6),
        out=tmp_path,
        max_steps=1,
    )
    found = shares(TrainingPlan(_Sets(), config).mixture)
    assert found[1:] == pytest.approx([0.08, 0.6], rel=0.02)  # whole samples


def test_the_share_is_a_part_of_one(tmp_path) -> None:
    task = TaskConfig(name="qm7x", graph=RULES)
    with pytest.raises(
        ArgumentError, match=r"max_task_share is 1\.5; it must be above"
    ):
        DataConfig(stores=tmp_path, tasks=(task,), max_task_share=1.5)
