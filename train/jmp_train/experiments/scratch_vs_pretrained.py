"""E1: does pre-training help, by how much, and how much sooner?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jmp_train.config import StartConfig
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment, seeds_of
from jmp_train.experiments.report import (
    METRICS,
    Report,
    Table,
    by_seed,
    error_of,
    estimate_of,
    steps_to_reach,
)
from jmp_train.experiments.settings import ExperimentSettings, finetuning_config
from jmp_train.experiments.statistics import paired_difference, relative_improvement
from jmp_train.experiments.subset import smaller_stores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ARMS = ("scratch", "pre-trained", "frozen backbone")
"""Arms in the order of the tables."""

_QUESTION = (
    "Same network, same steps, same training systems: what does starting from trained "
    "weights change?"
)


def _start(settings: ExperimentSettings, arm: str) -> StartConfig | None:
    if arm == "scratch":
        return None
    frozen = ("backbone", "embedding") if arm == "frozen backbone" else ()
    return StartConfig(weights=settings.weights, frozen=frozen)


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return all runs: arm x set x number of training systems x seed.

    The scratch arm has the network of the trained weights, so that only the start
    differs.

    Args:
        settings: Data and budget.
    """
    from dataclasses import replace

    from jmp_train.experiments.settings import network_of

    model, graph = network_of(settings.weights)
    arms = []
    for store in settings.downstream:
        for n_train in settings.budget.n_train:
            for seed in seeds_of(settings):
                stores = smaller_stores(
                    settings.stores,
                    store,
                    settings.out / "stores",
                    n_train=n_train,
                    seed=seed,
                )
                for arm in ARMS:
                    config = finetuning_config(
                        settings,
                        f"{store}-{n_train}-{arm.replace(' ', '-')}",
                        seed,
                        store=store,
                        stores=stores,
                        start=_start(settings, arm),
                    )
                    task = replace(config.data.tasks[0], graph=graph)
                    config = replace(
                        config, model=model, data=replace(config.data, tasks=(task,))
                    )
                    tags = {"n_train": n_train, "store": store}
                    arms.append(Arm(name=arm, config=config, tags=tags))
    return arms


def summarise(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    announce: Announce,  # noqa: ARG001 (part of the interface)
) -> Report:
    """Return errors, improvements and steps saved.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Not used.
    """
    metric = "forces" if settings.target is None else "target"
    rows, gains, sooner = [], [], []
    for store in settings.downstream:
        for n_train in settings.budget.n_train:
            tags = {"n_train": n_train, "store": store}
            scratch = by_seed(results, "scratch", store, metric, **tags)
            for arm in ARMS:
                errors = by_seed(results, arm, store, metric, **tags)
                relative = [
                    relative_improvement(a, b)
                    for a, b in zip(errors, scratch, strict=True)
                    if b > 0
                ]
                speed = _sooner(results, store, metric, arm, tags)
                if arm == "pre-trained":
                    gains += relative
                    sooner += [s for s in speed if s is not None]
                rows.append(
                    (
                        store,
                        n_train or "all",
                        arm,
                        estimate_of(errors),
                        str(paired_difference(errors, scratch)),
                        estimate_of(relative),
                        _words(speed),
                    )
                )
    return Report(
        question=_QUESTION,
        findings=_findings(gains, sooner, METRICS[metric][1]),
        tables=(
            Table(
                title=f"Test error ({METRICS[metric][1]})",
                columns=(
                    "set",
                    "training systems",
                    "arm",
                    "error",
                    "minus scratch (95 %)",
                    "improvement, %",
                    "reaches scratch's best validation error",
                ),
                rows=tuple(rows),
            ),
        ),
        draw=lambda axes: _draw(axes, settings, results, metric),
        facts={"relative_improvement_percent": gains, "speed_up": sooner},
    )


def _sooner(
    results: Sequence[ArmResult],
    store: str,
    metric: str,
    arm: str,
    tags: dict[str, object],
) -> list[float | None]:
    """Return how many times sooner each seed reaches the best error of scratch."""
    found: list[float | None] = []
    mine = {r.seed: r for r in results if r.name == arm and dict(r.tags) == tags}
    for other in results:
        if other.name != "scratch" or dict(other.tags) != tags:
            continue
        errors = [error_of(p["tasks"].get(store, {}), metric) for p in other.curve]
        finite = [e for e in errors if math.isfinite(e)]
        if not finite or other.seed not in mine:
            continue
        best = min(finite)
        slow = steps_to_reach(other, store, metric, best)
        fast = steps_to_reach(mine[other.seed], store, metric, best)
        found.append(None if fast is None or slow is None else slow / max(fast, 1))
    return found


def _words(factors: Sequence[float | None]) -> str:
    reached = [factor for factor in factors if factor is not None]
    if not factors:
        return "not measured"
    if not reached:
        return "never"
    mean = sum(reached) / len(reached)
    return f"{mean:.1f} × sooner in {len(reached)} of {len(factors)} runs"


def _findings(
    gains: Sequence[float], sooner: Sequence[float], words: str
) -> tuple[str, ...]:
    found = []
    if gains:
        wins = sum(gain > 0 for gain in gains)
        ordered = sorted(gains)
        found.append(
            f"Pre-training changes the test error ({words}) by "
            f"{-sum(gains) / len(gains):+.1f} % on average "
            f"(median {-ordered[len(ordered) // 2]:+.1f} %); it is better in {wins} of "
            f"{len(gains)} pairs. The published mean over 40 tasks is -59 %, for a "
            "network of 235 M parameters pre-trained on 120 M systems."
        )
    if sooner:
        found.append(
            "The pre-trained arm reaches the best validation error of scratch "
            f"{sum(sooner) / len(sooner):.1f} times sooner in steps (published, in "
            "time: 12)."
        )
    return tuple(found) or ("Nothing was measured.",)


def _draw(
    axes: Axes, settings: ExperimentSettings, results: Sequence[ArmResult], metric: str
) -> None:
    store = settings.downstream[0]
    sizes = sorted({r.n_systems for r in results if r.tags["store"] == store})
    for arm, marker in zip(ARMS, "os^", strict=True):
        points = [
            (n, [error_of(r.errors[store], metric) for r in mine])
            for n in sizes
            if (mine := [r for r in results if _is(r, arm, store, n)])
        ]
        if points:
            axes.errorbar(
                [n for n, _ in points],
                [sum(e) / len(e) for _, e in points],
                yerr=[(max(e) - min(e)) / 2 for _, e in points],
                marker=marker,
                capsize=3,
                label=arm,
            )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="training systems",
        ylabel=METRICS[metric][1],
        title=f"{store}, test part",
    )
    axes.legend(frameon=False)


def _is(result: ArmResult, arm: str, store: str, n: int) -> bool:
    return (result.name, result.tags["store"], result.n_systems) == (arm, store, n)


EXPERIMENT = Experiment(
    id="E1",
    name="scratch-vs-pretrained",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
)
"""The experiment."""
