"""Experiments: questions about pre-training that one command answers.

Source:
    Training specification, section 7; the questions are those of arXiv 2310.16802.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_train.experiments import (
    ablations,
    forces,
    heads,
    overlap,
    scratch_vs_pretrained,
    transfer,
)
from jmp_train.experiments.arms import Announce, run_arms
from jmp_train.experiments.experiment import Experiment
from jmp_train.experiments.report import write_report
from jmp_train.experiments.settings import ExperimentSettings

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        scratch_vs_pretrained.EXPERIMENT,
        ablations.LOSS_REDUCTION,
        ablations.TEMPERATURE,
        ablations.SCALING,
        overlap.EXPERIMENT,
        heads.EXPERIMENT,
        transfer.EXPERIMENT,
        ablations.LEAVE_ONE_OUT,
        forces.EXPERIMENT,
    )
}
"""Experiments by name, in the order of their numbers."""


def experiment_named(name: str) -> Experiment:
    """Return an experiment by its name or number.

    Args:
        name: Key of ``EXPERIMENTS``, or such as ``E3``.

    Raises:
        ArgumentError: If there is none.
    """
    for experiment in EXPERIMENTS.values():
        if name.upper() == experiment.id or name == experiment.name:
            return experiment
    known = ", ".join(f"{e.name} ({e.id})" for e in EXPERIMENTS.values())
    raise ArgumentError(
        f"unknown experiment {name!r}; choose from {known}"
        + did_you_mean(name, EXPERIMENTS)
    )


def run_experiment(
    experiment: Experiment, settings: ExperimentSettings, announce: Announce
) -> Path:
    """Train every arm that is not done yet, and write the report; return report.md.

    Args:
        experiment: The question.
        settings: Data, budget and folder.
        announce: Hears about progress.

    Raises:
        ArgumentError: If a store to pre-train on is needed and none is named.
    """
    from jmp_train.runlog import versions

    if experiment.needs_pretraining and not settings.pretraining:
        raise ArgumentError(
            f"experiment {experiment.name!r} pre-trains; name the stores with "
            "--pretraining"
        )
    results = run_arms(experiment.arms(settings), announce)
    report = experiment.summarise(settings, results, announce)
    facts: dict[str, Any] = {
        "stores": settings.stores,
        "pre-training": ", ".join(settings.pretraining) or "none",
        "downstream": ", ".join(settings.downstream),
        "trained weights": settings.weights,
        "seeds": settings.seeds,
        "steps": f"{settings.budget.pretrain_steps} of pre-training, "
        f"{settings.budget.finetune_steps} of fine-tuning",
        "budget": asdict(settings.budget),
        "versions": versions(),
    }
    return write_report(
        settings.out,
        report,
        results,
        title=f"{experiment.id} {experiment.name}",
        settings=facts,
    )
