from __future__ import annotations

import math
from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError
from jmp_calc.models.config import NANO, L, S
from jmp_train.finetune.defaults import (
    LARGE_RATE,
    SIZE_DEFAULTS,
    SMALL_RATE,
    VALIDATIONS,
    default_rate,
    defaults_for,
    evaluation_interval,
    run_length,
    user_optim,
    validating,
)
from jmp_train.finetune.pace import steps_within, with_steps
from jmp_train.finetune.settings import FinetuneSettings
from jmp_train.finetune.userplan import n_parameters
from jmp_train.schedules import build_schedule
from toys.training import toy_config


@pytest.mark.parametrize("n", [20, 100, 101, 1000, 5000, 100_000, 10_000_000])
def test_defaults_are_those_of_the_first_row_that_is_large_enough(n) -> None:
    row = defaults_for(n)
    place = SIZE_DEFAULTS.index(row)
    assert row.n_systems is None or n <= row.n_systems
    smaller = SIZE_DEFAULTS[place - 1].n_systems if place else 0
    assert smaller is not None
    assert n > smaller


def test_more_data_mean_larger_batches_and_fewer_passes() -> None:
    batches = [row.batch_systems for row in SIZE_DEFAULTS]
    epochs = [row.epochs for row in SIZE_DEFAULTS]
    parts = [row.val_fraction for row in SIZE_DEFAULTS]
    assert batches == sorted(batches)
    assert epochs == sorted(epochs, reverse=True)
    assert parts == sorted(parts, reverse=True)


def test_the_table_in_the_documentation_is_the_one_in_the_code() -> None:
    text = (Path(__file__).parents[3] / "train" / "README.md").read_text("utf-8")
    for row in SIZE_DEFAULTS:
        size = "more" if row.n_systems is None else f"{row.n_systems:,}"
        cells = [size.replace(",", " "), row.batch_systems, row.epochs]
        line = " | ".join(map(str, cells))
        assert f"| {line} | {100 * row.val_fraction:g} % |" in text


@pytest.mark.parametrize(
    ("n", "n_val"), [(20, 4), (100, 20), (1000, 100), (10_000, 500), (100_000, 2000)]
)
def test_the_part_that_validates_shrinks_as_data_grow(n, n_val) -> None:
    assert validating(n) == n_val


@pytest.mark.parametrize(("n", "n_val"), [(2, 1), (3, 1), (20, 18)])
def test_something_is_always_left_to_train_on(n, n_val) -> None:
    assert validating(n, 0.4 if n == 3 else 0.9) == n_val


def test_replayed_tasks_make_a_run_longer_by_their_share() -> None:
    alone = run_length(50, batch_systems=4, epochs=10, n_tasks=1)
    assert alone == 10 * 13
    assert run_length(50, batch_systems=4, epochs=10, n_tasks=3) == 3 * alone


@pytest.mark.parametrize(("n_steps", "epoch"), [(10, 3), (1000, 7), (1000, 400)])
def test_there_are_so_many_validations_at_most(n_steps, epoch) -> None:
    interval = evaluation_interval(n_steps, epoch)
    assert interval >= epoch
    assert n_steps / interval <= VALIDATIONS


@pytest.mark.parametrize(
    ("config", "rate"), [(NANO, SMALL_RATE), (S, LARGE_RATE), (L, LARGE_RATE)]
)
def test_published_sizes_take_the_published_rate(config, rate) -> None:
    assert default_rate(n_parameters(config)) == rate


@pytest.mark.parametrize("n_steps", [7, 100, 50_000])
def test_the_schedule_of_a_user_ends_with_the_run(n_steps) -> None:
    optim = user_optim(learning_rate=1.0, n_steps=n_steps, ema_decay=None)
    config = toy_config(Path("stores"), Path("run"), optim=optim)
    schedule = build_schedule(
        config, steps_per_epoch=1, n_steps=n_steps, factors=(1.0,)
    )
    assert optim.warmup_steps <= n_steps
    assert schedule.rates(n_steps) == pytest.approx([0.01])


def test_steps_within_a_time_leave_some_for_validations() -> None:
    assert steps_within(600.0, step=1.0, validation=1.0) == 600 - VALIDATIONS
    # dear validations have half of the time at most
    assert steps_within(600.0, step=1.0, validation=100.0) == 300
    assert steps_within(1.0, step=60.0, validation=0.0) == 1


def test_a_run_of_another_length_has_a_schedule_that_fits() -> None:
    config = with_steps(toy_config(Path("stores"), Path("run")), 1000)
    assert config.max_steps == 1000
    assert config.optim.warmup_steps == 50
    assert config.evaluate_every == math.ceil(1000 / VALIDATIONS)
    assert config.optim.ema_decay == 0.5


def settings(**changes: object) -> FinetuneSettings:
    return FinetuneSettings(data=(Path("mine.xyz"),), out=Path("run"), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "nanno"}, r"unknown size 'nanno'.* did you mean 'nano'"),
        ({"val_fraction": 1.5}, r"validates is 1\.5; it must be above 0 and below 1"),
        (
            {"val_fraction": 0.1, "val": Path("v.xyz")},
            r"either a file that validates or a fraction, not both",
        ),
        ({"references": "average"}, r"unknown references 'average'; choose from auto"),
        (
            {"target": "gap", "kind": "energy_forces"},
            r"head of energy and forces does not predict 'gap'; give the kind scalar",
        ),
        (
            {"weights": "scratch", "frozen": ("backbone",)},
            r"from scratch has nothing to freeze or to replay",
        ),
        ({"weights": "scratch", "head": "qm7x"}, r"has no head 'qm7x' to keep"),
    ],
)
def test_settings_that_make_no_sense_are_errors(changes, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        settings(**changes)


def test_no_data_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"give at least one file or folder"):
        FinetuneSettings(data=(), out=Path("run"))
