"""Errors of finished runs: which ones, in which unit, one per seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmp_train.experiments.arms import ArmResult, is_number
from jmp_train.experiments.settings import ExperimentSettings, target_unit
from jmp_train.experiments.statistics import (
    Estimate,
    estimate,
    paired_difference,
    relative_improvement,
)

NOT_MEASURED = "not measured"
"""Cell of a table for what no system has a label of, or that was not finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One kind of error."""

    key: str
    """Key in what ``TaskErrors.to_json`` returns."""
    words: str
    """Name for tables and axes, with the unit."""
    factor: float = 1.0
    """From the unit of the key to that of the words."""


METRICS: dict[str, Metric] = {
    "energy": Metric(key="energy_mae_meV_per_atom", words="energy MAE, meV/atom"),
    "forces": Metric(key="force_mae_eV_per_A", words="force MAE, meV/Å", factor=1000.0),
    "target": Metric(key="target_mae", words="target MAE"),
}
"""Errors by short name."""


def metric_words(settings: ExperimentSettings, store: str) -> str:
    """Return what is scored on a downstream set, with its unit.

    Args:
        settings: Says which label is fine-tuned on.
        store: Name of the set.
    """
    if settings.target is None:
        return METRICS[settings.metric(store)].words
    return f"MAE of {settings.target}, {target_unit(settings, store)}".rstrip(", ")


def error_of(errors: Mapping[str, Any], metric: str) -> float:
    """Return one error of a task in the unit of ``METRICS``; NaN if not measured.

    Args:
        errors: Of one task.
        metric: Key of ``METRICS``.
    """
    chosen = METRICS[metric]
    value = errors.get(chosen.key)
    return chosen.factor * value if is_number(value) else math.nan


def runs_of(results: Sequence[ArmResult], name: str, **tags: Any) -> list[ArmResult]:
    """Return the runs of an arm in order of the seeds.

    Args:
        results: All runs.
        name: Name of the arm.
        tags: Only runs with these tags.
    """
    return sorted(
        (
            r
            for r in results
            if r.name == name and all(r.tags.get(k) == v for k, v in tags.items())
        ),
        key=lambda r: r.seed,
    )


def by_seed(
    results: Sequence[ArmResult], name: str, task: str, metric: str, **tags: Any
) -> list[float]:
    """Return the test errors of an arm, one per seed, in order of the seeds.

    Args:
        results: All runs.
        name: Name of the arm.
        task: Task that is scored; the error is NaN where a run has none.
        metric: Key of ``METRICS``.
        tags: Only runs with these tags.
    """
    chosen = runs_of(results, name, **tags)
    return [error_of(r.errors.get(task, {}), metric) for r in chosen]


def measured(values: Sequence[float]) -> list[float]:
    """Return the values that are finite.

    Args:
        values: NaN where not measured.
    """
    return [value for value in values if math.isfinite(value)]


def mean_of(values: Sequence[float]) -> float:
    """Return the mean of what was measured; NaN if nothing was.

    Args:
        values: NaN where not measured.
    """
    known = measured(values)
    return math.fsum(known) / len(known) if known else math.nan


def estimate_of(values: Sequence[float]) -> Estimate | str:
    """Return mean ± spread, or "not measured".

    Args:
        values: One per seed; NaN where not measured.
    """
    known = measured(values)
    return estimate(known) if known else NOT_MEASURED


def compared(
    errors: Sequence[float], reference: Sequence[float]
) -> tuple[Estimate | str, str, Estimate | str]:
    """Return three cells: error, difference from a reference, improvement in percent.

    Args:
        errors: Of an arm, by seed.
        reference: Of the arm that it is compared with, by seed; if it is the same list,
            the cells say so.
    """
    if errors is reference:
        return estimate_of(errors), "reference", "reference"
    gains = [relative_improvement(a, b) for a, b in zip(errors, reference, strict=True)]
    difference = str(paired_difference(errors, reference))
    return estimate_of(errors), difference, estimate_of(gains)


def steps_to_reach(
    result: ArmResult, task: str, metric: str, error: float
) -> int | None:
    """Return the first validation that is at least as good; None: never.

    Args:
        result: A run.
        task: Task that is scored.
        metric: Key of ``METRICS``.
        error: Error to reach, in the unit of ``METRICS``.
    """
    for point in result.curve:
        if error_of(point["tasks"].get(task, {}), metric) <= error:
            return int(point["step"])
    return None


def best_validation(result: ArmResult, task: str, metric: str) -> float:
    """Return the smallest error of all validations; NaN if none was measured.

    Args:
        result: A run.
        task: Task that is scored.
        metric: Key of ``METRICS``.
    """
    errors = [error_of(p["tasks"].get(task, {}), metric) for p in result.curve]
    return min(measured(errors), default=math.nan)
