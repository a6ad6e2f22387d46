"""What experiments about pre-training share: arms, fine-tunings after them, tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from jmp_train.config import StartConfig, TrainConfig
from jmp_train.experiments.arms import Arm, ArmResult
from jmp_train.experiments.experiment import seeds_of
from jmp_train.experiments.report import (
    METRICS,
    Cell,
    Table,
    by_seed,
    estimate_of,
)
from jmp_train.experiments.settings import (
    ExperimentSettings,
    finetuning_config,
    pretraining_config,
)
from jmp_train.experiments.statistics import paired_difference, relative_improvement

Change = Callable[[TrainConfig], TrainConfig]
"""Turns the shared settings of a pre-training into those of an arm."""


def slug(name: str) -> str:
    """Return a name as part of a path.

    Args:
        name: Name of an arm.
    """
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


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
            pretraining = Arm(name=name, config=config, tags={"stage": "pre-training"})
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
    )
    graph = before.data.tasks[0].graph
    task = replace(config.data.tasks[0], graph=graph)
    return Arm(
        name=pretraining.name,
        config=replace(
            config,
            model=before.model,
            start=StartConfig(weights=""),
            scale_batches=0,
            data=replace(config.data, tasks=(task,)),
        ),
        after=pretraining,
        tags={"stage": "fine-tuning", "store": store},
    )


def pretraining_table(
    settings: ExperimentSettings, results: Sequence[ArmResult], arms: Sequence[str]
) -> Table:
    """Return the test errors of each pre-training task by arm.

    Args:
        settings: Names the tasks.
        results: Of all runs.
        arms: Names in order.
    """
    rows: list[tuple[Cell, ...]] = []
    for arm in arms:
        for task in settings.pretraining:
            cells = [
                estimate_of(by_seed(results, arm, task, metric, stage="pre-training"))
                for metric in ("energy", "forces")
            ]
            rows.append((arm, task, *cells))
    return Table(
        title="Pre-training tasks, test part",
        columns=("arm", "task", METRICS["energy"][1], METRICS["forces"][1]),
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
    metric = "forces" if settings.target is None else "target"
    rows: list[tuple[Cell, ...]] = []
    for store in settings.downstream:
        base = downstream_errors(settings, results, reference, store)
        for arm in arms:
            errors = downstream_errors(settings, results, arm, store)
            relative = [
                relative_improvement(a, b)
                for a, b in zip(errors, base, strict=True)
                if b > 0
            ]
            rows.append(
                (
                    store,
                    arm,
                    estimate_of(errors),
                    str(paired_difference(errors, base)),
                    estimate_of(relative),
                )
            )
    return Table(
        title=f"After fine-tuning, test part ({METRICS[metric][1]})",
        columns=(
            "set",
            "arm",
            "error",
            f"minus {reference} (95 %)",
            "improvement, %",
        ),
        rows=tuple(rows),
    )


def downstream_errors(
    settings: ExperimentSettings, results: Sequence[ArmResult], arm: str, store: str
) -> list[float]:
    """Return the test error of each seed after fine-tuning.

    Args:
        settings: Says which label is scored.
        results: Of all runs.
        arm: Name.
        store: Name of the set.
    """
    metric = "forces" if settings.target is None else "target"
    return by_seed(results, arm, store, metric, stage="fine-tuning", store=store)


def resolution(
    settings: ExperimentSettings, results: Sequence[ArmResult], arms: Sequence[str]
) -> tuple[str, ...]:
    """Return one sentence per set about which arm is best, and whether that is certain.

    Args:
        settings: Names the sets.
        results: Of all runs.
        arms: Names in order.
    """
    found = []
    for store in settings.downstream:
        errors = {a: downstream_errors(settings, results, a, store) for a in arms}
        means = {a: sum(e) / len(e) for a, e in errors.items() if e}
        if len(means) < 2:
            continue
        best, second = sorted(means, key=lambda a: means[a])[:2]
        gap = paired_difference(errors[best], errors[second])
        certain = "" if gap.is_resolved else "; this is not resolved with these seeds"
        found.append(
            f"{store}: the smallest error is that of '{best}' ({means[best]:.4g}), "
            f"then '{second}' ({means[second]:.4g}){certain}."
        )
    return tuple(found) or ("Nothing could be compared.",)
