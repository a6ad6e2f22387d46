"""E6: is a pre-training head worth keeping?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jmp_train.config import StartConfig
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment, seeds_of
from jmp_train.experiments.measure import read_samples, system_errors
from jmp_train.experiments.report import (
    METRICS,
    Cell,
    Report,
    Table,
    by_seed,
    estimate_of,
)
from jmp_train.experiments.settings import ExperimentSettings, finetuning_config
from jmp_train.experiments.statistics import paired_difference

_QUESTION = (
    "A pre-training head can be discarded, kept and trained on, or used as it is; what "
    "does each give?"
)
_ARMS = (
    "new head",
    "kept head",
    "probe: only the new head learns",
    "head first, then all",
)
_FROZEN = ("backbone", "embedding")


def head_names(weights: str) -> list[str]:
    """Return the energy heads of trained weights.

    Args:
        weights: Name or file.
    """
    from jmp_calc.pretrained import load_model

    specs = load_model(weights).heads.values()
    return [spec.name for spec in specs if spec.kind == "energy_forces"]


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return all runs; the kept head is the first of the weights.

    Args:
        settings: Data and budget.
    """
    kept = head_names(settings.weights)[0]
    arms: list[Arm] = []
    for store in settings.downstream:
        for seed in seeds_of(settings):
            starts = {
                "new head": StartConfig(weights=settings.weights),
                "kept head": StartConfig(
                    weights=settings.weights, heads=((store, kept),)
                ),
                "probe: only the new head learns": StartConfig(
                    weights=settings.weights, frozen=_FROZEN
                ),
            }
            made = {
                name: _arm(settings, name, seed, store, start)
                for name, start in starts.items()
            }
            probe = made["probe: only the new head learns"]
            last = _arm(
                settings,
                "head first, then all",
                seed,
                store,
                StartConfig(weights=settings.weights, heads=((store, store),)),
            )
            arms += [*made.values(), replace(last, after=probe)]
    return arms


def _arm(
    settings: ExperimentSettings, name: str, seed: int, store: str, start: StartConfig
) -> Arm:
    folder = f"{store}-{name.split(':')[0].replace(' ', '-').replace(',', '')}"
    config = finetuning_config(settings, folder, seed, store=store, start=start)
    return Arm(name=name, config=config, tags={"store": store})


def summarise(
    settings: ExperimentSettings, results: Sequence[ArmResult], announce: Announce
) -> Report:
    """Return test errors by arm, and of each head without any training.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Hears what is measured.
    """
    rows: list[tuple[Cell, ...]] = []
    for store in settings.downstream:
        new = by_seed(results, "new head", store, "forces", store=store)
        for arm in _ARMS:
            errors = by_seed(results, arm, store, "forces", store=store)
            rows.append(
                (store, arm, estimate_of(errors), str(paired_difference(errors, new)))
            )
    zero: list[tuple[Cell, ...]] = []
    for store in settings.downstream:
        limit = settings.budget.evaluate_systems
        test = read_samples(settings.stores, store, "test", limit)
        train = read_samples(settings.stores, store, "train", limit)
        for head in head_names(settings.weights):
            announce(f"{store}: head {head!r} without training")
            errors = system_errors(settings.weights, test, head=head, fit=train)
            zero.append(
                (
                    store,
                    head,
                    float(np.nanmean(errors.energy)),
                    float(np.nanmean(errors.forces)),
                )
            )
    best = min(
        _ARMS,
        key=lambda arm: float(
            np.mean(
                [
                    np.mean(by_seed(results, arm, store, "forces", store=store))
                    for store in settings.downstream
                ]
            )
        ),
    )
    return Report(
        question=_QUESTION,
        findings=(
            f"The smallest mean force error is that of the arm '{best}'.",
            "'head first, then all' takes twice the steps of the others: half of them "
            "with a frozen backbone.",
        ),
        tables=(
            Table(
                title=f"Test error ({METRICS['forces'][1]})",
                columns=("set", "arm", "error", "minus new head (95 %)"),
                rows=tuple(rows),
            ),
            Table(
                title="Each head as it is, after a linear reference of the elements "
                f"({settings.budget.evaluate_systems} test systems at most)",
                columns=(
                    "set",
                    "head",
                    METRICS["energy"][1],
                    METRICS["forces"][1],
                ),
                rows=tuple(zero),
            ),
        ),
    )


EXPERIMENT = Experiment(
    id="E6",
    name="heads",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
)
"""The experiment."""
