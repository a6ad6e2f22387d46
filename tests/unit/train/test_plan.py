from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from jmp_train.config import TrainConfig
from jmp_train.data.batches import GraphDataset
from jmp_train.data.store import open_stores
from jmp_train.plan import TrainingPlan
from toys.training import RULES, TOY_TASKS, toy_config


@pytest.fixture
def dataset(toy_stores) -> GraphDataset:
    stores = open_stores(toy_stores, list(TOY_TASKS), "train")
    return GraphDataset(stores, dict.fromkeys(TOY_TASKS, RULES))


@pytest.fixture
def config(toy_stores) -> TrainConfig:
    config = toy_config(toy_stores, Path("out"), max_steps=None)
    return replace(config, data=replace(config.data, batches_per_step=2))


def samples_of(plan: TrainingPlan, epoch: int) -> list[int]:
    return [i for step in plan.epoch_steps(epoch) for batch in step for i in batch]


def test_an_epoch_visits_the_expanded_mixture(dataset, config) -> None:
    """Ten molecules once, five crystals expanded to ceil(sqrt(50)) = 8."""
    plan = TrainingPlan(dataset, config)
    visits = sorted(samples_of(plan, 0))
    assert visits == sorted([*range(15), 10, 11, 12])


def test_the_length_of_a_run_is_that_of_its_epochs(dataset, config) -> None:
    plan = TrainingPlan(dataset, replace(config, epochs=3))
    assert plan.n_steps == sum(len(plan.epoch_steps(epoch)) for epoch in range(3))
    assert TrainingPlan(dataset, replace(config, max_steps=77)).n_steps == 77


def test_a_step_has_so_many_batches_and_the_last_one_the_rest(dataset, config) -> None:
    data = replace(config.data, batches_per_step=4)
    steps = TrainingPlan(dataset, replace(config, data=data)).epoch_steps(0)
    assert {len(step) for step in steps[:-1]} == {4}
    assert 1 <= len(steps[-1]) <= 4


def test_batches_fit(dataset, config) -> None:
    steps = TrainingPlan(dataset, config).epoch_steps(0)
    for batch in (batch for step in steps for batch in step):
        assert dataset.n_atoms[batch].sum() <= config.data.max_atoms


def test_another_epoch_or_seed_has_another_order(dataset, config) -> None:
    plan = TrainingPlan(dataset, config)
    other = TrainingPlan(dataset, replace(config, seed=1))
    assert samples_of(plan, 0) != samples_of(plan, 1)
    assert samples_of(plan, 0) != samples_of(other, 0)


def test_steps_go_on_from_any_place_into_the_next_epoch(dataset, config) -> None:
    plan = TrainingPlan(dataset, config)
    n = len(plan.epoch_steps(0))
    whole = list(islice(plan.steps_from(0, 0), 2 * n))
    assert list(islice(plan.steps_from(0, 2), n)) == whole[2 : n + 2]
    assert [(epoch, place) for epoch, place, _ in whole[n - 1 : n + 1]] == [
        (0, n - 1),
        (1, 0),
    ]
