"""The search for a learning rate: one per arm, by validation alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jmp_calc.errors import ArgumentError
from jmp_train.config import StartConfig
from jmp_train.experiments import experiment_named, run_experiment
from jmp_train.experiments.arms import ArmResult
from jmp_train.experiments.budgets import BUDGETS
from jmp_train.experiments.learning_curve import asked_for, curve_arms
from jmp_train.experiments.rate_search import best_rates, rate_arms, rate_table
from jmp_train.experiments.settings import ExperimentSettings
from toys.experiments import DOWNSTREAM, toy_settings, write_experiment_stores

STARTS = {"scratch": None, "pre-trained": StartConfig(weights="jmp-nano")}
RATES = (1e-4, 1e-3, 1e-2)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return write_experiment_stores(tmp_path_factory.mktemp("rate-stores"))


@pytest.fixture
def settings(stores, tmp_path) -> ExperimentSettings:
    return toy_settings(
        stores,
        tmp_path,
        downstream=(DOWNSTREAM, "small"),
        budget=replace(BUDGETS["smoke"], n_train=(8, 0)),
        rates=RATES,
    )


def result(
    arm: str, n_train: int, rate: float, val: float | None, test: float = 1.0
) -> ArmResult:
    def errors(force):
        return {DOWNSTREAM: {"force_mae_eV_per_A": force}}

    return ArmResult(
        name=arm,
        seed=0,
        tags={"n_train": n_train, "store": DOWNSTREAM, "rate": rate},
        errors=errors(test),
        train_errors={},
        val_errors={},
        curve=[{"step": 2, "tasks": errors(val)}],
        n_steps=4,
        n_systems=n_train or 12,
        n_parameters=1,
        seconds=1.0,
        gpu_memory_GB=None,
        device="cpu",
        config_hash="",
        fingerprints={},
        weights="",
    )


def test_every_arm_tries_every_rate_on_the_first_set_with_one_seed(settings) -> None:
    arms = rate_arms(settings, STARTS)
    tried = [(a.name, a.tags["n_train"], a.config.optim.learning_rate) for a in arms]
    assert sorted(tried) == sorted(
        (name, n, rate) for name in STARTS for n in (8, 0) for rate in RATES
    )
    assert {a.tags["store"] for a in arms} == {DOWNSTREAM}
    assert {a.config.seed for a in arms} == {0}
    assert len({a.config.out for a in arms}) == len(arms)


def test_validation_decides_and_the_test_part_does_not(settings) -> None:
    results = [
        result("scratch", 8, 1e-4, val=0.3, test=0.01),
        result("scratch", 8, 1e-3, val=0.2, test=0.9),
        result("scratch", 8, 1e-2, val=None, test=0.01),
        result("pre-trained", 8, 1e-4, val=0.1),
        result("pre-trained", 8, 1e-3, val=0.2),
        result("pre-trained", 8, 1e-2, val=0.3),
    ]
    chosen = best_rates(settings, results)
    assert chosen == {("scratch", 8): 1e-3, ("pre-trained", 8): 1e-4}
    rows = {row[0]: row for row in rate_table(settings, results, chosen).rows}
    assert rows["scratch"][1:4] == (8, 300.0, 200.0)
    assert rows["scratch"][-1] == "0.001"
    assert rows["pre-trained"][-1] == "0.0001, at the end of what was tried"


def test_all_runs_of_an_arm_have_its_rate_and_the_trial_is_one_of_them(
    settings,
) -> None:
    chosen = {
        ("scratch", 8): 1e-3,
        ("scratch", 0): 1e-2,
        ("pre-trained", 8): 1e-4,
        ("pre-trained", 0): 1e-4,
    }
    arms = curve_arms(replace(settings, chosen_rates=chosen), STARTS)
    assert len(arms) == 2 * 2 * 2 * 2  # set, size, seed, arm
    for arm in arms:
        key = arm.name, arm.tags["n_train"]
        assert arm.config.optim.learning_rate == chosen[key]
    trials = {arm.config.out: arm for arm in rate_arms(settings, STARTS)}
    again = [arm for arm in arms if arm.config.out in trials]
    assert len(again) == 4
    assert all(trials[arm.config.out] == arm for arm in again)


def test_without_rates_all_have_that_of_the_budget(settings) -> None:
    arms = curve_arms(replace(settings, rates=()), STARTS)
    budget = settings.budget
    assert {a.config.optim.learning_rate for a in arms} == {budget.finetune_rate}


def test_arms_are_chosen_by_name_and_scratch_is_always_among_them(settings) -> None:
    starts = STARTS | {"frozen backbone": StartConfig(weights="jmp-nano")}
    assert list(asked_for(settings, starts)) == list(starts)
    one = replace(settings, arms=("pre-trained",))
    assert list(asked_for(one, starts)) == ["scratch", "pre-trained"]
    with pytest.raises(ArgumentError, match=r"no arm 'pretrained'.*'pre-trained'"):
        asked_for(replace(settings, arms=("pretrained",)), starts)


def test_rates_and_arms_are_refused_where_arms_differ_otherwise(settings) -> None:
    with pytest.raises(ArgumentError, match=r"'forces' are not chosen by name.*--rate"):
        run_experiment(experiment_named("E12"), settings, print)


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan"), float("inf")])
def test_a_rate_must_be_positive(settings, rate) -> None:
    with pytest.raises(ArgumentError, match="must be positive"):
        replace(settings, rates=(1e-3, rate))
