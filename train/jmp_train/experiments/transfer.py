"""E7: does pre-training help on a domain that it has not seen?"""

from __future__ import annotations

from collections.abc import Sequence

from jmp_train.config import StartConfig
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment, seeds_of
from jmp_train.experiments.measure import pooled_features, read_samples
from jmp_train.experiments.report import (
    METRICS,
    Cell,
    Report,
    Table,
    by_seed,
    estimate_of,
)
from jmp_train.experiments.settings import (
    ExperimentSettings,
    finetuning_config,
    network_of,
)
from jmp_train.experiments.statistics import (
    frechet_distance,
    paired_difference,
    relative_improvement,
)
from jmp_train.groups import layer_factors

_QUESTION = (
    "Does starting from trained weights help on a set from another domain, and how far "
    "is that set from those of pre-training?"
)
ARMS = ("scratch", "pre-trained", "pre-trained, rates by layer", "frozen backbone")
"""Arms in the order of the tables."""


def _start(settings: ExperimentSettings, arm: str) -> StartConfig | None:
    if arm == "scratch":
        return None
    model, _ = network_of(settings.weights)
    return StartConfig(
        weights=settings.weights,
        frozen=("backbone", "embedding") if arm == "frozen backbone" else (),
        layer_rates=(
            layer_factors(model.num_blocks) if arm.endswith("rates by layer") else ()
        ),
    )


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return all runs.

    Args:
        settings: Data and budget.
    """
    arms = []
    for store in settings.downstream:
        for seed in seeds_of(settings):
            for arm in ARMS:
                folder = f"{store}-{arm.replace(', ', '-').replace(' ', '-')}"
                config = finetuning_config(
                    settings, folder, seed, store=store, start=_start(settings, arm)
                )
                arms.append(Arm(name=arm, config=config, tags={"store": store}))
    return arms


def summarise(
    settings: ExperimentSettings, results: Sequence[ArmResult], announce: Announce
) -> Report:
    """Return errors by arm, and the distance of each set from those of pre-training.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Hears what is measured.
    """
    metric = "forces" if settings.target is None else "target"
    rows: list[tuple[Cell, ...]] = []
    gains: list[float] = []
    for store in settings.downstream:
        scratch = by_seed(results, "scratch", store, metric, store=store)
        for arm in ARMS:
            errors = by_seed(results, arm, store, metric, store=store)
            relative = [
                relative_improvement(a, b)
                for a, b in zip(errors, scratch, strict=True)
                if b > 0
            ]
            gains += relative if arm == "pre-trained" else []
            rows.append(
                (
                    store,
                    arm,
                    estimate_of(errors),
                    str(paired_difference(errors, scratch)),
                    estimate_of(relative),
                )
            )
    return Report(
        question=_QUESTION,
        findings=(
            f"Pre-training lowers the test error by {sum(gains) / len(gains):.1f} % on "
            "average over sets and seeds."
            if gains
            else "Nothing was measured.",
            "Distances are those of the features of the untouched trained weights, "
            "averaged over the atoms of a system; 0 means the same mean and spread.",
        ),
        tables=(
            Table(
                title=f"Test error ({METRICS[metric][1]})",
                columns=(
                    "set",
                    "arm",
                    "error",
                    "minus scratch (95 %)",
                    "improvement, %",
                ),
                rows=tuple(rows),
            ),
            _distances(settings, announce),
        ),
    )


def _distances(settings: ExperimentSettings, announce: Announce) -> Table:
    limit = max(settings.budget.evaluate_systems, 8)
    names = dict.fromkeys((*settings.pretraining, *settings.downstream))
    features = {}
    for name in names:
        announce(f"{name}: features")
        samples = read_samples(settings.stores, name, "train", limit)
        features[name] = pooled_features(settings.weights, samples)
    return Table(
        title=f"Squared Fréchet distance of pooled features ({limit} systems each)",
        columns=("set", *settings.pretraining),
        rows=tuple(
            (
                store,
                *(
                    frechet_distance(features[store], features[other])
                    for other in settings.pretraining
                ),
            )
            for store in settings.downstream
        ),
    )


EXPERIMENT = Experiment(
    id="E7",
    name="transfer",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
)
"""The experiment."""
