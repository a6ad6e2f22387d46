"""E6: is a pre-training head worth keeping?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jmp_calc.errors import ArgumentError
from jmp_train.config import StartConfig, TaskScales, TrainConfig
from jmp_train.data.store import Store, store_path
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment, seeds_of
from jmp_train.experiments.measure import fitted_head, system_errors
from jmp_train.experiments.pictures import dot_panel
from jmp_train.experiments.pretraining import slug, verdicts
from jmp_train.experiments.report import Cell, Picture, Report, Table
from jmp_train.experiments.results import (
    METRICS,
    best_validation,
    by_seed,
    compared,
    metric_words,
    runs_of,
    steps_to_reach,
)
from jmp_train.experiments.scratch_vs_pretrained import FROZEN_PARTS
from jmp_train.experiments.settings import (
    ExperimentSettings,
    finetuning_config,
    with_network,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jmp_calc.models.jmp import JMPModel

_QUESTION = (
    "A pre-training head can be discarded, kept and trained on, or used as it is; what "
    "does each give?"
)
NEW, KEPT, PROBE, FIRST = (
    "new head",
    "kept head",
    "probe: only the new head learns",
    "new head first, then all",
)
TRAINED = (NEW, KEPT, PROBE, FIRST)
"""Arms with test errors of their own."""
FIRST_HALF = f"{FIRST}: first half"
"""The run that the last arm starts from."""
AVERAGED = "mean of new and kept head"
"""Predictions of two arms averaged; no run of its own."""
ARMS = (*TRAINED, AVERAGED)
"""Arms in the order of the tables."""


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return all runs; the kept head is the one with the smallest force error.

    References of a kept head are fitted again, because its level of theory is another.

    Args:
        settings: Data and budget.

    Raises:
        ArgumentError: If a target is asked for, or no head knows the elements.
    """
    if settings.target is not None:
        raise ArgumentError(
            "E6 compares heads of energy and forces; leave out --target"
        )
    return [
        arm
        for store in settings.downstream
        for seed in seeds_of(settings)
        for arm in _arms_of(settings, store, seed)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """The head that is kept for a set."""

    name: str
    references: tuple[tuple[int, float], ...]


def _kept_head(settings: ExperimentSettings, store: str) -> tuple[JMPModel, _Kept]:
    from jmp_calc.pretrained import load_model
    from jmp_train.finetune.zero_shot import residual_references, score_heads

    model = load_model(settings.weights)
    train = Store(store_path(settings.stores, store, "train"))
    heads = _candidates(model, train)
    if not heads:
        elements = train.header["statistics"]["elements"]
        raise ArgumentError(
            f"no head of {settings.weights} knows all elements of {store!r} "
            f"({elements}), so none can be kept; choose another set or other weights"
        )
    best = score_heads(model, train, heads)[0].name
    fit = residual_references(model, train, best)
    return model, _Kept(name=best, references=tuple(fit.references.items()))


def _candidates(model: JMPModel, store: Store) -> list[str]:
    from jmp_train.finetune.zero_shot import candidate_heads

    return candidate_heads(
        model,
        elements=store.header["statistics"]["elements"],
        is_periodic=store[0].is_periodic,
    )


def _arms_of(settings: ExperimentSettings, store: str, seed: int) -> list[Arm]:
    model, kept = _kept_head(settings, store)
    weights = settings.weights
    starts = {
        NEW: StartConfig(weights=weights),
        KEPT: StartConfig(weights=weights, heads=((store, kept.name),)),
        PROBE: StartConfig(weights=weights, frozen=FROZEN_PARTS),
        FIRST_HALF: StartConfig(weights=weights, frozen=FROZEN_PARTS),
        FIRST: StartConfig(weights="", heads=((store, store),)),
    }
    made: dict[str, Arm] = {}
    for name, start in starts.items():
        config = finetuning_config(
            settings, f"{store}-{slug(name)}", seed, store=store, start=start
        )
        config = with_network(config, model.config, model.heads[kept.name].graph)
        if name == KEPT:
            scales = TaskScales(references=kept.references)
            tasks = (replace(config.data.tasks[0], scales=scales),)
            config = replace(config, data=replace(config.data, tasks=tasks))
        if name in (FIRST_HALF, FIRST):
            config = _half(config, is_first=name == FIRST_HALF)
        tags = {"store": store, "kept": kept.name}
        after = made.get(FIRST_HALF) if name == FIRST else None
        made[name] = Arm(name=name, config=config, after=after, tags=tags)
    return list(made.values())


def _half(config: TrainConfig, *, is_first: bool) -> TrainConfig:
    """Return a run of half of the steps, so that both halves cost what others do."""
    steps = config.max_steps or 1
    half = max(steps // 2, 1)
    return replace(config, max_steps=half if is_first else max(steps - half, 1))


def summarise(
    settings: ExperimentSettings, results: Sequence[ArmResult], announce: Announce
) -> Report:
    """Return test errors by arm, and of each head without any training.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Hears what is measured.
    """
    errors = {
        store: _errors_of(settings, results, store, announce)
        for store in settings.downstream
    }
    kept = {store: runs_of(results, KEPT, store=store)[0] for store in errors}
    return Report(
        question=_QUESTION,
        findings=(
            *verdicts(settings, errors),
            "Kept heads, the best of each set without training, with references of the "
            "elements fitted again: "
            + ", ".join(f"{r.tags['kept']} for {s}" for s, r in kept.items())
            + ".",
        ),
        tables=(
            _table(settings, results, errors),
            _zero_shot_table(settings, announce),
        ),
        picture=_picture(settings, errors),
    )


def _errors_of(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    store: str,
    announce: Announce,
) -> dict[str, list[float]]:
    metric = settings.metric(store)
    found = {a: by_seed(results, a, store, metric, store=store) for a in TRAINED}
    announce(f"{store}: {AVERAGED}")
    pairs = zip(
        runs_of(results, NEW, store=store),
        runs_of(results, KEPT, store=store),
        strict=True,
    )
    found[AVERAGED] = [_averaged(settings, pair, store) for pair in pairs]
    return found


def _averaged(
    settings: ExperimentSettings, runs: tuple[ArmResult, ArmResult], store: str
) -> float:
    """Return the test error of the mean of the predictions of two runs."""
    from jmp_calc.models.weights import load_weights

    place = store_path(settings.stores, store, "test")
    if any(run.problem for run in runs) or not place.is_dir():
        return math.nan
    models = [load_weights(Path(run.weights)) for run in runs]
    errors = system_errors(models, Store(place), store)
    return errors.mean(settings.metric(store))


def _table(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    errors: dict[str, dict[str, list[float]]],
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for store, by_arm in errors.items():
        for arm in ARMS:
            cells = compared(by_arm[arm], by_arm[NEW])
            reached = _reached(settings, results, arm, store=store)
            rows.append((store, metric_words(settings, store), arm, *cells, reached))
    return Table(
        title="After fine-tuning, test part",
        columns=(
            "set",
            "quantity",
            "arm",
            "error",
            "minus new head [95 %]",
            "improvement, %",
            "steps to the best validation error of the new head",
        ),
        rows=tuple(rows),
        note=f"'{FIRST}' makes half of its steps with a frozen backbone and half with "
        f"all weights, on a schedule each; '{AVERAGED}' costs two runs.",
    )


def _reached(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    arm: str,
    *,
    store: str,
) -> str:
    """Return the steps after which an arm is as good as the new head, by seed."""
    if arm == AVERAGED:
        return "–"
    metric, words = settings.metric(store), []
    pairs = zip(
        runs_of(results, arm, store=store),
        runs_of(results, NEW, store=store),
        strict=True,
    )
    for run, new in pairs:
        step = steps_to_reach(run, store, metric, best_validation(new, store, metric))
        if step is not None and arm == FIRST:
            (first,) = (
                r
                for r in runs_of(results, FIRST_HALF, store=store)
                if r.seed == run.seed
            )
            step += first.n_steps
        words.append("never" if step is None else f"{step:,}")
    return ", ".join(words)


def _zero_shot_table(settings: ExperimentSettings, announce: Announce) -> Table:
    from jmp_calc.pretrained import load_model

    limit = settings.budget.evaluate_systems
    rows: list[tuple[Cell, ...]] = []
    for store in settings.downstream:
        train = Store(store_path(settings.stores, store, "train"))
        place = store_path(settings.stores, store, "test")
        test = Store(place) if place.is_dir() else train
        model = load_model(settings.weights)
        for head in _candidates(model, train):
            announce(f"{store}: head {head!r} without training")
            found = system_errors(
                [fitted_head(model, train, head)], test, head, limit=limit
            )
            rows.append((store, head, found.mean("energy"), found.mean("forces")))
    return Table(
        title="Each pre-training head as it is",
        columns=("set", "head", METRICS["energy"].words, METRICS["forces"].words),
        rows=tuple(rows),
        note="With references of the elements fitted to training systems, on at most "
        f"{limit} test systems; heads that do not know all elements are left out.",
    )


def _picture(
    settings: ExperimentSettings, errors: dict[str, dict[str, list[float]]]
) -> Picture:
    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(errors), squeeze=False)[0]
        for place, (store, by_arm) in enumerate(errors.items()):
            dot_panel(
                panels[place],
                by_arm,
                label=metric_words(settings, store),
                title=f"{store}, test part",
                has_names=place == 0,
            )

    return Picture(
        draw=draw,
        words="Test error by arm; small dots are seeds, large ones their mean",
        size=(3.0 + 3.2 * len(errors), 2.9),
    )


EXPERIMENT = Experiment(
    id="E6",
    name="heads",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
)
"""The experiment."""
