"""What experiments about pre-training share: arms, fine-tunings after them, tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jmp_train.config import StartConfig, TrainConfig
from jmp_train.experiments.arms import Arm, ArmResult
from jmp_train.experiments.experiment import seeds_of
from jmp_train.experiments.report import Cell, Table
from jmp_train.experiments.results import (
    METRICS,
    by_seed,
    compared,
    estimate_of,
    mean_of,
    metric_words,
)
from jmp_train.experiments.settings import (
    ExperimentSettings,
    finetuning_config,
    pretraining_config,
    with_network,
)
from jmp_train.experiments.statistics import paired_difference

Change = Callable[[TrainConfig], TrainConfig]
"""Turns the shared settings of a pre-training into those of an arm."""

PRETRAINING = "pre-training"
"""Stage of a run on the stores to pre-train on."""
FINETUNING = "fine-tuning"
"""Stage of a run on a downstream set."""


def slug(name: str) -> str:
    """Return a name as part of a path.

    Args:
        name: Name of an arm.
    """
    words = "".join(c if c.isalnum() or c in "_." else " " for c in name)
    return "-".join(words.split())


def pretraining_arms(
    settings: ExperimentSettings, changes: Mapping[str, Change]
) -> list[Arm]:
    """Return a pre-training per arm and seed, and the fine-tunings that follow each.

    Args:
        settings: Data and budget.
        changes: What is varied, by name of the arm.
    """
    arms: list[Arm] = []
    for name, change in changes.items():
        for seed in seeds_of(settings):
            config = change(pretraining_config(settings, f"pre-{slug(name)}", seed))
            pretraining = Arm(name=name, config=config, tags={"stage": PRETRAINING})
            arms.append(pretraining)
            arms += [
                finetuning_after(settings, pretraining, store)
                for store in settings.downstream
            ]
    return arms


def finetuning_after(settings: ExperimentSettings, pretraining: Arm, store: str) -> Arm:
    """Return the fine-tuning of the weights of an arm on one store.

    Args:
        settings: Data and budget.
        pretraining: The run before.
        store: Name of the store.
    """
    before = pretraining.config
    config = finetuning_config(
        settings,
        f"tune-{slug(pretraining.name)}-{store}",
        before.seed,
        store=store,
        start=StartConfig(weights=""),
    )
    return Arm(
        name=pretraining.name,
        config=with_network(config, before.model, before.data.tasks[0].graph),
        after=pretraining,
        tags={"stage": FINETUNING, "store": store},
    )


def pretraining_table(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    arms: Sequence[str],
    *,
    reference: str,
) -> Table:
    """Return the test errors of each pre-training task by arm, against one of them.

    Args:
        settings: Names the tasks.
        results: Of all runs.
        arms: Names in order.
        reference: Arm that the others are compared with.
    """
    rows: list[tuple[Cell, ...]] = []
    for task in settings.pretraining:
        base = by_seed(results, reference, task, "forces", stage=PRETRAINING)
        for arm in arms:
            forces = base
            if arm != reference:
                forces = by_seed(results, arm, task, "forces", stage=PRETRAINING)
            energy = by_seed(results, arm, task, "energy", stage=PRETRAINING)
            rows.append((task, arm, estimate_of(energy), *compared(forces, base)[:2]))
    return Table(
        title="Tasks of pre-training, test part",
        columns=(
            "task",
            "arm",
            METRICS["energy"].words,
            METRICS["forces"].words,
            f"force MAE minus that of '{reference}' [95 %]",
        ),
        rows=tuple(rows),
    )


def downstream_table(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    arms: Sequence[str],
    *,
    reference: str,
) -> Table:
    """Return the test errors after fine-tuning by arm, against one of them.

    Args:
        settings: Names the sets.
        results: Of all runs.
        arms: Names in order.
        reference: Arm that the others are compared with.
    """
    rows: list[tuple[Cell, ...]] = []
    for store in settings.downstream:
        base = downstream_errors(settings, results, reference, store)
        for arm in arms:
            errors = base
            if arm != reference:
                errors = downstream_errors(settings, results, arm, store)
            rows.append(
                (store, metric_words(settings, store), arm, *compared(errors, base))
            )
    return Table(
        title="After fine-tuning, test part",
        columns=(
            "set",
            "quantity",
            "arm",
            "error",
            f"minus '{reference}' [95 %]",
            "improvement, %",
        ),
        rows=tuple(rows),
    )


def downstream_errors(
    settings: ExperimentSettings, results: Sequence[ArmResult], arm: str, store: str
) -> list[float]:
    """Return the test error of each seed after fine-tuning; NaN where not measured.

    Args:
        settings: Says which label is scored.
        results: Of all runs.
        arm: Name.
        store: Name of the set.
    """
    metric = settings.metric(store)
    return by_seed(results, arm, store, metric, stage=FINETUNING, store=store)


def verdicts(
    settings: ExperimentSettings, errors: Mapping[str, Mapping[str, list[float]]]
) -> tuple[str, ...]:
    """Return one sentence per set about which arm is best, and whether that is certain.

    Args:
        settings: Names the sets.
        errors: Errors by seed, by set and arm.
    """
    found = []
    for store in settings.downstream:
        means = {arm: mean_of(values) for arm, values in errors[store].items()}
        ranked = sorted((m, arm) for arm, m in means.items() if m == m)
        if len(ranked) < 2:
            found.append(f"{store}: nothing could be compared.")
            continue
        (best, first), (other, second) = ranked[:2]
        gap = paired_difference(errors[store][first], errors[store][second])
        certain = (
            "more than the spread of the seeds explains"
            if gap.is_resolved
            else "a difference that is not resolved with these seeds"
        )
        name, _, unit = metric_words(settings, store).partition(", ")
        found.append(
            f"{store}: '{first}' has the smallest {name} ({best:.4g} {unit}), then "
            f"'{second}' ({other:.4g}), {certain}."
        )
    return tuple(found)


def downstream_by_arm(
    settings: ExperimentSettings, results: Sequence[ArmResult], arms: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Return test errors after fine-tuning by seed, by set and arm.

    Args:
        settings: Names the sets.
        results: Of all runs.
        arms: Names in order.
    """
    return {
        store: {a: downstream_errors(settings, results, a, store) for a in arms}
        for store in settings.downstream
    }
