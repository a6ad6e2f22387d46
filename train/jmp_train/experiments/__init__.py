"""Experiments: questions about pre-training that one command answers.

Source:
    Training specification, section 7; the questions are those of arXiv 2310.16802.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from jmp_calc.errors import ArgumentError, DataError, did_you_mean
from jmp_train.experiments import (
    forces,
    heads,
    leave_one_out,
    loss_reduction,
    overlap,
    scaling,
    scratch_vs_pretrained,
    temperature,
    transfer,
)
from jmp_train.experiments.arms import Announce, RunArms, run_arms
from jmp_train.experiments.experiment import Experiment
from jmp_train.experiments.rate_search import best_rates, rate_arms, rate_table
from jmp_train.experiments.report import RESULTS, Table, write_report
from jmp_train.experiments.settings import ExperimentSettings

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        scratch_vs_pretrained.EXPERIMENT,
        loss_reduction.EXPERIMENT,
        temperature.EXPERIMENT,
        scaling.EXPERIMENT,
        overlap.EXPERIMENT,
        heads.EXPERIMENT,
        transfer.EXPERIMENT,
        leave_one_out.EXPERIMENT,
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
    experiment: Experiment,
    settings: ExperimentSettings,
    announce: Announce,
    *,
    run: RunArms | None = None,
) -> Path:
    """Train every arm that is not done yet, and write the report; return report.md.

    Args:
        experiment: The question.
        settings: Data, budget and folder.
        announce: Hears about progress.
        run: Trains arms; None: one after the other, and nothing is shown.

    Raises:
        ArgumentError: If too few stores to pre-train on are named, or arms and rates
            are chosen where they cannot be.
        DataError: If a store is missing, or the folder holds other runs or the report
            of another experiment.
        StoppedError: If a run was interrupted.
    """
    from jmp_train.runlog import versions

    n, least = len(settings.pretraining), experiment.needs_pretraining
    if n < least:
        raise ArgumentError(
            f"experiment {experiment.name!r} pre-trains on at least "
            f"{'one store' if least == 1 else f'{least} stores'} and was given {n}; "
            "name them with --pretraining"
        )
    if experiment.starts is None and (settings.arms or settings.rates):
        raise ArgumentError(
            f"the arms of experiment {experiment.name!r} are not chosen by name and "
            "have one learning rate; leave out --arm and --rate, which are for "
            f"{', '.join(e.name for e in EXPERIMENTS.values() if e.starts)}"
        )
    title = f"{experiment.id} {experiment.name}"
    _check_folder(settings.out, title)
    settings.check_stores()
    if run is None:
        run = partial(run_arms, announce=announce)
    tables: tuple[Table, ...] = ()
    if experiment.starts is not None and settings.rates:
        trials = run(rate_arms(settings, experiment.starts(settings)))
        settings = replace(settings, chosen_rates=best_rates(settings, trials))
        tables = (rate_table(settings, trials, settings.chosen_rates),)
    results = run(experiment.arms(settings))
    report = experiment.summarise(settings, results, announce)
    report = replace(report, tables=(*report.tables, *tables))
    budget = settings.budget
    facts: dict[str, Any] = {
        "stores": settings.stores,
        "pre-training": ", ".join(settings.pretraining) or "none",
        "downstream": ", ".join(settings.downstream),
        "label": settings.target or "energy and forces",
        "trained weights": settings.weights,
        "budget": f"{budget.name}: {budget.pretrain_steps:,} steps of pre-training, "
        f"{budget.finetune_steps:,} of fine-tuning, batches of {budget.max_atoms} "
        "atoms",
        "seeds": settings.seeds,
        "date": date.today().isoformat(),
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
    }
    return write_report(
        settings.out,
        report,
        results,
        title=title,
        settings=facts,
        details={"budget": asdict(budget), "versions": versions()},
    )


def _check_folder(out: Path, title: str) -> None:
    """Raise unless a folder is without a report, or has one of the same experiment."""
    path = out / RESULTS
    if not path.is_file():
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["title"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged ({error}); delete it, and it is written again"
        ) from error
    if known != title:
        raise DataError(
            f"{out} holds the report of {known}, which that of {title} would replace; "
            "choose another --out"
        )
