"""E12: what do direct forces save, and what do they cost in a simulation?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jmp_calc.models.config import ForceKind
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment, seeds_of
from jmp_train.experiments.measure import Conservation, conservation, read_samples
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
    "Forces can be the derivative of the energy, or come straight from the network. "
    "Same network, same steps, from random weights: which are more accurate, which are "
    "cheaper, and which conserve energy?"
)
KINDS: tuple[ForceKind, ...] = ("gradient", "direct")
"""Arms in the order of the tables."""


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return all runs.

    Args:
        settings: Data and budget.
    """
    arms = []
    for store in settings.downstream:
        for seed in seeds_of(settings):
            for kind in KINDS:
                config = finetuning_config(
                    settings, f"{store}-{kind}", seed, store=store
                )
                task = replace(config.data.tasks[0], forces=kind)
                config = replace(
                    config,
                    data=replace(config.data, tasks=(task,)),
                    model=replace(config.model, has_direct_forces=kind == "direct"),
                )
                arms.append(Arm(name=kind, config=config, tags={"store": store}))
    return arms


def summarise(
    settings: ExperimentSettings, results: Sequence[ArmResult], announce: Announce
) -> Report:
    """Return errors, time and what conserves energy.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Hears what is measured.
    """
    rows: list[tuple[Cell, ...]] = []
    findings = []
    for store in settings.downstream:
        gradient = by_seed(results, "gradient", store, "forces", store=store)
        for kind in KINDS:
            mine = [r for r in results if (r.name, r.tags["store"]) == (kind, store)]
            errors = by_seed(results, kind, store, "forces", store=store)
            announce(f"{store}: {kind} forces at constant energy")
            found = [_conservation(settings, result, store) for result in mine]
            rows.append(
                (
                    store,
                    kind,
                    estimate_of(errors),
                    str(paired_difference(errors, gradient)),
                    estimate_of([f.drift_meV_per_atom_per_ps for f in found]),
                    estimate_of([f.asymmetry for f in found]),
                    estimate_of([f.milliseconds_per_step for f in found]),
                    estimate_of([1000 * r.seconds / r.n_steps for r in mine]),
                )
            )
        findings.append(
            f"{store}: the asymmetry of the derivative of the forces is that of noise "
            "for gradient forces; for direct ones it says how far they are from those "
            "of any energy."
        )
    return Report(
        question=_QUESTION,
        findings=tuple(findings),
        tables=(
            Table(
                title="Direct and gradient forces",
                columns=(
                    "set",
                    "forces",
                    METRICS["forces"][1],
                    "minus gradient (95 %)",
                    f"drift in {settings.budget.md_steps} steps of 0.5 fs, meV/atom/ps",
                    "asymmetry",
                    "milliseconds a step of dynamics",
                    "milliseconds a training step",
                ),
                rows=tuple(rows),
            ),
        ),
    )


def _conservation(
    settings: ExperimentSettings, result: ArmResult, store: str
) -> Conservation:
    sample = read_samples(settings.stores, store, "test", 1)[0]
    return conservation(
        result.weights,
        sample.to_atoms(),
        head=store,
        n_steps=settings.budget.md_steps,
    )


EXPERIMENT = Experiment(
    id="E12",
    name="forces",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
)
"""The experiment."""
