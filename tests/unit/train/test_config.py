from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError
from jmp_train.config import (
    DataConfig,
    OptimConfig,
    StoppingConfig,
    TaskConfig,
    TaskScales,
    TrainConfig,
)
from toys.training import RULES, toy_config


@pytest.fixture
def config() -> TrainConfig:
    return toy_config(Path("stores"), Path("out"))


def test_optimizer_defaults_are_the_published_ones() -> None:
    """Training specification, section 1.8."""
    optim = OptimConfig()
    assert (optim.learning_rate, optim.betas, optim.eps) == (3e-4, (0.9, 0.95), 1e-8)
    assert (optim.weight_decay, optim.clip_norm, optim.ema_decay) == (0.1, 1.0, 0.99)
    assert (optim.warmup_steps, optim.warmup_start, optim.final) == (2000, 0.2, 0.1)


def test_mixture_and_loss_defaults_are_the_published_ones(config) -> None:
    data = DataConfig(stores=config.data.stores, tasks=config.data.tasks)
    run = TrainConfig(name="a", data=data, out=config.out)
    assert (data.temperature, run.epochs, run.reduction) == (2.0, 2, "structure")


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("field", ["energy_weight", "force_weight"])
def test_loss_weights_are_finite_and_not_negative(field, value) -> None:
    with pytest.raises(ArgumentError, match=f"{field} of task 'a' is {value}; it must"):
        TaskConfig(name="a", graph=RULES, **{field: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "gap"}, "has the target 'gap', but its head predicts energy"),
        ({"head_dropout": 2.0}, "head_dropout of task 'a' is 2.0; it must be at least"),
    ],
)
def test_what_contradicts_itself_in_a_task_is_an_error(changes, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        TaskConfig(name="a", graph=RULES, **changes)


def test_scales_divide_and_patience_is_at_least_one() -> None:
    with pytest.raises(ArgumentError, match=r"energy_scale is 0\.0; it must be po"):
        TaskScales(energy_scale=0.0)
    with pytest.raises(ArgumentError, match="patience is 0; it must be at least 1"):
        StoppingConfig(patience=0)


def test_tasks_are_there_and_distinct(config) -> None:
    for tasks in ((), config.data.tasks[:1] * 2):
        with pytest.raises(ArgumentError, match="at least one task, and each only onc"):
            replace(config.data, tasks=tasks)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", 0.0, "temperature is 0.0; it must be positive"),
        ("max_atoms", 0, "max_atoms is 0; it must be at least 1"),
        ("max_pairs", 0, "max_pairs is 0; it must be at least 1"),
        ("batches_per_step", 0, "batches_per_step is 0; it must be at least 1"),
        ("workers", -1, "workers is -1; it must not be negative"),
        ("graph_cache", -1, "graph_cache is -1; it must not be negative"),
    ],
)
def test_data_settings_are_checked(config, field, value, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(config.data, **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("learning_rate", 0.0, "learning_rate is 0.0; it must be positive"),
        ("clip_norm", 0.0, "clip_norm is 0.0; it must be positive, or null"),
        ("clip_value", -1.0, "clip_value is -1.0; it must be positive, or null"),
        ("betas", (2.0, 0.9), r"betas are \(2.0, 0.9\); both must be at least 0"),
        ("ema_decay", 1.0, "ema_decay is 1.0; it must be at least 0 and below 1"),
        ("warmup_steps", -1, "warmup_steps is -1; it must not be negative"),
        ("weight_decay", -0.1, "weight_decay is -0.1; it must not be negative"),
    ],
)
def test_optimizer_settings_are_checked(field, value, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        OptimConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs is 0; it must be at least 1"),
        ("log_every", 0, "log_every is 0; it must be at least 1"),
        ("max_steps", 0, "max_steps is 0; it must be at least 1"),
        ("scale_batches", -1, "scale_batches is -1; it must not be negative"),
        ("max_minutes", 0.0, "max_minutes is 0.0; it must be positive"),
    ],
)
def test_run_settings_are_checked(config, field, value, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(config, **{field: value})


def test_all_tasks_have_the_same_kind_of_forces(config) -> None:
    mixed = (config.data.tasks[0], replace(config.data.tasks[1], forces="direct"))
    with pytest.raises(
        ArgumentError, match="have direct and gradient forces; give all"
    ):
        replace(config, data=replace(config.data, tasks=mixed))


def test_a_task_is_found_by_name(config) -> None:
    assert config.task("pbe") is config.data.tasks[1]
    with pytest.raises(ArgumentError, match=r"no task 'pbee' .*qm7x, pbe.*mean 'pbe'"):
        config.task("pbee")
