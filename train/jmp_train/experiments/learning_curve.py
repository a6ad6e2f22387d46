"""What E1 and E7 share: ways to start, over sets and numbers of training systems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_train.experiments.arms import Arm, ArmResult
from jmp_train.experiments.experiment import Starts, seeds_of
from jmp_train.experiments.pictures import dot_panel, line_panel
from jmp_train.experiments.pretraining import slug
from jmp_train.experiments.report import Cell, Picture, Table
from jmp_train.experiments.results import (
    best_validation,
    by_seed,
    compared,
    error_of,
    mean_of,
    measured,
    metric_words,
    runs_of,
    steps_to_reach,
)
from jmp_train.experiments.settings import (
    ExperimentSettings,
    finetuning_config,
    network_of,
    with_network,
)
from jmp_train.experiments.statistics import relative_improvement
from jmp_train.experiments.subset import smaller_stores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCRATCH = "scratch"
"""The arm that all others are compared with."""


def curve_arms(settings: ExperimentSettings, starts: Starts) -> list[Arm]:
    """Return all runs: set x number of training systems x seed x arm.

    All arms have the network of the trained weights, so that only the start differs,
    and the learning rate where one was searched for each arm.

    Args:
        settings: Data and budget.
        starts: What each arm starts from.
    """
    arms = []
    for store in settings.downstream:
        model, graph = network_of(settings, store)
        for n_train in settings.budget.n_train:
            for seed in seeds_of(settings):
                stores = smaller_stores(
                    settings.stores,
                    store,
                    settings.out / "stores",
                    n_train=n_train,
                    seed=seed,
                )
                for arm, start in starts.items():
                    tags: dict[str, Any] = {"n_train": n_train, "store": store}
                    folder = f"{store}-{n_train or 'all'}-{slug(arm)}"
                    rate = settings.chosen_rates.get((arm, n_train))
                    if rate is not None:
                        folder, tags = f"{folder}-{rate:g}", tags | {"rate": rate}
                    config = finetuning_config(
                        settings, folder, seed, store=store, start=start, rate=rate
                    )
                    config = with_network(config, model, graph)
                    config = replace(config, data=replace(config.data, stores=stores))
                    arms.append(Arm(name=arm, config=config, tags=tags))
    return arms


def asked_for(settings: ExperimentSettings, starts: Starts) -> Starts:
    """Return the arms that are to run: ``SCRATCH``, and those that were named, or all.

    Args:
        settings: Names arms.
        starts: What each arm starts from.

    Raises:
        ArgumentError: If there is no arm of a name.
    """
    for name in settings.arms:
        if name not in starts:
            known = ", ".join(repr(arm) for arm in starts)
            raise ArgumentError(
                f"there is no arm {name!r}; choose from {known}"
                + did_you_mean(name, starts)
            )
    wanted = {SCRATCH, *(settings.arms or starts)}
    return {arm: start for arm, start in starts.items() if arm in wanted}


def errors_at(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    arm: str,
    *,
    store: str,
    n_train: int,
) -> list[float]:
    """Return the test errors of an arm by seed.

    Args:
        settings: Says which label is scored.
        results: Of all runs.
        arm: Name.
        store: Name of the set.
        n_train: Number of training systems as in the budget.
    """
    metric = settings.metric(store)
    return by_seed(results, arm, store, metric, store=store, n_train=n_train)


def curve_table(
    settings: ExperimentSettings, results: Sequence[ArmResult], arms: Sequence[str]
) -> Table:
    """Return test errors, and how much sooner each arm is as good as scratch.

    Args:
        settings: Data and budget.
        results: Of all runs.
        arms: Names in order, ``SCRATCH`` first.
    """
    rows: list[tuple[Cell, ...]] = []
    for store in settings.downstream:
        words = metric_words(settings, store)
        for n_train in settings.budget.n_train:
            place = {"store": store, "n_train": n_train}
            base = errors_at(settings, results, SCRATCH, **place)  # type: ignore[arg-type]  # of two types
            for arm in arms:
                errors = base
                if arm != SCRATCH:
                    errors = errors_at(settings, results, arm, **place)  # type: ignore[arg-type]  # likewise
                n = runs_of(results, arm, **place)[0].n_systems
                speed = _words(
                    speed_ups(settings, results, arm, store=store, n_train=n_train)
                )
                speed = "reference" if arm == SCRATCH else speed
                rows.append((store, words, n, arm, *compared(errors, base), speed))
    return Table(
        title="Test error",
        columns=(
            "set",
            "quantity",
            "training systems",
            "arm",
            "error",
            "minus scratch [95 %]",
            "improvement, %",
            "steps and hours to scratch's best validation error",
        ),
        rows=tuple(rows),
    )


def gains_of(
    settings: ExperimentSettings, results: Sequence[ArmResult], arm: str
) -> list[float]:
    """Return the improvement over scratch in percent, of all sets, sizes and seeds.

    Args:
        settings: Data and budget.
        results: Of all runs.
        arm: Name.
    """
    gains: list[float] = []
    for store in settings.downstream:
        for n_train in settings.budget.n_train:
            pairs = zip(
                errors_at(settings, results, arm, store=store, n_train=n_train),
                errors_at(settings, results, SCRATCH, store=store, n_train=n_train),
                strict=True,
            )
            gains += [relative_improvement(a, b) for a, b in pairs]
    return measured(gains)


def gain_words(gains: Sequence[float], arm: str) -> str:
    """Return mean, median and wins of an arm over scratch in a sentence.

    Args:
        gains: Improvements in percent.
        arm: Name.
    """
    if not gains:
        return f"'{arm}' could not be compared with scratch."
    ordered, n = sorted(gains), len(gains)
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    wins, losses = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
    return (
        f"'{arm}' against scratch: error {-mean_of(gains):+.1f} % on average, "
        f"{-median:+.1f} % in the median; better in {wins}, worse in {losses} and "
        f"equal in {n - wins - losses} of {n} pairs of runs."
    )


def speed_ups(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    arm: str,
    *,
    store: str,
    n_train: int,
) -> list[tuple[float, float] | None]:
    """Return how many times fewer steps and hours reach scratch's best validation.

    Args:
        settings: Says which label is scored.
        results: Of all runs.
        arm: Name.
        store: Name of the set.
        n_train: Number of training systems as in the budget.

    Returns:
        Factors of each seed; None where the arm never gets there.
    """
    metric = settings.metric(store)
    found: list[tuple[float, float] | None] = []
    mine = {r.seed: r for r in runs_of(results, arm, store=store, n_train=n_train)}
    for other in runs_of(results, SCRATCH, store=store, n_train=n_train):
        best = best_validation(other, store, metric)
        own = mine.get(other.seed)
        if not math.isfinite(best) or own is None:
            continue
        slow = steps_to_reach(other, store, metric, best) or 0
        fast = steps_to_reach(own, store, metric, best)
        if fast is None or not own.seconds or not slow:
            found.append(None)
            continue
        pace = (other.seconds / other.n_steps) / (own.seconds / own.n_steps)
        found.append((slow / max(fast, 1), pace * slow / max(fast, 1)))
    return found


def _words(factors: Sequence[tuple[float, float] | None]) -> str:
    reached = [pair for pair in factors if pair is not None]
    if not reached:
        return "never reached" if factors else "not measured"
    steps, hours = (mean_of([pair[k] for pair in reached]) for k in (0, 1))
    missing = len(factors) - len(reached)
    more = f"; never in {missing} of {len(factors)}" if missing else ""
    return f"1/{steps:.1f} of the steps, 1/{hours:.1f} of the hours{more}"


def curve_picture(
    settings: ExperimentSettings, results: Sequence[ArmResult], arms: Sequence[str]
) -> Picture:
    """Return test errors over training systems, and validations of the largest runs.

    Args:
        settings: Data and budget.
        results: Of all runs.
        arms: Names in order.
    """

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(settings.downstream), 2, squeeze=False)
        for (left, right), store in zip(grid, settings.downstream, strict=True):
            metric, words = settings.metric(store), metric_words(settings, store)
            by_arm = {
                arm: [
                    (
                        float(
                            runs_of(results, arm, store=store, n_train=n)[0].n_systems
                        ),
                        errors_at(settings, results, arm, store=store, n_train=n),
                    )
                    for n in settings.budget.n_train
                ]
                for arm in arms
            }
            by_arm = {arm: sorted(points) for arm, points in by_arm.items()}
            if len({n for points in by_arm.values() for n, _ in points}) > 1:
                line_panel(
                    left,
                    by_arm,
                    labels=("training systems", words),
                    title=f"{store}, test part",
                    has_log=(True, True),
                )
            else:
                values = {arm: points[0][1] for arm, points in by_arm.items()}
                dot_panel(left, values, label=words, title=f"{store}, test part")
            n_train = settings.budget.n_train[-1]
            line_panel(
                right,
                {
                    arm: validation_points(
                        runs_of(results, arm, store=store, n_train=n_train),
                        store,
                        metric,
                    )
                    for arm in arms
                },
                labels=("step", words),
                title="validation, most training systems",
            )
        handles, names = grid[0][1].get_legend_handles_labels()
        figure.legend(
            handles, names, loc="outside lower center", ncols=4, frameon=False
        )

    return Picture(
        draw=draw,
        words="Test error over the number of training systems, and the validation "
        "error during the runs with the most of them; means over seeds, bars from the "
        "best to the worst seed",
        size=(8.0, 3.4 * len(settings.downstream) + 0.3),
    )


def validation_points(
    runs: Sequence[ArmResult], task: str, metric: str
) -> list[tuple[float, list[float]]]:
    """Return step and errors of the seeds of each validation.

    Args:
        runs: Seeds of an arm.
        task: Task that is scored.
        metric: Key of ``METRICS``.
    """
    found: dict[int, list[float]] = {}
    for run in runs:
        for point in run.curve:
            error = error_of(point["tasks"].get(task, {}), metric)
            found.setdefault(int(point["step"]), []).append(error)
    return [(float(step), found[step]) for step in sorted(found)]
