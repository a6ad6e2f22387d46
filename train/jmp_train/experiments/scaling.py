"""E4: do larger networks gain from pre-training where they overfit from scratch?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jmp_calc.models.config import ModelConfig
from jmp_calc.pictures import color
from jmp_train.config import TrainConfig
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment, seeds_of
from jmp_train.experiments.pictures import line_panel
from jmp_train.experiments.pretraining import FINETUNING, pretraining_arms, slug
from jmp_train.experiments.report import Cell, Picture, Report, Table
from jmp_train.experiments.results import (
    NOT_MEASURED,
    compared,
    error_of,
    estimate_of,
    mean_of,
    measured,
    metric_words,
    runs_of,
)
from jmp_train.experiments.settings import (
    ExperimentSettings,
    finetuning_config,
    with_network,
)
from jmp_train.experiments.statistics import PowerLaw, power_law

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STARTS = ("scratch", "pre-trained")
"""How a network of each size begins."""

_QUESTION = "Do larger networks gain from pre-training where they overfit from scratch?"


def arm_name(size: str, start: str) -> str:
    """Return the name of an arm.

    Args:
        size: Name of the network in the budget.
        start: One of ``STARTS``.
    """
    return f"{size}, {start}"


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return all runs; scale factors are fitted for each network and seed.

    Args:
        settings: Data and budget.
    """
    arms: list[Arm] = []
    for size, model in settings.budget.sizes.items():
        arms += pretraining_arms(settings, {arm_name(size, STARTS[1]): _Resized(model)})
        for store in settings.downstream:
            for seed in seeds_of(settings):
                folder = f"tune-{slug(arm_name(size, STARTS[0]))}-{store}"
                config = finetuning_config(settings, folder, seed, store=store)
                arms.append(
                    Arm(
                        name=arm_name(size, STARTS[0]),
                        config=with_network(config, model, config.data.tasks[0].graph),
                        tags={"stage": FINETUNING, "store": store},
                    )
                )
    return arms


class _Resized:
    """Gives a pre-training another network."""

    def __init__(self, model: ModelConfig) -> None:
        self.model = model

    def __call__(self, config: TrainConfig) -> TrainConfig:
        is_direct = config.forces == "direct"
        model = replace(self.model, has_direct_forces=is_direct)
        return replace(config, model=model)


def summarise(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    announce: Announce,  # noqa: ARG001 (part of the interface)
) -> Report:
    """Return errors, gaps and cost over the size of the network.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Not used.
    """
    rows: list[tuple[Cell, ...]] = []
    findings: list[str] = []
    facts: dict[str, object] = {}
    for store in settings.downstream:
        rows += _rows(settings, results, store)
        for start in STARTS:
            runs = _runs(settings, results, start, store=store)
            fit = power_law(*_points(settings, runs, store, part="errors"))
            facts[f"{store}, {start}"] = fit
            largest = max((r.n_parameters for r in runs if not r.problem), default=0)
            findings.append(_fit_words(f"{store}, {start}", fit, largest))
    failed = [r for r in results if "memory" in r.problem]
    if failed:
        fits = max((r.n_parameters for r in results if not r.problem), default=0)
        findings.append(
            f"The largest network that fits this device has {fits:,} parameters; one "
            f"of {min(r.n_parameters for r in failed):,} does not."
        )
    return Report(
        question=_QUESTION,
        findings=tuple(findings),
        tables=(_table(rows),),
        picture=_picture(settings, results),
        facts=facts,
    )


def _table(rows: Sequence[tuple[Cell, ...]]) -> Table:
    return Table(
        title="Size of the network",
        columns=(
            "set",
            "quantity",
            "network",
            "parameters",
            "start",
            "test error",
            "minus scratch [95 %]",
            "improvement, %",
            "training error",
            "validation error",
            "validation / training",
            "ms a step",
            "GPU memory, GB",
        ),
        rows=tuple(rows),
        note="Training and validation errors are those of the final weights on the "
        "same number of systems; a ratio above 1 is overfitting. Memory on a CPU: see "
        "benchmarks/train_throughput.py.",
    )


def _rows(
    settings: ExperimentSettings, results: Sequence[ArmResult], store: str
) -> list[tuple[Cell, ...]]:
    metric = settings.metric(store)
    rows: list[tuple[Cell, ...]] = []
    for size in settings.budget.sizes:
        base: list[float] = []
        for start in STARTS:
            runs = runs_of(
                results, arm_name(size, start), stage=FINETUNING, store=store
            )
            test, train, val = (
                [error_of(getattr(r, part).get(store, {}), metric) for r in runs]
                for part in ("errors", "train_errors", "val_errors")
            )
            base = test if start == STARTS[0] else base
            gaps = [v / t if t else math.nan for v, t in zip(val, train, strict=True)]
            rows.append(
                (
                    store,
                    metric_words(settings, store),
                    size,
                    f"{max(r.n_parameters for r in runs):,}",
                    start,
                    *compared(test, base),
                    estimate_of(train),
                    estimate_of(val),
                    estimate_of(gaps),
                    _step_time(runs),
                    _memory(runs),
                )
            )
    return rows


def _step_time(runs: Sequence[ArmResult]) -> str:
    steps = sum(r.n_steps for r in runs)
    seconds = sum(r.seconds for r in runs)
    return f"{1000 * seconds / steps:.0f}" if steps else NOT_MEASURED


def _memory(runs: Sequence[ArmResult]) -> str:
    known = [r.gpu_memory_GB for r in runs if r.gpu_memory_GB is not None]
    return f"{max(known):.2f}" if known else NOT_MEASURED


def _runs(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    start: str,
    *,
    store: str,
) -> list[ArmResult]:
    return [
        run
        for size in settings.budget.sizes
        for run in runs_of(results, arm_name(size, start), store=store)
    ]


def _points(
    settings: ExperimentSettings, runs: Sequence[ArmResult], store: str, *, part: str
) -> tuple[list[float], list[float]]:
    metric = settings.metric(store)
    errors = [error_of(getattr(r, part).get(store, {}), metric) for r in runs]
    return [float(r.n_parameters) for r in runs], errors


def _fit_words(name: str, fit: PowerLaw | None, largest: int) -> str:
    if fit is None:
        return f"{name}: fewer than two sizes were measured, so nothing is fitted."
    return (
        f"{name}: {fit} over the number n of parameters, from {fit.n} runs up to "
        f"{largest:,} parameters; nothing is said beyond {2 * largest:,}."
    )


def _picture(settings: ExperimentSettings, results: Sequence[ArmResult]) -> Picture:
    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(settings.downstream), 2, squeeze=False)
        for (left, right), store in zip(grid, settings.downstream, strict=True):
            runs = {s: _runs(settings, results, s, store=store) for s in STARTS}
            _draw_errors(left, settings, runs, store)
            _draw_gaps(right, settings, runs, store)

    return Picture(
        draw=draw,
        words="Test error over the number of parameters with the fitted power law and "
        "its 95 % band (from three runs on), up to twice the largest network; right: "
        "validation error over training error",
        size=(8.4, 3.3 * len(settings.downstream)),
    )


def _draw_errors(
    axes: Axes,
    settings: ExperimentSettings,
    runs: dict[str, list[ArmResult]],
    store: str,
) -> None:
    lines = {
        start: _grouped(*_points(settings, mine, store, part="errors"))
        for start, mine in runs.items()
    }
    line_panel(
        axes,
        lines,
        labels=("parameters", metric_words(settings, store)),
        title=f"{store}, test part",
        has_log=(True, True),
    )
    for place, mine in enumerate(runs.values()):
        sizes, errors = _points(settings, mine, store, part="errors")
        fit = power_law(sizes, errors)
        if fit is None:
            continue
        x = np.geomspace(min(sizes), 2 * max(sizes), 50)
        axes.plot(x, fit.at(x), ls=":", lw=1, color=color(place))
        band = fit.band(x)
        if band is not None:
            axes.fill_between(x, *band, color=color(place), alpha=0.15, lw=0)
    axes.legend(frameon=False, fontsize="small")


def _draw_gaps(
    axes: Axes,
    settings: ExperimentSettings,
    runs: dict[str, list[ArmResult]],
    store: str,
) -> None:
    lines = {}
    for start, mine in runs.items():
        sizes, train = _points(settings, mine, store, part="train_errors")
        _, val = _points(settings, mine, store, part="val_errors")
        gaps = [v / t if t else math.nan for v, t in zip(val, train, strict=True)]
        lines[start] = _grouped(sizes, gaps)
    line_panel(
        axes,
        lines,
        labels=("parameters", "validation / training error"),
        title="overfitting",
        has_log=(True, False),
    )
    axes.axhline(1.0, color="#909090", lw=0.8)


def _grouped(
    sizes: Sequence[float], values: Sequence[float]
) -> list[tuple[float, list[float]]]:
    found: dict[float, list[float]] = {}
    for size, value in zip(sizes, values, strict=True):
        if measured([value]) and size > 0:
            found.setdefault(size, []).append(value)
    return [(size, found[size]) for size in sorted(found) if mean_of(found[size])]


EXPERIMENT = Experiment(
    id="E4",
    name="scaling",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
    needs_pretraining=1,
)
"""The experiment."""
