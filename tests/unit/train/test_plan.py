from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from jmp_calc.errors import ArgumentError
from jmp_train.config import TaskConfig, TrainConfig
from jmp_train.data.batches import Draw, GraphDataset
from jmp_train.data.store import open_stores
from jmp_train.feed import feed_steps
from jmp_train.parallel import Group
from jmp_train.plan import TrainingPlan
from toys.training import RULES, TOY_TASKS, toy_config


@pytest.fixture
def dataset(toy_stores) -> GraphDataset:
    stores = open_stores(toy_stores, list(TOY_TASKS), "train")
    return GraphDataset(
        stores, {name: TaskConfig(name=name, graph=RULES) for name in TOY_TASKS}
    )


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
    lengths = [plan.epoch_length(epoch) for epoch in range(3)]
    assert lengths == [len(list(plan.epoch_steps(epoch))) for epoch in range(3)]
    assert plan.n_steps == sum(lengths)
    assert TrainingPlan(dataset, replace(config, max_steps=77)).n_steps == 77


def test_a_step_has_so_many_batches_and_the_last_one_the_rest(dataset, config) -> None:
    data = replace(config.data, batches_per_step=4)
    steps = list(TrainingPlan(dataset, replace(config, data=data)).epoch_steps(0))
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
    n = plan.epoch_length(0)
    whole = list(islice(plan.steps_from(0, 0), 2 * n))
    assert list(islice(plan.steps_from(0, 2), n)) == whole[2 : n + 2]
    assert [(epoch, place) for epoch, place, _ in whole[n - 1 : n + 1]] == [
        (0, n - 1),
        (1, 0),
    ]


def published(config: TrainConfig, *, systems: int, batches: int) -> TrainConfig:
    data = replace(config.data, batch_systems=systems, batches_per_step=batches)
    return replace(config, data=data)


def test_published_steps_have_so_many_systems_in_balanced_batches(
    dataset, config
) -> None:
    plan = TrainingPlan(dataset, published(config, systems=2, batches=3))
    steps = list(plan.epoch_steps(0))
    assert [sum(map(len, step)) for step in steps] == [6, 6, 6]
    assert plan.n_steps == 2 * 3
    for step in steps:
        costs = [int(dataset.n_atoms[batch].sum()) for batch in step]
        assert max(costs) - min(costs) <= dataset.n_atoms.max()
    visits = sorted(samples_of(plan, 0))
    assert visits == sorted([*range(15), 10, 11, 12])


@pytest.mark.parametrize("systems", [None, 2])
def test_an_epoch_goes_on_from_any_step(dataset, config, systems) -> None:
    config = replace(config, data=replace(config.data, batch_systems=systems))
    plan = TrainingPlan(dataset, config)
    assert list(plan.epoch_steps(1, 2)) == list(plan.epoch_steps(1))[2:]


def test_the_batches_of_a_step_are_shared_out_by_cost(dataset, config) -> None:
    plan = TrainingPlan(dataset, config)
    atoms = dataset.n_atoms
    step = [[10], [3], [0], [1, 2]]  # of 2, 6, 3 and 9 atoms
    assert [int(atoms[batch].sum()) for batch in step] == [2, 6, 3, 9]
    assert plan.shares(step, 2) == [[0, 3], [1, 2]]
    assert plan.shares(step, 1) == [[0, 1, 2, 3]]
    assert plan.shares(step[:2], 3) == [[1], [0], []]


def test_each_draw_of_an_epoch_drops_edges_of_its_own_also_when_resumed(
    dataset, config, monkeypatch
) -> None:
    """Which edges are dropped follows from epoch, number of the batch and place."""
    drawn: list[Draw] = []
    build = GraphDataset.__getitem__
    monkeypatch.setattr(
        GraphDataset, "__getitem__", lambda self, d: drawn.append(d) or build(self, d)
    )

    def draws_from(place: int) -> set[Draw]:
        drawn.clear()
        plan, group = TrainingPlan(dataset, config), Group.single()
        steps = feed_steps(dataset, plan, group, epoch=0, place=place, workers=0)
        while not next(steps).is_last_of_epoch:
            pass
        return set(drawn)

    whole = draws_from(0)
    assert len({(d.epoch, d.number, d.place) for d in whole}) == 18
    assert draws_from(2) < whole


def test_the_batches_of_a_step_must_be_known(dataset, config) -> None:
    data = replace(config.data, batches_per_step=None)
    with pytest.raises(ArgumentError, match=r"batches_per_step is not known yet"):
        TrainingPlan(dataset, replace(config, data=data))


@pytest.fixture
def million(dataset) -> GraphDataset:
    """The sizes of a million systems; the systems themselves are not there."""
    dataset.sizes = (800_000, 200_000)
    dataset.n_atoms = np.random.default_rng(0).integers(3, 200, 1_000_000)
    return dataset


def large(config: TrainConfig, systems: int | None) -> TrainConfig:
    data = replace(
        config.data, batch_systems=systems, batches_per_step=8, max_atoms=256
    )
    return replace(config, data=data, epochs=1)


def test_the_steps_of_a_million_systems_are_counted_exactly(million, config) -> None:
    plan = TrainingPlan(million, large(config, None))
    visits = plan.mixture.epoch_length
    assert visits == 800_000 + 400_000
    filled = visits * million.n_atoms.mean() / (plan.n_steps * 8 * 256)
    assert 0.85 < filled <= 1  # nearly full batches
    assert TrainingPlan(million, large(config, 4)).n_steps == visits // 32


@pytest.mark.parametrize("systems", [None, 4])
def test_a_million_systems_are_planned_in_the_memory_of_their_order(
    million, config, systems
) -> None:
    """8 bytes for each visit, and as much again while samples take turns."""
    config = replace(large(config, systems), max_steps=10)
    tracemalloc.start()
    plan = TrainingPlan(million, config)
    steps = list(islice(plan.epoch_steps(0), 100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(steps) == 100
    assert peak < 2.2 * 8 * plan.mixture.epoch_length
