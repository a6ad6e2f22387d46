"""E5: are test molecules better because pre-training has seen them?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from jmp_calc.errors import DataError
from jmp_calc.files import replace_text
from jmp_train.data.sample import Sample, hill_formula
from jmp_train.data.store import Store, store_path
from jmp_train.experiments.arms import SPLITS, Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment
from jmp_train.experiments.identity import LEVELS, TOLERANCE, Overlap
from jmp_train.experiments.measure import system_errors
from jmp_train.experiments.pictures import dot_panel
from jmp_train.experiments.pretraining import FINETUNING, Change, pretraining_arms
from jmp_train.experiments.report import Cell, Picture, Report, Table
from jmp_train.experiments.results import NOT_MEASURED, metric_words, runs_of
from jmp_train.experiments.settings import ExperimentSettings
from jmp_train.experiments.statistics import Interval, difference_in_differences
from jmp_train.experiments.subset import copy_systems

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_QUESTION = (
    "How many test systems occur in the pre-training sets, by composition, bonds and "
    "geometry, and is the gain of pre-training larger for them?"
)
FULL, REDUCED = "full pre-training", "without the overlap"
ARMS = (FULL, REDUCED)
"""Arms in the order of the tables."""
EXCLUDED = "excluded.json"
"""File with the pre-training systems that have the bonds of a test system."""
_LEAST = 2


def _test_samples(settings: ExperimentSettings, store: str) -> list[Sample]:
    return list(Store(store_path(settings.stores, store, "test")))


def exclude_overlap(settings: ExperimentSettings) -> Path:
    """Write stores without every molecule of a downstream test part, by bonds.

    Names of what is left out are in ``excluded.json`` beside the report.

    Args:
        settings: Data and folder.

    Returns:
        The folder of the stores.

    Raises:
        DataError: If hardly anything is left of a set.
    """
    folder = settings.out / "stores" / "without-overlap"
    overlap = Overlap(
        [s for store in settings.downstream for s in _test_samples(settings, store)]
    )
    excluded: dict[str, list[dict[str, Any]]] = {}
    for name in settings.pretraining:
        for split in SPLITS:
            place = store_path(settings.stores, name, split)
            if split != "train" and not place.is_dir():
                continue
            store = Store(place)
            left_out: dict[int, dict[str, Any]] = {}
            if split == "train":
                left_out = {
                    i: {"system": i, "name": sample.name or sample.group} | found
                    for i, sample in enumerate(store)
                    if (found := _identity(overlap, sample))
                }
                excluded[name] = list(left_out.values())
            kept = [i for i in range(len(store)) if i not in left_out]
            if len(kept) < _LEAST:
                raise DataError(
                    f"{len(store) - len(kept)} of the {len(store)} training systems of "
                    f"{name!r} have the bonds of a test system, so that nothing is "
                    "left to pre-train on; choose another downstream or "
                    "pre-training set"
                )
            copy_systems(store, kept, store_path(folder, name, split))
    settings.out.mkdir(parents=True, exist_ok=True)
    replace_text(settings.out / EXCLUDED, json.dumps(excluded, indent=1) + "\n")
    return folder


def _identity(overlap: Overlap, sample: Sample) -> dict[str, Any]:
    """Return formula and level of a system that has the bonds of a wanted one."""
    level = overlap.add(sample)
    if level not in LEVELS[1:]:
        return {}
    return {"formula": hill_formula(sample.numbers), "same": level}


def _changes(settings: ExperimentSettings) -> dict[str, Change]:
    folder = exclude_overlap(settings)
    return {
        FULL: lambda config: config,
        REDUCED: lambda config: replace(
            config, data=replace(config.data, stores=folder)
        ),
    }


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return both pre-trainings and the fine-tunings after them.

    Args:
        settings: Data and budget.
    """
    return pretraining_arms(settings, _changes(settings))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compared:
    """What is found out about one downstream set."""

    store: str
    counts: dict[str, dict[str, int]]
    """Test systems that occur, by pre-training set and level."""
    is_known: Bool[np.ndarray, " tests"]
    """Whether each test system occurs, by bonds."""
    errors: dict[str, Float[np.ndarray, " tests"]]
    """Error of each test system, averaged over seeds, by arm."""
    gain: Interval
    """Gain of the overlap inside minus outside."""

    def group(self, arm: str, *, is_known: bool) -> list[float]:
        values = self.errors[arm][self.is_known == is_known]
        return [float(v) for v in values[np.isfinite(values)]]


def _compare(
    settings: ExperimentSettings,
    results: Sequence[ArmResult],
    store: str,
    announce: Announce,
) -> _Compared:
    test = _test_samples(settings, store)
    counts, is_known = {}, np.zeros(len(test), dtype=bool)
    for source in settings.pretraining:
        announce(f"{store}: systems that occur in {source}")
        overlap = Overlap(test)
        for sample in Store(store_path(settings.stores, source, "train")):
            overlap.add(sample)
        counts[source] = {lv: int(overlap.known(lv).sum()) for lv in LEVELS}
        is_known |= overlap.known("connectivity")
    announce(f"{store}: errors of single test systems")
    errors = {arm: _mean_errors(settings, results, arm, store) for arm in ARMS}
    gain = difference_in_differences(
        (errors[REDUCED][is_known], errors[FULL][is_known]),
        (errors[REDUCED][~is_known], errors[FULL][~is_known]),
    )
    return _Compared(
        store=store, counts=counts, is_known=is_known, errors=errors, gain=gain
    )


def _mean_errors(
    settings: ExperimentSettings, results: Sequence[ArmResult], arm: str, store: str
) -> Float[np.ndarray, " tests"]:
    """Return the error of each test system, averaged over seeds."""
    from jmp_calc.models.weights import load_weights

    test = Store(store_path(settings.stores, store, "test"))
    found = [
        system_errors([load_weights(Path(r.weights))], test, store)
        for r in runs_of(results, arm, stage=FINETUNING, store=store)
        if not r.problem
    ]
    if not found:
        return np.full(len(test), np.nan)
    metric = settings.metric(store)
    return np.asarray(np.mean([errors.of(metric) for errors in found], axis=0))


def summarise(
    settings: ExperimentSettings, results: Sequence[ArmResult], announce: Announce
) -> Report:
    """Return counts of overlap, and errors on known and unknown test systems.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Hears what is measured.
    """
    compared = [_compare(settings, results, s, announce) for s in settings.downstream]
    return Report(
        question=_QUESTION,
        findings=(
            *(_words(settings, found) for found in compared),
            "Both arms take the same number of optimizer steps; the one without the "
            "overlap sees fewer systems more often. Errors are means over "
            f"seeds (here {settings.seeds}). The interval is over test systems alone: "
            "the chance of training is not in it, and it is too narrow where "
            "many of them are frames of one molecule.",
        ),
        tables=(
            _count_table(compared),
            _error_table(settings, compared),
            _excluded_table(settings),
        ),
        picture=_picture(settings, compared),
        facts={"difference_in_differences": {c.store: c.gain for c in compared}},
    )


def _words(settings: ExperimentSettings, found: _Compared) -> str:
    n_known, n = int(found.is_known.sum()), len(found.is_known)
    if np.isnan(found.gain.mean):
        return (
            f"{found.store}: {n_known} of {n} test systems occur in pre-training (same "
            "bonds), so that there are not two groups to compare."
        )
    name, _, unit = metric_words(settings, found.store).partition(", ")
    return (
        f"{found.store}: {n_known} of {n} test systems occur in pre-training (same "
        f"bonds). Having seen them lowers their {name} by {found.gain} {unit} more "
        "than that of the others (difference in differences, 95 % bootstrap over test "
        "systems)."
    )


def _count_table(compared: Sequence[_Compared]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (found.store, source, len(found.is_known), *(counts[lv] for lv in LEVELS))
        for found in compared
        for source, counts in found.counts.items()
    ]
    return Table(
        title="Test systems that occur in the training part of a pre-training set",
        columns=(
            "set",
            "pre-training set",
            "test systems",
            *(f"same {lv}" for lv in LEVELS),
        ),
        rows=tuple(rows),
        note="Bonds are pairs closer than 1.2 times the sum of covalent radii; equal "
        f"geometries differ by less than {TOLERANCE} Å in every distance (sorted by "
        "pair of elements; mirror images are equal).",
    )


def _error_table(settings: ExperimentSettings, compared: Sequence[_Compared]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for found in compared:
        for is_known, words in ((True, "known"), (False, "unknown")):
            means = []
            for arm in ARMS:
                values = found.group(arm, is_known=is_known)
                means.append(float(np.mean(values)) if values else np.nan)
            shown = (
                f"{means[1] - means[0]:+.3g}" if means[0] == means[0] else NOT_MEASURED
            )
            number = int((found.is_known == is_known).sum())
            words_of = metric_words(settings, found.store)
            rows.append((found.store, words_of, words, number, *means, shown))
    return Table(
        title="Error of known and unknown test systems (same bonds)",
        columns=(
            "set",
            "quantity",
            "test systems",
            "number",
            *ARMS,
            "lowered by the overlap",
        ),
        rows=tuple(rows),
    )


def _excluded_table(settings: ExperimentSettings) -> Table:
    excluded = json.loads((settings.out / EXCLUDED).read_text(encoding="utf-8"))
    return Table(
        title=f"Pre-training systems left out in '{REDUCED}'",
        columns=("pre-training set", "training systems", "left out", "for example"),
        rows=tuple(
            (
                name,
                f"{len(Store(store_path(settings.stores, name, 'train'))):,}",
                f"{len(found):,}",
                ", ".join(str(entry["name"]) for entry in found[:3]) or "–",
            )
            for name, found in excluded.items()
        ),
        note=f"All of them, with number, name and formula: {EXCLUDED}.",
    )


def _picture(settings: ExperimentSettings, compared: Sequence[_Compared]) -> Picture:
    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(compared), squeeze=False)[0]
        for place, (axes, found) in enumerate(zip(panels, compared, strict=True)):
            values = {
                f"{words}, {arm}": found.group(arm, is_known=is_known)
                for is_known, words in ((True, "known"), (False, "unknown"))
                for arm in ARMS
            }
            dot_panel(
                axes,
                values,
                label=metric_words(settings, found.store),
                title=f"{found.store}, test part",
                has_names=place == 0,
            )

    return Picture(
        draw=draw,
        words="Error of test systems whose molecule occurs in pre-training (known) or "
        "does not; small dots are systems, large ones their mean",
        size=(3.2 + 3.4 * len(compared), 2.9),
    )


EXPERIMENT = Experiment(
    id="E5",
    name="overlap",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
    needs_pretraining=1,
)
"""The experiment."""
