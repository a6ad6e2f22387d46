"""E2: is the force loss better averaged inside each system first?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jmp_calc.pictures import color, tidy
from jmp_train.config import TrainConfig
from jmp_train.data.store import Store, store_path
from jmp_train.experiments.arms import Announce, ArmResult
from jmp_train.experiments.experiment import Experiment
from jmp_train.experiments.gradients import gradient_shares
from jmp_train.experiments.pictures import dot_panel
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
from jmp_train.experiments.results import estimate_of, mean_of, metric_words, runs_of
from jmp_train.experiments.settings import ExperimentSettings, pretraining_config

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_QUESTION = (
    "Does averaging the force loss inside each system first, instead of over all atoms "
    "of a batch, help tasks of small and of large systems?"
)
Shares = dict[str, dict[str, list[float]]]
"""Share in the gradient norm by seed, by arm and task."""


def _changes() -> dict[str, Change]:
    def constant(config: TrainConfig) -> TrainConfig:
        weight = float(
            np.mean([_mean_atoms(config, task.name) for task in config.data.tasks])
        )
        tasks = tuple(replace(task, force_weight=weight) for task in config.data.tasks)
        return replace(config, data=replace(config.data, tasks=tasks))

    return {
        "structure-wise": lambda config: config,
        "atom-wise": lambda config: replace(config, reduction="atom"),
        "structure-wise, one force weight": constant,
    }


def _mean_atoms(config: TrainConfig, name: str) -> float:
    store = Store(store_path(config.data.stores, name, "train"))
    return float(store.n_atoms.mean())


def summarise(
    settings: ExperimentSettings, results: Sequence[ArmResult], announce: Announce
) -> Report:
    """Return errors by arm, and which task pulls how hard.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Hears what is measured.
    """
    changes = _changes()
    arms = list(changes)
    shares: Shares = {arm: {task: [] for task in settings.pretraining} for arm in arms}
    for arm, change in changes.items():
        for run in runs_of(results, arm, stage=PRETRAINING):
            if not run.weights:
                continue
            announce(f"{arm}, seed {run.seed}: shares of the gradient")
            config = change(pretraining_config(settings, "shares", run.seed))
            found = gradient_shares(config, Path(run.weights))
            for task, share in found.items():
                shares[arm][task].append(100 * share)
    errors = downstream_by_arm(settings, results, arms)
    return Report(
        question=_QUESTION,
        findings=(*verdicts(settings, errors), _share_words(settings, shares)),
        tables=(
            downstream_table(settings, results, arms, reference=arms[0]),
            pretraining_table(settings, results, arms, reference=arms[0]),
            _share_table(settings, shares),
        ),
        picture=_picture(settings, errors, shares),
        facts={"gradient_share_percent": shares},
    )


def _share_words(settings: ExperimentSettings, shares: Shares) -> str:
    parts = []
    for arm, by_task in shares.items():
        means = {task: mean_of(by_task[task]) for task in settings.pretraining}
        largest = max(means, key=lambda task: means[task])
        parts.append(f"{largest} with {means[largest]:.0f} % ('{arm}')")
    return "The largest share of the gradient norm has " + ", ".join(parts) + "."


def _share_table(settings: ExperimentSettings, shares: Shares) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for task in settings.pretraining:
        size = _atoms_of(settings, task)
        cells = [estimate_of(shares[arm][task]) for arm in shares]
        rows.append((task, size, *cells))
    return Table(
        title="Share of each task in the gradient norm after pre-training, %",
        columns=("task", "mean atoms", *shares),
        rows=tuple(rows),
        note="The norm of the gradient of the systems of one task alone by the "
        "parameters that all tasks share, over the sum of these norms; mean over the "
        "first four batches.",
    )


def _atoms_of(settings: ExperimentSettings, task: str) -> float:
    return float(Store(store_path(settings.stores, task, "train")).n_atoms.mean())


def _picture(
    settings: ExperimentSettings,
    errors: dict[str, dict[str, list[float]]],
    shares: Shares,
) -> Picture:
    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(errors) + 1, squeeze=False)[0]
        for place, (store, by_arm) in enumerate(errors.items()):
            dot_panel(
                panels[place],
                by_arm,
                label=metric_words(settings, store),
                title=f"{store}, test part",
                has_names=place == 0,
            )
        _draw_shares(panels[-1], settings, shares)

    return Picture(
        draw=draw,
        words="Test error after fine-tuning (small dots: seeds), and the share of each "
        "task in the gradient norm after pre-training",
        size=(3.6 + 2.6 * (len(errors) + 1), 3.0),
    )


def _draw_shares(axes: Axes, settings: ExperimentSettings, shares: Shares) -> None:
    left = np.zeros(len(shares))
    for place, task in enumerate(settings.pretraining):
        widths = np.array([mean_of(by_task[task]) for by_task in shares.values()])
        axes.barh(
            range(len(shares)),
            np.nan_to_num(widths),
            left=left,
            color=color(place),
            label=task,
            height=0.6,
        )
        left = left + np.nan_to_num(widths)
    axes.set(xlabel="share of the gradient norm, %", xlim=(0, 100))
    axes.set_yticks(range(len(shares)), [""] * len(shares))
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_title("tasks of pre-training", fontsize="medium")
    tidy(axes)
    axes.legend(
        frameon=False,
        fontsize="small",
        loc="upper center",
        bbox_to_anchor=(0.5, -0.28),
        ncols=min(len(settings.pretraining), 3),
    )


EXPERIMENT = Experiment(
    id="E2",
    name="loss-reduction",
    question=_QUESTION,
    arms=lambda settings: pretraining_arms(settings, _changes()),
    summarise=summarise,
    needs_pretraining=2,
)
"""The experiment."""
