"""What a run on user data uses unless it is told otherwise, by number of systems."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jmp_train.config import OptimConfig

SMALL_NETWORK = 5_000_000
"""Parameters below which a network takes the larger rate."""
SMALL_RATE = 1e-3
"""Peak learning rate of a small network such as jmp-nano."""
LARGE_RATE = 8e-5
"""Peak learning rate of the published sizes (training specification, section 2.4)."""
VALIDATIONS = 50
"""Validations of a run at most, besides those after each epoch of a long one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeDefaults:
    """Settings for data sets up to a size."""

    n_systems: int | None
    """Training systems up to which they hold; None: any number."""
    batch_systems: int
    """Systems of an optimizer step."""
    epochs: int
    """Passes over the data."""
    val_fraction: float
    """Part that validates."""


SIZE_DEFAULTS = (
    SizeDefaults(n_systems=100, batch_systems=2, epochs=200, val_fraction=0.2),
    SizeDefaults(n_systems=1_000, batch_systems=4, epochs=100, val_fraction=0.1),
    SizeDefaults(n_systems=10_000, batch_systems=8, epochs=50, val_fraction=0.05),
    SizeDefaults(n_systems=100_000, batch_systems=16, epochs=20, val_fraction=0.02),
    SizeDefaults(n_systems=None, batch_systems=32, epochs=10, val_fraction=0.01),
)
"""Small data need many passes in small steps; large data validate with a small part.
Ours, not published."""


def defaults_for(n_systems: int) -> SizeDefaults:
    """Return the defaults for a number of systems.

    Args:
        n_systems: Training systems, or all where the parts are not known yet.
    """
    for row in SIZE_DEFAULTS:
        if row.n_systems is None or n_systems <= row.n_systems:
            return row
    raise AssertionError  # the last row holds for any number


def validating(n_systems: int, fraction: float | None = None) -> int:
    """Return how many systems validate: at least one, and not all.

    Args:
        n_systems: Systems that are divided.
        fraction: Part that validates; None: that of the table.
    """
    part = defaults_for(n_systems).val_fraction if fraction is None else fraction
    return max(min(round(part * n_systems), n_systems - 1), min(n_systems, 1))


def run_length(n_systems: int, *, batch_systems: int, epochs: int, n_tasks: int) -> int:
    """Return the optimizer steps of a run; replayed tasks add their share.

    Args:
        n_systems: Training systems of the user.
        batch_systems: Systems of a step.
        epochs: Passes over them.
        n_tasks: Tasks that are mixed evenly, the user's among them.
    """
    return epochs * n_tasks * math.ceil(n_systems / batch_systems)


def user_optim(
    *, learning_rate: float, n_steps: int, ema_decay: float | None
) -> OptimConfig:
    """Return the optimizer of a run on user data: warm-up, then cosine to the end.

    Unlike the published schedule it ends when the run does, so that short runs have
    their small rates, too.

    Args:
        learning_rate: Peak rate.
        n_steps: Optimizer steps of the run.
        ema_decay: Decay of the average of the weights; None: no average.
    """
    return OptimConfig(
        learning_rate=learning_rate,
        warmup_steps=min(max(n_steps // 20, 1), 500),
        warmup_start=0.1,
        final=0.01,
        clip_norm=10.0,
        ema_decay=ema_decay,
    )


def evaluation_interval(n_steps: int, steps_per_epoch: int) -> int:
    """Return the steps between validations: an epoch, or more where that is short.

    Args:
        n_steps: Steps of the run.
        steps_per_epoch: Steps of an epoch.
    """
    return max(steps_per_epoch, math.ceil(n_steps / VALIDATIONS))


def default_rate(n_parameters: int) -> float:
    """Return the peak learning rate of a network.

    Args:
        n_parameters: Numbers that it learns.
    """
    return SMALL_RATE if n_parameters < SMALL_NETWORK else LARGE_RATE
