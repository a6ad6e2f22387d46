"""A learning rate for each arm, searched once and by validation frames alone.

The best rate of random weights is not that of trained ones; one rate for both would
favour one of them. Each arm tries the same rates on the first downstream set with one
seed, for each number of training systems; what is chosen holds for all sets and seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from jmp_train.experiments.arms import Arm, ArmResult
from jmp_train.experiments.experiment import Starts
from jmp_train.experiments.learning_curve import curve_arms
from jmp_train.experiments.report import Cell, Table
from jmp_train.experiments.results import best_validation, metric_words
from jmp_train.experiments.settings import ExperimentSettings

Rates = Mapping[tuple[str, int], float]
"""Learning rate by name of the arm and number of training systems."""


def rate_arms(settings: ExperimentSettings, starts: Starts) -> list[Arm]:
    """Return the runs of the search: rate x number of training systems x arm.

    Args:
        settings: Data, budget and rates.
        starts: What each arm starts from.
    """
    first = replace(settings, downstream=settings.downstream[:1], seeds=1)
    return [
        arm
        for rate in settings.rates
        for arm in curve_arms(
            replace(
                first,
                chosen_rates={
                    (name, n): rate for name in starts for n in settings.budget.n_train
                },
            ),
            starts,
        )
    ]


def best_rates(settings: ExperimentSettings, results: Sequence[ArmResult]) -> Rates:
    """Return the rate with the smallest validation error, for each arm and number.

    Args:
        settings: Names the set.
        results: Of all runs of the search. Where all runs of an arm failed, it has the
            smallest rate.
    """
    store = settings.downstream[0]
    best: dict[tuple[str, int], tuple[float, float]] = {}
    for result in results:
        error = best_validation(result, store, settings.metric(store))
        found = (error if math.isfinite(error) else math.inf, result.tags["rate"])
        key = result.name, result.tags["n_train"]
        best[key] = min(best.get(key, found), found)
    return {key: rate for key, (_, rate) in best.items()}


def rate_table(
    settings: ExperimentSettings, results: Sequence[ArmResult], chosen: Rates
) -> Table:
    """Return validation errors of the search, and what was chosen.

    Args:
        settings: Names the set.
        results: Of all runs of the search.
        chosen: From :func:`best_rates`.
    """
    store = settings.downstream[0]
    rows: list[tuple[Cell, ...]] = []
    for (arm, n_train), rate in chosen.items():
        tried = {
            r.tags["rate"]: r
            for r in results
            if (r.name, r.tags["n_train"]) == (arm, n_train)
        }
        errors = [
            best_validation(tried[r], store, settings.metric(store))
            for r in settings.rates
        ]
        is_edge = len(tried) > 1 and rate in (min(tried), max(tried))
        words = f"{rate:g}" + (", at the end of what was tried" if is_edge else "")
        n = next(iter(tried.values())).n_systems
        rows.append((arm, n, *errors, words))
    return Table(
        title="Learning rates",
        columns=(
            "arm",
            "training systems",
            *(f"{rate:g}" for rate in settings.rates),
            "chosen",
        ),
        rows=tuple(rows),
        note=f"Smallest {metric_words(settings, store)} of the validation part of "
        f"{store}, seed 0; no test part has been used. The rates hold for all sets.",
    )
