"""E3: how evenly should tasks of different size be mixed?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jmp_train.config import TrainConfig
from jmp_train.data.mixture import Mixture, build_mixture
from jmp_train.data.store import Store, store_path
from jmp_train.experiments.arms import Announce, ArmResult
from jmp_train.experiments.experiment import Experiment
from jmp_train.experiments.pictures import line_panel
from jmp_train.experiments.pretraining import (
    PRETRAINING,
    Change,
    downstream_by_arm,
    downstream_table,
    pretraining_arms,
    pretraining_table,
    verdicts,
)
from jmp_train.experiments.report import Cell, Picture, Report, Table
from jmp_train.experiments.results import (
    METRICS,
    by_seed,
    mean_of,
    metric_words,
    runs_of,
)
from jmp_train.experiments.settings import ExperimentSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPERATURES = (1.0, 2.0, 3.0, math.inf)
"""Sampling temperatures."""
_FAR = 6.0
"""Where infinity stands on a logarithmic axis."""

_QUESTION = (
    "How evenly should tasks of different size be mixed: by size (T = 1), as published "
    "(T = 2), or all alike (T = ∞)?"
)


def arm_name(temperature: float) -> str:
    """Return the name of an arm.

    Args:
        temperature: T.
    """
    return "T = ∞" if math.isinf(temperature) else f"T = {temperature:g}"


ARMS = tuple(arm_name(t) for t in TEMPERATURES)
"""Arms in the order of the tables."""


def _changes(settings: ExperimentSettings) -> dict[str, Change]:
    def at(temperature: float) -> Change:
        def change(config: TrainConfig) -> TrainConfig:
            data = replace(config.data, temperature=temperature)
            if settings.equal == "steps":
                return replace(config, data=data)
            # a fresh schedule that ends with the last pass over the mixed epoch
            epochs = _epochs(settings)
            return replace(config, data=data, epochs=epochs, max_steps=None)

        return change

    return {arm_name(t): at(t) for t in TEMPERATURES}


def _epochs(settings: ExperimentSettings) -> int:
    """Return how many passes the steps of the budget make at T = 1, at least one."""
    atoms = sum(
        int(Store(store_path(settings.stores, name, "train")).n_atoms.sum())
        for name in settings.pretraining
    )
    steps_of_epoch = max(atoms / settings.budget.max_atoms, 1.0)
    return max(round(settings.budget.pretrain_steps / steps_of_epoch), 1)


def _mixtures(settings: ExperimentSettings) -> dict[float, Mixture]:
    sizes = [
        len(Store(store_path(settings.stores, name, "train")))
        for name in settings.pretraining
    ]
    return {t: build_mixture(sizes, t) for t in TEMPERATURES}


def _expansion_table(settings: ExperimentSettings) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for temperature, mixture in _mixtures(settings).items():
        cells = zip(
            settings.pretraining,
            mixture.sizes,
            mixture.probabilities,
            mixture.expanded,
            strict=True,
        )
        rows += [
            (
                arm_name(temperature),
                name,
                f"{n:,}",
                f"{p:.4f}",
                f"{m:,}",
                f"{m / n:.2f}",
                f"{mixture.epoch_length:,}",
            )
            for name, n, p, m in cells
        ]
    return Table(
        title="Systems of each task in an epoch",
        columns=(
            "arm",
            "task",
            "systems",
            "share p",
            "in an epoch m",
            "times each",
            "length of the epoch M",
        ),
        rows=tuple(rows),
    )


def summarise(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    announce: Announce,  # noqa: ARG001 (part of the interface)
) -> Report:
    """Return errors by temperature.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Not used.
    """
    errors = downstream_by_arm(settings, results, ARMS)
    steps = [runs_of(results, a, stage=PRETRAINING)[0].n_steps for a in ARMS]
    made = ", ".join(f"{n:,} at {a}" for a, n in zip(ARMS, steps, strict=True))
    equal = (
        "All arms take the same number of optimizer steps, so that a longer epoch is "
        "passed through less often."
        if settings.equal == "steps"
        else f"All arms make {_epochs(settings)} passes over their mixed epoch, which "
        f"is longer at a larger T; optimizer steps: {made}."
    )
    return Report(
        question=_QUESTION,
        findings=(*verdicts(settings, errors), equal),
        tables=(
            downstream_table(settings, results, ARMS, reference=ARMS[0]),
            pretraining_table(settings, results, ARMS, reference=ARMS[0]),
            _expansion_table(settings),
        ),
        picture=_picture(settings, results, errors),
    )


def _picture(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    errors: dict[str, dict[str, list[float]]],
) -> Picture:
    tasks = {
        task: [by_seed(results, a, task, "forces", stage=PRETRAINING) for a in ARMS]
        for task in settings.pretraining
    }

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        panel(left, tasks, label=METRICS["forces"].words, title="pre-training, test")
        by_store = {s: list(by_arm.values()) for s, by_arm in errors.items()}
        words = {metric_words(settings, store) for store in by_store}
        label = words.pop() if len(words) == 1 else "MAE, unit of each set"
        panel(right, by_store, label=label, title="after fine-tuning, test")

    return Picture(
        draw=draw,
        words="Error of each set over the sampling temperature; means over seeds, bars "
        "from the best to the worst seed",
        size=(8.4, 3.4),
    )


def panel(
    axes: Axes, values: dict[str, list[list[float]]], *, label: str, title: str
) -> None:
    """Draw errors over T on a logarithmic axis that ends with infinity.

    Args:
        axes: The panel.
        values: By set, the errors of the seeds at each of ``TEMPERATURES``.
        label: Quantity and unit.
        title: Above the panel.
    """
    places = [_FAR if math.isinf(t) else t for t in TEMPERATURES]
    line_panel(
        axes,
        {
            name: list(zip(places, seeds, strict=True))
            for name, seeds in values.items()
            if not all(math.isnan(mean_of(v)) for v in seeds)
        },
        labels=("sampling temperature T", label),
        title=title,
        has_log=(True, True),
    )
    axes.set_xticks(places, [arm.removeprefix("T = ") for arm in ARMS])
    axes.set_xticks([], minor=True)
    axes.axvline(float(np.sqrt(3.0 * _FAR)), color="#b0b0b0", lw=0.8, ls=":")
    axes.legend(frameon=False, fontsize="small")


EXPERIMENT = Experiment(
    id="E3",
    name="temperature",
    question=_QUESTION,
    arms=lambda settings: pretraining_arms(settings, _changes(settings)),
    summarise=summarise,
    needs_pretraining=2,
)
"""The experiment."""
