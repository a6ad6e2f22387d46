"""E7: does pre-training help on a domain that it has not seen?"""

from __future__ import annotations

from collections.abc import Sequence

from jmp_train.config import StartConfig
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment, Starts
from jmp_train.experiments.learning_curve import (
    SCRATCH,
    asked_for,
    curve_arms,
    curve_picture,
    curve_table,
    gain_words,
    gains_of,
)
from jmp_train.experiments.measure import pooled_features, read_samples
from jmp_train.experiments.report import Report, Table
from jmp_train.experiments.scratch_vs_pretrained import FROZEN_PARTS
from jmp_train.experiments.settings import ExperimentSettings, network_of
from jmp_train.experiments.statistics import frechet_distance
from jmp_train.groups import layer_factors

_QUESTION = (
    "Does starting from trained weights help on a set from another domain, and how far "
    "is that set from those of pre-training?"
)
ARMS = (SCRATCH, "pre-trained", "pre-trained, rates by layer", "frozen backbone")
"""Arms in the order of the tables."""
FEATURE_SYSTEMS = 64
"""Least number of systems whose features are compared."""


def starts_of(settings: ExperimentSettings) -> Starts:
    """Return what each arm that is asked for starts from.

    Args:
        settings: Names the weights, and perhaps arms.
    """
    weights = settings.weights
    model, _ = network_of(settings, settings.downstream[0])
    starts = (
        None,
        StartConfig(weights=weights),
        StartConfig(weights=weights, layer_rates=layer_factors(model.num_blocks)),
        StartConfig(weights=weights, frozen=FROZEN_PARTS),
    )
    return asked_for(settings, dict(zip(ARMS, starts, strict=True)))


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return all runs: set x number of training systems x seed x arm.

    Args:
        settings: Data and budget.
    """
    return curve_arms(settings, starts_of(settings))


def summarise(
    settings: ExperimentSettings, results: Sequence[ArmResult], announce: Announce
) -> Report:
    """Return errors by arm, and the distance of each set from those of pre-training.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Hears what is measured.
    """
    arms = tuple(starts_of(settings))
    gains = {arm: gains_of(settings, results, arm) for arm in arms[1:]}
    findings = [gain_words(gains[arm], arm) for arm in arms[1:]]
    if not settings.pretraining:
        findings.append(
            "Name the sets of the pre-training with --pretraining to see how far the "
            "set is from them."
        )
    tables = [curve_table(settings, results, arms)]
    if settings.pretraining:
        tables.append(_distances(settings, announce))
    return Report(
        question=_QUESTION,
        findings=tuple(findings),
        tables=tuple(tables),
        picture=curve_picture(settings, results, arms),
        facts={"improvement_percent": gains},
    )


def _distances(settings: ExperimentSettings, announce: Announce) -> Table:
    limit = max(settings.budget.evaluate_systems, FEATURE_SYSTEMS)
    features = {}
    for name in dict.fromkeys((*settings.pretraining, *settings.downstream)):
        announce(f"features of {name}")
        samples = read_samples(settings.stores, name, "train", limit)
        features[name] = pooled_features(settings.weights, samples)
    counts = ", ".join(f"{name} {len(cloud)}" for name, cloud in features.items())
    return Table(
        title="Squared Fréchet distance of pooled features",
        columns=("set", *(f"from {name}" for name in settings.pretraining)),
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
        note=f"Features of {settings.weights} before any fine-tuning, averaged over "
        "the atoms of a system; 0 means the same mean and spread, and smaller samples "
        f"look farther apart. Systems: {counts}.",
    )


EXPERIMENT = Experiment(
    id="E7",
    name="transfer",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
    starts=starts_of,
)
"""The experiment."""
