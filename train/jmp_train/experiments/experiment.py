"""Experiment: arms to train, and what their results say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jmp_train.config import StartConfig
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.report import Report
from jmp_train.experiments.settings import ExperimentSettings

Starts = Mapping[str, StartConfig | None]
"""What each arm starts from, by its name; None: random weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """One question that training runs can answer."""

    id: str
    """Number in the list of experiments, such as E1."""
    name: str
    """Name on the command line."""
    question: str
    """What is asked."""
    arms: Callable[[ExperimentSettings], list[Arm]]
    """Return every run, each after the one that it starts from."""
    summarise: Callable[[ExperimentSettings, Sequence[ArmResult], Announce], Report]
    """Return the answer; may measure more with the trained weights."""
    needs_pretraining: int = 0
    """Least number of stores to pre-train on; 0: it does not pre-train."""
    starts: Callable[[ExperimentSettings], Starts] | None = None
    """What each arm starts from, where arms differ in nothing else, so that they can be
    chosen by name and have a learning rate of their own; None: they differ otherwise.
    """


def seeds_of(settings: ExperimentSettings) -> range:
    """Return the seeds of all arms.

    Args:
        settings: Number of repeats.
    """
    return range(settings.seeds)
