"""How many steps fit into a given time."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

from jmp_train.config import TrainConfig
from jmp_train.feed import feed_steps
from jmp_train.finetune.defaults import VALIDATIONS, evaluation_interval, user_optim
from jmp_train.parallel import Group
from jmp_train.trainer import Trainer

N_TIMED = 8
"""Steps that are timed."""
N_UNTIMED = 2
"""Steps before them, which are slower."""


def fit_to_time(config: TrainConfig, minutes: float, group: Group) -> TrainConfig:
    """Return a run whose schedule ends after about so many minutes.

    A few steps and one validation are made on trial and thrown away.

    Args:
        config: A run with ``max_steps``.
        minutes: Time for training and validations.
        group: The processes, which all call this.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = replace(config, out=Path(folder))
        trainer = Trainer.build(trial, group=group)
        steps = feed_steps(
            trainer.dataset, trainer.plan, group, epoch=0, place=0, workers=0
        )
        seconds = []
        for fed in islice(steps, N_UNTIMED + N_TIMED):
            seconds.append(trainer.train_step(fed).seconds)
        began = time.monotonic()
        trainer.evaluate("val", per_task=config.evaluate_systems)
        validation = time.monotonic() - began
    step = sum(seconds[N_UNTIMED:]) / len(seconds[N_UNTIMED:])
    # The slowest process decides for all of them.
    step, validation = -group.smallest(-step), -group.smallest(-validation)
    return with_steps(
        config, steps_within(60 * minutes, step=step, validation=validation)
    )


def steps_within(seconds: float, *, step: float, validation: float) -> int:
    """Return the number of steps that fit into a time, with their validations.

    Args:
        seconds: The time.
        step: Time of a step, s.
        validation: Time of a validation, s; at most half of the time is left for them.
    """
    left = max(seconds - VALIDATIONS * validation, seconds / 2)
    return max(int(left / step), 1)


def with_steps(config: TrainConfig, n_steps: int) -> TrainConfig:
    """Return a run of another length, with a schedule that fits.

    Args:
        config: A run on user data.
        n_steps: Its optimizer steps.
    """
    interval = evaluation_interval(n_steps, 1)
    return replace(
        config,
        max_steps=n_steps,
        optim=user_optim(
            learning_rate=config.optim.learning_rate,
            n_steps=n_steps,
            ema_decay=config.optim.ema_decay,
        ),
        evaluate_every=interval,
        checkpoint_every=max(interval, 200),
        log_every=min(50, interval),
    )
