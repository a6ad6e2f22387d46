"""E1: does pre-training help, by how much, and how much sooner?"""

from __future__ import annotations

from collections.abc import Sequence

from jmp_train.config import StartConfig
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment, Starts
from jmp_train.experiments.learning_curve import (
    SCRATCH,
    asked_for,
    curve_arms,
    curve_picture,
    curve_table,
    gain_words,
    gains_of,
    speed_ups,
)
from jmp_train.experiments.report import Report
from jmp_train.experiments.results import mean_of
from jmp_train.experiments.settings import ExperimentSettings

PRETRAINED, FROZEN = "pre-trained", "frozen backbone"
ARMS = (SCRATCH, PRETRAINED, FROZEN)
"""Arms in the order of the tables."""
FROZEN_PARTS = ("backbone", "embedding")
"""All but the heads."""

_QUESTION = (
    "Same network, same steps, same training systems: what does starting from trained "
    "weights change?"
)


def starts_of(settings: ExperimentSettings) -> Starts:
    """Return what each arm that is asked for starts from.

    Args:
        settings: Names the weights, and perhaps arms.
    """
    weights = settings.weights
    starts = {
        SCRATCH: None,
        PRETRAINED: StartConfig(weights=weights),
        FROZEN: StartConfig(weights=weights, frozen=FROZEN_PARTS),
    }
    return asked_for(settings, starts)


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return all runs: set x number of training systems x seed x arm.

    Args:
        settings: Data and budget.
    """
    return curve_arms(settings, starts_of(settings))


def summarise(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    announce: Announce,  # noqa: ARG001 (part of the interface)
) -> Report:
    """Return errors, improvements and steps saved.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Not used.
    """
    arms = tuple(starts_of(settings))
    gains = {arm: gains_of(settings, results, arm) for arm in arms[1:]}
    sooner = [
        pair
        for store in settings.downstream
        for n_train in settings.budget.n_train
        for pair in speed_ups(
            settings, results, PRETRAINED, store=store, n_train=n_train
        )
    ]
    reached = [pair for pair in sooner if pair is not None]
    findings = [gain_words(gains[arm], arm) for arm in arms[1:]]
    findings.append(
        "Published for JMP-L (235 M parameters, pre-trained on 120 M systems): error "
        "-58.7 % on average over 40 tasks, in a twelfth of the time."
    )
    if reached:
        findings.insert(
            len(gains),
            f"'{PRETRAINED}' reaches the best validation error of scratch in "
            f"{len(reached)} of {len(sooner)} pairs of runs, there in "
            f"1/{mean_of([s for s, _ in reached]):.1f} of the steps and "
            f"1/{mean_of([h for _, h in reached]):.1f} of the hours.",
        )
    return Report(
        question=_QUESTION,
        findings=tuple(findings),
        tables=(curve_table(settings, results, arms),),
        picture=curve_picture(settings, results, arms),
        facts={"improvement_percent": gains, "speed_up": sooner},
    )


EXPERIMENT = Experiment(
    id="E1",
    name="scratch-vs-pretrained",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
    starts=starts_of,
)
"""The experiment."""
