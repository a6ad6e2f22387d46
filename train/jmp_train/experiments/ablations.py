"""E2, E3, E4, E8: what of pre-training matters - loss, mixture, size, data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jmp_calc.errors import ArgumentError
from jmp_train.config import TrainConfig
from jmp_train.data.mixture import build_mixture
from jmp_train.data.store import Store, store_path
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment, seeds_of
from jmp_train.experiments.pretraining import (
    Change,
    downstream_errors,
    downstream_table,
    pretraining_arms,
    pretraining_table,
    resolution,
)
from jmp_train.experiments.report import METRICS, Cell, Report, Table, estimate_of
from jmp_train.experiments.settings import ExperimentSettings, finetuning_config
from jmp_train.experiments.statistics import power_law

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPERATURES = (1.0, 2.0, 3.0, math.inf)
"""Sampling temperatures of E3."""


def _report(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    *,
    question: str,
    arms: Sequence[str],
    extra: tuple[Table, ...] = (),
) -> Report:
    """Return the report that E2, E3 and E8 share."""
    return Report(
        question=question,
        findings=resolution(settings, results, arms),
        tables=(
            downstream_table(settings, results, arms, reference=arms[0]),
            pretraining_table(settings, results, arms),
            *extra,
        ),
        draw=lambda axes: _draw_arms(axes, settings, results, arms),
    )


def _draw_arms(
    axes: Axes,
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    arms: Sequence[str],
) -> None:
    width = 0.8 / len(settings.downstream)
    for k, store in enumerate(settings.downstream):
        errors = [downstream_errors(settings, results, arm, store) for arm in arms]
        axes.bar(
            np.arange(len(arms)) + k * width,
            [float(np.mean(e)) if e else math.nan for e in errors],
            width,
            yerr=[float(np.std(e)) if e else 0.0 for e in errors],
            capsize=3,
            label=store,
        )
    metric = "forces" if settings.target is None else "target"
    axes.set_xticks(
        np.arange(len(arms)) + 0.4 - width / 2, arms, rotation=20, ha="right"
    )
    axes.set(ylabel=METRICS[metric][1], title="After fine-tuning, test part")
    axes.legend(frameon=False)


def _loss_changes() -> dict[str, Change]:
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


_LOSS_QUESTION = (
    "Does averaging the force loss inside each system first, instead of over all atoms "
    "of a batch, help tasks of small and of large systems?"
)

LOSS_REDUCTION = Experiment(
    id="E2",
    name="loss-reduction",
    question=_LOSS_QUESTION,
    arms=lambda settings: pretraining_arms(settings, _loss_changes()),
    summarise=lambda settings, results, _announce: _report(
        settings, results, question=_LOSS_QUESTION, arms=list(_loss_changes())
    ),
    needs_pretraining=True,
)
"""Structure-wise against atom-wise reduction."""


def _temperature_changes() -> dict[str, Change]:
    def at(temperature: float) -> Change:
        return lambda config: replace(
            config, data=replace(config.data, temperature=temperature)
        )

    return {f"T = {t:g}": at(t) for t in TEMPERATURES}


def _expansion_table(settings: ExperimentSettings) -> Table:
    sizes = [
        len(Store(store_path(settings.stores, name, "train")))
        for name in settings.pretraining
    ]
    rows: list[tuple[Cell, ...]] = []
    for temperature in TEMPERATURES:
        mixture = build_mixture(sizes, temperature)
        for name, n, p, m in zip(
            settings.pretraining,
            sizes,
            mixture.probabilities,
            mixture.expanded,
            strict=True,
        ):
            rows.append((f"{temperature:g}", name, n, f"{p:.4f}", m, m / n))
    return Table(
        title="Systems of each task in an epoch",
        columns=("T", "task", "systems", "share", "in an epoch", "times each is seen"),
        rows=tuple(rows),
    )


_TEMPERATURE_QUESTION = (
    "How evenly should tasks of different size be mixed? All arms take the same number "
    "of optimizer steps."
)

TEMPERATURE = Experiment(
    id="E3",
    name="temperature",
    question=_TEMPERATURE_QUESTION,
    arms=lambda settings: pretraining_arms(settings, _temperature_changes()),
    summarise=lambda settings, results, _announce: _report(
        settings,
        results,
        question=_TEMPERATURE_QUESTION,
        arms=list(_temperature_changes()),
        extra=(_expansion_table(settings),),
    ),
    needs_pretraining=True,
)
"""Sampling temperature."""


def _leave_one_out_changes(settings: ExperimentSettings) -> dict[str, Change]:
    if len(settings.pretraining) < 2:
        raise ArgumentError(
            "leaving one set out needs at least two to pre-train on; name them with "
            "--pretraining"
        )

    def only(names: Sequence[str]) -> Change:
        return lambda config: replace(
            config,
            data=replace(
                config.data,
                tasks=tuple(t for t in config.data.tasks if t.name in names),
            ),
        )

    names = settings.pretraining
    changes: dict[str, Change] = {"all": lambda config: config}
    if len(names) > 2:
        changes |= {f"without {n}": only([m for m in names if m != n]) for n in names}
    return changes | {f"only {n}": only([n]) for n in names}


_LEAVE_QUESTION = (
    "What does each pre-training set contribute? All arms take the same number of "
    "optimizer steps."
)

LEAVE_ONE_OUT = Experiment(
    id="E8",
    name="leave-one-out",
    question=_LEAVE_QUESTION,
    arms=lambda settings: pretraining_arms(settings, _leave_one_out_changes(settings)),
    summarise=lambda settings, results, _announce: _report(
        settings,
        results,
        question=_LEAVE_QUESTION,
        arms=list(_leave_one_out_changes(settings)),
    ),
    needs_pretraining=True,
)
"""Contribution of each set."""


def _scaling_arms(settings: ExperimentSettings) -> list[Arm]:
    arms: list[Arm] = []
    for size, model in settings.budget.sizes.items():

        def resized(config: TrainConfig, model: object = model) -> TrainConfig:
            return replace(config, model=model)  # type: ignore[arg-type]  # bound early

        arms += pretraining_arms(settings, {f"{size}, pre-trained": resized})
        for store in settings.downstream:
            for seed in seeds_of(settings):
                config = finetuning_config(
                    settings, f"tune-{size}-scratch-{store}", seed, store=store
                )
                arms.append(
                    Arm(
                        name=f"{size}, scratch",
                        config=replace(config, model=model),
                        tags={"stage": "fine-tuning", "store": store},
                    )
                )
    return arms


def _scaling_report(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    announce: Announce,  # noqa: ARG001 (part of the interface)
) -> Report:
    rows: list[tuple[Cell, ...]] = []
    findings = []
    for store in settings.downstream:
        for start in ("scratch", "pre-trained"):
            points = []
            for size in settings.budget.sizes:
                name = f"{size}, {start}"
                errors = downstream_errors(settings, results, name, store)
                mine = [
                    r
                    for r in results
                    if r.name == name and r.tags.get("store") == store
                ]
                n = mine[0].n_parameters
                points.append((float(n), float(np.mean(errors))))
                step = sum(r.seconds for r in mine) / sum(r.n_steps for r in mine)
                rows.append(
                    (store, start, size, n, estimate_of(errors), f"{1000 * step:.0f}")
                )
            fit = power_law([n for n, _ in points], [e for _, e in points])
            if fit is not None:
                findings.append(
                    f"{store}, {start}: error = {fit[0]:.3g} n^-{fit[1]:.2g} over "
                    f"{len(points)} sizes up to {points[-1][0]:.3g} parameters. "
                    f"Nothing is said beyond {2 * points[-1][0]:.3g}."
                )
    metric = "forces" if settings.target is None else "target"
    return Report(
        question=_SCALING_QUESTION,
        findings=tuple(findings) or ("One size only: no fit.",),
        tables=(
            Table(
                title=f"Test error ({METRICS[metric][1]})",
                columns=(
                    "set",
                    "start",
                    "network",
                    "parameters",
                    "error",
                    "milliseconds a step",
                ),
                rows=tuple(rows),
            ),
        ),
        draw=lambda axes: _draw_scaling(axes, settings, results, metric),
    )


def _draw_scaling(
    axes: Axes, settings: ExperimentSettings, results: Sequence[ArmResult], metric: str
) -> None:
    store = settings.downstream[0]
    for start, marker in (("scratch", "o"), ("pre-trained", "s")):
        points = []
        for size in settings.budget.sizes:
            name = f"{size}, {start}"
            errors = downstream_errors(settings, results, name, store)
            n = next(r.n_parameters for r in results if r.name == name)
            points.append((n, float(np.mean(errors))))
        axes.plot(*zip(*points, strict=True), marker=marker, label=start)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="parameters",
        ylabel=METRICS[metric][1],
        title=f"{store}, test part",
    )
    axes.legend(frameon=False)


_SCALING_QUESTION = (
    "Do larger networks gain from pre-training where they overfit from scratch?"
)

SCALING = Experiment(
    id="E4",
    name="scaling",
    question=_SCALING_QUESTION,
    arms=_scaling_arms,
    summarise=_scaling_report,
    needs_pretraining=True,
)
"""Size of the network."""
