"""The ceiling on one task's share of the compute."""

from __future__ import annotations

import numpy as np
import pytest

from jmp_calc.errors import ArgumentError
from jmp_train.config import DataConfig, TaskConfig
from jmp_train.data.mixture import build_mixture
from toys.training import RULES

SIZES = (1000, 100, 40)
COSTS = (1.0, 4.0, 50.0)


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
    with pytest.raises(ArgumentError, match=r"3 tasks cannot fill.*above 0\.333"):
        build_mixture(SIZES, 2.0, costs=COSTS, max_share=0.3)


def test_the_share_is_a_part_of_one(tmp_path) -> None:
    task = TaskConfig(name="qm7x", graph=RULES)
    with pytest.raises(
        ArgumentError, match=r"max_task_share is 1\.5; it must be above"
    ):
        DataConfig(stores=tmp_path, tasks=(task,), max_task_share=1.5)
