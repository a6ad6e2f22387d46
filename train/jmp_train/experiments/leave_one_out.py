"""E8: what does each pre-training set contribute?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jmp_train.experiments.arms import Announce, ArmResult
from jmp_train.experiments.experiment import Experiment
from jmp_train.experiments.pretraining import (
    Change,
    downstream_by_arm,
    downstream_table,
    pretraining_arms,
    pretraining_table,
    verdicts,
)
from jmp_train.experiments.report import Cell, Picture, Report, Table
from jmp_train.experiments.results import NOT_MEASURED, mean_of
from jmp_train.experiments.settings import ExperimentSettings
from jmp_train.experiments.statistics import paired_difference, relative_improvement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "all"
"""The arm with every set."""

_QUESTION = (
    "What does each pre-training set contribute? All arms take the same number of "
    "optimizer steps."
)

Errors = dict[str, dict[str, list[float]]]
"""Errors by seed, by set and arm."""


def changes_of(names: Sequence[str]) -> dict[str, Change]:
    """Return all sets; each left out, if that leaves several; each alone.

    Args:
        names: The sets, at least two.
    """

    def only(kept: Sequence[str]) -> Change:
        return lambda config: replace(
            config,
            data=replace(
                config.data,
                tasks=tuple(t for t in config.data.tasks if t.name in kept),
            ),
        )

    changes: dict[str, Change] = {ALL: lambda config: config}
    if len(names) > 2:
        changes |= {f"without {n}": only([m for m in names if m != n]) for n in names}
    return changes | {f"only {n}": only([n]) for n in names}


def summarise(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    announce: Announce,  # noqa: ARG001 (part of the interface)
) -> Report:
    """Return the matrix of errors, and the rank of the sets.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Not used.
    """
    arms = list(changes_of(settings.pretraining))
    errors = downstream_by_arm(settings, results, arms)
    return Report(
        question=_QUESTION,
        findings=(*verdicts(settings, errors), *_rank_words(settings, errors)),
        tables=(
            rank_table(settings, errors),
            downstream_table(settings, results, arms, reference=ALL),
            pretraining_table(settings, results, arms, reference=ALL),
        ),
        picture=_picture(errors, arms),
    )


def contributions(
    names: Sequence[str], errors: dict[str, list[float]]
) -> list[tuple[float, str, str]]:
    """Return by how much each set helps, most helpful first.

    With three sets or more a set helps by as much as the error grows without it; with
    two, a set helps as much as training on it alone is better than on both.

    Args:
        names: The sets.
        errors: Errors of one downstream set by seed, by arm.

    Returns:
        (change of the error in percent, set, difference of the errors with interval).
    """
    found = []
    for name in names:
        arm, sign = f"without {name}", 1.0
        if arm not in errors:
            arm, sign = f"only {name}", -1.0
        change = -mean_of(
            [
                relative_improvement(a, b)
                for a, b in zip(errors[arm], errors[ALL], strict=True)
            ]
        )
        gap = str(paired_difference(errors[arm], errors[ALL]))
        found.append((sign * change, name, gap))
    return sorted(found, key=lambda item: (math.isnan(item[0]), -item[0]))


def rank_table(settings: ExperimentSettings, errors: Errors) -> Table:
    """Return the sets in the order of what they contribute to each downstream set.

    Args:
        settings: Names the sets.
        errors: Of all arms.
    """
    is_left_out = len(settings.pretraining) > 2
    rows: list[tuple[Cell, ...]] = []
    for store in settings.downstream:
        ranked = contributions(settings.pretraining, errors[store])
        for rank, (change, name, gap) in enumerate(ranked, start=1):
            shown = f"{change:+.1f}" if change == change else NOT_MEASURED
            rows.append((store, rank, name, shown, gap))
    return Table(
        title="Rank of the pre-training sets",
        columns=(
            "set",
            "rank",
            "pre-training set",
            "error without it, % more"
            if is_left_out
            else "error with it alone, % less",
            f"'{'without' if is_left_out else 'only'} it' minus '{ALL}' [95 %]",
        ),
        rows=tuple(rows),
    )


def _rank_words(settings: ExperimentSettings, errors: Errors) -> tuple[str, ...]:
    return tuple(
        f"{store}: order of the pre-training sets by what they contribute: "
        + ", ".join(
            name for _, name, _ in contributions(settings.pretraining, errors[store])
        )
        + "."
        for store in settings.downstream
    )


def _picture(errors: Errors, arms: Sequence[str]) -> Picture:
    stores = list(errors)
    means = np.array([[mean_of(errors[s][arm]) for arm in arms] for s in stores])
    change = 100 * (means / means[:, :1] - 1)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        limit = max(float(np.nanmax(np.abs(change), initial=0.0)), 1.0)
        image = axes.imshow(
            change, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto"
        )
        for row in range(len(stores)):
            order = np.argsort(np.argsort(np.nan_to_num(means[row], nan=np.inf)))
            for column in range(len(arms)):
                value = change[row, column]
                is_dark = abs(value) > 0.6 * limit
                text = f"{value:+.1f} %" if value == value else "–"
                axes.text(
                    column,
                    row,
                    f"{text}\nrank {order[column] + 1}",
                    ha="center",
                    va="center",
                    fontsize="small",
                    color="white" if is_dark else "black",
                )
        axes.set_xticks(range(len(arms)), arms, rotation=25, ha="right")
        axes.set_yticks(range(len(stores)), stores)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label=f"error against '{ALL}', %")

    return Picture(
        draw=draw,
        words=f"Test error after fine-tuning, relative to that of '{ALL}' (blue is "
        "better), and the rank of each arm",
        size=(2.6 + 1.0 * len(arms), 1.9 + 0.7 * len(stores)),
    )


EXPERIMENT = Experiment(
    id="E8",
    name="leave-one-out",
    question=_QUESTION,
    arms=lambda settings: pretraining_arms(settings, changes_of(settings.pretraining)),
    summarise=summarise,
    needs_pretraining=2,
)
"""The experiment."""
