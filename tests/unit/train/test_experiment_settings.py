"""What the arms of experiments have in common, and what they vary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError
from jmp_train.experiments import EXPERIMENTS, experiment_named
from jmp_train.experiments.budgets import budget_named
from jmp_train.experiments.leave_one_out import changes_of, contributions
from jmp_train.experiments.settings import ExperimentSettings
from jmp_train.plan import TrainingPlan
from jmp_train.validation import open_dataset
from toys.experiments import DOWNSTREAM, toy_settings, write_experiment_stores


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment_stores(tmp_path_factory.mktemp("settings-stores"))


@pytest.fixture
def settings(stores, tmp_path) -> ExperimentSettings:
    return toy_settings(stores, tmp_path, pretraining=("small", "solid"))


def pretrainings(settings: ExperimentSettings, name: str) -> dict:
    arms = experiment_named(name).arms(settings)
    return {
        (arm.name, arm.config.seed): arm.config for arm in arms if arm.after is None
    }


def test_experiments_are_found_by_name_and_by_number() -> None:
    assert experiment_named("e12") is experiment_named("forces")
    assert len({e.id for e in EXPERIMENTS.values()}) == len(EXPERIMENTS) == 9


def test_an_unknown_experiment_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match=r"unknown experiment 'forcs'.*'forces'"):
        experiment_named("forcs")


def test_an_unknown_budget_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match="choose from smoke, small, full"):
        budget_named("tiny")


def test_there_must_be_a_seed_and_a_set(settings) -> None:
    with pytest.raises(ArgumentError, match="seeds is 0"):
        replace(settings, seeds=0)
    with pytest.raises(ArgumentError, match="name at least one store to fine-tune on"):
        replace(settings, downstream=())


def test_what_is_scored_follows_from_the_labels(settings) -> None:
    assert settings.metric(DOWNSTREAM) == "forces"
    assert replace(settings, target="gap").metric(DOWNSTREAM) == "target"


def test_a_target_that_the_set_lacks_is_an_error_with_those_it_has(settings) -> None:
    with pytest.raises(ArgumentError, match="has no label 'dipole'; it has gap"):
        replace(settings, target="dipole").metric(DOWNSTREAM)


@pytest.mark.parametrize("name", ["E2", "E3", "E4", "E8"])
def test_every_arm_has_the_same_steps_and_a_folder_of_its_own(settings, name) -> None:
    arms = experiment_named(name).arms(settings)
    budget = settings.budget
    steps = {arm.config.max_steps for arm in arms}
    assert steps == {budget.pretrain_steps, budget.finetune_steps}
    assert len({arm.config.out for arm in arms}) == len(arms)
    assert {arm.config.seed for arm in arms} == {0, 1}


def test_a_fine_tuning_has_the_network_and_the_seed_of_its_pretraining(
    settings,
) -> None:
    for arm in experiment_named("E4").arms(settings):
        if arm.after is not None:
            before = arm.after.config
            assert (arm.config.model, arm.config.seed) == (before.model, before.seed)


def test_direct_pretraining_is_followed_by_gradient_forces(settings) -> None:
    budget = replace(settings.budget, pretrain_forces="direct")
    arms = experiment_named("E2").arms(replace(settings, budget=budget))
    kinds = {
        (arm.config.forces, arm.config.model.has_direct_forces, arm.after is None)
        for arm in arms
    }
    assert kinds == {("direct", True, True), ("gradient", False, False)}


def test_temperatures_are_varied_and_nothing_else(settings) -> None:
    configs = pretrainings(settings, "E3")
    found = [c.data.temperature for (_, seed), c in configs.items() if seed == 0]
    assert found == [1.0, 2.0, 3.0, float("inf")]
    same = {
        replace(c, out=Path(), seed=0, data=replace(c.data, temperature=1.0))
        for c in configs.values()
    }
    assert len(same) == 1


def test_equal_epochs_take_more_steps_at_a_larger_temperature(settings) -> None:
    budget = replace(settings.budget, max_atoms=8, pretrain_steps=20)
    configs = pretrainings(replace(settings, equal="epochs", budget=budget), "E3")
    steps = [
        TrainingPlan(open_dataset(config, "train"), config).n_steps
        for (_, seed), config in configs.items()
        if seed == 0
    ]
    assert steps == sorted(steps)
    assert steps[0] < steps[-1]
    assert {c.epochs for c in configs.values()} == {2}


def test_of_two_sets_each_is_taken_alone_and_of_three_each_is_left_out() -> None:
    assert list(changes_of(["a", "b"])) == ["all", "only a", "only b"]
    assert list(changes_of(["a", "b", "c"])) == [
        "all",
        *(f"without {n}" for n in "abc"),
        *(f"only {n}" for n in "abc"),
    ]


def test_a_set_without_which_the_error_grows_most_ranks_first() -> None:
    errors = {"all": [1.0], "without a": [1.1], "without b": [2.0], "without c": [0.9]}
    ranked = contributions(["a", "b", "c"], errors)
    assert [name for _, name, _ in ranked] == ["b", "a", "c"]
    assert [change for change, _, _ in ranked] == pytest.approx([100, 10, -10])


def test_a_set_that_was_not_measured_ranks_last() -> None:
    errors = {"all": [1.0], "only a": [float("nan")], "only b": [1.5]}
    assert [name for _, name, _ in contributions(["a", "b"], errors)] == ["b", "a"]
