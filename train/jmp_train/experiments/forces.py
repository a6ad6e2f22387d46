"""E12: what do direct forces save, and what do they cost in a simulation?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jmp_calc.errors import ArgumentError
from jmp_calc.models.config import ForceKind
from jmp_train.data.store import Store, store_path
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.conservation import Conservation, conservation
from jmp_train.experiments.experiment import Experiment, seeds_of
from jmp_train.experiments.pictures import dot_panel
from jmp_train.experiments.report import Cell, Picture, Report, Table
from jmp_train.experiments.results import (
    METRICS,
    by_seed,
    compared,
    estimate_of,
    mean_of,
    runs_of,
)
from jmp_train.experiments.settings import (
    ExperimentSettings,
    finetuning_config,
    with_network,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_QUESTION = (
    "Forces can be the derivative of the energy, or come straight from the network. "
    "Same network, same steps, from random weights: which are more accurate, which are "
    "cheaper, and which conserve energy?"
)
KINDS: tuple[ForceKind, ...] = ("gradient", "direct")
"""Arms in the order of the tables."""
MAX_ATOMS = 100
"""Largest molecule that is simulated; its Jacobian takes six evaluations an atom."""

Found = dict[str, dict[str, list[Conservation]]]
"""What was measured, by seed, by set and kind of forces."""


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return all runs.

    Args:
        settings: Data and budget.

    Raises:
        ArgumentError: If a target is asked for, or a set has no forces.
    """
    arms = []
    for store in settings.downstream:
        if settings.metric(store) != "forces":
            raise ArgumentError(
                f"E12 compares forces; leave out --target, and choose a set with "
                f"forces in place of {store!r} if it has none"
            )
        for seed in seeds_of(settings):
            for kind in KINDS:
                config = finetuning_config(
                    settings, f"{store}-{kind}", seed, store=store
                )
                task = replace(config.data.tasks[0], forces=kind)
                config = replace(config, data=replace(config.data, tasks=(task,)))
                config = with_network(config, config.model, task.graph)
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
    found: Found = {
        store: {
            kind: _measure(settings, results, kind, store=store, announce=announce)
            for kind in KINDS
        }
        for store in settings.downstream
    }
    return Report(
        question=_QUESTION,
        findings=tuple(_words(results, store, found[store]) for store in found),
        tables=(_table(settings, results, found),),
        picture=_picture(results, found),
    )


def _measure(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    kind: str,
    *,
    store: str,
    announce: Announce,
) -> list[Conservation]:
    """Simulate the first molecule of the test part that is small enough."""
    place = store_path(settings.stores, store, "test")
    systems = (
        Store(place)
        if place.is_dir()
        else Store(store_path(settings.stores, store, "train"))
    )
    molecule = next(
        (s for s in systems if not s.is_periodic and s.n_atoms <= MAX_ATOMS), None
    )
    if molecule is None:
        return []
    announce(f"{store}: {kind} forces at constant energy")
    return [
        conservation(
            Path(run.weights),
            molecule.to_atoms(),
            head=store,
            n_steps=settings.budget.md_steps,
        )
        for run in runs_of(results, kind, store=store)
        if not run.problem
    ]


def _words(
    results: Sequence[ArmResult], store: str, found: dict[str, list[Conservation]]
) -> str:
    errors = {
        k: mean_of(by_seed(results, k, store, "forces", store=store)) for k in KINDS
    }
    times = {k: mean_of(_step_times(results, k, store)) for k in KINDS}
    text = (
        f"{store}: force MAE {errors['direct']:.4g} meV/Å direct and "
        f"{errors['gradient']:.4g} from the gradient; a training step of direct forces "
        f"takes {times['direct'] / times['gradient']:.2f} of the time."
    )
    if not found["direct"]:
        return text + " The set has no molecule that is small enough to be simulated."
    asymmetry = {k: mean_of([f.asymmetry for f in found[k]]) for k in KINDS}
    return (
        text + " The derivative of the forces is asymmetric by "
        f"{asymmetry['direct']:.2g} (direct) and {asymmetry['gradient']:.1g} "
        "(gradient); for the forces of an energy it is 0."
    )


def _step_times(results: Sequence[ArmResult], kind: str, store: str) -> list[float]:
    runs = runs_of(results, kind, store=store)
    return [1000 * r.seconds / r.n_steps if r.n_steps else math.nan for r in runs]


def _table(
    settings: ExperimentSettings, results: Sequence[ArmResult], found: Found
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for store, by_kind in found.items():
        base = by_seed(results, KINDS[0], store, "forces", store=store)
        for kind, measured in by_kind.items():
            errors = base
            if kind != KINDS[0]:
                errors = by_seed(results, kind, store, "forces", store=store)
            rows.append(
                (
                    store,
                    kind,
                    *compared(errors, base)[:2],
                    estimate_of(_step_times(results, kind, store)),
                    estimate_of([f.milliseconds_per_step for f in measured]),
                    estimate_of([f.drift_meV_per_atom_per_ps for f in measured]),
                    estimate_of([f.asymmetry for f in measured]),
                )
            )
    length = settings.budget.md_steps
    return Table(
        title="Direct and gradient forces",
        columns=(
            "set",
            "forces",
            METRICS["forces"].words,
            "minus gradient [95 %]",
            "ms a training step",
            "ms a step of dynamics",
            "drift, meV/atom/ps",
            "asymmetry",
        ),
        rows=tuple(rows),
        note=f"Dynamics: one test molecule without periodic boundaries (neither stress "
        f"nor cell), {length:,} steps of 0.5 fs at constant energy from 300 K, in "
        "float64. Asymmetry: |J - Jᵀ| / |J + Jᵀ| of the derivative J of the forces.",
    )


def _picture(results: Sequence[ArmResult], found: Found) -> Picture:
    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(found), 3, squeeze=False)
        for row, (store, by_kind) in zip(grid, found.items(), strict=True):
            panels: tuple[tuple[str, dict[str, list[float]]], ...] = (
                (
                    METRICS["forces"].words,
                    {
                        k: by_seed(results, k, store, "forces", store=store)
                        for k in KINDS
                    },
                ),
                (
                    "|drift|, meV/atom/ps",
                    {
                        k: [abs(f.drift_meV_per_atom_per_ps) for f in by_kind[k]]
                        for k in KINDS
                    },
                ),
                (
                    "ms a training step",
                    {k: _step_times(results, k, store) for k in KINDS},
                ),
            )
            for place, (axes, (label, values)) in enumerate(
                zip(row, panels, strict=True)
            ):
                title = store if place == 0 else ""
                dot_panel(axes, values, label=label, title=title, has_names=place == 0)

    return Picture(
        draw=draw,
        words="Error, drift of the total energy and cost of both kinds of forces; "
        "small dots are seeds, large ones their mean",
        size=(8.4, 0.4 + 1.8 * len(found)),
    )


EXPERIMENT = Experiment(
    id="E12",
    name="forces",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
)
"""The experiment."""
